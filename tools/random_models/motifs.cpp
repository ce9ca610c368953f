// Structures that networks have and no single definition shows: chains, residual joins, convolution stages, transformer
// blocks, shared parameters, loops, sums of products, slices and joins of tensors.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "frontend/builtins.h"
#include "support/shape_text.h"
#include "tools/random_models/catalogue.h"
#include "tools/random_models/network.h"
#include "tools/random_models/vary.h"

namespace gradc::random_models {

namespace {

// An activation of some value: one of the prelude, or a primitive that takes one operand of either sign.
std::string activated(Network& net, const std::string& value) {
  Draw& draw = net.draw();
  if (draw.chance(0.5)) {
    Variation v;
    v.name = [&](const std::string& name) { return name == "x" ? "(" + value + ")" : std::string(); };
    return vary(draw.of(catalogue().activations).example, v, draw);
  }
  for (;;) {
    const Sample& s = draw.of(catalogue().samples);
    if (s.def->kind == OpKind::elementwise && s.def->operands.size() == 1 && s.def->gradient &&
        s.def->attributes.empty() && s.sample->low < 0)
      return fmt::format("primitive.{}({})", s.def->name, value);
  }
}

// A layer that keeps the shape, after a pipe: a normalisation, or one that draws random numbers. The compiler decides
// which of the prelude's layers keep it.
std::string normalised(Network& net, const std::string& value, int rank) {
  Draw& draw = net.draw();
  std::vector<const Callable*> layers;
  for (const Callable& c : catalogue().expressions)
    if (c.kind == "layer" && c.name.find("norm") != std::string::npos &&
        c.name.find('_') == std::string::npos)
      layers.push_back(&c);
  const Callable& c = *draw.of(layers);
  Variation v;
  v.name = [&](const std::string&) { return std::string(); };
  v.extents[4] = draw.between(1, 3);  // groups
  const size_t last = c.example.rfind("|> ");
  const std::string stage = last == std::string::npos ? c.name : c.example.substr(last + 3);
  const std::string text = fmt::format("v |> {}", stage);
  std::string varied = vary(text, v, draw);
  if (rank == 1 && c.name == "instancenorm") varied = "v";
  return "(" + value + ")" + varied.substr(1);
}

int64_t width_of(Network& net) { return net.draw().between(1, 16); }

bool chain(Network& net) {
  const std::string x = net.pick(static_cast<int>(net.draw().between(1, 2)));
  std::string h = fmt::format("dense({}, {})", x, width_of(net));
  if (net.draw().chance(0.4)) h = normalised(net, h, 1);
  return net.take(activated(net, h));
}

bool convolution(Network& net) {
  Draw& draw = net.draw();
  const std::string x = net.pick(3);
  const Shape shape = net.shape_of(x);
  const int64_t groups = draw.chance(0.3) ? draw.of({int64_t{2}, int64_t{3}, shape[0]}) : 1;
  // Sometimes whole vectors of channels, which have separate kernels.
  const int64_t channels = groups * (draw.chance(0.2) ? draw.of({8, 16, 24, 32})
                                                      : draw.between(1, std::max<int64_t>(1, 9 / groups)));
  const auto pair = [&](int64_t low, int64_t high) {
    const int64_t a = draw.between(low, high);
    return draw.chance(0.3) ? fmt::format("[{}, {}]", a, draw.between(low, high)) : std::to_string(a);
  };
  std::string h = fmt::format("conv2d({}, {}, {}, stride={}, padding={}, dilation={}, groups={}, bias={})", x,
                              channels, pair(1, 4), draw.chance(0.6) ? "1" : pair(1, 3), pair(0, 2),
                              draw.chance(0.7) ? "1" : pair(1, 2), groups, draw.chance(0.7));
  if (draw.chance(0.5)) h = normalised(net, h, 3);
  if (draw.chance(0.7)) h = activated(net, h);
  if (draw.chance(0.4))
    h = fmt::format("{}({}, {}, stride={}, padding={})", draw.chance(0.5) ? "max_pool" : "avg_pool", h,
                    pair(1, 3), pair(1, 2), draw.chance(0.8) ? 0 : 1);
  return net.take(h);
}

bool residual(Network& net) {
  Draw& draw = net.draw();
  const std::string x = net.pick(static_cast<int>(draw.between(1, 3)));
  const Shape shape = net.shape_of(x);
  std::string branch = x;
  if (draw.chance(0.5)) branch = normalised(net, branch, static_cast<int>(shape.size()));
  if (shape.size() == 3)
    branch = fmt::format("conv2d({}, {}, 3, padding=1, bias={})", branch, shape[0], draw.chance(0.5));
  else
    branch = fmt::format("dense({}, {})", branch, shape.back());
  if (draw.chance(0.7)) branch = activated(net, branch);
  const std::string join =
      draw.chance(0.2) ? fmt::format("stochastic_depth({}, {}, keep=0.8)", x, branch) : x + " + " + branch;
  return net.take(draw.chance(0.3) ? activated(net, join) : join);
}

bool transformer(Network& net) {
  Draw& draw = net.draw();
  std::string x = net.pick(2);
  Shape shape = net.shape_of(x);
  const int64_t heads = draw.between(1, 3);
  shape[1] = heads * draw.between(1, 4);
  if (shape != net.shape_of(x)) {
    if (!net.take(fmt::format("dense({}, {})", x, shape[1]))) return false;
    x = net.values().back().name;
  }
  const std::string causal = draw.chance(0.4) ? ", causal=true" : "";
  std::string memory;
  if (draw.chance(0.25)) memory = fmt::format(", memory={}", net.with_shape({draw.between(1, 6), shape[1]}));
  if (!net.take(fmt::format("{} + multi_head_attention(layernorm({}), {}{}{})", x, x, heads, memory, causal)))
    return false;
  if (draw.chance(0.4)) return true;
  const std::string y = net.values().back().name;
  return net.take(fmt::format("{} + dense({}, {})", y,
                              activated(net, fmt::format("dense(layernorm({}), {})", y, width_of(net))),
                              shape[1]));
}

bool embedded(Network& net) {
  Draw& draw = net.draw();
  const Value& v = net.any_value(false);
  std::string ids = v.name;
  if (v.type.dtype != DType::i32) {
    if (v.type.dtype != DType::f32) return false;
    ids = fmt::format("cast(floor({} * sigmoid({})), \"i32\")", number_text(net.source().classes - 0.01),
                      v.name);
  }
  return net.take(fmt::format("embedding({}, {}, {}, init=normal(0, 0.5))", ids,
                              net.source().classes + draw.between(-1, 2), width_of(net)));
}

// Built-in reductions over random axes.
bool reduction(Network& net) {
  Draw& draw = net.draw();
  std::vector<std::string> names;
  for (const frontend::Builtin& b : frontend::builtins())
    if (b.parameters.size() == 3 && std::string(b.parameters[1].name) == "axis" &&
        std::string(b.parameters[2].name) == "keep")
      names.emplace_back(b.name);
  const std::string x = net.pick(static_cast<int>(draw.between(1, 3)));
  const int rank = static_cast<int>(net.shape_of(x).size());
  std::vector<int64_t> axes;
  for (int i = 0; i < rank; ++i)
    if (draw.chance(0.5)) axes.push_back(draw.chance(0.3) ? i - rank : i);
  if (axes.empty()) axes.push_back(-1);
  std::string h =
      fmt::format("{}({}, {}{})", draw.of(names), x, shape_text(axes), draw.chance(0.5) ? ", keep=true" : "");
  if (draw.chance(0.3) && h.find("keep") != std::string::npos) h = x + " - " + h;
  return net.take(h);
}

// Letters for the axes of two operands, of which some are shared where extents agree.
bool product(Network& net) {
  Draw& draw = net.draw();
  const std::string a = net.pick(static_cast<int>(draw.between(1, 3)));
  const Shape left = net.shape_of(a);
  const std::string letters = "abcdefgh";
  std::string spec_a = letters.substr(0, left.size()), spec_b;
  Shape right;
  char next = letters[left.size()];
  const int rank = static_cast<int>(draw.between(1, 3));
  for (int i = 0; i < rank; ++i) {
    const size_t shared = draw.index(left.size());
    if (draw.chance(0.6) && spec_b.find(spec_a[shared]) == std::string::npos) {
      spec_b += spec_a[shared];
      right.push_back(left[shared]);
    } else {
      spec_b += next++;
      right.push_back(draw.between(1, 6));
    }
  }
  std::string result;
  for (const char c : spec_a + spec_b)
    if (result.find(c) == std::string::npos && draw.chance(0.6)) result += c;
  for (size_t i = result.size(); i > 1; --i) std::swap(result[i - 1], result[draw.index(i)]);
  std::vector<std::string> before;
  std::string b;
  if (draw.chance(0.5)) {
    b = net.fresh("p");
    before.push_back(fmt::format("{} = param{} ~ normal(0, 0.3)", b, shape_text(right)));
  } else {
    b = net.with_shape(right);
  }
  return net.take(fmt::format("einsum(\"{},{}->{}\", {}, {})", spec_a, spec_b, result, a, b), before);
}

// Slices, padding, concatenation, transposition, one after the other.
bool pieces(Network& net) {
  Draw& draw = net.draw();
  const std::string x = net.pick(static_cast<int>(draw.between(1, 3)));
  const Shape shape = net.shape_of(x);
  const auto list = [&](auto&& each) {
    std::vector<int64_t> result;
    for (const int64_t extent : shape) result.push_back(each(extent));
    return result;
  };
  switch (draw.index(4)) {
    case 0: {
      const std::vector<int64_t> begin = list([&](int64_t e) { return draw.between(0, e / 2); });
      const std::vector<int64_t> end = list([&](int64_t e) { return draw.between(e / 2 + 1, e); });
      return net.take(fmt::format("slice({}, {}, {}, step={})", x, shape_text(begin), shape_text(end),
                                  shape_text(list([&](int64_t) { return draw.between(1, 2); }))));
    }
    case 1: {
      const std::string high = shape_text(list([&](int64_t) { return draw.between(0, 2); }));
      const std::string low = shape_text(list([&](int64_t) { return draw.between(0, 2); }));
      return net.take(fmt::format("pad({}, {}, {}, value={})", x, low, high,
                                  draw.chance(0.5) ? "0.0" : number_text(draw.share())));
    }
    case 2: {
      const size_t axis = draw.index(shape.size());
      Shape other = shape;
      other[axis] = draw.between(1, 4);
      return net.take(fmt::format("concat([{}, {}], {})", x, net.with_shape(other), axis));
    }
    default: {
      std::vector<int64_t> order;
      for (size_t i = 0; i < shape.size(); ++i) order.push_back(static_cast<int64_t>(i));
      for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[draw.index(i)]);
      return net.take(fmt::format("transpose({}, {})", x, shape_text(order)));
    }
  }
}

bool shared(Network& net) {
  Draw& draw = net.draw();
  const std::string x = net.pick(static_cast<int>(draw.between(1, 2)));
  const Shape shape = net.shape_of(x);
  const std::string y = net.with_shape(shape);
  const std::string name = net.fresh("s"), again = net.fresh("u");
  const int64_t width = draw.chance(0.5) ? shape.back() : width_of(net);
  const std::string first = fmt::format("{} = dense({}, {}) as {}", again, x, width, name);
  // Applied to its own result where the shapes allow it.
  const std::string second = width == shape.back() && draw.chance(0.5) ? activated(net, again) : y;
  return net.take(fmt::format("{} + 0.5 * (dense({}, {}) reuse {})", again, second, width, name), {first});
}

bool loop(Network& net) {
  Draw& draw = net.draw();
  const std::string x = net.pick(static_cast<int>(draw.between(1, 2)));
  const std::string name = net.fresh("t");
  const std::string round = activated(net, fmt::format("dense({}, {})", name, net.shape_of(x).back()));
  return net.take(name, {fmt::format("{} = {}", name, x),
                         fmt::format("for i in 0..{} as {} {{ {} = {}{} }}", draw.between(2, 3),
                                     net.fresh("stage"), name, draw.chance(0.4) ? name + " + " : "", round)});
}

// Random numbers and statistics across the batch, which exist only in training.
bool training_only(Network& net) {
  Draw& draw = net.draw();
  const std::string x = net.pick(-1);
  const int rank = static_cast<int>(net.shape_of(x).size());
  std::vector<int64_t> axes;
  for (int i = 0; i < rank; ++i)
    if (draw.chance(0.4)) axes.push_back(i);
  switch (draw.index(5)) {
    case 0:
      return net.take(fmt::format("if stochastic {{ {} + {} * normal(0, 1, {}) }} else {{ {} }}", x,
                                  number_text(0.02 + 0.2 * draw.share()),
                                  draw.chance(0.5) ? "like=" + x : "per_example=true", x));
    case 1:
      return net.take(fmt::format("if stochastic {{ {} * uniform(0.5, 1.5, {}) }} else {{ {} }}", x,
                                  draw.chance(0.5) ? "like=" + x : "shape=" + shape_text(net.shape_of(x)),
                                  x));
    case 2: return net.take(fmt::format("dropout({}, {})", x, number_text(0.1 + 0.5 * draw.share())));
    case 3:
      return net.take(
          fmt::format("if training {{ {} - batch_mean({}, {}) }} else {{ {} }}", x, x, shape_text(axes), x));
    default:
      return net.take(fmt::format(
          "if training {{ {} / sqrt(0.1 + batch_var({}, batch_mean({}, {}), {})) }} else {{ {} }}", x, x, x,
          shape_text(axes), shape_text(axes), x));
  }
}

bool decision(Network& net) {
  Draw& draw = net.draw();
  const std::string x = net.pick(-1);
  const std::string y = net.with_shape(net.shape_of(x));
  const std::string z = draw.chance(0.5) ? number_text(draw.share()) : net.with_shape(net.shape_of(x));
  const std::string compared = draw.of({"<", "<=", ">", ">="});
  return net.take(
      fmt::format("select({} {} {}, {}, {} * {})", x, compared, z, y, number_text(0.1 + draw.share()), x));
}

}  // namespace

bool add_motif(Network& net) {
  using Motif = bool (*)(Network&);
  static const std::vector<Motif> motifs = {chain,    chain,       convolution, convolution,   residual,
                                            residual, transformer, embedded,    reduction,     product,
                                            pieces,   shared,      loop,        training_only, decision};
  return net.draw().of(motifs)(net);
}

}  // namespace gradc::random_models
