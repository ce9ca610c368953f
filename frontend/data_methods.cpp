// The tables of normalisations and augmentations, and the check of those that a file uses.
#include "frontend/data_methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "frontend/error_codes.h"
#include "support/data_limits.h"
#include "support/diagnostic.h"

namespace gradc::frontend {

namespace {

using Kind = MethodOption::Kind;

constexpr double kHuge = 1e6;

MethodOption probability(double otherwise) {
  return {"p", Kind::number, otherwise, false, 0, 1, false, "the probability"};
}
MethodOption amount(const char* name, double high, const char* doc) {
  return {name, Kind::number, {}, true, 0, high, false, doc};
}
MethodOption components() {
  return {
      "components", Kind::integer, int64_t{0}, false, 1, kHuge, false, "how many are kept; all unless said"};
}
MethodOption size() {
  return {"size", Kind::size, {}, false, 1, kHuge, false, "height and width, or one for both"};
}

}  // namespace

const std::vector<MethodKind>& normalizations() {
  const MethodOption std_option = {
      "std", Kind::boolean, true, false, 0, 0, false, "whether to divide by the standard deviation"};
  static const std::vector<MethodKind> table = {
      {"channel", "Each channel (first extent) to mean 0 and standard deviation 1.", {std_option}},
      {"pixel", "Each element to mean 0 and standard deviation 1.", {std_option}},
      {"value", "All values together to mean 0 and standard deviation 1.", {std_option}},
      {"mean_image", "The mean of all examples is subtracted, element by element.", {}},
      {"min_max",
       "Each channel (first extent) to low..high.",
       {{"low", Kind::number, 0.0, false, -kHuge, kHuge, false, "what the least value becomes"},
        {"high", Kind::number, 1.0, false, -kHuge, kHuge, false, "what the greatest value becomes"}}},
      {"pca",
       "The mean is subtracted, and the principal components are taken: f32[components].",
       {components()}},
      {"whiten",
       "As pca, each component divided by sqrt(variance + eps).",
       {components(), {"eps", Kind::number, 1e-5, false, 0, kHuge, false, "added to each variance"}}},
  };
  return table;
}

const std::vector<MethodKind>& augmentations() {
  static const std::vector<MethodKind> table = {
      {"flip_horizontal", "Mirrored, left to right.", {probability(0.5)}, true},
      {"flip_vertical", "Mirrored, top to bottom.", {probability(0.5)}, true},
      {"random_crop",
       "A crop of `size` at a random position, of the image with `pad` zeros around it; its middle at "
       "evaluation.",
       {{"pad", Kind::integer, int64_t{0}, false, 0, 4096, false, "zeros on each side"}, size()},
       true},
      {"random_resized_crop",
       "A crop of random area and aspect ratio, resized to `size`; at evaluation the largest one in the "
       "middle "
       "with the aspect ratio of `size`. Szegedy et al. 2015.",
       {size(),
        {"scale", Kind::number, 0.08, false, 0, 1, true, "the least share of the image's area"},
        {"ratio", Kind::number, 4.0 / 3, false, 1, 100, false,
         "the greatest aspect ratio; the least is its inverse"}},
       true},
      {"brightness",
       "Times a factor from 1 - amount to 1 + amount.",
       {amount("amount", 10, "how far the factor may be from 1")},
       true},
      {"contrast",
       "Away from or towards the mean grey, by such a factor.",
       {amount("amount", 10, "how far the factor may be from 1")},
       true},
      {"saturation",
       "Away from or towards each pixel's grey, by such a factor.",
       {amount("amount", 10, "how far the factor may be from 1")},
       true,
       true},
      {"hue",
       "The hue turned by up to `amount` of the circle.",
       {amount("amount", 0.5, "of a turn")},
       true,
       true},
      {"pca_color",
       "An offset along the principal components of the colours, each times its eigenvalue and a normal "
       "number of "
       "deviation `std`. Krizhevsky et al. 2012, section 4.1.",
       {{"std", Kind::number, 0.1, false, 0, 10, false, "of the random factors"}},
       true,
       true},
      {"rotation",
       "By an angle of up to `degrees`, either way.",
       {amount("degrees", 180, "the greatest angle")},
       true},
      {"translation", "By up to `share` of height and width.", {amount("share", 1, "of the extents")}, true},
      {"shear",
       "Sheared along the rows by an angle of up to `degrees`.",
       {amount("degrees", 80, "the greatest angle")},
       true},
      {"stretch",
       "Height and width times factors from 1 / (1 + amount) to 1 + amount.",
       {amount("amount", 10, "how far the factor may be from 1")},
       true},
      {"cutout",
       "A square of side `size` around a random pixel becomes `value`. DeVries and Taylor 2017.",
       {{"size", Kind::integer, {}, true, 1, kHuge, false, "the side"},
        {"value", Kind::number, 0.0, false, -kHuge, kHuge, false, "what the square holds"}},
       true},
      {"mixup",
       "lambda x + (1 - lambda) x' with another training example x', lambda from Beta(alpha, alpha); the "
       "labels are "
       "mixed alike. Zhang et al. 2018.",
       {{"alpha", Kind::number, 0.2, false, 0, 1000, true, "of the Beta distribution"}, probability(1)},
       false,
       false,
       true},
      {"cutmix",
       "A box of area 1 - lambda is another training example's; the labels are mixed by area. Yun et al. "
       "2019.",
       {{"alpha", Kind::number, 1.0, false, 0, 1000, true, "of the Beta distribution"}, probability(1)},
       true,
       false,
       true},
      {"noise", "Normal noise is added.", {amount("std", kHuge, "its standard deviation")}},
  };
  return table;
}

namespace {

class Methods {
 public:
  Methods(Evaluator& e, DataSource& data) : e_(e), data_(data) {}

