// Bad model files, bad data and unwritable outputs, through the real tool: a clear message, the documented
// exit code, nothing half-written.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::bad_input_test {
namespace {

void expect_message(const ToolResult& r, int exit_code, const std::vector<std::string>& parts) {
  EXPECT_EQ(r.exit_code, exit_code) << r.out << r.err;
  for (const std::string& part : parts)
    EXPECT_NE(r.err.find(part), std::string::npos) << "no '" << part << "' in:\n" << r.err;
  EXPECT_EQ(r.err.find("internal error"), std::string::npos) << r.err;
}

// --- Model files

struct BadModel {
  std::string name, from, to;         // what of small_model() is replaced
  std::vector<std::string> expected;  // parts of stderr
};

class BadModelTest : public testing::TestWithParam<BadModel> {};

TEST_P(BadModelTest, IsAModelError) {
  std::string text = small_model();
  const size_t at = text.find(GetParam().from);
  ASSERT_NE(at, std::string::npos);
  text.replace(at, GetParam().from.size(), GetParam().to);
  TemporaryFolder folder;
  folder.write("bad.nn", text);
  for (const char* command : {"train", "check", "dump"}) {
    const ToolResult r = run_tool({command, "bad.nn"}, folder.path());
    expect_message(r, kExitModelError, GetParam().expected);
    expect_message(r, kExitModelError, {"error[E", "--> bad.nn:"});
    EXPECT_EQ(r.out, "");
  }
}

INSTANTIATE_TEST_SUITE_P(
    ModelFiles, BadModelTest,
    testing::Values(BadModel{"unknown_op", "flatten", "flaten", {"flaten", "flatten"}},
                    BadModel{"shapes_do_not_fit", "|> flatten |>", "|> reshape([10, 10]) |>", {"784"}},
                    BadModel{"zero_batch", "batch=32", "batch=0", {"batch"}},
                    BadModel{
                        "recursion", "return image |> flatten", "return small(image) |> flatten", {"small"}},
                    BadModel{"syntax", "return image |>", "return image |> |>", {"E01"}},
                    BadModel{"unknown_source", "synthetic_digits(", "synthetic_digit(", {"synthetic_digits"}},
                    BadModel{"unknown_key", "epochs    2", "epocs    2", {"epochs"}},
                    BadModel{"no_loss", "    loss      cross_entropy(logits, digits.label)\n", "", {"loss"}}),
    [](const auto& info) { return info.param.name; });

TEST(BadInput, UnknownSettingNamesTheOnesThereAre) {
  TemporaryFolder folder;
  folder.write("m.nn", "set width = 16\n" + small_model());
  expect_message(run_tool({"dump", "m.nn", "--set", "widht=3"}, folder.path()), kExitModelError, {"width"});
}

TEST(BadInput, JsonDiagnosticsAreObjects) {
  TemporaryFolder folder;
  folder.write("bad.nn", "model m(image: f32[4]) { return relo(image) }\n");
  const ToolResult r = run_tool({"train", "bad.nn", "--json"}, folder.path());
  EXPECT_EQ(r.exit_code, kExitModelError);
  ASSERT_FALSE(lines(r.out).empty()) << r.err;
  for (const std::string& line : lines(r.out)) {
    const auto object = nlohmann::json::parse(line);
    EXPECT_TRUE(object.contains("code") && object.contains("line") && object.contains("message")) << line;
  }
}

TEST(BadInput, BinaryAsModelFile) {
  TemporaryFolder folder;
  folder.write("binary.nn", std::string("\x7f"
                                        "ELF\0\1\2\xff\xfe",
                                        9));
  expect_message(run_tool({"train", "binary.nn"}, folder.path()), kExitModelError, {"error[E"});
  folder.write("empty.nn", "");
  expect_message(run_tool({"train", "empty.nn"}, folder.path()), kExitModelError, {"error[E"});
}

// --- Data

std::string big_endian(uint32_t x) {
  return {static_cast<char>(x >> 24), static_cast<char>(x >> 16), static_cast<char>(x >> 8),
          static_cast<char>(x)};
}

// 40 images of 28x28 and their labels as IDX files.
std::string idx_images(uint32_t magic = 0x803, uint32_t count = 40, size_t bytes = 40 * 784) {
  std::string text = big_endian(magic) + big_endian(count) + big_endian(28) + big_endian(28);
  for (size_t i = 0; i < bytes; ++i) text += static_cast<char>(i * 7 % 251);
  return text;
}

std::string idx_labels(uint32_t count = 40, int first = 0) {
  std::string text = big_endian(0x801) + big_endian(count);
  for (uint32_t i = 0; i < count; ++i) text += static_cast<char>(i == 0 ? first : static_cast<int>(i) % 10);
  return text;
}

std::string idx_model() {
  std::string text = small_model();
  const std::string source = "synthetic_digits(train=256, test=96, batch=32)";
  return text.replace(text.find(source), source.size(),
                      "idx(images=\"images\", labels=\"labels\", batch=32)");
}

struct BadData {
  std::string name, images, labels;
  std::vector<std::string> expected;
};

class BadDataTest : public testing::TestWithParam<BadData> {};

TEST_P(BadDataTest, IsADataErrorAndSavesNothing) {
  TemporaryFolder folder;
  folder.write("m.nn", idx_model());
  if (!GetParam().images.empty()) folder.write("images", GetParam().images);
  if (!GetParam().labels.empty()) folder.write("labels", GetParam().labels);
  const size_t files = folder.files().size();
  const ToolResult r = run_tool({"train", "m.nn", "--save", "w.safetensors"}, folder.path());
  expect_message(r, kExitDataError, GetParam().expected);
  EXPECT_EQ(folder.files().size(), files);
}

INSTANTIATE_TEST_SUITE_P(
    DataFiles, BadDataTest,
    testing::Values(BadData{"missing", "", idx_labels(), {"images"}},
                    BadData{"truncated", idx_images(0x803, 40, 40 * 784 - 100), idx_labels(), {"images"}},
                    BadData{"trailing", idx_images(0x803, 40, 40 * 784 + 3), idx_labels(), {"images"}},
                    BadData{"lying_header", idx_images(0x803, 0xfffffff0u), idx_labels(), {"images"}},
                    BadData{"header_cut", "\0\0\x08", idx_labels(), {"images"}},
                    BadData{"wrong_magic", idx_images(0x12345678), idx_labels(), {"images"}},
                    BadData{"labels_as_images", idx_labels(), idx_labels(), {"image", "f32[1, 28, 28]"}},
                    BadData{"counts_differ", idx_images(), idx_labels(39), {"39", "40"}},
                    BadData{"label_out_of_range", idx_images(), idx_labels(40, 10), {"label 10"}}),
    [](const auto& info) { return info.param.name; });

TEST(BadInput, GoodDataTrains) {  // so that the cases above fail for what is wrong with them
  TemporaryFolder folder;
  folder.write("m.nn", idx_model());
  folder.write("images", idx_images());
  folder.write("labels", idx_labels());
  const ToolResult r = run_tool({"train", "m.nn", "--save", "w.safetensors"}, folder.path());
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_TRUE(std::filesystem::exists(folder.path("w.safetensors")));
}

TEST(BadInput, MissingMnistFolder) {
  TemporaryFolder folder;
  std::string text = small_model();
  const std::string source = "synthetic_digits(train=256, test=96, batch=32)";
  folder.write("m.nn", text.replace(text.find(source), source.size(), "mnist(\"no/such/folder\", batch=32)"));
  expect_message(run_tool({"train", "m.nn"}, folder.path()), kExitDataError, {"no/such/folder"});
}

// --- Weights and outputs

TEST(BadInput, WeightsThatDoNotFit) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  expect_message(run_tool({"eval", "m.nn", "--weights", "none.safetensors"}, folder.path()), kExitDataError,
                 {"none.safetensors"});
  folder.write("junk.safetensors", "this is no safetensors file at all");
  expect_message(run_tool({"eval", "m.nn", "--weights", "junk.safetensors"}, folder.path()), kExitDataError,
                 {"junk.safetensors"});
  std::string wider = small_model();
  wider.replace(wider.find("dense(10,"), 9, "dense(32) |> dense(10,");
  folder.write("wider.nn", wider);
  ASSERT_EQ(
      run_tool({"train", "wider.nn", "--steps", "1", "--save", "w.safetensors"}, folder.path()).exit_code, 0);
  expect_message(run_tool({"train", "m.nn", "--init-from", "w.safetensors"}, folder.path()), kExitDataError,
                 {"w.safetensors", "dense_1.weight"});
}

