// A program of another project: gradc is installed into a prefix of its own, the examples are built from it
// with CMake and with pkg-config, in an empty environment, and run.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "gradc/version.h"
#include "tests/cli/tool.h"

namespace gradc::test::consumer_test {
namespace {

namespace fs = std::filesystem;
const std::map<std::string, std::string> kPath = {{"PATH", getenv("PATH")}};

// The install tree is made once, and moved before it is used: nothing may remember where it was.
class Consumer : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    tree_ = new TemporaryFolder;
    const ToolResult r =
        run_bare({GRADC_CMAKE, "--install", GRADC_BUILD_DIR, "--prefix", tree_->path("first")});
    ASSERT_EQ(r.exit_code, 0) << r.out << r.err;
    fs::rename(tree_->path("first"), tree_->path("moved"));
  }
  static void TearDownTestSuite() {
    delete tree_;
    tree_ = nullptr;
  }

  void SetUp() override {
    if (GRADC_SANITIZED) GTEST_SKIP() << "a library with sanitizers is for programs that have them";
  }

  static std::string prefix(const std::string& name = {}) {
    return tree_->path("moved") + (name.empty() ? "" : "/" + name);
  }
  // The one file of that name below the prefix.
  static std::string find(const std::string& name) {
    for (const auto& entry : fs::recursive_directory_iterator(prefix()))
      if (entry.path().filename() == name) return entry.path().string();
    ADD_FAILURE() << name << " is not installed";
    return "";
  }
  static std::string folder_of(const std::string& name) {
    return fs::path(find(name)).parent_path().string();
  }

  static ToolResult run(std::vector<std::string> command, const std::string& folder = {},
                        std::map<std::string, std::string> variables = kPath) {
    if (command[0].find('/') == std::string::npos) command.insert(command.begin(), "/usr/bin/env");
    return run_bare(command, folder, variables, 300);
  }
  static void succeeds(const std::vector<std::string>& command, const std::string& folder = {}) {
    const ToolResult r = run(command, folder);
    ASSERT_EQ(r.exit_code, 0) << r.out << r.err;
  }

  // Configures and builds an installed example; returns its program.
  std::string build(const std::string& example) {
    const std::string source = prefix("share/gradc/examples/embed/" + example), folder = work_.path(example);
    const ToolResult configured =
        run({GRADC_CMAKE, "-S", source, "-B", folder, "-DCMAKE_PREFIX_PATH=" + prefix(),
             "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror"});
    EXPECT_EQ(configured.exit_code, 0) << configured.out << configured.err;
    const ToolResult built = run({GRADC_CMAKE, "--build", folder});
    EXPECT_EQ(built.exit_code, 0) << built.out << built.err;
    return folder + "/" + example;
  }

  // What pkg-config says, as words.
  static std::vector<std::string> pkg_config(const std::string& what) {
    const ToolResult r = run({"pkg-config", what, "gradc"}, {},
                             {{"PATH", getenv("PATH")}, {"PKG_CONFIG_PATH", folder_of("gradc.pc")}});
    EXPECT_EQ(r.exit_code, 0) << r.err;
    std::istringstream in(r.out);
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    return words;
  }
  static bool has_pkg_config() { return run({"pkg-config", "--version"}).exit_code == 0; }

  TemporaryFolder work_;
  static TemporaryFolder* tree_;
};
TemporaryFolder* Consumer::tree_ = nullptr;

// The block of code that follows a line of the manual.
std::string code_after(const std::string& line, const std::string& manual) {
  std::istringstream in(manual.substr(manual.find(line) + line.size()));
  std::string code;
  for (std::string text; std::getline(in, text);) {
    if (text.starts_with("    "))
      code += text.substr(4) + "\n";
    else if (text.empty())
      code += "\n";
    else
      break;
  }
  return code;
}

