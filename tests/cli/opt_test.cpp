// Tests of passes as text: every tests/passes/ir/NAME.ir begins with the command that runs it ("# RUN:",
// where %s is the file), and says on "# CHECK" lines what must come out, checked by LLVM's FileCheck.
// GRADC_UPDATE_GOLDENS=1 writes CHECK lines where there are none or they fail; read the difference before committing
// it. Also what else `gradc opt` is to do.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::opt_test {
namespace {

const std::string kCheck = "# CHECK";

std::vector<std::string> files() {
  std::vector<std::string> list;
  for (const auto& entry : std::filesystem::directory_iterator(GRADC_SOURCE_DIR "/tests/passes/ir"))
    if (entry.path().extension() == ".ir") list.push_back(entry.path().string());
  std::sort(list.begin(), list.end());
  return list;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

ToolResult shell(const std::string& command) {
  return run_bare({"/bin/sh", "-c", command}, {}, {{"PATH", "/usr/bin:/bin"}});
}

// The file with CHECK lines that ask for exactly this output.
void update(const std::string& file, const std::string& output) {
  std::string text;
  for (const std::string& line : lines(read_text(file)))
    if (line.rfind(kCheck, 0) != 0) text += line + "\n";
  bool first = true;
  for (std::string line : lines(output)) {
    line = replaced(line, "[[", "{{\\[\\[}}");  // else a variable of FileCheck
    const size_t begin = line.find_first_not_of(' ');
    if (begin == std::string::npos)
      text += kCheck + "-EMPTY:\n";
    else
      text += kCheck + (first ? ": " : "-NEXT: ") + line + "\n";
    first = false;
  }
  std::ofstream(file, std::ios::binary) << text << kCheck << "-NOT: {{.}}\n";
}

class PassFile : public testing::TestWithParam<std::string> {};

TEST_P(PassFile, MakesWhatIsChecked) {
  if (std::string(GRADC_FILECHECK).empty())
    GTEST_SKIP() << "FileCheck of LLVM 19 is not here (llvm-19-tools)";
  const std::string tag = "# RUN: gradc opt ", text = read_text(GetParam());
  ASSERT_EQ(text.compare(0, tag.size(), tag), 0) << "the first line says how the file is run";
  const std::string run = text.substr(7, text.find('\n') - 7);
  const size_t pipe = run.find(" | FileCheck ");
  ASSERT_NE(pipe, std::string::npos) << run;
  const std::string command = replaced(GRADC_TOOL + run.substr(5, pipe - 5), "%s", "'" + GetParam() + "'");
  const ToolResult made = shell(command);
  ASSERT_EQ(made.exit_code, 0) << command << "\n" << made.err;
  TemporaryFolder folder;
  const std::string output = folder.write("made.ir", made.out);
  const std::string compare =
      replaced(GRADC_FILECHECK + run.substr(pipe + 12), "%s", "'" + GetParam() + "'") +
      " --match-full-lines --input-file=" + output;
  ToolResult check = shell(compare);  // fails without CHECK lines too
  if (check.exit_code != 0 && std::getenv("GRADC_UPDATE_GOLDENS")) {
    update(GetParam(), made.out);
    check = shell(compare);
  }
  EXPECT_EQ(check.exit_code, 0) << check.err << "\nthe output:\n" << made.out;
  // What a pass made is text like any other.
  const ToolResult again = run_tool({"opt", output});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(again.out, made.out);
}

INSTANTIATE_TEST_SUITE_P(Files, PassFile, testing::ValuesIn(files()),
                         [](const auto& info) { return std::filesystem::path(info.param).stem().string(); });

// A pass that can be left out changes no result of training, so that only its text shows whether it does anything.
TEST(PassFiles, EveryOptionalPassHasOne) {
  std::string runs;
  for (const std::string& file : files()) runs += file + " " + lines(read_text(file)).front() + "\n";
  for (const std::string& line : lines(run_tool({"passes", "--json"}).out)) {
    const nlohmann::json pass = nlohmann::json::parse(line);
    std::string name = pass.at("name");
    if (name.ends_with("_late")) name.resize(name.size() - 5);  // the same pass, once more
    const bool loops = name == "segments" || name == "partition" || name == "plan_memory";
    const std::string run = loops ? "loop_" + name + ".ir" : "--pass " + name + " ";
    EXPECT_TRUE((!loops && !pass.at("optional").get<bool>()) || runs.find(run) != std::string::npos)
        << "no tests/passes/ir/*.ir runs `gradc opt %s --pass " << name << "`";
  }
}

// Every pass on its own, and lowered after it, gives IR or says what keeps it from doing so.
TEST_P(PassFile, HasAnAnswerFromEveryPass) {
  const ToolResult list = run_tool({"passes", "--json"});
  ASSERT_EQ(list.exit_code, 0) << list.err;
  int passes = 0;
  for (const std::string& line : lines(list.out)) {
    const std::string name = nlohmann::json::parse(line).at("name");
    ++passes;
    const bool loops = read_text(GetParam()).find("\nprogram ") != std::string::npos;
    std::vector<std::string> runs{name};
    if (loops) runs.push_back("plan_memory," + name);
    if (!loops && name != "lower" && name != "segments" && name != "partition" && name != "plan_memory")
      runs.push_back(name + ",plan_memory");
    for (const std::string& run : runs) {
      const ToolResult r =
          run_tool({"opt", GetParam(), "--pass", run}, {}, {}, 120, {{"GRADC_VERIFY", "on"}});
      EXPECT_TRUE(r.exit_code == 0 ||
                  (r.exit_code == kExitUsage &&
                   (r.err.find("cannot be lowered: ") != std::string::npos ||
                    (loops && r.err.find("it is no pass on loop IR") != std::string::npos) ||
                    r.err.find("which is not there") != std::string::npos)))
          << "--pass " << run << " gives " << r.exit_code << ": " << r.err;
    }
  }
  EXPECT_GT(passes, 20);
}

// A pass that did something else would be found: FileCheck fails where a CHECK line is changed.
TEST(PassFiles, AWrongCheckFails) {
  if (std::string(GRADC_FILECHECK).empty())
    GTEST_SKIP() << "FileCheck of LLVM 19 is not here (llvm-19-tools)";
  TemporaryFolder folder;
  const std::string wrong =
      folder.write("wrong.ir", replaced(read_text(GRADC_SOURCE_DIR "/tests/passes/ir/cse.ir"),
                                        "# CHECK-NEXT:   %1 = add", "# CHECK-NEXT:   %1 = sub"));
  const ToolResult made = run_tool({"opt", wrong, "--pass", "cse"});
  const std::string output = folder.write("made.ir", made.out);
  EXPECT_NE(shell(std::string(GRADC_FILECHECK) + " " + wrong + " --match-full-lines --input-file=" + output)
                .exit_code,
            0);
}

const char* const kSmall =
    "param @w : f32[3,2]\n"
    "func @predict(%x: f32[n,2]) {\n"
    "  %1 = einsum %x, @w {spec=\"nk,ok->no\"} : f32[n,3]\n"
    "  %2 = constant {dtype=\"f32\", value=1.0} : f32\n"
    "  %3 = mul %1, %2 : f32[n,3]\n"
    "  return predict=%3\n"
    "}\n";

TEST(Opt, RunsPassesInTheirOrderAndReadsStandardInput) {
  TemporaryFolder folder;
  folder.write("m.ir", kSmall);
  const ToolResult plain = run_tool({"opt", "m.ir"}, folder.path());
  EXPECT_EQ(plain.exit_code, 0) << plain.err;
  EXPECT_NE(plain.out.find("mul %1, %2"), std::string::npos) << plain.out;
  const ToolResult simplified =
      run_tool({"opt", "m.ir", "--pass", "simplify,dce", "-o", "out.ir"}, folder.path());
  EXPECT_EQ(simplified.exit_code, 0) << simplified.err;
  EXPECT_EQ(simplified.out, "");
  const std::string text = read_text(folder.path("out.ir"));
  EXPECT_EQ(text.find("mul"), std::string::npos) << text;
  EXPECT_NE(text.find("return predict=%1"), std::string::npos) << text;
  const ToolResult piped =
      shell(std::string("cat '") + folder.path("m.ir") + "' | " + GRADC_TOOL + " opt - --pass simplify,dce");
  EXPECT_EQ(piped.out, text) << piped.err;
  const ToolResult loops = run_tool({"opt", "m.ir", "--pass", "plan_memory"}, folder.path());
  EXPECT_EQ(loops.exit_code, 0) << loops.err;
  EXPECT_EQ(loops.out.rfind("program \"predict\"", 0), 0u) << loops.out.substr(0, 200);
  const ToolResult json = run_tool({"opt", "m.ir", "--json"}, folder.path());
  EXPECT_NE(json.out.find("\"op\":\"einsum\""), std::string::npos) << json.out;
}

TEST(Opt, SaysWhatIsWrong) {
  TemporaryFolder folder;
  folder.write("m.ir", kSmall);
  folder.write("m.nn", small_model());
  folder.write("unsound.ir", replaced(kSmall, "%1, %2 : f32[n,3]", "%1, %2 : f32[n,4]"));
  const auto expect = [&](const std::vector<std::string>& arguments, const std::string& part) {
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, kExitUsage) << part;
    EXPECT_NE(r.err.find(part), std::string::npos) << r.err;
    EXPECT_EQ(r.out, "");
  };
  expect({"opt", "m.ir", "--pass", "simplifi"}, "did you mean simplify?");
  expect({"opt", "m.ir", "--pass", "lower,cse"},
         "cse works on tensor IR, which is no longer there after lower");
  expect({"opt", "m.ir", "--pass", "lower,partition"}, "partition alone is enough");
  expect({"opt", "m.ir", "--pass", "differentiate"}, "@train, which is not there");
  expect({"opt", "m.nn"}, "as `gradc dump MODEL.nn --stage ir` prints it");
  expect({"opt", "missing.ir"}, "missing.ir");
  // What lowering has no place for.
  const auto eval = [](const std::string& input, const std::string& operation) {
    return "func @eval(%x: f32[n,3], " + input + ") {\n  %1 = " + operation +
           " : f32[n,3]\n  return y=%1\n}\n";
  };
  folder.write("count.ir", eval("%count: f32", "mul %x, %count"));
  expect({"opt", "count.ir", "--pass", "lower"},
         "@eval cannot be lowered: input %count is f32, one value for all examples: inputs have a batch (as "
         "f32[n,4] has), but for the step's scalars, f64: %step, %epoch, ");
  folder.write("unknown.ir", eval("%speed: f64", "add %x, %x"));
  expect({"opt", "unknown.ir", "--pass", "lower"}, "@eval cannot be lowered: input %speed is f64");
  // Kernels that no pass has made.
  const auto kernels = [](const std::string& first, const std::string& second, const std::string& third) {
    return "func @eval(%x: f32[n,3]) {\n  %1 = " + first + "\n  %2 = " + second + "\n  %3 = " + third +
           "\n  return y=%2, z=%3\n}\n";
  };
  const std::string exp = "exp %x : f32[n,3] kernel(0)", neg = "neg %x : f32[n,3] kernel(1)";
  folder.write("composite.ir", kernels(exp, neg, "log_softmax %x {axis=0} : f32[n,3] kernel(2)"));
  expect({"opt", "composite.ir", "--pass", "lower"}, "log_softmax %3 is made of simpler operations");
  folder.write("apart.ir", kernels(exp, neg, "mul %1, %x : f32[n,3] kernel(0)"));
  expect({"opt", "apart.ir", "--pass", "lower"}, "the operations of kernel 0 are not adjacent");
  folder.write("none.ir", kernels(exp, neg, "abs %x : f32[n,3]"));
  expect({"opt", "none.ir", "--pass", "lower"}, "abs %3 has no kernel");
  expect({"opt", "unsound.ir"}, "unsound.ir");
}

}  // namespace
}  // namespace gradc::test::opt_test
