// The experiment's record and its JSON.
#include "support/experiment.h"

#include <gtest/gtest.h>

#include "support/check.h"

namespace gradc::experiment_test {
namespace {

// Nothing in it is what it is by default.
Experiment full() {
  Experiment x;
  x.data.name = "digits";
  x.data.source = "csv";
  x.data.options = {{"path", std::string("caf\xE9/\xFF.csv")},  // bytes, no UTF-8
                    {"header", true},
                    {"train", int64_t{1} << 62},
                    {"noise", 0.1},
                    {"shape", std::vector<int64_t>{3, 64, 64}}};
  x.data.batch = 128;
  x.data.drop_last = true;
  x.data.fields = {{"image", false, {3, 2}, 10, "x.npy", "t.npy", {"a", "b"}, {4, 5}}};
  x.data.splits = {{.name = "val", .count = 5, .from = "train"},
                   {.name = "dev", .from = "test", .fraction = 0.3},
                   {.name = "fold", .from = "train", .fold = 2, .folds = 5}};
  x.data.normalize = {{"image", "channel", {{"std", true}}}};
  x.data.augment = {{"image", "hue", {{"amount", 0.1}}}, {"image", "flip", {}}};
  x.data.curriculum = "difficulty";
  x.data.curriculum_epochs = 10;
  x.data.bootstrap = 3;
  const Monitor watched{"val", "accuracy", true};
  x.train = {.epochs = 7,
             .seed = -8,
             .accumulate = 4,
             .least_rows = 2,
             .checkpoint = {9, true, 3, watched},
             .stop = {15, watched},
             .plateau = {10, 11, 0.1, 1e-4, watched},
             .full_batch = "lbfgs",
             .full_batch_options = {{"history", 10}},
             .shares = {"accuracy", "top"},
             .optimizers = {{"adamw", 1e-3}, {"sgd", 0.1}},
             .penalised = true,
             .line_search = true};
  x.settings = {{"width", "64"}, {"name", "\x80"}};
  return x;
}

TEST(ExperimentRecord, SurvivesJson) {
  for (const Experiment& x : {full(), Experiment{}}) {
    const std::string text = experiment_json(x);
    EXPECT_EQ(text.find('\n'), std::string::npos);
    EXPECT_TRUE(read_experiment(text.c_str()) == x) << text;
  }
}

TEST(ExperimentRecord, RefusesOtherText) {
  std::string text = experiment_json(full());
  EXPECT_THROW(read_experiment(nullptr), InternalError);
  EXPECT_THROW(read_experiment("{"), InternalError);
  EXPECT_THROW(read_experiment("{}"), InternalError);
  text.replace(text.find("128"), 3, "\"?\"");
  EXPECT_THROW(read_experiment(text.c_str()), InternalError);
}

}  // namespace
}  // namespace gradc::experiment_test
