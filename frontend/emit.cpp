// Emission of operations with their places, conversions of values with messages, and the trail of calls on
// every error.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "frontend/error_codes.h"
#include "frontend/evaluator.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc::frontend {

namespace {

// The number of elements, or -1 beyond the limit.
int64_t checked_elements(const Shape& shape) {
  int64_t count = 1;
  for (int64_t extent : shape) {
    if (extent < 1 || extent > kMaxElements || count > kMaxElements / extent) return -1;
    count *= extent;
  }
  return count;
}

// Types in messages of ir/ops carry the batch; users never see it.
std::string without_batch(std::string text) {
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"[n,", "["}, {"[n]", "[]"}})
    for (size_t at; (at = text.find(from)) != std::string::npos;) text.replace(at, from.size(), to);
  return text;
}

}  // namespace

// --- messages

const std::shared_ptr<const std::string>& Evaluator::file_name(uint32_t file) const {
  auto& name = file_names_[file];
  if (!name) name = std::make_shared<const std::string>(diagnostics_.sources().name(file));
  return name;
}

Location Evaluator::location(Span span) const {
  Location l;
  if (!span.valid()) return l;
  const LineColumn at = diagnostics_.sources().line_column(span.file, span.begin);
  l.file = file_name(span.file);
  l.line = at.line;
  l.column = at.column;
  if (!frames_.empty()) l.call = frames_.back()->call;
  return l;
}

void Evaluator::at(Span span) { builder_->set_location(location(span)); }

void Evaluator::trail(Diagnostic& d, Span failing) const {
  const SourceManager& sources = diagnostics_.sources();
  for (auto f = frames_.rbegin(); f != frames_.rend(); ++f) {
    const Frame& frame = **f;
    if (!frame.definition) continue;
    std::string text = fmt::format("in `{}`", frame.definition->name);
    if (frame.prelude && failing.valid() && program_.in_prelude(failing)) {
      const LineColumn at = sources.line_column(failing.file, failing.begin);
      text += fmt::format(" ({}:{}:{})", sources.name(failing.file), at.line, at.column);
    }
    if (frame.call_span.valid()) {
      const LineColumn at = sources.line_column(frame.call_span.file, frame.call_span.begin);
      text += program_.in_prelude(frame.call_span)
                  ? fmt::format(", called at {}:{}", sources.name(frame.call_span.file), at.line)
                  : fmt::format(", called at line {}", at.line);
    }
    if (!frame.details.empty()) text += " " + frame.details;
    if (!frame.rounds.empty()) text += " (" + frame.rounds + ")";
    d.notes.push_back(std::move(text));
    failing = frame.call_span;
  }
}

Span Evaluator::user_span(Span span) const {
  for (auto f = frames_.rbegin(); f != frames_.rend() && program_.in_prelude(span); ++f)
    if ((*f)->call_span.valid()) span = (*f)->call_span;
  return span;
}

Diagnostic& Evaluator::error(const char* code, Span span, std::string message, std::string label) {
  const Span failing = span;
  span = user_span(span);  // the user can mend only what the user wrote
  if (!reported_.emplace(code, span.file, span.begin, message).second) {
    dropped_ = {};
    return dropped_;
  }
  Diagnostic& d = diagnostics_.error(code, span, std::move(message), std::move(label));
  trail(d, failing);
  return d;
}

Diagnostic& Evaluator::must_be(const Value& v, Span span, const std::string& what,
                               const std::string& expected) {
  return error(codes::wrong_kind, span, fmt::format("{} must be {}, not {}", what, expected, describe(v)))
      .expect(expected, describe(v));
}

// --- emission

Value Evaluator::emit(const std::string& op, std::vector<Op*> operands, Attributes attributes, Span span,
                      const std::string& what) {
  const OpDef* def = find_op(op);
  GRADC_CHECK(def, "there is no primitive {}", op);
  std::vector<Type> types;
  bool any_batched = false;
  for (const Op* o : operands) {
    if (!o) return {};
    types.push_back(o->type);
    any_batched |= o->type.batched;
  }
  const InferResult result = infer(*def, types, attributes);
  const std::string name = what.empty() ? "`" + op + "`" : what;
  if (!result.error.empty()) {
    std::vector<std::string> shown;
    for (const Type& t : types) shown.push_back(user_type(t));
    error(codes::shapes, span, fmt::format("{}: {}", name, without_batch(result.error)),
          shown.empty() ? "" : fmt::format("on {}", fmt::join(shown, " and ")));
    return {};
  }
  if (checked_elements(result.type.shape) < 0 || result.type.rank() > kMaxRank) {
    error(codes::limit, span,
          fmt::format("{} gives {}, which is beyond the limit of {} elements and {} axes", name,
                      user_type(result.type), kMaxElements, kMaxRank));
    return {};
  }
  if (any_batched && !result.type.batched && !target_->training) {
    error(codes::batch_outside_training, span, fmt::format("{} crosses the batch outside training", name))
        .helps.push_back(
            "a prediction must not depend on what else is in the batch: compute it under `if training { ... "
            "}`");
    return {};
  }
  if (++ops_ > kMaxOps) {
    error(codes::limit, span, fmt::format("this file expands to more than {} operations", kMaxOps))
        .helps.push_back("nested loops and calls multiply: the limit is on all of them together");
    throw Abort{};
  }
  at(span);
  Op* made = builder_->create(op, std::move(operands), std::move(attributes));
  if (def->index) {
    Diagnostic& place = index_places[made];
    place.span = user_span(span);
    trail(place, span);
  }
  return Value::of(made);
}

