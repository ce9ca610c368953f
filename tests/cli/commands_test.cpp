// What the commands do when all is well: training, saving, evaluating, predicting, dumping and checking,
// through the real tool.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::commands_test {
namespace {

using Json = nlohmann::json;

std::vector<Json> events(const ToolResult& r) {
  std::vector<Json> result;
  for (const std::string& line : lines(r.out)) result.push_back(Json::parse(line));
  return result;
}

TEST(Train, JsonEventsAndSameBitsForAnyThreads) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("adam(lr=0.01)"));
  std::string sha;
  for (const char* threads : {"1", "2", "3", "2"}) {
    const ToolResult r =
        run_tool({"train", "m.nn", "--json", "--threads", threads, "--log-every", "4"}, folder.path());
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const std::vector<Json> all = events(r);
    int steps = 0, epochs = 0;
    for (const Json& e : all) {
      steps += e.at("event") == "step";
      epochs += e.at("event") == "epoch";
    }
    EXPECT_EQ(steps, 4);  // 16 updates
    EXPECT_EQ(epochs, 2);
    const Json& end = all.back();
    EXPECT_EQ(end.at("event"), "end");
    EXPECT_EQ(end.at("steps"), 16);
    EXPECT_GT(end.at("test_accuracy").get<double>(), 0.3);
    EXPECT_LT(end.at("train_loss").get<double>(), 2.2);
    if (sha.empty()) sha = end.at("weights_sha256");
    EXPECT_EQ(end.at("weights_sha256"), sha) << threads << " threads";
  }
  const ToolResult other = run_tool({"train", "m.nn", "--json", "--seed", "2"}, folder.path());
  EXPECT_NE(events(other).back().at("weights_sha256"), sha);
}

TEST(Train, InitialLossIsLogOfClasses) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const std::vector<Json> all =
      events(run_tool({"train", "m.nn", "--json", "--steps", "1", "--log-every", "1"}, folder.path()));
  EXPECT_NEAR(all.at(0).at("loss").get<double>(), std::log(10.0), 0.1);
}

TEST(Train, SavedWeightsEvaluateAndContinue) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const Json end =
      events(run_tool({"train", "m.nn", "--json", "--save", "w.safetensors"}, folder.path())).back();
  const ToolResult eval = run_tool({"eval", "m.nn", "--weights", "w.safetensors", "--json"}, folder.path());
  ASSERT_EQ(eval.exit_code, 0) << eval.err;
  const Json result = events(eval).back();
  EXPECT_EQ(result.at("examples"), 96);
  EXPECT_EQ(result.at("loss"), end.at("test_loss"));
  EXPECT_EQ(result.at("accuracy"), end.at("test_accuracy"));
  // No update: the weights are those of the file.
  const Json same =
      events(run_tool({"train", "m.nn", "--json", "--steps", "0", "--init-from", "w.safetensors"},
                      folder.path()))
          .back();
  EXPECT_EQ(same.at("weights_sha256"), end.at("weights_sha256"));
  EXPECT_NE(run_tool({"eval", "m.nn", "--weights", "w.safetensors"}, folder.path()).out.find("accuracy"),
            std::string::npos);
}

TEST(Predict, GivesOneDistributionAnExample) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  ASSERT_EQ(run_tool({"train", "m.nn", "--save", "w.safetensors"}, folder.path()).exit_code, 0);
  const ToolResult json =
      run_tool({"predict", "m.nn", "--weights", "w.safetensors", "--json"}, folder.path());
  ASSERT_EQ(json.exit_code, 0) << json.err;
  const std::vector<Json> rows = events(json);
  ASSERT_EQ(rows.size(), 96u);
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].at("row"), i);
    double sum = 0;
    for (const double p : rows[i].at("predict")) sum += p;
    EXPECT_NEAR(sum, 1, 1e-5);
  }
  // The same numbers as text on stdout and in a file.
  const ToolResult text =
      run_tool({"predict", "m.nn", "--weights", "w.safetensors", "--rows", "5"}, folder.path());
  ASSERT_EQ(lines(text.out).size(), 5u) << text.err;
  ASSERT_EQ(run_tool({"predict", "m.nn", "--weights", "w.safetensors", "--output", "p.csv"}, folder.path())
                .exit_code,
            0);
  const std::vector<std::string> csv = lines(read_text(folder.path("p.csv")));
  ASSERT_EQ(csv.size(), 97u);  // with a heading
  std::string from_csv = csv[1];
  std::replace(from_csv.begin(), from_csv.end(), ',', ' ');
  for (const std::string& line : {lines(text.out)[0], from_csv}) {
    std::istringstream in(line);
    for (const double p : rows[0].at("predict")) {
      double value = -1;
      in >> value;
      EXPECT_NEAR(value, p, 1e-6);
    }
  }
}

