// A debugger shows the model file's lines, in the tool's own code and in executables.
#include <gtest/gtest.h>

#include "tests/cli/tool.h"

namespace gradc::test::debugger_test {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

class Debugger : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists("/usr/bin/gdb")) GTEST_SKIP() << "there is no gdb here (Debian: gdb)";
    folder_.write("net.nn",
                  "data digits = synthetic_digits(train=64, test=32, batch=32)\n"
                  "model net(image: f32[1, 28, 28]) {\n"
                  "    h = image |> flatten |> dense(16)\n"
                  "    h = tanh(h)\n"
                  "    return h |> dense(10)\n"
                  "}\n"
                  "train {\n"
                  "    loss      cross_entropy(net(digits.image), digits.label)\n"
                  "    optimizer sgd(lr=0.1)\n"
                  "    epochs    1\n"
                  "}\n");
  }

  // Breaks at a line, runs to it and shows where that is.
  ToolResult debug(const std::string& line, const std::vector<std::string>& command) const {
    std::vector<std::string> all = {"/usr/bin/gdb", "-nx",
                                    "-q",           "-batch",
                                    "-ex",          "set breakpoint pending on",
                                    "-ex",          "set debuginfod enabled off",
                                    "-ex",          "break " + line,
                                    "-ex",          "run",
                                    "-ex",          "info line",
                                    "-ex",          "backtrace 2",
                                    "--args"};
    all.insert(all.end(), command.begin(), command.end());
    return run_bare(all, folder_.path(), {{"GRADC_CACHE", "off"}, {"HOME", folder_.path()}}, 300);
  }

  // Containers may forbid what a debugger needs.
  static bool forbidden(const ToolResult& r) {
    return contains(r.err + r.out, "ptrace") || contains(r.err + r.out, "Operation not permitted");
  }

  TemporaryFolder folder_;
};

TEST_F(Debugger, StopsAtALineInTheJit) {
  for (const auto& [line, text] : {std::pair{4, "h = tanh(h)"}, {3, "dense(16)"}}) {
    const std::string place = "net.nn:" + std::to_string(line);
    const ToolResult r = debug(place, {GRADC_TOOL, "train", "net.nn", "--threads", "1"});
    if (forbidden(r)) GTEST_SKIP() << "gdb may not run a program here: " << r.err;
    EXPECT_TRUE(contains(r.out, "hit Breakpoint 1") || contains(r.out, "\nBreakpoint 1")) << r.out << r.err;
    EXPECT_TRUE(contains(r.out, "at " + place)) << r.out << r.err;
    EXPECT_TRUE(contains(r.out, text)) << "the source line is shown: " << r.out;
    EXPECT_TRUE(contains(r.out, ".k")) << "the kernel is named: " << r.out;
  }
}

TEST_F(Debugger, StopsAtALineInAnExecutable) {
  const ToolResult made =
      run_tool({"compile", "net.nn", "-o", "net", "--target", "x86-64-v2"}, folder_.path());
  if (made.exit_code != 0 && contains(made.err, "linking needs")) GTEST_SKIP() << made.err;
  ASSERT_EQ(made.exit_code, 0) << made.err;
  for (const auto& [line, text] : {std::pair{4, "h = tanh(h)"}, {3, "dense(16)"}}) {
    const std::string place = "net.nn:" + std::to_string(line);
    const ToolResult r = debug(place, {folder_.path("net"), "train", "--threads", "1"});
    if (forbidden(r)) GTEST_SKIP() << "gdb may not run a program here: " << r.err;
    EXPECT_FALSE(contains(r.err, "No source file")) << r.err;
    EXPECT_TRUE(contains(r.out, "at " + place)) << r.out << r.err;
    EXPECT_TRUE(contains(r.out, text)) << r.out;
  }
}

}  // namespace
}  // namespace gradc::test::debugger_test
