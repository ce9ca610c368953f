// Batches assembled ahead: the same ones, in any order of asking, with errors passed on; and a whole run with
// them.
#include "runtime/data/loader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <stdexcept>

#include "runtime/data/batches.h"
#include "runtime/data/prepare.h"
#include "runtime/execution/checkpoint.h"
#include "runtime/execution/predict.h"
#include "runtime/execution/safetensors.h"
#include "runtime/training/train.h"
#include "support/diagnostic.h"
#include "tests/runtime/fake_program.h"
#include "tests/runtime/helpers.h"

namespace gradc::runtime::loader_test {
namespace {

using test::expect_error;
using test::fake_program;
using test::TemporaryFolder;

constexpr int kParts = 64;

// What each part of each buffer holds: the batch, or -1.
struct Board {
  std::atomic<int64_t> cells[2][kParts];
  std::atomic<int> parts{0};
  void fill(int64_t index, int part, int of, int buffer) {
    parts = of;
    cells[buffer][part] = index;
  }
  void expect(int buffer, int64_t index) {
    for (int part = 0; part < parts; ++part) ASSERT_EQ(cells[buffer][part], index);
  }
};

TEST(Loader, HandsOverWholeBatches) {
  for (const int threads : {1, 2, 5}) {
    Board board;
    Loader loader(threads,
                  [&](int64_t index, int part, int of, int buffer) { board.fill(index, part, of, buffer); });
    for (int epoch = 0; epoch < 20; ++epoch) {
      loader.cancel();
      loader.start(0);
      const int64_t stop = epoch % 3 == 0 ? 7 : 10;  // some epochs end early, with a batch under way
      for (int64_t index = 0; index < stop; ++index)
        board.expect(loader.fetch(index, index < 9 ? index + 1 : -1), index);
    }
  }
}

TEST(Loader, ServesAnyOrder) {
  Board board;
  Loader loader(3, [&](int64_t index, int part, int of, int buffer) { board.fill(index, part, of, buffer); });
  test::Noise noise(5);
  int64_t index = 0;
  for (int i = 0; i < 500; ++i) {
    const int buffer = loader.fetch(index, index + 1);
    board.expect(buffer, index);
    EXPECT_EQ(loader.fetch(index, index + 1), buffer);  // asked again, it has not moved
    board.expect(buffer, index);
    index = noise(3) == 0 ? noise(10) : index + 1;
  }
}

TEST(Loader, PassesErrorsOnAndGoesOn) {
  std::atomic<bool> fails{true};
  Board board;
  Loader loader(2, [&](int64_t index, int part, int of, int buffer) {
    if (fails && index == 1) throw std::runtime_error("no disk");
    board.fill(index, part, of, buffer);
  });
  loader.fetch(0, 1);
  EXPECT_THROW(loader.fetch(1, 2), std::runtime_error);
  fails = false;
  board.expect(loader.fetch(1, 2), 1);
  fails = true;
  loader.cancel();
  loader.start(1);  // an error that nobody reads is dropped
  loader.cancel();
  board.expect(loader.fetch(0, -1), 0);
}

TEST(Loader, EndsWithWorkUnderWay) {
  for (int i = 0; i < 50; ++i) {
    Board board;
    Loader loader(3,
                  [&](int64_t index, int part, int of, int buffer) { board.fill(index, part, of, buffer); });
    loader.start(4);
  }
}

// --- Whole runs with the program written by hand: f32[1, 28, 28] and an i32 label

const std::string kAugmented =
    R"({"name":"digits","source":"synthetic_digits","options":{"train":500,"test":100},"batch":32,
        "splits":[{"name":"val","count":50,"from":"train"}],
        "normalize":[{"field":"image","name":"channel","options":{"std":true}}],
        "augment":[{"field":"image","name":"random_crop","options":{"pad":2,"size":[28,28]}},
                   {"field":"image","name":"noise","options":{"std":0.05}}]})";

struct Outcome {
  TrainResult result;
  std::vector<uint8_t> parameters;
};

