// The augmentation methods: each draws its random numbers and applies operations of image_ops.h.
#include "runtime/data/augment.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "support/check.h"

namespace gradc::runtime {

namespace {

enum class Kind {
  flip_horizontal,
  flip_vertical,
  random_crop,
  random_resized_crop,
  brightness,
  contrast,
  saturation,
  hue,
  pca_color,
  rotation,
  translation,
  shear,
  stretch,
  cutout,
  mixup,
  cutmix,
  noise,
};

constexpr std::pair<const char*, Kind> kKinds[] = {
    {"flip_horizontal", Kind::flip_horizontal},
    {"flip_vertical", Kind::flip_vertical},
    {"random_crop", Kind::random_crop},
    {"random_resized_crop", Kind::random_resized_crop},
    {"brightness", Kind::brightness},
    {"contrast", Kind::contrast},
    {"saturation", Kind::saturation},
    {"hue", Kind::hue},
    {"pca_color", Kind::pca_color},
    {"rotation", Kind::rotation},
    {"translation", Kind::translation},
    {"shear", Kind::shear},
    {"stretch", Kind::stretch},
    {"cutout", Kind::cutout},
    {"mixup", Kind::mixup},
    {"cutmix", Kind::cutmix},
    {"noise", Kind::noise},
};

Kind kind_of(const DataMethod& record) {
  for (const auto& [name, kind] : kKinds)
    if (record.name == name) return kind;
  GRADC_CHECK(false, "an augmentation `{}`", record.name);
  return Kind::noise;
}

double number(const DataMethod& record, const char* option, double otherwise = 0) {
  const auto it = record.options.find(option);
  if (it == record.options.end()) return otherwise;
  if (const auto* integer = std::get_if<int64_t>(&it->second)) return static_cast<double>(*integer);
  return std::get<double>(it->second);
}

bool is_affine(Kind kind) {
  return kind == Kind::rotation || kind == Kind::translation || kind == Kind::shear || kind == Kind::stretch;
}

// A crop of random area and aspect ratio; if none of ten attempts fits, the central one with the nearest allowed ratio.
// As PyTorch's RandomResizedCrop.
Box random_part(const Image& image, double scale, double ratio, Draws& draws) {
  const auto height = static_cast<double>(image.height), width = static_cast<double>(image.width);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double area = height * width * draws.uniform(scale, 1);
    const double aspect = std::exp(draws.uniform(-std::log(ratio), std::log(ratio)));
    const auto w = static_cast<int64_t>(std::llround(std::sqrt(area * aspect)));
    const auto h = static_cast<int64_t>(std::llround(std::sqrt(area / aspect)));
    if (w < 1 || h < 1 || w > image.width || h > image.height) continue;
    const int64_t top = draws.below(image.height - h + 1), left = draws.below(image.width - w + 1);
    return {top, left, h, w};
  }
  Box box{0, 0, image.height, image.width};
  if (width / height < 1 / ratio)
    box.height = std::min<int64_t>(std::llround(width * ratio), image.height);
  else if (width / height > ratio)
    box.width = std::min<int64_t>(std::llround(height * ratio), image.width);
  box.top = (image.height - box.height) / 2;
  box.left = (image.width - box.width) / 2;
  return box;
}

// The box of cutmix: sides sqrt(1 - lambda) of the image's, around a random pixel, clipped.
Box mixed_box(int64_t height, int64_t width, double lambda, Draws& draws) {
  const double side = std::sqrt(1 - lambda);
  const auto h = static_cast<int64_t>(static_cast<double>(height) * side),
             w = static_cast<int64_t>(static_cast<double>(width) * side);
  const int64_t y = draws.below(height), x = draws.below(width);
  const int64_t top = std::max<int64_t>(y - h / 2, 0), left = std::max<int64_t>(x - w / 2, 0);
  return {top, left, std::min(y - h / 2 + h, height) - top, std::min(x - w / 2 + w, width) - left};
}

}  // namespace

struct Augmentation::Method {
  Kind kind = Kind::noise;
  double amount = 0;  // the method's one number, under any name
  double p = 1, value = 0, ratio = 1;
  int64_t pad = 0, side = 0, height = 0, width = 0;

