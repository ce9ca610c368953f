// Several views of an image at evaluation: ten crops and several scales, against the mean computed here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/data/image_ops.h"
#include "runtime/data/npy.h"
#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::view_test {
namespace {

using Json = nlohmann::json;
using Rows = std::vector<std::vector<double>>;

// A model that predicts what it sees, on images of 10 x 12 of which it reads 8 x 8.
class ViewTest : public testing::Test {
 protected:
  static constexpr int kHeight = 10, kWidth = 12, kSide = 8, kRows = 5;
  ViewTest() {
    std::string bytes = runtime::npy_header("<f4", {kRows, 1, kHeight, kWidth});
    for (int i = 0; i < kRows * kHeight * kWidth; ++i)
      pixels.push_back(static_cast<float>((i * 37) % 101) / 100.0f);
    bytes.append(reinterpret_cast<const char*>(pixels.data()), pixels.size() * 4);
    folder.write("x.npy", bytes);
    folder.write("m.nn",
                 "data d = npy(batch=2) {\n    field x: f32[1, 10, 12] = \"x.npy\"\n"
                 "    normalize x by value\n    augment x { random_crop(size=8) }\n}\n"
                 "train {\n    y = dense(flatten(d.x), 1)\n    loss sum(y^2)\n    predict flatten(d.x)\n"
                 "    optimizer sgd()\n}\n");
    EXPECT_EQ(run_tool({"train", "m.nn", "--steps", "1", "--save", "w.st"}, folder.path()).exit_code, 0);
  }
  Rows predictions(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"predict", "m.nn", "--weights", "w.st"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, 0) << r.err;
    Rows rows;
    for (const std::string& line : lines(r.out)) {
      rows.emplace_back();
      std::istringstream numbers(line);
      for (double x; numbers >> x;) rows.back().push_back(x);
    }
    return rows;
  }
  // The mean over these crops of normalised images.
  static Rows mean_of(const std::vector<runtime::Image>& images, bool ten, double mean, double deviation) {
    Rows rows;
    for (const runtime::Image& image : images) {
      rows.emplace_back(kSide * kSide);
      const int64_t down = image.height - kSide, right = image.width - kSide;
      std::vector<std::pair<int64_t, int64_t>> places = {{down / 2, right / 2}};
      if (ten) places = {{0, 0}, {0, right}, {down, 0}, {down, right}, {down / 2, right / 2}};
      for (const auto& [top, left] : places)
        for (int mirrored = 0; mirrored < (ten ? 2 : 1); ++mirrored)
          for (int64_t y = 0; y < kSide; ++y)
            for (int64_t x = 0; x < kSide; ++x) {
              const int64_t from = left + (mirrored ? kSide - 1 - x : x);
              rows.back()[static_cast<size_t>(y * kSide + x)] +=
                  (image.row(0, top + y)[from] - mean) / deviation / (ten ? 10 : 1);
            }
    }
    return rows;
  }
  static void expect_near(const Rows& found, const Rows& wanted) {
    ASSERT_EQ(found.size(), wanted.size());
    for (size_t r = 0; r < found.size(); ++r) {
      ASSERT_EQ(found[r].size(), wanted[r].size());
      for (size_t i = 0; i < found[r].size(); ++i)
        EXPECT_NEAR(found[r][i], wanted[r][i], 1e-5) << r << " " << i;
    }
  }
  TemporaryFolder folder;
  std::vector<float> pixels;
};

TEST_F(ViewTest, TenCropsAndScalesAreAveraged) {
  std::vector<runtime::Image> images, larger;
  double mean = 0, squares = 0;
  for (int r = 0; r < kRows; ++r) {
    images.emplace_back(1, kHeight, kWidth);
    std::copy_n(pixels.begin() + r * kHeight * kWidth, kHeight * kWidth, images.back().values.begin());
    larger.push_back(runtime::resized_crop(images.back(), {0, 0, kHeight, kWidth}, 15, 18));
    // Fitted to the crops of evaluation.
    for (int y = 1; y < 9; ++y)
      for (int x = 2; x < 10; ++x) mean += images.back().row(0, y)[x] / (kRows * 64.0);
  }
  for (const runtime::Image& image : images)
    for (int y = 1; y < 9; ++y)
      for (int x = 2; x < 10; ++x) squares += std::pow(image.row(0, y)[x] - mean, 2) / (kRows * 64.0);
  const double deviation = std::sqrt(squares);
  expect_near(predictions({}), mean_of(images, false, mean, deviation));
  expect_near(predictions({"--ten-crop"}), mean_of(images, true, mean, deviation));
  expect_near(predictions({"--scales", "10"}), mean_of(images, false, mean, deviation));
  expect_near(predictions({"--scales", "15"}), mean_of(larger, false, mean, deviation));
  Rows both = mean_of(images, true, mean, deviation);
  const Rows other = mean_of(larger, true, mean, deviation);
  for (size_t r = 0; r < both.size(); ++r)
    for (size_t i = 0; i < both[r].size(); ++i) both[r][i] = (both[r][i] + other[r][i]) / 2;
  expect_near(predictions({"--ten-crop", "--scales", "10,15"}), both);
}

