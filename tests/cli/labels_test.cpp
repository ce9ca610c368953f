// Labels and other positions that lie outside what the model chooses from: refused before anything is
// trained, whichever way they come in.
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/data/npy.h"
#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::labels_test {
namespace {

using Json = nlohmann::json;

// label.npy with these labels, and as many x.npy.
void write_data(const TemporaryFolder& folder, const std::vector<int32_t>& labels,
                const std::string& name = "") {
  const auto rows = static_cast<int64_t>(labels.size());
  std::string x = runtime::npy_header("<f4", {rows, 4}), y = runtime::npy_header("<i4", {rows});
  for (int64_t i = 0; i < 4 * rows; ++i) {
    const float value = static_cast<float>(i % 7) - 3;
    x.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  y.append(reinterpret_cast<const char*>(labels.data()), labels.size() * sizeof(int32_t));
  folder.write(name + "x.npy", x);
  folder.write(name + "label.npy", y);
}

// Ten scores; line 10 has the loss.
std::string model(const std::string& source, const std::string& fields) {
  return "data d = " + source + " {\n" + fields +
         "}\n"
         "model net(x: f32[4]) = x |> dense(10)\n"
         "train {\n"
         "    z         = net(d.x)\n"
         "\n"
         "\n"
         "    loss      cross_entropy(z, d.label)\n"
         "    metric    accuracy(z, d.label)\n"
         "    predict   z\n"
         "    optimizer sgd(lr=0.1)\n"
         "    epochs    2\n"
         "}\n";
}

std::string npy_model(const std::string& test = "") {
  const auto from = [&](const char* file) {
    return fmt::format("\"{0}.npy\"{1}", file,
                       test.empty() ? "" : fmt::format(" test \"{}{}.npy\"", test, file));
  };
  return model("npy(batch=4)",
               "    field x: f32[4] = " + from("x") + "\n    field label: i32 = " + from("label") + "\n");
}

void expect_refused(const ToolResult& r, const std::vector<std::string>& texts) {
  EXPECT_EQ(r.exit_code, kExitDataError) << r.out << r.err;
  EXPECT_EQ(r.out.find("epoch"), std::string::npos) << "something was trained: " << r.out;
  for (const std::string& text : texts)
    EXPECT_NE(r.err.find(text), std::string::npos) << text << "\n" << r.err;
}

TEST(Labels, OfNpyFilesAreHeldAgainstTheScores) {
  TemporaryFolder folder;
  folder.write("m.nn", npy_model());
  write_data(folder, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  expect_refused(run_tool({"train", "m.nn", "--json"}, folder.path()),
                 {"label.npy: `label` of example 9 is 10; expected 0 to 9", "`cross_entropy` at m.nn:10",
                  "chooses one of 10", "count from 0"});
  write_data(folder, {0, 9, -3, 7});
  expect_refused(run_tool({"train", "m.nn"}, folder.path()), {"`label` of example 2 is -3"});
  write_data(folder, {0, 9, 3, 7});
  const ToolResult right = run_tool({"train", "m.nn", "--save", "w.safetensors"}, folder.path());
  EXPECT_EQ(right.exit_code, kExitOk) << right.err;
  write_data(folder, {0, 12, 3, 7});
  expect_refused(run_tool({"eval", "m.nn", "--weights", "w.safetensors", "--split", "train"}, folder.path()),
                 {"`label` of example 1 is 12"});
  // Predictions read no labels.
  const ToolResult predicted =
      run_tool({"predict", "m.nn", "--weights", "w.safetensors", "--split", "train"}, folder.path());
  EXPECT_EQ(predicted.exit_code, kExitOk) << predicted.err;
}

TEST(Labels, OfThePartThatIsEvaluatedLastAreLookedAtFirst) {
  TemporaryFolder folder;
  folder.write("m.nn", npy_model("test_"));
  write_data(folder, {0, 1, 2, 3, 4});
  write_data(folder, {0, 1, 2, 30, 4}, "test_");
  expect_refused(run_tool({"train", "m.nn", "--save", "w.safetensors"}, folder.path()),
                 {"test_label.npy: `label` of example 3 is 30"});
  std::vector<std::string> files = folder.files();
  std::sort(files.begin(), files.end());
  EXPECT_EQ(files, (std::vector<std::string>{"label.npy", "m.nn", "test_label.npy", "test_x.npy", "x.npy"}));
}

TEST(Labels, OfCsvFilesHaveTheirLine) {
  TemporaryFolder folder;
  folder.write("d.csv", "a,b,c,d,kind\n1,2,3,4,0\n\n1,2,3,5,9\n1,2,3,6,11\n");
  folder.write(
      "m.nn", model("csv(\"d.csv\", batch=2)",
                    "    field x: f32[4] = [\"a\", \"b\", \"c\", \"d\"]\n    field label: i32 = \"kind\"\n"));
  expect_refused(run_tool({"train", "m.nn"}, folder.path()), {"d.csv:5: `label` is 11; expected 0 to 9"});
}

// A field of two numbers, each the row of a table of its own.
TEST(Labels, OfSeveralTablesEachHaveTheirOwnRange) {
  TemporaryFolder folder;
  folder.write("m.nn",
               "data d = csv(\"d.csv\", batch=2) {\n"
               "    field id: i32[2] = [\"user\", \"film\"]\n"
               "    field score: f32 = \"score\"\n"
               "}\n"
               "layer table(id, count) = embedding(id, count, 4)\n"
               "train {\n"
               "    loss      (sum(table(d.id[0], 3) * table(d.id[1], 5)) - d.score)^2\n"
               "    optimizer sgd(lr=0.1)\n"
               "}\n");
  folder.write("d.csv", "user,film,score\n0,4,1\n2,3,0\n");
  const ToolResult right = run_tool({"train", "m.nn"}, folder.path());
  EXPECT_EQ(right.exit_code, kExitOk) << right.err;
  folder.write("d.csv", "user,film,score\n0,4,1\n3,3,0\n");
  expect_refused(
      run_tool({"train", "m.nn"}, folder.path()),
      {"d.csv:3: `id` (element 0) is 3; expected 0 to 2", "`embedding` at m.nn:5", "chooses one of 3"});
}

TEST(Labels, OfAnExecutableAreHeldAgainstTheScores) {
  TemporaryFolder folder;
  folder.write("m.nn", npy_model());
  const ToolResult made = run_tool({"compile", "m.nn", "-o", "m", "--target", "native"}, folder.path());
  ASSERT_EQ(made.exit_code, kExitOk) << made.err;
  write_data(folder, {1, 2, 3, 10});
  expect_refused(run_bare({folder.path("m"), "train"}, folder.path()),
                 {"label.npy: `label` of example 3 is 10; expected 0 to 9", "`cross_entropy` at m.nn:10"});
}

// Numbers that choose nothing may be any: a program that masks answers for what it does.
TEST(Labels, OfMaskedRowsMayBeAny) {
  TemporaryFolder folder;
  std::string text = npy_model();
  const std::string loss = "cross_entropy(z, d.label)\n";
  text.replace(text.find(loss), loss.size(),
               "cross_entropy(z, select(d.label >= 0, d.label, 0)) weight cast(d.label >= 0, \"f32\")\n");
  folder.write("m.nn", text);
  write_data(folder, {0, -100, 3, 7});
  const ToolResult r = run_tool({"train", "m.nn"}, folder.path());
  EXPECT_EQ(r.exit_code, kExitOk) << r.err;
}

}  // namespace
}  // namespace gradc::test::labels_test
