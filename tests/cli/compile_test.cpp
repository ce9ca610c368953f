// `gradc compile` through the real tool: what it makes runs by itself, in an empty environment with an empty
// PATH.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/compiled_model.h"
#include "tests/cli/tool.h"

namespace gradc::test::compile_test {
namespace {

using Json = nlohmann::json;

// A folder with a model m.nn.
class Compile : public ::testing::Test {
 protected:
  void SetUp() override { folder_.write("m.nn", model_to_compile()); }

  ToolResult compile(std::vector<std::string> arguments,
                     const std::map<std::string, std::string>& variables = {}) {
    arguments.insert(arguments.begin(), {"compile", "m.nn"});
    return run_tool(arguments, folder_.path(), {}, 120, variables);
  }
  // The compile must succeed.
  void make(const std::vector<std::string>& arguments) {
    const ToolResult r = compile(arguments);
    ASSERT_EQ(r.exit_code, kExitOk) << r.err;
  }
  ToolResult run(std::vector<std::string> command) {
    command[0] = folder_.path(command[0]);
    return run_bare(command, folder_.path());
  }
  Json last_event(const ToolResult& r) {
    EXPECT_EQ(r.exit_code, kExitOk) << r.err;
    const auto all = lines(r.out);
    return all.empty() ? Json() : Json::parse(all.back());
  }
  void refuses(const std::vector<std::string>& arguments, int code, const std::vector<std::string>& texts,
               const std::map<std::string, std::string>& variables = {}) {
    const ToolResult r = compile(arguments, variables);
    EXPECT_EQ(r.exit_code, code) << r.err;
    for (const std::string& text : texts)
      EXPECT_NE(r.err.find(text), std::string::npos) << text << "\n" << r.err;
    EXPECT_EQ(folder_.files().size(), 1u) << "something was written";
  }

