// Text from a language model, character by character. Knows the predict program of a model of characters
// (runtime/data/text.h): tokens i32[length] to f32[length, vocabulary], the probabilities of each next character.
#pragma once
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

#include "runtime/execution/session.h"

namespace gradc::runtime {

struct SampleOptions {
  std::string prompt = "\n";  // UTF-8; what the text goes on from
  int64_t length = 200;       // characters to make
  double temperature = 1;     // probabilities p become p^(1 / temperature); 0: always the likeliest
  uint64_t seed = 1;
  bool json = false;
  std::FILE* out = stdout;  // null: nothing is written
  // For programs that embed gradc: called before each character, true ends the text. With it signal handlers are not
  // changed.
  std::function<bool()> cancelled;
};

// Writes the prompt and the text after it, character by character; with json one event. The same seed gives the same
// text. Throws RunError when the model is no model of characters, looks ahead, or has no number for a
// character of the prompt.
std::string run_sample(Session& session, const SampleOptions& options);

}  // namespace gradc::runtime