TEST(Train, InterruptSavesAndExits130) {
  TemporaryFolder folder;
  const std::string model = folder.write("m.nn", small_model()), weights = folder.path("w.safetensors");
  const pid_t child = fork();
  if (child == 0) {
    if (!freopen("/dev/null", "w", stdout) || !freopen(folder.path("err").c_str(), "w", stderr)) _exit(126);
    execl(GRADC_TOOL, GRADC_TOOL, "train", model.c_str(), "--epochs", "100000000", "--save", weights.c_str(),
          nullptr);
    _exit(127);
  }
  std::this_thread::sleep_for(std::chrono::seconds(3));
  kill(child, SIGINT);
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), kExitInterrupted) << read_text(folder.path("err"));
  EXPECT_EQ(run_tool({"eval", "m.nn", "--weights", "w.safetensors"}, folder.path()).exit_code, 0);
}

// --- dump

class DumpTest : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(DumpTest, ShowsItsStage) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const ToolResult r = run_tool({"dump", "m.nn", "--stage", GetParam().first}, folder.path());
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_NE(r.out.find(GetParam().second), std::string::npos) << r.out.substr(0, 2000);
  EXPECT_EQ(r.err, "");
}

INSTANTIATE_TEST_SUITE_P(Stages, DumpTest,
                         testing::Values(std::pair{"ast", "dense"}, std::pair{"ir", "func @train("},
                                         std::pair{"grad", "func @train_step("},
                                         std::pair{"opt", "func @train_step("},
                                         std::pair{"loops", "train_step"}, std::pair{"llvm", "define"},
                                         std::pair{"asm", ".text"}),
                         [](const auto& info) { return std::string(info.param.first); });

TEST(Dump, PrintAfterSaysWhatDidNotChange) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const ToolResult r = run_tool({"dump", "m.nn", "--stage", "opt", "--print-after", "all"}, folder.path());
  EXPECT_EQ(r.exit_code, 0);
  EXPECT_NE(r.err.find("(unchanged)"), std::string::npos) << r.err.substr(0, 2000);
  EXPECT_NE(r.err.find("func @train_step"), std::string::npos);
  const ToolResult one = run_tool(
      {"dump", "m.nn", "--stage", "opt", "--function", "eval", "--print-after", "dce"}, folder.path());
  EXPECT_NE(one.err.find("dce"), std::string::npos);
  EXPECT_EQ(one.out.find("func @train_step"), std::string::npos);
}

TEST(Dump, StrictMathDoesWithoutWinograd) {
  const std::string file = std::string(GRADC_SOURCE_DIR) + "/bench/workloads/plain20.nn";
  const ToolResult usual = run_tool({"dump", file, "--stage", "loops", "--function", "train_step"});
  ASSERT_EQ(usual.exit_code, 0) << usual.err;
  EXPECT_NE(usual.out.find("Winograd"), std::string::npos);
  const ToolResult strict =
      run_tool({"dump", file, "--stage", "loops", "--function", "train_step", "--strict-math"});
  ASSERT_EQ(strict.exit_code, 0) << strict.err;
  EXPECT_NE(strict.out.find("conv2d"), std::string::npos);
  EXPECT_EQ(strict.out.find("Winograd"), std::string::npos);
}

TEST(Dump, StopAfterLeavesTheRestUndone) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const ToolResult early =
      run_tool({"dump", "m.nn", "--stage", "opt", "--stop-after", "differentiate"}, folder.path());
  const ToolResult late = run_tool({"dump", "m.nn", "--stage", "opt"}, folder.path());
  EXPECT_EQ(early.exit_code, 0) << early.err;
  EXPECT_NE(early.out, late.out);
}

