// Allocates a program's memory and calls its entries on the team.
#include "runtime/execution/session.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>

#include "runtime/panels.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

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
      GRADC_CHECK(entry->outputs[i].batched || entry->outputs[i].rank == 0, "output {} is no scalar",
                  entry->outputs[i].name);
  }
}

bool is_sum(const gradc_output& output) { return !output.batched && output.dtype != GRADC_F64; }

int team_size(const gradc_program& program, int threads) {
  int useful = 1;
  for (const auto* entry :
       {&program.init, &program.train_step, &program.update, &program.eval, &program.predict})
    if (entry->run) useful = std::max(useful, static_cast<int>(entry->max_threads));
  return std::min(choose_thread_count(threads), useful);
}

// The number of a team's threads that run the entry.
int used_threads(const gradc_entry_info& entry, int threads) {
  return std::clamp(static_cast<int>(entry.max_threads), 1, threads);
}

uint64_t arena_bytes(const gradc_program& program, int threads) {
  int64_t bytes = 0;
  for (const auto* entry :
       {&program.init, &program.train_step, &program.update, &program.eval, &program.predict})
    if (entry->run) bytes = std::max(bytes, working_bytes(*entry, used_threads(*entry, threads)));
  return static_cast<uint64_t>(bytes);
}

}  // namespace

const gradc_entry_info& entry_called(const gradc_program& program, std::string_view name) {
  if (name == "init") return program.init;
  if (name == "train_step") return program.train_step;
  if (name == "update") return program.update;
  if (name == "eval") return program.eval;
  GRADC_CHECK(name == "predict", "no entry is called {}", name);
  return program.predict;
}

gradc_entry code_of(const gradc_entry_info& entry) {
  return entry.late ? entry.late(entry.owner) : entry.run;
}

double metric_of(const Metrics& metrics, const std::string& name) {
  for (const auto& [key, value] : metrics)
    if (key == name) return value;
  return std::numeric_limits<double>::quiet_NaN();
}

void Sums::expect(const gradc_entry_info& entry) {
  GRADC_CHECK(!entry_ || entry_ == &entry, "sums of two entries");
  entry_ = &entry;
  values_.resize(static_cast<size_t>(entry.output_count));
  counts_.resize(values_.size());
}

void Sums::add(const Sums& other) {
  if (!other.entry_) return;
  expect(*other.entry_);
  rows_ += other.rows_;
  for (size_t i = 0; i < values_.size(); ++i) {
    values_[i] += other.values_[i];
    counts_[i] += other.counts_[i];
  }
}

double Sums::mean(size_t i) const {
  const int32_t divisor = entry_->outputs[i].divisor;
  constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  if (divisor == 0) return counts_[i] == 0 ? kUnknown : values_[i] / static_cast<double>(counts_[i]);
  const auto by = static_cast<size_t>(divisor - 1);
  if (counts_[by] != counts_[i]) return kUnknown;  // it includes the weights of other rows
  return values_[by] == 0 ? 0 : values_[i] / values_[by];
}

double Sums::loss() const {
  if (rows_ == 0) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0;
  bool parts = false;
  for (size_t i = 0; i < values_.size(); ++i) {
    if (entry_->outputs[i].role != GRADC_LOSS_PART) continue;
    sum += mean(i);
    parts = true;
  }
  return parts ? sum : mean(0);
}

Metrics Sums::metrics() const {
  Metrics result;
  for (size_t i = 1; i < values_.size(); ++i)
    if (is_sum(entry_->outputs[i]) && entry_->outputs[i].role == GRADC_RESULT)
      result.emplace_back(entry_->outputs[i].name, mean(i));
  return result;
}

std::vector<double> Sums::divisors() const {
  std::vector<double> result;
  for (size_t i = 0; i < values_.size(); ++i) {
    const gradc_output& output = entry_->outputs[i];
    if (output.role != GRADC_LOSS_PART) continue;
    result.push_back(output.divisor == 0 ? static_cast<double>(rows_)
                                         : values_[static_cast<size_t>(output.divisor - 1)]);
  }
  if (result.empty()) result.push_back(static_cast<double>(rows_));
  return result;
}

void Sums::lose() { std::fill(values_.begin(), values_.end(), std::numeric_limits<double>::quiet_NaN()); }

std::vector<SavedSum> Sums::saved() const {
  std::vector<SavedSum> result;
  for (size_t i = 0; i < values_.size(); ++i)
    if (is_sum(entry_->outputs[i])) result.push_back({entry_->outputs[i].name, values_[i], counts_[i]});
  return result;
}