  explicit Method(const DataMethod& record) : kind(kind_of(record)) {
    for (const char* name : {"amount", "std", "degrees", "share", "alpha", "scale"})
      if (record.options.count(name)) amount = number(record, name);
    p = number(record, "p", 1);
    value = number(record, "value");
    ratio = number(record, "ratio", 1);
    pad = static_cast<int64_t>(number(record, "pad"));
    const auto size = record.options.find("size");
    if (kind == Kind::cutout) {
      side = static_cast<int64_t>(number(record, "size"));
    } else if (size != record.options.end()) {
      const auto& extents = std::get<std::vector<int64_t>>(size->second);
      GRADC_CHECK(extents.size() == 2, "a size of {} extents", extents.size());
      height = extents[0];
      width = extents[1];
    }
  }

  bool mixes() const { return kind == Kind::mixup || kind == Kind::cutmix; }

  // A mixing method's choice for an example: the other example, the share of its own, and cutmix's box.
  struct Mix {
    int64_t other = 0;
    double own = 1;  // 1: not mixed
    Box box;
  };
  Mix mix(const Examples& examples, int64_t h, int64_t w, Draws draws) const {
    Mix result;
    if (draws.uniform() >= p) return result;
    result.other = examples.row(draws.below(examples.count));
    result.own = draws.beta(amount);
    if (kind == Kind::cutmix) {
      result.box = mixed_box(h, w, result.own, draws);
      result.own = 1 - static_cast<double>(result.box.height * result.box.width) / static_cast<double>(h * w);
    }
    return result;
  }

  Affine affine(const Image& image, Draws& draws) const {
    constexpr double kRadian = std::numbers::pi / 180;
    Affine m;
    if (kind == Kind::rotation) {
      const double angle = kRadian * draws.uniform(-amount, amount);
      m.a = m.d = std::cos(angle);
      m.c = std::sin(angle);
      m.b = -m.c;
    } else if (kind == Kind::translation) {
      m.tx = draws.uniform(-amount, amount) * static_cast<double>(image.width);
      m.ty = draws.uniform(-amount, amount) * static_cast<double>(image.height);
    } else if (kind == Kind::shear) {
      m.b = std::tan(kRadian * draws.uniform(-amount, amount));
    } else {
      const double most = std::log1p(amount);
      m.a = std::exp(draws.uniform(-most, most));
      m.d = std::exp(draws.uniform(-most, most));
    }
    return m;
  }

  // Applies any method but the affine and the mixing ones.
  void apply(Image& image, Draws& draws, const ColourBasis& colours) const {
    const auto factor = [&] {
      return static_cast<float>(draws.uniform(std::max(0.0, 1 - amount), 1 + amount));
    };
    switch (kind) {
      case Kind::flip_horizontal:
        if (draws.uniform() < p) flip_horizontal(image);
        return;
      case Kind::flip_vertical:
        if (draws.uniform() < p) flip_vertical(image);
        return;
      case Kind::random_crop: {
        const int64_t top = draws.below(image.height + 2 * pad - height + 1) - pad;
        const int64_t left = draws.below(image.width + 2 * pad - width + 1) - pad;
        if (top != 0 || left != 0 || height != image.height || width != image.width)
          image = crop(image, {top, left, height, width});
        return;
      }
      case Kind::random_resized_crop:
        image = resized_crop(image, random_part(image, amount, ratio, draws), height, width);
        return;
      case Kind::brightness: return scale_brightness(image, factor());
      case Kind::contrast: return scale_contrast(image, factor());
      case Kind::saturation: return scale_saturation(image, factor());
      case Kind::hue: return turn_hue(image, static_cast<float>(draws.uniform(-amount, amount)));
      case Kind::pca_color: {
        std::array<float, 3> offset{};
        for (size_t k = 0; k < 3; ++k) {
          const auto alpha = static_cast<float>(amount * draws.normal());
          for (size_t c = 0; c < 3; ++c) offset[c] += alpha * colours[c][k];
        }
        return add_colour(image, offset);
      }
      case Kind::cutout: {
        const int64_t y = draws.below(image.height), x = draws.below(image.width);
        return fill_box(image, {y - side / 2, x - side / 2, side, side}, static_cast<float>(value));
      }
      case Kind::noise:
        for (float& v : image.values) v += static_cast<float>(amount * draws.normal());
        return;
      default: GRADC_CHECK(false, "a method applied out of its turn");
    }
  }
};

Augmentation::Augmentation(const std::vector<DataMethod>& methods) {
  for (const DataMethod& record : methods) {
    field_ = record.field;
    methods_.emplace_back(record);
    if (methods_.back().mixes()) classes_ = static_cast<int64_t>(number(record, "classes"));
  }
}

