// What `train` does to gradients and parameters beyond one optimizer's update: clipping, noise, projections,
// averages, multipliers, accumulation; and runs that go on. Weights that gradc saved are compared with the
// definitions, computed here in double precision from runs without the option.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "runtime/execution/safetensors.h"
#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::train_options_test {
namespace {

using Json = nlohmann::json;
using Weights = std::map<std::string, std::vector<double>>;

Weights read_weights(const std::string& path) {
  const runtime::TensorFile file = runtime::read_safetensors(path);
  Weights result;
  for (const auto& [name, view] : file.tensors) {
    std::vector<float> values(view.bytes / sizeof(float));
    std::memcpy(values.data(), view.data, view.bytes);
    result[name].assign(values.begin(), values.end());
  }
  return result;
}

// softmax regression on made-up digits; `extra` goes into train { }.
std::string model(const std::string& extra, const std::string& optimizer = "sgd(lr=1)", int train = 256,
                  const std::string& loss = "cross_entropy(logits, digits.label)",
                  const std::string& layers = "flatten |> dense(12) as body |> relu |> dense(10) as head") {
  return "data digits = synthetic_digits(train=" + std::to_string(train) +
         ", test=96, batch=32)\n"
         "model small(image: f32[1, 28, 28]) = image |> " +
         layers +
         "\n"
         "train {\n"
         "    logits    = small(digits.image)\n"
         "    loss      " +
         loss +
         "\n"
         "    metric    accuracy(logits, digits.label)\n"
         "    predict   softmax(logits)\n"
         "    optimizer " +
         optimizer + "\n" + extra + "\n}\n";
}

// Weights after so many updates.
Weights after(const std::string& text, int steps, std::vector<std::string> more = {}) {
  TemporaryFolder folder;
  folder.write("m.nn", text);
  std::vector<std::string> arguments = {
      "train", "m.nn", "--no-shuffle", "--steps", std::to_string(steps), "--save", "w.safetensors"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const ToolResult r = run_tool(arguments, folder.path());
  EXPECT_EQ(r.exit_code, 0) << r.err;
  return r.exit_code == 0 ? read_weights(folder.path("w.safetensors")) : Weights();
}

Weights difference(const Weights& a, const Weights& b) {
  Weights result = a;
  for (auto& [name, values] : result)
    for (size_t i = 0; i < values.size(); ++i) values[i] -= b.at(name)[i];
  return result;
}

double norm(const Weights& w) {
  double sum = 0;
  for (const auto& [name, values] : w)
    for (const double v : values) sum += v * v;
  return std::sqrt(sum);
}

void expect_near(const Weights& got, const Weights& expected, double tolerance) {
  ASSERT_EQ(got.size(), expected.size());
  for (const auto& [name, values] : expected) {
    double worst = 0;
    for (size_t i = 0; i < values.size(); ++i)
      worst = std::max(worst, std::fabs(values[i] - got.at(name)[i]));
    EXPECT_LE(worst, tolerance) << name;
  }
}

// Every option at once, for `gradc check` and for threads.
const char* const kEverything =
    "    clip value 0.1\n    clip norm 0.5\n    noise 1e-4\n    project max_norm(1.5) on \"*.weight\"\n"
    "    ema 0.9\n    lr_mult 0.5 on \"head.*\"\n    decay_mult 2 on \"head.*\"\n"
    "    penalty l2(1e-3) on \"*.weight\"\n    schedule warmup(4) then cosine\n";

TEST(TrainOptions, NativeCodeFollowsTheInterpreter) {
  TemporaryFolder folder;
  for (const char* more : {"", "    accumulate 3\n"}) {
    folder.write("m.nn", model(std::string(kEverything) + more, "adamw(lr=2e-3) no_decay \"*.bias\""));
    const ToolResult r = run_tool({"check", "m.nn"}, folder.path());
    EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
    EXPECT_NE(r.out.find("body.weight.ema"), std::string::npos) << r.out;
  }
}

TEST(TrainOptions, NoResultDependsOnThreads) {
  TemporaryFolder folder;
  for (const char* more : {"", "    accumulate 3\n"}) {
    folder.write("m.nn", model(std::string(kEverything) + more, "adamw(lr=2e-3)", 256,
                               "cross_entropy(logits, digits.label)",
                               "flatten |> dense(200) as body |> relu |> dense(10) as head"));
    std::string sha;
    for (const char* threads : {"1", "2", "3"}) {
      const ToolResult r = run_tool({"train", "m.nn", "--json", "--threads", threads}, folder.path());
      ASSERT_EQ(r.exit_code, 0) << r.err;
      const std::string now = Json::parse(lines(r.out).back()).at("weights_sha256");
      if (sha.empty()) sha = now;
      EXPECT_EQ(now, sha) << threads << " threads";
    }
  }
}

TEST(TrainOptions, ClipNormScalesAllGradientsTogether) {
  const Weights start = after(model(""), 0), free = after(model(""), 1);
  const Weights step = difference(free, start);  // -gradient
  const double size = norm(step);
  for (const double limit : {size / 3, size * 3}) {
    Weights expected = start;
    const double scale = std::min(1.0, limit / (size + 1e-6));
    for (auto& [name, values] : expected)
      for (size_t i = 0; i < values.size(); ++i) values[i] += scale * step.at(name)[i];
    expect_near(after(model("    clip norm " + std::to_string(limit)), 1), expected, 1e-6);
  }
}

TEST(TrainOptions, ClipNormReportsTheNormBeforeIt) {
  const double size = norm(difference(after(model(""), 1), after(model(""), 0)));
  TemporaryFolder folder;
  folder.write("m.nn", model("    clip norm 1e-3"));
  const ToolResult r = run_tool(
      {"train", "m.nn", "--no-shuffle", "--steps", "1", "--json", "--log-every", "1"}, folder.path());
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json event = Json::parse(lines(r.out).at(0));
  EXPECT_NEAR(event.at("grad_norm").get<double>(), size, 1e-5 * size);
}

TEST(TrainOptions, ClipValueBoundsEachElement) {
  const Weights start = after(model(""), 0), step = difference(after(model(""), 1), start);
  Weights expected = start;
  bool beyond = false;
  for (auto& [name, values] : expected)
    for (size_t i = 0; i < values.size(); ++i) {
      beyond = beyond || std::fabs(step.at(name)[i]) > 0.02;
      values[i] += std::clamp(step.at(name)[i], -0.02, 0.02);
    }
  EXPECT_TRUE(beyond);
  expect_near(after(model("    clip value 0.02"), 1), expected, 1e-6);
}

// The gradient is 0, so that what an update adds is noise alone: N(0, eta / (1 + t)^0.55), drawn for each update.
TEST(TrainOptions, NoiseHasItsVarianceAndIsFresh) {
  const double eta = 0.09;
  const std::string text =
      model("    noise 0.09", "sgd(lr=1)", 256, "cross_entropy(logits, digits.label) weight 0",
            "flatten |> dense(40) as body |> relu |> dense(10) as head");
  Weights before = after(text, 0);
  std::vector<double> last;
  for (int t = 0; t < 3; ++t) {
    const Weights now = after(text, t + 1);
    const std::vector<double> noise = difference(now, before).at("body.weight");
    double sum = 0, squares = 0, product = 0;
    for (size_t i = 0; i < noise.size(); ++i) {
      sum += noise[i];
      squares += noise[i] * noise[i];
      if (!last.empty()) product += noise[i] * last[i];
    }
    const auto count = static_cast<double>(noise.size());  // 31360
    const double variance = eta / std::pow(1 + t, 0.55);
    EXPECT_NEAR(sum / count, 0, 4 * std::sqrt(variance / count));
    EXPECT_NEAR(squares / count / variance, 1, 4 * std::sqrt(2 / count));
    EXPECT_NEAR(product / count / variance, 0, 5 / std::sqrt(count));
    before = now;
    last = noise;
  }
  EXPECT_NE(after(text, 1, {"--seed", "5"}).at("body.bias"), after(text, 1).at("body.bias"));
}

TEST(TrainOptions, ProjectionsComeBehindTheUpdate) {
  const Weights got = after(model("    project max_norm(1.2) on \"body.weight\""), 1);
  Weights expected = after(model(""), 1);
  std::vector<double>& w = expected.at("body.weight");  // [12, 784]
  int scaled = 0;
  for (size_t unit = 0; unit < 12; ++unit) {
    double squares = 0;
    for (size_t i = 0; i < 784; ++i) squares += w[unit * 784 + i] * w[unit * 784 + i];
    if (std::sqrt(squares) <= 1.2) continue;
    ++scaled;
    for (size_t i = 0; i < 784; ++i) w[unit * 784 + i] *= 1.2 / std::sqrt(squares);
  }
  EXPECT_GT(scaled, 0);
  expect_near(got, expected, 1e-6);
  // A projection of the user's own, and two that follow each other.
  const std::string own = "fn at_most(w, limit) = min(w, limit)\n" +
                          model("    project at_most(0.01) on \"head.*\"\n    project non_negative()");
  for (const auto& [name, values] : after(own, 3))
    for (const double v : values) {
      EXPECT_GE(v, 0) << name;
      EXPECT_TRUE(name.rfind("head", 0) != 0 || v <= 0.01f) << name << " " << v;
    }
  for (const double unit_squares : [&] {
         const Weights u = after(model("    project unit_norm() on \"head.weight\""), 2);
         std::vector<double> sums(10);
         for (size_t i = 0; i < 120; ++i) sums[i / 12] += u.at("head.weight")[i] * u.at("head.weight")[i];
         return sums;
       }())
    EXPECT_NEAR(unit_squares, 1, 1e-5);
}

TEST(TrainOptions, AveragesFollowAndAreEvaluated) {
  const std::string text = model("    ema 0.75", "sgd(lr=0.1)");
  Weights average;
  for (int t = 0; t <= 3; ++t) {
    const Weights now = after(text, t);
    for (const auto& [name, values] : now) {
      if (name.find(".ema") != name.npos) continue;
      auto& mean = average[name + ".ema"];
      if (t == 0) mean = values;
      for (size_t i = 0; i < values.size(); ++i) mean[i] = 0.75 * mean[i] + 0.25 * values[i];
    }
    if (t < 3) continue;
    Weights got;
    for (const auto& [name, values] : now)
      if (name.find(".ema") != name.npos) got[name] = values;
    expect_near(got, average, 1e-6);
  }
  // train's own evaluation, eval of the file, and eval of the averages under the parameters' names by a model
  // without `ema`, all agree; --raw differs.
  TemporaryFolder folder;
  folder.write("m.nn", text);
  folder.write("plain.nn", model("", "sgd(lr=0.1)"));
  const ToolResult train = run_tool({"train", "m.nn", "--json", "--save", "w.safetensors"}, folder.path());
  ASSERT_EQ(train.exit_code, 0) << train.err;
  const double loss = Json::parse(lines(train.out).back()).at("test_loss");
  const auto eval = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"eval", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return r.exit_code == 0 ? Json::parse(lines(r.out).back()).at("loss").get<double>() : NAN;
  };
  EXPECT_EQ(eval({"m.nn", "--weights", "w.safetensors"}), loss);
  const double raw = eval({"m.nn", "--weights", "w.safetensors", "--raw"});
  EXPECT_NE(raw, loss);
  EXPECT_EQ(eval({"plain.nn", "--weights", "w.safetensors"}), raw);  // averages passed over
  const runtime::TensorFile file = runtime::read_safetensors(folder.path("w.safetensors"));
  std::map<std::string, runtime::TensorView> averages;
  for (const auto& [name, view] : file.tensors)
    if (const size_t end = name.find(".ema"); end != name.npos) averages[name.substr(0, end)] = view;
  runtime::write_safetensors(folder.path("a.safetensors"), averages, {});
  EXPECT_EQ(eval({"plain.nn", "--weights", "a.safetensors"}), loss);
  EXPECT_EQ(eval({"m.nn", "--weights", "a.safetensors"}), loss);  // a file without averages
}

TEST(TrainOptions, MultipliersScaleRateAndDecay) {
  const Weights start = after(model(""), 0), step = difference(after(model(""), 1), start);
  Weights expected = start;
  for (auto& [name, values] : expected)
    for (size_t i = 0; i < values.size(); ++i)
      values[i] += (name.rfind("head", 0) == 0 ? 0.25 : 1) * step.at(name)[i];
  expect_near(after(model("    lr_mult 0.25 on \"head.*\""), 1), expected, 1e-6);
  // Coupled decay adds to the gradient, decoupled works apart from it: w (1 - lr decay mult).
  for (const std::string optimizer : {"sgd(lr=1, weight_decay=0.01)", "adamw(lr=1e-2, weight_decay=0.5)"}) {
    const bool coupled = optimizer[0] == 's';
    const Weights none = after(model("    decay_mult 0 on \"*\"", optimizer), 1);
    Weights twice = none;
    const double rate = coupled ? 0.01 : 0.005;
    for (auto& [name, values] : twice)
      for (size_t i = 0; i < values.size(); ++i)
        values[i] -= (name.rfind("head", 0) == 0 ? 2 : 1) * rate * start.at(name)[i];
    expect_near(after(model("    decay_mult 2 on \"head.*\"", optimizer), 1), twice, 2e-6);
  }
}

// One batch of all rows and the same rows in several batches, the last one partial.
TEST(TrainOptions, AccumulationIsTheMeanOverAllRows) {
  const auto batch = [](std::string text, const char* size) {
    return text.replace(text.find("batch=32"), 8, std::string("batch=") + size);
  };
  const std::string penalty = "    penalty l2(1e-2) on \"*.weight\"\n";
  const Weights whole = after(batch(model(penalty, "sgd(lr=0.5)", 100), "100"), 3);
  for (const char* rule : {"    accumulate 4", "    accumulate all", "    accumulate 1000"})
    expect_near(after(model(penalty + rule, "sgd(lr=0.5)", 100), 3), whole, 1e-6);
  // The last update of an epoch takes what is left: 100 rows are 3 batches and one of 4.
  TemporaryFolder folder;
  folder.write("m.nn", model("    accumulate 3\n    epochs 2", "sgd(lr=0.5)", 100));
  const ToolResult r = run_tool({"train", "m.nn", "--json"}, folder.path());
  ASSERT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(Json::parse(lines(r.out).back()).at("steps"), 4);
  // Random layers draw new numbers for each batch: with the same rows in both halves, halves with equal masks would
  // give the update of one half.
  const std::string layers = "flatten |> dense(12) as body |> relu |> dropout(0.5) |> dense(10) as head";
  const std::string loss = "cross_entropy(logits, digits.label)";
  const Weights one = after(model("", "sgd(lr=0.5)", 32, loss, layers), 1);
  const Weights epochs = after(model("    accumulate 1", "sgd(lr=0.5)", 32, loss, layers), 1);
  EXPECT_EQ(one, epochs);
  const Weights start = after(model("", "sgd(lr=0.5)", 64, loss, layers), 0);
  const Weights first = difference(after(model("", "sgd(lr=0.5)", 64, loss, layers), 1), start);
  const Weights both =
      difference(after(model("    accumulate 2", "sgd(lr=0.5)", 64, loss, layers), 1), start);
  EXPECT_GT(norm(difference(both, first)), 0.1 * norm(both));
}

TEST(TrainOptions, FilesAverage) {
  TemporaryFolder folder;
  folder.write("m.nn", model(""));
  std::vector<Weights> parts;
  for (const char* steps : {"1", "2", "4"}) {
    ASSERT_EQ(
        run_tool({"train", "m.nn", "--steps", steps, "--save", std::string(steps) + ".st"}, folder.path())
            .exit_code,
        0);
    parts.push_back(read_weights(folder.path(std::string(steps) + ".st")));
  }
  const ToolResult r = run_tool({"average", "1.st", "2.st", "4.st", "-o", "mean.st"}, folder.path());
  ASSERT_EQ(r.exit_code, 0) << r.err;
  Weights expected = parts[0];
  for (auto& [name, values] : expected)
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = (parts[0].at(name)[i] + parts[1].at(name)[i] + parts[2].at(name)[i]) / 3;
  expect_near(read_weights(folder.path("mean.st")), expected, 1e-7);
  EXPECT_EQ(run_tool({"eval", "m.nn", "--weights", "mean.st"}, folder.path()).exit_code, 0);
  folder.write("other.nn", model("", "sgd(lr=1)", 256, "cross_entropy(logits, digits.label)",
                                 "flatten |> dense(13) as body |> relu |> dense(10) as head"));
  ASSERT_EQ(run_tool({"train", "other.nn", "--steps", "1", "--save", "o.st"}, folder.path()).exit_code, 0);
  const ToolResult wrong = run_tool({"average", "1.st", "o.st", "-o", "mean.st"}, folder.path());
  EXPECT_EQ(wrong.exit_code, kExitDataError);
  EXPECT_NE(wrong.err.find("cannot be averaged"), std::string::npos) << wrong.err;
}

// What was fitted to the data is no weight: it is the same in all files, or they do not belong together.
TEST(TrainOptions, FilesAverageOnlyWithTheSameNormalisation) {
  TemporaryFolder folder;
  const auto digits = [](int count, const std::string& rest) {
    return "data d = synthetic_digits(train=" + std::to_string(count) +
           ", test=32, batch=32) {\n    normalize image by value\n}\n" +
           "train {\n    logits = dense(flatten(d.image), 10)\n    loss cross_entropy(logits, d.label)\n"
           "    optimizer " +
           rest + "\n}\n";
  };
  folder.write("a.nn", digits(64, "sgd(lr=0.1)"));
  folder.write("b.nn", digits(96, "sgd(lr=0.1)"));
  for (const auto& [model, steps, file] :
       {std::tuple{"a.nn", "1", "1.st"}, {"a.nn", "3", "3.st"}, {"b.nn", "3", "other.st"}})
    ASSERT_EQ(run_tool({"train", model, "--steps", steps, "--save", file}, folder.path()).exit_code, 0);
  ASSERT_EQ(run_tool({"average", "1.st", "3.st", "-o", "mean.st"}, folder.path()).exit_code, 0);
  EXPECT_EQ(read_weights(folder.path("mean.st")).at("data.image.value.std"),
            read_weights(folder.path("1.st")).at("data.image.value.std"));
  const ToolResult wrong = run_tool({"average", "1.st", "other.st", "-o", "no.st"}, folder.path());
  EXPECT_EQ(wrong.exit_code, kExitDataError);
  EXPECT_NE(wrong.err.find("`data.image.value."), std::string::npos) << wrong.err;
  EXPECT_NE(wrong.err.find("fitted to their training data, is not the same"), std::string::npos) << wrong.err;
}

// Plateau, stop and checkpoint together, from the file to what is left on disk.
TEST(TrainOptions, RulesJudgeEpochs) {
  TemporaryFolder folder;
  folder.write(
      "m.nn",
      "data digits = synthetic_digits(train=500, test=96, batch=32) { split val = 100 of train }\n"
      "model small(image: f32[1, 28, 28]) = image |> flatten |> dense(16) |> relu |> dense(10)\n"
      "train {\n"
      "    logits    = small(digits.image)\n"
      "    loss      cross_entropy(logits, digits.label)\n"
      "    metric    accuracy(logits, digits.label)\n"
      "    metric    error = 1 - cast(argmax(logits) == digits.label, \"f32\")\n"
      "    optimizer momentum(lr=0.4)\n"
      "    schedule  warmup(10) then reduce_on_plateau(\"val.loss\", patience=1, factor=0.5, min_lr=0.15)\n"
      "    stop      when min val.error stalls 6 epochs\n"
      "    checkpoint every 1 epoch keep 2 best val.accuracy\n"
      "    epochs    60\n}\n");
  const ToolResult r = run_tool({"train", "m.nn", "--json", "--log-every", "1"}, folder.path());
  ASSERT_EQ(r.exit_code, 0) << r.err;
  std::vector<Json> epochs;
  int plateaus = 0, warming = 0;
  double last_lr = 0, best_loss = INFINITY, factor = 1;
  int bad = 0;
  Json stop, end;
  for (const std::string& line : lines(r.out)) {
    end = Json::parse(line);
    const std::string event = end.at("event");
    if (event == "step") {
      last_lr = end.at("lr");
      const int step = end.at("step");
      if (step <= 10) {
        EXPECT_NEAR(last_lr, 0.04 * step, 1e-12);
        ++warming;
      } else {
        EXPECT_EQ(last_lr, std::max(0.4 * factor, 0.15)) << step;
      }
    } else if (event == "epoch") {
      epochs.push_back(end);
      const double loss = end.at("val_loss");
      bad = loss < best_loss * (1 - 1e-4) ? 0 : bad + 1;
      best_loss = std::min(best_loss, loss);
    } else if (event == "plateau") {
      EXPECT_EQ(bad, 2);
      bad = 0;
      factor *= 0.5;
      EXPECT_EQ(end.at("lr_factor"), factor);
      ++plateaus;
    } else if (event == "stop") {
      stop = end;
    }
  }
  EXPECT_EQ(warming, 10);
  EXPECT_GT(plateaus, 1);
  ASSERT_FALSE(stop.is_null());
  EXPECT_EQ(stop.at("epoch"), epochs.size());
  EXPECT_EQ(end.at("best_epoch"), epochs.size() - 6);
  for (const Json& e : epochs) EXPECT_GE(e.at("val_error"), stop.at("best"));
  // The best two by accuracy, of equal ones the newer, and the newest.
  std::vector<size_t> order(epochs.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = order.size() - 1 - i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return epochs[a].at("val_accuracy").get<double>() > epochs[b].at("val_accuracy").get<double>();
  });
  std::set<std::string> expected, files;
  for (const size_t i : {order[0], order[1], epochs.size() - 1}) {
    const std::string number = std::to_string(i + 1);
    expected.insert("epoch-" + std::string(4 - number.size(), '0') + number + ".safetensors");
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder.path("m.checkpoints")))
    files.insert(entry.path().filename());
  EXPECT_EQ(files, expected);
  // The newest was written when the run was over: what goes on from it does nothing but end in the same way.
  const ToolResult again =
      run_tool({"train", "m.nn", "--json", "--resume", "m.checkpoints/" + *files.rbegin()}, folder.path());
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(Json::parse(lines(again.out).back()).at("weights_sha256"), end.at("weights_sha256"));
}

