// Every primitive's gradient against central differences in double precision, in random directions, with
// kinks replayed. To test a new primitive, give its definition samples: nothing is to be added here.
#include <gtest/gtest-spi.h>

#include <cmath>

#include "tests/ir/ops_tools.h"

namespace gradc::test::ops_gradient_test {
namespace {

double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < count(a); ++i) sum += begin(a)[i] * begin(b)[i];
  return sum;
}

// Statistics that training-mode batch_norm treats as functions of x: its gradient is tested with them in the
// graph, below.
bool depends_on_context(const SampleCase& c) {
  const Attribute* training = c.sample().attributes.find("training");
  return training != nullptr && std::get<bool>(*training);
}

std::vector<SampleCase> differentiable_samples() {
  std::vector<SampleCase> cases;
  for (const SampleCase& c : all_samples()) {
    if (c.def->gradient != nullptr && !depends_on_context(c)) cases.push_back(c);
  }
  return cases;
}

// Compares analytic gradients ("d<i>" for inputs "x<i>") with central differences of sum(y g). The numeric
// derivative of an input without a gradient output must be zero, unless it is listed as cut off. Returns how
// many inputs had a gradient that is not zero.
int check_gradients(Function& f, interpreter::RunInput& input, const std::vector<Op*>& inputs,
                    const std::vector<bool>& has_gradient) {
  interpreter::Decisions decisions;
  input.context.decisions = &decisions;
  decisions.mode = interpreter::Decisions::Mode::record;
  f.renumber();
  const auto base = interpreter::run(f, input);
  decisions.mode = interpreter::Decisions::Mode::replay;
  const Tensor g = input.inputs.at("g");
  std::mt19937_64 random(5);
  int moving = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i]->type.is_float()) continue;
    const std::string key = inputs[i]->symbol();
    const Tensor at = input.inputs.at(key);
    const Tensor direction = random_tensor(at.type, at.rows / at.type.rows, -1, 1, random);
    const auto along = [&](double t) {
      Tensor moved = at;
      for (int64_t k = 0; k < count(at); ++k) begin(moved)[k] += t * begin(direction)[k];
      input.inputs[key] = moved;
      return dot(interpreter::run(f, input).outputs.at("y"), g);
    };
    const double step = 1e-4;  // four points: an error of step^4
    const double numeric =
        (8 * (along(step) - along(-step)) - (along(2 * step) - along(-2 * step))) / (12 * step);
    input.inputs[key] = at;
    const double analytic = has_gradient[i] ? dot(base.outputs.at("d" + std::to_string(i)), direction) : 0;
    const double size = std::max(std::abs(numeric), std::abs(analytic));
    EXPECT_NEAR(analytic, numeric, 1e-6 * size + 1e-8) << "operand " << i;
    moving += size > 1e-6;
  }
  return moving;
}

class OpsGradient : public testing::TestWithParam<SampleCase> {};

// Gradients at random operands drawn from a seed; returns how many operands had a derivative other than zero.
int check_sample(const SampleCase& c, uint64_t seed) {
  const OpSample& sample = c.sample();
  OneOp one(c.def->name, sample.operands, sample.attributes, sample.rows);
  one.randomize(sample, seed);
  Op* g = one.function.add_input("g", one.op->type);
  std::mt19937_64 random(3);
  one.run_input.inputs["g"] = random_tensor(one.op->type, sample.rows, -1, 1, random);
  const auto grads = c.def->gradient(one.builder, one.op, g);
  EXPECT_EQ(grads.size(), one.inputs.size());
  std::vector<bool> has_gradient;
  for (size_t i = 0; i < grads.size(); ++i) {
    has_gradient.push_back(grads[i] != nullptr);
    if (grads[i] == nullptr) continue;
    Op* reduced = one.builder.sum_to(grads[i], one.inputs[i]->type);
    EXPECT_EQ(reduced->type, one.inputs[i]->type);
    one.function.outputs.push_back({"d" + std::to_string(i), reduced});
  }
  return check_gradients(one.function, one.run_input, one.inputs, has_gradient);
}

TEST_P(OpsGradient, MatchesCentralDifferences) {
  // A sample whose derivatives all vanish tests nothing, so a single number that lies on relu's flat side is
  // drawn again.
  int moving = 0;
  for (uint64_t seed = 11; seed < 21 && moving == 0; ++seed) moving = check_sample(GetParam(), seed);
  const OpSample& sample = GetParam().sample();
  Attributes attributes = sample.attributes;
  const bool differentiable =
      infer(*GetParam().def, sample.operands, attributes).type.is_float() &&
      std::any_of(sample.operands.begin(), sample.operands.end(), [](const Type& t) { return t.is_float(); });
  EXPECT_EQ(moving > 0, differentiable);
}

