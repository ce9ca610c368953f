// `gradc recipe`: the whole of it on small models, what each step says of a model that is not right, that
// trials are what `gradc train` would do, and that nothing finished is run twice.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "support/diagnostic.h"
#include "tests/cli/browser.h"
#include "tests/cli/tool.h"

namespace gradc::test::recipe_test {
namespace {

using Json = nlohmann::json;

class Recipe : public testing::Test {
 protected:
  // Small searches, unless `arguments` say otherwise.
  ToolResult recipe(std::vector<std::string> arguments, const std::string& model = "m.nn") const {
    arguments.insert(arguments.begin(), {"recipe", model, "--json"});
    return run_tool(arguments, folder_.path());
  }
  static std::vector<Json> events(const ToolResult& r) {
    std::vector<Json> result;
    for (const std::string& line : lines(r.out)) result.push_back(Json::parse(line));
    return result;
  }
  static std::vector<Json> of(const ToolResult& r, const std::string& event) {
    std::vector<Json> result;
    for (Json& e : events(r))
      if (e.at("event") == event) result.push_back(std::move(e));
    return result;
  }
  static Json verdict(const ToolResult& r, int step) {
    for (const Json& v : of(r, "verdict"))
      if (v.at("step") == step) return v;
    ADD_FAILURE() << "no verdict on step " << step << ": " << r.out << r.err;
    return {{"status", ""}, {"text", ""}, {"hints", Json::array()}};
  }
  static bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }
  void expect_usage(const std::vector<std::string>& arguments, const std::string& part) const {
    const ToolResult r = recipe(arguments);
    EXPECT_EQ(r.exit_code, kExitUsage) << part << r.out << r.err;
    EXPECT_TRUE(contains(r.err, part)) << part << "\n" << r.err;
    EXPECT_EQ(r.out, "");
  }
  std::vector<std::string> trial_files(const std::string& folder = "m.recipe") const {
    std::vector<std::string> names;
    for (const auto& e : std::filesystem::directory_iterator(folder_.path(folder + "/trials")))
      names.push_back(e.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  Json trial_file(const std::string& folder, const std::string& name) const {
    return Json::parse(read_text(folder_.path(folder + "/trials/" + name)));
  }

  TemporaryFolder folder_;
};

// With a hidden layer, which a high rate destroys for good.
std::string deep_model(const std::string& optimizer) {
  std::string text = small_model(optimizer);
  return text.replace(text.find("|> dense(10"), 11, "|> dense(64) |> relu |> dense(10");
}

const std::vector<std::string> kSmall = {"--steps",         "1-7", "--trials",        "4", "--epochs", "2",
                                         "--refine-trials", "2",   "--refine-epochs", "3"};

TEST_F(Recipe, GoesThroughAllStepsAndRunsNothingTwice) {
  folder_.write("m.nn", small_model("momentum(lr=0.05)"));
  const ToolResult first = recipe(kSmall);
  ASSERT_EQ(first.exit_code, 0) << first.out << first.err;
  EXPECT_TRUE(contains(first.err, "no split `val`")) << first.err;
  EXPECT_EQ(verdict(first, 1).at("status"), "ok");
  EXPECT_TRUE(contains(verdict(first, 1).at("text"), "log(10) = 2.3026"));
  EXPECT_EQ(verdict(first, 2).at("status"), "ok");
  EXPECT_TRUE(contains(verdict(first, 2).at("text"), "accuracy 100.00%"));
  EXPECT_EQ(verdict(first, 3).at("status"), "ok");
  for (int step = 4; step <= 7; ++step) EXPECT_NE(verdict(first, step).at("status"), "FAIL");
  const Json end = events(first).back();
  EXPECT_EQ(end.at("event"), "end");
  const int run = end.at("trials_run");
  EXPECT_EQ(run, 1 + 5 + 4 + 2 + 2);
  EXPECT_EQ(trial_files().size(), static_cast<size_t>(run));

  const ToolResult again = recipe(kSmall);
  ASSERT_EQ(again.exit_code, 0);
  EXPECT_EQ(events(again).back().at("trials_run"), 0);
  EXPECT_EQ(events(again).back().at("trials_kept"), run);
  EXPECT_EQ(events(again).back().at("best"), end.at("best"));
  for (const int step : {1, 2, 3, 4, 5, 7}) EXPECT_EQ(verdict(again, step), verdict(first, step));
  EXPECT_TRUE(contains(verdict(again, 6).at("text"), "of the best trial"));  // one of step 7 may be it now

  // More trials go on with the same numbers.
  std::vector<std::string> more = kSmall;
  more[3] = "6";
  more[1] = "4";
  EXPECT_EQ(events(recipe(more)).back().at("trials_run"), 2);
}

TEST_F(Recipe, SaysTheSameAsText) {
  folder_.write("m.nn", small_model("momentum(lr=0.05)"));
  std::vector<std::string> arguments = kSmall;
  arguments.insert(arguments.begin(), {"recipe", "m.nn", "-o", "out"});
  const ToolResult r = run_tool(arguments, folder_.path());
  EXPECT_EQ(r.exit_code, 0) << r.err;
  for (const char* part :
       {"1 initial loss: ok: 2.3", "2 overfit a few batches: ok: accuracy 100.00%",
        "3 learning rates: 100 updates each", "4 coarse search: 4 trials of 2 epochs", "trial 4/4",
        "in the file: `optimizer momentum(lr=", "6 curves: ", "every run on one page: out/index.html"})
    EXPECT_TRUE(contains(r.out, part)) << part << "\n" << r.out;
}

TEST_F(Recipe, TheSameSeedMakesTheSameTrials) {
  folder_.write("m.nn", small_model("momentum(lr=0.05)"));
  for (const char* folder : {"a", "b"}) {
    std::vector<std::string> arguments = kSmall;
    arguments.insert(arguments.end(), {"-o", folder, "--threads", folder[0] == 'a' ? "1" : "2"});
    ASSERT_EQ(recipe(arguments).exit_code, 0);
  }
  ASSERT_EQ(trial_files("a"), trial_files("b"));
  for (const std::string& file : trial_files("a")) {
    Json a = trial_file("a", file), b = trial_file("b", file);
    a.erase("seconds");
    b.erase("seconds");
    EXPECT_EQ(a, b) << file;
  }
  std::vector<std::string> other = kSmall;
  other.insert(other.end(), {"-o", "c", "--seed", "2"});
  ASSERT_EQ(recipe(other).exit_code, 0);
  EXPECT_NE(trial_files("c"), trial_files("a"));
}

// A trial is the run that the model file would make with that rate and that weight decay, to the bit.
class RecipeTrial : public Recipe, public testing::WithParamInterface<const char*> {};

TEST_P(RecipeTrial, IsTheRunOfTheFile) {
  const std::string optimizer = GetParam();
  std::string text = small_model(optimizer + "(lr=0.1)", "    penalty l2(1e-3)\n    schedule cosine\n");
  text.replace(text.find("batch=32)"), 9, "batch=32) { split val = 0.1 of train }");
  folder_.write("m.nn", text);
  const std::vector<std::string> arguments = {"--steps",        "4",        "--grid",   "1",
                                              "--lr-range",     "0.05,0.2",  // whose middle is 0.1
                                              "--weight-decay", "0.05",     "--epochs", "2"};
  const ToolResult r = recipe(arguments);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(r.err, "");  // the data have a split val
  const auto trials = of(r, "trial");
  ASSERT_EQ(trials.size(), 1u);
  EXPECT_EQ(trials[0].at("config").at("lr"), 0.1);
  EXPECT_EQ(trials[0].at("config").at("validation"), "val");
  const auto trained = [&](std::string file) {
    folder_.write("t.nn", file);
    const ToolResult t = run_tool({"train", "t.nn", "--json"}, folder_.path());
    EXPECT_EQ(t.exit_code, 0) << t.err;
    return events(t).back();
  };
  std::string decayed = text;
  decayed.replace(decayed.find("(lr=0.1)"), 8, "(lr=0.1, weight_decay=0.05)");
  const std::string scheduled = decayed;
  decayed.erase(decayed.find("    schedule cosine\n"), 20);
  const Json same = trained(decayed);
  EXPECT_EQ(trials[0].at("weights_sha256"), same.at("weights_sha256"));
  EXPECT_EQ(trials[0].at("epochs")[1].at("splits")[1].at("loss"), same.at("metrics").at("val_loss"));
  std::string undecayed = text;
  undecayed.erase(undecayed.find("    schedule cosine\n"), 20);
  EXPECT_NE(trained(undecayed).at("weights_sha256"), same.at("weights_sha256"));

  std::vector<std::string> with_schedule = arguments;
  with_schedule.emplace_back("--schedule");
  const auto cosine = of(recipe(with_schedule), "trial");
  ASSERT_EQ(cosine.size(), 1u);
  EXPECT_EQ(cosine[0].at("weights_sha256"), trained(scheduled).at("weights_sha256"));
}

INSTANTIATE_TEST_SUITE_P(Decay, RecipeTrial, testing::Values("sgd", "adamw", "momentum"));

TEST_F(Recipe, RegularisationIsOffWhereTheLossIsLookedAtAndExamplesAreOverfitted) {
  // Hardly a unit stays, images are noise, and a penalty holds the weights at 0.
  std::string text = R"(
data digits = synthetic_digits(train=256, test=96, batch=32) { augment image { noise(3) } }
model net(image: f32[1, 28, 28]) = image |> flatten |> dropout(0.98) |> dense(10, init=normal(0, 0.01))
train {
    logits    = net(digits.image)
    loss      cross_entropy(logits, digits.label)
    penalty   l2(50)
    metric    accuracy(logits, digits.label)
    optimizer sgd(lr=0.1, weight_decay=1)
    epochs    20
}
)";
  folder_.write("m.nn", text);
  const ToolResult r = recipe({"--steps", "1-2", "--overfit-batches", "2"});
  EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
  EXPECT_EQ(verdict(r, 1).at("status"), "ok");
  EXPECT_TRUE(contains(verdict(r, 1).at("text"), "the penalties add 18")) << verdict(r, 1);  // 25 sum w^2
  EXPECT_EQ(verdict(r, 2).at("status"), "ok") << verdict(r, 2);
  EXPECT_TRUE(contains(verdict(r, 2).at("text"), "on 64 examples")) << verdict(r, 2);
}

TEST_F(Recipe, TellsOfALearningRateThatIsTooHigh) {
  folder_.write("m.nn", deep_model("sgd(lr=1000)"));
  const ToolResult r = recipe({"--steps", "2-3"});
  EXPECT_EQ(r.exit_code, 0) << r.err;  // a search would go on with other rates
  EXPECT_EQ(verdict(r, 2).at("status"), "note");
  EXPECT_TRUE(contains(verdict(r, 2).at("hints").dump(), "too high")) << verdict(r, 2);
  EXPECT_EQ(verdict(r, 3).at("status"), "note");
  EXPECT_TRUE(contains(verdict(r, 3).at("hints").dump(), "the file's lr 1000 is too high; 0.1"))
      << verdict(r, 3);
  // So high that nothing is finite: said, and no crash.
  folder_.write("h.nn", deep_model("sgd(lr=1e30)"));
  const ToolResult h = recipe({"--steps", "3"}, "h.nn");
  EXPECT_EQ(h.exit_code, 0) << h.err;
  EXPECT_TRUE(contains(verdict(h, 3).at("text"), "too high: 1e+30 (not finite in update ")) << verdict(h, 3);
  EXPECT_GT(of(h, "trial")[0].at("failed_update").get<int>(), 0);
}

TEST_F(Recipe, TellsOfAWrongInitialLossAndDoesNotSearch) {
  std::string text = small_model("sgd(lr=0.1)");
  text.replace(text.find("normal(0, 0.01)"), 15, "normal(0, 1)");
  folder_.write("m.nn", text);
  const ToolResult r = recipe({"--steps", "1,4,6"});
  EXPECT_EQ(r.exit_code, kExitCheckFailed);
  EXPECT_EQ(verdict(r, 1).at("status"), "FAIL");
  EXPECT_TRUE(contains(verdict(r, 1).at("text"), "too high"));
  EXPECT_TRUE(contains(verdict(r, 1).at("hints").dump(), "init=normal(0, 0.01)"));
  EXPECT_EQ(verdict(r, 4).at("status"), "skipped");
  EXPECT_TRUE(contains(verdict(r, 4).at("text"), "step 1 failed"));
  EXPECT_EQ(verdict(r, 6).at("status"), "skipped");
  EXPECT_EQ(events(r).back().at("trials_run"), 0);
  const ToolResult on = recipe({"--steps", "1,4", "--keep-going", "--trials", "2", "--epochs", "1"});
  EXPECT_EQ(on.exit_code, kExitCheckFailed);
  EXPECT_EQ(events(on).back().at("trials_run"), 2);
}

TEST_F(Recipe, TellsOfANetworkThatCannotOverfit) {
  std::string text = small_model("sgd(lr=0.1)");
  text.replace(text.find("|> dense(10"), 3, "|> dense(1) |> sigmoid |>");
  folder_.write("m.nn", text);
  const ToolResult r = recipe({"--steps", "2", "--overfit-epochs", "20", "--overfit-batches", "5"});
  EXPECT_EQ(r.exit_code, kExitCheckFailed);
  EXPECT_EQ(verdict(r, 2).at("status"), "FAIL");
  EXPECT_TRUE(contains(verdict(r, 2).at("text"), "cannot overfit 160 examples")) << verdict(r, 2);
  EXPECT_EQ(of(r, "trial").size(), 4u);
  // What it reaches can be called enough.
  EXPECT_EQ(recipe({"--steps", "2", "--overfit-epochs", "20", "--overfit-batches", "5", "--overfit-accuracy",
                    "0.1"})
                .exit_code,
            0);
}

TEST_F(Recipe, KnowsTheInitialLossOfEveryClassification) {
  const auto check = [&](const std::string& losses, const std::string& part) {
    folder_.write("m.nn", R"(
data digits = synthetic_digits(train=128, test=32, batch=32)
fn focal(scores, label) {
    right = pick(softmax(scores), label)
    return -(1 - right)^2 * log(right)
}
fn likelihood(probabilities, label) = -log(max(pick(probabilities, label), 1e-7))
train {
    scores    = digits.image |> flatten |> dense(10, init=normal(0, 0.001))
)" + losses + "\n    optimizer sgd(lr=0.1)\n}\n");
    std::filesystem::remove_all(folder_.path("m.recipe"));
    const ToolResult r = recipe({"--steps", "1"});
    EXPECT_EQ(r.exit_code, 0) << losses << r.out << r.err;
    EXPECT_TRUE(contains(verdict(r, 1).at("text"), part)) << losses << verdict(r, 1);
  };
  check("    loss hinge(scores, digits.label)", "has 9 = 9.0000");
  check("    loss hinge(scores, digits.label, 2.0)", "has 18 = 18.0000");
  check("    loss scores |> hinge(digits.label, margin=0.5)", "has 4.5 = 4.5000");
  check("    loss cross_entropy(scores, digits.label, label_smoothing=0.1)", "log(10) = 2.3026");
  check("    l = cross_entropy(scores, digits.label)\n    loss l weight class_weight(digits.label, [1, 3])",
        "log(10) = 2.3026");
  check(
      "    loss cross_entropy(scores, digits.label) weight 0.5\n"
      "    loss odd = mean(binary_cross_entropy(scores, digits.label == 1))",
      "0.5 log(10) + log(2) = 1.8444");
  // Functions of the model file and sums too: what counts is what the loss is of equal scores.
  check("    loss 2 * cross_entropy(scores, digits.label)", "log(100) = 4.6052");
  check("    loss own = focal(scores, digits.label)", "has 1.86509 = 1.8651");
  check("    loss kl_divergence(scores, one_hot(digits.label, 10))", "log(10) = 2.3026");
  check("    loss cross_entropy(scores, digits.label) + hinge(scores, digits.label)",
        "has 11.3026 = 11.3026");
  check("    loss mse(scores[0], select(digits.label == 3, 1, -1))", "has 1 = 1.0000");
  const char* none = "no value of the loss follows from equal scores alone";
  check("    loss mse(scores, 0.5)", none);
  check("    loss mse(scores[0], cast(digits.label, \"f32\"))", none);
  check("    loss -log(max(pick(softmax(scores) + 0, digits.label), 1e-7))", "log(10) = 2.3026");
  check("    loss likelihood(softmax(scores), digits.label)",
        none);  // depends on the level of what it is given
}

TEST_F(Recipe, LooksForTheFirstMetricThatIsAShareAndBetterWhenGreater) {
  const auto objective = [&](const std::string& metrics) {
    folder_.write("m.nn", R"(
data digits = synthetic_digits(train=128, test=32, batch=32) { split val = 32 of train }
train {
    scores = digits.image |> flatten |> dense(10)
    loss cross_entropy(scores, digits.label)
)" + metrics + "\n    optimizer sgd(lr=0.1)\n}\n");
    std::filesystem::remove_all(folder_.path("m.recipe"));
    const ToolResult r = recipe({"--steps", "4", "--trials", "1", "--epochs", "1"});
    EXPECT_EQ(r.exit_code, 0) << metrics << r.out << r.err;
    return verdict(r, 4).at("text").get<std::string>();
  };
  const std::string right = "argmax(scores) == digits.label", wrong = "argmax(scores) != digits.label";
  EXPECT_TRUE(contains(objective("    metric right = " + right), "val right "));
  EXPECT_TRUE(contains(objective("    metric right = mean(cast(" + right + ", \"f32\"))"), "val right "));
  EXPECT_TRUE(
      contains(objective("    metric accuracy = mean(scores)\n    metric top = top_k(scores, digits.label)"),
               "val top "));
  EXPECT_TRUE(contains(objective("    metric error = " + wrong), "val loss "));
  EXPECT_TRUE(contains(objective(""), "val loss "));
}

TEST_F(Recipe, AnOptimizerWithALineSearchHasNoRateToSearch) {
  folder_.write("m.nn", small_model("lbfgs()"));
  const ToolResult r = recipe({"--steps", "1-6"});
  EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
  EXPECT_EQ(verdict(r, 2).at("status"), "ok") << verdict(r, 2);
  for (const int step : {3, 4, 5}) {
    EXPECT_EQ(verdict(r, step).at("status"), "skipped");
    EXPECT_TRUE(contains(verdict(r, step).at("text"), "lbfgs"));
  }
}

TEST_F(Recipe, AnInterruptKeepsWhatIsFinished) {
  folder_.write("m.nn", small_model("sgd(lr=0.1)"));
  ASSERT_EQ(recipe({"--steps", "3"}).exit_code, 0);
  const auto before = trial_files();
  const pid_t child = fork();
  if (child == 0) {
    if (chdir(folder_.path().c_str()) != 0 || !freopen("out", "w", stdout) || !freopen("err", "w", stderr))
      _exit(126);
    execl(GRADC_TOOL, GRADC_TOOL, "recipe", "m.nn", "--steps", "3-6", "--epochs", "100000000", nullptr);
    _exit(127);
  }
  std::this_thread::sleep_for(std::chrono::seconds(3));
  kill(child, SIGINT);
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), kExitInterrupted) << read_text(folder_.path("err"));
  EXPECT_TRUE(contains(read_text(folder_.path("out")), "interrupted: finished trials are kept"));
  EXPECT_EQ(trial_files(), before);
  EXPECT_TRUE(std::filesystem::exists(folder_.path("m.recipe/index.html")));
  EXPECT_EQ(events(recipe({"--steps", "3"})).back().at("trials_run"), 0);
}

