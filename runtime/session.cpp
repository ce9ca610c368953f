// Allocates a program's memory and calls its entries on the team.
#include "runtime/session.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

// Subnormal results become zero while a program runs: they would cost a hundred times the time of others.
class FlushToZero {
 public:
#if defined(__x86_64__)
  FlushToZero() : saved_(_mm_getcsr()) {
    _mm_setcsr(saved_ | 0x8040u);
  }  // flush results, take subnormal operands as zero
  ~FlushToZero() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  FlushToZero() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" : : "r"(saved_ | uint64_t{1} << 24));
  }
  ~FlushToZero() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  uint64_t saved_;
#endif
};

void check_program(const gradc_program& program) {
  if (program.abi_version != GRADC_ABI_VERSION)
    throw RunError(
        kExitRunFailed,
        fmt::format("the program was compiled for version {} of the runtime's interface, this is {}; "
                    "compile it again",
                    program.abi_version, GRADC_ABI_VERSION));
  GRADC_CHECK(program.batch >= 1 && program.parameter_bytes >= 0, "batch {}", program.batch);
  GRADC_CHECK(program.eval.run, "a program without eval");
  for (int32_t i = 0; i < program.symbol_count; ++i) {
    const gradc_symbol& symbol = program.symbols[i];
    const int64_t end = symbol.offset + element_count(symbol.rank, symbol.shape) * dtype_bytes(symbol.dtype);
    GRADC_CHECK(symbol.offset >= 0 && end <= program.parameter_bytes, "{} ends at {} of {} bytes",
                symbol.name, end, program.parameter_bytes);
  }
  for (const gradc_entry_info* entry : {&program.train_step, &program.eval}) {
    if (!entry->run) continue;
    GRADC_CHECK(entry->output_count >= 1 && std::string_view(entry->outputs[0].name) == "loss",
                "the first output is not the loss");
    for (int32_t i = 0; i < entry->output_count; ++i)
      GRADC_CHECK(!entry->outputs[i].batched && entry->outputs[i].rank == 0, "output {} is no scalar",
                  entry->outputs[i].name);
  }
}

int team_size(const gradc_program& program, int threads) {
  int useful = 1;
  for (const auto* entry : {&program.init, &program.train_step, &program.eval, &program.predict})
    if (entry->run) useful = std::max(useful, static_cast<int>(entry->max_threads));
  return std::min(choose_thread_count(threads), useful);
}

uint64_t arena_bytes(const gradc_program& program, int threads) {
  int64_t bytes = 0;
  for (const auto* entry : {&program.init, &program.train_step, &program.eval, &program.predict})
    if (entry->run) bytes = std::max(bytes, entry->arena_bytes + threads * entry->scratch_bytes);
  return static_cast<uint64_t>(bytes);
}

}  // namespace

double metric_of(const Metrics& metrics, const std::string& name) {
  for (const auto& [key, value] : metrics)
    if (key == name) return value;
  return std::numeric_limits<double>::quiet_NaN();
}

Session::Session(const gradc_program& program, int threads)
    : program_((check_program(program), program)),
      // Never empty, so that compiled code gets a real address.
      parameters_(static_cast<uint64_t>(std::max<int64_t>(program.parameter_bytes, 64)),
                  "parameters and optimizer state"),
      arena_(std::max<uint64_t>(arena_bytes(program, team_size(program, threads)), 64),
             "activations and gradients"),
      init_(make_outputs(program.init)),
      train_step_(make_outputs(program.train_step)),
      eval_(make_outputs(program.eval)),
      predict_(make_outputs(program.predict)),
      team_(team_size(program, threads)) {}

