// --mem-limit through the real tool: what is planned stays below the limit, trains to the same parameters up
// to rounding, and what cannot be reached is said.
#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::memory_test {
namespace {

using Json = nlohmann::json;

// Convolutions with shortcuts; `norm` between them: " |> batchnorm" mixes the examples of a batch.
std::string network(const std::string& norm, int blocks = 4) {
  return "data noise = random(shape=[1, 12, 12], train=192, test=64, batch=64)\n"
         "layer block(x) = relu(x + (x |> conv2d(8, 3, padding=1)" +
         norm + " |> relu |> conv2d(8, 3, padding=1)" + norm +
         "))\n"
         "model net(image: f32[1, 12, 12]) {\n"
         "    h = image |> conv2d(8, 3, padding=1) |> relu\n"
         "    for i in 0.." +
         std::to_string(blocks) +
         " as blocks { h = block(h) }\n"
         "    return h |> global_avg_pool |> dense(10)\n"
         "}\n"
         "train {\n"
         "    logits    = net(noise.image)\n"
         "    loss      cross_entropy(logits, noise.label)\n"
         "    optimizer sgd(lr=0.1)\n"
         "    epochs    2\n"
         "    seed      3\n"
         "}\n";
}

struct Outcome {
  double peak = 0, flop = 0, loss = 0;
  std::string said;
};

Outcome run(const TemporaryFolder& folder, const std::string& limit) {
  std::vector<std::string> plan{"plan", "m.nn", "--json", "--threads", "2"};
  std::vector<std::string> train{"train", "m.nn", "--json", "--threads", "2"};
  if (!limit.empty())
    for (auto* command : {&plan, &train}) command->push_back("--mem-limit=" + limit);
  const ToolResult planned = run_tool(plan, folder.path());
  EXPECT_EQ(planned.exit_code, kExitOk) << planned.err;
  const ToolResult trained = run_tool(train, folder.path());
  EXPECT_EQ(trained.exit_code, kExitOk) << trained.err;
  if (planned.exit_code != kExitOk || trained.exit_code != kExitOk) return {};
  const Json p = Json::parse(planned.out);
  Outcome result;
  result.peak = p.at("peak_bytes");
  for (const Json& program : p.at("programs"))
    if (program.at("name") == "train_step") result.flop = program.at("flop");
  std::istringstream lines(trained.out);
  for (std::string line; std::getline(lines, line);)
    if (const Json event = Json::parse(line); event.at("event") == "epoch")
      result.loss = event.at("train_loss");
  result.said = trained.err;
  EXPECT_EQ(planned.err, trained.err);
  return result;
}

std::string bytes(double n) { return std::to_string(static_cast<int64_t>(n)); }

TEST(MemLimit, ComputesAgainWhatIsTooLargeToKeep) {
  TemporaryFolder folder;
  folder.write("m.nn", network(" |> batchnorm"));
  const Outcome whole = run(folder, "");
  EXPECT_EQ(whole.said.find("memory"), std::string::npos) << whole.said;
  const Outcome ample = run(folder, "1GB");
  EXPECT_EQ(ample.peak, whole.peak);
  const Outcome elementwise = run(folder, bytes(0.85 * whole.peak));
  EXPECT_LE(elementwise.peak, 0.85 * whole.peak);
  EXPECT_NE(elementwise.said.find("elementwise operations again"), std::string::npos) << elementwise.said;
  EXPECT_LT(elementwise.flop, 1.1 * whole.flop);
  const Outcome segments = run(folder, bytes(0.97 * elementwise.peak));
  EXPECT_LE(segments.peak, 0.97 * elementwise.peak);
  EXPECT_NE(segments.said.find("segments"), std::string::npos) << segments.said;
  EXPECT_GT(segments.flop, 1.05 * whole.flop);
  EXPECT_LT(segments.flop, 1.4 * whole.flop);  // forward is a third of a step
  // Kernels may sum in another order: some units in the last place, which six updates spread.
  EXPECT_NEAR(elementwise.loss, whole.loss, 1e-4 * whole.loss);
  EXPECT_NEAR(segments.loss, whole.loss, 1e-4 * whole.loss);
  const ToolResult checked = run_tool(
      {"check", "m.nn", "--batch", "8", "--mem-limit=" + bytes(0.7 * 8 / 64 * whole.peak)}, folder.path());
  EXPECT_EQ(checked.exit_code, kExitUsage);  // eight examples take as much as 32 do
  const ToolResult native =
      run_tool({"check", "m.nn", "--mem-limit=" + bytes(0.97 * elementwise.peak)}, folder.path());
  EXPECT_EQ(native.exit_code, kExitOk) << native.out << native.err;
}

TEST(MemLimit, TakesBatchesInPieces) {
  TemporaryFolder folder;
  folder.write("m.nn", network("", 1));
  const Outcome whole = run(folder, "");
  const Outcome pieces = run(folder, bytes(0.72 * whole.peak));
  EXPECT_LE(pieces.peak, 0.72 * whole.peak);
  EXPECT_NE(pieces.said.find("batches of 64 in 2 pieces"), std::string::npos) << pieces.said;
  EXPECT_NEAR(pieces.loss, whole.loss, 1e-4 * whole.loss);
}

// Every way of computing again is tried, in a deep network too: values that wait for others must have a
// place.
TEST(MemLimit, TriesEverythingOnADeepNetwork) {
  const ToolResult r =
      run_tool({"plan", GRADC_SOURCE_DIR "/bench/workloads/vgg.nn", "--mem-limit", "20MB"}, {}, {}, 300);
  EXPECT_EQ(r.exit_code, kExitUsage) << r.err;
  EXPECT_NE(r.err.find("are too few"), std::string::npos) << r.err;
}

// The whole batch: every piece, and the update, whose kernels have times of their own.
TEST(MemLimit, BenchTimesEveryPiece) {
  TemporaryFolder folder;
  folder.write("m.nn", network("", 1));
  const Outcome whole = run(folder, "");
  const auto bench = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"bench", "m.nn", "--seconds", "0.05", "--threads", "2"});
    const ToolResult r = run_tool(more, folder.path());
    EXPECT_EQ(r.exit_code, kExitOk) << r.err;
    return r.out;
  };
  const std::string limit = "--mem-limit=" + bytes(0.72 * whole.peak);
  const Json once = Json::parse(bench({"--json"})),
             pieces = Json::parse(bench({"--json", limit, "--trace", "t.json"}));
  EXPECT_EQ(once.at("batch"), 64);
  EXPECT_EQ(once.at("pieces"), 1);
  EXPECT_EQ(pieces.at("batch"), 64);
  EXPECT_EQ(pieces.at("pieces"), 2);
  EXPECT_GT(pieces.at("flop").get<double>(), 0.95 * once.at("flop").get<double>());
  std::map<std::string, int> traced;  // calls of each kernel, in some steps
  const Json trace = Json::parse(read_text(folder.path("t.json")));
  for (const Json& e : trace.at("traceEvents"))
    if (e.at("tid") == 0) ++traced[e.at("name")];
  int of_gradients = INT_MAX, of_update = INT_MAX;
  for (const auto& [name, calls] : traced) {
    int& least = name.rfind("update.", 0) == 0 ? of_update : of_gradients;
    least = std::min(least, calls);
  }
  EXPECT_EQ(of_gradients, 2 * of_update) << trace;
  EXPECT_NE(bench({limit}).find("training step of batch 64 in 2 pieces of 32, "), std::string::npos);
}

TEST(MemLimit, SaysWhatItCannot) {
  TemporaryFolder folder;
  folder.write("m.nn", network(" |> batchnorm"));
  const ToolResult r = run_tool({"train", "m.nn", "--mem-limit", "1MB"}, folder.path());
  EXPECT_EQ(r.exit_code, kExitUsage);
  EXPECT_NE(r.err.find("the least found is"), std::string::npos) << r.err;
  EXPECT_NE(r.err.find("mixes a batch at m.nn:2"), std::string::npos) << r.err;
  const ToolResult few = run_tool({"train", "m.nn", "--mem-limit", "1KB"}, folder.path());
  EXPECT_EQ(few.exit_code, kExitUsage);
  EXPECT_NE(few.err.find("optimizer with less state"), std::string::npos) << few.err;
  const ToolResult unit = run_tool({"train", "m.nn", "--mem-limit", "3 apples"}, folder.path());
  EXPECT_EQ(unit.exit_code, kExitUsage);
  EXPECT_NE(unit.err.find("--mem-limit"), std::string::npos) << unit.err;
}

}  // namespace
}  // namespace gradc::test::memory_test
