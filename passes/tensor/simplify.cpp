// Algebraic identities that are exact in floating point (no reassociation), and stable forms of formulas as
// users write them.
//
//   %1 = neg %x                                   %1 = sigmoid %x
//   %2 = exp %1
//   %3 = add %c1, %2        (%c1 = 1)        ->
//   %4 = div %c1, %3
//
// Every rule keeps the type. `x * 0 -> 0` is not a rule: it would hide NaN.
#include <algorithm>
#include <array>

#include "passes/tensor/passes.h"
#include "passes/tensor/rewrite.h"

namespace gradc::passes {

namespace {

Op* same_type(Op* replacement, const Op* op) {
  return replacement && replacement->type == op->type ? replacement : nullptr;
}

// An elementwise operand that only repeats a smaller value can be that value: broadcasting is implicit.
Op* drop_broadcast(Builder& b, Op* op) {
  if (op->def->kind != OpKind::elementwise || op->is("broadcast")) return nullptr;
  for (size_t i = 0; i < op->operands.size(); ++i) {
    if (!op->operands[i]->is("broadcast")) continue;
    std::vector<Op*> operands = op->operands;
    operands[i] = op->operands[i]->operands[0];
    std::vector<Type> types;
    for (Op* o : operands) types.push_back(o->type);
    Attributes attributes = op->attributes;
    const InferResult r = infer(*op->def, types, attributes);
    if (r.error.empty() && r.type == op->type) return b.create(op->name(), operands, op->attributes);
  }
  return nullptr;
}

// sum over the last axis of one_hot(label) * s, where s does not vary along it: s itself (labels are inside
// the range).
Op* sum_of_one_hot(Builder& b, Op* op) {
  Op* product = op->operands[0];
  if (!product->is("mul") || op->attributes.boolean("batch")) return nullptr;
  const auto& axes = op->attributes.integers("axes");
  if (axes.size() != 1 || axes[0] != product->type.rank() - 1) return nullptr;
  for (int i = 0; i < 2; ++i) {
    Op *hot = product->operands[i], *s = product->operands[1 - i];
    if (!hot->is("one_hot") || hot->type != product->type) continue;
    if (!s->type.shape.empty() && s->type.shape.back() != 1) continue;
    if (s->type.batched != op->type.batched || s->type.elements() != op->type.elements()) continue;
    return b.reshape(s, op->type.shape);
  }
  return nullptr;
}

// Stable forms: also applied before differentiation, so that gradients stay finite (see stabilize).
constexpr auto kStableForms = std::to_array<Rewrite>({
    {"1 / (1 + exp(-x)) -> sigmoid(x)", "div",
     [](Builder& b, Op* op) -> Op* {
       if (!is_constant(op->operands[0], 1) || !op->operands[1]->is("add")) return nullptr;
       Op* e = other_than_constant(op->operands[1], 1);
       if (!e || !e->is("exp") || !e->operands[0]->is("neg")) return nullptr;
       return same_type(b.create("sigmoid", {e->operands[0]->operands[0]}), op);
     }},
    {"log(1 + exp(x)) -> softplus(x)", "log",
     [](Builder& b, Op* op) -> Op* {
       if (!op->operands[0]->is("add")) return nullptr;
       Op* e = other_than_constant(op->operands[0], 1);
       return e && e->is("exp") ? same_type(b.create("softplus", {e->operands[0]}), op) : nullptr;
     }},
    {"log(1 + x) -> log1p(x), x = exp excepted", "log",
     [](Builder& b, Op* op) -> Op* {
       if (!op->operands[0]->is("add")) return nullptr;
       Op* x = other_than_constant(op->operands[0], 1);
       return x && !x->is("exp") ? same_type(b.create("log1p", {x}), op) : nullptr;
     }},
    {"exp(x) - 1 -> expm1(x)", "sub",
     [](Builder& b, Op* op) -> Op* {
       return op->operands[0]->is("exp") && is_constant(op->operands[1], 1)
                  ? same_type(b.create("expm1", {op->operands[0]->operands[0]}), op)
                  : nullptr;
     }},
    {"select(c, 0, g) * f -> select(c, 0, g * f)", "mul",
     [](Builder& b, Op* op) -> Op* {
       for (int i = 0; i < 2; ++i) {
         Op *s = op->operands[i], *factor = op->operands[1 - i];
         if (!s->is("select") || s->type != op->type) continue;
         if (is_constant(s->operands[1], 0))
           return b.select(s->operands[0], s->operands[1], b.mul(s->operands[2], factor));
         if (is_constant(s->operands[2], 0))
           return b.select(s->operands[0], b.mul(s->operands[1], factor), s->operands[2]);
       }
       return nullptr;
     }},
});

constexpr auto kIdentities = std::to_array<Rewrite>({
    {"x + 0 -> x", "add", [](Builder&, Op* op) { return same_type(other_than_constant(op, 0), op); }},
    {"x - 0 -> x", "sub",
     [](Builder&, Op* op) {
       return is_constant(op->operands[1], 0) ? same_type(op->operands[0], op) : nullptr;
     }},
    {"x * 1 -> x", "mul", [](Builder&, Op* op) { return same_type(other_than_constant(op, 1), op); }},
    {"x / 1 -> x", "div",
     [](Builder&, Op* op) {
       return is_constant(op->operands[1], 1) ? same_type(op->operands[0], op) : nullptr;
     }},
    {"-(-x) -> x", "neg",
     [](Builder&, Op* op) { return op->operands[0]->is("neg") ? op->operands[0]->operands[0] : nullptr; }},
    {"x * -1 -> -x", "mul",
     [](Builder& b, Op* op) {
       Op* x = other_than_constant(op, -1);
       return x && x->type == op->type ? b.neg(x) : nullptr;
     }},
    {"x + (-y) -> x - y", "add",
     [](Builder& b, Op* op) {
       return op->operands[1]->is("neg") ? b.sub(op->operands[0], op->operands[1]->operands[0]) : nullptr;
     }},
    {"x - (-y) -> x + y", "sub",
     [](Builder& b, Op* op) {
       return op->operands[1]->is("neg") ? b.add(op->operands[0], op->operands[1]->operands[0]) : nullptr;
     }},
    {"pow(x, 2) -> x * x", "pow",
     [](Builder& b, Op* op) {
       return is_constant(op->operands[1], 2) ? same_type(b.mul(op->operands[0], op->operands[0]), op)
                                              : nullptr;
     }},
    {"reshape(reshape(x)) -> reshape(x)", "reshape",
     [](Builder& b, Op* op) -> Op* {
       if (op->operands[0]->type == op->type) return op->operands[0];
       return op->operands[0]->is("reshape") ? b.reshape(op->operands[0]->operands[0], op->type.shape)
                                             : nullptr;
     }},
    {"transpose(transpose(x)) -> transpose(x), or x", "transpose",
     [](Builder& b, Op* op) -> Op* {
       Op* x = op->operands[0];
       std::vector<int64_t> order = op->attributes.integers("permutation");
       if (x->is("transpose")) {
         for (int64_t& axis : order) axis = x->attributes.integers("permutation")[static_cast<size_t>(axis)];
         x = x->operands[0];
       } else if (!std::is_sorted(order.begin(), order.end())) {
         return nullptr;
       }
       if (std::is_sorted(order.begin(), order.end())) return x;
       return b.create("transpose", {x}, {{"permutation", std::move(order)}});
     }},
    {"cast to its own type -> x", "cast", [](Builder&, Op* op) { return same_type(op->operands[0], op); }},
    {"broadcast to its own type -> x", "broadcast",
     [](Builder&, Op* op) { return same_type(op->operands[0], op); }},
    {"stop_gradient(x) -> x, after differentiation", "stop_gradient",
     [](Builder&, Op* op) { return op->operands[0]; }},
    {"elementwise(broadcast(x), y) -> elementwise(x, y)", nullptr, drop_broadcast},
    {"unary(broadcast(x)) -> broadcast(unary(x))", nullptr,
     [](Builder& b, Op* op) -> Op* {
       if (op->def->kind != OpKind::elementwise || op->def->random || op->operands.size() != 1 ||
           op->is("broadcast"))
         return nullptr;
       if (!op->operands[0]->is("broadcast")) return nullptr;
       Op* small = b.create(op->name(), {op->operands[0]->operands[0]}, op->attributes);
       return b.create("broadcast", {small}, {{"shape", op->type.shape}, {"batched", op->type.batched}});
     }},
    {"sum(one_hot(label) * s) -> s", "reduce_sum", sum_of_one_hot},
});

}  // namespace

bool stabilize(Function& f) { return apply_rewrites(f, kStableForms); }

bool simplify(Function& f) {
  const bool stable = apply_rewrites(f, kStableForms);
  return apply_rewrites(f, kIdentities) || stable;
}

}  // namespace gradc::passes
