// Random numbers, image operations and augmentation: each against its definition, and what a key decides.
#include "runtime/data/augment.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <set>

#include "tests/runtime/helpers.h"

namespace gradc::runtime::augment_test {
namespace {

using test::method;

using Values = std::vector<float>;

Image image_of(int64_t c, int64_t h, int64_t w, Values values) {
  Image image(c, h, w);
  EXPECT_EQ(values.size(), image.values.size());
  image.values = std::move(values);
  return image;
}

Image noise_image(int64_t c, int64_t h, int64_t w, uint64_t seed) {
  Image image(c, h, w);
  test::Noise noise(seed);
  for (float& v : image.values) v = static_cast<float>(noise(1000)) / 999.0f;
  return image;
}

// --- Random numbers

TEST(Draws, DependOnTheirKeyAlone) {
  const EpochKey key{7, 3};
  const auto first = [](Draws draws) { return draws.word(); };
  const uint32_t word = first(Draws(key, 5, 2));
  EXPECT_EQ(first(Draws(key, 5, 2)), word);
  EXPECT_NE(first(Draws({8, 3}, 5, 2)), word);
  EXPECT_NE(first(Draws({7, 4}, 5, 2)), word);
  EXPECT_NE(first(Draws({7 + (uint64_t{1} << 40), 3}, 5, 2)), word);
  EXPECT_NE(first(Draws(key, 6, 2)), word);
  EXPECT_NE(first(Draws(key, 5, 1)), word);
}

TEST(Draws, HaveTheirMoments) {
  constexpr int kCount = 40000;
  const auto moments = [](const auto& draw) {
    double sum = 0, squares = 0;
    for (int i = 0; i < kCount; ++i) {
      Draws draws({1, 0}, i, 0);
      const double x = draw(draws);
      sum += x;
      squares += x * x;
    }
    const double mean = sum / kCount;
    return std::pair(mean, squares / kCount - mean * mean);
  };
  const auto expect = [](std::pair<double, double> found, double mean, double variance) {
    EXPECT_NEAR(found.first, mean, 5 * std::sqrt(variance / kCount));
    EXPECT_NEAR(found.second, variance, 0.05 * variance);
  };
  expect(moments([](Draws& d) { return d.uniform(); }), 0.5, 1.0 / 12);
  expect(moments([](Draws& d) { return d.normal(); }), 0, 1);
  expect(moments([](Draws& d) { return static_cast<double>(d.below(6)); }), 2.5, 35.0 / 12);
  for (const double shape : {0.3, 1.0, 4.5}) {
    SCOPED_TRACE(shape);
    expect(moments([&](Draws& d) { return d.gamma(shape); }), shape, shape);
    expect(moments([&](Draws& d) { return d.beta(shape); }), 0.5, 1 / (4 * (2 * shape + 1)));
  }
  expect(moments([&](Draws& d) { return d.beta(1e-4); }), 0.5, 0.25);  // all but a coin
}

// --- Image operations

TEST(ImageOps, Flip) {
  Image image = image_of(2, 2, 3, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  flip_horizontal(image);
  EXPECT_EQ(image.values, (Values{3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10}));
  flip_horizontal(image);
  flip_vertical(image);
  EXPECT_EQ(image.values, (Values{4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9}));
}

TEST(ImageOps, CropHasZerosOutside) {
  const Image image = image_of(1, 2, 3, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(crop(image, {0, 1, 2, 2}).values, (Values{2, 3, 5, 6}));
  EXPECT_EQ(crop(image, {-1, -2, 2, 4}).values, (Values{0, 0, 0, 0, 0, 0, 1, 2}));
  EXPECT_EQ(crop(image, {1, 2, 2, 2}).values, (Values{6, 0, 0, 0}));
  EXPECT_EQ(crop(image, {5, 0, 1, 2}).values, (Values{0, 0}));
}

// torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False).
TEST(ImageOps, ResizeIsPyTorchs) {
  const Image row = image_of(1, 1, 4, {0, 1, 2, 3});
  EXPECT_EQ(resized_crop(row, {0, 0, 1, 4}, 1, 8).values,
            (Values{0, 0.25f, 0.75f, 1.25f, 1.75f, 2.25f, 2.75f, 3}));
  EXPECT_EQ(resized_crop(row, {0, 0, 1, 4}, 1, 2).values, (Values{0.5f, 2.5f}));
  EXPECT_EQ(resized_crop(row, {0, 1, 1, 2}, 1, 4).values, (Values{1, 1.25f, 1.75f, 2}));
  const Image square = image_of(1, 2, 2, {0, 1, 2, 3});
  EXPECT_EQ(
      resized_crop(square, {0, 0, 2, 2}, 4, 4).values,
      (Values{0, 0.25f, 0.75f, 1, 0.5f, 0.75f, 1.25f, 1.5f, 1.5f, 1.75f, 2.25f, 2.5f, 2, 2.25f, 2.75f, 3}));
  const Image noise = noise_image(3, 5, 7, 1);
  EXPECT_EQ(resized_crop(noise, {0, 0, 5, 7}, 5, 7).values, noise.values);
}

TEST(ImageOps, MiddleBox) {
  const Image wide(1, 20, 30), tall(1, 31, 20);
  const auto expect = [](Box box, Box wanted) {
    EXPECT_EQ(std::tie(box.top, box.left, box.height, box.width),
              std::tie(wanted.top, wanted.left, wanted.height, wanted.width));
  };
  expect(middle_box(wide, 8, 8), {0, 5, 20, 20});
  expect(middle_box(wide, 10, 15), {0, 0, 20, 30});
  expect(middle_box(tall, 5, 5), {5, 0, 20, 20});
  expect(middle_box(tall, 10, 20), {10, 0, 10, 20});
}

TEST(ImageOps, MapsMovePixels) {
  const Image image = image_of(1, 3, 3, {1, 2, 3, 4, 5, 6, 7, 8, 9});
  EXPECT_EQ(transformed(image, {}).values, image.values);
  Affine right{.tx = 1};
  EXPECT_EQ(transformed(image, right).values, (Values{0, 1, 2, 0, 4, 5, 0, 7, 8}));
  Affine half{.ty = 0.5};
  EXPECT_EQ(transformed(image, half).values, (Values{0.5f, 1, 1.5f, 2.5f, 3.5f, 4.5f, 5.5f, 6.5f, 7.5f}));
  const Affine quarter{0, -1, 1, 0};  // clockwise on the screen, where y points down
  EXPECT_EQ(transformed(image, quarter).values, (Values{7, 4, 1, 8, 5, 2, 9, 6, 3}));
  const Affine doubled{2, 0, 0, 2};
  EXPECT_EQ(transformed(image, doubled).values, (Values{3, 3.5f, 4, 4.5f, 5, 5.5f, 6, 6.5f, 7}));
}

TEST(ImageOps, MapsCompose) {
  const Affine a{0.9, -0.2, 0.3, 1.1, 2, -1}, b{1.2, 0.1, -0.4, 0.8, -0.5, 3};
  const Affine both = a.then(b), none = both.then(both.inverse());
  for (const auto& [x, y] : {std::pair(1.0, 2.0), std::pair(-3.0, 0.5)}) {
    const double ax = a.a * x + a.b * y + a.tx, ay = a.c * x + a.d * y + a.ty;
    EXPECT_NEAR(both.a * x + both.b * y + both.tx, b.a * ax + b.b * ay + b.tx, 1e-12);
    EXPECT_NEAR(both.c * x + both.d * y + both.ty, b.c * ax + b.d * ay + b.ty, 1e-12);
    EXPECT_NEAR(none.a * x + none.b * y + none.tx, x, 1e-12);
    EXPECT_NEAR(none.c * x + none.d * y + none.ty, y, 1e-12);
  }
}

TEST(ImageOps, BrightnessContrastSaturation) {
  const Image image = image_of(3, 1, 2, {0.2f, 0.6f, 0.4f, 0.8f, 0.1f, 0.9f});
  const double g0 = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.1, g1 = 0.299 * 0.6 + 0.587 * 0.8 + 0.114 * 0.9;
  const auto expect = [&](const Image& found, const auto& definition) {
    for (size_t c = 0; c < 3; ++c)
      for (size_t i = 0; i < 2; ++i)
        EXPECT_NEAR(
            found.values[2 * c + i],
            std::clamp(definition(static_cast<double>(image.values[2 * c + i]), i == 0 ? g0 : g1), 0.0, 1.0),
            1e-6);
  };
  Image bright = image, contrast = image, saturated = image;
  scale_brightness(bright, 1.5f);
  expect(bright, [](double v, double) { return 1.5 * v; });
  scale_contrast(contrast, 1.7f);
  expect(contrast, [&](double v, double) { return (g0 + g1) / 2 + 1.7 * (v - (g0 + g1) / 2); });
  scale_saturation(saturated, 0.3f);
  expect(saturated, [](double v, double grey) { return grey + 0.3 * (v - grey); });
}

// Hue, saturation, value and back in double precision, as Python's colorsys has them.
std::array<double, 3> turned(std::array<double, 3> rgb, double turn) {
  const auto [r, g, b] = rgb;
  const double high = std::max({r, g, b}), low = std::min({r, g, b});
  if (high == low) return rgb;
  const double s = (high - low) / high, rc = (high - r) / (high - low), gc = (high - g) / (high - low),
               bc = (high - b) / (high - low);
  double h = (r == high ? bc - gc : g == high ? 2 + rc - bc : 4 + gc - rc) / 6 + turn;
  h -= std::floor(h);
  const int i = static_cast<int>(h * 6);
  const double f = h * 6 - i, p = high * (1 - s), q = high * (1 - s * f), t = high * (1 - s * (1 - f));
  switch (i % 6) {
    case 0: return {high, t, p};
    case 1: return {q, high, p};
    case 2: return {p, high, t};
    case 3: return {p, q, high};
    case 4: return {t, p, high};
    default: return {high, p, q};
  }
}

TEST(ImageOps, HueTurns) {
  Image grey = image_of(3, 1, 1, {0.5f, 0.5f, 0.5f});
  turn_hue(grey, 0.3f);
  EXPECT_EQ(grey.values, (Values{0.5f, 0.5f, 0.5f}));
  Image red = image_of(3, 1, 1, {0.9f, 0.2f, 0.3f});
  turn_hue(red, 1.0f / 3);
  EXPECT_NEAR(red.values[0], 0.3f, 1e-6);
  EXPECT_NEAR(red.values[1], 0.9f, 1e-6);
  EXPECT_NEAR(red.values[2], 0.2f, 1e-6);
  for (const float turn : {-0.5f, -0.31f, 0.0f, 0.07f, 0.25f, 0.49f}) {
    const Image before = noise_image(3, 8, 8, 9);
    Image after = before;
    turn_hue(after, turn);
    for (size_t i = 0; i < 64; ++i) {
      const auto wanted = turned({before.values[i], before.values[64 + i], before.values[128 + i]}, turn);
      for (size_t c = 0; c < 3; ++c) ASSERT_NEAR(after.values[c * 64 + i], wanted[c], 3e-6) << turn;
    }
  }
}

// --- Augmentation

// Noise images by row; kCount of them.
constexpr int64_t kCount = 500;
Augmentation::Examples noise_examples(int64_t c, int64_t h, int64_t w) {
  return {[=](int64_t row) { return noise_image(c, h, w, static_cast<uint64_t>(row)); }, kCount,
          [](int64_t i) { return i; }};
}

const std::vector<DataMethod> kEvery = {
    method("random_resized_crop",
           {{"size", std::vector<int64_t>{10, 9}}, {"scale", 0.3}, {"ratio", 4.0 / 3}}),
    method("rotation", {{"degrees", 20.0}}),
    method("translation", {{"share", 0.2}}),
    method("shear", {{"degrees", 10.0}}),
    method("stretch", {{"amount", 0.2}}),
    method("mixup", {{"alpha", 0.4}, {"p", 0.7}, {"classes", int64_t{10}}}),
    method("flip_horizontal", {{"p", 0.5}}),
    method("flip_vertical", {{"p", 0.5}}),
    method("brightness", {{"amount", 0.3}}),
    method("contrast", {{"amount", 0.3}}),
    method("saturation", {{"amount", 0.3}}),
    method("hue", {{"amount", 0.2}}),
    method("pca_color", {{"std", 0.1}}),
    method("cutmix", {{"alpha", 1.0}, {"p", 0.7}, {"classes", int64_t{10}}}),
    method("cutout", {{"size", int64_t{3}}, {"value", 0.5}}),
    method("random_crop", {{"pad", int64_t{2}}, {"size", std::vector<int64_t>{8, 8}}}),
    method("noise", {{"std", 0.1}})};

TEST(Augmentation, EveryMethodTogetherFollowsItsKey) {
  Augmentation all(kEvery);
  EXPECT_TRUE(all.needs_colours());
  all.set_colours({{{0.1f, 0.2f, 0}, {0.1f, -0.1f, 0.1f}, {0.1f, 0, 0.3f}}});
  EXPECT_EQ(all.shape_of({3, 12, 12}), (std::vector<int64_t>{3, 8, 8}));
  const auto examples = noise_examples(3, 12, 12);
  std::set<Values> seen;
  for (int64_t row = 0; row < 50; ++row)
    for (uint64_t epoch = 0; epoch < 2; ++epoch) {
      const Image image = all.train(examples, row, {1, epoch});
      EXPECT_EQ(image.values.size(), 192u);
      for (const float v : image.values) ASSERT_TRUE(std::isfinite(v));
      EXPECT_EQ(all.train(examples, row, {1, epoch}).values, image.values);
      EXPECT_TRUE(seen.insert(image.values).second);
      float weights = 0;
      for (const auto& [other, weight] : all.mixture(examples, row, {1, epoch}, {3, 12, 12})) {
        EXPECT_GE(weight, 0);
        weights += weight;
      }
      EXPECT_NEAR(weights, 1, 1e-6);
    }
  EXPECT_NE(all.train(examples, 0, {2, 0}).values, all.train(examples, 0, {1, 0}).values);
}

TEST(Augmentation, FlipsAsOftenAsAsked) {
  const auto examples = noise_examples(1, 2, 3);
  for (const double p : {0.0, 0.3, 1.0}) {
    const Augmentation flip({method("flip_horizontal", {{"p", p}})});
    int flipped = 0;
    for (int64_t row = 0; row < kCount; ++row) {
      const Image before = examples.read(row), after = flip.train(examples, row, {1, 0});
      Image mirrored = before;
      flip_horizontal(mirrored);
      EXPECT_TRUE(after.values == before.values || after.values == mirrored.values);
      flipped += after.values == mirrored.values;
    }
    EXPECT_NEAR(flipped, p * kCount, 4 * std::sqrt(p * (1 - p) * kCount));
  }
}

TEST(Augmentation, CropsReachEveryPlace) {
  const auto examples = noise_examples(1, 4, 4);
  const Augmentation crops(
      {method("random_crop", {{"pad", int64_t{1}}, {"size", std::vector<int64_t>{4, 4}}})});
  int places[3][3] = {};
  for (int64_t row = 0; row < kCount; ++row) {
    const Image before = examples.read(row), after = crops.train(examples, row, {1, 0});
    int matches = 0;
    for (int64_t top = -1; top <= 1; ++top)
      for (int64_t left = -1; left <= 1; ++left)
        if (crop(before, {top, left, 4, 4}).values == after.values) {
          ++matches;
          ++places[top + 1][left + 1];
        }
    EXPECT_EQ(matches, 1);
  }
  for (const auto& row : places)
    for (const int count : row) EXPECT_NEAR(count, kCount / 9.0, 30);
}

TEST(Augmentation, EvaluatesTheMiddle) {
  const Image image = noise_image(2, 6, 8, 1);
  const Augmentation middle(
      {method("random_crop", {{"pad", int64_t{0}}, {"size", std::vector<int64_t>{4, 4}}}),
       method("noise", {{"std", 1.0}})});
  EXPECT_EQ(middle.evaluate(image).values, crop(image, {1, 2, 4, 4}).values);
  const Augmentation resized({method(
      "random_resized_crop", {{"size", std::vector<int64_t>{3, 3}}, {"scale", 0.1}, {"ratio", 1.0}})});
  EXPECT_EQ(resized.evaluate(image).values, resized_crop(image, {0, 1, 6, 6}, 3, 3).values);
  const Augmentation padded(
      {method("random_crop", {{"pad", int64_t{4}}, {"size", std::vector<int64_t>{6, 8}}}),
       method("flip_horizontal", {{"p", 1.0}})});
  EXPECT_EQ(padded.evaluate(image).values, image.values);
}

TEST(Augmentation, CutoutBlanksASquare) {
  const auto examples = noise_examples(2, 6, 6);
  const Augmentation cut({method("cutout", {{"size", int64_t{3}}, {"value", 2.0}})});
  for (int64_t row = 0; row < 100; ++row) {
    const Image before = examples.read(row), after = cut.train(examples, row, {1, 0});
    std::vector<int64_t> blank;
    for (int64_t i = 0; i < 36; ++i) {
      const auto at = static_cast<size_t>(i);
      EXPECT_EQ(after.values[at] == 2, after.values[36 + at] == 2);
      if (after.values[at] == 2)
        blank.push_back(i);
      else
        EXPECT_EQ(after.values[at], before.values[at]);
    }
    EXPECT_GE(blank.size(), 4u);
    EXPECT_LE(blank.size(), 9u);
    EXPECT_LE(blank.back() / 6 - blank.front() / 6, 2);
  }
}

TEST(Augmentation, MixupMixesImagesAndLabelsAlike) {
  const auto examples = noise_examples(1, 3, 3);
  const Augmentation mix({method("mixup", {{"alpha", 0.5}, {"p", 0.8}, {"classes", int64_t{10}}})});
  int mixed = 0;
  for (int64_t row = 0; row < kCount; ++row) {
    const auto parts = mix.mixture(examples, row, {1, 4}, {1, 3, 3});
    EXPECT_EQ(parts[0].first, row);
    const Image found = mix.train(examples, row, {1, 4});
    if (parts.size() == 1) {
      EXPECT_EQ(found.values, examples.read(row).values);
      continue;
    }
    ++mixed;
    ASSERT_EQ(parts.size(), 2u);
    const Image own = examples.read(row), other = examples.read(parts[1].first);
    for (size_t i = 0; i < 9; ++i)
      EXPECT_NEAR(found.values[i],
                  static_cast<double>(parts[0].second) * own.values[i] +
                      static_cast<double>(parts[1].second) * other.values[i],
                  1e-6);
  }
  EXPECT_NEAR(mixed, 0.8 * kCount, 40);
}

TEST(Augmentation, CutmixWeighsLabelsByArea) {
  const auto examples = noise_examples(1, 8, 8);
  const Augmentation mix({method("cutmix", {{"alpha", 1.0}, {"p", 1.0}, {"classes", int64_t{10}}})});
  double own = 0;
  for (int64_t row = 0; row < kCount; ++row) {
    const auto parts = mix.mixture(examples, row, {1, 4}, {1, 8, 8});
    const Image found = mix.train(examples, row, {1, 4}), mine = examples.read(row);
    const Image other = parts.size() > 1 ? examples.read(parts[1].first) : mine;
    int kept = 0;
    for (size_t i = 0; i < 64; ++i) {
      EXPECT_TRUE(found.values[i] == mine.values[i] || found.values[i] == other.values[i]);
      kept += found.values[i] == mine.values[i];
    }
    if (parts.size() > 1 && parts[1].first != row) {
      EXPECT_NEAR(kept / 64.0, parts[0].second, 2.5 / 64);  // a pixel or two may be equal by chance
    }
    own += parts[0].second;
  }
  EXPECT_GT(own / kCount, 0.5);  // half of the area, less what lies outside
  EXPECT_LT(own / kCount, 0.8);
}

TEST(Augmentation, PcaColourShiftsAllPixelsAlike) {
  Augmentation colour({method("pca_color", {{"std", 0.1}})});
  colour.set_colours({{{0.5f, 0, 0}, {0, 0.25f, 0}, {0, 0, 0}}});
  const Augmentation::Examples examples{[](int64_t) { return image_of(3, 1, 2, Values(6, 0.5f)); }, 1,
                                        [](int64_t i) { return i; }};
  double squares[3] = {};
  for (int64_t row = 0; row < kCount; ++row) {
    const Image image = colour.train(examples, row, {1, 0});
    for (size_t c = 0; c < 3; ++c) {
      EXPECT_EQ(image.values[2 * c], image.values[2 * c + 1]);
      squares[c] += std::pow(image.values[2 * c] - 0.5, 2) / kCount;
    }
  }
  EXPECT_NEAR(std::sqrt(squares[0]), 0.05, 0.006);
  EXPECT_NEAR(std::sqrt(squares[1]), 0.025, 0.003);
  EXPECT_EQ(squares[2], 0);
}

TEST(Augmentation, NoiseHasItsDeviationAndTakesAnyField) {
  const Augmentation noise({method("noise", {{"std", 0.5}})});
  const auto examples = noise_examples(1, 1, 7);
  double squares = 0;
  for (int64_t row = 0; row < kCount; ++row) {
    const Image before = examples.read(row), after = noise.train(examples, row, {1, 0});
    for (size_t i = 0; i < 7; ++i) squares += std::pow(after.values[i] - before.values[i], 2);
  }
  EXPECT_NEAR(std::sqrt(squares / (7 * kCount)), 0.5, 0.02);
}

// The image is a ramp, so that its gradient tells how it was turned.
TEST(Augmentation, GeometryStaysWithinItsRange) {
  const Augmentation::Examples ramp{[](int64_t) {
                                      Image image(2, 17, 17);
                                      for (int64_t y = 0; y < 17; ++y)
                                        for (int64_t x = 0; x < 17; ++x) {
                                          image.row(0, y)[x] = static_cast<float>(x - 8);
                                          image.row(1, y)[x] = static_cast<float>(y - 8);
                                        }
                                      return image;
                                    },
                                    1, [](int64_t i) { return i; }};
  // The map's inverse at the middle: d source / d place, and where the middle comes from.
  struct Found {
    double xx, xy, yx, yy, x0, y0;
  };
  const auto found = [&](const Augmentation& a, int64_t row) {
    const Image i = a.train(ramp, row, {1, 0});
    const auto at = [&](int64_t c, int64_t y, int64_t x) { return static_cast<double>(i.row(c, y)[x]); };
    return Found{(at(0, 8, 9) - at(0, 8, 7)) / 2,
                 (at(0, 9, 8) - at(0, 7, 8)) / 2,
                 (at(1, 8, 9) - at(1, 8, 7)) / 2,
                 (at(1, 9, 8) - at(1, 7, 8)) / 2,
                 at(0, 8, 8),
                 at(1, 8, 8)};
  };
  const Augmentation rotation({method("rotation", {{"degrees", 30.0}})}),
      shear({method("shear", {{"degrees", 20.0}})}), stretch({method("stretch", {{"amount", 0.25}})}),
      translation({method("translation", {{"share", 0.1}})});
  double most[4] = {}, least[4] = {};
  const auto note = [&](int i, double v) {
    most[i] = std::max(most[i], v);
    least[i] = std::min(least[i], v);
  };
  for (int64_t row = 0; row < kCount; ++row) {
    const Found r = found(rotation, row);
    EXPECT_NEAR(r.xx * r.yy - r.xy * r.yx, 1, 1e-4);
    EXPECT_NEAR(r.xx, r.yy, 1e-5);
    note(0, std::atan2(r.xy, r.xx) * 180 / std::numbers::pi);
    const Found s = found(shear, row);
    EXPECT_NEAR(s.xx, 1, 1e-5);
    EXPECT_NEAR(s.yx, 0, 1e-5);
    note(1, std::atan(s.xy) * 180 / std::numbers::pi);
    const Found f = found(stretch, row);
    EXPECT_NEAR(f.xy, 0, 1e-5);
    note(2, std::log(f.xx) / std::log(1.25));
    note(2, std::log(f.yy) / std::log(1.25));
    note(3, found(translation, row).x0 / 17);
  }
  const double limits[] = {30, 20, 1, 0.1};
  for (int i = 0; i < 4; ++i) {
    SCOPED_TRACE(i);
    EXPECT_LE(most[i], limits[i] * 1.0001);
    EXPECT_GE(least[i], -limits[i] * 1.0001);
    EXPECT_GT(most[i], 0.9 * limits[i]);
    EXPECT_LT(least[i], -0.9 * limits[i]);
  }
}

TEST(Augmentation, ResizedCropsCoverTheirRange) {
  // A ramp again: the step between pixels is the part's width over the size, their mean its middle.
  const Augmentation::Examples ramp{[](int64_t) {
                                      Image image(1, 40, 40);
                                      for (int64_t y = 0; y < 40; ++y)
                                        for (int64_t x = 0; x < 40; ++x)
                                          image.row(0, y)[x] = static_cast<float>(x);
                                      return image;
                                    },
                                    1, [](int64_t i) { return i; }};
  const Augmentation crops({method(
      "random_resized_crop", {{"size", std::vector<int64_t>{8, 8}}, {"scale", 0.25}, {"ratio", 4.0 / 3}})});
  double least = 100, most = 0;
  for (int64_t row = 0; row < kCount; ++row) {
    const Image image = crops.train(ramp, row, {1, 0});
    const double width = (image.values[4] - image.values[3]) * 8;
    least = std::min(least, width);
    most = std::max(most, width);
  }
  EXPECT_GE(least, 40 * std::sqrt(0.25 * 0.75) - 1);
  EXPECT_LT(least, 22);
  EXPECT_LE(most, 40);
  EXPECT_GT(most, 37);
}

}  // namespace
}  // namespace gradc::runtime::augment_test
