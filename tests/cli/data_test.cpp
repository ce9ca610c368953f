// Data through the real tool: files of the user's own, normalisation that travels with the weights,
// augmentation that changes nothing but training.
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/data/npy.h"
#include "runtime/execution/safetensors.h"
#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::data_test {
namespace {

using Json = nlohmann::json;

// Three classes of points (x, y) around three places, far from 0 and of very different deviations.
std::string points(int count, int seed) {
  constexpr double kPlaces[3][2] = {{1000, 0.5}, {1040, 0.5}, {1020, 0.9}};
  std::string text = "x;y;kind;note\n";
  uint64_t state = static_cast<uint64_t>(seed) * 2 + 1;
  const auto noise = [&] {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<double>(state >> 40) / (1 << 24) - 0.5;
  };
  for (int i = 0; i < count; ++i)
    text += fmt::format("{:.4f};{:.6f};{};some text\n", kPlaces[i % 3][0] + 20 * noise(),
                        kPlaces[i % 3][1] + 0.2 * noise(), i % 3);
  return text;
}

std::string csv_model(const std::string& statements) {
  return R"(data points = csv("train.csv", test="test.csv", separator=";", classes=3, batch=16) {
    field p: f32[2] = ["x", "y"]
    field label: i32 = "kind"
    split val = fold 1 of 5 of train
)" + statements +
         R"(}
model net(p: f32[2]) = p |> dense(16) |> tanh |> dense(3, init=normal(0, 0.01))
train {
    logits    = net(points.p)
    loss      cross_entropy(logits, points.label)
    metric    accuracy(logits, points.label)
    predict   softmax(logits)
    optimizer adam(lr=1e-2)
    epochs    20
}
)";
}

Json last(const ToolResult& r) {
  EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
  return r.exit_code == 0 ? Json::parse(lines(r.out).back()) : Json();
}

double number(const Json& event, const char* key) { return event.at(key).get<double>(); }

class DataTest : public testing::Test {
 protected:
  DataTest() {
    folder.write("train.csv", points(300, 1));
    folder.write("test.csv", points(90, 2));
  }
  ToolResult run(const std::vector<std::string>& arguments) { return run_tool(arguments, folder.path()); }
  TemporaryFolder folder;
};

TEST_F(DataTest, NormalisedColumnsAreLearnt) {
  folder.write("plain.nn", csv_model(""));
  folder.write("normal.nn", csv_model("    normalize p by channel\n"));
  const Json plain = last(run({"train", "plain.nn", "--json"}));
  const Json normal = last(run({"train", "normal.nn", "--json"}));
  EXPECT_GT(number(normal, "test_accuracy"), 0.97);
  EXPECT_LT(number(plain, "test_accuracy"), 0.9);  // saturated: what the normalisation is for
}

TEST_F(DataTest, WeightsCarryWhatWasFitted) {
  folder.write("m.nn", csv_model("    normalize p by channel\n"));
  const Json trained = last(run({"train", "m.nn", "--json", "--save", "w.safetensors"}));
  const runtime::TensorFile file = runtime::read_safetensors(folder.path("w.safetensors"));
  EXPECT_EQ(file.tensors.at("data.p.channel.mean").shape, std::vector<int64_t>{2});
  // Other training data: nothing is fitted again.
  folder.write("train.csv", points(30, 9) + "99999;9;0;far away\n");
  const Json evaluated = last(run({"eval", "m.nn", "--json", "--weights", "w.safetensors"}));
  EXPECT_EQ(number(evaluated, "loss"), number(trained, "test_loss"));
  // Predictions of the test split, and of the same numbers from a file.
  ASSERT_EQ(run({"predict", "m.nn", "--weights", "w.safetensors", "-o", "a.npy"}).exit_code, 0);
  const std::string header = runtime::npy_header("<f8", {90, 2});
  std::string bytes = header;
  for (const std::string& line : lines(points(90, 2))) {
    double p[2];
    if (std::sscanf(line.c_str(), "%lf;%lf;", p, p + 1) == 2)
      bytes.append(reinterpret_cast<const char*>(p), 16);
  }
  folder.write("in.npy", bytes);
  ASSERT_EQ(
      run({"predict", "m.nn", "--weights", "w.safetensors", "--input", "in.npy", "-o", "b.npy"}).exit_code,
      0);
  EXPECT_EQ(read_text(folder.path("a.npy")), read_text(folder.path("b.npy")));
}