  void normalize(const MethodSyntax& m) {
    const MethodKind* kind = find(m, normalizations(), "normalization");
    Type* type = field(m, "normalized");
    DataMethod method{m.field, kind ? kind->name : "", {}};
    if (!kind || !options(m, *kind, method) || !type) return;
    for (const DataMethod& other : data_.record.normalize)
      if (other.field == m.field && other.name == method.name) {
        e_.error(codes::duplicate, m.method->span,
                 fmt::format("`{}` is normalized by `{}` already", m.field, method.name));
        return;
      }
    if (method.name == "min_max" &&
        std::get<double>(method.options["low"]) >= std::get<double>(method.options["high"]))
      e_.error(codes::bad_value, m.method->span, "`low` must be below `high`");
    if (method.options.count("components")) {
      const int64_t elements = type->elements();
      int64_t& kept = std::get<int64_t>(method.options["components"]);
      if (elements > kMaxPcaElements)
        e_.error(codes::limit, m.method->span,
                 fmt::format("`{}` takes fields of at most {} numbers, and `{}` has {}", method.name,
                             kMaxPcaElements, m.field, elements))
            .helps.push_back("normalize by `channel` or `pixel`, or crop the images smaller");
      if (kept > elements)
        e_.error(codes::bad_value, m.method->span,
                 fmt::format("{} components of {} numbers: there are {}", kept, elements, elements));
      if (kept == 0) kept = elements;
      type->shape = {kept};
    }
    data_.record.normalize.push_back(std::move(method));
  }

  void augment(const MethodSyntax& m) {
    const MethodKind* kind = find(m, augmentations(), "augmentation");
    Type* type = field(m, "augmented");
    DataMethod method{m.field, kind ? kind->name : "", {}};
    if (!kind || !options(m, *kind, method) || !type) return;
    if ((kind->image || kind->colour) && type->shape.size() != 3) {
      e_.error(codes::shapes, m.method->span,
               fmt::format("`{}` takes images, f32[channels, height, width], and `{}` is {}", kind->name,
                           m.field, user_type(*type)))
          .expect("f32[channels, height, width]", user_type(*type));
      return;
    }
    if (kind->colour && type->shape[0] != 3) {
      e_.error(codes::shapes, m.method->span,
               fmt::format("`{}` takes images of 3 channels (red, green, blue), and `{}` is {}", kind->name,
                           m.field, user_type(*type)))
          .expect("f32[3, height, width]", user_type(*type));
      return;
    }
    if (method.name == "random_crop" || method.name == "random_resized_crop") crop(m, method, *type);
    if (method.name == "cutout") {
      const int64_t side = std::get<int64_t>(method.options["size"]);
      if (side > std::min(type->shape[1], type->shape[2]))
        e_.error(codes::bad_value, m.method->span,
                 fmt::format("a square of side {} is larger than the image, {}", side, user_type(*type)))
            .expect(fmt::format("at most {}", std::min(type->shape[1], type->shape[2])),
                    std::to_string(side));
    }
    if (kind->mixes && !mix_labels(m, method)) return;
    data_.record.augment.push_back(std::move(method));
  }