TEST(TrainOptions, ThePlanCountsThem) {
  TemporaryFolder folder;
  folder.write("m.nn", model("    ema 0.9\n    accumulate 2", "adam()"));
  const ToolResult r = run_tool({"plan", "m.nn", "--json"}, folder.path());
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json plan = Json::parse(r.out);
  const int64_t bytes = plan.at("parameter_bytes");
  EXPECT_EQ(plan.at("optimizer_bytes"), 2 * bytes);
  EXPECT_EQ(plan.at("average_bytes"), bytes);
  EXPECT_EQ(plan.at("gradient_bytes"), bytes);
  std::vector<std::string> programs;
  for (const Json& p : plan.at("programs")) programs.push_back(p.at("name"));
  EXPECT_EQ(programs, (std::vector<std::string>{"train_step", "update", "eval", "predict", "init"}));
}

// A rate of 1 without a schedule is the step's own scalar, and no operation makes it.
TEST(TrainOptions, TheRateIsReportedWhateverItIs) {
  TemporaryFolder folder;
  for (const char* rate : {"1", "0.5"})
    for (const char* more : {"", "    accumulate 2"}) {
      folder.write("m.nn", model(more, std::string("sgd(lr=") + rate + ")"));
      const ToolResult r =
          run_tool({"train", "m.nn", "--steps", "2", "--json", "--log-every", "1"}, folder.path());
      ASSERT_EQ(r.exit_code, 0) << r.err;
      EXPECT_EQ(Json::parse(lines(r.out).at(1)).at("lr"), std::stod(rate)) << more;
    }
}

