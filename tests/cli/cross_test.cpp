// `gradc compile --target aarch64` on a machine of another architecture: what it makes runs under QEMU, where
// that, a cross compiler and the runtime for aarch64 (./dev build --cross) are installed.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/compiled_model.h"
#include "tests/cli/emulator.h"

namespace gradc::test::cross_test {
namespace {

using Json = nlohmann::json;

std::string missing_to_link() {
  if (std::string missing = missing_for_aarch64(); !missing.empty()) return missing;
  const auto build = std::filesystem::path(GRADC_TOOL).parent_path().parent_path();
  if (!std::filesystem::exists(build / "lib/gradc/aarch64-linux-gnu/libgradc_standalone.a"))
    return "the runtime for aarch64 was not built (./dev build --cross)";
  return "";
}

#define SKIP_UNLESS_IT_LINKS() \
  if (const std::string missing = missing_to_link(); !missing.empty()) GTEST_SKIP() << missing

class Cross : public ::testing::Test {
 protected:
  void SetUp() override {
#if defined(__aarch64__)
    GTEST_SKIP() << "this machine is aarch64 itself";
#endif
    folder_.write("m.nn", model_to_compile());
  }

  ToolResult tool(const std::vector<std::string>& arguments) { return run_tool(arguments, folder_.path()); }
  void make(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"compile", "m.nn"});
    const ToolResult r = tool(arguments);
    ASSERT_EQ(r.exit_code, kExitOk) << r.err;
  }
  ToolResult run(std::vector<std::string> command, const std::string& cpu = {}) {
    command[0] = "./" + command[0];
    return run_aarch64(command, folder_.path(), cpu);
  }
  static Json last_event(const ToolResult& r) {
    EXPECT_EQ(r.exit_code, kExitOk) << r.err;
    const auto all = lines(r.out);
    return all.empty() ? Json() : Json::parse(all.back());
  }
  // The ELF header's machine: 183 is AArch64.
  int machine_of(const std::string& file) {
    const std::string bytes = read_text(folder_.path(file));
    return bytes.size() < 20 || bytes.substr(1, 3) != "ELF" ? -1 : static_cast<unsigned char>(bytes[18]);
  }
  // Equal as f32 sums in another order are. x86-64-v3 has FMA too: without, results are further apart.
  static void expect_near(const Json& a, const Json& b, const char* what) {
    const double x = a.at(what), y = b.at(what);
    EXPECT_NEAR(x, y, 1e-4 * std::fabs(y)) << what;
  }

  TemporaryFolder folder_;
};

TEST_F(Cross, TextAndPlansNeedNoOtherMachine) {
  make({"--target", "aarch64", "--emit", "asm"});
  EXPECT_NE(read_text(folder_.path("m.s")).find("\tfmla\tv"), std::string::npos);
  make({"--target", "aarch64", "--emit", "llvm"});
  EXPECT_NE(read_text(folder_.path("m.ll")).find("target triple = \"aarch64"), std::string::npos);
  make({"--cpu", "cortex-a72", "--emit", "llvm", "-o", "a72.ll"});
  EXPECT_NE(read_text(folder_.path("a72.ll")).find("\"target-cpu\"=\"cortex-a72\""), std::string::npos);
  const ToolResult dump = tool({"dump", "m.nn", "--target", "aarch64", "--stage", "asm"});
  EXPECT_EQ(dump.exit_code, kExitOk) << dump.err;
  EXPECT_NE(dump.out.find("\tfmla\tv"), std::string::npos);
  const ToolResult plan = tool({"plan", "m.nn", "--target", "aarch64"});
  EXPECT_EQ(plan.exit_code, kExitOk) << plan.err;
  EXPECT_NE(plan.out.find("target aarch64 (generic)"), std::string::npos) << plan.out;
}

TEST_F(Cross, ExplainsMistakes) {
  const auto refuses = [&](const std::vector<std::string>& arguments, int code,
                           const std::vector<std::string>& texts) {
    const ToolResult r = tool(arguments);
    EXPECT_EQ(r.exit_code, code) << r.err;
    for (const std::string& text : texts)
      EXPECT_NE(r.err.find(text), std::string::npos) << text << "\n" << r.err;
    EXPECT_EQ(folder_.files().size(), 1u) << "something was written";
  };
  refuses({"compile", "m.nn", "--target", "x86-64-v3,aarch64"}, kExitUsage,
          {"one architecture", "`x86-64-v3` is x86-64", "`aarch64` is aarch64", "compile once for each"});
  refuses({"train", "m.nn", "--target", "aarch64"}, kExitUsage,
          {"cannot run here", "gradc compile MODEL --target aarch64"});
  refuses({"compile", "m.nn", "--cpu", "neoverse-n11"}, kExitUsage,
          {"unknown processor `neoverse-n11`", "did you mean `neoverse-n1`"});
}

