// `gradc reduce`: model files and IR get smaller and still show what they showed.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::reduce_test {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const char* const kFaulty =
    "# A file with one fault in it.\n"
    "set width = 64\n"
    "data digits = synthetic_digits(train=1000, test=200, batch=64)\n"
    "layer block(x, width) {\n"
    "    h = dense(x, width) |> relu\n"
    "    return h + dense(x, 32)\n"
    "}\n"
    "layer other(x) = x |> dense(20) |> tanh\n"
    "model net(image: f32[1, 28, 28]) {\n"
    "    h = image |> flatten |> other\n"
    "    for i in 0..3 as stack { h = h |> dense(width) |> relu |> dropout(0.1) }\n"
    "    h = block(h, width)\n"
    "    return h |> dense(10) as head\n"
    "}\n"
    "train {\n"
    "    logits    = net(digits.image)\n"
    "    loss      cross_entropy(logits, digits.label)\n"
    "    optimizer adamw(lr=1e-3)\n"
    "    schedule  warmup(100) then cosine\n"
    "}\n";

TEST(Reduce, AFileWithAnErrorKeepsTheError) {
  TemporaryFolder folder;
  folder.write("m.nn", kFaulty);
  const ToolResult r = run_tool({"reduce", "m.nn", "--error", "E0203", "--json"}, folder.path(), {}, 300);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(read_text(folder.path("m.nn")), kFaulty) << "the original is kept";
  const std::string small = read_text(folder.path("m.reduced.nn"));
  const auto record = nlohmann::json::parse(r.out);
  EXPECT_EQ(record.at("bytes_after"), small.size());
  EXPECT_LT(small.size(), std::string(kFaulty).size() * 3 / 5) << small;
  const ToolResult error = run_tool({"dump", "m.reduced.nn"}, folder.path());
  EXPECT_EQ(error.exit_code, kExitModelError);
  // The same fault, not another with the same code.
  EXPECT_TRUE(contains(error.err, "error[E0203]: these shapes do not add: ")) << error.err << small;
  EXPECT_FALSE(contains(small, "schedule")) << small;
  EXPECT_FALSE(contains(small, "dropout")) << small;
  // The same file, the same result.
  ASSERT_EQ(
      run_tool({"reduce", "m.nn", "--error", "E0203", "-o", "again.nn"}, folder.path(), {}, 300).exit_code,
      0);
  EXPECT_EQ(read_text(folder.path("again.nn")), small);
}

TEST(Reduce, ACommandDecides) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("momentum(lr=0.05)", "    schedule cosine\n"));
  const std::string script =
      folder.write("test.sh", "#!/bin/sh\n" GRADC_TOOL
                              " dump \"$2\" --stage ir > out.txt 2>&1 && grep -q einsum out.txt\n");
  chmod(script.c_str(), 0755);
  const ToolResult r =
      run_tool({"reduce", "m.nn", "-o", "small.nn", "--", script, "-x", "{}"}, folder.path(), {}, 300);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const std::string small = read_text(folder.path("small.nn"));
  EXPECT_LT(small.size(), small_model().size());
  EXPECT_TRUE(contains(small, "dense")) << small;
  EXPECT_FALSE(contains(small, "accuracy")) << small;
  EXPECT_FALSE(contains(small, "cosine")) << small;
  EXPECT_EQ(run_tool({"dump", "small.nn"}, folder.path()).exit_code, 0);
}

TEST(Reduce, IrLosesWhatIsNotNeeded) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("momentum(lr=0.05)"));
  ASSERT_EQ(run_tool({"dump", "m.nn", "--stage", "grad", "-o", "m.ir"}, folder.path()).exit_code, 0);
  const std::string script = folder.write("test.sh", "#!/bin/sh\nexec grep -q log_softmax \"$1\"\n");
  chmod(script.c_str(), 0755);
  const ToolResult r = run_tool({"reduce", "m.ir", "--", script}, folder.path(), {}, 300);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const std::string small = read_text(folder.path("m.reduced.ir"));
  EXPECT_TRUE(contains(small, "log_softmax"));
  EXPECT_LE(lines(small).size(), 8u) << small;
  EXPECT_EQ(run_tool({"opt", "m.reduced.ir"}, folder.path()).exit_code, 0) << small;
}

// A wrong gradient of one operator is found by the check: what uses it must stay, the rest may go.
TEST(Reduce, ACheckThatFails) {
  TemporaryFolder folder;
  std::string model = small_model("momentum(lr=0.05)", "    schedule cosine\n");
  model.replace(model.find("flatten |>"), 10, "flatten |> dense(12) |> relu |> dense(8) |> tanh |>");
  // What is left may be a few units: relus that are 0 on all rows checked would be another fault.
  for (size_t at; (at = model.find("relu")) != std::string::npos;) model.replace(at, 4, "softplus");
  // Without labels: with fewer than ten outputs these would be another fault.
  const std::string loss = "cross_entropy(logits, digits.label)";
  model.replace(model.find(loss), loss.size(), "sum(logits^2)");
  folder.write("m.nn", model);
  const std::vector<std::string> arguments = {"reduce", "m.nn", "--check", "--with=--break-gradient=tanh"};
  const ToolResult r = run_tool(arguments, folder.path(), {}, 300);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const std::string small = read_text(folder.path("m.reduced.nn"));
  EXPECT_TRUE(contains(small, "tanh")) << small;
  for (const char* gone : {"cosine", "metric", "dense(12)"})
    EXPECT_FALSE(contains(small, gone)) << gone << small;
  EXPECT_EQ(run_tool({"check", "m.reduced.nn", "--break-gradient=tanh"}, folder.path()).exit_code,
            kExitCheckFailed);
  EXPECT_EQ(run_tool({"check", "m.reduced.nn"}, folder.path()).exit_code, 0) << small;
}

