// Optimizers of all examples against PyTorch and the definitions in double precision (full_batch_reference.py
// made the table), their going on, and what they refuse.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/execution/safetensors.h"
#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::full_batch_test {
namespace {

using Json = nlohmann::json;

// The table's problem as files: images, labels, first weights, and the model with an optimizer.
class Problem {
 public:
  Problem() : table_(Json::parse(read_text(GRADC_SOURCE_DIR "/tests/cli/full_batch_reference.json"))) {
    const auto pixels = table_.at("pixels").get<std::vector<uint8_t>>();
    const auto labels = table_.at("labels").get<std::vector<uint8_t>>();
    const auto count = static_cast<uint32_t>(labels.size());
    folder.write("images", idx({count, 3, 3}, pixels));
    folder.write("labels", idx({count}, labels));
    std::map<std::string, std::vector<float>> values;
    std::map<std::string, runtime::TensorView> views;
    for (const auto& [name, list] : table_.at("weights").items()) {
      values[name] = list.get<std::vector<float>>();
      views[name] = {"F32", table_.at("shapes").at(name).get<std::vector<int64_t>>(),
                     reinterpret_cast<const uint8_t*>(values[name].data()),
                     values[name].size() * sizeof(float)};
    }
    runtime::write_safetensors(folder.path("start.safetensors"), views, {});
  }

  void write_model(const std::string& optimizer, int epochs, const std::string& extra = "") const {
    folder.write("m.nn",
                 "data d = idx(\"images\", \"labels\", classes=3, height=3, width=3, batch=16)\n"
                 "model net(image: f32[1, 3, 3]) =\n"
                 "    image |> flatten |> dense(6) as body |> tanh |> dense(3) as head\n"
                 "train {\n"
                 "    logits    = net(d.image)\n"
                 "    loss      cross_entropy(logits, d.label)\n"
                 "    penalty   l2(1e-3) on \"*.weight\"\n"
                 "    optimizer " +
                     optimizer + "\n    epochs    " + std::to_string(epochs) + "\n" + extra + "}\n");
  }

  // The loss of each epoch, and the end event.
  std::pair<std::vector<double>, Json> train(std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"train", "m.nn", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, 0) << r.err;
    std::pair<std::vector<double>, Json> result;
    if (r.exit_code != 0) return result;
    for (const std::string& line : lines(r.out)) {
      const Json event = Json::parse(line);
      if (event.at("event") == "epoch") result.first.push_back(event.at("train_loss"));
      result.second = event;
    }
    return result;
  }

  const Json& table() const { return table_; }
  TemporaryFolder folder;

 private:
  static std::string idx(const std::vector<uint32_t>& shape, const std::vector<uint8_t>& data) {
    std::string bytes = {0, 0, 8, static_cast<char>(shape.size())};
    for (const uint32_t n : shape)
      for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(n >> shift & 255);
    return bytes + std::string(data.begin(), data.end());
  }
  Json table_;
};

// Rounding grows along a trace of L-BFGS; the first steps agree to single precision's rounding of the loss.
TEST(FullBatch, FollowsTheReference) {
  const Problem problem;
  for (const auto& [optimizer, losses] : problem.table().at("losses").items()) {
    problem.write_model(optimizer, static_cast<int>(losses.size()));
    std::vector<std::string> more = {"--init-from", "start.safetensors"};
    if (optimizer[0] == 's') more.push_back("--no-shuffle");
    const auto [got, end] = problem.train(more);
    ASSERT_EQ(got.size(), losses.size()) << optimizer;
    for (size_t i = 0; i < got.size(); ++i) {
      const double expected = losses[i];
      EXPECT_NEAR(got[i], expected, (i < 5 ? 2e-6 : 1e-4) * expected) << optimizer << ", update " << i;
    }
  }
}

TEST(FullBatch, NativeCodeFollowsTheInterpreter) {
  const Problem problem;
  for (const char* optimizer : {"lbfgs()", "gd(lr=1)", "gd(line_search=\"armijo\")", "svrg()"}) {
    problem.write_model(optimizer, 1);
    const ToolResult r = run_tool({"check", "m.nn"}, problem.folder.path());
    EXPECT_EQ(r.exit_code, 0) << optimizer << "\n" << r.out << r.err;
  }
}

// A run of 4 epochs that is lengthened to 9 against one of 9; for svrg one that ended in the middle of an
// epoch.
TEST(FullBatch, GoesOnBitForBit) {
  const Problem problem;
  for (const std::string optimizer : {"lbfgs(history=2)", "lbfgs(line_search=\"armijo\")",
                                      "gd(lr=8, line_search=\"armijo\")", "svrg(lr=0.3, every=2)"}) {
    problem.write_model(optimizer, 9);
    const bool svrg = optimizer[0] == 's';
    const Json whole = problem.train({"--threads", "2"}).second;
    problem.train({"--steps", svrg ? "10" : "4", "--save", "half.safetensors", "--save-state"});
    const Json rest = problem.train({"--resume", "half.safetensors", "--epochs", "9"}).second;
    EXPECT_EQ(rest.at("weights_sha256"), whole.at("weights_sha256")) << optimizer;
    EXPECT_EQ(rest.at("steps"), svrg ? 27 : 9);
    problem.write_model("sgd(lr=0.1)", 9);
    const ToolResult other =
        run_tool({"train", "m.nn", "--resume", "half.safetensors"}, problem.folder.path());
    EXPECT_EQ(other.exit_code, kExitDataError) << other.err;
  }
}

// As in PyTorch, one update may be several iterations: the same places are passed, and shown less often.
TEST(FullBatch, LbfgsMakesSeveralIterationsAnUpdate) {
  const Problem problem;
  problem.write_model("lbfgs()", 9);
  const auto [each, end] = problem.train({"--init-from", "start.safetensors"});
  problem.write_model("lbfgs(max_iter=3)", 3);
  const auto [thirds, third_end] = problem.train({"--init-from", "start.safetensors"});
  ASSERT_EQ(thirds.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(thirds[i], each[3 * i]);
  EXPECT_EQ(third_end.at("weights_sha256"), end.at("weights_sha256"));
  // It ends within an update too.
  problem.write_model("lbfgs(max_iter=1000, tolerance_grad=1e-2)", 50);
  EXPECT_LE(problem.train().second.at("steps"), 2);
}

TEST(FullBatch, EndsWhereNothingIsLeftToGain) {
  const Problem problem;
  problem.write_model("lbfgs(tolerance_grad=1e-2)", 1000);
  const Json end = problem.train().second;
  EXPECT_LT(end.at("steps"), 200);
  EXPECT_LT(end.at("train_loss"), 0.6);
}

}  // namespace
}  // namespace gradc::test::full_batch_test
