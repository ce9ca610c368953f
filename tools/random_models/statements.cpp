// Statements from the catalogue: examples of definitions on other values, and samples of primitives with operands from
// the network.
#include <fmt/format.h>

#include <algorithm>

#include "ir/tensor/attributes.h"
#include "support/shape_text.h"
#include "tools/random_models/catalogue.h"
#include "tools/random_models/network.h"
#include "tools/random_models/vary.h"

namespace gradc::random_models {

namespace {

// The number of axes of the values of frontend::example_model(), by name.
int axes_of(const std::string& name) {
  return name == "image" ? 3 : name == "tokens" ? 2 : name == "x" || name == "logits" ? 1 : -1;
}

bool add_example(Network& net, const Callable& callable, bool any_rank) {
  Draw& draw = net.draw();
  Variation v;
  // One value for each name of the example: its extents are used with it.
  std::map<std::string, std::string> bound;
  v.name = [&](const std::string& name) -> std::string {
    if (const auto it = bound.find(name); it != bound.end()) return it->second;
    if (name == "label") {
      for (const Value& value : net.values())
        if (value.type.dtype == DType::i32 && draw.chance(0.7)) return bound[name] = value.name;
      return bound[name] = fmt::format("argmax({})", net.pick(1));
    }
    if (axes_of(name) < 0) return "";
    return bound[name] = net.pick(any_rank && draw.chance(0.5) ? -1 : axes_of(name));
  };
  v.extents[10] = net.source().classes;
  for (const int64_t extent : {16, 128}) v.extents[extent] = draw.between(2, 14);
  return net.take(vary(callable.example, v, draw));
}

// A batched operand of a sample, from the network; the values in [low, high].
std::string batched_operand(Network& net, const Type& type, const OpSample& sample) {
  Draw& draw = net.draw();
  const std::string value = net.with_shape(type.shape);
  if (type.dtype == DType::boolean) return fmt::format("({} > {})", value, number_text(draw.share() - 0.5));
  if (type.dtype == DType::i32) {
    const double below = std::max(1.0, sample.high > 1 ? sample.high : 2);
    return fmt::format("cast(floor({} * sigmoid({})), \"i32\")", number_text(0.999 * below), value);
  }
  if (sample.low < 0 && draw.chance(0.5)) return value;
  return fmt::format("({} + {} * sigmoid({}))", number_text(sample.low),
                     number_text(sample.high - sample.low), value);
}

// An unbatched operand: a parameter, or a value computed from positions.
std::string plain_operand(Network& net, const Type& type, const OpSample& sample,
                          std::vector<std::string>& before) {
  if (type.dtype == DType::f32) {
    const std::string name = net.fresh("p");
    before.push_back(fmt::format("{} = param{} ~ uniform({}, {})", name, shape_text(type.shape),
                                 number_text(sample.low), number_text(sample.high)));
    return name;
  }
  const int64_t n = type.elements();
  const int64_t below =
      type.dtype == DType::boolean ? 2 : std::max<int64_t>(1, static_cast<int64_t>(sample.high));
  const std::string places =
      fmt::format("reshape(cast(floor({} * abs(sin({} * cast(iota({}), \"f32\")))), \"i32\"), {})",
                  number_text(0.999 * static_cast<double>(below)), number_text(1 + net.draw().share()), n,
                  shape_text(type.shape));
  return type.dtype == DType::boolean ? fmt::format("({} == 1)", places) : places;
}

std::string attribute_text(const Attribute& a) {
  if (const auto* list = std::get_if<std::vector<int64_t>>(&a)) return shape_text(*list);
  return to_string(a);
}

bool add_sample(Network& net) {
  const Sample& s = net.draw().of(catalogue().samples);
  std::vector<std::string> before;
  std::string arguments;
  for (const Type& type : s.sample->operands) {
    const std::string operand =
        type.batched ? batched_operand(net, type, *s.sample) : plain_operand(net, type, *s.sample, before);
    arguments += (arguments.empty() ? "" : ", ") + operand;
  }
  for (const auto& [name, value] : s.sample->attributes)
    arguments += fmt::format(", {}={}", name, attribute_text(value));
  std::string result = fmt::format("primitive.{}({})", s.def->name, arguments);
  // Combine a value that does not depend on the example with one that does.
  if (std::none_of(s.sample->operands.begin(), s.sample->operands.end(),
                   [](const Type& type) { return type.batched; }))
    result = fmt::format("cast({}, \"f32\") * mean({})", result, net.pick(-1));
  return net.take(result, before);
}

// An elementwise primitive on existing values, with broadcasting.
bool add_elementwise(Network& net) {
  Draw& draw = net.draw();
  const Sample& s = draw.of(catalogue().samples);
  if (s.def->kind != OpKind::elementwise) return false;
  std::vector<std::string> operands;
  const std::string first = net.pick(-1);
  const Shape shape = net.shape_of(first);
  for (size_t i = 0; i < s.sample->operands.size(); ++i) {
    Shape own = shape;
    if (i > 0) {
      // Some axes of extent 1, or only the last axes.
      for (int64_t& extent : own)
        if (draw.chance(0.2)) extent = 1;
      if (draw.chance(0.2))
        own.erase(own.begin(), own.begin() + static_cast<int64_t>(draw.index(own.size() + 1)));
    }
    std::string value = i == 0 ? first : net.with_shape(own, draw.chance(0.5) && own == shape ? first : "");
    if (s.sample->operands[i].dtype == DType::boolean)
      value = fmt::format("({} > 0)", value);
    else if (s.sample->operands[i].dtype == DType::i32)
      value = fmt::format("cast(floor({}), \"i32\")", value);
    else if (s.sample->low >= 0)
      value = fmt::format("({} + {} * sigmoid({}))", number_text(s.sample->low),
                          number_text(s.sample->high - s.sample->low), value);
    operands.push_back(value);
  }
  std::string arguments = fmt::format("{}", fmt::join(operands, ", "));
  for (const auto& [name, value] : s.sample->attributes)
    arguments += fmt::format(", {}={}", name, attribute_text(value));
  return net.take(fmt::format("primitive.{}({})", s.def->name, arguments));
}

}  // namespace

bool add_statement(Network& net) {
  Draw& draw = net.draw();
  const double kind = draw.share();
  if (kind < 0.32) return add_example(net, draw.of(catalogue().expressions), false);
  if (kind < 0.44) return add_example(net, draw.of(catalogue().activations), true);
  if (kind < 0.58) return add_sample(net);
  if (kind < 0.66) return add_elementwise(net);
  return add_motif(net);
}

}  // namespace gradc::random_models
