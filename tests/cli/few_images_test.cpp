// Networks on images with few examples a batch: their pixels are folded into rows. Native code against the interpreter and
// central differences, for images that fill panels, share them and exceed them, and with layers that take pixels unfolded
// between; equal bits for any number of threads; a batch with fewer examples than declared.
#include <gtest/gtest.h>

#include <cmath>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::few_images_test {
namespace {

// Strides, dilation, a window of even size, channels in groups, pooling, a shortcut by slices and pads, normalisation
// over the batch and over channels, dropout, and a sequence of rows at the end.
constexpr const char* kNetwork = R"(
set height = 8
set width = 8
set batch = 2
set examples = 4
data noise = random(shape=[3, height, width], train=examples, test=batch, batch=batch)
layer block(x, channels, stride=1) {
    h = x |> conv2d(channels, 3, stride=stride, padding=1, bias=false) |> batchnorm |> relu
    h = h |> conv2d(channels, 3, padding=1) |> batchnorm
    if stride != 1 {
        more = channels - x.channels
        x = pad(slice(x, 0, x.shape, step=[1, stride, stride]), [more // 2, 0, 0], high=[more - more // 2, 0, 0])
    }
    return relu(h + x)
}
model net(image: f32[3, height, width]) {
    h = image |> conv2d(8, 3, padding=2, dilation=2) |> batchnorm |> relu
    h = block(h, 8)
    h = block(h, 12, 2)
    h = h |> conv2d(12, 3, padding=1, groups=12) |> conv2d(17, 1) |> dropout(0.1)
    h = h |> conv2d(9, 2) |> tanh |> max_pool2d([2, 2], stride=[1, 1])
    return h |> global_avg_pool |> dense(10)
}
train {
    logits    = net(noise.image)
    loss      cross_entropy(logits, noise.label)
    predict   softmax(logits)
    optimizer sgd(lr=0.05)
    epochs    3
    seed      3
}
)";

struct Case {
  int height, width, batch;
  const char* target;
};

std::vector<std::string> settings(const Case& c) {
  std::vector<std::string> list;
  for (const auto& [name, value] : {std::pair{"height", c.height}, {"width", c.width}, {"batch", c.batch}}) {
    list.push_back("--set");
    list.push_back(std::string(name) + "=" + std::to_string(value));
  }
  return list;
}

class FewImages : public testing::TestWithParam<Case> {};

TEST_P(FewImages, PassTheCheck) {
  TemporaryFolder folder;
  folder.write("m.nn", kNetwork);
  std::vector<std::string> arguments = {"check", "m.nn", "--target", GetParam().target};
  for (const std::string& s : settings(GetParam())) arguments.push_back(s);
  const ToolResult r = run_tool(arguments, folder.path());
  EXPECT_EQ(r.exit_code, kExitOk) << r.out << r.err;
}

INSTANTIATE_TEST_SUITE_P(Sizes, FewImages,
                         testing::Values(Case{8, 8, 2, "native"}, Case{7, 9, 1, "native"},
                                         Case{12, 32, 3, "native"}, Case{5, 40, 2, "native"},
                                         Case{9, 6, 5, "x86-64-v3"}, Case{8, 16, 1, "x86-64-v3"},
                                         Case{7, 7, 3, "x86-64-v2"}),
                         [](const auto& info) {
                           std::string target = info.param.target;
                           for (char& c : target)
                             if (c == '-') c = '_';
                           return target + "_" + std::to_string(info.param.height) + "x" +
                                  std::to_string(info.param.width) + "_batch" +
                                  std::to_string(info.param.batch);
                         });

TEST(FewImagesTrain, ToTheSameBitsForAnyThreads) {
  TemporaryFolder folder;
  folder.write("m.nn", kNetwork);
  // Three batches of two and one of a single example.
  for (const char* width : {"width=8", "width=11"}) {
    const std::vector<std::string> base = {"--set", width, "--set", "examples=7"};
    const auto with = [&](std::vector<std::string> options) {
      options.insert(options.end(), base.begin(), base.end());
      return last_training_loss(folder.path(), "m.nn", options);
    };
    const double expected = with({"--threads", "1"});
    EXPECT_TRUE(std::isfinite(expected));
    for (const char* threads : {"2", "3", "5"})
      EXPECT_EQ(with({"--threads", threads}), expected) << width << threads;
    // Other kernels sum in other orders: rounding, over twelve steps.
    EXPECT_NEAR(with({"--disable-pass", "fold_rows"}), expected, 1e-4) << width;
  }
}

// The largest batch whose convolutions are folded follows from the lanes that its examples would fill.
TEST(FewImagesTrain, AreFoldedWhereExamplesWouldFillFewLanes) {
  TemporaryFolder folder;
  folder.write("m.nn", kNetwork);
  const auto folds = [&](const char* batch) {
    const ToolResult r = run_tool({"dump", "m.nn", "--stage", "opt", "--function", "train_step", "--set",
                                   "height=32", "--set", "width=32", "--set", batch},
                                  folder.path());
    EXPECT_EQ(r.exit_code, kExitOk) << r.err;
    return r.out.find("conv2d_rows") != std::string::npos;
  };
  EXPECT_TRUE(folds("batch=1"));
  EXPECT_TRUE(folds("batch=8"));
  EXPECT_FALSE(folds("batch=32"));
  EXPECT_FALSE(folds("batch=128"));
}

// One of a batch that was declared large takes the time of one; where changes of layout would outweigh that, images stay.
TEST(FewImagesPredict, FoldsPixelsForAnyBatchWhereEdgesAreFew) {
  TemporaryFolder folder;
  folder.write("m.nn", kNetwork);
  folder.write("pooled.nn", R"(
data noise = random(shape=[1, 28, 28], train=8, test=8, batch=8)
model net(image: f32[1, 28, 28]) {
    return image |> conv2d(6, 5, padding=2) |> relu |> max_pool |> conv2d(16, 5) |> relu |> max_pool |> flatten |> dense(10)
}
train {
    logits    = net(noise.image)
    loss      cross_entropy(logits, noise.label)
    predict   softmax(logits)
    optimizer sgd(lr=0.05)
    epochs    1
}
)");
  const auto folds = [&](const char* file, const char* function, const std::vector<std::string>& settings) {
    std::vector<std::string> arguments = {"dump", file, "--stage", "opt", "--function", function};
    arguments.insert(arguments.end(), settings.begin(), settings.end());
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, kExitOk) << r.err;
    return r.out.find("conv2d_rows") != std::string::npos;
  };
  const std::vector<std::string> large = {"--set", "height=32", "--set", "width=32", "--set", "batch=128"};
  EXPECT_TRUE(folds("m.nn", "predict", large));
  EXPECT_FALSE(folds("m.nn", "eval", large));
  EXPECT_FALSE(folds("pooled.nn", "predict", {}));
  EXPECT_TRUE(folds("pooled.nn", "train_step", {}));
}

}  // namespace
}  // namespace gradc::test::few_images_test
