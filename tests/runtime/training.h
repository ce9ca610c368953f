// The training loop on the hand-written program, with streams of its own. Knows nothing of what is tested.
#pragma once
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/training/train.h"
#include "tests/runtime/fake_program.h"

namespace gradc::runtime::test {

using nlohmann::json;

// A stream in memory, as the loop writes to.
class Stream {
 public:
  Stream() : file_(open_memstream(&text_, &size_)) {}
  ~Stream() {
    std::fclose(file_);
    std::free(text_);
  }
  operator std::FILE*() { return file_; }
  std::string text() {
    std::fflush(file_);
    return std::string(text_, size_);
  }
  std::vector<json> events() {
    std::vector<json> result;
    std::istringstream lines(text());
    for (std::string line; std::getline(lines, line);) result.push_back(json::parse(line));
    return result;
  }

 private:
  char* text_ = nullptr;
  size_t size_ = 0;
  std::FILE* file_;
};

// A session on the fake program with its data, and a run with streams of its own.
struct Bench {
  explicit Bench(const FakeOptions& fake = {}, int threads = 1)
      : program(fake_program(fake)),
        experiment(read_experiment(program.experiment_json)),
        data(load_dataset(experiment.data)),
        session(program, threads) {
    // A script's background job starts with some ignored, and the runtime respects that.
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) std::signal(number, SIG_DFL);
  }
  TrainResult run(TrainOptions options = {}) {
    options.out = out;
    options.log = log;
    return train(session, data, experiment, options);
  }
  const gradc_program& program;
  Experiment experiment;
  Dataset data;
  Session session;
  Stream out, log;
};

inline FakeOptions with_data(const std::string& options, const std::string& more = "", int64_t batch = 32) {
  FakeOptions fake;
  fake.batch = batch;
  fake.data = R"({"name":"digits","source":"synthetic_digits","options":{)" + options + R"(},"batch":)" +
              std::to_string(batch) + more + "}";
  return fake;
}

}  // namespace gradc::runtime::test
