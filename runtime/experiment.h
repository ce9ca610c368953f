// What a program says of its data and its training: plain records read from gradc_program.experiment_json.
//
// The JSON, all keys required unless a default is given:
//   {"data":  {"name": "digits",            the data set's name in the model file
//              "source": "mnist",           see runtime/dataset.h
//              "options": {"path": "dir"},  the source's options: bool, integer, double, string or list of
//              integers
//              "batch": 128,                at most gradc_program.batch
//              "drop_last": false,          default false
//              "splits": [{"name": "val", "count": 5000, "from": "train"}],   default []; instead of count,
//                                           "fraction": 0.1, or "fold": 1 and "folds": 5
//              "fields": [{"name": "image", "dtype": "f32", "shape": [3, 64, 64], "train": "x.npy",
//                          "test": "", "columns": [], "numbers": []}],        default []; those declared
//              "normalize": [{"field": "image", "name": "channel", "options": {"std": true}}],   default []
//              "augment": [{"field": "image", "name": "hue", "options": {"amount": 0.1}}],       default []
//              "curriculum": {"field": "difficulty", "epochs": 10},                              default none
//              "bootstrap": 3},             default none: the seed
//    "settings": {"width": "64"},           default none: what `--set` chose when it was compiled
//    "train": {"epochs": 10, "seed": 1,
//              "accumulate": 4,             default 1: batches an update; 0: all of an epoch
//              "checkpoint": {"every": 1, "steps": false, "keep": 3, "best": MONITOR},      default none
//              "stop": {"patience": 15, "monitor": MONITOR},                                 default none
//              "plateau": {"patience": 10, "cooldown": 0, "factor": 0.1, "threshold": 1e-4,
//                          "monitor": MONITOR},                                              default none
//              "driver": {"name": "lbfgs", "options": {"history": 10}}}}                      default none
//   MONITOR: {"part": "val", "metric": "accuracy", "greater": true}; part "" where there is none
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace gradc::runtime {

using OptionValue = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>>;

// Examples taken out of the part `from`, which then lacks them.
struct SplitRecord {
  std::string name;
  int64_t count = 0;  // so many from the end, or
  std::string from;
  double fraction = 0;          // this share from the end, or
  int64_t fold = 0, folds = 0;  // those at fold - 1, fold - 1 + folds, ...
};

// A declared field of the sources npy and csv.
struct FieldRecord {
  std::string name;
  bool is_float = true;              // f32, else i32
  std::vector<int64_t> shape;        // of one example
  std::string train, test;           // npy: files
  std::vector<std::string> columns;  // csv: by name, or
  std::vector<int64_t> numbers;      // by number, from 0
};

// A normalisation or augmentation with all its options (runtime/normalize.h, runtime/augment.h).
struct MethodRecord {
  std::string field;
  std::string name;
  std::map<std::string, OptionValue> options;
};

struct DataRecord {
  std::string name;
  std::string source;
  std::map<std::string, OptionValue> options;
  int64_t batch = 0;
  bool drop_last = false;
  std::vector<SplitRecord> splits;
  std::vector<FieldRecord> fields;
  std::vector<MethodRecord> normalize, augment;  // in order
  std::string curriculum;                        // the field of scores; empty: none
  int64_t curriculum_epochs = 0;
  std::optional<int64_t> bootstrap;  // seed
};

// A number that epochs are judged by.
struct Monitor {
  std::string part, metric;  // "val", "accuracy"; no part: none
  bool greater = false;      // is better
};

struct CheckpointRule {
  int64_t every = 0;  // epochs or steps; 0: none
  bool steps = false;
  int64_t keep = 0;  // files; 0: all
  Monitor best;      // which are kept; no part: the last
};

struct StopRule {
  int64_t patience = 0;  // epochs without getting better; 0: none
  Monitor monitor;
};

struct PlateauRule {
  int64_t patience = 0, cooldown = 0;
  double factor = 1, threshold = 0;  // factor 1: none
  Monitor monitor;
};

struct TrainRecord {
  int64_t epochs = 1;
  int64_t seed = 1;
  int64_t accumulate = 1;  // batches an update; 0: all of an epoch
  CheckpointRule checkpoint;
  StopRule stop;
  PlateauRule plateau;
  std::string driver;  // an optimizer that is a procedure here, see runtime/drivers.h; empty: none
  std::map<std::string, double> driver_options;
};

struct Experiment {
  DataRecord data;
  TrainRecord train;
  std::map<std::string, std::string> settings;  // that `--set` chose
};

// Strings of the record are bytes, since paths and settings are, and JSON holds code points: each byte is
// written as the code point of its value, so that ASCII stays as it is. bytes_of_text() throws InternalError
// for a code point above 255.
std::string text_of_bytes(const std::string& bytes);
std::string bytes_of_text(const std::string& text);

// Throws InternalError for text that is not as above: the compiler writes it, not the user.
Experiment read_experiment(const char* json);

// Gives options of the data source other values than the model file's: NAME=VALUE, or a path alone, which is
// the option `path`. Throws RunError (kExitUsage) for an option the source does not have, or a value of
// another kind.
void override_options(DataRecord& record, const std::vector<std::string>& given);

}  // namespace gradc::runtime
