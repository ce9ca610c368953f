// Scaled dot-product attention and its gradients, on values whose positions are rows of their examples. It must not know
// how it is blocked.
//
// With s_ij = scale q_i . k_j, where j <= i if causal:
//   p_ij = exp(s_ij - l_i), l_i = log sum_j exp s_ij       o_i = sum_j p_ij v_j
// and for the gradient g of o, with d_i = g_i . o_i (Dao et al. 2022, appendix B):
//   dv_j = sum_i p_ij g_i      ds_ij = p_ij (g_i . v_j - d_i)      dq_i = scale sum_j ds_ij k_j      dk_j = scale sum_i ds_ij q_i
#include <algorithm>
#include <cmath>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;

// Rows of vectors for each head: row `row` of head `head`.
struct Heads {
  explicit Heads(const Tensor& t)
      : data(t.data.data()), heads(t.type.shape[0]), width(t.type.rank() > 1 ? t.type.shape[1] : 1) {}
  const double* at(int64_t row, int64_t head) const { return data + (row * heads + head) * width; }
  const double* data;
  int64_t heads, width;
};

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

std::string check_heads(const Type& t, const char* what) {
  if (t.is_float() && t.batched && t.rows > 1 && t.rank() == 2) return {};
  return fmt::format("{} is {}; it must be f32 or f64 with several rows an example, each [heads, width]",
                     what, to_string(t));
}

// q and k, which have one element type, heads and width.
std::string check_scores(const Type& q, const Type& k) {
  if (std::string e = check_heads(q, "q"); !e.empty()) return e;
  if (std::string e = check_heads(k, "k"); !e.empty()) return e;
  if (q.dtype != k.dtype || q.shape != k.shape)
    return fmt::format("{} and {} differ in more than the rows of an example", to_string(q), to_string(k));
  return {};
}

// v, or the gradient of the result: the heads of `like`, and its rows.
std::string check_values(const Type& v, const Type& like, const char* what) {
  if (std::string e = check_heads(v, what); !e.empty()) return e;
  if (v.dtype != like.dtype || v.rows != like.rows || v.shape[0] != like.shape[0])
    return fmt::format("{} is {}, which has not the rows and heads of {}", what, to_string(v),
                       to_string(like));
  return {};
}

// A number for each query and head.
std::string check_numbers(const Type& t, const Type& q, const char* what) {
  const Type wanted{q.dtype, true, {q.shape[0]}, q.rows};
  return t == wanted ? std::string() : fmt::format("{} is {}, not {}", what, to_string(t), to_string(wanted));
}

InferResult unless(std::string error, Type result) {
  return error.empty() ? InferResult::ok(std::move(result)) : InferResult::fail(std::move(error));
}

double scale_of(const Op& op) { return op.attributes.number("scale"); }

// Calls visit(query's row, key's row, head) for every pair, key after key for each query.
template <class F>
void for_each_pair(const Op& op, const Type& q, const Type& k, int64_t examples, F&& visit) {
  const bool causal = op.attributes.boolean("causal");
  for (int64_t e = 0; e < examples; ++e)
    for (int64_t i = 0; i < q.rows; ++i)
      for (int64_t h = 0; h < q.shape[0]; ++h)
        for (int64_t j = 0; j < (causal ? std::min(i + 1, k.rows) : k.rows); ++j)
          visit(e * q.rows + i, e * k.rows + j, h);
}

Tensor log_sums(const Op& op, const Tensor& q, const Tensor& k, int64_t examples) {
  const Heads queries(q), keys(k);
  Tensor greatest =
      interpreter::make_tensor({q.type.dtype, true, {queries.heads}, q.type.rows}, examples * q.type.rows);
  Tensor sums = greatest;
  double *m = greatest.data.data(), *s = sums.data.data();
  std::fill(greatest.data.begin(), greatest.data.end(), -kInfinity);
  for (const bool sum : {false, true})
    for_each_pair(op, q.type, k.type, examples, [&](int64_t i, int64_t j, int64_t h) {
      const double score = scale_of(op) * dot(queries.at(i, h), keys.at(j, h), keys.width);
      const int64_t at = i * queries.heads + h;
      if (sum)
        s[at] += std::exp(score - m[at]);
      else
        m[at] = std::max(m[at], score);
    });
  for (size_t i = 0; i < sums.data.size(); ++i) s[i] = m[i] + std::log(s[i]);
  return sums;
}

