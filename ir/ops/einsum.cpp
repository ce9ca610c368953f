// Einstein summation of two operands: matrix products in every arrangement, batched or not. It must not know
// how it is tiled.
#include <algorithm>
#include <map>
#include <string>

#include "ir/ops/common.h"
#include "ir/ops/einsum.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/gemm.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;
constexpr char kBatch = 'n';

using Spec = EinsumSpec;

// "nk,ok->no"; an error says what is wrong with the text.
std::string parse_spec(const std::string& spec, Spec& out) {
  const size_t comma = spec.find(','), arrow = spec.find("->");
  if (comma == std::string::npos || arrow == std::string::npos || comma > arrow) {
    return fmt::format("the spec \"{}\" does not have the form \"nk,ok->no\"", spec);
  }
  out = {spec.substr(0, comma), spec.substr(comma + 1, arrow - comma - 1), spec.substr(arrow + 2)};
  for (const std::string* part : {&out.a, &out.b, &out.result}) {
    for (size_t i = 0; i < part->size(); ++i) {
      const char c = (*part)[i];
      if (c < 'a' || c > 'z')
        return fmt::format("the spec \"{}\" may hold only letters a to z, one comma and one arrow", spec);
      if (part->find(c, i + 1) != std::string::npos)
        return fmt::format("in the spec \"{}\", {} appears twice in \"{}\"", spec, c, *part);
      if (c == kBatch && i != 0)
        return fmt::format("in the spec \"{}\", n (the batch) must come first in \"{}\"", spec, *part);
    }
  }
  const auto in = [](const std::string& part, char c) { return part.find(c) != std::string::npos; };
  for (const char c : out.result) {
    if (!in(out.a, c) && !in(out.b, c))
      return fmt::format("in the spec \"{}\", {} appears only in the result", spec, c);
  }
  for (const char c : out.a) {
    if (!in(out.b, c) && !in(out.result, c))
      return fmt::format("in the spec \"{}\", {} appears nowhere else; sum that axis first", spec, c);
  }
  for (const char c : out.b) {
    if (!in(out.a, c) && !in(out.result, c))
      return fmt::format("in the spec \"{}\", {} appears nowhere else; sum that axis first", spec, c);
  }
  return {};
}

std::string collect_extents(const Type& type, const std::string& letters, const char* which,
                            std::map<char, int64_t>& extents) {
  if ((letters[0] == kBatch) != type.batched) {
    return fmt::format("the {} operand is {}, {} batch, but its letters are \"{}\"", which, to_string(type),
                       type.batched ? "with a" : "without a", letters);
  }
  const std::string own = type.batched ? letters.substr(1) : letters;
  if (own.size() != type.shape.size()) {
    return fmt::format("the {} operand is {} with {} axes, but its letters are \"{}\"", which,
                       to_string(type), type.rank(), letters);
  }
  for (size_t i = 0; i < own.size(); ++i) {
    const auto [found, is_new] = extents.emplace(own[i], type.shape[i]);
    if (!is_new && found->second != type.shape[i]) {
      return fmt::format("{} stands for {} in one operand and for {} in the other", own[i], found->second,
                         type.shape[i]);
    }
  }
  return {};
}

InferResult infer_einsum(Types t, const Attributes& a) {
  Spec spec;
  if (std::string e = parse_spec(a.text("spec"), spec); !e.empty()) return InferResult::fail(e);
  if (!t[0].is_float() || t[0].dtype != t[1].dtype) {
    return InferResult::fail(fmt::format("{} and {} must both be f32 or both f64; convert with cast",
                                         to_string(t[0]), to_string(t[1])));
  }
  std::map<char, int64_t> extents;
  std::string error = collect_extents(t[0], spec.a, "first", extents);
  if (error.empty()) error = collect_extents(t[1], spec.b, "second", extents);
  if (!error.empty())
    return InferResult::fail(fmt::format("{} and {}: {}", to_string(t[0]), to_string(t[1]), error));
  Type result{t[0].dtype, spec.result[0] == kBatch, {}};
  for (const char c : spec.result) {
    if (c != kBatch) result.shape.push_back(extents.at(c));
  }
  return InferResult::ok(std::move(result));
}

// Letters by role: in both and kept, in a and kept, in b and kept, summed.
struct Roles {
  std::string both, left, right, summed;
};
Roles roles_of(const Spec& spec) {
  Roles roles;
  for (const char c : spec.result) {
    const bool in_a = spec.a.find(c) != std::string::npos, in_b = spec.b.find(c) != std::string::npos;
    (in_a && in_b ? roles.both : in_a ? roles.left : roles.right) += c;
  }
  for (const char c : spec.a) {
    if (spec.result.find(c) == std::string::npos) roles.summed += c;
  }
  return roles;
}

std::map<char, int64_t> extents_of(const Op& op, const Spec& spec, int64_t rows) {
  std::map<char, int64_t> extents{{kBatch, rows}};
  collect_extents(op.operands[0]->type, spec.a, "first", extents);
  collect_extents(op.operands[1]->type, spec.b, "second", extents);
  return extents;
}

