// Programs that are compiled when they are first called: the same bits, once for any number of threads, and
// errors that come from the call.
#include <gtest/gtest.h>

#include <thread>

#include "compiler/compile.h"
#include "runtime/data/batches.h"
#include "runtime/execution/session.h"
#include "support/check.h"
#include "tests/cli/tool.h"

namespace gradc::test::late_test {
namespace {

using compiler::CompiledModel;
using compiler::CompileRequest;

class Late : public testing::Test {
 protected:
  CompileRequest request(bool training_first) {
    CompileRequest request;
    request.file = folder_.write("m.nn", small_model());
    request.training_first = training_first;
    request.object_cache = folder_.path(training_first ? "late" : "whole");
    return request;
  }

  // A made-up batch of images and labels, as far as the entry reads them.
  static runtime::InputBuffers batch_for(const gradc_entry_info& entry, int64_t rows) {
    runtime::InputBuffers inputs(entry, rows);
    for (int i = 0; i < entry.input_count; ++i) {
      const gradc_input& input = entry.inputs[i];
      int64_t elements = rows;
      for (int axis = 0; axis < input.rank; ++axis) elements *= input.shape[axis];
      void* data = inputs.data(static_cast<size_t>(i));
      for (int64_t k = 0; k < elements; ++k) {
        if (input.dtype == GRADC_F32)
          static_cast<float*>(data)[k] = static_cast<float>(k % 17) / 16;
        else
          static_cast<int32_t*>(data)[k] = static_cast<int32_t>(k % 10);
      }
    }
    return inputs;
  }

  struct Results {
    std::vector<uint8_t> prediction;
    std::vector<runtime::SavedSum> sums;
    double loss = 0;
  };
  static Results run(const CompiledModel& compiled) {
    const gradc_program& program = compiled.program();
    runtime::Session session(program, 2);
    const runtime::InputBuffers train = batch_for(program.train_step, program.batch),
                                eval = batch_for(program.eval, program.batch),
                                predict = batch_for(program.predict, program.batch);
    session.initialize(1);
    Results results;
    for (int64_t step = 0; step < 3; ++step) {
      runtime::StepScalars scalars;
      scalars.step = step;
      scalars.total = 3;
      results.loss = session.step({train.pointers(), program.batch}, scalars, 1).loss;
    }
    const auto* bytes = static_cast<const uint8_t*>(session.predict({predict.pointers(), program.batch}));
    results.prediction.assign(bytes, bytes + program.batch * 10 * 4);
    results.sums = session.evaluation_sums({eval.pointers(), program.batch}).saved();
    return results;
  }

  TemporaryFolder folder_;
};

TEST_F(Late, GivesTheSameBits) {
  const CompiledModel whole(request(false)), late(request(true));
  EXPECT_EQ(whole.program().predict.late, nullptr);
  ASSERT_NE(late.program().predict.late, nullptr);
  ASSERT_NE(late.program().eval.late, nullptr);
  EXPECT_EQ(late.program().train_step.late, nullptr);
  const Results a = run(whole), b = run(late);
  EXPECT_EQ(a.prediction, b.prediction);
  EXPECT_EQ(a.sums, b.sums);
  EXPECT_EQ(a.loss, b.loss);
}

TEST_F(Late, IsCompiledWhenItIsAskedForAndNotBefore) {
  const CompiledModel whole(request(false)), late(request(true));
  const size_t before = late.cache_misses();
  EXPECT_LT(before, whole.cache_misses());
  ASSERT_NE(runtime::code_of(late.program().predict), nullptr);
  const size_t prediction = late.cache_misses();
  EXPECT_GT(prediction, before);
  ASSERT_NE(runtime::code_of(late.program().eval), nullptr);
  EXPECT_GT(late.cache_misses(), prediction);
  // The objects are those of a model that is compiled whole, so that each finds the other's in the cache.
  EXPECT_EQ(late.cache_misses(), whole.cache_misses());
  CompileRequest again = request(false);
  again.object_cache = folder_.path("late");
  EXPECT_EQ(CompiledModel(again).cache_misses(), 0u);
}

TEST_F(Late, ThreadsThatAskAtOnceCompileOnce) {
  const CompiledModel whole(request(false)), late(request(true));
  std::vector<gradc_entry> code(6);
  {
    std::vector<std::jthread> threads;
    for (size_t t = 0; t < code.size(); ++t)
      threads.emplace_back(
          [&, t] { code[t] = runtime::code_of(t % 2 ? late.program().eval : late.program().predict); });
  }
  for (size_t t = 2; t < code.size(); ++t) EXPECT_EQ(code[t], code[t - 2]);
  EXPECT_NE(code[0], nullptr);
  EXPECT_NE(code[0], code[1]);
  EXPECT_EQ(late.cache_misses(), whole.cache_misses());
}

TEST_F(Late, AnErrorComesFromTheCallAndTheSessionGoesOn) {
  const CompiledModel compiled(request(true));
  gradc_program program = compiled.program();
  program.predict.late = [](void*) -> gradc_entry {
    throw RunError(kExitRunFailed, "out of memory while generating code");
  };
  runtime::Session session(program, 2);
  const runtime::InputBuffers train = batch_for(program.train_step, program.batch),
                              predict = batch_for(program.predict, program.batch);
  session.initialize(1);
  EXPECT_THROW(session.predict({predict.pointers(), program.batch}), RunError);
  runtime::StepScalars scalars;
  scalars.total = 1;
  EXPECT_TRUE(session.step({train.pointers(), program.batch}, scalars, 1).finite);
}

}  // namespace
}  // namespace gradc::test::late_test
