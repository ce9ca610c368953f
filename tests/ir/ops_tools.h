// What the tests of the primitives share: one function around one sample, random operands, runs through the
// interpreter.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "ir/interpreter/interpreter.h"
#include "ir/ops/common.h"
#include "ir/tensor/module.h"
#include "ir/tensor/op_def.h"

namespace gradc::test {

using interpreter::Tensor;
using ops::batched;
using ops::integer;
using ops::ints;
using ops::plain;
using ops::text;

inline int64_t count(const Tensor& t) { return t.type.elements() * (t.type.batched ? t.rows : 1); }
inline double* begin(Tensor& t) { return t.data.data(); }
inline const double* begin(const Tensor& t) { return t.data.data(); }

// A tensor with these values in logical order, rows first; `rows` follows from their number when batched.
inline Tensor tensor(const Type& type, const std::vector<double>& values) {
  Tensor t = interpreter::make_tensor(
      type, type.batched ? static_cast<int64_t>(values.size()) / type.elements() : 1);
  EXPECT_EQ(count(t), static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), begin(t));
  return t;
}
inline std::vector<double> values(const Tensor& t) { return {begin(t), begin(t) + count(t)}; }

// Floats are uniform in [low, high), integers whole numbers in [0, high), booleans 0 or 1.
inline Tensor random_tensor(const Type& type, int64_t rows, double low, double high,
                            std::mt19937_64& random) {
  Tensor t = interpreter::make_tensor(type, rows * type.rows);
  std::uniform_real_distribution<double> real(low, high);
  std::uniform_int_distribution<int> whole(
      0, type.dtype == DType::boolean ? 1 : std::max(0, static_cast<int>(high) - 1));
  for (int64_t i = 0; i < count(t); ++i) begin(t)[i] = type.is_float() ? real(random) : whole(random);
  return t;
}

// A function of one operation on inputs x0, x1, ..., output "y".
struct OneOp {
  Function function{"test"};
  Builder builder{function};
  std::vector<Op*> inputs;
  Op* op = nullptr;
  interpreter::RunInput run_input;

  OneOp(const std::string& name, const std::vector<Type>& types, const Attributes& attributes,
        int64_t rows = 5) {
    for (size_t i = 0; i < types.size(); ++i)
      inputs.push_back(function.add_input("x" + std::to_string(i), types[i]));
    op = builder.create(name, inputs, attributes);
    function.outputs.push_back({"y", op});
    run_input.context.rows = rows;
    run_input.context.row_offset = 19;
    run_input.context.seed = 0x1234567890abcdefu;
    run_input.context.micro_step = 0x200000003u;
  }
  void set(const std::vector<Tensor>& operands) {
    run_input.context.rows = 1;
    for (size_t i = 0; i < operands.size(); ++i) {
      if (operands[i].type.batched) run_input.context.rows = operands[i].rows / operands[i].type.rows;
      set(i, operands[i]);
    }
  }
  void set(size_t i, Tensor t) { run_input.inputs["x" + std::to_string(i)] = std::move(t); }
  Tensor& operand(size_t i) { return run_input.inputs.at("x" + std::to_string(i)); }
  void randomize(const OpSample& sample, uint64_t seed) {
    std::mt19937_64 random(seed);
    for (size_t i = 0; i < inputs.size(); ++i)
      set(i, random_tensor(inputs[i]->type, sample.rows, sample.low, sample.high, random));
  }
  interpreter::RunResult run() {
    function.renumber();
    return interpreter::run(function, run_input);
  }
  Tensor value() { return run().outputs.at("y"); }
};

inline std::vector<Type> types_of(const std::vector<Tensor>& tensors) {
  std::vector<Type> types;
  for (const Tensor& t : tensors) types.push_back(t.type);
  return types;
}

// The value of one operation on given tensors.
inline std::vector<double> value_of(const std::string& name, const std::vector<Tensor>& operands,
                                    const Attributes& attributes = {}) {
  OneOp one(name, types_of(operands), attributes);
  one.set(operands);
  return values(one.value());
}

// The gradients of sum(y g) in every operand that has one, by the definition's gradient; empty for the
// others.
inline std::vector<std::vector<double>> gradients_of(const std::string& name,
                                                     const std::vector<Tensor>& operands, const Tensor& g,
                                                     const Attributes& attributes = {}) {
  OneOp one(name, types_of(operands), attributes);
  one.set(operands);
  one.run_input.inputs["g"] = g;
  const auto grads = one.op->def->gradient(one.builder, one.op, one.function.add_input("g", one.op->type));
  for (size_t i = 0; i < grads.size(); ++i) {
    if (grads[i] != nullptr)
      one.function.outputs.push_back(
          {"d" + std::to_string(i), one.builder.sum_to(grads[i], operands[i].type)});
  }
  const auto result = one.run();
  std::vector<std::vector<double>> out(grads.size());
  for (size_t i = 0; i < grads.size(); ++i) {
    if (grads[i] != nullptr) out[i] = values(result.outputs.at("d" + std::to_string(i)));
  }
  return out;
}

// Every sample of every primitive that is computed, for parameterised tests.
struct SampleCase {
  const OpDef* def;
  size_t index;
  const OpSample& sample() const { return def->samples[index]; }
};
inline std::vector<SampleCase> all_samples() {
  std::vector<SampleCase> cases;
  for (const OpDef& def : op_defs()) {
    for (size_t i = 0; i < def.samples.size(); ++i) cases.push_back({&def, i});
  }
  return cases;
}
inline std::string case_name(const testing::TestParamInfo<SampleCase>& info) {
  return info.param.def->name + "_" + std::to_string(info.param.index);
}
inline void PrintTo(const SampleCase& c, std::ostream* out) { *out << c.def->name << " sample " << c.index; }

}  // namespace gradc::test