Sums Sums::restored(const gradc_entry_info& entry, int64_t rows, const std::vector<SavedSum>& saved) {
  Sums sums;
  sums.expect(entry);
  sums.rows_ = rows;
  for (size_t i = 0; i < sums.values_.size(); ++i) {
    if (!is_sum(entry.outputs[i])) continue;
    for (const SavedSum& s : saved)
      if (s.name == entry.outputs[i].name) {
        sums.values_[i] = s.sum;
        sums.counts_[i] = s.rows;
      }
  }
  return sums;
}

CallPosition call_position(const gradc_program& program, int64_t index) {
  const int64_t pieces = std::max<int64_t>(program.pieces, 1);
  return {index / pieces, index % pieces * program.batch};
}

int64_t batches_of(const gradc_program& program, int64_t calls) {
  const int64_t pieces = std::max<int64_t>(program.pieces, 1);
  return (calls + pieces - 1) / pieces;
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
      update_(make_outputs(program.update)),
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
                      const Batch& batch, const double* scalars, uint64_t seed, uint64_t micro_step,
                      int64_t row_offset) {
  gradc_step_args args{};
  args.arena = arena_.data();
  args.parameters = parameters_.data();
  args.inputs = batch.inputs;
  args.outputs = outputs.pointers.data();
  args.scalars = scalars;
  args.rows = batch.rows;
  args.row_offset = row_offset;
  args.seed = seed;
  args.micro_step = micro_step;
  args.barrier = Team::barrier_of;
  args.team = &team_;
  args.profile = profile_;
  const gradc_entry run = code_of(entry);
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
        const int32_t returned = run(&args, thread, threads);
        if (thread == 0) result = returned;
      },
      used_threads(entry, team_.threads()));
  if (profile_ && after_call_) after_call_(entry);
  return result;
}

void Session::require_training() const {
  if (program_.init.run && program_.train_step.run) return;
  throw RunError(kExitUsage,
                 fmt::format("{} was compiled without training (--infer); it evaluates and predicts with "
                             "trained parameters",
                             program_.name ? program_.name : "the model"));
}

namespace {

constexpr int64_t kScanApart = int64_t{1} << 18;  // bytes from which several threads are faster than one

// An element is NaN or infinite where its exponent is all ones, to which one more carries into the sign.
template <class Bits>
Bits carried(const uint8_t* data, int64_t i, Bits exponent, Bits one) {
  Bits bits;
  std::memcpy(&bits, data + i * static_cast<int64_t>(sizeof bits), sizeof bits);
  return (bits & exponent) + one;
}

template <class Bits>
bool any_not_finite(const uint8_t* data, int64_t begin, int64_t end, Bits exponent, Bits one) {
  Bits seen = 0;
  for (int64_t i = begin; i < end; ++i) seen |= carried(data, i, exponent, one);
  return seen >> (8 * sizeof(Bits) - 1) != 0;
}

template <class Bits>
int64_t count_not_finite(const uint8_t* data, int64_t elements, Bits exponent, Bits one) {
  int64_t count = 0;
  for (int64_t i = 0; i < elements; ++i)
    count += static_cast<int64_t>(carried(data, i, exponent, one) >> (8 * sizeof(Bits) - 1));
  return count;
}

constexpr uint32_t kExponent32 = 0x7F800000u, kOne32 = 0x00800000u;
constexpr uint64_t kExponent64 = 0x7FF0000000000000u, kOne64 = 0x0010000000000000u;

bool any_not_finite(int32_t dtype, const uint8_t* data, int64_t begin, int64_t end) {
  if (dtype == GRADC_F32) return any_not_finite(data, begin, end, kExponent32, kOne32);
  return dtype == GRADC_F64 && any_not_finite(data, begin, end, kExponent64, kOne64);
}

}  // namespace

int64_t count_not_finite(int32_t dtype, const uint8_t* data, int64_t elements) {
  if (dtype == GRADC_F32) return count_not_finite(data, elements, kExponent32, kOne32);
  return dtype == GRADC_F64 ? count_not_finite(data, elements, kExponent64, kOne64) : 0;
}

std::optional<NotFiniteSymbol> find_not_finite(const gradc_program& program, const uint8_t* block,
                                               bool gradients) {
  for (int32_t i = 0; i < program.symbol_count; ++i) {
    const gradc_symbol& s = program.symbols[i];
    if ((s.kind == GRADC_GRADIENT || s.kind == GRADC_WEIGHTS) != gradients) continue;
    const int64_t count = element_count(s.rank, s.shape);
    if (const int64_t bad = count_not_finite(s.dtype, block + s.offset, count))
      return NotFiniteSymbol{&s, count, bad};
  }
  return std::nullopt;
}

