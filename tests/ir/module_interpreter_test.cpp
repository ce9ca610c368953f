// Running whole functions: outputs, updates, the guard, what is kept, and what a run refuses.
#include <gtest/gtest.h>

#include <cmath>

#include "support/check.h"
#include "tests/ir/ops_tools.h"

namespace gradc::test::module_interpreter_test {
namespace {

std::unique_ptr<Module> module_of(const std::string& text) {
  ModuleParseResult r = parse_module(text);
  EXPECT_EQ(r.error, "");
  return std::move(r.module);
}

const Type kBatched{DType::f32, true, {2}};
const Type kPlain{DType::f32, false, {2}};

constexpr const char* kText = R"(
param @w : f32[2]
state @count : f32
func @f(%x: f32[n,2]) {
  %1 = mul %x, @w : f32[n,2]
  %2 = reduce_sum %1 {axes=[0], batch=false, keep=false} : f32[n]
  %3 = reduce_sum %2 {axes=[], batch=true, keep=false} : f32
  %4 = neg @w : f32[2]
  %5 = row_count : f32
  %6 = add @count, %5 : f32
  update @w = %4
  update @count = %6
  guard loss
  return loss=%3, each=%2, given=%x, w=@w
}
)";

interpreter::RunInput run_input() {
  interpreter::RunInput input;
  input.context.rows = 3;
  input.inputs.emplace("x", tensor(kBatched, {1, 2, 3, 4, 5, 6}));
  input.symbols.emplace("w", tensor(kPlain, {10, 0.5}));
  input.symbols.emplace("count", tensor({DType::f32, false, {}}, {7}));
  return input;
}

TEST(Interpreter, outputs_and_updates) {
  const auto m = module_of(kText);
  const interpreter::RunResult r = interpreter::run(*m->functions[0], run_input());
  EXPECT_EQ(values(r.outputs.at("each")), (std::vector<double>{11, 32, 53}));
  EXPECT_EQ(values(r.outputs.at("loss")), (std::vector<double>{96}));
  EXPECT_EQ(values(r.outputs.at("given")), (std::vector<double>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(values(r.outputs.at("w")), (std::vector<double>{10, 0.5}))
      << "symbols read as they were when the function started";
  EXPECT_EQ(values(r.updates.at("w")), (std::vector<double>{-10, -0.5}));
  EXPECT_EQ(values(r.updates.at("count")), (std::vector<double>{10}));
  EXPECT_TRUE(r.values.empty());
}

TEST(Interpreter, a_guard_that_is_not_finite_keeps_every_symbol) {
  const auto m = module_of(kText);
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    interpreter::RunInput input = run_input();
    begin(input.inputs.at("x"))[3] = bad;
    const interpreter::RunResult r = interpreter::run(*m->functions[0], input);
    EXPECT_FALSE(std::isfinite(values(r.outputs.at("loss"))[0]));
    EXPECT_EQ(values(r.updates.at("w")), (std::vector<double>{10, 0.5}));
    EXPECT_EQ(values(r.updates.at("count")), (std::vector<double>{7}));
    m->functions[0]->guard_output = -1;
    EXPECT_EQ(values(interpreter::run(*m->functions[0], input).updates.at("count")),
              (std::vector<double>{10}));
    m->functions[0]->guard_output = 0;
  }
}

TEST(Interpreter, keeps_every_value_on_request) {
  const auto m = module_of(kText);
  interpreter::RunInput input = run_input();
  const auto lean = interpreter::run(*m->functions[0], input);
  input.keep_all = true;
  const auto full = interpreter::run(*m->functions[0], input);
  ASSERT_EQ(full.values.size(), 6u);
  const auto ops = m->functions[0]->ops();
  EXPECT_EQ(values(full.values.at(ops[0])), (std::vector<double>{10, 1, 30, 2, 50, 3}));
  for (const auto& [name, value] : lean.outputs)
    EXPECT_EQ(values(value), values(full.outputs.at(name))) << name;
  for (const auto& [name, value] : lean.updates)
    EXPECT_EQ(values(value), values(full.updates.at(name))) << name;
}

TEST(Interpreter, a_value_used_twice_by_one_operation_lives_until_its_end) {
  const auto m = module_of(
      "func @f(%x: f32[n,2]) {\n%1 = neg %x : f32[n,2]\n%2 = mul %1, %1 : f32[n,2]\n%3 = add %2, %1 : "
      "f32[n,2]\n%4 = mul %3, %3 : f32[n,2]\nreturn y=%4\n}");
  interpreter::RunInput input;
  input.context.rows = 1;
  input.inputs.emplace("x", tensor(kBatched, {1, 3}));
  EXPECT_EQ(values(interpreter::run(*m->functions[0], input).outputs.at("y")), (std::vector<double>{0, 36}));
}

TEST(Interpreter, no_rows_at_all) {
  const auto m = module_of(kText);
  interpreter::RunInput input = run_input();
  input.context.rows = 0;
  input.inputs.at("x") = interpreter::make_tensor(kBatched, 0);
  const auto r = interpreter::run(*m->functions[0], input);
  EXPECT_EQ(r.outputs.at("each").data.size(), 0u);
  EXPECT_EQ(values(r.outputs.at("loss")), (std::vector<double>{0}));
}

TEST(Interpreter, refuses_what_does_not_fit) {
  const auto m = module_of(kText);
  const Function& f = *m->functions[0];
  const auto refuses = [&](auto&& spoil) {
    interpreter::RunInput input = run_input();
    spoil(input);
    EXPECT_THROW(interpreter::run(f, input), InternalError);
  };
  refuses([](auto& i) { i.inputs.clear(); });
  refuses([](auto& i) { i.symbols.erase("w"); });
  refuses([](auto& i) { i.context.rows = 2; });
  refuses([](auto& i) { i.inputs.at("x").type.shape = {3}; });
  refuses([](auto& i) { i.inputs.at("x").data = i.symbols.at("w").data; });
  refuses([](auto& i) { i.symbols.at("w").type.dtype = DType::f64; });
}

TEST(Interpreter, decisions_need_numbers) {
  const auto m = module_of(kText);
  interpreter::RunInput input = run_input();
  interpreter::Decisions decisions;
  input.context.decisions = &decisions;
  interpreter::run(*m->functions[0], input);
  m->functions[0]->ops()[0]->id = m->functions[0]->ops()[1]->id;
  EXPECT_THROW(interpreter::run(*m->functions[0], input), InternalError);
}

TEST(Interpreter, tensors_start_at_zero) {
  const Tensor t = interpreter::make_tensor(kBatched, 4);
  EXPECT_EQ(t.rows, 4);
  EXPECT_EQ(t.data.dimension(), 2u);
  EXPECT_EQ(values(t), std::vector<double>(8, 0.0));
  EXPECT_EQ(interpreter::make_tensor(kPlain, 4).rows, 1);
  EXPECT_EQ(interpreter::make_tensor({DType::f64, false, {}}, 4).data.size(), 1u);
}

}  // namespace
}  // namespace gradc::test::module_interpreter_test