Augmentation::~Augmentation() = default;

bool Augmentation::needs_colours() const {
  return std::any_of(methods_.begin(), methods_.end(),
                     [](const Method& m) { return m.kind == Kind::pca_color; });
}

std::vector<int64_t> Augmentation::shape_of(std::vector<int64_t> shape) const {
  for (const Method& m : methods_)
    if (m.height > 0 && shape.size() == 3) shape = {shape[0], m.height, m.width};
  return shape;
}

Image Augmentation::evaluate(Image image) const {
  for (const Method& m : methods_) {
    if (m.height == 0 || (m.height == image.height && m.width == image.width)) continue;
    if (m.kind == Kind::random_crop)
      image = crop(image, {(image.height - m.height) / 2, (image.width - m.width) / 2, m.height, m.width});
    else
      image = resized_crop(image, middle_box(image, m.height, m.width), m.height, m.width);
  }
  return image;
}

Image Augmentation::train(const Examples& examples, int64_t row, const EpochKey& key) const {
  return train(examples, row, key, methods_.size());
}

Image Augmentation::train(const Examples& examples, int64_t row, const EpochKey& key, size_t methods) const {
  // The last mixing method needs another example, augmented by the methods before it.
  size_t begin = methods;
  while (begin > 0 && !methods_[begin - 1].mixes()) --begin;
  Image image;
  if (begin == 0) {
    image = examples.read(row);
  } else {
    image = train(examples, row, key, begin - 1);
    const Method& m = methods_[begin - 1];
    const Method::Mix mix = m.mix(examples, image.height, image.width, Draws(key, row, begin - 1));
    if (mix.own < 1) {
      const Image other = train(examples, mix.other, key, begin - 1);
      if (m.kind == Kind::mixup) {
        const auto own = static_cast<float>(mix.own);
        for (size_t i = 0; i < image.values.size(); ++i)
          image.values[i] = own * image.values[i] + (1 - own) * other.values[i];
      } else {
        for (int64_t c = 0; c < image.channels; ++c)
          for (int64_t y = mix.box.top; y < mix.box.top + mix.box.height; ++y)
            std::copy_n(other.row(c, y) + mix.box.left, mix.box.width, image.row(c, y) + mix.box.left);
      }
    }
  }
  // Consecutive rotations, translations, shears and stretches are composed and sample the image once.
  Affine map;
  bool moved = false;
  for (size_t i = begin; i < methods; ++i) {
    Draws draws(key, row, i);
    if (is_affine(methods_[i].kind)) {
      map = map.then(methods_[i].affine(image, draws));
      moved = true;
      continue;
    }
    if (moved) image = transformed(image, map);
    map = {};
    moved = false;
    methods_[i].apply(image, draws, colours_);
  }
  if (moved) image = transformed(image, map);
  return image;
}

std::vector<std::pair<int64_t, float>> Augmentation::mixture(const Examples& examples, int64_t row,
                                                             const EpochKey& key,
                                                             const std::vector<int64_t>& shape) const {
  std::vector<std::vector<int64_t>> shapes = {shape};  // before each method
  for (const Method& m : methods_) {
    shapes.push_back(shapes.back());
    if (m.height > 0 && shape.size() == 3) shapes.back() = {shape[0], m.height, m.width};
  }
  std::vector<std::pair<int64_t, float>> result;
  mixture(examples, row, key, shapes, methods_.size(), 1, result);
  return result;
}

void Augmentation::mixture(const Examples& examples, int64_t row, const EpochKey& key,
                           const std::vector<std::vector<int64_t>>& shapes, size_t methods, float weight,
                           std::vector<std::pair<int64_t, float>>& out) const {
  while (methods > 0 && !methods_[methods - 1].mixes()) --methods;
  if (methods == 0) {
    out.emplace_back(row, weight);
    return;
  }
  const auto& shape = shapes[methods - 1];
  const bool image = shape.size() == 3;
  const Method::Mix mix = methods_[methods - 1].mix(examples, image ? shape[1] : 1, image ? shape[2] : 1,
                                                    Draws(key, row, methods - 1));
  const auto own = static_cast<float>(mix.own);
  mixture(examples, row, key, shapes, methods - 1, weight * own, out);
  if (mix.own < 1) mixture(examples, mix.other, key, shapes, methods - 1, weight * (1 - own), out);
}

}  // namespace gradc::runtime