Op* Evaluator::lift(const Value& v, DType dtype, Span span) {
  if (v.poisoned()) return nullptr;
  if (v.is_tensor()) return v.tensor;
  double number = 0;
  if (v.is(ValueKind::boolean) && dtype == DType::boolean) {
    number = v.boolean ? 1 : 0;
  } else if (v.is_static_number()) {
    number = v.as_number();
    if (dtype == DType::i32 && !(number == std::trunc(number) && std::abs(number) <= 2147483647.0)) {
      error(codes::wrong_kind, span, fmt::format("{} is not a whole number, but meets i32 tensors", print(v)))
          .expect("a whole number", print(v))
          .helps.push_back("convert the tensor: `cast(x, \"f32\")`");
      return nullptr;
    }
    if (dtype == DType::boolean) {
      error(codes::wrong_kind, span, fmt::format("{} meets a tensor of bool", describe(v)))
          .expect("a bool", describe(v))
          .helps.push_back("convert the tensor: `cast(x, \"f32\")`");
      return nullptr;
    }
    if (!std::isfinite(number) || (dtype == DType::f32 && std::abs(number) > 3.4028234663852886e38)) {
      error(codes::arithmetic, span, fmt::format("{} is not a finite {}", print(v), name(dtype)))
          .expect(fmt::format("a finite {}", name(dtype)), print(v));
      return nullptr;
    }
  } else {
    error(codes::wrong_kind, span, fmt::format("expected a tensor or a number, not {}", describe(v)))
        .expect("a tensor or a number", describe(v));
    return nullptr;
  }
  Attributes a{{"value", number}, {"dtype", std::string(name(dtype))}};
  return emit("constant", {}, std::move(a), span).tensor;
}

Op* Evaluator::cast(Op* op, DType to, Span span) {
  return op && op->type.dtype != to ? emit("cast", {op}, {{"to", std::string(name(to))}}, span).tensor : op;
}

bool Evaluator::unify(std::vector<Value>& values, std::vector<Op*>& out, Span span, const std::string& what) {
  DType dtype = DType::f32;
  bool known = false, any_boolean = false;
  for (const Value& v : values) {
    if (v.poisoned()) return false;
    any_boolean |= v.is(ValueKind::boolean);
    if (!v.is_tensor()) continue;
    const DType t = v.tensor->type.dtype;
    // f64 exists only as scalars of an update, computed once a step: beside f32 tensors they are rounded to
    // f32.
    if (!known || (dtype == DType::f64 && t == DType::f32)) dtype = t;
    known = true;
  }
  if (!known && any_boolean) dtype = DType::boolean;
  // Numbers alone: in an update they belong to what depends on the step only, and that is computed in f64.
  if (!known && !any_boolean && !parameter.empty() && target_ != &init_target) dtype = DType::f64;
  for (const Value& v : values) {
    Op* op = lift(v, dtype, span);
    if (!op) return false;
    if (op->type.dtype != dtype) {
      if (op->type.dtype == DType::f64 && op->type.shape.empty() && dtype == DType::f32) {
        op = cast(op, DType::f32, span);
      } else {
        error(codes::shapes, span,
              fmt::format("{} does not mix {} and {}", what, name(dtype), name(op->type.dtype)))
            .expect(name(dtype), name(op->type.dtype))
            .helps.push_back(op->type.dtype == DType::boolean || dtype == DType::boolean
                                 ? "use `select(condition, a, b)`, or convert with `cast(x, \"f32\")`"
                                 : "convert one with `cast(x, \"f32\")`");
        return false;
      }
    }
    if (!op) return false;
    out.push_back(op);
  }
  return true;
}

// --- conversions