TEST_F(Recipe, SaysWhatIsWrongWithTheCommandLine) {
  folder_.write("m.nn", small_model("sgd(lr=0.1)"));
  expect_usage({"--steps", "8"}, "there is no step 8");
  expect_usage({"--steps", "0-3"}, "there is no step 0");
  expect_usage({"--steps", "4-2"}, "4-2 is empty");
  expect_usage({"--steps", "1,"}, "a number is missing");
  expect_usage({"--steps", ""}, "a number is missing");
  expect_usage({"--steps", "2x"}, "'x' is no step");
  expect_usage({"--steps", "coarse"}, "'coarse' is no step");
  expect_usage({"--rates", "0.1,-0.2"}, "a learning rate of -0.2; expected numbers above 0");
  expect_usage({"--rates", "0"}, "a learning rate of 0");
  expect_usage({"--rates", "inf"}, "'inf' is not a finite number");
  expect_usage({"--rates", "0.1,0.1"}, "--rates names a number twice");
  expect_usage({"--rates", "fast"}, "fast");
  expect_usage({"--weight-decay", "-1"}, "--weight-decay: -1; expected numbers from 0");
  expect_usage({"--lr-range", "0.1"}, "expected two learning rates LOW,HIGH, not 1");
  expect_usage({"--lr-range", "0.1,0.01"}, "is empty: LOW comes first");
  expect_usage({"--lr-range", "-1,1"}, "learning rates are numbers above 0");
  expect_usage({"--trials", "0"}, "0 is not in 1..100000");
  expect_usage({"--epochs", "0"}, "0 is less than 1");
  expect_usage({"--objective", "acuracy"}, "did you mean 'accuracy'?");
  expect_usage({"--objective", "test.accuracy"}, "the model has no 'test.accuracy'");
  expect_usage({"--steps", "5"},
               "step 5 refines around the best trial of step 4, of which m.recipe has none");
  expect_usage({"--stop-after", "cse"}, "--stop-after leaves nothing to run");
  folder_.write("z.nn", small_model("sgd(lr=0)"));
  EXPECT_TRUE(contains(recipe({}, "z.nn").err, "`sgd` has lr=0"));
  folder_.write("e.nn", small_model("sgdd(lr=1)"));
  EXPECT_EQ(recipe({}, "e.nn").exit_code, kExitModelError);
}

