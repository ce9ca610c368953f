// `gradc plan` through the real tool: its figures are those of the programs that would run.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::plan_test {
namespace {

using Json = nlohmann::json;

Json plan(const TemporaryFolder& folder, std::vector<std::string> arguments = {}) {
  arguments.insert(arguments.begin(), {"plan", "m.nn", "--json", "--threads", "2"});
  const ToolResult r = run_tool(arguments, folder.path());
  EXPECT_EQ(r.exit_code, kExitOk) << r.err;
  return Json::parse(r.out);
}

std::map<std::string, Json> programs(const Json& plan) {
  std::map<std::string, Json> result;
  for (const Json& p : plan.at("programs")) result[p.at("name")] = p;
  return result;
}

TEST(Plan, CountsParametersMemoryAndWork) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("adam(lr=0.01)"));
  const Json e = plan(folder);
  EXPECT_EQ(e.at("parameters"), 784 * 10 + 10);
  EXPECT_EQ(e.at("parameter_bytes"), 4 * (784 * 10 + 10));
  EXPECT_EQ(e.at("optimizer_bytes"), 2 * 4 * (784 * 10 + 10));
  EXPECT_EQ(e.at("batch"), 32);
  const auto all = programs(e);
  const Json& step = all.at("train_step");
  EXPECT_EQ(all.count("eval"), 1u);
  // Forward product and weight gradient, two FLOP a multiply-add, and little beside.
  EXPECT_GE(step.at("flop"), 4.0 * 32 * 784 * 10);
  EXPECT_LE(step.at("flop"), 1.5 * 4.0 * 32 * 784 * 10);
  EXPECT_GE(step.at("arena_bytes"), step.at("least_arena_bytes"));
  EXPECT_GT(step.at("least_arena_bytes"), 0);
  // Images and labels of a batch go in.
  EXPECT_GE(step.at("input_output_bytes"), 32 * (784 * 4 + 4));
  EXPECT_GE(e.at("peak_bytes"), 3 * 4 * (784 * 10 + 10) + step.at("arena_bytes").get<int64_t>());
}

TEST(Plan, IsWhatRuns) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("adam(lr=0.01)"));
  const ToolResult bench = run_tool({"bench", "m.nn", "--json", "--seconds", "0.02"}, folder.path());
  ASSERT_EQ(bench.exit_code, kExitOk) << bench.err;
  const Json ran = Json::parse(bench.out);
  const Json planned = programs(plan(folder)).at("train_step");
  EXPECT_EQ(planned.at("arena_bytes"), ran.at("arena_bytes"));
  EXPECT_EQ(planned.at("calls"), ran.at("kernels").size());
  EXPECT_DOUBLE_EQ(planned.at("flop"), ran.at("flop"));
}

TEST(Plan, FollowsTheBatch) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const Json small = programs(plan(folder, {"--batch", "32"})).at("train_step");
  const Json large = programs(plan(folder, {"--batch", "320"})).at("train_step");
  EXPECT_GT(large.at("arena_bytes"), small.at("arena_bytes"));
  EXPECT_GT(large.at("flop").get<double>(), 9 * small.at("flop").get<double>());
}

TEST(Plan, SaysWhatItNeeds) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const ToolResult stopped = run_tool({"plan", "m.nn", "--stop-after=lower"}, folder.path());
  EXPECT_EQ(stopped.exit_code, kExitUsage);
  EXPECT_NE(stopped.err.find("no --stop-after"), std::string::npos) << stopped.err;
  const ToolResult batch = run_tool({"plan", "m.nn", "--batch=0"}, folder.path());
  EXPECT_EQ(batch.exit_code, kExitUsage);
  EXPECT_NE(batch.err.find("--batch"), std::string::npos) << batch.err;
  const ToolResult people = run_tool({"plan", "m.nn"}, folder.path());
  EXPECT_EQ(people.exit_code, kExitOk);
  EXPECT_NE(people.out.find("optimizer state"), std::string::npos) << people.out;
}

}  // namespace
}  // namespace gradc::test::plan_test
