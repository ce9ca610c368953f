// Every primitive at the edges of its shapes: of each sample variants with one row, a prime number of rows,
// an extent of 1, one beyond the point from which threads share an axis, all extents 1, and no axes at all.
// Each runs on the loop interpreter, which checks every access, and as native code between pages that trap,
// in one, two and more threads than there are rows or places, with the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "support/check.h"
#include "tests/passes/one_operation.h"

namespace gradc::testing::ops_edges_test {
namespace {

struct Edge {
  std::string name;
  OpSample sample;
};

int64_t elements(const OpSample& s) {
  int64_t most = 1;
  for (const Type& t : s.operands) most = std::max(most, t.elements() * (t.batched ? s.rows : 1));
  return most;
}

// The sample with another extent wherever it has this one: in its operands, and in the attributes too where
// it would not be possible else.
std::optional<OpSample> with_extent(const OpDef& def, const OpSample& sample, int64_t from, int64_t to) {
  const auto replaced = [&](std::vector<int64_t> list) {
    std::replace(list.begin(), list.end(), from, to);
    return list;
  };
  for (const bool attributes_too : {false, true}) {
    OpSample s = sample;
    for (Type& t : s.operands) t.shape = replaced(t.shape);
    for (const AttributeSpec& spec : def.attributes)
      if (attributes_too && spec.kind == AttributeKind::integers && s.attributes.has(spec.name))
        s.attributes.set(spec.name, replaced(s.attributes.integers(spec.name)));
    if (infer(def, s.operands, s.attributes).error.empty()) return s;
  }
  return std::nullopt;
}

std::vector<Edge> edges_of(const OpDef& def, const OpSample& sample) {
  std::vector<Edge> edges;
  for (const int64_t rows : {1, 31}) {
    OpSample s = sample;
    s.rows = rows;
    edges.push_back({fmt::format("{} rows", rows), s});
  }
  // A kernel of elementwise operations takes its loops from its shape alone.
  const bool elementwise = def.kind != OpKind::contraction && def.kind != OpKind::indexing && !def.random;
  const bool one_of_many = elementwise && def.name != "add" && def.name != "reduce_sum";
  std::set<int64_t> extents;
  for (const Type& t : sample.operands) extents.insert(t.shape.begin(), t.shape.end());
  OpSample flat = sample;
  for (const int64_t e : extents) {
    // 1; a prime; one more than 64, from which on an axis is split by vectors.
    for (const int64_t to : {1, 13, 67})
      if (const auto s = with_extent(def, sample, e, to);
          s && !one_of_many && to != e && elements(*s) <= 8000 && !(def.images && to == 13))
        edges.push_back({fmt::format("extents {} are {}", e, to), *s});
    if (const auto s = with_extent(def, flat, e, 1)) flat = *s;
  }
  edges.push_back({"all extents are 1", flat});
  OpSample scalars = sample;
  for (Type& t : scalars.operands) t.shape.clear();
  if (infer(def, scalars.operands, scalars.attributes).error.empty())
    edges.push_back({"no axes", std::move(scalars)});
  return edges;
}

struct Case {
  const OpDef* def;
  size_t sample;
};

std::vector<Case> cases() {
  std::vector<Case> list;
  for (const OpDef& def : op_defs())
    if (def.kind != OpKind::external)
      for (size_t s = 0; s < def.samples.size(); ++s) list.push_back({&def, s});
  return list;
}

void PrintTo(const Case& c, std::ostream* out) { *out << c.def->name << " sample " << c.sample; }

class OpAtEdges : public ::testing::TestWithParam<Case> {};

TEST_P(OpAtEdges, AgreesWithTheDefinition) {
  const OpDef& def = *GetParam().def;
  for (const Edge& edge : edges_of(def, def.samples[GetParam().sample])) {
    const OpSample& s = edge.sample;
    for (const bool gradient : {false, true}) {
      // Gradients of windows are operations with samples of their own.
      if (gradient && (!def.gradient || def.images || s.operands.empty() || !s.operands[0].is_float()))
        continue;
      const std::string what = edge.name + (gradient ? ", gradient" : "");
      const OneOperation one(def, s, gradient, 3);
      if (elements(s) <= 2000)
        expect_as_defined(one,
                          run_lowered(one.module, "f", one.input,
                                      {.engine = Engine::loops, .threads = 3, .reversed = true}),
                          what + ", loops");
      // More than there are places of a short axis.
      const std::vector<int> threads = {1, 2, 7};
      const std::vector<RunnerResult> runs =
          run_lowered(one.module, "f", one.input, {.engine = Engine::native}, threads);
      expect_as_defined(one, runs[0], what);
      for (size_t i = 1; i < runs.size(); ++i)
        for (const auto& [name, first] : runs[0].outputs) {
          const auto& other = runs[i].outputs.at(name);
          for (size_t e = 0; e < first.data.size(); ++e) {
            const double a = first.data.data()[e], b = other.data.data()[e];
            ASSERT_TRUE(a == b || (a != a && b != b))
                << what << ": " << name << "[" << e << "] is " << b << " of " << threads[i] << " threads, "
                << a << " of one";
          }
        }
      if (HasFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, OpAtEdges, ::testing::ValuesIn(cases()), [](const auto& info) {
  return fmt::format("{}_{}", info.param.def->name, info.param.sample);
});

}  // namespace
}  // namespace gradc::testing::ops_edges_test