  TemporaryFolder folder_;
};

TEST_F(Compile, AnExecutableTrainsToTheSameBitsAsTheTool) {
  make({"-o", "small", "--target", "native"});
  const Json alone = last_event(run({"small", "train", "--json", "--save", "w.safetensors"}));
  const Json tool = last_event(run_tool({"train", "m.nn", "--json"}, folder_.path()));
  EXPECT_EQ(alone.at("weights_sha256"), tool.at("weights_sha256"));
  EXPECT_EQ(alone.at("test_loss"), tool.at("test_loss"));

  const Json eval = last_event(run({"small", "eval", "--weights", "w.safetensors", "--json"}));
  EXPECT_EQ(eval.at("loss"), tool.at("test_loss"));
  const ToolResult ours = run({"small", "predict", "--weights", "w.safetensors", "--rows", "5"});
  const ToolResult theirs =
      run_tool({"predict", "m.nn", "--weights", "w.safetensors", "--rows", "5"}, folder_.path());
  EXPECT_EQ(ours.exit_code, kExitOk) << ours.err;
  EXPECT_EQ(lines(ours.out).size(), 5u);
  EXPECT_EQ(ours.out, theirs.out);

  const Json info = last_event(run({"small", "info", "--json"}));
  EXPECT_EQ(info.at("model"), "m.nn");
  EXPECT_EQ(info.at("parameters"), 784 * 24 + 24 + 24 + 24 + 24 * 10 + 10);
  EXPECT_EQ(info.at("trains"), true);
  EXPECT_EQ(run({"small", "info", "--source"}).out, read_text(folder_.path("m.nn")) + "\n");
}

TEST_F(Compile, SeveralTargetsInOneFileTheBestOneRuns) {
  make({"-o", "small", "--target", "x86-64-v2,x86-64-v3"});
  const Json info = last_event(run({"small", "info", "--json"}));
  EXPECT_EQ(info.at("targets"), Json({"x86-64-v3", "x86-64-v2"}));
  const std::string here = info.at("target");
  EXPECT_EQ(last_event(run({"small", "train", "--json"})).at("weights_sha256"),
            last_event(run_tool({"train", "m.nn", "--json", "--target", here}, folder_.path()))
                .at("weights_sha256"));
}

TEST_F(Compile, TheSameInputGivesTheSameBytes) {
  make({"-o", "one"});
  make({"-o", "two"});
  EXPECT_EQ(read_text(folder_.path("one")), read_text(folder_.path("two")));
  make({"-o", "one.a", "--emit", "lib"});
  make({"-o", "two.a", "--emit", "lib"});
  EXPECT_EQ(read_text(folder_.path("one.a")), read_text(folder_.path("two.a")));
}

TEST_F(Compile, InferenceAloneWithEmbeddedWeightsNeedsNothing) {
  ASSERT_EQ(run_tool({"train", "m.nn", "--save", "w.safetensors"}, folder_.path()).exit_code, kExitOk);
  make({"-o", "small", "--infer", "--static", "--strip", "--weights", "w.safetensors"});
  const Json eval = last_event(run({"small", "eval", "--json"}));
  EXPECT_EQ(eval.at("loss"),
            last_event(run_tool({"eval", "m.nn", "--weights", "w.safetensors", "--json"}, folder_.path()))
                .at("loss"));
  EXPECT_EQ(last_event(run({"small", "info", "--json"})).at("trains"), false);
  const ToolResult train = run({"small", "train"});
  EXPECT_EQ(train.exit_code, kExitUsage);
  EXPECT_NE(train.err.find("no command 'train'"), std::string::npos) << train.err;
  // No interpreter: nothing is loaded when it starts.
  const ToolResult headers =
      run_bare({"/usr/bin/env", "readelf", "-lW", "small"}, folder_.path(), {{"PATH", getenv("PATH")}});
  ASSERT_EQ(headers.exit_code, 0) << headers.err;
  EXPECT_NE(headers.out.find("LOAD"), std::string::npos);
  EXPECT_EQ(headers.out.find("INTERP"), std::string::npos) << headers.out;
}

TEST_F(Compile, StrippedTellsNothingOfModelFileAndMachine) {
  std::filesystem::create_directory(folder_.path("a_folder_of_mine"));
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  header.resize(117, ' ');
  const std::string npy =
      std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + '\n' + std::string(2 * 3 * 4, '\0');
  folder_.write("a_folder_of_mine/x.npy", npy);
  folder_.write("secret.nn",
                "# a remark of the model's author\n"
                "set place = \"\"\n"
                "data d = npy(batch=2) {\n    field x: f32[3] = place + \"/x.npy\"\n}\n"
                "model net(x: f32[3]) = dense(x, 1)\n"
                "train {\n    y = net(d.x)\n    loss mse(y, 0)\n    predict y\n    optimizer sgd(lr=0.1)\n   "
                " epochs 1\n}\n");
  const std::string place = folder_.path("a_folder_of_mine");
  const auto compile_as = [&](const std::string& output, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"compile",  "secret.nn", "--set", "place=" + place,
                                          "--target", "native",    "-o",    output};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ToolResult r = run_tool(arguments, folder_.path());
    ASSERT_EQ(r.exit_code, 0) << r.err;
  };
  compile_as("whole", {});
  compile_as("bare", {"--strip"});
  const std::string whole = read_text(folder_.path("whole")), bare = read_text(folder_.path("bare"));
  for (const std::string& told :
       {std::string("a remark of the model's author"), place, std::string("a_folder_of_mine")}) {
    EXPECT_NE(whole.find(told), std::string::npos) << told;
    EXPECT_EQ(bare.find(told), std::string::npos) << told;
  }
  const ToolResult source = run({"bare", "info", "--source"});
  EXPECT_EQ(source.exit_code, kExitRunFailed);
  EXPECT_NE(source.err.find("--strip"), std::string::npos) << source.err;
  EXPECT_EQ(run({"whole", "train"}).exit_code, 0);
  // The data are looked for where it runs, or where --data says.
  EXPECT_EQ(run({"bare", "train"}).exit_code, kExitDataError);
  folder_.write("x.npy", npy);
  const ToolResult train = run({"bare", "train", "--save", "w.safetensors"});
  EXPECT_EQ(train.exit_code, 0) << train.err;
}

TEST_F(Compile, PredictsImagesFromAFile) {
  make({"-o", "small", "--target", "native"});
  ASSERT_EQ(run({"small", "train", "--save", "w.safetensors"}).exit_code, kExitOk);
  // Two images of 784 bytes: NumPy's format, version 1.
  std::string header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 784), }";
  header.resize(117, ' ');
  header += '\n';
  folder_.write("images.npy",
                std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + std::string(2 * 784, '\x40'));
  const ToolResult r = run({"small", "predict", "images.npy", "--weights", "w.safetensors", "-o", "out.csv"});
  ASSERT_EQ(r.exit_code, kExitOk) << r.err;
  const auto rows = lines(read_text(folder_.path("out.csv")));
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[1], rows[2]);
}