bool Evaluator::to_integer(const Value& v, Span span, const std::string& what, int64_t& out) {
  if (v.poisoned()) return false;
  if (v.is(ValueKind::integer)) {
    out = v.integer;
    return true;
  }
  Diagnostic& d = must_be(v, span, what, "an integer");
  if (v.is(ValueKind::number) && v.number == std::trunc(v.number))
    d.helps.push_back("`/` gives a number; `//` divides integers");
  return false;
}

bool Evaluator::to_number(const Value& v, Span span, const std::string& what, double& out) {
  if (v.poisoned()) return false;
  if (v.is_static_number()) {
    out = v.as_number();
    return true;
  }
  must_be(v, span, what, "a number known when compiling");
  return false;
}

bool Evaluator::to_boolean(const Value& v, Span span, const std::string& what, bool& out) {
  if (v.poisoned()) return false;
  if (v.is(ValueKind::boolean)) {
    out = v.boolean;
    return true;
  }
  must_be(v, span, what, "true or false");
  return false;
}

bool Evaluator::to_integers(const Value& v, Span span, const std::string& what, std::vector<int64_t>& out) {
  if (v.poisoned()) return false;
  out.clear();
  if (v.is(ValueKind::range)) {
    if (v.end - v.integer > kMaxList) {
      error(codes::limit, span, fmt::format("{} has more than {} entries", what, kMaxList));
      return false;
    }
    for (int64_t i = v.integer; i < v.end; ++i) out.push_back(i);
    return true;
  }
  if (!v.is(ValueKind::list)) {
    must_be(v, span, what, "a list of integers");
    return false;
  }
  for (const Value& item : *v.list) {
    int64_t i = 0;
    if (!to_integer(item, span, "each entry of " + what, i)) return false;
    out.push_back(i);
  }
  return true;
}

bool Evaluator::to_axis(const Value& v, int rank, Span span, int64_t& out) {
  if (!to_integer(v, span, "an axis", out)) return false;
  if (out >= -rank && out < rank) {
    if (out < 0) out += rank;
    return true;
  }
  if (rank == 0)
    error(codes::bad_index, span,
          fmt::format("there is no axis {}: the tensor is one number per example", out))
        .expect("no axis", std::to_string(out));
  else
    error(codes::bad_index, span,
          fmt::format("there is no axis {}: the tensor has axes 0 to {} (or -1 to -{})", out, rank - 1, rank))
        .expect(fmt::format("{} to {}", -rank, rank - 1), std::to_string(out));
  return false;
}

bool Evaluator::to_axes(const Value& v, int rank, Span span, std::vector<int64_t>& out) {
  out.clear();
  if (v.is(ValueKind::none)) {
    for (int64_t i = 0; i < rank; ++i) out.push_back(i);
    return true;
  }
  std::vector<int64_t> axes;
  if (v.is(ValueKind::integer))
    axes.push_back(v.integer);
  else if (!to_integers(v, span, "the list of axes", axes))
    return false;
  for (int64_t a : axes) {
    int64_t axis = 0;
    if (!to_axis(Value::of(a), rank, span, axis)) return false;
    if (std::find(out.begin(), out.end(), axis) != out.end()) {
      error(codes::bad_index, span, fmt::format("the axis {} is named twice", a));
      return false;
    }
    out.push_back(axis);
  }
  std::sort(out.begin(), out.end());
  return true;
}

bool Evaluator::to_shape(const Value& v, Span span, const std::string& what, Shape& out) {
  if (!to_integers(v, span, what, out)) return false;
  for (int64_t extent : out) {
    if (extent >= 1) continue;
    error(codes::shapes, span, fmt::format("{} holds the extent {}; extents are at least 1", what, extent))
        .expect("an extent of at least 1", std::to_string(extent));
    return false;
  }
  if (out.size() <= kMaxRank && checked_elements(out) >= 0) return true;
  error(codes::limit, span,
        fmt::format("{} is beyond the limit of {} elements and {} axes", what, kMaxElements, kMaxRank));
  return false;
}

bool Evaluator::to_shape(const std::vector<ExprPtr>& dims, const std::string& what, Shape& out) {
  List extents;
  Span span;
  for (const ExprPtr& e : dims) {
    Value v = evaluate(*e);
    int64_t extent = 0;
    // `param[shape]` takes a whole list too.
    if (dims.size() == 1 && v.is(ValueKind::list)) return to_shape(v, e->span, "the shape", out);
    if (!to_integer(v, e->span, what, extent)) return false;
    span = join(span, e->span);
    extents.push_back(std::move(v));
  }
  return to_shape(Value::of(std::move(extents)), span, "the shape", out);
}

}  // namespace gradc::frontend
