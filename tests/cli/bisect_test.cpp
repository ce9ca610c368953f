// `gradc check --bisect-passes`, with passes made wrong; `gradc explain`.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::bisect_test {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Bisect, EveryStepOfSoundModelsAgrees) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("adamw(lr=1e-3, weight_decay=1e-2)", "    clip norm 1\n"));
  const ToolResult r = run_tool({"check", "m.nn", "--bisect-passes"}, folder.path());
  EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
  for (const char* part : {"differentiate", "decompose", "lower", "segments", "partition", "plan_memory",
                           "code_generation", "PASS"})
    EXPECT_TRUE(contains(r.out, part)) << r.out;
  folder.write("parts.nn", small_model("momentum(lr=0.1)", "    accumulate 2\n"));
  EXPECT_EQ(run_tool({"check", "parts.nn", "--bisect-passes"}, folder.path()).exit_code, 0);
}

class BrokenPass : public testing::TestWithParam<const char*> {};

TEST_P(BrokenPass, IsTheOneThatIsNamed) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("momentum(lr=0.1)"));
  const ToolResult r =
      run_tool({"check", "m.nn", "--bisect-passes", "--break-pass", GetParam(), "--json"}, folder.path());
  EXPECT_EQ(r.exit_code, kExitCheckFailed) << r.err;
  const auto all = lines(r.out);
  ASSERT_FALSE(all.empty());
  const auto end = nlohmann::json::parse(all.back());
  EXPECT_EQ(end.at("event"), "end");
  EXPECT_EQ(end.at("first_wrong"), GetParam()) << r.out;
  EXPECT_EQ(end.at("pass"), false);
}

INSTANTIATE_TEST_SUITE_P(Driver, BrokenPass,
                         testing::Values("stabilize", "differentiate", "simplify", "decompose", "cse_late",
                                         "dce", "order_operations", "fuse_elementwise", "assign_kernels",
                                         "lower", "segments", "partition", "plan_memory", "code_generation"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Bisect, SaysWhereToLookAndWhatIsWrong) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("momentum(lr=0.1)"));
  const ToolResult text =
      run_tool({"check", "m.nn", "--bisect-passes", "--break-pass", "cse"}, folder.path());
  EXPECT_TRUE(contains(text.out, "FAIL: cse is the first whose result disagrees: ")) << text.out;
  EXPECT_TRUE(contains(text.out, "gradc dump MODEL.nn --diff cse")) << text.out;
  EXPECT_FALSE(contains(text.out, "plan_memory")) << text.out;
  const ToolResult code =
      run_tool({"check", "m.nn", "--bisect-passes", "--break-pass", "code_generation"}, folder.path());
  EXPECT_TRUE(contains(code.out, "plan_memory                 agrees")) << code.out;
  EXPECT_TRUE(contains(code.out, "FAIL: code_generation is the first")) << code.out;
  EXPECT_TRUE(contains(code.out, "codegen/")) << code.out;
  const auto usage = [&](const std::vector<std::string>& arguments, const std::string& part) {
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, kExitUsage) << part;
    EXPECT_TRUE(contains(r.err, part)) << r.err;
  };
  usage({"check", "m.nn", "--break-pass", "cse"}, "--bisect-passes, which is missing");
  usage({"check", "m.nn", "--bisect-passes", "--break-pass", "cze"}, "did you mean cse?");
  usage({"check", "m.nn", "--bisect-passes", "--break-gradient", "einsum"}, "--break-pass is for");
}

// --- explain

TEST(Explain, ShowsTheExampleWithItsMessage) {
  const ToolResult r = run_tool({"explain", "E0203"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  for (const char* part :
       {"E0203: operand types or shapes", "    -    b = dense(x, 32)", "    +    b = dense(x, 64)",
        "error[E0203]: these shapes do not add", " --> example.nn:6:18"})
    EXPECT_TRUE(contains(r.out, part)) << part << "\n" << r.out;
  EXPECT_FALSE(contains(r.out, "\x1b"));
  EXPECT_EQ(run_tool({"explain", "e203"}).out, r.out);
  EXPECT_TRUE(contains(run_tool({"explain", "E0203", "--color", "always"}).out, "\x1b[31m-"));
}

TEST(Explain, EveryCodeIsListedAndCanBeShown) {
  const ToolResult list = run_tool({"explain", "--list", "--json"});
  EXPECT_EQ(list.exit_code, 0);
  size_t count = 0;
  for (const std::string& line : lines(list.out)) {
    const auto entry = nlohmann::json::parse(line);
    ++count;
    if (count % 6 != 1) continue;  // some of them; the frontend's tests compile every example
    const ToolResult one = run_tool({"explain", entry.at("code"), "--json"});
    ASSERT_EQ(one.exit_code, 0) << one.err;
    const auto record = nlohmann::json::parse(one.out);
    EXPECT_TRUE(contains(record.at("message"), "error[" + entry.at("code").get<std::string>() + "]"))
        << one.out;
  }
  EXPECT_GT(count, 40u);
}

TEST(Explain, UnknownCodesAndTheWayThere) {
  const ToolResult unknown = run_tool({"explain", "E0999"});
  EXPECT_EQ(unknown.exit_code, kExitUsage);
  EXPECT_TRUE(contains(unknown.err, "there is no error code 'E0999'")) << unknown.err;
  EXPECT_TRUE(contains(unknown.err, "--list"));
  EXPECT_EQ(run_tool({"explain"}).exit_code, kExitUsage);
  TemporaryFolder folder;
  folder.write("m.nn", small_model("sgd(rate=0.1)"));
  const ToolResult error = run_tool({"check", "m.nn"}, folder.path());
  EXPECT_EQ(error.exit_code, kExitModelError);
  EXPECT_TRUE(contains(error.err, "gradc explain E0205 says more of this error.")) << error.err;
}

}  // namespace
}  // namespace gradc::test::bisect_test