Outcome run(int threads, std::optional<int> loaders, TrainOptions options = {}, int64_t interrupt_at = -1,
            int64_t stop_at = -1) {
  const gradc_program& program = fake_program({.data = kAugmented, .epochs = 2});
  test::seen().interrupt_at = interrupt_at;
  test::seen().stop_at = stop_at;
  const Experiment experiment = read_experiment(program.experiment_json);
  Dataset data = load_dataset(experiment.data);
  fit_preparation(data, experiment.data);
  Session session(program, threads);
  std::FILE* nothing = std::fopen("/dev/null", "w");
  options.out = options.log = nothing;
  options.progress = ProgressMode::off;
  options.loaders = loaders;
  Outcome outcome{train(session, data, experiment, options), {}};
  std::fclose(nothing);
  outcome.parameters.assign(session.parameters(), session.parameters() + program.parameter_bytes);
  return outcome;
}

TEST(LoadedTraining, HasTheSameBits) {
  const Outcome plain = run(1, 0);
  EXPECT_EQ(plain.result.steps, 30);
  for (const auto& [threads, loaders] : {std::pair(1, 1), {2, 1}, {2, 3}, {3, 0}}) {
    const Outcome other = run(threads, loaders);
    EXPECT_EQ(other.parameters, plain.parameters) << threads << " " << loaders;
    EXPECT_EQ(other.result.train_loss, plain.result.train_loss);
  }
  EXPECT_EQ(run(2, std::nullopt).parameters, plain.parameters);
}

TEST(LoadedTraining, CountsItsWaiting) {
  for (const int loaders : {0, 1}) {
    const TrainResult result = run(2, loaders).result;
    EXPECT_GT(result.data_wait_seconds, 0);
    EXPECT_LE(result.data_wait_seconds, result.seconds);
  }
}

TEST(LoadedTraining, EndsWhenInterrupted) {
  std::signal(SIGINT,
              SIG_DFL);  // a script's background job starts with it ignored, and the runtime respects that
  const TrainResult result = run(2, 2, {}, 5).result;
  EXPECT_TRUE(result.interrupted);
  EXPECT_LT(result.steps, 10);
}

TEST(LoadedTraining, FailsWithTheBatchThatFailed) {
  const auto inputs = [](int loaders) {
    try {
      run(1, loaders, {}, -1, 5);
    } catch (const NotFiniteError& error) {
      return error.inputs;
    }
    ADD_FAILURE() << "no error";
    return std::vector<std::vector<uint8_t>>{};
  };
  const auto loaded = inputs(1);
  ASSERT_EQ(loaded.size(), 2u);
  EXPECT_EQ(loaded[0].size(), 32u * 784 * 4);
  EXPECT_EQ(loaded, inputs(0));
}

TEST(LoadedTraining, SavesWhatWasFittedAndEvaluatesWithIt) {
  TemporaryFolder folder;
  const TrainResult result = run(2, 1, {.save = folder / "w.safetensors"}).result;
  const TensorFile file = read_safetensors(folder / "w.safetensors");
  EXPECT_EQ(file.tensors.at("data.image.channel.mean").shape, std::vector<int64_t>{1});
  const gradc_program& program = fake_program({.data = kAugmented});
  const DataRecord record = read_experiment(program.experiment_json).data;
  Session session(program, 1);
  load_checkpoint(session, folder / "w.safetensors");
  Dataset data = load_dataset(record);
  // Other training examples must not matter any more: only what the file holds.
  restore_preparation(data, record, session.data_arrays, "w");
  EXPECT_EQ(session.evaluate(data.split("test")).loss, result.test_loss);
  DataRecord plain = record;
  plain.normalize.clear();
  Dataset other = load_dataset(plain);
  expect_error(kExitDataError, {"w", "data.image.channel.mean is there"},
               [&] { restore_preparation(other, plain, session.data_arrays, "w"); });
}

}  // namespace
}  // namespace gradc::runtime::loader_test