// A loss that is not finite: where, and the command of the tool that finds the operation, which it does.
TEST_F(Compile, ALossThatIsNotFiniteSaysHowToFindOut) {
  std::string model = small_model("sgd(lr=0.1)");
  const std::string loss = "cross_entropy(logits, digits.label)";
  model.replace(model.find(loss), loss.size(), "sum(log(logits - shift), 0)");
  folder_.write("m.nn", "set shift = -50.0\n" + model);
  make({"-o", "small", "--target", "x86-64-v2", "--set", "shift=100"});
  const ToolResult r =
      run({"small", "train", "--seed", "4", "--data", "train=64", "--json", "--save", "it's.st"});
  EXPECT_EQ(r.exit_code, kExitCheckFailed);
  for (const char* part :
       {"not finite in step 1 (epoch 1, batch 1)", "it's.st was not written", " info --source > m.nn",
        "gradc train m.nn --target x86-64-v2 --set shift=100 --seed 4 "
        "--json --save 'it'\\''s.st'",
        "--data says: train=64"})
    EXPECT_NE(r.err.find(part), std::string::npos) << part << "\n" << r.err;
  const Json event = Json::parse(lines(r.out).back());
  EXPECT_EQ(event.at("event"), "not_finite");
  EXPECT_EQ(event.at("step"), 1);
  EXPECT_EQ(event.at("batch"), 1);
  EXPECT_NE(event.at("helps").at(0).get<std::string>().find("gradc train m.nn"), std::string::npos);
  folder_.write("m.nn", run({"small", "info", "--source"}).out);
  const ToolResult tool =
      run_tool({"train", "m.nn", "--target", "x86-64-v2", "--set", "shift=100", "--seed", "4", "--json"},
               folder_.path());
  EXPECT_EQ(tool.exit_code, kExitCheckFailed);
  const Json found = Json::parse(lines(tool.out).back());
  EXPECT_EQ(found.at("step"), 1);
  EXPECT_EQ(found.at("operation"), "log");
  EXPECT_EQ(found.at("line"), 8);
  EXPECT_EQ(found.at("result").at("nan"), 320);
  EXPECT_TRUE(found.at("result").at("low").is_null());
  EXPECT_LT(found.at("operands").at(0).at("high"), -90);
}

// The executable says what is wrong, as the tool does.
TEST_F(Compile, TheExecutableExplainsMistakes) {
  make({"-o", "small", "--target", "native"});
  const auto wrong = [&](const std::vector<std::string>& command, int code, const std::string& text) {
    const ToolResult r = run(command);
    EXPECT_EQ(r.exit_code, code) << r.err;
    EXPECT_NE(r.err.find(text), std::string::npos) << r.err;
  };
  wrong({"small", "tain"}, kExitUsage, "did you mean 'train'");
  wrong({"small", "train", "--epohcs", "2"}, kExitUsage, "did you mean '--epochs'");
  wrong({"small", "eval"}, kExitUsage, "--weights");
  wrong({"small", "train", "--data", "elsewhere"}, kExitUsage, "no option `path`");
  wrong({"small", "train", "--data", "trian=64"}, kExitUsage, "did you mean `train`");
  wrong({"small", "train", "--data", "train=many"}, kExitUsage, "whole number");
  wrong({"small", "eval", "--weights", "none.safetensors"}, kExitDataError, "none.safetensors");
  wrong({"small", "train", "--save", "none/w.safetensors"}, kExitRunFailed, "none/w.safetensors");
  EXPECT_EQ(last_event(run({"small", "train", "--json", "--epochs", "1", "--data", "train=64"})).at("steps"),
            2);
}