TEST_F(Consumer, TheManualsFirstProgram) {
  const std::string manual = read_text(find("embed.md"));
  work_.write("CMakeLists.txt", code_after("`CMakeLists.txt`:\n", manual));
  work_.write("main.cpp", code_after("`main.cpp`:\n", manual));
  succeeds({GRADC_CMAKE, "-S", work_.path(), "-B", work_.path("build"), "-DCMAKE_PREFIX_PATH=" + prefix()});
  succeeds({GRADC_CMAKE, "--build", work_.path("build")});
  const ToolResult r = run({work_.path("build/first")});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(r.out.substr(0, 8), "loss 0.0") << r.out;
  EXPECT_NE(manual.find("build/first\n    " + r.out), std::string::npos) << r.out;
}

TEST_F(Consumer, TheCxxLoopLearns) {
  const ToolResult r = run({build("cpp_loop")}, work_.path());
  EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
  std::vector<double> losses;
  const std::regex line(R"(step \d+  loss ([0-9.]+))");
  for (auto it = std::sregex_iterator(r.out.begin(), r.out.end(), line); it != std::sregex_iterator(); ++it)
    losses.push_back(std::stod((*it)[1]));
  ASSERT_EQ(losses.size(), 4u) << r.out;
  EXPECT_LT(losses.back(), 0.5 * losses.front());
  EXPECT_TRUE(fs::exists(work_.path("spirals.safetensors")));
}

TEST_F(Consumer, TheServiceLearnsOnline) {
  const std::string program = build("online");
  const std::string model = prefix("share/gradc/examples/embed/online/price.nn");
  // y = x1 + 2 x2 - x3, with x4 of no use.
  std::string requests = "predict 1 1 1 1\n";
  for (int i = 0; i < 800; ++i) {
    const double x[] = {i % 7 / 7.0, i % 5 / 5.0, i % 3 / 3.0, i % 2 / 2.0};
    requests += "learn";
    for (const double value : x) requests += " " + std::to_string(value);
    requests += " " + std::to_string(x[0] + 2 * x[1] - x[2]) + "\n";
  }
  requests +=
      "predict 0.5 0.5 0.5 0.5\nsave w.safetensors\nlearn 1 2\nforget\nload none\nrate -1\nload "
      "w.safetensors\n"
      "predict 0.5 0.5 0.5 0.5\n";
  work_.write("requests.txt", requests);
  const ToolResult r =
      run({"/bin/sh", "-c", "'" + program + "' '" + model + "' < requests.txt"}, work_.path());
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const auto answers = lines(r.out);
  ASSERT_EQ(answers.size(), 809u);
  const auto number = [&](size_t i) { return std::stod(answers[i].substr(answers[i].find(' '))); };
  double early = 0, late = 0;
  for (size_t i = 1; i <= 50; ++i) early += number(i), late += number(750 + i);
  EXPECT_LT(late, 0.05 * early);
  EXPECT_NEAR(number(801), 1.0, 0.1) << answers[801];
  EXPECT_EQ(answers[802], "ok");
  EXPECT_NE(answers[803].find("expected 5 numbers"), std::string::npos) << answers[803];
  EXPECT_NE(answers[804].find("requests are"), std::string::npos) << answers[804];
  EXPECT_NE(answers[805].find("none"), std::string::npos) << answers[805];
  EXPECT_NE(answers[806].find("expected a number from 0"), std::string::npos) << answers[806];
  EXPECT_EQ(answers[807], "ok");
  EXPECT_EQ(answers[808], answers[801]);
}

TEST_F(Consumer, TheCProgramLearnsAndExplains) {
  const std::string program = build("c_api");
  const ToolResult r = run({program}, work_.path());
  EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
  EXPECT_NE(r.out.find("epoch 15/15"), std::string::npos) << r.out;
  work_.write("wrong.nn", "model m(x: f32[2]) = x |> desne(3)\n");
  const ToolResult wrong = run({program, "wrong.nn"}, work_.path());
  EXPECT_EQ(wrong.exit_code, 3);
  EXPECT_NE(wrong.err.find("wrong.nn:1:27: E0201"), std::string::npos) << wrong.err;
  EXPECT_NE(wrong.err.find("dense"), std::string::npos) << wrong.err;
  const ToolResult none = run({program, "none.nn"}, work_.path());
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_NE(none.err.find("no model file 'none.nn'"), std::string::npos) << none.err;
}

