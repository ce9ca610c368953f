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

struct TrainRecord {
  int64_t epochs = 1;
  int64_t seed = 1;
};

// A field of the data that the programs take as input, in input order.
struct ExperimentRecord {
  DataRecord data;
  TrainRecord train;
};

}  // namespace gradc