TEST(BadInput, UnwritableOutputFailsBeforeTraining) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const ToolResult r =
      run_tool({"train", "m.nn", "--save", "no/such/folder/w.safetensors", "--json"}, folder.path());
  expect_message(r, kExitRunFailed, {"no/such/folder"});
  EXPECT_EQ(r.out.find("\"epoch\""), std::string::npos) << "it trained first: " << r.out;
  expect_message(
      run_tool({"predict", "m.nn", "--weights", "w", "--output", "no/such/folder/p.csv"}, folder.path()),
      kExitRunFailed, {"no/such/folder"});
}

TEST(BadInput, FullDisk) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  expect_message(run_tool({"train", "m.nn", "--steps", "2", "--save", "/dev/full"}, folder.path()),
                 kExitRunFailed, {"No space left on device"});
  expect_message(run_tool({"dump", "m.nn", "--stage", "ir"}, folder.path(), "/dev/full"), kExitRunFailed,
                 {"No space left on device"});
}

TEST(BadInput, PredictWithoutPredict) {
  TemporaryFolder folder;
  std::string text = small_model();
  const std::string line = "    predict   softmax(logits)\n";
  folder.write("m.nn", text.erase(text.find(line), line.size()));
  ASSERT_EQ(run_tool({"train", "m.nn", "--steps", "1", "--save", "w.safetensors"}, folder.path()).exit_code,
            0);
  expect_message(run_tool({"predict", "m.nn", "--weights", "w.safetensors"}, folder.path()), kExitModelError,
                 {"predict"});
}

