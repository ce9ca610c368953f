// Makes attention of its formula, before differentiation, so that no value of queries x keys is stored:
//
//   %3 = einsum %q, %k {spec="naik,naok->naio"}       %2 = attention fold_rows(%q'), fold_rows(%k'), fold_rows(%v')
//   %4 = mul %3, %scale                                    {causal=true, scale=0.25} : f32[n*128,4,32]
//   %5 = select %seen, %4, %least                 ->  %3 = unfold_rows %2 : f32[n,128,4,32]
//   %6 = exp(log_softmax %5)                          with the axes as [position, head, width] before, and as the
//   %7 = einsum %6, %v {spec="naik,nako->naio"}       formula has them afterwards
//
// The scale may be missing, a product or a quotient. A mask must be constant and show each query the keys up to its own
// position; what else a formula does to its scores leaves it as it is.
#include <algorithm>
#include <map>
#include <optional>

#include "ir/interpreter/interpreter.h"
#include "ir/ops/einsum.h"
#include "ir/tensor/op_def.h"
#include "passes/tensor/passes.h"
#include "passes/tensor/rewrite.h"

namespace gradc::passes {

namespace {

using Integers = std::vector<int64_t>;

// x with its axes in another order: axis i of the result is axis order[i] of x.
Op* in_order(Builder& b, Op* x, Integers order) {
  for (; x->is("transpose"); x = x->operands[0])
    for (int64_t& axis : order) axis = x->attributes.integers("permutation")[static_cast<size_t>(axis)];
  if (std::is_sorted(order.begin(), order.end())) return x;
  return b.create("transpose", {x}, {{"permutation", std::move(order)}});
}

// Letters of a product of two batched values, without the batch's.
struct Product {
  std::string in[2], out;
};

std::optional<Product> batched_product(const Op* op) {
  if (!op->is("einsum") || !op->type.batched) return std::nullopt;
  for (const Op* operand : op->operands)
    if (!operand->type.batched || operand->type.rows != 1) return std::nullopt;
  const ops::EinsumSpec spec = ops::einsum_spec(*op);
  return Product{{spec.a.substr(1), spec.b.substr(1)}, spec.result.substr(1)};
}

bool has(const std::string& letters, char c) { return c && letters.find(c) != std::string::npos; }

int64_t axis_of(const std::string& letters, char c) { return static_cast<int64_t>(letters.find(c)); }

// A value that depends on constants alone, evaluated; none where it has more elements than that is worth.
class Constants {
 public:
  const interpreter::Tensor* of(const Op* op) {
    constexpr int64_t kMostElements = int64_t{1} << 24;
    const auto known = values_.find(op);
    if (known != values_.end()) return &known->second;
    if (op->def->kind == OpKind::external || op->def->kind == OpKind::composite || op->def->random ||
        op->is("row_count") || op->type.batched || op->type.elements() > kMostElements)
      return nullptr;
    std::vector<const interpreter::Tensor*> operands;
    for (const Op* operand : op->operands) {
      operands.push_back(of(operand));
      if (!operands.back()) return nullptr;
    }
    return &values_.emplace(op, interpreter::evaluate(*op, operands, {})).first->second;
  }

 private:
  std::map<const Op*, interpreter::Tensor> values_;  // nodes do not move
};

// Scores, as far as attention can have them: scale q k^T, all of them or masked causally.
struct Scores {
  const Op* product = nullptr;
  double scale = 1;
  const Op* mask = nullptr;
};

bool is_factor(const Op* op) { return is_constant(op) && op->type.shape.empty(); }

std::optional<Scores> scores_of(const Op* op) {
  constexpr double kHidden = -1e9;  // whose exponential is 0 beside any score
  Scores scores;
  if (op->is("select")) {
    if (!is_factor(op->operands[2]) || op->operands[2]->attributes.number("value") > kHidden)
      return std::nullopt;
    scores.mask = op->operands[0];
    op = op->operands[1];
  }
  for (;;) {
    const bool divides = op->is("div");
    if (!divides && !op->is("mul")) break;
    const size_t factor = !divides && is_factor(op->operands[0]) ? 0 : 1;
    if (!is_factor(op->operands[factor])) return std::nullopt;
    const double value = op->operands[factor]->attributes.number("value");
    scores.scale = divides ? scores.scale / value : scores.scale * value;
    op = op->operands[1 - factor];
  }
  scores.product = op;
  return scores;
}

// Whether a mask over the axes of the scores is true where a key is not after the query.
bool is_causal(const interpreter::Tensor& mask, const Shape& scores, size_t query, size_t key) {
  const Shape& shape = mask.type.shape;
  const size_t missing = scores.size() - std::min(scores.size(), shape.size());
  const auto stride_of = [&](size_t axis) {
    int64_t stride = 1;
    for (size_t a = shape.size(); a-- > axis - missing + 1;) stride *= shape[a];
    return stride;
  };
  for (const size_t axis : {query, key})
    if (axis < missing || shape[axis - missing] != scores[axis]) return false;
  if (mask.type.elements() != scores[query] * scores[key]) return false;  // the same for all heads
  for (int64_t i = 0; i < scores[query]; ++i)
    for (int64_t j = 0; j < scores[key]; ++j)
      if ((mask.data.data()[i * stride_of(query) + j * stride_of(key)] != 0) != (j <= i)) return false;
  return true;
}

// The axes of the scores, and the letters of both products for each.
struct Roles {
  char query = 0, key = 0, head = 0, width = 0;  // in the product of queries and keys
  size_t query_axis = 0, key_axis = 0, head_axis = 0;
  size_t queries = 0;  // which of its operands they are
};

std::optional<Roles> roles_of(const Product& p, int64_t softmax_axis) {
  Roles r;
  r.key_axis = static_cast<size_t>(softmax_axis);
  r.key = p.out[r.key_axis];
  if (has(p.in[0], r.key) == has(p.in[1], r.key)) return std::nullopt;
  r.queries = has(p.in[0], r.key) ? 1 : 0;
  for (size_t a = 0; a < p.out.size(); ++a) {
    const char c = p.out[a];
    if (a == r.key_axis) continue;
    const bool shared = has(p.in[0], c) && has(p.in[1], c);
    if (!shared && !has(p.in[r.queries], c)) return std::nullopt;
    char& role = shared ? r.head : r.query;
    if (role) return std::nullopt;  // two axes of heads, or of queries
    role = c;
    (shared ? r.head_axis : r.query_axis) = a;
  }
  for (const char c : p.in[r.queries])
    if (!has(p.out, c)) {
      if (r.width) return std::nullopt;
      r.width = c;
    }
  const size_t letters = r.head ? 3 : 2;
  return r.query && r.width && p.in[0].size() == letters && p.in[1].size() == letters ? std::optional(r)
                                                                                      : std::nullopt;
}

class FuseAttention {
 public:
  explicit FuseAttention(Function& f) : f_(f), b_(f) {}

