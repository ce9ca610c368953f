// Every file of tests/fuzz/corpus/, seeds and what the fuzzers found, through the entry that libFuzzer calls:
// with any compiler, in seconds. A file that was a finding stays a test here.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>

#include "tests/fuzz/target.h"

namespace gradc::fuzz {

void PrintTo(const Target& target, std::ostream* out) { *out << target.name; }

namespace {

namespace fs = std::filesystem;

const fs::path kCorpus = fs::path(GRADC_SOURCE_DIR) / "tests/fuzz/corpus";
constexpr double kMostSeconds = 10;  // for one input; libFuzzer's limit, under sanitizers, is `./dev fuzz`'s

std::vector<fs::path> inputs_of(const std::string& target) {
  std::vector<fs::path> paths;
  for (const auto& entry :
       fs::recursive_directory_iterator(kCorpus / target, fs::directory_options::follow_directory_symlink))
    if (entry.is_regular_file()) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

class Corpus : public testing::TestWithParam<Target> {};

TEST_P(Corpus, EveryInputIsReadOrRefused) {
  const std::vector<fs::path> paths = inputs_of(GetParam().name);
  ASSERT_FALSE(paths.empty()) << "a target has inputs in tests/fuzz/corpus/" << GetParam().name;
  for (const fs::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
    const auto start = std::chrono::steady_clock::now();
    try {
      GetParam().run(bytes);
    } catch (const std::exception& error) {
      ADD_FAILURE() << path << ": " << error.what();
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    EXPECT_LT(seconds, kMostSeconds) << path;
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, Corpus, testing::ValuesIn(targets()),
                         [](const auto& info) { return info.param.name; });

// A folder that no target reads would be tested by nothing.
TEST(Corpora, HaveTargets) {
  for (const auto& folder : fs::directory_iterator(kCorpus))
    EXPECT_TRUE(std::any_of(targets().begin(), targets().end(), [&](const Target& t) {
      return t.name == folder.path().filename();
    })) << folder.path();
}

TEST(Corpora, APropertyThatDoesNotHoldIsReported) {
  EXPECT_NO_THROW(require(true, "holds"));
  EXPECT_THROW(require(false, "does not hold"), std::logic_error);
  EXPECT_FALSE(accepts([] { throw RunError(kExitDataError, "wrong data"); }));
  EXPECT_THROW(accepts([] { throw RunError(kExitInternal, "a mistake"); }), std::logic_error);
  EXPECT_THROW(accepts([] { throw InternalError("a mistake"); }), InternalError);
}

}  // namespace
}  // namespace gradc::fuzz