TEST(BadInput, LossThatIsNotANumberNamesTheOperation) {
  TemporaryFolder folder;
  std::string text = small_model();
  const std::string loss = "cross_entropy(logits, digits.label)";
  text.replace(text.find(loss), loss.size(), "sum(log(logits - 100), 0)");
  folder.write("nan.nn", text);
  const ToolResult r = run_tool({"train", "nan.nn", "--save", "w.safetensors", "--json"}, folder.path());
  expect_message(r, kExitCheckFailed,
                 {"not finite", "`log`", "nan.nn:7:", "sum(log(logits - 100), 0)", "step",
                  "result: no finite value, 320 NaN", "operand %", " sub: -10", "of 320 elements"});
  EXPECT_FALSE(std::filesystem::exists(folder.path("w.safetensors")));
}

TEST(BadInput, OverflowIsExplainedToo) {  // finite in double precision, not in a float
  TemporaryFolder folder;
  std::string text = small_model();
  const std::string loss = "cross_entropy(logits, digits.label)";
  text.replace(text.find(loss), loss.size(), "sum(exp(logits + 100), 0)");
  folder.write("inf.nn", text);
  expect_message(run_tool({"train", "inf.nn"}, folder.path()), kExitCheckFailed,
                 {"not finite", "`exp`", "inf.nn:7:"});
}

}  // namespace
}  // namespace gradc::test::bad_input_test
