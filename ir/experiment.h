// What a model file says of its data and its training, as plain records: filled by the frontend, carried to
// the runtime as JSON (runtime/experiment.h reads it), so that the runtime needs no frontend.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace gradc {

// One argument of a data source, as written: mnist("dir", batch=128) has {"", "dir"} and {"batch", 128}.
using RecordValue = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>>;

struct DataSplit {
  std::string name;   // "val"
  int64_t count = 0;  // examples taken from the end of `from`
  std::string from;   // "train"
};

struct DataRecord {
  std::string name;    // data NAME = ...
  std::string source;  // "mnist", "synthetic_digits", "idx", "random"
  std::map<std::string, RecordValue>
      options;  // every option with its default filled in; "path" for the directory
  int64_t batch = 0;
  bool drop_last = false;
  std::vector<DataSplit> splits;
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