TEST_F(DataTest, WeightsAndModelMustAgree) {
  folder.write("m.nn", csv_model("    normalize p by channel\n"));
  folder.write("plain.nn", csv_model(""));
  ASSERT_EQ(run({"train", "m.nn", "--steps", "2", "--save", "m.safetensors"}).exit_code, 0);
  ASSERT_EQ(run({"train", "plain.nn", "--steps", "2", "--save", "plain.safetensors"}).exit_code, 0);
  const ToolResult missing = run({"eval", "m.nn", "--weights", "plain.safetensors"});
  EXPECT_EQ(missing.exit_code, kExitDataError);
  EXPECT_NE(missing.err.find("data.p.channel.mean is missing"), std::string::npos) << missing.err;
  for (const char* command : {"eval", "predict"}) {
    const ToolResult extra = run({command, "plain.nn", "--weights", "m.safetensors"});
    EXPECT_EQ(extra.exit_code, kExitDataError);
    EXPECT_NE(extra.err.find("no such normalization"), std::string::npos) << extra.err;
    EXPECT_NE(extra.err.find("m.safetensors"), std::string::npos) << extra.err;
  }
  // As initial weights they are accepted: statistics are fitted again.
  EXPECT_EQ(run({"train", "plain.nn", "--steps", "2", "--init-from", "m.safetensors"}).exit_code, 0);
}

TEST_F(DataTest, AugmentationDependsOnSeedAndEpochAlone) {
  folder.write("m.nn", csv_model("    normalize p by channel\n    augment p { noise(0.01); mixup(0.3) }\n"));
  std::string sha;
  for (const char* threads : {"1", "2", "3"}) {
    const Json end = last(run({"train", "m.nn", "--json", "--epochs", "3", "--threads", threads}));
    if (sha.empty()) sha = end.at("weights_sha256");
    EXPECT_EQ(end.at("weights_sha256"), sha);
    EXPECT_GE(number(end, "data_wait_seconds"), 0);
  }
  EXPECT_NE(last(run({"train", "m.nn", "--json", "--epochs", "3", "--seed", "2"})).at("weights_sha256"), sha);
  const ToolResult check = run({"check", "m.nn"});
  EXPECT_EQ(check.exit_code, 0) << check.out;
}

TEST_F(DataTest, PartsForEvaluationAreNeverAugmented) {
  // With a learning rate of 0 only the examples could differ.
  folder.write("m.nn", csv_model("    augment p { noise(100) }\n"));
  folder.write("plain.nn", csv_model(""));
  const auto end = [&](const char* model) {
    return last(run({"train", model, "--json", "--epochs", "1", "--lr-factor", "0"}));
  };
  const Json augmented = end("m.nn"), plain = end("plain.nn");
  EXPECT_EQ(number(augmented, "test_loss"), number(plain, "test_loss"));
  EXPECT_EQ(augmented.at("metrics").at("val_loss"), plain.at("metrics").at("val_loss"));
  EXPECT_NE(number(augmented, "train_loss"), number(plain, "train_loss"));
}

TEST_F(DataTest, SmallerCropsAreTheMiddleAtEvaluation) {
  const std::string model = R"(data digits = synthetic_digits(train=256, test=64, batch=32) {
    normalize image by mean_image
    augment image { random_crop(size=24); rotation(5); cutmix(p=0.5) }
}
model net(image: f32[1, 24, 24]) = image |> flatten |> dense(10, init=normal(0, 0.01))
train {
    logits  = net(digits.image)
    loss    cross_entropy(logits, digits.label)
    metric  accuracy(logits, digits.label)
    metric  top_k(logits, digits.label, k=3)
    predict softmax(logits)
    optimizer adam(lr=1e-2)
    epochs  6
}
)";
  folder.write("m.nn", model);
  const Json end = last(run({"train", "m.nn", "--json", "--save", "w.safetensors"}));
  EXPECT_GT(number(end, "test_accuracy"), 0.5);
  EXPECT_EQ(number(last(run({"eval", "m.nn", "--json", "--weights", "w.safetensors"})), "loss"),
            number(end, "test_loss"));
}

TEST_F(DataTest, DataErrorsNameTheirPlace) {
  folder.write("m.nn", csv_model(""));
  const auto fails = [&](const std::string& train, const std::vector<std::string>& pieces) {
    folder.write("train.csv", train);
    const ToolResult r = run({"train", "m.nn"});
    EXPECT_EQ(r.exit_code, kExitDataError);
    for (const std::string& piece : pieces) EXPECT_NE(r.err.find(piece), std::string::npos) << r.err;
  };
  fails("x;y;kind\n1;2;3\n", {"train.csv", "label 3 in line 2", "0 to 2"});
  fails("x;y;kind\n1;2\n", {"train.csv:2", "2 columns", "expected 3"});
  fails("x;why;kind\n1;2;1\n", {"no column `y`", "x, why, kind"});
  fails("x,y,kind\n1,2,1\n", {"no column `x`", "x,y,kind"});
}

}  // namespace
}  // namespace gradc::test::data_test