TEST_F(Compile, ACAndACxxProgramLinkTheLibrary) {
  make({"--emit", "c-api", "--target", "native", "-o", "libm_model.a"});
  folder_.write("program.c", kProgram);
  const std::map<std::string, std::string> path = {{"PATH", getenv("PATH")}};
  const std::vector<std::string> flags = {"-Wall", "-Wextra", "-Werror", "-pedantic"};
  const auto build = [&](std::vector<std::string> command, const std::vector<std::string>& more) {
    command.insert(command.end(), flags.begin(), flags.end());
    command.insert(command.end(), more.begin(), more.end());
    command.insert(command.begin(), "/usr/bin/env");
    const ToolResult r = run_bare(command, folder_.path(), path);
    ASSERT_EQ(r.exit_code, 0) << r.err;
  };
  build({"cc", "-std=c99"}, {"program.c", "libm_model.a", "-lstdc++", "-lm", "-pthread", "-o", "c"});
  EXPECT_EQ(run({"c"}).out, "done\n");
  build({"c++", "-x", "c++", "-std=c++20"},
        {"program.c", "-x", "none", "libm_model.a", "-pthread", "-o", "cxx"});
  EXPECT_EQ(run({"cxx"}).out, "done\n");
  // A shared library shows the interface and nothing else.
  make({"--emit", "lib", "--target", "native", "-o", "libshared.so"});
  build({"cc", "-std=c99"}, {"program.c", "./libshared.so", "-o", "shared"});
  EXPECT_EQ(run({"shared"}).out, "done\n");
  const ToolResult symbols =
      run_bare({"/usr/bin/env", "nm", "-D", "--defined-only", "libshared.so"}, folder_.path(), path);
  ASSERT_EQ(symbols.exit_code, 0) << symbols.err;
  for (const std::string& line : lines(symbols.out))
    EXPECT_TRUE(line.find(" gradc_") != std::string::npos || line.find(" m_image") != std::string::npos)
        << line;
  // One relocatable object, with the library of the runtime.
  make({"--emit", "obj", "--target", "native", "-o", "m.o"});
  EXPECT_EQ(read_text(folder_.path("m.o")).substr(0, 4),
            "\x7f"
            "ELF");
}

TEST_F(Compile, TextForPeople) {
  make({"--emit", "llvm", "--target", "x86-64-v3"});
  EXPECT_NE(read_text(folder_.path("m.ll")).find("define i32 @train_step"), std::string::npos);
  make({"--emit", "asm", "--target", "x86-64-v3", "-o", "text.s"});
  EXPECT_NE(read_text(folder_.path("text.s")).find("%ymm"), std::string::npos);
  make({"--emit", "header"});
  EXPECT_NE(read_text(folder_.path("m.h")).find("m_step("), std::string::npos);
}

TEST_F(Compile, ExplainsMistakesAndWritesNothing) {
  refuses({"--target", "x86-64-v9"}, kExitUsage, {"unknown target `x86-64-v9`", "x86-64-v3"});
  refuses({"--target", "native,native"}, kExitUsage, {"twice"});
  refuses({"--cpu", "zenver4"}, kExitUsage, {"unknown processor", "did you mean `znver4`"});
  refuses({"--cpu", "znver4", "--target", "native"}, kExitUsage, {"give one"});
  refuses({"--emit", "exec"}, kExitUsage, {"did you mean 'exe'"});
  refuses({"--emit", "obj", "--strip"}, kExitUsage, {"--strip"});
  refuses({"--emit", "asm", "--target", "x86-64-v2,x86-64-v3"}, kExitUsage, {"one target"});
  refuses({"-o", "none/m"}, kExitRunFailed, {"none/m"});
  refuses({"--stop-after", "cse"}, kExitUsage, {"whole pipeline"});
  refuses({}, kExitRunFailed, {"g++", "GRADC_LINKER"}, {{"PATH", "/none"}});
  refuses({}, kExitRunFailed, {"'none'"}, {{"GRADC_LINKER", "none"}});
  refuses({}, kExitRunFailed, {"failed"}, {{"GRADC_LINKER", "false"}});
  refuses({"--weights", "w.safetensors"}, kExitDataError, {"w.safetensors"});
  TemporaryFolder elsewhere;
  refuses({"--weights", elsewhere.write("w.safetensors", "not weights")}, kExitDataError, {"w.safetensors"});
}

}  // namespace
}  // namespace gradc::test::compile_test