// pkg-config's flags alone build the same programs, as C99 and C++20 with all warnings.
TEST_F(Consumer, PkgConfig) {
  if (!has_pkg_config()) GTEST_SKIP() << "pkg-config is not installed";
  EXPECT_EQ(pkg_config("--modversion"), std::vector<std::string>{GRADC_VERSION});
  const auto build_with = [&](std::vector<std::string> command, const std::string& source,
                              const std::string& name) {
    for (const char* flag : {"-Wall", "-Wextra", "-Werror", "-pedantic", "-o"}) command.emplace_back(flag);
    command.push_back(work_.path(name));
    command.push_back(prefix("share/gradc/examples/embed/" + source));
    for (const char* what : {"--cflags", "--libs"})
      for (const std::string& word : pkg_config(what)) command.push_back(word);
    command.push_back("-Wl,-rpath," + folder_of("libgradc.so"));
    succeeds(command);
    const ToolResult r = run({work_.path(name)}, work_.path());
    EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
  };
  build_with({"cc", "-std=c99"}, "c_api/main.c", "c");
  build_with({"c++", "-std=c++20"}, "cpp_loop/main.cpp", "cpp");
}

// The library shows the functions that its headers declare, all of them and nothing else.
TEST_F(Consumer, ShowsItsInterfaceAlone) {
  std::set<std::string> declared, shown;
  const std::regex function(R"(GRADC_API[^;(]*?(gradc_[a-z_]+)\()");
  for (const char* header : {"session.h", "gradc.h"}) {
    const std::string text = read_text(prefix("include/gradc/") + header);
    for (auto it = std::sregex_iterator(text.begin(), text.end(), function); it != std::sregex_iterator();
         ++it)
      declared.insert((*it)[1]);
  }
  const ToolResult symbols = run({"nm", "-D", "--defined-only", find("libgradc.so")});
  ASSERT_EQ(symbols.exit_code, 0) << symbols.err;
  for (const std::string& line : lines(symbols.out)) shown.insert(line.substr(line.rfind(' ') + 1));
  EXPECT_EQ(shown, declared);
  EXPECT_GT(declared.size(), 30u);
  const ToolResult dynamic = run({"readelf", "-d", find("libgradc.so")});
  EXPECT_NE(dynamic.out.find("soname: [libgradc.so." + std::to_string(GRADC_VERSION_MAJOR) + "]"),
            std::string::npos)
      << dynamic.out;
}

// A plug-in is loaded without showing its symbols, by a program that has no math library.
TEST_F(Consumer, IsLoadedAsAPlugIn) {
  work_.write("plugin.c", R"(
#include <dlfcn.h>
#include <stdio.h>
#include "gradc/gradc.h"
static const char* const text =
    "data d = arrays() { field x: f32[3]; field y: f32[1] }\n"
    "model m(x: f32[3]) = x |> dense(1)\n"
    "train { y = m(d.x)\n loss mse(y, d.y)\n predict y\n optimizer adamw(lr=0.01)\n schedule cosine\n seed 1 }\n";
int main(int argc, char** argv) {
  void* library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  gradc_status (*compile)(const char*, const char*, const gradc_compile_options*, gradc_model**, gradc_diagnostics**);
  gradc_status (*create)(const gradc_model*, int32_t, gradc_session**);
  gradc_status (*step)(gradc_session*, const void* const*, int64_t, gradc_result*);
  const char* (*error)(void);
  static const float x[12], y[4] = {1, 1, 1, 1};
  const void* inputs[] = {x, y};
  gradc_model* model;
  gradc_session* session;
  gradc_result result;
  if (!library) return printf("%s\n", dlerror()), 1;
  *(void**)&compile = dlsym(library, "gradc_model_compile_string");
  *(void**)&create = dlsym(library, "gradc_session_create_from_model");
  *(void**)&step = dlsym(library, "gradc_session_step");
  *(void**)&error = dlsym(library, "gradc_last_error");
  if (compile(text, "m.nn", NULL, &model, NULL) || create(model, 1, &session) || step(session, inputs, 4, &result))
    return printf("%s\n", error()), 1;
  printf("loss %g lr %g\n", result.loss, result.lr);
  dlclose(library);
  return 0;
}
)");
  succeeds({"cc", "-std=gnu99", "-I" + prefix("include"), "-o", work_.path("plugin"), work_.path("plugin.c"),
            "-ldl"});
  const ToolResult r = run({work_.path("plugin"), find("libgradc.so")});
  EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
  EXPECT_EQ(r.out.substr(0, 6), "loss 1") << r.out;
}

