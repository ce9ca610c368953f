// Prepares an example: read, augment or crop, normalise; and a label: read, mix.
#include "runtime/data/prepare.h"

#include <fmt/format.h>

#include <algorithm>

#include "support/check.h"
#include "support/diagnostic.h"
#include "support/shape_text.h"

namespace gradc::runtime {
namespace {

int64_t elements_of(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

std::shared_ptr<Preparation> preparation_of(const DataRecord& record) {
  if (record.normalize.empty() && record.augment.empty() && record.source != "text") return nullptr;
  return std::make_shared<Preparation>(record);
}

}  // namespace

Preparation::Preparation(const DataRecord& record) {
  if (!record.augment.empty()) augmentation_ = std::make_unique<Augmentation>(record.augment);
  for (const DataMethod& method : record.normalize) normalizations_.emplace_back(method);
  if (record.source == "text") vocabulary_size_ = std::get<int64_t>(record.options.at("vocabulary"));
}

bool Preparation::mixes(const Field& field) const {
  return augmentation_ && augmentation_->mixed_classes() > 0 && field.name == "label";
}

std::vector<int64_t> Preparation::cropped(const Field& field) const {
  return augments(field) ? augmentation_->shape_of(field.shape) : field.shape;
}

gradc_dtype Preparation::dtype_of(const Field& field) const {
  return mixes(field) ? GRADC_F32 : field.dtype();
}

std::vector<int64_t> Preparation::shape_of(const Field& field) const {
  GRADC_CHECK(fitted_, "the data are read before their normalisation is fitted");
  if (mixes(field)) return {augmentation_->mixed_classes()};
  std::vector<int64_t> shape = cropped(field);
  for (const Normalization& n : normalizations_) {
    if (n.field() != field.name) continue;
    for (const auto& [name, expected] : n.expected(shape))
      if (const auto& found = n.arrays().at(name); found.shape != expected)
        throw RunError(
            kExitDataError,
            fmt::format("the weights' {}{} has the shape {}, but the data's {}, {}, needs {}; were they "
                        "trained on data of another shape?",
                        n.prefix(), name, shape_text(found.shape), field.name, shape_text(shape),
                        shape_text(expected)));
    shape = n.shape_of(shape);
  }
  return shape;
}

bool Preparation::reads_doubles(const std::string& field, size_t rank) const {
  return rank != 3 && std::any_of(normalizations_.begin(), normalizations_.end(),
                                  [&](const Normalization& n) { return n.field() == field; });
}

Image Preparation::read(const Field& field, int64_t row) const {
  const bool image = field.shape.size() == 3;
  Image result =
      image ? Image(field.shape[0], field.shape[1], field.shape[2]) : Image(1, 1, field.elements());
  if (field.doubles.empty()) {
    field.gather(&row, 1, result.values.data());
    return result;
  }
  const size_t size = result.values.size();
  const double* from = field.doubles.data() + static_cast<size_t>(row) * size;
  for (size_t k = 0; k < size; ++k) result.values[k] = static_cast<float>(from[k] - field.doubles[k]);
  return result;
}

Augmentation::Examples Preparation::examples(const Split& split, const Field& field) const {
  return {[this, &field](int64_t row) { return read(field, row); }, split.count,
          [&split](int64_t i) { return split.row(i); }};
}

void Preparation::normalize(const Field& field, const Image& image, size_t methods, float* out) const {
  if (field.doubles.empty()) return normalize(field, image.values.data(), methods, out);
  std::vector<double> example(image.values.begin(), image.values.end());
  for (size_t k = 0; k < example.size(); ++k) example[k] += field.doubles[k];
  normalize(field, example.data(), methods, out);
}

template <class In>
void Preparation::normalize(const Field& field, const In* in, size_t methods, float* out) const {
  std::vector<int64_t> shape = cropped(field);
  std::vector<float> example;
  bool any = false;
  for (size_t i = 0; i < methods; ++i) {
    const Normalization& n = normalizations_[i];
    if (n.field() != field.name) continue;
    const std::vector<int64_t> next = n.shape_of(shape);
    std::vector<float> result(static_cast<size_t>(elements_of(next)));
    any ? n.apply(example.data(), shape, result.data()) : n.apply(in, shape, result.data());
    any = true;
    example = std::move(result);
    shape = next;
  }
  if (any)
    std::copy(example.begin(), example.end(), out);
  else
    std::transform(in, in + elements_of(shape), out, [](In v) { return static_cast<float>(v); });
}

namespace {

bool is_image(const Field& field) { return field.shape.size() == 3 && field.dtype() == GRADC_F32; }

// Height and width with this shorter side.
std::pair<int64_t, int64_t> scaled(int64_t height, int64_t width, int64_t scale) {
  if (scale == 0) return {height, width};
  const int64_t shorter = std::min(height, width);
  return {height * scale / shorter, width * scale / shorter};
}

}  // namespace

void Preparation::check_view(const Split& split, const View& view) const {
  bool any = false;
  for (const Field& field : split.table->fields) {
    if (!is_image(field)) continue;
    any = true;
    const std::vector<int64_t> size = cropped(field);
    const auto [height, width] = scaled(field.shape[1], field.shape[2], view.scale);
    const auto wrong = [&](const std::string& what) {
      throw RunError(
          kExitUsage,
          fmt::format("{}: `{}` has {} x {} pixels{}, and the model reads {} x {}", what, field.name, height,
                      width, view.scale ? fmt::format(" at scale {}", view.scale) : "", size[1], size[2]));
    };
    if (height < size[1] || width < size[2]) wrong("--scales: too small");
    if (view.crop > 0 && height == size[1] && width == size[2])
      wrong(
          "--ten-crop: there is nothing to choose (give a greater one to --scales, or train on crops, as in "
          "`augment image { random_crop(size=28) }`)");
  }
  if (!any) throw RunError(kExitUsage, "--ten-crop and --scales are for images, and the data have none");
}

// Applies a view to an image, in the size that the model reads.
Image Preparation::seen(const Field& field, Image image, const View& view) const {
  if (!is_image(field) || view.plain())
    return augments(field) ? augmentation_->evaluate(std::move(image)) : image;
  const std::vector<int64_t> size = cropped(field);
  if (view.scale > 0) {
    const auto [height, width] = scaled(image.height, image.width, view.scale);
    image = resized_crop(image, {0, 0, image.height, image.width}, height, width);
  }
  const int64_t down = image.height - size[1], right = image.width - size[2];
  const int corner = view.crop == 0 ? 5 : (view.crop - 1) % 5 + 1;
  Box box{down / 2, right / 2, size[1], size[2]};
  if (corner < 5) {
    box.top = corner > 2 ? down : 0;
    box.left = corner % 2 == 0 ? right : 0;
  }
  image = crop(image, box);
  if (view.crop > 5) flip_horizontal(image);
  return image;
}

void Preparation::evaluated(const Field& field, int64_t row, size_t methods, const View& view,
                            float* out) const {
  if (field.doubles.empty()) return normalize(field, seen(field, read(field, row), view), methods, out);
  // Without a view: such a field is no image that could be cropped or resized.
  normalize(field, field.doubles.data() + row * field.elements(), methods, out);
}

void Preparation::fit(const Split& train, Progress* progress) {
  const auto field_named = [&](const std::string& name) -> const Field& {
    for (const Field& field : train.table->fields)
      if (field.name == name) return field;
    throw RunError(kExitDataError, fmt::format("the data have no field `{}`, which is to be prepared", name));
  };
  if (vocabulary_size_ > 0) {
    const Field& tokens = field_named("tokens");
    std::map<int32_t, int64_t> counts;
    for (int64_t i = 0; i < train.count; ++i) {
      const auto begin = tokens.integers.begin() + train.row(i) * tokens.elements();
      std::for_each(begin, begin + tokens.elements(), [&](int32_t c) { ++counts[c]; });
    }
    vocabulary_ = Vocabulary::of(counts, vocabulary_size_);
  }
  if (augmentation_ && augmentation_->needs_colours()) {
    const Field& field = field_named(augmentation_->field());
    const Colours colours = fit_colours(field.elements() / 3, train.count, [&](int64_t i, float* out) {
      const int64_t row = train.row(i);
      field.gather(&row, 1, out);
    });
    ColourBasis basis{};
    for (size_t c = 0; c < 3; ++c)
      for (size_t k = 0; k < 3; ++k)
        basis[c][k] = static_cast<float>(colours.vectors[c][k] * colours.values[k]);
    augmentation_->set_colours(basis);
  }
  for (size_t i = 0; i < normalizations_.size(); ++i) {
    const Field& field = field_named(normalizations_[i].field());
    std::vector<int64_t> shape = cropped(field);
    for (size_t k = 0; k < i; ++k)
      if (normalizations_[k].field() == field.name) shape = normalizations_[k].shape_of(shape);
    const std::string label = fmt::format("fitting {} of {}", normalizations_[i].name(), field.name);
    const int64_t reads = train.count * normalizations_[i].passes();
    int64_t done = 0;
    // The first method of a field that keeps doubles reads the doubles.
    const bool exact =
        !field.doubles.empty() &&
        std::none_of(normalizations_.begin(), normalizations_.begin() + static_cast<ptrdiff_t>(i),
                     [&](const Normalization& n) { return n.field() == field.name; });
    std::vector<float> example(static_cast<size_t>(elements_of(shape)));
    const auto read = [&](int64_t row, double* out) {
      // Eigenvectors of many numbers take as long again, without progress reports.
      const bool last = ++done == reads && normalizations_[i].projects() && elements_of(shape) > 500;
      if (progress && (last || progress->due()))
        progress->update(label, done, reads, last ? "now its eigenvectors" : "");
      row = train.row(row);
      if (exact) {
        std::copy_n(field.doubles.begin() + row * field.elements(), field.elements(), out);
        return;
      }
      evaluated(field, row, i, {}, example.data());
      std::copy(example.begin(), example.end(), out);
    };
    normalizations_[i].fit(shape, train.count, read, exact);
  }
  if (progress) progress->clear();
  fitted_ = true;
}

DataArrays Preparation::arrays() const {
  DataArrays result;
  for (const Normalization& n : normalizations_)
    for (const auto& [name, array] : n.arrays()) result[n.prefix() + name] = array;
  if (vocabulary_size_ > 0) result[kVocabularyArray] = vocabulary_.kept();
  return result;
}

void Preparation::restore(const DataArrays& arrays, const std::string& path) {
  std::vector<std::string> unknown, problems;
  std::map<std::string, NumberArray> left = arrays;
  for (Normalization& n : normalizations_) {
    std::map<std::string, NumberArray> own;
    for (const std::string& name : n.array_names()) {
      const auto found = left.find(n.prefix() + name);
      if (found == left.end()) {
        problems.push_back(fmt::format("{}{} is missing", n.prefix(), name));
        continue;
      }
      own[name] = std::move(found->second);
      left.erase(found);
    }
    if (own.size() < n.array_names().size()) continue;
    if (n.consistent(own))
      n.set(std::move(own));
    else
      problems.push_back(fmt::format("the shapes of {}* do not fit `{}`", n.prefix(), n.name()));
  }
  if (vocabulary_size_ > 0) {
    const auto found = left.find(kVocabularyArray);
    if (found != left.end()) vocabulary_ = Vocabulary::restored(found->second.values);
    if (vocabulary_.empty())
      problems.push_back(fmt::format("{} is {}", kVocabularyArray,
                                     found == left.end() ? "missing" : "no list of characters"));
    else if (vocabulary_.size() > vocabulary_size_)
      problems.push_back(fmt::format("{} has {} numbers, the model file's `vocabulary` is {}",
                                     kVocabularyArray, vocabulary_.size(), vocabulary_size_));
    if (found != left.end()) left.erase(found);
  }
  for (const auto& [name, array] : left)
    problems.push_back(fmt::format("{} is there, but the model file has no such normalization", name));
  if (!problems.empty() && arrays.empty())
    throw RunError(kExitDataError,
                   fmt::format("{}: nothing is known there of how the model file's data are prepared ({}); "
                               "training fits it to the data: train first, or use weights that `train` or a "
                               "session saved",
                               path, fmt::join(problems, "; ")));
  if (!problems.empty())
    throw RunError(
        kExitDataError,
        fmt::format("{}: the weights were trained on data that were normalized in another way:\n  {}\n"
                    "write the same `normalize` as when they were trained, or train again",
                    path, fmt::join(problems, "\n  ")));
  fitted_ = true;
}

void Preparation::mixed_labels(const Split& split, const Field& field, const int64_t* rows, int64_t count,
                               const EpochKey* key, float* out) const {
  const auto classes = static_cast<size_t>(augmentation_->mixed_classes());
  const Field* augmented = nullptr;
  for (const Field& other : split.table->fields)
    if (other.name == augmentation_->field()) augmented = &other;
  const auto add = [&](float* to, int64_t row, float weight) {
    const int32_t label = field.integer_values()[static_cast<size_t>(row)];
    GRADC_CHECK(label >= 0 && static_cast<size_t>(label) < classes, "label {} of {}", label,
                classes);  // as read
    to[label] += weight;
  };
  std::fill_n(out, static_cast<size_t>(count) * classes, 0.0f);
  for (int64_t i = 0; i < count; ++i, out += classes) {
    if (!key) {
      add(out, rows[i], 1);
      continue;
    }
    GRADC_CHECK(augmented, "labels are mixed without their examples");
    for (const auto& [row, weight] :
         augmentation_->mixture(examples(split, *augmented), rows[i], *key, augmented->shape))
      add(out, row, weight);
  }
}

void Preparation::gather(const Split& split, const Field& field, const int64_t* rows, int64_t count,
                         const EpochKey* key, void* out) const {
  if (mixes(field)) return mixed_labels(split, field, rows, count, key, static_cast<float*>(out));
  const bool normalized = std::any_of(normalizations_.begin(), normalizations_.end(),
                                      [&](const Normalization& n) { return n.field() == field.name; });
  if (vocabulary_size_ > 0) {
    field.gather(rows, count, out);
    auto* numbers = static_cast<int32_t*>(out);
    for (int64_t i = 0; i < count * field.elements(); ++i) numbers[i] = vocabulary_.number(numbers[i]);
    return;
  }
  const bool viewed = !split.view.plain() && !key && is_image(field);
  if (!augments(field) && !normalized && !viewed) return field.gather(rows, count, out);
  auto* to = static_cast<float*>(out);
  const int64_t size = elements_of(shape_of(field));
  const bool in_place =
      field.doubles.empty() && !viewed && (!augments(field) || (!key && cropped(field) == field.shape)) &&
      std::none_of(normalizations_.begin(), normalizations_.end(),
                   [&](const Normalization& n) { return n.field() == field.name && n.projects(); });
  if (in_place) {
    field.gather(rows, count, out);
    for (int64_t i = 0; i < count; ++i, to += size)
      for (const Normalization& n : normalizations_)
        if (n.field() == field.name) n.apply(to, field.shape, to);
    return;
  }
  for (int64_t i = 0; i < count; ++i, to += size) {
    if (key && augments(field)) {
      normalize(field, augmentation_->train(examples(split, field), rows[i], *key), normalizations_.size(),
                to);
    } else {
      evaluated(field, rows[i], normalizations_.size(), split.view, to);
    }
  }
}

DataArrays data_arrays_of(const Split& split) {
  return split.preparation ? split.preparation->arrays() : DataArrays{};
}

void fit_preparation(Dataset& data, const DataRecord& record, Progress* progress) {
  const auto preparation = preparation_of(record);
  if (!preparation) return;
  preparation->fit(data.split("train"), progress);
  for (Split& split : data.splits) split.preparation = preparation;
}

std::shared_ptr<const Preparation> restored_preparation(const DataRecord& record, const DataArrays& arrays,
                                                        const std::string& path, bool always) {
  // Rejects also weights with arrays that a model without methods does not use.
  const auto preparation = std::make_shared<Preparation>(record);
  preparation->restore(arrays, path);
  return always || preparation_of(record) ? preparation : nullptr;
}

void restore_preparation(Dataset& data, const DataRecord& record, const DataArrays& arrays,
                         const std::string& path, bool always) {
  const auto preparation = restored_preparation(record, arrays, path, always);
  for (Split& split : data.splits) split.preparation = preparation;
}

}  // namespace gradc::runtime