// result[to + x] += weight(i, j, h) from[x] over all pairs.
template <class F>
Tensor weighted(const Op& op, const Type& q, const Type& k, int64_t examples, const Tensor& from,
                bool to_queries, F&& weight) {
  Tensor out = interpreter::make_tensor(op.type, examples * op.type.rows);
  const Heads source(from), target(out);
  double* result = out.data.data();
  for_each_pair(op, q, k, examples, [&](int64_t i, int64_t j, int64_t h) {
    const double w = weight(i, j, h);
    const double* x = source.at(to_queries ? j : i, h);
    double* y = result + ((to_queries ? i : j) * target.heads + h) * target.width;
    for (int64_t d = 0; d < target.width; ++d) y[d] += w * x[d];
  });
  return out;
}

// p_ij from the logarithms of the sums.
auto probabilities(const Op& op, const Tensor& q, const Tensor& k, const Tensor& log_sum) {
  return
      [&op, queries = Heads(q), keys = Heads(k), l = log_sum.data.data()](int64_t i, int64_t j, int64_t h) {
        return std::exp(scale_of(op) * dot(queries.at(i, h), keys.at(j, h), keys.width) -
                        l[i * queries.heads + h]);
      };
}

// scale ds_ij.
auto score_gradients(const Op& op, Operands in) {
  return [&op, p = probabilities(op, *in[0], *in[1], *in[3]), v = Heads(*in[2]), g = Heads(*in[4]),
          d = in[5]->data.data()](int64_t i, int64_t j, int64_t h) {
    return scale_of(op) * p(i, j, h) * (dot(g.at(i, h), v.at(j, h), v.width) - d[i * v.heads + h]);
  };
}

OpDef attention_op(const char* name, LoopNest nest, const char* doc) {
  OpDef def = Def(name, OpKind::contraction, doc);
  def.loop_nest = nest;
  def.by_row = false;
  def.epilogue = false;
  def.call = CallForm::none;
  def.attributes = {required("scale", AttributeKind::number, "factor of the scores"),
                    required("causal", AttributeKind::boolean,
                             "whether a query sees only the keys at its own position and before it")};
  return def;
}

// Products of queries' rows with keys' rows: `products` of heads' widths for each pair.
template <int products>
Cost cost_of_pairs(const Op& op) {
  const Type &q = op.operands[0]->type, &k = op.operands[1]->type;
  const double pairs = static_cast<double>(k.rows) * (op.attributes.boolean("causal") ? .5 : 1);
  // Of rows_of_example(op) rows, those of the longer sequence.
  const double each = static_cast<double>(q.rows) / static_cast<double>(std::max(q.rows, k.rows));
  return simple_cost(op, 2 * products * pairs * each * static_cast<double>(q.elements()));
}

Type heads(Shape shape, int64_t rows, DType dtype = DType::f32) {
  return {dtype, true, std::move(shape), rows};
}
Attributes settings(double scale, bool causal) { return {{"scale", scale}, {"causal", causal}}; }

