// Emits operations with their locations, and converts values to their operands.
#include <fmt/format.h>

#include <cmath>

#include "frontend/emitter.h"
#include "frontend/error_codes.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc::frontend {

namespace {

// Types in messages of ir/ops carry the batch; users never see it.
std::string without_batch(std::string text) {
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"[n,", "["}, {"[n]", "[]"}})
    for (size_t at; (at = text.find(from)) != std::string::npos;) text.replace(at, from.size(), to);
  return text;
}

}  // namespace

bool fits_limits(const Shape& shape) {
  int64_t count = 1;
  for (int64_t extent : shape) {
    if (extent < 1 || extent > kMaxElements || count > kMaxElements / extent) return false;
    count *= extent;
  }
  return shape.size() <= kMaxRank;
}

void Emitter::at(Span span) { builder_->set_location(location(span)); }

Value Emitter::emit(const std::string& op, std::vector<Op*> operands, Attributes attributes, Span span,
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
  if (!fits_limits(result.type.shape)) {
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
    Diagnostic& at = index_locations[made];
    at.span = user_span(span);
    trail(at, span);
  }
  return Value::of(made);
}

Op* Emitter::lift(const Value& v, DType dtype, Span span) {
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

Op* Emitter::cast(Op* op, DType to, Span span) {
  return op && op->type.dtype != to ? emit("cast", {op}, {{"to", std::string(name(to))}}, span).tensor : op;
}

bool Emitter::unify(std::vector<Value>& values, std::vector<Op*>& out, Span span, const std::string& what) {
  DType dtype = DType::f32;
  bool known = false, any_boolean = false;
  for (const Value& v : values) {
    if (v.poisoned()) return false;
    any_boolean |= v.is(ValueKind::boolean);
    if (!v.is_tensor()) continue;
    const DType t = v.tensor->type.dtype;
    // f64 exists only as scalars of an update, computed once a step: together with f32 tensors they are
    // rounded to f32.
    if (!known || (dtype == DType::f64 && t == DType::f32)) dtype = t;
    known = true;
  }
  if (!known && any_boolean) dtype = DType::boolean;
  // Static numbers alone: in an update they belong to scalars that depend on the step only, computed in f64.
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

Value Emitter::read(const Binding& b) {
  if (b.kind == Binding::Kind::plain) return b.value;
  const Symbol* symbol = module_.symbol(b.symbol);
  if (!symbol) return {};  // its declaration has failed
  if (b.kind == Binding::Kind::state) {
    if (const auto it = target_->states.find(b.symbol); it != target_->states.end()) {
      // No gradient flows through the new value of a layer's state. A slot is read only in its own update,
      // which is not differentiated.
      if (symbol->kind == SymbolKind::slot) return Value::of(it->second);
      return emit("stop_gradient", {it->second}, {}, b.span);
    }
  }
  // An initial value may depend on that of another symbol, which @init has not written yet when it is read.
  if (target_ == &init_target)
    for (const Update& u : init_target.function->updates)
      if (u.symbol == b.symbol) return Value::of(u.value);
  return Value::of(target_->function->read(*symbol));
}

}  // namespace gradc::frontend