// A tool copied by itself has no runtime beside it, and nothing in the PATH links.
TEST_F(Cross, SaysWhatIsMissing) {
  const TemporaryFolder elsewhere;
  std::filesystem::create_directory(elsewhere.path("bin"));
  std::filesystem::copy_file(GRADC_TOOL, elsewhere.path("bin/gradc"));
  const auto compile = [&](const std::string& emit) {
    return run_bare({elsewhere.path("bin/gradc"), "compile", "m.nn", "--target", "aarch64", "--emit", emit},
                    folder_.path(), {{"PATH", "/none"}, {"GRADC_CACHE", "off"}});
  };
  const ToolResult library = compile("lib"), object = compile("obj");
  EXPECT_EQ(library.exit_code, kExitRunFailed);
  EXPECT_NE(library.err.find("lib/gradc/aarch64-linux-gnu/libgradc_standalone.a"), std::string::npos)
      << library.err;
  EXPECT_NE(library.err.find("./dev build --cross"), std::string::npos) << library.err;
  EXPECT_EQ(object.exit_code, kExitRunFailed);
  EXPECT_NE(object.err.find("no aarch64-linux-gnu-g++ is in the PATH"), std::string::npos) << object.err;
  EXPECT_NE(object.err.find("Debian: g++-aarch64-linux-gnu"), std::string::npos) << object.err;
  EXPECT_EQ(folder_.files().size(), 1u) << "something was written";
}

TEST_F(Cross, AnExecutableTrainsToTheSameBitsOnAnyThreads) {
  SKIP_UNLESS_IT_LINKS();
  make({"--target", "aarch64", "-o", "arm"});
  EXPECT_EQ(machine_of("arm"), 183);
  const std::vector<std::string> command = {"arm", "train",  "--json",       "--threads",
                                            "1",   "--save", "w.safetensors"};
  const Json one = last_event(run(command));
  const Json again = last_event(run(command));
  for (const char* what : {"weights_sha256", "train_loss", "test_loss"})
    EXPECT_EQ(again.at(what), one.at(what)) << "not the same twice";
  for (const char* threads : {"2", "3"})
    EXPECT_EQ(last_event(run({"arm", "train", "--json", "--threads", threads})).at("weights_sha256"),
              one.at("weights_sha256"))
        << threads << " threads";
  // What was trained there predicts the same here.
  const Json eval = last_event(run({"arm", "eval", "--json", "--weights", "w.safetensors"}));
  EXPECT_EQ(eval.at("loss"), one.at("test_loss"));
  expect_near(last_event(tool({"eval", "m.nn", "--json", "--weights", "w.safetensors"})), eval, "loss");
  const Json info = last_event(run({"arm", "info", "--json"}));
  EXPECT_EQ(info.at("target"), "aarch64");
}

// SGD, since Adam's first steps make gradients that are nothing but rounding as large as any other.
TEST_F(Cross, ConvolutionsTrainAsOnX86) {
  SKIP_UNLESS_IT_LINKS();
  std::string model = small_model("sgd(lr=0.1)");
  model.replace(model.find("flatten |>"), 10,
                "conv2d(8, 3, padding=1) |> batchnorm |> relu |> max_pool(2) |> conv2d(16, 3, padding=1) |> "
                "tanh |> avg_pool(2) |> flatten |> dropout(0.2) |>");
  folder_.write("m.nn", model);
  make({"--target", "aarch64", "-o", "arm", "--static", "--strip"});
  const Json there = last_event(run({"arm", "train", "--json"}));
  const Json here = last_event(tool({"train", "m.nn", "--json", "--target", "x86-64-v3"}));
  for (const char* what : {"train_loss", "test_loss"}) expect_near(there, here, what);
  EXPECT_NE(there.at("weights_sha256"), here.at("weights_sha256")) << "was it made for x86?";
}

TEST_F(Cross, ACProgramLinksTheLibrary) {
  SKIP_UNLESS_IT_LINKS();
  folder_.write("program.c", kProgram);
  const auto build = [&](std::vector<std::string> more) {
    more.insert(more.begin(),
                {"/usr/bin/env", aarch64_compiler(), "-std=c99", "-Wall", "-Wextra", "-Werror", "program.c"});
    const ToolResult r = run_bare(more, folder_.path(), {{"PATH", getenv("PATH")}});
    ASSERT_EQ(r.exit_code, 0) << r.err;
  };
  make({"--emit", "c-api", "--target", "aarch64", "-o", "libm_model.a"});
  build({"libm_model.a", "-lstdc++", "-lm", "-pthread", "-o", "archive"});
  EXPECT_EQ(run({"archive"}).out, "done\n");
  make({"--emit", "lib", "--target", "aarch64", "-o", "libshared.so"});
  EXPECT_EQ(machine_of("libshared.so"), 183);
  build({"./libshared.so", "-o", "shared"});
  EXPECT_EQ(run({"shared"}).out, "done\n");
  make({"--emit", "obj", "--target", "aarch64", "-o", "m.o"});
  EXPECT_EQ(machine_of("m.o"), 183);
}

// Code for a processor with SVE, on one without.
TEST_F(Cross, TheExecutableSaysWhatTheProcessorLacks) {
  SKIP_UNLESS_IT_LINKS();
  make({"--cpu", "neoverse-v1", "-o", "arm"});
  EXPECT_EQ(run({"arm", "info"}).exit_code, kExitOk) << "with all that QEMU knows";
  const ToolResult r = run({"arm", "info"}, "cortex-a72");
  EXPECT_EQ(r.exit_code, kExitRunFailed);
  EXPECT_NE(r.err.find("this processor runs none of the targets compiled in: neoverse-v1 (needs "),
            std::string::npos)
      << r.err;
  make({"--cpu", "cortex-a72", "-o", "arm"});
  EXPECT_EQ(run({"arm", "info"}, "cortex-a72").exit_code, kExitOk);
}

}  // namespace
}  // namespace gradc::test::cross_test
