// The registry as a whole: complete records, names, text, documentation.
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "ir/ops/markdown.h"
#include "ir/ops/registry.h"
#include "tests/ir/ops_tools.h"

namespace gradc::test::ops_registry_test {
namespace {

// Which there are is held by docs/ops.md (DocumentationIsUpToDate).
TEST(OpsRegistry, HoldsEveryPrimitiveOnce) {
  const auto names = op_names();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  for (const std::string& name : names) EXPECT_EQ(find_op(name)->name, name);
  EXPECT_EQ(find_op("nothing_of_the_kind"), nullptr);
}

TEST(OpsRegistry, RefusesRecordsWithAPartMissing) {
  const auto without = [](const char* name, auto&& drop) {
    OpDef def = *find_op(name);
    EXPECT_TRUE(missing_parts(def).empty()) << name;
    drop(def);
    return missing_parts(def).size();
  };
  EXPECT_EQ(without("tanh", [](OpDef& d) { d.doc.clear(); }), 1u);
  EXPECT_EQ(without("tanh", [](OpDef& d) { d.operands[0].doc.clear(); }), 1u);
  EXPECT_EQ(without("tanh", [](OpDef& d) { d.infer = nullptr; }), 1u);
  EXPECT_EQ(without("tanh", [](OpDef& d) { d.gradient = nullptr; }), 1u);
  EXPECT_EQ(without("tanh", [](OpDef& d) { d.no_gradient = "both"; }), 1u);
  EXPECT_EQ(without("tanh", [](OpDef& d) { d.scalar = nullptr; }), 1u);
  EXPECT_EQ(without("tanh", [](OpDef& d) { d.evaluate = nullptr; }), 1u);
  EXPECT_EQ(without("tanh", [](OpDef& d) { d.samples.clear(); }), 1u);
  EXPECT_EQ(without("floor", [](OpDef& d) { d.no_gradient.clear(); }), 1u);
  EXPECT_EQ(without("log_softmax", [](OpDef& d) { d.decompose = nullptr; }), 1u);
  EXPECT_EQ(without("pad", [](OpDef& d) { d.position = nullptr; }), 1u);
  EXPECT_EQ(without("conv2d", [](OpDef& d) { d.attributes[0].doc.clear(); }), 1u);
  EXPECT_EQ(without("conv2d", [](OpDef& d) { d.loop_nest = LoopNest::none; }), 1u);
}

// Lowering knows such reductions by the trait alone.
TEST(OpsRegistry, SquaredDeviationsAreATrait) {
  std::set<std::string> with;
  for (const OpDef& def : op_defs())
    if (def.squared_deviations) {
      with.insert(def.name);
      EXPECT_TRUE(def.kind == OpKind::reduction && def.combiner == loop::BinaryOp::add) << def.name;
    }
  EXPECT_EQ(with, std::set<std::string>{"reduce_squared_deviations"});
}

TEST(OpsRegistry, DocumentationIsUpToDate) {
  const std::string path = std::string(GRADC_SOURCE_DIR) + "/docs/ops.md";
  if (std::getenv("GRADC_UPDATE_GOLDENS") != nullptr) std::ofstream(path) << ops_markdown();
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_TRUE(text.str() == ops_markdown())
      << "docs/ops.md differs from the definitions; run with GRADC_UPDATE_GOLDENS=1";
}

class OpsText : public testing::TestWithParam<SampleCase> {};

TEST_P(OpsText, PrintsAndParsesBack) {
  const OpSample& sample = GetParam().sample();
  Module module;
  module.name = "sample.nn";
  Function& f = module.add_function("test");
  std::vector<Op*> inputs;
  for (size_t i = 0; i < sample.operands.size(); ++i)
    inputs.push_back(f.add_input("x" + std::to_string(i), sample.operands[i]));
  f.outputs.push_back({"y", Builder(f).create(GetParam().def->name, inputs, sample.attributes)});
  f.renumber();
  EXPECT_EQ(verify(module), std::vector<std::string>{});
  const std::string text = print(module);
  const ModuleParseResult parsed = parse_module(text);
  ASSERT_EQ(parsed.error, "") << text;
  EXPECT_EQ(print(*parsed.module), text);
  EXPECT_EQ(verify(*parsed.module), std::vector<std::string>{});
}

TEST_P(OpsText, CostIsPositiveAndFinite) {
  const OpSample& sample = GetParam().sample();
  OneOp one(GetParam().def->name, sample.operands, sample.attributes);
  if (GetParam().def->cost == nullptr) return;
  const Cost cost = GetParam().def->cost(*one.op);
  EXPECT_GE(cost.flop, 0);
  EXPECT_GT(cost.bytes, 0);
  EXPECT_LT(cost.flop, 1e9);
}

INSTANTIATE_TEST_SUITE_P(Every, OpsText, testing::ValuesIn(all_samples()), case_name);

}  // namespace
}  // namespace gradc::test::ops_registry_test