// What is left fails where the original did: with one unit before it, a loss of one class has no gradient at
// all, and that is another fault.
TEST(Reduce, ACheckThatFailsInTheSameSectionAndParameter) {
  TemporaryFolder folder;
  folder.write("m.nn",
               "data d = random(shape=[6], train=80, test=40, batch=40)\n"
               "model net(image: f32[6]) {\n    h = image |> dense(8) |> tanh\n    return h |> dense(10)\n}\n"
               "train {\n    logits = net(d.image)\n    loss cross_entropy(logits, d.label)\n"
               "    optimizer sgd(lr=0.01)\n}\n");
  const std::vector<std::string> arguments = {"reduce", "m.nn", "--check", "--with=--break-gradient=tanh"};
  const ToolResult r = run_tool(arguments, folder.path(), {}, 300);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const ToolResult check =
      run_tool({"check", "m.reduced.nn", "--break-gradient=tanh", "--json"}, folder.path(), {}, 300);
  EXPECT_EQ(check.exit_code, kExitCheckFailed);
  bool same = false;
  for (const std::string& line : lines(check.out)) {
    const auto event = nlohmann::json::parse(line);
    if (event.at("event") == "comparison" && !event.at("pass"))
      same = same || (event.at("kind") == "numeric" && contains(event.at("name"), "dense_1."));
  }
  EXPECT_TRUE(same) << check.out << read_text(folder.path("m.reduced.nn"));
  EXPECT_EQ(run_tool({"check", "m.reduced.nn"}, folder.path()).exit_code, 0);
}

// A tool that is brought down, or that gives up with the code of an internal error, where it compiles a
// certain word: a library that is loaded with it reads the file first.
class CrashOf : public testing::TestWithParam<const char*> {};

TEST_P(CrashOf, IsKeptWhileTheRestGoes) {
  TemporaryFolder folder;
  folder.write("crash.c",
               "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"
               "__attribute__((constructor)) static void crash(int argc, char** argv) {\n"
               "  char text[65536] = \"\";\n"
               "  FILE* file = argc > 2 && strcmp(argv[1], \"dump\") == 0 ? fopen(argv[2], \"r\") : NULL;\n"
               "  if (file && fread(text, 1, sizeof text - 1, file) > 0 && strstr(text, \"tanh\")) " +
                   std::string(GetParam()) +
                   ";\n"
                   "  if (file) fclose(file);\n}\n");
  const std::map<std::string, std::string> path = {{"PATH", getenv("PATH")}};
  const ToolResult made =
      run_bare({"/usr/bin/env", "cc", "-shared", "-fPIC", "crash.c", "-o", "crash.so"}, folder.path(), path);
  ASSERT_EQ(made.exit_code, 0) << made.err;
  folder.write("m.nn", kFaulty);
  const ToolResult r = run_tool({"reduce", "m.nn", "--crash", "--json"}, folder.path(), {}, 300,
                                {{"LD_PRELOAD", folder.path("crash.so")}});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const std::string small = read_text(folder.path("m.reduced.nn"));
  EXPECT_TRUE(contains(small, "tanh")) << small;
  EXPECT_LT(small.size(), std::string(kFaulty).size() / 4) << small;
  for (const char* gone : {"relu", "schedule", "block"}) EXPECT_FALSE(contains(small, gone)) << gone << small;
  EXPECT_EQ(nlohmann::json::parse(r.out).at("bytes_after"), small.size());
}
INSTANTIATE_TEST_SUITE_P(Driver, CrashOf, testing::Values("abort()", "_exit(70)"),
                         [](const auto& info) { return info.index == 0 ? "Signal" : "InternalError"; });

TEST(Reduce, SaysWhatIsWrong) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  folder.write("m.ir", "func @f(%x: f32) {\n  %1 = neg %x : f32\n  return y=%1\n}\n");
  const auto expect = [&](const std::vector<std::string>& arguments, int code, const std::string& part) {
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, code) << part << r.err;
    EXPECT_TRUE(contains(r.err, part)) << r.err;
  };
  expect({"reduce", "m.nn"}, kExitUsage, "say what there is to look for");
  expect({"reduce", "m.nn", "--check", "--crash"}, kExitUsage, "one thing is to look for");
  expect({"reduce", "m.nn", "--error", "E0999"}, kExitUsage, "no error code 'E0999'");
  expect({"reduce", "m.ir", "--check"}, kExitUsage, "look at model files");
  expect({"reduce", "missing.nn", "--crash"}, kExitUsage, "missing.nn");
  expect({"reduce", "m.nn", "-o", "./m.nn", "--crash"}, kExitUsage, "the original is kept");
  expect({"reduce", "m.nn", "--", "/no/such/command"}, kExitUsage, "cannot run '/no/such/command'");
  expect({"reduce", "m.nn", "--with=--seed=2", "--", "true"}, kExitUsage, "a command has its own arguments");
  expect({"reduce", "m.nn", "--crash"}, kExitRunFailed, "does not show an internal error or a crash");
  expect({"reduce", "m.nn", "--check"}, kExitRunFailed, "does not show a check that fails");
  expect({"reduce", "m.nn", "--timeout", "0.2", "--", "sh", "-c", "sleep 5"}, kExitRunFailed,
         "took longer than 0.2 s");
  EXPECT_FALSE(std::filesystem::exists(folder.path("m.reduced.nn")));
}

}  // namespace
}  // namespace gradc::test::reduce_test