TEST_F(Recipe, MixesNoFolders) {
  folder_.write("m.nn", small_model("sgd(lr=0.1)"));
  ASSERT_EQ(recipe({"--steps", "1", "-o", "r"}).exit_code, 0);
  folder_.write("other.nn", small_model("sgd(lr=0.1)"));
  const ToolResult other = recipe({"--steps", "1", "-o", "r"}, "other.nn");
  EXPECT_EQ(other.exit_code, kExitUsage);
  EXPECT_TRUE(contains(other.err, "r holds the trials of another model, m.nn")) << other.err;
  folder_.write("m.nn", small_model("sgd(lr=0.2)"));
  expect_usage({"--steps", "1", "-o", "r"}, "the lines of m.nn have changed since the trials in r were run");
  folder_.write("m.nn", "set rate = 0.1\n" + small_model("sgd(lr=rate)"));
  ASSERT_EQ(recipe({"--steps", "1", "-o", "s"}).exit_code, 0);
  expect_usage({"--steps", "1", "-o", "s", "--set", "rate=0.2"}, "the values of --set have changed");
  folder_.write("full/notes.txt", "mine");
  expect_usage({"--steps", "1", "-o", "full"}, "full holds other files");
  EXPECT_EQ(read_text(folder_.path("full/notes.txt")), "mine");
  const ToolResult file = recipe({"--steps", "1", "-o", "m.nn"});
  EXPECT_EQ(file.exit_code, kExitRunFailed);
  EXPECT_TRUE(contains(file.err, "no folder can be made at m.nn")) << file.err;
  EXPECT_EQ(recipe({"--steps", "1", "-o", "/proc/nowhere"}).exit_code, kExitRunFailed);
}