OpDef attention() {
  OpDef def =
      attention_op("attention", LoopNest::attention,
                   "softmax(scale q k^T) v for each head, the positions of a sequence being the rows of an "
                   "example (Vaswani et al. 2017, eq. 1). Pass fuse_attention makes it of that formula.");
  def.operands = {{"q", "f32 or f64, a row for each query: [heads, width]"},
                  {"k", "the same for each key"},
                  {"v", "a row for each key; its width may be another"}};
  def.infer = [](Types t, const Attributes&) {
    std::string e = check_scores(t[0], t[1]);
    if (e.empty()) e = check_values(t[2], t[1], "v");
    return unless(std::move(e), heads(t[2].shape, t[0].rows, t[0].dtype));
  };
  def.gradient = [](Builder& b, Op* op, Op* g) -> std::vector<Op*> {
    Op *q = op->operands[0], *k = op->operands[1], *v = op->operands[2];
    Op* log_sum = b.create("attention_log_sum", {q, k}, op->attributes);
    Op* dots = b.reduce_sum(b.mul(g, op), {1});
    const auto gradient = [&](const char* name) {
      return b.create(name, {q, k, v, log_sum, g, dots}, op->attributes);
    };
    return {gradient("attention_query_grad"), gradient("attention_key_grad"),
            b.create("attention_value_grad", {q, k, log_sum, g}, op->attributes)};
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    const Tensor log_sum = log_sums(op, *in[0], *in[1], c.rows);
    return weighted(op, in[0]->type, in[1]->type, c.rows, *in[2], true,
                    probabilities(op, *in[0], *in[1], log_sum));
  };
  def.cost = cost_of_pairs<2>;
  def.samples = {{{heads({2, 3}, 5), heads({2, 3}, 5), heads({2, 3}, 5)}, settings(.5, false)},
                 {{heads({2, 3}, 5), heads({2, 3}, 5), heads({2, 3}, 5)}, settings(.5, true), -2, 2, 37},
                 {{heads({1, 8}, 32), heads({1, 8}, 32), heads({1, 8}, 32)}, settings(.3, true), -2, 2, 3},
                 {{heads({3, 5}, 64), heads({3, 5}, 64), heads({3, 9}, 64)}, settings(.3, false), -2, 2, 2},
                 {{heads({2, 4}, 7), heads({2, 4}, 19), heads({2, 1}, 19)}, settings(1, false), -2, 2, 9},
                 {{heads({2, 4}, 40), heads({2, 4}, 11), heads({2, 4}, 11)}, settings(1, true), -2, 2, 3},
                 {{heads({1, 2}, 3, DType::f64), heads({1, 2}, 3, DType::f64), heads({1, 2}, 3, DType::f64)},
                  settings(1, true),
                  -2,
                  2,
                  33}};
  return def;
}

OpDef log_sum() {
  OpDef def =
      attention_op("attention_log_sum", LoopNest::attention_log_sum,
                   "log sum_j exp(scale q_i . k_j) for each query and head, from which the gradients of "
                   "attention compute its weights again.");
  def.operands = {{"q", "as of attention"}, {"k", "as of attention"}};
  def.infer = [](Types t, const Attributes&) {
    if (std::string e = check_scores(t[0], t[1]); !e.empty()) return InferResult::fail(std::move(e));
    return InferResult::ok(heads({t[0].shape[0]}, t[0].rows, t[0].dtype));
  };
  def.no_gradient = "attention has no second derivatives";
  def.evaluate = [](const Op& op, Operands in, Context& c) { return log_sums(op, *in[0], *in[1], c.rows); };
  def.cost = cost_of_pairs<1>;
  def.samples = {{{heads({2, 3}, 5), heads({2, 3}, 5)}, settings(.5, true)},
                 {{heads({1, 8}, 32), heads({1, 8}, 64)}, settings(.3, false), -2, 2, 3}};
  return def;
}

// The gradients of q and of k: the operands of attention, the logarithms of the sums, g, and g . o.
OpDef score_gradient(const char* name, LoopNest nest, const char* doc) {
  OpDef def = attention_op(name, nest, doc);
  def.operands = {{"q", "as of attention"},
                  {"k", "as of attention"},
                  {"v", "as of attention"},
                  {"log_sum", "attention_log_sum of q and k"},
                  {"g", "gradient of attention's result"},
                  {"dots", "g . o for each query and head, o being the result"}};
  def.no_gradient = "attention has no second derivatives";
  def.cost = cost_of_pairs<3>;
  const auto operands = [](Shape q, int64_t queries, int64_t keys, int64_t width) {
    const Shape v{q[0], width}, number{q[0]};
    return std::vector<Type>{heads(q, queries),      heads(q, keys),    heads(v, keys),
                             heads(number, queries), heads(v, queries), heads(number, queries)};
  };
  def.samples = {{operands({2, 3}, 5, 5, 3), settings(.5, true), -.5, .5},
                 {operands({1, 8}, 32, 32, 8), settings(.3, true), -.5, .5, 3},
                 {operands({2, 5}, 64, 96, 9), settings(.3, false), -.5, .5, 2},
                 {operands({2, 4}, 7, 19, 1), settings(1, false), -.5, .5, 9},
                 {operands({2, 4}, 40, 11, 4), settings(1, true), -.5, .5, 3}};
  return def;
}

