// A model file's data and training as plain records: the frontend fills them in, the training loop reads them. A
// compiled program carries them as JSON (gradc_program.experiment_json).
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace gradc {

// One argument of a data source, as written: mnist("dir", batch=128) has {"", "dir"} and {"batch", 128}.
using RecordValue = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>>;

// Examples taken out of the split `from`; one of the three forms.
struct DataSplit {
  std::string name;             // "val"
  int64_t count = 0;            // so many from the end
  std::string from;             // "train"
  double fraction = 0;          // this share of them, from the end
  int64_t fold = 0, folds = 0;  // each folds-th, the fold-th first

  bool operator==(const DataSplit&) const = default;
};

// A field of the data before normalize and augment: the source's own, or one that the model file declares for a source
// that reads the user's files.
struct DataField {
  std::string name;
  bool is_float = true;              // f32, else i32
  std::vector<int64_t> shape;        // of one example
  int64_t count = 0;                 // i32: its values are 0 to count - 1; 0: not known
  std::string train, test;           // npy: the files; test may be empty
  std::vector<std::string> columns;  // csv: by name, or
  std::vector<int64_t> numbers;      // by number, from 0

  bool operator==(const DataField&) const = default;
};

// A method of preparing examples with all its options: normalize FIELD by NAME(...), or one of augment.
struct DataMethod {
  std::string field;
  std::string name;
  std::map<std::string, RecordValue> options;

  bool operator==(const DataMethod&) const = default;
};

struct DataRecord {
  std::string name;    // data NAME = ...
  std::string source;  // "mnist", "cifar10", ..., see frontend/data_sources.cpp
  std::map<std::string, RecordValue>
      options;  // every option with its default filled in; "path" for the directory
  int64_t batch = 0;
  bool drop_last = false;
  std::vector<DataField> fields;
  std::vector<DataSplit> splits;
  std::vector<DataMethod> normalize;  // in order
  std::vector<DataMethod> augment;    // in order, all of one field
  std::string curriculum;             // the field of scores; empty: none
  int64_t curriculum_epochs = 0;
  std::optional<int64_t> bootstrap;  // seed

  bool operator==(const DataRecord&) const = default;
};

// A number that epochs are judged by: loss or a metric on a split.
struct Monitor {
  std::string split, metric;  // "val", "accuracy"; empty split: none
  bool greater = false;       // is better

  bool operator==(const Monitor&) const = default;
};

// checkpoint every 2 epochs keep 3 best val.accuracy
struct CheckpointRule {
  int64_t every = 0;   // 0: none
  bool steps = false;  // updates, not epochs
  int64_t keep = 0;    // files; 0: all
  Monitor best;        // which are kept; empty split: the last

  bool operator==(const CheckpointRule&) const = default;
};

// stop when val.loss stalls 10 epochs
struct StopRule {
  int64_t patience = 0;  // epochs; 0: none
  Monitor monitor;

  bool operator==(const StopRule&) const = default;
};

// schedule reduce_on_plateau(...): the rate of every optimizer times a factor that shrinks.
struct PlateauRule {
  int64_t patience = 0, cooldown = 0;
  double factor = 1, threshold = 0;  // factor 1: none
  Monitor monitor;

  bool operator==(const PlateauRule&) const = default;
};

struct OptimizerRecord {
  std::string name;  // "adamw"
  double lr = 0;     // as written, without schedules and factors

  bool operator==(const OptimizerRecord&) const = default;
};

struct TrainRecord {
  int64_t epochs = 1;
  int64_t seed = 1;
  int64_t accumulate = 1;  // batches an update; 0: all of an epoch
  // The fewest rows of a batch for which the model's statistics over it are defined: 2 for a variance.
  int64_t least_rows = 1;
  CheckpointRule checkpoint;
  StopRule stop;
  PlateauRule plateau;
  // A full-batch optimizer, which the runtime implements ("gd", "lbfgs", "svrg"), and its numbers; empty: none.
  std::string full_batch;
  std::map<std::string, double> full_batch_options;
  std::vector<std::string> shares;  // metrics that are averages of truth values, as accuracies are
  std::vector<OptimizerRecord> optimizers;
  bool penalised = false;    // there is a `penalty`
  bool line_search = false;  // the optimizer finds the lengths of its steps itself

  bool operator==(const TrainRecord&) const = default;
};

struct Experiment {
  DataRecord data;
  TrainRecord train;
  std::map<std::string, std::string> settings;  // from `--set`

  bool operator==(const Experiment&) const = default;
};

// The record as one line of JSON:
//   {"data":  {"name": "digits", "source": "mnist", "options": {"path": "dir"}, "batch": 128,
//              "drop_last": false,          default false
//              "splits": [{"name": "val", "from": "train", "count": 5000}],   default []; instead of count,
//                                           "fraction": 0.1, or "fold": 1 and "folds": 5
//              "fields": [{"name": "image", "dtype": "f32", "shape": [3, 64, 64], "count": 0,
//                          "train": "x.npy", "test": "", "columns": [], "numbers": []}],     default []
//              "normalize": [{"field": "image", "name": "channel", "options": {"std": true}}],   default []
//              "augment": [{"field": "image", "name": "hue", "options": {"amount": 0.1}}],       default []
//              "curriculum": {"field": "difficulty", "epochs": 10},                              default none
//              "bootstrap": 3},             default none: the seed
//    "settings": {"width": "64"},           default none
//    "train": {"epochs": 10, "seed": 1,
//              "accumulate": 4,             default 1
//              "least_rows": 2,             default 1
//              "checkpoint": {"every": 1, "steps": false, "keep": 3, "best": MONITOR},      default none
//              "stop": {"patience": 15, "monitor": MONITOR},                                 default none
//              "plateau": {"patience": 10, "cooldown": 0, "factor": 0.1, "threshold": 1e-4,
//                          "monitor": MONITOR},                                              default none
//              "full_batch": {"name": "lbfgs", "options": {"history": 10}},                      default none
//              "shares": ["accuracy"],                                                       default []
//              "optimizers": [{"name": "adamw", "lr": 0.001}],                               default []
//              "penalised": true, "line_search": true}}                                      default false
//   MONITOR: {"split": "val", "metric": "accuracy", "greater": true}; split "" where there is none
// Names and paths are bytes and JSON holds code points: each byte is written as the code point of its value,
// so that ASCII is unchanged.
std::string experiment_json(const Experiment& experiment);

// The record of such a text. Throws InternalError for any other: the compiler writes it, not the user.
Experiment read_experiment(const char* json);

// Bytes as that text, and back; bytes_of_text() throws InternalError for a code point above 255.
std::string text_of_bytes(const std::string& bytes);
std::string bytes_of_text(const std::string& text);

// Gives options of the data source other values than the model file's: NAME=VALUE, or a path alone, which is
// the option `path`. Throws RunError (kExitUsage) for an option the source does not have, or a value of
// another kind.
void override_options(DataRecord& record, const std::vector<std::string>& given);

}  // namespace gradc