 private:
  // The method of this name; null after an error.
  const MethodKind* find(const MethodSyntax& m, const std::vector<MethodKind>& table, const char* what) {
    std::vector<std::string> names;
    for (const MethodKind& k : table) {
      if (m.method->text == k.name) return &k;
      names.emplace_back(k.name);
    }
    Diagnostic& error = e_.error(codes::unknown_source,
                                 m.method->kind == ExprKind::call ? m.method->text_span : m.method->span,
                                 fmt::format("there is no {} `{}`", what, m.method->text));
    error.choose(m.method->text, names, "there are");
    return nullptr;
  }

  // The type of an f32 field; null after an error.
  Type* field(const MethodSyntax& m, const char* done) {
    const auto it = data_.fields.find(m.field);
    if (it == data_.fields.end()) {
      std::vector<std::string> names;
      for (const auto& [name, type] : data_.fields) names.push_back(name);
      Diagnostic& error = e_.error(codes::unknown_field, m.field_span,
                                   fmt::format("the data `{}` have no field `{}`", data_.name, m.field));
      error.choose(m.field, names, "there are");
      return nullptr;
    }
    if (it->second.dtype == DType::f32) return &it->second;
    e_.error(codes::wrong_kind, m.field_span,
             fmt::format("`{}` is {}; only fields of f32 are {}", m.field, user_type(it->second), done))
        .expect("a field of f32", user_type(it->second));
    return nullptr;
  }

  bool options(const MethodSyntax& m, const MethodKind& kind, DataMethod& method) {
    const size_t errors = e_.diagnostics().count();
    std::set<std::string> given;
    size_t next = 0;
    for (const Argument& a : m.method->arguments) {
      const bool positional = a.name.empty();
      const Span span = a.value->span;
      if (positional && next >= kind.options.size()) {
        e_.error(codes::extra_argument, span,
                 fmt::format("`{}` takes {} option{}", kind.name, kind.options.size(),
                             kind.options.size() == 1 ? "" : "s"));
        continue;
      }
      const std::string name = positional ? kind.options[next++].name : a.name;
      const auto option = std::find_if(kind.options.begin(), kind.options.end(),
                                       [&](const MethodOption& o) { return name == o.name; });
      if (option == kind.options.end()) {
        unknown_option(kind, a);
        continue;
      }
      if (!given.insert(name).second)
        e_.error(codes::extra_argument, positional ? span : a.name_span,
                 fmt::format("`{}` is given `{}` twice", kind.name, name));
      const Value v = e_.evaluate(*a.value);
      if (!v.poisoned()) set(*option, v, span, method);
    }
    for (const MethodOption& o : kind.options) {
      if (given.count(o.name)) continue;
      if (o.required)
        e_.error(codes::missing_argument, m.method->span,
                 fmt::format("`{}` needs `{}`: {}", kind.name, o.name, o.doc));
      else if (o.kind != Kind::size)
        method.options[o.name] = o.otherwise;
    }
    return e_.diagnostics().count() == errors;
  }

  void unknown_option(const MethodKind& kind, const Argument& a) {
    std::vector<std::string> known;
    for (const MethodOption& o : kind.options) known.emplace_back(o.name);
    Diagnostic& error = e_.error(codes::unknown_source, a.name_span,
                                 fmt::format("`{}` has no option `{}`", kind.name, a.name));
    if (known.empty())
      error.expect("no option", a.name).helps.push_back("it takes none");
    else
      error.choose(a.name, known, "its options are");
  }

  void set(const MethodOption& o, const Value& v, Span span, DataMethod& method) {
    const std::string what = fmt::format("`{}`", o.name);
    const auto within = [&](double x) {
      if (x <= o.high && (o.above_low ? x > o.low : x >= o.low)) return true;
      e_.error(codes::bad_value, span,
               fmt::format("{} must be {} {} and at most {}, not {}", what,
                           o.above_low ? "above" : "at least", o.low, o.high, print(v)))
          .expect(fmt::format("{} {} and at most {}", o.above_low ? "above" : "at least", o.low, o.high),
                  print(v));
      return false;
    };
    switch (o.kind) {
      case Kind::boolean: {
        bool b = false;
        if (e_.to_boolean(v, span, what, b)) method.options[o.name] = b;
        return;
      }
      case Kind::integer: {
        int64_t i = 0;
        if (e_.to_integer(v, span, what, i) && within(static_cast<double>(i))) method.options[o.name] = i;
        return;
      }
      case Kind::number: {
        double x = 0;
        if (e_.to_number(v, span, what, x) && within(x)) method.options[o.name] = x;
        return;
      }
      case Kind::size: {
        std::vector<int64_t> list;
        if (v.is(ValueKind::integer))
          list = {v.integer, v.integer};
        else if (!e_.to_integers(v, span, what, list))
          return;
        if (list.size() != 2) {
          e_.error(codes::bad_value, span,
                   fmt::format("{} is [height, width], or one integer for both", what));
          return;
        }
        if (within(static_cast<double>(list[0])) && within(static_cast<double>(list[1])))
          method.options[o.name] = list;
      }
    }
  }