TEST_F(Recipe, ADamagedTrialIsNamed) {
  folder_.write("m.nn", small_model("sgd(lr=0.1)"));
  ASSERT_EQ(recipe({"--steps", "3"}).exit_code, 0);
  const std::string file = "m.recipe/trials/" + trial_files().front();
  const std::string whole = read_text(folder_.path(file));
  for (const std::string& text : {whole.substr(0, whole.size() / 2), std::string("{}"), std::string("[1]")}) {
    folder_.write(file, text);
    const ToolResult r = recipe({"--steps", "3"});
    EXPECT_EQ(r.exit_code, kExitDataError);
    EXPECT_TRUE(contains(r.err, file + " is damaged")) << r.err;
  }
  std::filesystem::remove(folder_.path(file));
  EXPECT_EQ(events(recipe({"--steps", "3"})).back().at("trials_run"), 1);
}

TEST_F(Recipe, ATrialsWholeNumbersMustFit) {
  folder_.write("m.nn", small_model("sgd(lr=0.1)"));
  ASSERT_EQ(recipe({"--steps", "3"}).exit_code, 0);
  const std::string name = trial_files().front(), file = "m.recipe/trials/" + name;
  const auto refused = [&](const Json& trial, const std::string& part) {
    folder_.write(file, trial.dump());
    const ToolResult r = recipe({"--steps", "3"});
    EXPECT_EQ(r.exit_code, kExitDataError) << part;
    EXPECT_TRUE(contains(r.err, file + " is damaged (" + part)) << part << "\n" << r.err;
  };
  const Json whole = trial_file("m.recipe", name);
  const std::vector<std::pair<Json, std::string>> wrong = {{Json(1.5), "1.5"},
                                                           {Json(1e30), "1e+30"},
                                                           {Json(-1), "-1"},
                                                           {Json(true), "true"},
                                                           {Json("3"), "\"3\""}};
  for (const auto& [value, text] : wrong) {
    for (const char* field : {"updates", "failed_update"}) {
      Json trial = whole;
      trial[field] = value;
      refused(trial, fmt::format("`{}` is {}; expected a whole number", field, text));
    }
    for (const char* field : {"step", "batches", "epochs", "updates", "seed"}) {
      Json trial = whole;
      trial["config"][field] = value;
      refused(trial, fmt::format("`{}` is {}; expected a whole number", field, text));
    }
    Json trial = whole;
    trial.at("losses").at(0).at(0) = value;
    refused(trial, fmt::format("`losses` is {}; expected a whole number", text));
  }
  Json trial = whole;
  trial["updates"] = uint64_t{1} << 63;
  refused(trial, "`updates` is 9223372036854775808; expected a whole number from 0 to 9223372036854775807");
  trial = whole;
  trial["config"]["step"] = 8;
  refused(trial, "`step` is 8; expected a whole number from 1 to 7");
}