std::string check_gradient(Types t) {
  std::string e = check_scores(t[0], t[1]);
  if (e.empty()) e = check_values(t[2], t[1], "v");
  if (e.empty()) e = check_numbers(t[3], t[0], "log_sum");
  if (e.empty()) e = check_values(t[4], t[0], "g");
  if (e.empty()) e = check_numbers(t[5], t[0], "dots");
  if (e.empty() && t[4].shape != t[2].shape)
    e = fmt::format("{} and {} have different widths", to_string(t[2]), to_string(t[4]));
  return e;
}

OpDef query_grad() {
  OpDef def = score_gradient("attention_query_grad", LoopNest::attention_query_grad,
                             "The gradient of attention for its queries.");
  def.infer = [](Types t, const Attributes&) { return unless(check_gradient(t), t[0]); };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    return weighted(op, in[0]->type, in[1]->type, c.rows, *in[1], true, score_gradients(op, in));
  };
  return def;
}

OpDef key_grad() {
  OpDef def = score_gradient("attention_key_grad", LoopNest::attention_key_grad,
                             "The gradient of attention for its keys.");
  def.infer = [](Types t, const Attributes&) { return unless(check_gradient(t), t[1]); };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    return weighted(op, in[0]->type, in[1]->type, c.rows, *in[0], false, score_gradients(op, in));
  };
  return def;
}

OpDef value_grad() {
  OpDef def = attention_op("attention_value_grad", LoopNest::attention_value_grad,
                           "The gradient of attention for its values.");
  def.operands = {{"q", "as of attention"},
                  {"k", "as of attention"},
                  {"log_sum", "attention_log_sum of q and k"},
                  {"g", "gradient of attention's result"}};
  def.infer = [](Types t, const Attributes&) {
    std::string e = check_scores(t[0], t[1]);
    if (e.empty()) e = check_numbers(t[2], t[0], "log_sum");
    if (e.empty()) e = check_values(t[3], t[0], "g");
    return unless(std::move(e), heads(t[3].shape, t[1].rows, t[0].dtype));
  };
  def.no_gradient = "attention has no second derivatives";
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    return weighted(op, in[0]->type, in[1]->type, c.rows, *in[3], false,
                    probabilities(op, *in[0], *in[1], *in[2]));
  };
  def.cost = cost_of_pairs<2>;
  def.samples = {
      {{heads({2, 3}, 5), heads({2, 3}, 5), heads({2}, 5), heads({2, 3}, 5)}, settings(.5, true), -.5, .5},
      {{heads({1, 8}, 32), heads({1, 8}, 32), heads({1}, 32), heads({1, 8}, 32)},
       settings(.3, true),
       -.5,
       .5,
       3},
      {{heads({2, 5}, 64), heads({2, 5}, 96), heads({2}, 64), heads({2, 9}, 64)},
       settings(.3, false),
       -.5,
       .5,
       2},
      {{heads({2, 4}, 7), heads({2, 4}, 19), heads({2}, 7), heads({2, 1}, 7)},
       settings(1, false),
       -.5,
       .5,
       9}};
  return def;
}

}  // namespace

void register_attention(std::vector<OpDef>& defs) {
  defs.push_back(attention());
  defs.push_back(log_sum());
  defs.push_back(query_grad());
  defs.push_back(key_grad());
  defs.push_back(value_grad());
}

}  // namespace gradc
