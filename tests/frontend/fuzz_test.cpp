// Thousands of damaged files: compiling ends soon for each, in a module or in messages. The damage
// is seeded, so that a failure repeats; GRADC_FUZZ_ROUNDS=N tries more.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>

#include "support/check.h"
#include "tests/frontend/helpers.h"

namespace gradc::frontend_test::fuzz_test {
namespace {

std::vector<std::string> read_folders(std::initializer_list<const char*> folders) {
  std::vector<std::string> paths, result;
  for (const char* folder : folders)
    for (const auto& entry : std::filesystem::directory_iterator(std::string(GRADC_SOURCE_DIR) + folder))
      if (entry.path().extension() == ".nn") paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  for (const std::string& p : paths)
    if (p.find("too_many_") == std::string::npos)
      result.push_back(read_file(p));  // those run into limits, which takes a second each
  return result;
}

const std::vector<std::string>& sound_files() {
  static const std::vector<std::string> texts = read_folders({"/examples", "/tests/frontend/models"});
  return texts;
}
const std::vector<std::string>& other_files() {
  static const std::vector<std::string> texts = read_folders({"/tests/errors", "/frontend/prelude"});
  return texts;
}

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  std::string next() {
    std::string text = any_file();
    for (size_t i = 0, n = pick(3) ? 1 : 1 + pick(4); i < n; ++i) damage(text);
    return text;
  }

 private:
  size_t pick(size_t n) { return n == 0 ? 0 : random_() % n; }
  // Damage to files that compile reaches further than damage to those that do not.
  const std::string& any_file() {
    const std::vector<std::string>& files = pick(2) ? sound_files() : other_files();
    return files[pick(files.size())];
  }

  void damage(std::string& text) {
    static const std::vector<std::string> kPieces = {"(",
                                                     ")",
                                                     "[",
                                                     "]",
                                                     "{",
                                                     "}",
                                                     "|>",
                                                     "=",
                                                     "==",
                                                     "..",
                                                     "as x",
                                                     "reuse x",
                                                     "if ",
                                                     "else ",
                                                     "for i in 0..3 ",
                                                     "-1",
                                                     "0",
                                                     "1e9",
                                                     ",",
                                                     ";",
                                                     "\n",
                                                     "return ",
                                                     "training",
                                                     "param[",
                                                     "state ",
                                                     "~",
                                                     "^",
                                                     "@",
                                                     "*",
                                                     "/ 0",
                                                     "-",
                                                     "\"",
                                                     "#",
                                                     "x",
                                                     "[0]",
                                                     ".shape",
                                                     "99999999999",
                                                     "9223372036854775807",
                                                     "0.0",
                                                     "w",
                                                     "g",
                                                     "lr",
                                                     "image",
                                                     "dense",
                                                     "relu",
                                                     "normal(0, 1)",
                                                     "weight",
                                                     "batch_mean(",
                                                     "select(",
                                                     "cast(",
                                                     "(((((((((",
                                                     "]]]]]",
                                                     "not ",
                                                     "and ",
                                                     "step",
                                                     "f32[",
                                                     "on \"*\"",
                                                     "then "};
    const size_t at = pick(text.size() + 1), length = 1 + pick(12);
    switch (pick(7)) {
      case 0: text.erase(std::min(at, text.size()), length); break;
      case 1: text.insert(at, kPieces[pick(kPieces.size())]); break;
      case 2:
        if (!text.empty()) text[pick(text.size())] = static_cast<char>(pick(256));
        break;
      case 3: {  // a line goes elsewhere
        const size_t begin = text.rfind('\n', at), end = text.find('\n', at);
        if (begin == std::string::npos || end == std::string::npos) break;
        const std::string line = text.substr(begin, end - begin);
        if (pick(2)) text.erase(begin, end - begin);
        text.insert(pick(text.size() + 1), line);
        break;
      }
      case 4: {  // a name or number becomes another of the file
        const auto word = [&](size_t from, size_t& begin, size_t& end) {
          const auto part = [&](size_t i) {
            return std::isalnum(static_cast<unsigned char>(text[i])) || text[i] == '_';
          };
          begin = from;
          while (begin < text.size() && !part(begin)) ++begin;
          end = begin;
          while (end < text.size() && part(end)) ++end;
        };
        size_t a = 0, b = 0, c = 0, d = 0;
        word(pick(text.size() + 1), a, b);
        word(pick(text.size() + 1), c, d);
        const std::string other = text.substr(c, d - c);
        text.replace(a, b - a, other);
        break;
      }
      case 5: text.resize(at); break;
      case 6: {  // a piece of another file
        const std::string& other = any_file();
        const size_t from = pick(other.size());
        text.insert(at, other.substr(from, pick(200)));
        break;
      }
    }
    if (text.size() > 20000) text.resize(20000);
  }

  std::mt19937 random_;
};

TEST(Fuzz, DamagedFilesEndInAModuleOrInMessages) {
  const char* wanted = std::getenv("GRADC_FUZZ_ROUNDS");
  const int rounds = wanted ? std::atoi(wanted) : 4000;
  int compiled = 0;
  for (int seed = 0; seed < rounds; ++seed) {
    const std::string text = Mutator(static_cast<uint32_t>(seed)).next();
    const auto start = std::chrono::steady_clock::now();
    SourceManager sources;
    Diagnostics diagnostics(sources);
    const uint32_t file = sources.add("fuzz.nn", text);
    try {
      const auto model = frontend::compile(sources, file, {}, diagnostics);
      ASSERT_EQ(model.has_value(), !diagnostics.has_errors()) << "seed " << seed << "\n" << text;
      if (model) {
        ++compiled;
        ASSERT_TRUE(verify(*model->module).empty()) << "seed " << seed << "\n" << text;
      }
      ASSERT_FALSE(diagnostics.has_errors() && diagnostics.render().empty()) << "seed " << seed;
    } catch (const std::exception& e) {
      FAIL() << "seed " << seed << ": " << e.what() << "\n" << text;
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ASSERT_LT(seconds, 30) << "seed " << seed << "\n" << text;
  }
  // The damage must not always be fatal, or nothing after the parser is reached.
  EXPECT_GT(compiled, rounds / 100);
}

}  // namespace
}  // namespace gradc::frontend_test::fuzz_test
