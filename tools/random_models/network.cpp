// Candidates of statements as whole model files; knows the language's text, no operator.
#include "tools/random_models/network.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "runtime/abi.h"
#include "support/philox.h"
#include "support/shape_text.h"

namespace gradc::random_models {

using interpreter::Tensor;

namespace {

constexpr int64_t kMostElements = 1000;  // of one example of a value
constexpr int64_t kMostWeights = 12000;  // of the dense layer that changes a value's shape
constexpr double kMostMagnitude = 40;    // of a value of the network

bool word_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

bool uses(const std::string& text, const std::string& name) {
  for (size_t at = 0; (at = text.find(name, at)) != std::string::npos; at += name.size()) {
    const bool begins = at == 0 || !(word_character(text[at - 1]) || text[at - 1] == '.');
    const size_t end = at + name.size();
    if (begins && (end == text.size() || !word_character(text[end]))) return true;
  }
  return false;
}

// The initial values of every parameter, state and slot; zeros for those that @init does not have.
std::map<std::string, Tensor> initial_symbols(const Module& module) {
  std::map<std::string, Tensor> symbols;
  for (const Symbol& s : module.symbols) symbols[s.name] = interpreter::make_tensor(s.type, 1);
  if (const Function* init = module.function("init")) {
    interpreter::RunInput input;
    input.symbols = symbols;
    input.context.seed = 1;
    for (auto& [name, value] : interpreter::run(*init, input).updates) symbols[name] = std::move(value);
  }
  return symbols;
}

bool moderate(const Tensor& t, double most) {
  for (const double v : t.data)
    if (!std::isfinite(v) || std::fabs(v) > most) return false;
  return true;
}

}  // namespace

int64_t elements(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t extent : shape) n *= extent;
  return n;
}

std::map<std::string, Tensor> made_up_inputs(const Function& f, int64_t rows, int64_t integers_below) {
  std::map<std::string, Tensor> inputs;
  uint32_t stream = 0;
  for (const auto& input : f.inputs) {
    ++stream;
    Tensor t = interpreter::make_tensor(input->type, rows);
    for (size_t i = 0; i < t.data.size(); ++i) {
      const uint32_t word = random_word(5, 0, stream, i, 0);
      t.data.data()[i] = !input->type.batched     ? 1
                         : input->type.is_float() ? static_cast<float>(5 * uniform_from_word(word) - 2.5)
                                                  : word % static_cast<uint32_t>(integers_below);
    }
    inputs[input->symbol()] = std::move(t);
  }
  return inputs;
}

bool ordinary(const Module& module, int64_t integers_below, double most) {
  interpreter::RunInput input;
  input.symbols = initial_symbols(module);
  input.context.rows = 4;
  input.context.seed = 1;
  for (const char* name : {"train", "predict"}) {
    const Function* f = module.function(name);
    if (!f) continue;
    input.inputs = made_up_inputs(*f, input.context.rows, integers_below);
    const interpreter::RunResult result = interpreter::run(*f, input);
    for (const auto& [output, value] : result.outputs)
      if (!moderate(value, most)) return false;
    for (const auto& [symbol, value] : result.updates)
      if (!moderate(value, most)) return false;
  }
  return true;
}

Network::Network(Draw& draw, const Source& source) : draw_(draw), source_(source) {
  for (const Source::Field& f : source.fields) values_.push_back({f.name, f.type});
}

std::string Network::call() const {
  std::string arguments;
  for (const Source::Field& f : source_.fields) arguments += (arguments.empty() ? "d." : ", d.") + f.name;
  return "net(" + arguments + ")";
}

std::string Network::definition(const std::vector<std::string>& lines, const std::string& result) const {
  std::string parameters;
  for (const Source::Field& f : source_.fields)
    parameters += fmt::format("{}{}: {}{}", parameters.empty() ? "" : ", ", f.name, name(f.type.dtype),
                              f.type.shape.empty() ? "" : shape_text(f.type.shape));
  std::string text = "model net(" + parameters + ") {\n";
  for (const std::string& line : lines) text += "    " + line + "\n";
  return text + "    return " + result + "\n}\n";
}

std::string Network::text() const { return definition(lines_, result_); }

std::vector<Value> Network::unused() const {
  std::vector<Value> result;
  for (const Value& v : values_)
    if (std::none_of(lines_.begin(), lines_.end(), [&](const std::string& line) {
          const size_t bound = line.find(" = ");
          return uses(bound == std::string::npos ? line : line.substr(bound), v.name);
        }))
      result.push_back(v);
  return result;
}

