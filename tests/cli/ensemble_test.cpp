// Several predictions made one: of several files and of random layers that draw several times, against the
// single predictions' mean, spread and vote computed here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::ensemble_test {
namespace {

using Json = nlohmann::json;
using Rows = std::vector<std::vector<double>>;

std::string model(const std::string& layers = "dense(16) |> relu |> dropout(0.5) |> dense(10)") {
  return "data digits = synthetic_digits(train=256, test=75, batch=32)\n"
         "model small(image: f32[1, 28, 28]) = image |> flatten |> " +
         layers +
         "\ntrain {\n"
         "    logits    = small(digits.image)\n"
         "    loss      cross_entropy(logits, digits.label)\n"
         "    metric    accuracy(logits, digits.label)\n"
         "    predict   softmax(logits)\n"
         "    optimizer adam(lr=3e-3)\n}\n";
}

class EnsembleTest : public testing::Test {
 protected:
  EnsembleTest() {
    folder.write("m.nn", model());
    for (const char* seed : {"1", "2", "3"})
      run({"train", "m.nn", "--epochs", "3", "--seed", seed, "--save", std::string(seed) + ".st"});
  }
  std::string run(const std::vector<std::string>& arguments) {
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return r.out;
  }
  Rows predictions(std::vector<std::string> more) {
    std::vector<std::string> arguments = {"predict", "m.nn"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    Rows rows;
    for (const std::string& line : lines(run(arguments))) {
      rows.emplace_back();
      std::istringstream numbers(line);
      for (double x; numbers >> x;) rows.back().push_back(x);
    }
    return rows;
  }
  TemporaryFolder folder;
};

// A file whose first number is NaN: no number of it passes for a result.
TEST_F(EnsembleTest, PredictionsThatAreNotFiniteAreSaid) {
  std::string file = read_text(folder.path("1.st"));
  uint64_t header = 0;
  std::memcpy(&header, file.data(), 8);
  const float nan = NAN;
  std::memcpy(file.data() + 8 + header, &nan, sizeof nan);
  folder.write("nan.st", file);
  const ToolResult r = run_tool({"eval", "m.nn", "--weights", "nan.st", "--weights", "2.st"}, folder.path());
  EXPECT_EQ(r.exit_code, kExitCheckFailed);
  EXPECT_NE(r.err.find("the predictions on `test` are not finite"), std::string::npos) << r.err;
  EXPECT_EQ(r.out.find("nan"), std::string::npos) << r.out;
  const ToolResult mean = run_tool({"average", "nan.st", "2.st", "-o", "mean.st"}, folder.path());
  EXPECT_EQ(mean.exit_code, kExitCheckFailed) << mean.err;
  EXPECT_FALSE(std::filesystem::exists(folder.path("mean.st")));
}

TEST_F(EnsembleTest, FilesGiveTheMeanAndTheVote) {
  std::vector<Rows> single;
  for (const char* file : {"1.st", "2.st", "3.st"}) single.push_back(predictions({"--weights", file}));
  const std::vector<std::string> all = {"--weights", "1.st", "--weights", "2.st", "--weights", "3.st"};
  const Rows mean = predictions(all);
  ASSERT_EQ(mean.size(), 75u);
  // Labels, by a model that predicts them.
  folder.write("label.nn",
               "data digits = synthetic_digits(train=256, test=75, batch=32)\n"
               "model small(image: f32[1, 28, 28]) = image |> flatten |> dense(10)\n"
               "train {\n    loss cross_entropy(small(digits.image), digits.label)\n"
               "    predict digits.label\n    optimizer sgd()\n}\n");
  run({"train", "label.nn", "--steps", "0", "--save", "l.st"});
  const std::vector<std::string> labels = lines(run({"predict", "label.nn", "--weights", "l.st"}));
  int right = 0, voted = 0;
  double log_loss = 0, spread = 0;
  for (size_t row = 0; row < mean.size(); ++row) {
    std::vector<double> expected(10), votes(10);
    for (const Rows& member : single) {
      const std::vector<double>& p = member[row];
      for (size_t i = 0; i < 10; ++i) expected[i] += p[i] / 3;
      ++votes[static_cast<size_t>(std::max_element(p.begin(), p.end()) - p.begin())];
    }
    for (size_t i = 0; i < 10; ++i) {
      EXPECT_NEAR(mean[row][i], expected[i], 1e-6);
      double squares = 0;
      for (const Rows& member : single) squares += std::pow(member[row][i] - expected[i], 2) / 3;
      spread += std::sqrt(squares) / 750;
    }
    const auto label = std::stol(labels[row]);
    right += std::max_element(expected.begin(), expected.end()) - expected.begin() == label;
    voted += std::max_element(votes.begin(), votes.end()) - votes.begin() == label;
    log_loss -= std::log(expected[static_cast<size_t>(label)]) / 75;
  }
  std::vector<std::string> eval = {"eval", "m.nn", "--json"};
  eval.insert(eval.end(), all.begin(), all.end());
  const Json result = Json::parse(run(eval));
  EXPECT_EQ(result.at("event"), "ensemble");
  EXPECT_EQ(result.at("members"), 3);
  EXPECT_EQ(result.at("examples"), 75);
  EXPECT_NEAR(result.at("accuracy").get<double>(), right / 75.0, 1e-12);
  EXPECT_NEAR(result.at("vote_accuracy").get<double>(), voted / 75.0, 1e-12);
  EXPECT_NEAR(result.at("log_loss").get<double>(), log_loss, 1e-5);
  EXPECT_NEAR(result.at("spread").get<double>(), spread, 1e-5);
  // One file named twice is that file.
  EXPECT_EQ(predictions({"--weights", "1.st", "--weights", "1.st"}), single[0]);
}

TEST_F(EnsembleTest, SamplesDrawAnewAndConverge) {
  const Rows one = predictions({"--weights", "1.st"});
  const Rows few = predictions({"--weights", "1.st", "--samples", "4"});
  const Rows many = predictions({"--weights", "1.st", "--samples", "400"});
  EXPECT_EQ(few, predictions({"--weights", "1.st", "--samples", "4", "--threads", "2"}));
  EXPECT_NE(few, many);
  EXPECT_NE(one, many);
  // The mean of few samples is farther from that of many than the mean of more.
  const auto distance = [&](const Rows& a) {
    double sum = 0;
    for (size_t r = 0; r < a.size(); ++r)
      for (size_t i = 0; i < 10; ++i) sum += std::pow(a[r][i] - many[r][i], 2);
    return std::sqrt(sum);
  };
  EXPECT_GT(distance(few), 2 * distance(predictions({"--weights", "1.st", "--samples", "100"})));
  // mean and spread to files
  run({"predict", "m.nn", "--weights", "1.st", "--samples", "4", "-o", "mean.npy", "--spread", "s.npy"});
  const std::string mean = read_text(folder.path("mean.npy")), spread = read_text(folder.path("s.npy"));
  ASSERT_EQ(mean.size(), spread.size());
  float first;
  std::memcpy(&first, mean.data() + mean.size() - 750 * 4, 4);
  EXPECT_NEAR(first, few[0][0], 1e-6);
  std::memcpy(&first, spread.data() + spread.size() - 750 * 4, 4);
  EXPECT_GT(first, 0);
}

TEST_F(EnsembleTest, SaysWhatCannotBe) {
  const auto refuses = [&](const std::vector<std::string>& arguments, int code, const std::string& piece) {
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, code) << r.err;
    EXPECT_NE(r.err.find(piece), std::string::npos) << r.err;
  };
  folder.write("plain.nn", model("dense(10)"));
  run({"train", "plain.nn", "--steps", "1", "--save", "p.st"});
  refuses({"eval", "plain.nn", "--weights", "p.st", "--samples", "5"}, kExitUsage, "draws random numbers");
  refuses({"eval", "m.nn", "--weights", "1.st", "--weights", "p.st"}, kExitDataError, "do not fit");
  refuses({"predict", "m.nn", "--weights", "1.st", "-o", "a.npy", "--spread", "s.npy"}, kExitUsage,
          "--spread");
  folder.write("number.nn",
               std::string(model()).replace(model().find("softmax(logits)"), 15, "sum(softmax(logits))"));
  refuses({"eval", "number.nn", "--weights", "1.st", "--weights", "2.st"}, kExitModelError,
          "one list of numbers");
}

// The labels of a part whose examples do not follow each other.
TEST_F(EnsembleTest, FoldsHaveTheirOwnLabels) {
  folder.write("fold.nn", model().replace(model().find("batch=32)"), 9,
                                          "batch=32) {\n    split val = fold 2 of 4 of train\n}"));
  const auto accuracy = [&](const std::vector<std::string>& weights) {
    std::vector<std::string> arguments = {"eval", "fold.nn", "--json", "--split", "val"};
    arguments.insert(arguments.end(), weights.begin(), weights.end());
    return Json::parse(lines(run(arguments)).back()).at("accuracy").get<double>();
  };
  EXPECT_NEAR(accuracy({"--weights", "1.st"}), accuracy({"--weights", "1.st", "--weights", "1.st"}), 1e-6);
}

}  // namespace
}  // namespace gradc::test::ensemble_test