  void crop(const MethodSyntax& m, DataMethod& method, Type& type) {
    const int64_t pad = method.options.count("pad") ? std::get<int64_t>(method.options["pad"]) : 0;
    if (!method.options.count("size"))
      method.options["size"] = std::vector<int64_t>{type.shape[1], type.shape[2]};
    const auto& size = std::get<std::vector<int64_t>>(method.options["size"]);
    if (method.name == "random_crop" &&
        (size[0] > type.shape[1] + 2 * pad || size[1] > type.shape[2] + 2 * pad)) {
      e_.error(codes::bad_value, m.method->span,
               fmt::format("a crop of {} x {} is larger than the image, {} x {}{}", size[0], size[1],
                           type.shape[1], type.shape[2],
                           pad ? fmt::format(" with {} zeros around it", pad) : ""))
          .expect(fmt::format("at most {} x {}", type.shape[1] + 2 * pad, type.shape[2] + 2 * pad),
                  fmt::format("{} x {}", size[0], size[1]))
          .helps.push_back("choose a smaller `size`, or pad the image: `random_crop(pad=4)`");
      return;
    }
    Shape checked;
    if (e_.to_shape(Value::of_shape({type.shape[0], size[0], size[1]}), m.method->span, "the crop", checked))
      type.shape = checked;
  }

  // The field `label` becomes a probability for each class.
  bool mix_labels(const MethodSyntax& m, DataMethod& method) {
    const auto label = data_.fields.find("label");
    const int64_t classes = count_of(data_.record, "label");
    if (label == data_.fields.end()) {
      e_.error(
          codes::unknown_field, m.method->span,
          fmt::format("`{}` mixes labels, and the data `{}` have no field `label`", method.name, data_.name));
      return false;
    }
    const bool mixed_already = label->second.dtype == DType::f32 && mixed_;
    if (!mixed_already && (label->second.dtype != DType::i32 || !label->second.shape.empty())) {
      e_.error(codes::shapes, m.method->span,
               fmt::format("`{}` mixes labels of classes, single numbers of i32, and `label` is {}",
                           method.name, user_type(label->second)))
          .expect("i32", user_type(label->second));
      return false;
    }
    if (classes == 0) {
      e_.error(codes::missing_argument, m.method->span,
               fmt::format("`{}` needs to know how many classes `label` counts", method.name))
          .helps.push_back(fmt::format("say so at the source: `{}(..., classes=10)`", data_.record.source));
      return false;
    }
    if (classes > kMaxMixedClasses) {
      e_.error(codes::limit, m.method->span,
               fmt::format("`{}` takes at most {} classes, not {}", method.name, kMaxMixedClasses, classes))
          .expect(fmt::format("at most {} classes", kMaxMixedClasses), std::to_string(classes));
      return false;
    }
    method.options["classes"] = classes;
    label->second = Type{DType::f32, true, {classes}};
    mixed_ = true;
    return true;
  }

  Evaluator& e_;
  DataSource& data_;
  bool mixed_ = false;
};

}  // namespace

void data_methods(Evaluator& e, const DataSyntax& d, DataSource& data) {
  for (size_t i = 1; i < d.augments.size(); ++i)
    e.error(codes::experiment_part, d.augments[i], "a data set has one `augment`")
        .related.push_back({d.augments[0], "the first is here"});
  Methods methods(e, data);
  // Examples are augmented before they are normalized, in any order of the statements.
  for (const MethodSyntax& m : d.augmentations)
    if (d.augments.size() == 1) methods.augment(m);
  for (const MethodSyntax& m : d.normalizations) methods.normalize(m);
}

}  // namespace gradc::frontend