INSTANTIATE_TEST_SUITE_P(Every, OpsGradient, testing::ValuesIn(differentiable_samples()), case_name);

// y = batch_norm(x, batch_mean(x), batch_var(x)): the closed form stands for the whole derivative in x.
TEST(OpsGradientTraining, BatchNormGoesThroughItsStatistics) {
  int tested = 0;
  for (const OpSample& sample : find_op("batch_norm")->samples) {
    if (!sample.attributes.boolean("training")) continue;
    ++tested;
    const Type x_type = sample.operands[0], channel = sample.operands[3];
    Function f("test");
    Builder b(f);
    const std::vector<Op*> inputs = {f.add_input("x0", x_type), f.add_input("x1", channel),
                                     f.add_input("x2", channel)};
    std::vector<int64_t> axes;
    for (int i = 0; i < x_type.rank(); ++i) {
      if (channel.shape[static_cast<size_t>(i)] != x_type.shape[static_cast<size_t>(i)]) axes.push_back(i);
    }
    Op* mean = b.create("batch_mean", {inputs[0]}, {{"axes", axes}});
    Op* var = b.create("batch_var", {inputs[0]}, {{"axes", axes}});
    Op* y = b.create("batch_norm", {inputs[0], mean, var, inputs[1], inputs[2]}, sample.attributes);
    Op* g = f.add_input("g", x_type);
    const auto grads = y->def->gradient(b, y, g);
    f.outputs = {
        {"y", y}, {"d0", grads[0]}, {"d1", b.sum_to(grads[3], channel)}, {"d2", b.sum_to(grads[4], channel)}};
    EXPECT_EQ(grads[1], nullptr);
    EXPECT_EQ(grads[2], nullptr);
    interpreter::RunInput input;
    input.context.rows = 7;
    std::mt19937_64 random(2);
    for (Op* in : {inputs[0], inputs[1], inputs[2], g}) {
      input.inputs[in->symbol()] = random_tensor(in->type, 7, -1, 2, random);
    }
    EXPECT_EQ(check_gradients(f, input, inputs, {true, true, true}), 3);
  }
  EXPECT_EQ(tested, 3);
}

// Crossing a kink while the decisions are replayed gives the slope of the side that was recorded.
TEST(OpsGradientCheck, ReplaysDecisions) {
  const Type type{DType::f32, false, {2}};
  for (const char* name : {"relu", "abs", "floor", "sign"}) {
    OneOp one(name, {type}, {});
    one.set(0, tensor(type, {1e-7, -1e-7}));
    interpreter::Decisions decisions;
    one.run_input.context.decisions = &decisions;
    decisions.mode = interpreter::Decisions::Mode::record;
    const auto before = values(one.value());
    decisions.mode = interpreter::Decisions::Mode::replay;
    one.set(0, tensor(type, {-3, 3}));
    const std::string op = name;
    const std::vector<double> smooth = op == "relu"  ? std::vector<double>{-3, 0}
                                       : op == "abs" ? std::vector<double>{-3, -3}
                                                     : before;
    EXPECT_EQ(values(one.value()), smooth) << name;
  }
}

// The check itself notices a gradient that is wrong or all zero.
TEST(OpsGradientCheck, FailsOnAWrongGradient) {
  for (const double factor : {0.0, 1.001}) {
    OneOp one("tanh", {Type{DType::f32, true, {4}}}, {}, 3);
    std::mt19937_64 random(1);
    one.set(0, random_tensor(one.inputs[0]->type, 3, -1, 1, random));
    Op* g = one.function.add_input("g", one.op->type);
    one.run_input.inputs["g"] = random_tensor(one.op->type, 3, -1, 1, random);
    const auto grads = one.op->def->gradient(one.builder, one.op, g);
    one.function.outputs.push_back({"d0", one.builder.mul(grads[0], factor)});
    testing::TestPartResultArray failures;
    {
      testing::ScopedFakeTestPartResultReporter reporter(
          testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &failures);
      check_gradients(one.function, one.run_input, one.inputs, {true});
    }
    EXPECT_GT(failures.size(), 0) << factor;
  }
}

}  // namespace
}  // namespace gradc::test::ops_gradient_test