Session::Outputs Session::make_outputs(const gradc_entry_info& entry) const {
  Outputs outputs;
  if (!entry.run) return outputs;
  for (int32_t i = 0; i < entry.output_count; ++i) {
    const gradc_output& output = entry.outputs[i];
    const int64_t rows = output.batched ? program_.batch : 1;
    outputs.blocks.emplace_back(
        static_cast<uint64_t>(rows * element_count(output.rank, output.shape) * dtype_bytes(output.dtype)),
        "outputs");
    outputs.pointers.push_back(outputs.blocks.back().data());
  }
  return outputs;
}

double Session::Outputs::value(const gradc_entry_info& entry, size_t index) const {
  switch (entry.outputs[index].dtype) {
    case GRADC_F32: {
      float value;
      std::memcpy(&value, pointers[index], sizeof value);
      return value;
    }
    case GRADC_F64: {
      double value;
      std::memcpy(&value, pointers[index], sizeof value);
      return value;
    }
    case GRADC_I32: {
      int32_t value;
      std::memcpy(&value, pointers[index], sizeof value);
      return value;
    }
    default: return *static_cast<const uint8_t*>(pointers[index]) != 0;
  }
}

int32_t Session::call(const gradc_entry_info& entry, Outputs& outputs, BatchReader* reader, int64_t index,
                      const Batch& batch, const double* scalars, uint64_t seed, uint64_t micro_step) {
  gradc_step_args args{};
  args.arena = arena_.data();
  args.parameters = parameters_.data();
  args.inputs = batch.inputs;
  args.outputs = outputs.pointers.data();
  args.scalars = scalars;
  args.rows = batch.rows;
  args.row_offset = 0;
  args.seed = seed;
  args.micro_step = micro_step;
  args.barrier = Team::barrier_of;
  args.team = &team_;
  args.profile = profile_;
  if (reader && reader->loads_ahead()) {
    reader->fetch(index);
    args.inputs = reader->batch(index).inputs;
    reader = nullptr;
  }
  const auto start = std::chrono::steady_clock::now();
  int32_t result = 0;
  team_.run(
      [&](int thread, int threads) {
        if (reader) {
          reader->assemble(index, thread, threads);
          if (threads > 1) team_.barrier();
          if (thread == 0)
            reader->note_wait(
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        }
        const FlushToZero guard;
        const int32_t returned = entry.run(&args, thread, threads);
        if (thread == 0) result = returned;
      },
      std::clamp(static_cast<int>(entry.max_threads), 1, team_.threads()));
  return result;
}

void Session::require_training() const {
  if (program_.init.run && program_.train_step.run) return;
  throw RunError(kExitUsage,
                 fmt::format("{} was compiled without training (--infer); it evaluates and predicts with "
                             "trained parameters",
                             program_.name ? program_.name : "the model"));
}

void Session::initialize(uint64_t seed) {
  require_training();
  const double scalars[GRADC_SCALAR_COUNT] = {0, 0, 1, 1};
  call(program_.init, init_, nullptr, 0, {nullptr, 1}, scalars, seed, 0);
}

StepResult Session::step(BatchReader& reader, int64_t index, const StepScalars& scalars, uint64_t seed) {
  return step(&reader, index, reader.batch(index), scalars, seed);
}

StepResult Session::step(const Batch& batch, const StepScalars& scalars, uint64_t seed) {
  GRADC_CHECK(batch.rows >= 1 && batch.rows <= program_.batch, "{} rows", batch.rows);
  return step(nullptr, 0, batch, scalars, seed);
}

StepResult Session::step(BatchReader* reader, int64_t index, const Batch& batch, const StepScalars& scalars,
                         uint64_t seed) {
  const double values[GRADC_SCALAR_COUNT] = {static_cast<double>(scalars.step),
                                             static_cast<double>(scalars.epoch),
                                             static_cast<double>(scalars.total), scalars.lr_factor};
  require_training();
  const gradc_entry_info& entry = program_.train_step;
  StepResult result;
  result.finite =
      call(entry, train_step_, reader, index, batch, values, seed, static_cast<uint64_t>(scalars.step)) == 0;
  result.lr = std::numeric_limits<double>::quiet_NaN();
  const auto rows = static_cast<double>(batch.rows);
  for (size_t i = 0; i < static_cast<size_t>(entry.output_count); ++i) {
    const std::string_view name = entry.outputs[i].name;
    const double value = train_step_.value(entry, i);
    if (i == 0) {
      result.loss = value / rows;
    } else if (name == "lr") {
      result.lr = value;
    } else {
      result.metrics.emplace_back(name, value / rows);
    }
  }
  return result;
}

EvalResult Session::evaluate(const Split& split, const std::function<bool(int64_t, int64_t)>& keep_going) {
  const double scalars[GRADC_SCALAR_COUNT] = {0, 0, 1, 1};
  const gradc_entry_info& entry = program_.eval;
  BatchReader reader(split, entry, std::min(program_.batch, split.count));
  std::vector<double> sums(static_cast<size_t>(entry.output_count), 0.0);
  EvalResult result;
  for (int64_t index = 0; index < reader.batches(); ++index) {
    if (keep_going && !keep_going(result.examples, split.count)) {
      result.complete = false;
      break;
    }
    const Batch batch = reader.batch(index);
    const bool finite = call(entry, eval_, &reader, index, batch, scalars, 0, 0) == 0;
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += eval_.value(entry, i);
    if (!finite) sums[0] = std::numeric_limits<double>::quiet_NaN();
    result.examples += batch.rows;
  }
  const auto examples = static_cast<double>(std::max<int64_t>(result.examples, 1));
  result.loss = sums[0] / examples;
  for (size_t i = 1; i < sums.size(); ++i)
    result.metrics.emplace_back(entry.outputs[i].name, sums[i] / examples);
  return result;
}

EvalResult Session::evaluate(const Batch& batch) {
  GRADC_CHECK(batch.rows >= 1 && batch.rows <= program_.batch, "{} rows", batch.rows);
  const double scalars[GRADC_SCALAR_COUNT] = {0, 0, 1, 1};
  const gradc_entry_info& entry = program_.eval;
  const bool finite = call(entry, eval_, nullptr, 0, batch, scalars, 0, 0) == 0;
  const auto rows = static_cast<double>(batch.rows);
  EvalResult result;
  result.examples = batch.rows;
  result.loss = finite ? eval_.value(entry, 0) / rows : std::numeric_limits<double>::quiet_NaN();
  for (size_t i = 1; i < static_cast<size_t>(entry.output_count); ++i)
    result.metrics.emplace_back(entry.outputs[i].name, eval_.value(entry, i) / rows);
  return result;
}

const gradc_output& Session::predict_output() const {
  if (!program_.predict.run || program_.predict.output_count < 1)
    throw RunError(
        kExitModelError,
        fmt::format(
            "{} says nothing to predict; add a line like `predict softmax(logits)` to its train block",
            program_.name ? program_.name : "the model"));
  return program_.predict.outputs[0];
}

const void* Session::predict(BatchReader& reader, int64_t index) {
  predict_output();
  const double scalars[GRADC_SCALAR_COUNT] = {0, 0, 1, 1};
  call(program_.predict, predict_, &reader, index, reader.batch(index), scalars, 0, 0);
  return predict_.pointers[0];
}

const void* Session::predict(const Batch& batch) {
  predict_output();
  GRADC_CHECK(batch.rows >= 1 && batch.rows <= program_.batch, "{} rows", batch.rows);
  const double scalars[GRADC_SCALAR_COUNT] = {0, 0, 1, 1};
  call(program_.predict, predict_, nullptr, 0, batch, scalars, 0, 0);
  return predict_.pointers[0];
}

const gradc_symbol* Session::find(const std::string& name) const {
  for (int32_t i = 0; i < program_.symbol_count; ++i)
    if (name == program_.symbols[i].name) return &program_.symbols[i];
  return nullptr;
}

}  // namespace gradc::runtime
