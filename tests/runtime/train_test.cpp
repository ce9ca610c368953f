// Training on a program written by hand: steps, events, weights, interruption, errors.
#include "runtime/training/train.h"

#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "runtime/execution/checkpoint.h"
#include "runtime/execution/safetensors.h"
#include "runtime/files.h"
#include "runtime/sha256.h"
#include "support/diagnostic.h"
#include "tests/runtime/fake_program.h"
#include "tests/runtime/helpers.h"
#include "tests/runtime/training.h"

namespace gradc::runtime::train_test {
namespace {

using nlohmann::json;
using test::expect_error;
using test::fake_program;
using test::FakeOptions;
using test::seen;
using test::TemporaryFolder;

using test::Bench;
using test::Stream;
using test::with_data;

TEST(Train, Converges) {
  Bench bench(with_data(R"("train":3000,"test":500)"), 2);
  const TrainResult result = bench.run({.epochs = 6});
  EXPECT_EQ(result.steps, 6 * 94);
  EXPECT_EQ(result.epochs, 6);
  EXPECT_LT(result.train_loss, 1.2);
  EXPECT_GT(result.metrics.at("test_accuracy"), 0.65);
  EXPECT_GT(result.seconds, 0);
  EXPECT_NE(bench.out.text().find("test accuracy"), std::string::npos) << bench.out.text();
  EXPECT_NE(bench.log.text().find("epoch 6/6"), std::string::npos) << bench.log.text();
}

TEST(Train, StartsAtLogC) {
  Bench bench;
  bench.run({.steps = 1, .log_every = 1, .json = true});
  EXPECT_NEAR(bench.out.events().at(0).at("loss").get<double>(), std::log(10), 0.05);
}

TEST(Train, SeesEveryExampleOnceAnEpoch) {
  Bench bench(with_data(R"("train":100,"test":10)"));
  int64_t labels = 0;
  for (int32_t label : bench.data.split("train").table->fields[1].integers) labels += label;
  bench.run({.epochs = 2});
  EXPECT_EQ(seen().calls, 8);
  EXPECT_EQ(seen().rows, 200);
  EXPECT_EQ(seen().largest, 32);
  EXPECT_EQ(seen().smallest, 4);
  EXPECT_EQ(seen().label_sum, 2 * labels);
  float state = 0;
  std::memcpy(&state, bench.session.data(*bench.session.find("seen")), 4);
  EXPECT_EQ(state, 200.0f);
}

TEST(Train, DropsTheLastBatchWhenAsked) {
  Bench bench(with_data(R"("train":100,"test":10)", R"(,"drop_last":true)"));
  bench.run({.epochs = 2});
  EXPECT_EQ(seen().calls, 6);
  EXPECT_EQ(seen().smallest, 32);
  FakeOptions few = with_data(R"("train":20,"test":10)", R"(,"drop_last":true)");
  Bench none(few);
  expect_error(kExitDataError, {"20 examples", "nothing is left"}, [&] { none.run(); });
}

TEST(Train, TellsTheStepWhereItIs) {
  Bench bench(with_data(R"("train":100,"test":10)"), 2);
  bench.run({.epochs = 3, .seed = 99, .lr_factor = 0.5});
  EXPECT_EQ(seen().step, 11);
  EXPECT_EQ(seen().epoch, 2);
  EXPECT_EQ(seen().total, 12);
  EXPECT_EQ(seen().lr_factor, 0.5);
  EXPECT_EQ(seen().seed, 99u);
  EXPECT_EQ(seen().micro_step, 11u);
  EXPECT_EQ(seen().threads, 2);
}

TEST(Train, StepsAndEpochsLimitTheRun) {
  const auto steps = [](TrainOptions options) {
    Bench bench(with_data(R"("train":100,"test":10)"));  // 4 batches, 3 epochs by the program
    const TrainResult result = bench.run(options);
    EXPECT_EQ(result.steps, seen().calls);
    if (seen().calls) {
      EXPECT_EQ(seen().total, result.steps);
    }
    return std::pair(result.steps, result.epochs);
  };
  EXPECT_EQ(steps({}), std::pair(int64_t{12}, int64_t{3}));
  EXPECT_EQ(steps({.steps = 6}), std::pair(int64_t{6}, int64_t{1}));
  EXPECT_EQ(steps({.steps = 21}), std::pair(int64_t{21}, int64_t{5}));
  EXPECT_EQ(steps({.epochs = 1, .steps = 21}), std::pair(int64_t{4}, int64_t{1}));
  EXPECT_EQ(steps({.epochs = 1, .steps = 3}), std::pair(int64_t{3}, int64_t{0}));
  EXPECT_EQ(steps({.epochs = 0}), std::pair(int64_t{0}, int64_t{0}));
  EXPECT_EQ(steps({.steps = 0}), std::pair(int64_t{0}, int64_t{0}));
  expect_error(kExitUsage, {"--steps -1"}, [&] { steps({.steps = -1}); });
  expect_error(kExitUsage, {"--epochs -2"}, [&] { steps({.epochs = -2}); });
  expect_error(kExitUsage, {"--log-every -3"}, [&] { steps({.log_every = -3}); });
  expect_error(kExitUsage, {"learning rate factor"}, [&] { steps({.lr_factor = NAN}); });
}

TEST(Train, GivesTheSameBitsForAnyThreads) {
  const auto hash = [](int threads, TrainOptions options) {
    Bench bench(with_data(R"("train":300,"test":50)"), threads);
    EXPECT_EQ(bench.session.threads(), threads);
    return bench.run(options).weights_sha256;
  };
  const std::string first = hash(1, {.epochs = 2});
  EXPECT_EQ(first.size(), 64u);
  EXPECT_EQ(hash(1, {.epochs = 2}), first);
  EXPECT_EQ(hash(2, {.epochs = 2}), first);
  EXPECT_EQ(hash(5, {.epochs = 2}), first);
  EXPECT_NE(hash(1, {.epochs = 2, .seed = 8}), first);
  EXPECT_NE(hash(1, {.epochs = 2, .shuffle = false}), first);
  EXPECT_NE(hash(1, {.steps = 19}), first);
}

TEST(Train, UsesNoMoreThreadsThanGain) {
  FakeOptions fake = with_data(R"("train":50,"test":10)");
  fake.max_threads = 1;
  Bench bench(fake, 4);
  EXPECT_EQ(bench.session.threads(), 1);
}

TEST(Train, WritesEvents) {
  Bench bench(
      with_data(R"("train":130,"test":40)", R"(,"splits":[{"name":"val","count":30,"from":"train"}])"));
  const TrainResult result = bench.run({.epochs = 2, .log_every = 3, .json = true});
  const auto events = bench.out.events();
  ASSERT_EQ(events.size(), 2u + 2u + 1u);  // steps 3 and 6 of 8, two epochs, the end
  EXPECT_EQ(events[0].at("event"), "step");
  EXPECT_EQ(events[0].at("step"), 3);
  EXPECT_EQ(events[0].at("epoch"), 1);
  for (const char* key : {"loss", "accuracy", "lr"}) EXPECT_TRUE(events[0].at(key).is_number_float()) << key;
  EXPECT_DOUBLE_EQ(events[0].at("lr"), 0.1 * (1 - 2 / 8.0));
  EXPECT_EQ(events[1].at("event"), "epoch");
  EXPECT_EQ(events[1].at("epoch"), 1);
  EXPECT_EQ(events[1].at("step"), 4);
  for (const char* key : {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds"})
    EXPECT_TRUE(events[1].at(key).is_number()) << key;
  const json& end = events.back();
  EXPECT_EQ(end.at("event"), "end");
  EXPECT_EQ(end.at("steps"), 8);
  EXPECT_EQ(end.at("epochs"), 2);
  EXPECT_EQ(end.at("interrupted"), false);
  EXPECT_EQ(end.at("weights_sha256"), result.weights_sha256);
  // Numbers read back to the same double.
  EXPECT_EQ(end.at("train_loss").get<double>(), result.train_loss);
  EXPECT_EQ(end.at("test_loss").get<double>(), result.test_loss);
  EXPECT_EQ(end.at("test_accuracy").get<double>(), result.metrics.at("test_accuracy"));
  EXPECT_EQ(end.at("metrics").at("val_loss").get<double>(), events[3].at("val_loss").get<double>());
  EXPECT_EQ(end.at("train_loss"), events[3].at("train_loss"));
  EXPECT_EQ(bench.log.text(), "");
}

TEST(Train, EpochMeansWeighEveryExample) {
  Bench bench(with_data(R"("train":70,"test":10)"));  // 32, 32, 6
  bench.run({.epochs = 1, .log_every = 1, .json = true});
  const auto events = bench.out.events();
  double sum = 0;
  for (size_t i = 0; i < 3; ++i) sum += events[i].at("loss").get<double>() * (i == 2 ? 6 : 32);
  EXPECT_NEAR(events[3].at("train_loss").get<double>(), sum / 70, 1e-12);
}

TEST(Train, NamesTheBatchOfALossThatIsNotFinite) {
  TemporaryFolder folder;
  const std::string path = folder / "w.safetensors";
  test::write_bytes(path, {'o', 'l', 'd'});
  Bench bench(with_data(R"("train":100,"test":10)"), 2);
  seen().stop_at = 6;
  std::vector<uint8_t> before;
  try {
    bench.run({.epochs = 3, .shuffle = false, .save = path, .json = true});
    FAIL() << "no error";
  } catch (const NotFiniteError& error) {
    EXPECT_EQ(error.exit_code, kExitCheckFailed);
    EXPECT_EQ(error.scalars.step, 5);
    EXPECT_EQ(error.scalars.epoch, 1);
    EXPECT_EQ(error.scalars.total, 12);
    EXPECT_EQ(error.rows, 32);
    EXPECT_EQ(error.seed, 7u);
    EXPECT_NE(std::string(error.what()).find("step 6 (epoch 2, batch 2)"), std::string::npos) << error.what();
    ASSERT_EQ(error.inputs.size(), 2u);
    ASSERT_EQ(error.inputs[0].size(), 32u * 784 * 4);
    int32_t label = -1;
    std::memcpy(&label, error.inputs[1].data(), 4);
    EXPECT_EQ(label, bench.data.split("train").table->fields[1].integers[32]);
  }
  EXPECT_EQ(test::read_text(path), "old");
  EXPECT_EQ(folder.files().size(), 1u);
  float state = 0;
  std::memcpy(&state, bench.session.data(*bench.session.find("seen")), 4);
  EXPECT_EQ(state, 132.0f);  // the failed step changed nothing
  EXPECT_EQ(bench.out.events().back().at("event"), "epoch");
}

TEST(Train, StopsWhenItDiverges) {
  Bench bench;
  expect_error(kExitCheckFailed, {"not finite", "smaller learning rate"},
               [&] { bench.run({.epochs = 50, .lr_factor = 1e38}); });
}

// An update that makes a parameter, a state or a slot infinite: found where it is the last, undone, and
// nothing is saved.
TEST(Train, UndoesTheLastUpdateWhenItIsNotFinite) {
  for (const char* name : {"dense_1.weight", "dense_1.bias", "seen", "dense_1.weight.v"}) {
    TemporaryFolder folder;
    const std::string path = folder / "w.safetensors";
    test::write_bytes(path, {'o', 'l', 'd'});
    Bench bench(with_data(R"("train":100,"test":10)"), 2);
    seen().break_at = 6;
    seen().broken = name;
    try {
      bench.run({.steps = 6, .save = path});
      FAIL() << "no error for " << name;
    } catch (const NotFiniteError& error) {
      EXPECT_EQ(error.exit_code, kExitCheckFailed);
      EXPECT_EQ(error.value, NotFiniteValue::update);
      EXPECT_EQ(error.symbol, name);
      EXPECT_EQ(error.function, "train_step");
      EXPECT_EQ(error.scalars.step, 5);
      EXPECT_EQ(error.rows, 32);
      EXPECT_EQ(error.examples, 32);
      ASSERT_EQ(error.inputs.size(), 2u);
      for (const char* part : {"step 6 (epoch 2, batch 2) made 1 of ", name, "w.safetensors was not written"})
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
    EXPECT_EQ(test::read_text(path), "old");
    Bench five(with_data(R"("train":100,"test":10)"), 2);
    seen().interrupt_at = 5;  // of the same run, whose rates the total decides
    five.run({.steps = 6});
    EXPECT_EQ(weights_sha256(bench.session), weights_sha256(five.session)) << name;
  }
}

// Updates in between are not looked at; those that are logged, the last of an epoch and an interrupted run's
// are.
TEST(Train, FindsAnEarlierUpdateThatWasNotFinite) {
  const auto caught = [](TrainOptions options, int64_t interrupt_at) {
    Bench bench(with_data(R"("train":320,"test":10)"));
    seen().break_at = 3;
    seen().broken = "dense_1.weight.v";  // never shows in a loss of this program's steps before long
    seen().interrupt_at = interrupt_at;
    options.epochs = 2;
    try {
      bench.run(options);
    } catch (const NotFiniteError& error) {
      return std::make_pair(error.value, error.scalars.step + 1);
    }
    ADD_FAILURE() << "no error";
    return std::make_pair(NotFiniteValue::loss, int64_t{0});
  };
  using enum NotFiniteValue;
  // The fake program's slot feeds the weights of the same element in the step after.
  EXPECT_EQ(caught({.log_every = 1}, -1), std::make_pair(update, int64_t{3}));
  EXPECT_EQ(caught({.log_every = 1, .undo = false}, -1), std::make_pair(weights, int64_t{3}));
  EXPECT_EQ(caught({}, 3), std::make_pair(weights, int64_t{3}));
}

TEST(Train, SaysWhichPartIsNotFinite) {
  TemporaryFolder folder;
  const std::string path = folder / "w.safetensors";
  Bench bench(
      with_data(R"("train":100,"test":70)", R"(,"splits":[{"name":"val","count":36,"from":"train"}])"));
  seen().stop_evaluation = 6;  // val takes two calls, in each of two epochs: the second of test's three
  const TrainResult result = bench.run({.epochs = 2, .save = path, .json = false});
  ASSERT_TRUE(result.not_finite);
  EXPECT_EQ(result.not_finite->value, NotFiniteValue::evaluation);
  EXPECT_EQ(result.not_finite->split, "test");
  EXPECT_EQ(result.not_finite->batch, 1);
  EXPECT_EQ(result.not_finite->rows, 32);
  EXPECT_EQ(result.not_finite->function, "eval");
  EXPECT_TRUE(std::isnan(result.test_loss));
  EXPECT_EQ(read_safetensors(path).metadata.at("step"), "4");  // the weights are what they should be
  EXPECT_NE(bench.out.text().find("test loss not finite"), std::string::npos) << bench.out.text();
  EXPECT_EQ(bench.out.text().find("nan"), std::string::npos) << bench.out.text();

  // Once in between: said, and forgotten when it is over.
  Bench later(
      with_data(R"("train":100,"test":70)", R"(,"splits":[{"name":"val","count":36,"from":"train"}])"));
  seen().stop_evaluation = 2;
  struct Observer final : TrainObserver {
    bool cancelled() override { return false; }
    void step_done(const StepReport&) override {}
    void epoch_done(const EpochReport& report) override {
      losses.push_back(report.splits.back().loss);
      seen().stop_evaluation = 0;
    }
    std::optional<double> new_lr_factor() override { return std::nullopt; }
    std::vector<double> losses;
  } observer;
  const TrainResult whole = later.run({.epochs = 2, .progress = ProgressMode::lines, .observer = &observer});
  EXPECT_FALSE(whole.not_finite);
  ASSERT_EQ(observer.losses.size(), 2u);
  EXPECT_TRUE(std::isnan(observer.losses[0]));
  EXPECT_TRUE(std::isfinite(observer.losses[1]));
  EXPECT_NE(later.log.text().find("the loss on `val` is not finite"), std::string::npos) << later.log.text();
}

TEST(Checkpoint, RefusesWeightsThatAreNotFinite) {
  TemporaryFolder folder;
  const std::string path = folder / "w.safetensors", other = folder / "n.safetensors";
  Bench bench;
  bench.session.initialize(1);
  save_checkpoint(bench.session, path, {});
  const std::string good = test::read_text(path);
  const float nan = NAN;
  std::memcpy(bench.session.data(*bench.session.find("dense_1.bias")), &nan, 4);
  expect_error(kExitCheckFailed, {"1 of 10 elements of the parameter dense_1.bias is NaN", "was not written"},
               [&] { save_checkpoint(bench.session, path, {}); });
  EXPECT_EQ(test::read_text(path), good);
  // Files of others may hold anything; their mean is not written.
  TensorFile file = read_safetensors(path);
  std::vector<float> bias(10, -INFINITY);
  file.tensors["dense_1.bias"].data = reinterpret_cast<const uint8_t*>(bias.data());
  write_safetensors(other, file.tensors, file.metadata);
  expect_error(kExitCheckFailed, {"`dense_1.bias` is NaN or infinite", "mean.safetensors was not written"},
               [&] { average_checkpoints({path, other}, folder / "mean.safetensors"); });
  EXPECT_FALSE(std::filesystem::exists(folder / "mean.safetensors"));
}

TEST(Train, InterruptFinishesTheStepAndSaves) {
  TemporaryFolder folder;
  const std::string path = folder / "w.safetensors";
  Bench bench(with_data(R"("train":100,"test":10)"));
  seen().interrupt_at = 6;
  const TrainResult result = bench.run({.epochs = 3, .save = path, .json = true});
  EXPECT_TRUE(result.interrupted);
  EXPECT_EQ(result.steps, 6);
  EXPECT_EQ(result.epochs, 1);
  EXPECT_TRUE(std::isnan(result.test_loss));
  const json end = bench.out.events().back();
  EXPECT_EQ(end.at("event"), "end");
  EXPECT_EQ(end.at("interrupted"), true);
  EXPECT_TRUE(end.at("test_loss").is_null());
  EXPECT_EQ(end.at("steps"), 6);
  EXPECT_EQ(read_safetensors(path).metadata.at("step"), "6");
  Bench again(with_data(R"("train":100,"test":10)"));
  load_checkpoint(again.session, path);
  EXPECT_EQ(weights_sha256(again.session), result.weights_sha256);
  // The program's own handling of the signal is back.
  struct sigaction current{};
  sigaction(SIGINT, nullptr, &current);
  EXPECT_EQ(current.sa_handler, SIG_DFL);
}

TEST(Train, EndsOnWhatSchedulersAndTerminalsSend) {
  for (const int number : {SIGTERM, SIGHUP, SIGINT}) {
    TemporaryFolder folder;
    const std::string path = folder / "w.safetensors";
    Bench bench(with_data(R"("train":100,"test":10)"));
    seen().interrupt_at = 6;
    seen().signal = number;
    const TrainResult result = bench.run({.epochs = 3, .save = path, .json = true});
    EXPECT_TRUE(result.interrupted);
    EXPECT_EQ(result.exit_code, 128 + number);
    EXPECT_EQ(read_safetensors(path).metadata.at("step"), "6");
    Bench rest(with_data(R"("train":100,"test":10)"));
    EXPECT_EQ(rest.run({.epochs = 3, .resume = path}).steps, 12);
    struct sigaction current{};
    sigaction(number, nullptr, &current);
    EXPECT_EQ(current.sa_handler, SIG_DFL);
  }
  // Who ignores one (nohup) goes on ignoring it.
  Bench bench(with_data(R"("train":100,"test":10)"));
  std::signal(SIGHUP, SIG_IGN);
  seen().interrupt_at = 6;
  seen().signal = SIGHUP;
  const TrainResult result = bench.run({.epochs = 3});
  std::signal(SIGHUP, SIG_DFL);
  EXPECT_FALSE(result.interrupted);
  EXPECT_EQ(result.steps, 12);
}

TEST(TrainDeathTest, SecondInterruptOfAnotherKindKills) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        Bench bench(with_data(R"("train":100,"test":10)"));
        seen().interrupt_at = 2;
        seen().interrupts = 2;
        seen().second = SIGTERM;
        bench.run({.epochs = 3});
        std::_Exit(0);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

TEST(TrainDeathTest, SecondInterruptKills) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        Bench bench(with_data(R"("train":100,"test":10)"));
        seen().interrupt_at = 2;
        seen().interrupts = 2;
        bench.run({.epochs = 3});
        std::_Exit(0);  // only if the second signal within the step did not kill
      },
      ::testing::KilledBySignal(SIGINT), "");
}

TEST(Train, SaveAndInitFromAreTheIdentity) {
  TemporaryFolder folder;
  Bench bench(with_data(R"("train":100,"test":10)"));
  const TrainResult trained = bench.run({.epochs = 1, .save = folder / "w"});
  Bench other(with_data(R"("train":100,"test":10)"));
  const TrainResult loaded = other.run(
      {.steps = 0, .seed = 1234, .init_from = folder / "w", .save = folder / "again", .json = true});
  EXPECT_EQ(loaded.weights_sha256, trained.weights_sha256);
  EXPECT_EQ(loaded.test_loss, trained.test_loss);
  const json end = other.out.events().back();
  EXPECT_EQ(end.at("steps"), 0);
  EXPECT_TRUE(end.at("train_loss").is_null());
  const TensorFile a = read_safetensors(folder / "w"), b = read_safetensors(folder / "again");
  ASSERT_EQ(a.tensors.size(), 3u);  // no slots
  for (const auto& [name, view] : a.tensors)
    EXPECT_EQ(std::memcmp(view.data, b.tensors.at(name).data, view.bytes), 0) << name;
  EXPECT_EQ(a.tensors.at("dense_1.weight").shape, (std::vector<int64_t>{10, 784}));
  EXPECT_EQ(a.metadata.at("source"), "model softmax");
  EXPECT_EQ(a.metadata.at("target"), "x86-64-v2");
  EXPECT_EQ(a.metadata.at("gradc_version"), "0.1.0");
  EXPECT_EQ(a.metadata.at("seed"), "7");
  EXPECT_EQ(a.metadata.at("step"), "4");
}

TEST(Train, RefusesAnUnwritableTargetBeforeTraining) {
  TemporaryFolder folder;
  Bench bench;
  expect_error(kExitRunFailed, {"none/w", "No such file"}, [&] { bench.run({.save = folder / "none/w"}); });
  EXPECT_EQ(seen().calls, 0);
}

TEST(Train, NoticesAFullStandardOutput) {
  Bench bench(with_data(R"("train":100,"test":10)"));
  std::FILE* full = std::fopen("/dev/full", "w");
  expect_error(kExitRunFailed, {"cannot write the results", "No space left"}, [&] {
    train(bench.session, bench.data, bench.experiment,
          {.epochs = 1, .json = true, .out = full, .log = bench.log});
  });
  std::fclose(full);
}

TEST(Train, DrawsABarWhenAsked) {
  Bench bench;
  bench.run({.epochs = 6, .progress = ProgressMode::bar});
  EXPECT_NE(bench.log.text().find("epoch 6/6"), std::string::npos);
  Stream log;
  {
    Progress progress(log, ProgressMode::bar);
    progress.update("epoch 1/2", 5, 10, "loss 0.5");
    progress.line("done");
    progress.update("epoch 2/2", 5, 10, std::string(500, 'x'));
  }
  EXPECT_NE(log.text().find("\repoch 1/2 [============            ] 5/10  loss 0.5"), std::string::npos)
      << log.text();
  EXPECT_NE(log.text().find("done\n"), std::string::npos);
  EXPECT_EQ(log.text().find(std::string(100, 'x')), std::string::npos);  // cut to the terminal
  EXPECT_EQ(log.text().substr(log.text().size() - 4), "\r\x1b[K");
  EXPECT_EQ(count_text(0), "0");
  EXPECT_EQ(count_text(999), "999");
  EXPECT_EQ(count_text(1234567), "1,234,567");
  EXPECT_EQ(count_text(-1234), "-1,234");
  EXPECT_EQ(count_text(-123), "-123");
  EXPECT_EQ(duration_text(7.2), "0:07");
  EXPECT_EQ(duration_text(3725), "1:02:05");
  EXPECT_EQ(duration_text(NAN), "?");
}

TEST(Train, TurnsOffProgress) {
  Bench bench;
  bench.run({.epochs = 1, .log_every = 1, .progress = ProgressMode::off});
  EXPECT_EQ(bench.log.text(), "");
}

}  // namespace
}  // namespace gradc::runtime::train_test
