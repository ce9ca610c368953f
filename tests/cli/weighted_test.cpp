// Losses with weights: the same update and the same means however the rows are cut into batches.
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/data/npy.h"
#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::weighted_test {
namespace {

using Json = nlohmann::json;
constexpr int kRows = 8;

// Eight examples of two classes, three of the heavy one, all in the first half.
class Weighted : public ::testing::Test {
 protected:
  Weighted() {
    std::string x = runtime::npy_header("<f4", {kRows, 2}), y = runtime::npy_header("<i4", {kRows});
    for (int i = 0; i < kRows; ++i) {
      for (const double v : {std::sin(1.3 * i), std::cos(0.7 * i)}) {
        const auto value = static_cast<float>(v);
        x_.push_back(value);
        x.append(reinterpret_cast<const char*>(&value), sizeof value);
      }
      const int32_t label = i == 0 || i == 1 || i == 3;
      y_.push_back(label);
      y.append(reinterpret_cast<const char*>(&label), sizeof label);
    }
    folder_.write("x.npy", x);
    folder_.write("label.npy", y);
  }

  // `losses` are the statements that make the loss, `more` other statements of train.
  void write(const std::string& losses, const std::string& more = "", const std::string& hidden = "") {
    folder_.write("m.nn",
                  "set batch = 8\nset pieces = 1\n"
                  "data d = npy(batch=batch) {\n"
                  "    field x: f32[2] = \"x.npy\" test \"x.npy\"\n"
                  "    field label: i32 = \"label.npy\" test \"label.npy\"\n"
                  "}\n"
                  "model net(x: f32[2]) = x" +
                      hidden +
                      " |> dense(2, bias=false, init=uniform(-1, 1)) as o\n"
                      "train {\n"
                      "    z = net(d.x)\n" +
                      losses + more +
                      "    metric accuracy(z, d.label)\n"
                      "    accumulate pieces\n"
                      "    epochs 3\n"
                      "}\n");
  }

  // The last event of a training in batches of so many rows, `pieces` of them an update.
  Json train(int batch, int pieces, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"train",  "m.nn",
                                          "--json", "--no-shuffle",
                                          "--set",  fmt::format("batch={}", batch),
                                          "--set",  fmt::format("pieces={}", pieces)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ToolResult r = run_tool(arguments, folder_.path());
    EXPECT_EQ(r.exit_code, kExitOk) << r.err;
    return r.exit_code == kExitOk ? Json::parse(lines(r.out).back()).at("metrics") : Json();
  }

  static void expect_same(const Json& got, const Json& wanted, const std::string& what) {
    ASSERT_EQ(got.size(), wanted.size()) << what;
    // Sums in another order: some units in the last place, three updates long.
    for (const auto& [name, value] : wanted.items())
      EXPECT_NEAR(got.at(name).get<double>(), value.get<double>(), 2e-6) << what << ": " << name;
  }

  void expect_the_same_in_pieces(const std::string& losses, const std::string& more) {
    write(losses, more);
    const Json whole = train(8, 1);
    for (const auto& [batch, pieces] : {std::pair{4, 2}, {2, 4}, {3, 3}, {1, 8}})
      expect_same(train(batch, pieces), whole, fmt::format("{} batches of {}", pieces, batch));
  }

