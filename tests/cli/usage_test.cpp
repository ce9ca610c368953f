// Command line mistakes: exit code 2 and a message that says what was meant; help and version go to stdout.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::usage_test {
namespace {

using testing::TestInfo;

struct Usage {
  std::string name;
  std::vector<std::string> arguments;
  std::string expected;  // part of stderr
};

class UsageTest : public testing::TestWithParam<Usage> {};

TEST_P(UsageTest, ExitsWithTwoAndSaysWhy) {
  TemporaryFolder folder;
  folder.write("small.nn", small_model());
  const ToolResult r = run_tool(GetParam().arguments, folder.path());
  EXPECT_EQ(r.exit_code, kExitUsage) << r.out << r.err;
  EXPECT_NE(r.err.find(GetParam().expected), std::string::npos) << r.err;
  EXPECT_EQ(r.out, "");
}

INSTANTIATE_TEST_SUITE_P(
    CommandLine, UsageTest,
    testing::Values(
        Usage{"nothing", {}, "Usage"},
        Usage{"unknown_command", {"trian", "small.nn"}, "did you mean 'train'?"},
        Usage{
            "far_command",
            {"frobnicate"},
            "The commands are: train, eval, predict, sample, dump, opt, check, reduce, compile, bench, plan, "
            "lsuv, stats, recipe, ops, explain, average, passes, machine, cache"},
        Usage{"file_without_command", {"small.nn"}, "did you mean 'gradc train small.nn'?"},
        Usage{"unknown_option",
              {"train", "small.nn", "--epoch=3"},
              "there is no option '--epoch'; did you mean '--epochs'?"},
        Usage{"extra_argument", {"train", "small.nn", "other.nn"}, "one argument too many: 'other.nn'"},
        Usage{"unknown_op", {"ops", "adamm"}, "there is nothing called 'adamm'; did you mean 'adam'?"},
        Usage{"no_file", {"train"}, "FILE is required"},
        Usage{"no_weights", {"eval", "small.nn"}, "--weights"},
        Usage{"no_number", {"train", "small.nn", "--epochs", "many"}, "'many' is not a whole number"},
        Usage{"negative_epochs", {"train", "small.nn", "--epochs", "-1"}, "-1 is less than 0"},
        Usage{"too_many_threads", {"train", "small.nn", "--threads", "5000"}, "5000 is not in 1..1024"},
        Usage{"number_too_large",
              {"train", "small.nn", "--steps", "99999999999999999999"},
              "--steps: 99999999999999999999 is more than 2305843009213693951"},
        Usage{"number_too_small",
              {"train", "small.nn", "--steps", "-99999999999999999999"},
              "-99999999999999999999 is less than 0"},
        Usage{"hexadecimal", {"train", "small.nn", "--steps", "0x10"}, "'0x10' is not a whole number"},
        Usage{"octal", {"train", "small.nn", "--threads", "010"}, "'010' is not a whole number"},
        Usage{"seed_of_text_negative",
              {"sample", "small.nn", "--weights", "w", "--seed", "-1"},
              "--seed: -1 is less than 0"},
        Usage{"seconds_nan", {"bench", "small.nn", "--seconds", "nan"}, "'nan' is not a finite number"},
        Usage{"seconds_beyond",
              {"bench", "small.nn", "--seconds", "1e999"},
              "beyond the numbers that a double"},
        Usage{"seconds_range", {"bench", "small.nn", "--seconds", "4000"}, "4000 is not in 0.01..3600"},
        Usage{"factor_vanishes",
              {"train", "small.nn", "--lr-factor", "1e-400"},
              "--lr-factor: '1e-400' is beyond the numbers that a double holds"},
        Usage{"factor_negative", {"train", "small.nn", "--lr-factor=-1"}, "-1 is less than 0"},
        Usage{"factor_word", {"train", "small.nn", "--lr-factor", "half"}, "'half' is not a number"},
        Usage{"size_negative", {"train", "small.nn", "--mem-limit", "-5"}, "'-5' is less than one byte"},
        Usage{"size_zero", {"train", "small.nn", "--mem-limit", "0"}, "'0' is less than one byte"},
        Usage{"size_too_large",
              {"train", "small.nn", "--mem-limit", "99999999999999999999"},
              "is more than any machine has"},
        Usage{"size_unit",
              {"train", "small.nn", "--mem-limit", "3 apples"},
              "'3 apples' has no known unit; expected a number of bytes, as 500MB"},
        Usage{"size_word", {"train", "small.nn", "--mem-limit", "much"}, "'much' is not a size"},
        Usage{"size_small", {"train", "small.nn", "--mem-limit", "1kB"}, "--mem-limit: 1.0 kB are too few"},
        Usage{"size_fraction",
              {"train", "small.nn", "--mem-limit", "0.5k"},
              "--mem-limit: 500 bytes are too few"},
        Usage{"size_binary", {"train", "small.nn", "--mem-limit", "2KiB"}, "--mem-limit: 2.0 kB are too few"},
        Usage{"no_value", {"train", "small.nn", "--set", "width"}, "--set width: expected name=value"},
        Usage{"missing_model",
              {"train", "smal.nn"},
              "there is no model file 'smal.nn'. Did you mean 'small.nn'?"},
        Usage{"directory", {"train", "."}, "'.' is a directory"},
        Usage{"unknown_target", {"train", "small.nn", "--target", "x86-64-v9"}, "x86-64-v4"},
        Usage{"unknown_stage", {"dump", "small.nn", "--stage", "loop"}, "did you mean 'loops'?"},
        Usage{"unknown_function",
              {"dump", "small.nn", "--stage", "opt", "--function", "train_stepp"},
              "did you mean 'train_step'?"},
        Usage{
            "unknown_pass", {"dump", "small.nn", "--stage", "opt", "--print-after", "simplifi"}, "simplify"},
        Usage{
            "break_unknown", {"check", "small.nn", "--break-gradient", "einsun"}, "did you mean 'einsum'?"}),
    [](const auto& info) { return info.param.name; });

TEST(Usage, HelpAndVersionGoToStdout) {
  const ToolResult help = run_tool({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  for (const char* part : {"train", "eval", "predict", "dump", "check", "bench", "lsuv", "ops", "passes",
                           "machine", "cache", "GRADC_THREADS", "Exit codes"})
    EXPECT_NE(help.out.find(part), std::string::npos) << part;
  EXPECT_EQ(help.err, "");
  const ToolResult version = run_tool({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(version.out.rfind("gradc ", 0), 0u);
  const ToolResult train = run_tool({"train", "--help"});
  EXPECT_EQ(train.exit_code, 0);
  for (const char* part : {"--steps", "--epochs", "--no-shuffle", "--init-from", "--save", "--seed",
                           "--threads", "--json", "--log-every"})
    EXPECT_NE(train.out.find(part), std::string::npos) << part;
}

TEST(Usage, MachineSaysWhatKernelsAreChosenBy) {
  const auto machine = [](std::vector<std::string> options) {
    options.insert(options.begin(), {"machine", "--json"});
    const ToolResult r = run_tool(options);
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return nlohmann::json::parse(lines(r.out).front());
  };
  const nlohmann::json zen3 = machine({"--cpu", "znver3"});
  EXPECT_EQ(zen3.at("cpu"), "znver3");
  EXPECT_EQ(zen3.at("lanes"), 8);
  EXPECT_EQ(zen3.at("registers"), 16);
  EXPECT_EQ(zen3.at("l2_bytes"), 512 << 10);
  EXPECT_EQ(zen3.at("known"), true);
  EXPECT_EQ(machine({"--target", "x86-64-v4"}).at("known"), false);
  EXPECT_GE(machine({}).at("lanes"), 4);
  EXPECT_GT(lines(run_tool({"machine", "--all", "--json"}).out).size(), 20u);
  EXPECT_NE(run_tool({"machine", "--cpu", "znver3"}).out.find("a core has 32 KiB, 512 KiB and 4096 KiB"),
            std::string::npos);
  const ToolResult wrong = run_tool({"machine", "--cpu", "znver33"});
  EXPECT_EQ(wrong.exit_code, kExitUsage);
  EXPECT_NE(wrong.err.find("did you mean"), std::string::npos) << wrong.err;
}

TEST(Usage, PassesAreListedInOrder) {
  const ToolResult text = run_tool({"passes"});
  EXPECT_EQ(text.exit_code, 0);
  std::vector<std::string> names;
  for (const std::string& line : lines(run_tool({"passes", "--json"}).out))
    names.push_back(nlohmann::json::parse(line).at("name"));
  ASSERT_GE(names.size(), 5u);
  size_t at = 0;
  for (const std::string& name : names) {
    const size_t found = text.out.find(name, at);
    ASSERT_NE(found, std::string::npos) << name;
    at = found;
  }
}

// Whatever command takes a model file and --json says the file's errors as JSON on stdout.
TEST(Usage, EveryCommandSaysErrorsAsJson) {
  const TemporaryFolder folder;
  folder.write("broken.nn", "data d = nothing(batch=2)\n");
  folder.write("w.safetensors", std::string("\2\0\0\0\0\0\0\0{}", 10));  // no arrays
  int commands = 0;
  bool listed = false;
  for (const std::string& line : lines(run_tool({"--help"}).out)) {
    if (line.find("ubcommands") != std::string::npos) listed = true;
    if (!listed || line.size() < 3 || line.substr(0, 2) != "  " || line[2] == ' ') continue;
    const std::string name = line.substr(2, line.find(' ', 2) - 2);
    const std::string help = run_tool({name, "--help"}).out;
    if (help.find("the model file (*.nn)") == std::string::npos) continue;
    SCOPED_TRACE(name);
    ASSERT_NE(help.find("--json"), std::string::npos);
    std::vector<std::string> arguments = {name, "broken.nn", "--json"};
    for (const char* needed : {"--weights", "--save"})
      if (help.find(std::string("\n  ") + needed) != std::string::npos)
        arguments.insert(arguments.end(), {needed, "w.safetensors"});
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, 3) << r.err;
    ASSERT_FALSE(lines(r.out).empty()) << r.err;
    for (const std::string& said : lines(r.out)) EXPECT_TRUE(nlohmann::json::accept(said)) << said;
    ++commands;
  }
  EXPECT_GE(commands, 10);
}

}  // namespace
}  // namespace gradc::test::usage_test
