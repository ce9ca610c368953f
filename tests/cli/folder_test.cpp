// A folder of images from the model file to an executable, and that executables without one carry no
// decoders.
#include <gtest/gtest.h>
#include <png.h>

#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "support/philox.h"
#include "tests/cli/tool.h"

namespace gradc::test::folder_test {
namespace {

using Json = nlohmann::json;

// Images of noise: bright ones in `day`, dark ones in `night`.
void write_images(const TemporaryFolder& folder, const std::string& part, uint32_t count) {
  for (const std::string name : {"day", "night"}) {
    std::filesystem::create_directories(folder.path(part + "/" + name));
    for (uint32_t i = 0; i < count; ++i) {
      uint8_t pixels[10 * 12 * 3];
      for (uint32_t k = 0; k < sizeof pixels; ++k)
        pixels[k] = static_cast<uint8_t>(random_word(name.size() + count, i, 1, k, 0) % 150 +
                                         (name == "day" ? 80 : 0));
      png_image image{};
      image.version = PNG_IMAGE_VERSION;
      image.format = PNG_FORMAT_RGB;
      image.height = 10;
      image.width = 12;
      const std::string path = folder.path(part + "/" + name + "/" + std::to_string(i) + ".png");
      ASSERT_TRUE(png_image_write_to_file(&image, path.c_str(), 0, pixels, 0, nullptr));
    }
  }
}

TEST(Folder, TrainsHereAndAsAnExecutable) {
  TemporaryFolder folder;
  write_images(folder, "train", 40);
  write_images(folder, "test", 10);
  folder.write("m.nn",
               "data photos = folder(\"train\", test=\"test\", height=6, width=8, classes=2, batch=16) {\n"
               "    normalize image by channel\n}\n"
               "train {\n    logits = dense(flatten(photos.image), 2)\n"
               "    loss cross_entropy(logits, photos.label)\n    metric accuracy(logits, photos.label)\n"
               "    optimizer adam(lr=1e-2)\n    epochs 4\n}\n");
  const ToolResult here = run_tool({"train", "m.nn", "--json"}, folder.path());
  ASSERT_EQ(here.exit_code, 0) << here.err;
  const Json end = Json::parse(lines(here.out).back());
  EXPECT_GT(end.at("test_accuracy").get<double>(), 0.95);

  ASSERT_EQ(run_tool({"compile", "m.nn", "-o", "photos", "--target", "native"}, folder.path()).exit_code, 0);
  const ToolResult alone = run_bare({"./photos", "train", "--json"}, folder.path());
  ASSERT_EQ(alone.exit_code, 0) << alone.err;
  EXPECT_EQ(Json::parse(lines(alone.out).back()).at("weights_sha256"), end.at("weights_sha256"));
  EXPECT_NE(read_text(folder.path("photos")).find("libpng"), std::string::npos);
  folder.write("digits.nn", small_model());
  ASSERT_EQ(run_tool({"compile", "digits.nn", "-o", "digits", "--target", "native"}, folder.path()).exit_code,
            0);
  EXPECT_EQ(read_text(folder.path("digits")).find("libpng"), std::string::npos);

  folder.write("train/day/7.png", "not an image");
  const ToolResult broken = run_tool({"train", "m.nn"}, folder.path());
  EXPECT_EQ(broken.exit_code, kExitDataError);
  EXPECT_NE(broken.err.find("train/day/7.png: the file begins as neither"), std::string::npos) << broken.err;
}

}  // namespace
}  // namespace gradc::test::folder_test