  std::vector<float> x_;
  std::vector<int32_t> y_;
  TemporaryFolder folder_;
};

const char* const kWeightedLoss = "    loss cross_entropy(z, d.label) weight class_weight(d.label, [1, 9])\n";

TEST_F(Weighted, AnUpdateIsTheSameInPieces) {
  expect_the_same_in_pieces(kWeightedLoss, "    optimizer sgd(lr=1)\n");
  expect_the_same_in_pieces(kWeightedLoss,
                            "    optimizer adam(lr=0.1)\n    penalty l2(0.1)\n    clip norm 0.5\n");
}

TEST_F(Weighted, LossesOfDifferentWeightsAddUpApart) {
  expect_the_same_in_pieces(
      "    loss first = cross_entropy(z, d.label) weight class_weight(d.label, [1, 9])\n"
      "    loss second = l2_loss(z, 0.5) weight 0.25\n"
      "    loss third = hinge(z, d.label) weight cast(d.label == 0, \"f32\")\n",
      "    optimizer sgd(lr=0.3)\n    penalty l2(0.1)\n");
}

// The mean that one batch of all has, from its definition.
TEST_F(Weighted, EvaluationIsTheMeanOverAllRows) {
  write(kWeightedLoss, "    optimizer sgd(lr=0)\n");
  std::vector<double> losses;
  for (const int batch : {8, 5, 3, 1}) {
    const Json metrics = train(batch, 1);
    losses.push_back(metrics.at("test_loss"));
    // Nothing moved, so that the epoch's own mean is the same.
    EXPECT_NEAR(metrics.at("train_loss").get<double>(), losses.back(), 1e-6) << batch;
  }
  for (const double loss : losses) EXPECT_NEAR(loss, losses[0], 1e-6);
  folder_.write("plain.nn", std::string());
  write(
      "    w = class_weight(d.label, [1, 9])\n    loss cross_entropy(z, d.label)\n    metric sum = w * "
      "cross_entropy(z, d.label)\n    metric weights = w\n",
      "    optimizer sgd(lr=0)\n");
  const Json by_hand = train(8, 1);
  EXPECT_NEAR(losses[0], by_hand.at("test_sum").get<double>() / by_hand.at("test_weights").get<double>(),
              1e-6);
}

TEST_F(Weighted, WhereAllWeightsAreZeroNothingHappens) {
  write("    loss cross_entropy(z, d.label) weight cast(d.label > 5, \"f32\")\n",
        "    optimizer sgd(lr=1)\n");
  const Json metrics = train(4, 2);
  EXPECT_EQ(metrics.at("train_loss"), 0);
  EXPECT_EQ(metrics.at("test_loss"), 0);
}

TEST_F(Weighted, FullBatchOptimizersMayHaveWeights) {
  for (const char* optimizer : {"gd(lr=0.5, line_search=\"armijo\")", "lbfgs(lr=0.5)", "svrg(lr=0.2)"}) {
    write(
        "    loss first = cross_entropy(z, d.label) weight class_weight(d.label, [1, 9])\n"
        "    loss second = l2_loss(z, 0.5)\n",
        fmt::format("    optimizer {}\n", optimizer));
    std::string text = read_text(folder_.path("m.nn"));
    text.replace(text.find("    accumulate pieces\n"), 22, "    if pieces > 1 { accumulate pieces }\n");
    folder_.write("m.nn", text);
    const bool svrg = std::string(optimizer).starts_with("svrg");
    const Json whole = train(8, 1), pieces = train(2, svrg ? 4 : 1);
    expect_same(pieces, whole, optimizer);
    EXPECT_LT(whole.at("test_loss").get<double>(), 1.5) << optimizer;
  }
}

// gradc check knows the parts of the loss and the sums of weights.
TEST_F(Weighted, GradientsAreChecked) {
  write(
      "    loss first = cross_entropy(z, d.label) weight class_weight(d.label, [1, 9])\n"
      "    loss second = l2_loss(z, 0.5) weight 0.25\n",
      "    optimizer sgd(lr=0.3)\n    penalty l2(0.1)\n");
  for (const char* pieces : {"pieces=1", "pieces=2"}) {
    const ToolResult r = run_tool({"check", "m.nn", "--set", pieces}, folder_.path());
    EXPECT_EQ(r.exit_code, kExitOk) << r.out << r.err;
  }
}

TEST_F(Weighted, GoesOnWhereItStopped) {
  write(kWeightedLoss, "    optimizer adam(lr=0.1)\n");
  const Json whole = train(2, 1);
  train(2, 1, {"--steps", "6", "--epochs", "3", "--save", "half.safetensors", "--save-state"});
  expect_same(train(2, 1, {"--epochs", "3", "--resume", "half.safetensors"}), whole, "resumed");
}

TEST_F(Weighted, PiecesOfAMemoryLimitAreTheSame) {
  const std::string text =
      "data noise = random(shape=[1, 12, 12], train=160, test=96, batch=64)\n"
      "model net(image: f32[1, 12, 12]) = image |> conv2d(16, 3, padding=1) |> relu |> conv2d(16, 3, "
      "padding=1) "
      "|> relu |> dropout(0.5) |> global_avg_pool |> dropconnect(10, rate=0.2)\n"
      "train {\n"
      "    z         = net(noise.image)\n"
      "    loss      cross_entropy(z, noise.label) weight class_weight(noise.label, [1, 9, 1, 2, 0, 1, 1, 1, "
      "1, 4])\n"
      "    metric    accuracy(z, noise.label)\n"
      "    optimizer sgd(lr=0.1)\n"
      "    noise     1e-4\n"
      "    epochs    2\n"
      "    checkpoint every 1 epoch\n"
      "}\n";
  folder_.write("m.nn", text);
  const auto run = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"train", "m.nn", "--json", "--log-every", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_tool(arguments, folder_.path());
  };
  const ToolResult planned = run_tool({"plan", "m.nn", "--json"}, folder_.path());
  ASSERT_EQ(planned.exit_code, kExitOk) << planned.err;
  const double peak = Json::parse(planned.out).at("peak_bytes");
  const std::string limit = fmt::format("--mem-limit={}", static_cast<int64_t>(0.62 * peak));
  const ToolResult whole = run({}), pieces = run({limit});
  ASSERT_EQ(whole.exit_code, kExitOk) << whole.err;
  ASSERT_EQ(pieces.exit_code, kExitOk) << pieces.err;
  ASSERT_NE(pieces.err.find("in 2 pieces"), std::string::npos) << pieces.err;
  const auto a = lines(whole.out), b = lines(pieces.out);
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    const Json one = Json::parse(a[i]), two = Json::parse(b[i]);
    ASSERT_EQ(one.at("event"), two.at("event"));
    // Another draw would move a loss of some 2.3 by a tenth and more; sums in another order by units in the
    // last place, which six updates spread.
    for (const char* key : {"loss", "train_loss"})
      if (one.contains(key)) {
        EXPECT_NEAR(one.at(key).get<double>(), two.at(key).get<double>(), 2e-5) << a[i];
      }
  }
  // A run goes on with a limit where it began without, and the other way round.
  for (const bool first : {false, true}) {
    const ToolResult half = run({"--steps", "2", "--epochs", "2", "--save", "h.safetensors", "--save-state",
                                 first ? limit : "--threads=1"});
    ASSERT_EQ(half.exit_code, kExitOk) << half.err;
    const ToolResult rest =
        run({"--epochs", "2", "--resume", "h.safetensors", first ? "--threads=1" : limit});
    ASSERT_EQ(rest.exit_code, kExitOk) << rest.err;
    EXPECT_NEAR(Json::parse(lines(rest.out).back()).at("train_loss").get<double>(),
                Json::parse(a.back()).at("train_loss").get<double>(), 2e-5);
  }
}

}  // namespace
}  // namespace gradc::test::weighted_test