int64_t product(const std::string& letters, const std::map<char, int64_t>& extents) {
  int64_t n = 1;
  for (const char c : letters) n *= extents.at(c);
  return n;
}

std::vector<double> arranged(const double* data, const std::string& from, const std::string& to,
                             const std::map<char, int64_t>& extents) {
  std::vector<int64_t> shape;
  std::vector<int> order;
  for (const char c : from) shape.push_back(extents.at(c));
  for (const char c : to) order.push_back(static_cast<int>(from.find(c)));
  return permuted(data, shape, order);
}

interpreter::Tensor evaluate_einsum(const Op& op, Operands in, Context& context) {
  const Spec spec = einsum_spec(op);
  const Roles r = roles_of(spec);
  const auto extents = extents_of(op, spec, context.rows);
  const int64_t m = product(r.left, extents), n = product(r.right, extents), k = product(r.summed, extents);
  const auto a = arranged(in[0]->data.data(), spec.a, r.both + r.left + r.summed, extents);
  const auto b = arranged(in[1]->data.data(), spec.b, r.both + r.summed + r.right, extents);
  const int64_t matrices = product(r.both, extents);
  std::vector<double> c(static_cast<size_t>(matrices * m * n), 0.0);
  for (int64_t i = 0; i < matrices; ++i)
    gemm(m, n, k, a.data() + i * m * k, b.data() + i * k * n, c.data() + i * m * n);
  interpreter::Tensor out = interpreter::make_tensor(op.type, context.rows);
  const auto ordered = arranged(c.data(), r.both + r.left + r.right, spec.result, extents);
  std::copy(ordered.begin(), ordered.end(), out.data.data());
  return out;
}

std::vector<Op*> einsum_gradient(Builder& b, Op* op, Op* g) {
  const Spec s = einsum_spec(*op);
  const auto contract = [&](Op* other, const std::string& letters, const std::string& wanted) {
    return b.create("einsum", {g, other}, {{"spec", s.result + "," + letters + "->" + wanted}});
  };
  return {contract(op->operands[1], s.b, s.a), contract(op->operands[0], s.a, s.b)};
}

OpSample sample(const char* spec, Type a, Type b, int64_t rows = 5) {
  return {{std::move(a), std::move(b)}, {{"spec", text(spec)}}, -2, 2, rows};
}

}  // namespace

ops::EinsumSpec ops::einsum_spec(const Op& op) {
  EinsumSpec spec;
  const std::string error = parse_spec(op.attributes.text("spec"), spec);
  GRADC_CHECK(error.empty(), "{}", error);
  return spec;
}

void register_einsum(std::vector<OpDef>& defs) {
  OpDef def =
      Def("einsum", OpKind::contraction,
          "The sum of products that the spec names: in \"nk,ok->no\" each letter is an axis, axes missing "
          "from the result are summed, and n is "
          "the batch, the first letter of every batched value and of no other. Gradients are einsums again.");
  def.loop_nest = LoopNest::einsum;
  def.operands = {{"a", "f32 or f64"}, {"b", "the same element type"}};
  def.attributes = {required("spec", AttributeKind::text,
                             "letters of a, comma, letters of b, arrow, letters of the result")};
  def.infer = infer_einsum;
  def.evaluate = evaluate_einsum;
  def.gradient = einsum_gradient;
  def.cost = [](const Op& op) {
    const Spec spec = einsum_spec(op);
    std::string letters = spec.a;
    for (const char c : spec.b) letters += letters.find(c) == std::string::npos ? std::string(1, c) : "";
    return simple_cost(op, 2 * static_cast<double>(product(letters, extents_of(op, spec, 1))));
  };
  def.samples = {sample("nk,ok->no", batched({7}), plain({5, 7})),
                 sample("no,ok->nk", batched({5}), plain({5, 7}), 37),
                 sample("no,nk->ok", batched({5}), batched({7}), 37),
                 sample("no,ok->nk", batched({70}), plain({70, 84}), 37),
                 sample("no,ok->nk", batched({530}), plain({530, 65}), 3),
                 sample("no,nk->ok", batched({70}), batched({37}), 37),
                 sample("nk,ko->no", batched({16}), plain({16, 10}), 33),
                 sample("nk,nk->n", batched({9}), batched({9})),
                 sample("nij,njk->nik", batched({3, 4}), batched({4, 5}), 3),
                 sample("nhqd,nhkd->nhqk", batched({2, 3, 4}), batched({2, 5, 4}), 3),
                 sample("ij,jk->ik", plain({3, 300}), plain({300, 11})),
                 sample("nk,nk->k", batched({6}), batched({6})),
                 sample("nk,k->n", batched({6}, DType::f64), plain({6}, DType::f64)),
                 sample("i,j->ij", plain({3}), plain({5}))};
  defs.push_back(std::move(def));
}

}  // namespace gradc
