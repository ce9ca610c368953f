// Comparisons, logical operators and select: elementwise operators with boolean results or conditions. A
// select has its kinks where its condition changes, so comparisons record their decisions. It must not know
// how kernels are built around it.
#include <functional>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/lower.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;
using Grads = std::vector<Op*>;

InferResult infer_compare(Types t, const Attributes& a) {
  InferResult r = infer_numbers(t, a);
  r.type.dtype = DType::boolean;
  return r;
}

InferResult infer_logical(Types t, const Attributes&) {
  for (const Type& type : t) {
    if (type.dtype != DType::boolean) {
      return InferResult::fail(fmt::format(
          "the operand is {}, but only bool works here; compare it with something first", to_string(type)));
    }
  }
  return join_all(t, DType::boolean);
}

InferResult infer_select(Types t, const Attributes&) {
  if (t[0].dtype != DType::boolean) {
    return InferResult::fail(
        fmt::format("the condition is {}, not bool; compare it with something first", to_string(t[0])));
  }
  if (t[1].dtype != t[2].dtype) {
    return InferResult::fail(fmt::format("{} and {} have different element types; convert one with cast",
                                         to_string(t[1]), to_string(t[2])));
  }
  return join_all(t, t[1].dtype);
}

template <CompareOp op, auto f>
OpDef comparison(std::string name, std::string doc, bool commutative) {
  OpDef def = Def(std::move(name), OpKind::elementwise, std::move(doc));
  def.operands = {{"a", "f32, f64 or i32"}, {"b", "the same element type"}};
  def.infer = infer_compare;
  def.commutative = commutative;
  def.scalar = scalar_compare<op>;
  def.evaluate = evaluate_kinked<2, [](double a, double b) -> int64_t { return f(a, b); },
                                 [](int64_t holds, double, double) { return double(holds); }>;
  def.no_gradient = "booleans are not differentiable";
  def.samples = {{{batched({3, 5}), batched({3, 5})}, {}},
                 {{batched({3, 5}), plain({5})}, {}},
                 {{batched({7}, DType::i32), batched({7}, DType::i32)}, {}, 0, 3},
                 {{plain({}), plain({7})}, {}},
                 {{plain({2, 3}, DType::f64), plain({}, DType::f64)}, {}}};
  return def;
}

template <BinaryOp op, auto f>
OpDef logical(std::string name, std::string doc) {
  OpDef def = Def(std::move(name), OpKind::elementwise, std::move(doc));
  def.operands = {{"a", "bool"}, {"b", "bool"}};
  def.infer = infer_logical;
  def.commutative = true;
  def.scalar = scalar_binary<op>;
  def.evaluate = evaluate<2, [](double a, double b) { return f(a != 0, b != 0) ? 1.0 : 0.0; }>;
  def.no_gradient = "booleans are not differentiable";
  def.samples = {{{batched({3, 5}, DType::boolean), batched({3, 5}, DType::boolean)}, {}, 0, 2},
                 {{batched({5}, DType::boolean), plain({}, DType::boolean)}, {}, 0, 2},
                 {{plain({7}, DType::boolean), plain({7}, DType::boolean)}, {}, 0, 2}};
  return def;
}

OpDef select() {
  OpDef def = Def("select", OpKind::elementwise,
                  "a where the condition holds, else b. The gradient goes to the one that was taken.");
  def.operands = {{"condition", "bool"}, {"a", "any type"}, {"b", "the element type of a"}};
  def.infer = infer_select;
  def.exact = true;
  def.scalar = [](const Op&, Args a, const ScalarContext& c) {
    return fit(loop::select(a[0], a[1], a[2]), c);
  };
  def.evaluate = evaluate<3, [](double c, double a, double b) { return c != 0 ? a : b; }>;
  def.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    Op* none = zero(b, g);
    return {nullptr, b.select(op->operands[0], g, none), b.select(op->operands[0], none, g)};
  };
  const DType boolean = DType::boolean;
  def.samples = {{{batched({3, 5}, boolean), batched({3, 5}), batched({3, 5})}, {}},
                 {{batched({3, 5}, boolean), plain({5}), plain({})}, {}},
                 {{plain({5}, boolean), batched({3, 1}), plain({5})}, {}},
                 {{plain({7}, boolean), plain({7}, DType::f64), plain({}, DType::f64)}, {}},
                 {{batched({3}, boolean), batched({3}, DType::i32), plain({}, DType::i32)}, {}, 0, 5},
                 {{batched({3}, boolean), batched({3}, boolean), batched({3}, boolean)}, {}, 0, 2}};
  return def;
}

}  // namespace

void register_compare(std::vector<OpDef>& defs) {
  defs.push_back(comparison<CompareOp::lt, std::less<>{}>("lt", "a < b; false on NaN.", false));
  defs.push_back(comparison<CompareOp::le, std::less_equal<>{}>("le", "a <= b; false on NaN.", false));
  defs.push_back(comparison<CompareOp::gt, std::greater<>{}>("gt", "a > b; false on NaN.", false));
  defs.push_back(comparison<CompareOp::ge, std::greater_equal<>{}>("ge", "a >= b; false on NaN.", false));
  defs.push_back(comparison<CompareOp::eq, std::equal_to<>{}>("eq", "a equals b; false on NaN.", true));
  defs.push_back(
      comparison<CompareOp::ne, std::not_equal_to<>{}>("ne", "a differs from b; true on NaN.", true));
  defs.push_back(
      logical<BinaryOp::bit_and, [](bool a, bool b) { return a && b; }>("logical_and", "Both a and b."));
  defs.push_back(
      logical<BinaryOp::bit_or, [](bool a, bool b) { return a || b; }>("logical_or", "a or b or both."));
  defs.push_back(select());
}

}  // namespace gradc
