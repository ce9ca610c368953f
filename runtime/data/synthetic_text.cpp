// Text that a small grammar makes: enough structure that a model of characters can be seen to learn it, first
// words, then agreement of subject and verb, then sums.
#include <array>

#include "runtime/data/text.h"
#include "support/philox.h"

namespace gradc::runtime {
namespace {

// The random stream of the text, different from those of model files.
constexpr uint32_t kTextStream = 0x54455854;

constexpr std::array<const char*, 10> kAnimals = {"dog",  "cat",   "horse", "bird", "goat",
                                                  "frog", "snake", "duck",  "bear", "owl"};
constexpr std::array<const char*, 8> kKinds = {"small",  "old",    "quiet", "brown",
                                               "hungry", "clever", "young", "wet"};
constexpr std::array<const char*, 8> kSees = {"see",  "hear", "follow", "greet",
                                              "find", "like", "help",   "know"};
constexpr std::array<const char*, 6> kRests = {"sleep", "wait", "sing", "run", "play", "swim"};
constexpr std::array<const char*, 8> kPlaces = {"near the river",   "in the garden",   "behind the barn",
                                                "under the bridge", "on the hill",     "by the old road",
                                                "in the forest",    "beside the house"};
constexpr std::array<const char*, 21> kNumbers = {
    "zero",     "one",     "two",     "three",     "four",     "five",     "six",
    "seven",    "eight",   "nine",    "ten",       "eleven",   "twelve",   "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"};

class Writer {
 public:
  Writer(uint64_t seed, uint32_t split) : seed_(seed), split_(split) {}

  std::string sentence() {
    std::string text = draw(5) == 0   ? sum()
                       : draw(6) == 0 ? "if " + clause() + ", then " + clause()
                                      : clause();
    text[0] = static_cast<char>(text[0] - 'a' + 'A');
    return text + ".";
  }
  // Whether a paragraph ends here.
  bool pauses() { return draw(5) == 0; }

 private:
  uint32_t draw(uint32_t below) {
    const uint32_t word = random_word(seed_, split_, kTextStream, next_++, 0);
    return static_cast<uint32_t>(uint64_t{word} * below >> 32);
  }
  template <size_t N>
  std::string any(const std::array<const char*, N>& words) {
    return words[draw(N)];
  }

  // One animal or several, which the verb must agree with.
  std::string animals(bool several) {
    std::string text = several ? std::string(kNumbers[2 + draw(8)]) + " " : draw(3) == 0 ? "every " : "the ";
    if (draw(2) == 0) text += any(kKinds) + " ";
    return text + any(kAnimals) + (several ? "s" : "");
  }

  std::string clause() {
    const bool several = draw(2) == 0;
    const std::string ending = several ? "" : "s";
    std::string text = animals(several);
    // Words between a subject and its verb make agreement harder.
    if (draw(4) == 0) text += " " + any(kPlaces);
    if (draw(2) == 0)
      text += " " + any(kRests) + ending;
    else
      text += " " + any(kSees) + ending + " " + animals(draw(2) == 0);
    if (draw(3) == 0) text += " " + any(kPlaces);
    return text;
  }

  std::string sum() {
    const uint32_t a = draw(11), b = draw(11);
    return std::string(kNumbers[a]) + " and " + kNumbers[b] + " make " + kNumbers[a + b];
  }

  uint64_t seed_;
  uint32_t split_;
  uint64_t next_ = 0;
};

}  // namespace

std::string make_text(uint64_t seed, uint32_t split, int64_t characters) {
  Writer writer(seed, split);
  std::string text;
  while (static_cast<int64_t>(text.size()) < characters) {
    text += writer.sentence();
    text += writer.pauses() ? "\n" : " ";
  }
  text.resize(static_cast<size_t>(characters));
  return text;
}

}  // namespace gradc::runtime