// An executable sees the same views, with parameters from a file or its own.
TEST_F(ViewTest, ExecutablesSeeTheSame) {
  folder.write(
      "labelled.nn",
      "data d = synthetic_digits(train=64, test=48, batch=16) { augment image { random_crop(size=24) } }\n"
      "train {\n    logits = dense(flatten(d.image), 10)\n    loss cross_entropy(logits, d.label)\n"
      "    predict softmax(logits)\n    optimizer sgd()\n}\n");
  ASSERT_EQ(run_tool({"train", "labelled.nn", "--steps", "4", "--save", "l.st"}, folder.path()).exit_code, 0);
  const std::vector<std::string> native = {"--target", "native"};
  const auto compile = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "compile");
    arguments.insert(arguments.end(), native.begin(), native.end());
    const ToolResult r = run_tool(arguments, folder.path());
    ASSERT_EQ(r.exit_code, 0) << r.err;
  };
  compile({"m.nn", "-o", "sees"});
  compile({"labelled.nn", "-o", "own", "--infer", "--weights", "l.st"});
  const auto run = [&](std::vector<std::string> command) {
    command[0] = folder.path(command[0]);
    return run_bare(command, folder.path());
  };
  for (const std::vector<std::string>& views :
       {std::vector<std::string>{"--ten-crop"}, {"--scales", "10,15"}, {"--ten-crop", "--scales", "15"}}) {
    std::vector<std::string> tool = {"predict", "m.nn", "--weights", "w.st"},
                             exe = {"sees", "predict", "--weights", "w.st"},
                             tool_eval = {"eval", "labelled.nn", "--weights", "l.st", "--json"},
                             exe_eval = {"own", "eval", "--json"};
    for (std::vector<std::string>* command : {&tool, &exe})
      command->insert(command->end(), views.begin(), views.end());
    const ToolResult wanted = run_tool(tool, folder.path());
    ASSERT_EQ(wanted.exit_code, 0) << wanted.err;
    EXPECT_NE(wanted.out, run({"sees", "predict", "--weights", "w.st"}).out);
    EXPECT_EQ(run(exe).out, wanted.out);
    // Digits are 28 x 28.
    const std::vector<std::string> larger =
        views.size() == 1 ? views : std::vector<std::string>{"--scales", "28,36"};
    for (std::vector<std::string>* command : {&tool_eval, &exe_eval})
      command->insert(command->end(), larger.begin(), larger.end());
    const ToolResult evaluated = run_tool(tool_eval, folder.path());
    ASSERT_EQ(evaluated.exit_code, 0) << evaluated.err;
    EXPECT_EQ(Json::parse(lines(evaluated.out).back()).at("members"), views.size() == 1 ? 10 : 2);
    EXPECT_EQ(run(exe_eval).out, evaluated.out);
  }
  const ToolResult small = run({"sees", "predict", "--weights", "w.st", "--scales", "7"});
  EXPECT_EQ(small.exit_code, kExitUsage);
  EXPECT_NE(small.err.find("`x` has 7 x 8 pixels at scale 7"), std::string::npos) << small.err;
  // Where a model reads no images there is nothing to choose views of, and the options are not there.
  folder.write("flat.nn",
               "data d = random(shape=[6], train=32, test=8, batch=8)\ntrain {\n    y = dense(d.image, 3)\n"
               "    loss sum(y)\n    predict y\n    optimizer sgd()\n}\n");
  compile({"flat.nn", "-o", "flat"});
  EXPECT_NE(run({"flat", "eval", "--weights", "w.st", "--ten-crop"}).err.find("no option '--ten-crop'"),
            std::string::npos);
}

TEST_F(ViewTest, SaysWhatCannotBeSeen) {
  const auto refuses = [&](const std::vector<std::string>& arguments, const std::string& piece) {
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, kExitUsage) << r.err;
    EXPECT_NE(r.err.find(piece), std::string::npos) << r.err;
  };
  refuses({"predict", "m.nn", "--weights", "w.st", "--scales", "7"},
          "`x` has 7 x 8 pixels at scale 7, and the model reads 8 x 8");
  refuses({"predict", "m.nn", "--weights", "w.st", "--scales", "0"}, "--scales");
  folder.write("digits.nn", small_model());
  ASSERT_EQ(run_tool({"train", "digits.nn", "--steps", "1", "--save", "d.st"}, folder.path()).exit_code, 0);
  refuses({"eval", "digits.nn", "--weights", "d.st", "--ten-crop"}, "there is nothing to choose");
  // Without any method of preparing examples, larger images are cropped all the same.
  const ToolResult r = run_tool(
      {"eval", "digits.nn", "--weights", "d.st", "--ten-crop", "--scales", "32", "--json"}, folder.path());
  ASSERT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(Json::parse(lines(r.out).back()).at("members"), 10);
  folder.write("flat.nn",
               "data d = random(shape=[6], train=32, test=8, batch=8)\ntrain {\n    y = dense(d.image, 3)\n"
               "    loss sum(y)\n    predict y\n    optimizer sgd()\n}\n");
  ASSERT_EQ(run_tool({"train", "flat.nn", "--steps", "1", "--save", "f.st"}, folder.path()).exit_code, 0);
  refuses({"predict", "flat.nn", "--weights", "f.st", "--ten-crop"}, "the data have none");
}

}  // namespace
}  // namespace gradc::test::view_test