Network::Probe Network::probe(const std::vector<std::string>& lines, const std::string& name) const {
  std::vector<std::string> all = lines;
  int sink = 0;
  for (const Value& v : values_) all.push_back(fmt::format("_{} = {}", ++sink, v.name));
  compiler::CompileRequest request;
  request.file = "candidate.nn";
  request.text = fmt::format(
      "{}\n{}train {{\n    r = {}\n    loss sum(dense(reshape(cast(r, \"f32\"), [-1]), 1) as probe)\n    "
      "predict r\n"
      "    optimizer sgd(lr=0.1)\n}}\n",
      source_.declaration, definition(all, name), call());
  try {
    const std::unique_ptr<compiler::LoadedModel> loaded = compiler::load_model(request);
    const Module& module = *loaded->model.module;
    const Function* f = module.function("predict");
    if (!f) return {};
    const Type type = f->outputs.front().value->type;
    if (!type.batched || type.elements() > kMostElements || type.rank() > 4) return {};
    return {ordinary(module, source_.classes, kMostMagnitude), type};
  } catch (const compiler::ModelError&) {
    return {};
  }
}

bool Network::take(const std::string& expression, const std::vector<std::string>& before) {
  std::vector<std::string> lines = lines_;
  lines.insert(lines.end(), before.begin(), before.end());
  const std::string name = "h" + std::to_string(++count_);
  lines.push_back(name + " = " + expression);
  const Probe found = probe(lines, name);
  if (!found.sound) return false;
  lines_ = std::move(lines);
  values_.push_back({name, found.type});
  return true;
}

const Value& Network::any_value(bool only_float) {
  std::vector<const Value*> fitting;
  for (const Value& v : values_)
    if (!only_float || v.type.dtype == DType::f32) fitting.push_back(&v);
  if (fitting.empty()) return draw_.of(values_);
  // Later values more often: networks are deep rather than wide.
  const size_t a = draw_.index(fitting.size()), b = draw_.index(fitting.size());
  return *fitting[std::max(a, b)];
}

std::string Network::with_shape(const Shape& shape, const std::string& of) {
  std::string value = of;
  Shape from;
  if (of.empty()) {
    const Value& v = any_value();
    value = v.type.dtype == DType::f32 ? v.name : fmt::format("cast({}, \"f32\")", v.name);
    from = v.type.shape;
  } else {
    from = shape_of(of);
  }
  if (from == shape) return value;
  const int64_t n = elements(shape), have = elements(from);
  const std::string flat = from.size() == 1 ? value : fmt::format("reshape({}, [-1])", value);
  if (have == n) return fmt::format("reshape({}, {})", value, shape_text(shape));
  std::string sized;
  if (have > n && (draw_.chance(0.4) || have * n > kMostWeights))
    sized = fmt::format("{}[0..{}]", from.size() == 1 ? value : "(" + flat + ")", n);
  else
    sized = fmt::format("dense({}, {})", flat, n);
  return shape.size() == 1 ? sized : fmt::format("reshape({}, {})", sized, shape_text(shape));
}

std::string Network::pick(int rank) {
  std::vector<const Value*> fitting;
  for (const Value& v : values_)
    if (v.type.dtype == DType::f32 && (rank < 0 || v.type.rank() == rank)) fitting.push_back(&v);
  std::string picked;
  Shape shape;
  if (!fitting.empty() && !draw_.chance(0.1)) {
    const Value& v = *fitting[std::max(draw_.index(fitting.size()), draw_.index(fitting.size()))];
    picked = v.name;
    shape = v.type.shape;
  } else {
    const int axes = rank < 0 ? static_cast<int>(draw_.between(1, 3)) : rank;
    for (int i = 0; i < axes; ++i) shape.push_back(draw_.between(1, axes == 1 ? 20 : axes == 2 ? 9 : 6));
    picked = "(" + with_shape(shape) + ")";
  }
  picked_[picked] = shape;
  return picked;
}

Shape Network::shape_of(const std::string& picked) const {
  if (const auto it = picked_.find(picked); it != picked_.end()) return it->second;
  for (const Value& v : values_)
    if (v.name == picked) return v.type.shape;
  return {};
}

bool Network::finish(int64_t length) {
  std::vector<std::string> parts;
  std::vector<Value> open = unused();
  if (open.empty()) open.push_back(values_.back());
  for (const Value& v : open) {
    const std::string value = v.type.dtype == DType::f32 ? v.name : fmt::format("cast({}, \"f32\")", v.name);
    const int64_t n = v.type.elements();
    if (v.type.rank() >= 2 && n > 24 && draw_.chance(0.4)) {
      std::vector<int64_t> axes;
      for (int i = 1; i < v.type.rank(); ++i) axes.push_back(i);
      parts.push_back(fmt::format("mean({}, {})", value, shape_text(axes)));
    } else {
      parts.push_back(v.type.rank() == 1 ? value : fmt::format("reshape({}, [-1])", value));
    }
  }
  std::string joined = parts.front();
  if (parts.size() > 1) joined = fmt::format("concat([{}])", fmt::join(parts, ", "));
  const int64_t classes = source_.classes;
  // Small weights before the loss: scores of ordinary size for any network.
  const std::string last = length > 0 ? fmt::format("reshape(dense({}, {}, init=normal(0, 0.1)), [{}, {}])",
                                                    joined, length * classes, length, classes)
                                      : fmt::format("dense({}, {}, init=normal(0, 0.1))", joined, classes);
  if (!take(last)) return false;
  result_ = values_.back().name;
  return true;
}

}  // namespace gradc::random_models