TEST_F(Recipe, TooFewExamplesToHoldSomeBackAreSaid) {
  std::string text = small_model("sgd(lr=0.1)");
  text.replace(text.find("train=256"), 9, "train=8");
  folder_.write("m.nn", text);
  const ToolResult r = recipe({"--steps", "1"});
  EXPECT_EQ(r.exit_code, kExitDataError);
  EXPECT_TRUE(contains(r.err, "the data need a split `val`")) << r.err;
}

TEST_F(Recipe, ThePageComparesEveryRunInABrowser) {
  if (browser().empty()) GTEST_SKIP() << "there is no Chromium here (Debian: chromium)";
  folder_.write("m.nn",
                "# </script><script>window.injected = true</script><b>\n" + deep_model("sgd(lr=0.1)"));
  std::vector<std::string> arguments = kSmall;
  arguments.insert(arguments.end(), {"--rates", "1e30,0.1,0.01"});
  const ToolResult r = recipe(arguments);
  ASSERT_EQ(r.exit_code, 0) << r.out << r.err;
  const Json got = read_page(folder_.path("m.recipe"), "index.html", R"JS(
  const rows = () => [...document.querySelectorAll('#runs tbody tr')];
  const column = (title) => [...document.querySelectorAll('#runs th')].findIndex((h) => h.textContent === title);
  const cells = (title) => rows().map((r) => r.children[column(title)].textContent);
  got.steps = [...document.querySelectorAll('.step')].map((s) => s.textContent);
  got.search_rows = rows().length;
  got.best = document.querySelector('#runs tr.best').textContent;
  got.curves = document.querySelectorAll('#losses polyline').length;
  got.dots = document.querySelectorAll('#losses circle').length;
  got.epoch_lines = document.querySelectorAll('#epochs polyline').length;
  got.plane = document.querySelectorAll('#plane .trial').length;
  got.ring = document.querySelectorAll('#plane .best').length;
  got.crosses = document.querySelectorAll('#rates .lost').length;
  // What leaves the scale is marked, and a line is cut off at the frame instead of bridging it.
  const box = document.createElement('figure');
  box.id = 'outside';
  document.body.append(box);
  const made = {id: 'x', config: {lr: 1, step: 3}, failed_update: 0,
                losses: [[1, 2.3], [2, 2.2], [3, 900], [4, 2.1], [5, null], [6, 1e30], [7, -1]]};
  drawLosses(box, 'made up', [made], 1, false, () => 'red', []);
  got.cut = box.querySelectorAll('.cut').length;
  got.inside = box.querySelectorAll('circle').length;
  got.outside = text('#outside .outside');
  got.clipped = box.querySelector('polyline').parentNode.getAttribute('clip-path');
  got.pieces = [...box.querySelectorAll('polyline')].map((p) => p.getAttribute('points').split(' ').map((xy) => +xy.split(',')[1]));
  drawLosses(box, 'made up', [made], 1, true, () => 'red', []);
  got.not_positive = text('#outside .outside');
  got.moving = moving([0, 0, 0, 0, 0, 0, 8].map((y, x) => [x, y]), 7).map(([, y]) => y);
  rows()[0].click();
  got.without = document.querySelectorAll('#losses polyline').length;
  [...document.querySelectorAll('#runs th button')].find((b) => b.textContent === 'lr').click();
  got.rates = cells('lr').map(Number);
  [...document.querySelectorAll('#runs th button')].find((b) => b.textContent === 'lr').click();
  got.rates_down = cells('lr').map(Number);
  const which = document.querySelector('#which');
  which.value = 'all';
  which.dispatchEvent(new Event('change'));
  got.all_rows = rows().length;
  got.injected = window.injected === true;
)JS");
  ASSERT_FALSE(got.empty());
  EXPECT_EQ(got.at("errors").size(), 0u) << got.at("errors");
  EXPECT_EQ(got.at("scripts"), 0) << "the page refers to other files";
  EXPECT_EQ(got.at("injected"), false);
  ASSERT_EQ(got.at("steps").size(), 7u);
  EXPECT_TRUE(contains(got.at("steps")[0], "log(10) = 2.3026"));
  EXPECT_EQ(got.at("search_rows"), 8);
  EXPECT_EQ(got.at("all_rows").get<size_t>(), trial_files().size());
  EXPECT_EQ(got.at("curves"), 5);
  EXPECT_GT(got.at("dots").get<int>(), 50);
  EXPECT_EQ(got.at("epoch_lines"), 10);  // train and val
  EXPECT_EQ(got.at("plane"), 8);
  EXPECT_EQ(got.at("ring"), 1);
  EXPECT_EQ(got.at("crosses"), 1);
  EXPECT_EQ(got.at("cut"), 2);  // 900 and 1e30
  EXPECT_EQ(got.at("inside"), 4);
  EXPECT_EQ(got.at("outside"), "Losses outside the scale: 2 above (marks on the edge).");
  EXPECT_EQ(got.at("clipped"), "url(#frame-outside)");
  ASSERT_EQ(got.at("pieces").size(), 2u) << "a line bridges the loss that is not finite";
  EXPECT_EQ(got.at("pieces")[0].size(), 4u) << "a loss outside the scale is left out of the line";
  EXPECT_LT(got.at("pieces")[0][2].get<double>(), 0) << "the line does not leave the frame";
  EXPECT_EQ(got.at("not_positive"), "Losses outside the scale: 2 above, 1 not positive (marks on the edge).");
  // Half a window at least: at the end the mean of the last four.
  EXPECT_EQ(got.at("moving"), Json({0, 0, 0, 8. / 7, 8. / 6, 8. / 5, 2}));
  EXPECT_EQ(got.at("without"), 4);
  std::vector<double> rates = got.at("rates"), down = got.at("rates_down");
  EXPECT_TRUE(std::is_sorted(rates.begin(), rates.end())) << got.at("rates");
  EXPECT_TRUE(std::is_sorted(down.rbegin(), down.rend())) << got.at("rates_down");
  const std::string best = Json(events(r).back()).at("best").dump();
  EXPECT_FALSE(best == "null");
}

}  // namespace
}  // namespace gradc::test::recipe_test