std::optional<NotFiniteSymbol> Session::find_not_finite(bool gradients) {
  std::atomic<bool> found = false;
  const auto look = [&](int thread, int threads) {
    for (int32_t i = 0; i < program_.symbol_count; ++i) {
      const gradc_symbol& s = program_.symbols[i];
      if ((s.kind == GRADC_GRADIENT || s.kind == GRADC_WEIGHTS) != gradients) continue;
      const int64_t count = element_count(s.rank, s.shape);
      if (any_not_finite(s.dtype, data(s), count * thread / threads, count * (thread + 1) / threads))
        found = true;
    }
  };
  if (program_.parameter_bytes < kScanApart)
    look(0, 1);
  else
    team_.run(look);
  return found ? runtime::find_not_finite(program_, parameters_.data(), gradients) : std::nullopt;
}

void Session::initialize(uint64_t seed) {
  require_training();
  const double scalars[GRADC_SCALAR_COUNT] = GRADC_SCALAR_DEFAULTS;
  call(program_.init, init_, nullptr, 0, {nullptr, 1}, scalars, seed, 0);
}

namespace {

// The scalars of one call, in the ABI's order.
struct Scalars {
  Scalars(const StepScalars& s, int64_t micro, int64_t examples)
      : values{static_cast<double>(s.step),  static_cast<double>(s.epoch),
               static_cast<double>(s.total), s.lr_factor,
               static_cast<double>(micro),   static_cast<double>(examples)} {}
  double values[GRADC_SCALAR_COUNT];
};

StepResult no_numbers() {
  StepResult result;
  result.lr = result.grad_norm = std::numeric_limits<double>::quiet_NaN();
  return result;
}

// Sums become means.
void divide(StepResult& result) {
  result.loss = result.sums.loss();
  result.metrics = result.sums.metrics();
}

}  // namespace

void Session::add_outputs(const gradc_entry_info& entry, const Outputs& outputs, int64_t rows,
                          StepResult& result) const {
  for (size_t i = 0; i < static_cast<size_t>(entry.output_count); ++i) {
    const std::string_view name = entry.outputs[i].name;
    if (entry.outputs[i].batched || entry.outputs[i].dtype != GRADC_F64) continue;
    if (name == "lr") result.lr = outputs.value(entry, i);
    if (name == "grad_norm") result.grad_norm = outputs.value(entry, i);
  }
  if (rows > 0) result.sums.add(entry, rows, [&](size_t i) { return outputs.value(entry, i); });
}

StepResult Session::step(BatchReader& reader, int64_t first, const StepScalars& scalars, uint64_t seed,
                         int64_t count) {
  if (!accumulates()) {
    GRADC_CHECK(count == 1, "{} batches for a program that updates after each", count);
    return direct_step(&reader, first, reader.batch(first), scalars, seed);
  }
  StepResult result = gradients(reader, first, count, scalars, seed);
  if (!result.finite) return result;
  int64_t examples = 0;
  for (int64_t i = 0; i < count; ++i) examples += reader.rows(first + i);
  StepScalars last = scalars;
  last.micro_step = static_cast<int64_t>(scalars.first_key()) + batches_of(program_, count) - 1;
  update(examples, last, seed, result);
  return result;
}

StepResult Session::step(const Batch& batch, const StepScalars& scalars, uint64_t seed) {
  GRADC_CHECK(batch.rows >= 1 && batch.rows <= program_.batch * pieces(), "{} rows", batch.rows);
  if (!accumulates()) return direct_step(nullptr, 0, batch, scalars, seed);
  require_training();
  const gradc_entry_info& entry = program_.train_step;
  StepResult result = no_numbers();
  std::vector<const void*> inputs(static_cast<size_t>(entry.input_count));
  for (int64_t i = 0, first = 0; first < batch.rows; ++i, first += program_.batch) {
    for (int32_t k = 0; k < entry.input_count; ++k) {
      const gradc_input& in = entry.inputs[k];
      inputs[static_cast<size_t>(k)] = static_cast<const uint8_t*>(batch.inputs[k]) +
                                       first * element_count(in.rank, in.shape) * dtype_bytes(in.dtype);
    }
    const Batch piece{inputs.data(), std::min(program_.batch, batch.rows - first)};
    add_gradients(nullptr, i, piece, i, batch.rows, scalars, seed, result);
    if (!result.finite) return result;
  }
  divide(result);
  update(batch.rows, scalars, seed, result);
  return result;
}

StepResult Session::direct_step(BatchReader* reader, int64_t index, const Batch& batch,
                                const StepScalars& scalars, uint64_t seed) {
  require_training();
  const Scalars values(scalars, 0, batch.rows);
  StepResult result = no_numbers();
  result.finite = call(program_.train_step, train_step_, reader, index, batch, values.values, seed,
                       scalars.first_key()) == 0;
  add_outputs(program_.train_step, train_step_, batch.rows, result);
  divide(result);
  return result;
}