// The installed tool is whole: it compiles executables, and objects that the library runs.
TEST_F(Consumer, TheToolCompilesFromThePrefix) {
  EXPECT_EQ(run({prefix("bin/gradc"), "--version"}).out, std::string("gradc ") + GRADC_VERSION + "\n");
  const std::map<std::string, std::string> variables = {{"PATH", getenv("PATH")}, {"GRADC_CACHE", "off"}};
  work_.write("m.nn", small_model("adam(lr=0.01)"));
  const ToolResult made = run({prefix("bin/gradc"), "compile", "m.nn", "--target", "native", "-o", "small"},
                              work_.path(), variables);
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const ToolResult trained = run({work_.path("small"), "train", "--json"}, work_.path());
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  const ToolResult object =
      run({prefix("bin/gradc"), "compile", "m.nn", "--target", "native", "--emit", "obj", "-o", "m.o"},
          work_.path(), variables);
  ASSERT_EQ(object.exit_code, 0) << object.err;
  const ToolResult header =
      run({prefix("bin/gradc"), "compile", "m.nn", "--target", "native", "--emit", "header"}, work_.path(),
          variables);
  ASSERT_EQ(header.exit_code, 0) << header.err;
  // Both kinds of models in one program: compiled before, and now; and two threads of them.
  work_.write("both.cpp", R"(
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>
#include "m.h"
#include "gradc/gradc.hpp"
int main() {
  std::ostringstream text;
  text << std::ifstream("m.nn").rdbuf();
  std::string before, now;
  std::thread thread([&] { before = gradc::Session(m_image, 1).train().weights_sha256; });
  now = gradc::Session(gradc::Model::from_string(text.str(), "m.nn"), 2).train().weights_sha256;
  thread.join();
  std::cout << before << "\n" << now << "\n";
}
)");
  const std::string libraries = folder_of("libgradc.so");
  succeeds({"c++", "-std=c++20", "-Wall", "-Wextra", "-Werror", "-I" + prefix("include"), "both.cpp", "m.o",
            "-o", "both", "-L" + libraries, "-lgradc", "-Wl,-rpath," + libraries, "-pthread"},
           work_.path());
  const ToolResult both = run({work_.path("both")}, work_.path());
  ASSERT_EQ(both.exit_code, 0) << both.err;
  const std::string sha = nlohmann::json::parse(lines(trained.out).back()).at("weights_sha256");
  EXPECT_EQ(both.out, sha + "\n" + sha + "\n");
}

TEST_F(Consumer, BringsManualAndExamples) {
  EXPECT_NE(read_text(find("embed.md")).find("find_package(gradc"), std::string::npos);
  EXPECT_NE(find("README.md"), "");
  EXPECT_NE(find("synthetic.nn"), "");
  EXPECT_NE(find("price.nn"), "");
  // A project that asks for another version is told so.
  work_.write(
      "CMakeLists.txt",
      "cmake_minimum_required(VERSION 3.16)\nproject(p LANGUAGES CXX)\nfind_package(gradc 99.0 REQUIRED)\n");
  const ToolResult r =
      run({GRADC_CMAKE, "-S", work_.path(), "-B", work_.path("build"), "-DCMAKE_PREFIX_PATH=" + prefix()});
  EXPECT_NE(r.exit_code, 0);
  EXPECT_NE(r.err.find(GRADC_VERSION), std::string::npos) << r.err;
}

}  // namespace
}  // namespace gradc::test::consumer_test
