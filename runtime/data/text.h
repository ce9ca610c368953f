// Text as examples for language models: windows of characters, each with the characters that follow; and the
// vocabulary that numbers characters. Knows nothing of programs and training.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/data/data_arrays.h"
#include "runtime/data/dataset.h"

namespace gradc::runtime {

// text: `path`, a file of UTF-8 (split train), or, without one, `characters` that code makes from `seed`
// (split train, and a tenth as many others: test); `test`, another file; `length` of a window, `stride` from
// one window's first character to the next one's (0: the length). tokens i32[length], next i32[length]:
// characters as Unicode code points, next[i] after tokens[i]. A rest at the end, shorter than a window, is dropped.
std::vector<Split> read_text(const DataRecord& record);

// Text by a small grammar: sentences about animals whose verbs agree with their subjects, and sums in words
// that are right. At least `characters` of it, ASCII, cut to that number. `split` 0 and 1 are different texts.
std::string make_text(uint64_t seed, uint32_t split, int64_t characters);

// The code points of UTF-8 text. Throws RunError (kExitDataError) for other bytes, with `name` and their offset.
std::vector<int32_t> code_points(std::string_view text, const std::string& name);
std::string utf8(int32_t code_point);

// Numbers for characters: 1, 2, ... in order of code points; 0 for all others.
class Vocabulary {
 public:
  // Numbers the most frequent characters, so few that numbers stay below `size`; of equally frequent ones those
  // with the least code points.
  static Vocabulary of(const std::map<int32_t, int64_t>& counts, int64_t size);
  // Restores kept(): code points, rising. Empty if the values are not a vocabulary.
  static Vocabulary restored(const std::vector<double>& kept);
  NumberArray kept() const;

  bool empty() const { return characters_.empty(); }
  int64_t size() const { return static_cast<int64_t>(characters_.size()) + 1; }  // numbers, 0 included
  int32_t number(int32_t code_point) const;
  int32_t character(int64_t number) const { return characters_[static_cast<size_t>(number - 1)]; }
  bool operator==(const Vocabulary& other) const { return characters_ == other.characters_; }

 private:
  std::vector<int32_t> characters_;
};

// The name of the array that keeps a vocabulary with the weights.
inline constexpr const char* kVocabularyArray = "data.tokens.vocabulary";

}  // namespace gradc::runtime