TEST(Passes, EachOptionalOneMayBeLeftOut) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("momentum(lr=0.05)"));
  const auto loss = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"train", "m.nn", "--json", "--steps", "8"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return r.exit_code == 0 ? events(r).back().at("train_loss").get<double>() : NAN;
  };
  const double with_all = loss({});
  int optional = 0;
  for (const Json& pass : events(run_tool({"passes", "--json"}))) {
    if (!pass.at("optional").get<bool>()) continue;
    ++optional;
    const std::string name = pass.at("name");
    EXPECT_NEAR(loss({"--disable-pass", name}), with_all, 1e-4) << "without " << name;
  }
  EXPECT_GE(optional, 4);
}

// --- check

TEST(Check, PassesOnASoundModelAndPrintsATable) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("adam(lr=0.01)"));
  const ToolResult r = run_tool({"check", "m.nn"}, folder.path());
  EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
  for (const char* part : {"dense_1.weight", "einsum", "PASS", "central differences"})
    EXPECT_NE(r.out.find(part), std::string::npos) << part << "\n" << r.out;
  const std::vector<Json> all = events(run_tool({"check", "m.nn", "--json"}, folder.path()));
  EXPECT_EQ(all.back().at("pass"), true);
  std::map<std::string, int> kinds;
  for (const Json& e : all)
    if (e.at("event") == "comparison") ++kinds[e.at("kind")];
  for (const char* kind : {"init", "value", "output", "gradient", "update", "numeric", "native numeric"})
    EXPECT_GT(kinds[kind], 0) << kind;
}

class BrokenGradientTest : public testing::TestWithParam<const char*> {};

TEST_P(BrokenGradientTest, MakesTheCheckFail) {
  TemporaryFolder folder;
  std::string text = small_model();
  text.replace(text.find("dense(10,"), 9, "dense(20) |> batchnorm |> tanh |> dense(10,");
  folder.write("m.nn", text);
  ASSERT_EQ(run_tool({"check", "m.nn"}, folder.path()).exit_code, 0);
  const ToolResult r = run_tool({"check", "m.nn", "--break-gradient", GetParam(), "--json"}, folder.path());
  EXPECT_EQ(r.exit_code, kExitCheckFailed) << r.out << r.err;
  // Native code and interpreter share the wrong gradient; only central differences can tell.
  bool numeric_failed = false;
  for (const Json& e : events(r))
    if (e.at("event") == "comparison" && !e.at("pass").get<bool>())
      numeric_failed |= e.at("kind") == "numeric";
  EXPECT_TRUE(numeric_failed);
}