// The tool in the background, writing nothing.
pid_t start_tool(const std::vector<std::string>& arguments) {
  const pid_t child = fork();
  if (child != 0) return child;
  if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(126);
  std::vector<char*> pointers = {const_cast<char*>(GRADC_TOOL)};
  for (const std::string& a : arguments) pointers.push_back(const_cast<char*>(a.c_str()));
  pointers.push_back(nullptr);
  execv(GRADC_TOOL, pointers.data());
  _exit(127);
}

// Killed in the middle of an epoch, and interrupted: what goes on from the file ends with the same weights as
// a run that never stopped. Random layers, statistics, slots, averages, noise and accumulation all have a
// part.
TEST(Resume, AfterKillAndInterrupt) {
  TemporaryFolder folder;
  folder.write(
      "m.nn",
      "data digits = synthetic_digits(train=500, test=96, batch=32) { split val = 52 of train }\n"
      "model small(image: f32[1, 28, 28]) =\n"
      "    image |> flatten |> dense(16) as body |> batchnorm |> relu |> dropout(0.3) |> dense(10) as head\n"
      "train {\n"
      "    logits    = small(digits.image)\n"
      "    loss      cross_entropy(logits, digits.label)\n"
      "    metric    accuracy(logits, digits.label)\n"
      "    optimizer adamw(lr=2e-3)\n"
      "    schedule  warmup(40) then cosine\n"
      "    accumulate 3\n    ema 0.99\n    noise 1e-5\n    clip norm 1\n    epochs 400\n"
      "    stop when val.accuracy stalls 390 epochs\n"
      "    checkpoint every 52 steps keep 2\n}\n");
  const auto end_of = [&](const std::vector<std::string>& arguments) {
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return r.exit_code == 0 ? Json::parse(lines(r.out).back()) : Json{{"weights_sha256", "?"}, {"steps", 0}};
  };
  const Json whole = end_of({"train", "m.nn", "--json", "--checkpoints", folder.path("whole")});
  EXPECT_EQ(whole.at("steps"), 400 * 5);
  for (const int signal : {SIGKILL, SIGINT, SIGTERM}) {
    const std::string name = "ended" + std::to_string(signal), files = folder.path(name);
    const pid_t child = start_tool({"train", folder.path("m.nn"), "--checkpoints", files});
    // Some files later than the first, and long before the end.
    while (!std::filesystem::exists(files + "/step-00000104.safetensors") &&
           waitpid(child, nullptr, WNOHANG) == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    kill(child, signal);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(signal == SIGKILL ? WIFSIGNALED(status) : WIFEXITED(status));
    if (signal != SIGKILL) {
      EXPECT_EQ(WEXITSTATUS(status), 128 + signal);
    }
    std::string newest;
    for (const auto& entry : std::filesystem::directory_iterator(files))
      if (entry.path().extension() == ".safetensors")
        newest = std::max(newest, entry.path().filename().string());
    if (signal != SIGKILL) newest = "last.safetensors";
    const Json rest = end_of({"train", "m.nn", "--json", "--checkpoints", files, "--resume",
                              files + "/" + newest, "--threads", "2"});
    EXPECT_EQ(rest.at("weights_sha256"), whole.at("weights_sha256")) << newest;
    EXPECT_EQ(rest.at("metrics"), whole.at("metrics"));
    // Nothing is left of the run that was killed: two files of steps, and those of interrupts.
    std::vector<std::string> left;
    for (const auto& entry : std::filesystem::directory_iterator(files))
      left.push_back(entry.path().filename());
    std::sort(left.begin(), left.end());
    std::erase(left, "last.safetensors");
    EXPECT_EQ(left, (std::vector<std::string>{"step-00001924.safetensors", "step-00001976.safetensors"}));
  }
}

}  // namespace
}  // namespace gradc::test::train_options_test
