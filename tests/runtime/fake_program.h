// A program written by hand for the runtime's ABI: softmax regression with momentum, so that the runtime
// is tested without the compiler. Its threads share the work as compiled code does, with barriers, and its
// sums do not depend on their number.
#pragma once
#include <csignal>
#include <cstdint>
#include <string>

#include "runtime/abi.h"

namespace gradc::runtime::test {

struct FakeOptions {
  int64_t batch = 32;
  std::string data =
      R"({"name":"digits","source":"synthetic_digits","options":{"train":1000,"test":300},"batch":32})";
  int64_t epochs = 3;
  std::string rules;  // more of "train": R"("stop":{...})"
  int32_t max_threads = 8;
  bool predict = true;
};

// Symbols: dense_1.weight f32[10, 784], dense_1.bias f32[10], seen f32 (a state: training examples so far),
// dense_1.weight.v and dense_1.bias.v (slots). Inputs: digits.image f32[1, 28, 28], digits.label i32.
// Metrics: accuracy. lr = 0.1 (1 - step / total). One program at a time is described by the returned
// reference; it stays valid until the next call.
const gradc_program& fake_program(const FakeOptions& options = {});

// The global rows' count and the last scalars that train_step saw, for tests of what the runtime passes.
struct Seen {
  int64_t calls = 0, rows = 0, largest = 0, smallest = 0;
  double step = 0, epoch = 0, total = 0, lr_factor = 0;
  uint64_t seed = 0, micro_step = 0;
  int32_t threads = 0;
  int64_t label_sum = 0;
  int64_t interrupt_at = -1;  // raise a signal in this call
  int interrupts = 1;         // so many times
  int signal = SIGINT;        // this one; from the second on `second`, where that is given
  int second = 0;
  int64_t stop_at = -1;         // report a loss that is not finite in this call
  int64_t break_at = -1;        // make a symbol infinite in this call
  std::string broken;           // its name
  int64_t evaluations = 0;      // calls of eval
  int64_t stop_evaluation = 0;  // report a loss that is not finite from this call on; 0: never
};
Seen& seen();

}  // namespace gradc::runtime::test