INSTANTIATE_TEST_SUITE_P(Operators, BrokenGradientTest, testing::Values("einsum", "tanh"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Check, MadeUpRowsWhereTheDataIsMissing) {
  TemporaryFolder folder;
  std::string text = small_model();
  const std::string source = "synthetic_digits(train=256, test=96, batch=32)";
  folder.write("m.nn", text.replace(text.find(source), source.size(), "mnist(\"no/such/folder\", batch=32)"));
  const ToolResult r = run_tool({"check", "m.nn"}, folder.path());
  EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
  EXPECT_NE(r.out.find("made-up"), std::string::npos);
}

// What each layer makes varies by 1 on the data afterwards, as predictions show, and training starts from
// there.
TEST(Lsuv, ScalesEachLayerToUnitVariance) {
  TemporaryFolder folder;
  const std::string model =
      "data digits = synthetic_digits(train=512, test=64, batch=256)\n"
      "set depth = 2\n"
      "model net(image: f32[1, 28, 28]) {\n"
      "    a = image |> conv2d(6, 5, stride=2, init=orthogonal(gain=7))\n"
      "    b = a |> tanh |> flatten |> dense(40, init=normal(0, 0.001))\n"
      "    c = b |> relu |> dense(10, init=orthogonal(gain=30))\n"
      "    made = if depth == 0 { flatten(a) } else if depth == 1 { b } else { c }\n"
      "    return made + 0 * sum(c)\n}\n"
      "train {\n    made = net(digits.image)\n    loss cross_entropy(made, digits.label)\n"
      "    predict made\n    optimizer sgd(lr=0.05)\n}\n";
  const std::string w = folder.path("w.safetensors");
  folder.write("net.nn", model);
  const ToolResult r = run_tool({"lsuv", "net.nn", "--save", w, "--json"}, folder.path());
  ASSERT_EQ(r.exit_code, kExitOk) << r.err;
  const std::vector<std::string> out = lines(r.out);
  ASSERT_EQ(out.size(), 4u) << r.out;
  for (size_t i = 0; i < 3; ++i) {
    const Json line = Json::parse(out[i]);
    const double variance = line.at("variance");
    EXPECT_NEAR(line.at("factor").get<double>(), 1 / std::sqrt(variance), 1e-9);
    EXPECT_GT(std::abs(std::log(variance)), 1) << "nothing to scale: " << out[i];
  }
  for (const char* depth : {"0", "1", "2"}) {
    double sum = 0, squares = 0, count = 0;
    for (const std::string& line :
         lines(run_tool({"predict", "net.nn", "--set", std::string("depth=") + depth, "--weights", w,
                         "--split", "train", "--json"},
                        folder.path())
                   .out))
      for (const double v : Json::parse(line).at("predict").get<std::vector<double>>())
        sum += v, squares += v * v, ++count;
    ASSERT_GT(count, 1000);
    // The batch is half of the examples.
    EXPECT_NEAR(squares / count - sum * sum / count / count, 1, 0.05) << "layer " << depth;
  }
  EXPECT_EQ(run_tool({"train", "net.nn", "--init-from", w, "--steps", "3"}, folder.path()).exit_code,
            kExitOk);
  const ToolResult text = run_tool({"lsuv", "net.nn", "--save", w, "--except", "dense_1.*"}, folder.path());
  EXPECT_NE(text.out.find("dense_2.weight"), std::string::npos) << text.out;
  EXPECT_EQ(text.out.find("dense_1.weight"), std::string::npos) << text.out;
  const ToolResult none =
      run_tool({"lsuv", "net.nn", "--save", w, "--except", "dense_3.weight"}, folder.path());
  EXPECT_EQ(none.exit_code, kExitUsage);
  EXPECT_NE(none.err.find("did you mean 'dense_"), std::string::npos) << none.err;
}

TEST(Lsuv, NeedsTheDataAndAPlaceToSave) {
  TemporaryFolder folder;
  folder.write(
      "net.nn",
      "data digits = mnist(\"nowhere\")\nmodel net(image: f32[1, 28, 28]) = image |> flatten |> dense(10)\n"
      "train {\n    logits = net(digits.image)\n    loss cross_entropy(logits, digits.label)\n    optimizer "
      "sgd()\n}\n");
  const ToolResult r = run_tool({"lsuv", "net.nn", "--save", "w.safetensors"}, folder.path());
  EXPECT_EQ(r.exit_code, kExitDataError) << r.err;
  EXPECT_EQ(run_tool({"lsuv", "net.nn"}, folder.path()).exit_code, kExitUsage);
  EXPECT_EQ(folder.files(), std::vector<std::string>{"net.nn"});
}

TEST(Ops, ListsEverythingAndExplainsOne) {
  const ToolResult all = run_tool({"ops"});
  EXPECT_EQ(all.exit_code, kExitOk);
  for (const char* part :
       {"Optimizers", "  adamw ", "  one_cycle ", "  groupnorm ", "  einsum ", "gradc ops NAME"})
    EXPECT_NE(all.out.find(part), std::string::npos) << part;
  for (const std::string& line : lines(all.out)) EXPECT_LE(line.size(), 120u) << line;

  const ToolResult one = run_tool({"ops", "adamw"});
  EXPECT_EQ(one.exit_code, kExitOk);
  for (const char* part : {"optimizer adamw(lr=1e-3, beta1=0.9", "prelude/optimizers.nn:",
                           "Loshchilov and Hutter 2019", "example:\n    optimizer adamw(",
                           "definition:\n    optimizer adamw(", "w = w * (1 - lr * weight_decay)"})
    EXPECT_NE(one.out.find(part), std::string::npos) << part << "\n" << one.out;

  // A layer and the primitive it is made of.
  const ToolResult both = run_tool({"ops", "conv2d"});
  EXPECT_NE(both.out.find("layer conv2d(x, channels"), std::string::npos);
  EXPECT_NE(both.out.find("primitive conv2d(x, w) {stride"), std::string::npos);

  size_t count = 0;
  for (const std::string& line : lines(run_tool({"ops", "--json"}).out)) {
    const auto entry = nlohmann::json::parse(line);
    for (const char* key : {"name", "kind", "signature", "text", "example", "location", "definition"})
      EXPECT_TRUE(entry.contains(key)) << line;
    ++count;
  }
  EXPECT_GE(count, 150u);
}

}  // namespace
}  // namespace gradc::test::commands_test