  bool run() {
    bool changed = false;
    for (Op* op : f_.ops()) {
      const std::optional<Product> outer = batched_product(op);
      if (!outer) continue;
      for (const size_t weights : {0, 1})
        if (fuse(op, *outer, weights)) {
          changed = true;
          break;
        }
    }
    if (changed) f_.remove_dead();
    return changed;
  }

 private:
  bool fuse(Op* op, const Product& outer, size_t weights) {
    const Op* p = op->operands[weights];
    if (!p->is("exp") || !p->operands[0]->is("log_softmax")) return false;
    const Op* softmax = p->operands[0];
    const std::optional<Scores> scores = scores_of(softmax->operands[0]);
    const std::optional<Product> inner = scores ? batched_product(scores->product) : std::nullopt;
    if (!inner || scores->product->type != p->type) return false;
    const std::optional<Roles> r = roles_of(*inner, softmax->attributes.integer("axis"));
    if (!r) return false;
    // The letters of the second product for the axes of the scores.
    const std::string &own = outer.in[weights], &values = outer.in[1 - weights];
    const char query = own[r->query_axis], key = own[r->key_axis], head = r->head ? own[r->head_axis] : 0;
    char width = 0;
    for (const char c : values)
      if (c != key && c != head) width = c;
    if (!width || values.size() != inner->out.size() || !has(values, key) || has(values, query) ||
        has(outer.out, key) || !has(outer.out, query) || !has(outer.out, width))
      return false;
    if (head && (!has(values, head) || !has(outer.out, head))) return false;
    const Shape& shape = p->type.shape;
    if (shape[r->query_axis] < 2 || shape[r->key_axis] < 2) return false;
    if (scores->mask) {
      const interpreter::Tensor* mask = constants_.of(scores->mask);
      if (!mask || !is_causal(*mask, shape, r->query_axis, r->key_axis)) return false;
    }

    b_.insert_before(op);
    b_.set_locations(op->locations);
    const auto rows = [&](Op* value, const std::string& letters, char position, char of_head, char of_width) {
      Integers order{axis_of(letters, position)};
      if (of_head) order.push_back(axis_of(letters, of_head));
      order.push_back(axis_of(letters, of_width));
      Op* x = in_order(b_, value, std::move(order));
      if (!of_head) x = b_.reshape(x, {x->type.shape[0], 1, x->type.shape[1]});
      return b_.create("fold_rows", {x});
    };
    Op *q = scores->product->operands[r->queries], *k = scores->product->operands[1 - r->queries];
    Op* made = b_.create("attention",
                         {rows(q, inner->in[r->queries], r->query, r->head, r->width),
                          rows(k, inner->in[1 - r->queries], r->key, r->head, r->width),
                          rows(op->operands[1 - weights], values, key, head, width)},
                         {{"scale", scores->scale}, {"causal", scores->mask != nullptr}});
    made = b_.create("unfold_rows", {made});
    std::string made_letters{query};
    if (head)
      made_letters += head;
    else
      made = b_.reshape(made, {made->type.shape[0], made->type.shape[2]});
    made_letters += width;
    Integers order;
    for (const char c : outer.out) order.push_back(axis_of(made_letters, c));
    f_.replace_uses(op, in_order(b_, made, std::move(order)));
    return true;
  }

  Function& f_;
  Builder b_;
  Constants constants_;
};

}  // namespace

bool fuse_attention(Function& f) { return FuseAttention(f).run(); }

}  // namespace gradc::passes