// Runs call `index` of an epoch, or of the caller's own batch, which is number `micro` of its update.
void Session::add_gradients(BatchReader* reader, int64_t index, const Batch& batch, int64_t micro,
                            int64_t examples, const StepScalars& scalars, uint64_t seed, StepResult& result) {
  const Scalars values(scalars, micro, examples);
  const CallPosition position = call_position(program_, index),
                     first = call_position(program_, index - micro);
  result.finite = call(program_.train_step, train_step_, reader, index, batch, values.values, seed,
                       scalars.first_key() + static_cast<uint64_t>(position.batch - first.batch),
                       position.row_offset) == 0;
  result.failed = micro;
  if (result.finite) add_outputs(program_.train_step, train_step_, batch.rows, result);
}

StepResult Session::gradients(BatchReader& reader, int64_t first, int64_t count, const StepScalars& scalars,
                              uint64_t seed) {
  require_training();
  GRADC_CHECK(accumulates() && count >= 1, "{} batches", count);
  StepResult result = no_numbers();
  int64_t examples = 0;
  for (int64_t i = 0; i < count; ++i) examples += reader.rows(first + i);
  for (int64_t i = 0; i < count; ++i) {
    add_gradients(&reader, first + i, reader.batch(first + i), i, examples, scalars, seed, result);
    if (!result.finite) return result;
  }
  divide(result);
  return result;
}

void Session::update(int64_t examples, const StepScalars& scalars, uint64_t seed, StepResult& result) {
  const Scalars values(scalars, 0, examples);
  call(program_.update, update_, nullptr, 0, {nullptr, 1}, values.values, seed, scalars.first_key());
  add_outputs(program_.update, update_, 0, result);
}

EvalResult Session::evaluate(const Split& split, const std::function<bool(int64_t, int64_t)>& keep_going) {
  const double scalars[GRADC_SCALAR_COUNT] = GRADC_SCALAR_DEFAULTS;
  const gradc_entry_info& entry = program_.eval;
  BatchReader reader(split, entry, std::min(program_.batch, split.count));
  Sums sums;
  EvalResult result;
  for (int64_t index = 0; index < reader.batches(); ++index) {
    if (keep_going && !keep_going(result.examples, split.count)) {
      result.complete = false;
      break;
    }
    const Batch batch = reader.batch(index);
    const bool finite = call(entry, eval_, &reader, index, batch, scalars, 0, 0) == 0;
    sums.add(entry, batch.rows, [&](size_t i) { return eval_.value(entry, i); });
    if (!finite) sums.lose();
    if (result.failed < 0 && !std::isfinite(sums.loss())) result.failed = index;
    result.examples += batch.rows;
  }
  result.loss = result.failed < 0 ? sums.loss() : std::numeric_limits<double>::quiet_NaN();
  result.metrics = sums.metrics();
  return result;
}

Sums Session::evaluation_sums(const Batch& batch) {
  GRADC_CHECK(batch.rows >= 1 && batch.rows <= program_.batch, "{} rows", batch.rows);
  const double scalars[GRADC_SCALAR_COUNT] = GRADC_SCALAR_DEFAULTS;
  const gradc_entry_info& entry = program_.eval;
  const bool finite = call(entry, eval_, nullptr, 0, batch, scalars, 0, 0) == 0;
  Sums sums;
  sums.add(entry, batch.rows, [&](size_t i) { return eval_.value(entry, i); });
  if (!finite) sums.lose();
  return sums;
}

const gradc_output& predict_output(const gradc_program& program) {
  if (!program.predict.run || program.predict.output_count < 1)
    throw RunError(
        kExitModelError,
        fmt::format(
            "{} says nothing to predict; add a line like `predict softmax(logits)` to its train block",
            program.name ? program.name : "the model"));
  return program.predict.outputs[0];
}

const void* Session::predict(BatchReader& reader, int64_t index, uint64_t seed, uint64_t sample) {
  predict_output();
  const double scalars[GRADC_SCALAR_COUNT] = GRADC_SCALAR_DEFAULTS;
  call(program_.predict, predict_, &reader, index, reader.batch(index), scalars, seed, sample,
       index == 0 ? 0 : index * reader.rows(0));
  return predict_.pointers[0];
}

const void* Session::predict(const Batch& batch) {
  predict_output();
  GRADC_CHECK(batch.rows >= 1 && batch.rows <= program_.batch, "{} rows", batch.rows);
  const double scalars[GRADC_SCALAR_COUNT] = GRADC_SCALAR_DEFAULTS;
  call(program_.predict, predict_, nullptr, 0, batch, scalars, 0, 0);
  return predict_.pointers[0];
}

const gradc_symbol* Session::find(const std::string& name) const {
  for (int32_t i = 0; i < program_.symbol_count; ++i)
    if (name == program_.symbols[i].name) return &program_.symbols[i];
  return nullptr;
}

}  // namespace gradc::runtime
