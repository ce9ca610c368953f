// What a model file says of its data and its training, as plain records: filled by the frontend, carried to
// the runtime as JSON (runtime/experiment.h reads it), so that the runtime needs no frontend.
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

// Examples taken out of the part `from`; one of the three forms.
struct DataSplit {
  std::string name;             // "val"
  int64_t count = 0;            // so many from the end
  std::string from;             // "train"
  double fraction = 0;          // this share of them, from the end
  int64_t fold = 0, folds = 0;  // each folds-th, the fold-th first
};

// A field that the model file declares, of a source that reads the user's own files.
struct DataField {
  std::string name;
  std::string dtype;                 // "f32" or "i32"
  std::vector<int64_t> shape;        // of one example
  std::string train, test;           // npy: the files; test may be empty
  std::vector<std::string> columns;  // csv: by name, or
  std::vector<int64_t> numbers;      // by number, from 0
};

// A method of preparing examples with all its options: normalize FIELD by NAME(...), or one of augment.
struct DataMethod {
  std::string field;
  std::string name;
  std::map<std::string, RecordValue> options;
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
};

// A number that epochs are judged by: loss or a metric on a part of the data.
struct Monitor {
  std::string part, metric;  // "val", "accuracy"; no part: none
  bool greater = false;      // is better
};

// checkpoint every 2 epochs keep 3 best val.accuracy
struct CheckpointRule {
  int64_t every = 0;   // 0: none
  bool steps = false;  // updates, not epochs
  int64_t keep = 0;    // files; 0: all
  Monitor best;        // which are kept; no part: the last
};

// stop when val.loss stalls 10 epochs
struct StopRule {
  int64_t patience = 0;  // epochs; 0: none
  Monitor monitor;
};

// schedule reduce_on_plateau(...): the rate of every optimizer times a factor that shrinks.
struct PlateauRule {
  int64_t patience = 0, cooldown = 0;
  double factor = 1, threshold = 0;  // factor 1: none
  Monitor monitor;
};

// A `loss`, as far as its value before training is known: what it is where every class scores the same.
struct LossRecord {
  std::string name;        // as written; empty: none
  double weight = 1;       // of its place in the sum
  std::string function;    // of the prelude that makes it, "cross_entropy"; empty: another
  int64_t classes = 0;     // that it tells apart
  double indifferent = 0;  // its value there: log(classes) for cross_entropy
};

struct OptimizerRecord {
  std::string name;  // "adamw"
  double lr = 0;     // as written; schedules and factors not in it
};

struct TrainRecord {
  int64_t epochs = 1;
  int64_t seed = 1;
  int64_t accumulate = 1;  // batches an update; 0: all of an epoch
  CheckpointRule checkpoint;
  StopRule stop;
  PlateauRule plateau;
  // An optimizer that is a procedure of the runtime ("gd", "lbfgs", "svrg") and its numbers; empty: none.
  std::string driver;
  std::map<std::string, double> driver_options;
  std::vector<LossRecord> losses;
  std::vector<OptimizerRecord> optimizers;
  bool penalised = false;    // there is a `penalty`
  bool line_search = false;  // the optimizer finds the lengths of its steps itself
};

// A field of the data that the programs take as input, in input order.
struct ExperimentRecord {
  DataRecord data;
  TrainRecord train;
};

}  // namespace gradc
