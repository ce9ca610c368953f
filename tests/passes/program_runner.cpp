#include "tests/passes/program_runner.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <random>
#include <utility>

#include "codegen/jit.h"
#include "ir/loop/interpret.h"
#include "passes/tensor/passes.h"
#include "runtime/abi.h"
#include "runtime/threads.h"
#include "support/check.h"

namespace gradc::testing {

namespace {

using interpreter::Tensor;

int64_t count(const Type& t, int64_t rows) { return t.elements() * (t.batched ? rows * t.rows : 1); }

void write(uint8_t* to, const Tensor& t) {
  const int64_t n = static_cast<int64_t>(t.data.size());
  for (int64_t i = 0; i < n; ++i) {
    const double v = t.data.data()[i];
    const auto f = static_cast<float>(v);
    const auto k = static_cast<int32_t>(v);
    switch (t.type.dtype) {
      case DType::f32: std::memcpy(to + 4 * i, &f, 4); break;
      case DType::f64: std::memcpy(to + 8 * i, &v, 8); break;
      case DType::i32: std::memcpy(to + 4 * i, &k, 4); break;
      case DType::boolean: to[i] = v != 0; break;
    }
  }
}

double element(const uint8_t* from, DType type, int64_t i) {
  float f;
  double d;
  int32_t k;
  switch (type) {
    case DType::f32: std::memcpy(&f, from + 4 * i, 4); return f;
    case DType::f64: std::memcpy(&d, from + 8 * i, 8); return d;
    case DType::i32: std::memcpy(&k, from + 4 * i, 4); return k;
    case DType::boolean: return from[i] != 0;
  }
  return 0;
}

Tensor read(const uint8_t* from, const Type& type, int64_t rows) {
  Tensor t = interpreter::make_tensor(type, rows * type.rows);
  for (int64_t i = 0; i < count(type, rows); ++i) t.data.data()[i] = element(from, type.dtype, i);
  return t;
}

Tensor read_panels(const uint8_t* from, const passes::StoredValue& v, int64_t rows, int64_t panel) {
  const Type& type = v.op->type;
  rows *= type.rows;
  Tensor t = interpreter::make_tensor(type, rows);
  const std::vector<double> values =
      passes::rows_of_panels(v, rows, panel, [&](int64_t i) { return element(from, type.dtype, i); });
  std::copy(values.begin(), values.end(), t.data.data());
  return t;
}

int64_t width_of(DType type) { return type == DType::f64 ? 8 : type == DType::boolean ? 1 : 4; }

// Memory between two pages that may not be touched: what is read or written after it traps where it ends at
// its page's end, and what is left of its pages is known to be written by its value.
class Block {
 public:
  // `alignment` of its first byte; the block ends at the last place that allows it.
  Block(int64_t size, size_t alignment) : size_(static_cast<size_t>(size)) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    data_ = (size_ + page - 1) / page * page;
    all_ = data_ + 2 * page;
    void* p = mmap(nullptr, all_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    GRADC_CHECK(p != MAP_FAILED, "no memory for a block of {} bytes", size);
    mapping_ = static_cast<uint8_t*>(p);
    first_ = mapping_ + page;
    GRADC_CHECK(data_ == 0 || mprotect(first_, data_, PROT_READ | PROT_WRITE) == 0, "mprotect");
    base = first_ + (data_ - size_) / alignment * alignment;
    std::memset(first_, kFill, data_);
    std::memset(base, 0, size_);
  }
  Block(Block&& other) noexcept
      : base(other.base),
        size_(other.size_),
        data_(other.data_),
        all_(other.all_),
        first_(other.first_),
        mapping_(std::exchange(other.mapping_, nullptr)) {}
  Block& operator=(Block&&) = delete;
  ~Block() {
    if (mapping_) munmap(mapping_, all_);
  }
  bool intact() const {
    for (const uint8_t* p = first_; p < first_ + data_; ++p)
      if ((p < base || p >= base + size_) && *p != kFill) return false;
    return true;
  }
  uint8_t* base;

 private:
  static constexpr uint8_t kFill = 0xA5;
  size_t size_, data_ = 0, all_ = 0;
  uint8_t *first_ = nullptr, *mapping_ = nullptr;
};

}  // namespace

namespace {

// One program with its memory, which is allocated for each run.
class Runner {
 public:
  Runner(const Module& module, const std::string& name, const interpreter::RunInput& input,
         const RunnerOptions& o)
      : module_(module), function_(*module.function(name)), input_(input), options_(o) {
    passes::PipelineOptions options;
    options.batch = o.batch ? o.batch : input.context.rows;
    options.machine.lanes = o.vector_width;
    options.keep_all_values = o.keep_all;
    options.strict_math = o.strict_math;
    options.machine.l2 = o.l2;
    options.disable = o.disable;
    options.tamper_loops = o.tamper;
    if (o.engine == Engine::native) {
      const codegen::Target target = codegen::find_target(o.target);
      options.machine = passes::machine_of(target.cpu, target.vector_width, target.registers);
      options.machine.l2 = o.l2;
    }
    lowered_ = passes::lower(module, options);
    program_ = &lowered_.programs.at(name);
    if (o.engine == Engine::native) {
      jit_.emplace(std::vector<const loop::Program*>{&program_->program}, codegen::find_target(o.target));
      entry_ = jit_->entry(name);
    }
  }

  RunnerResult run(int threads) const {
    const int64_t rows = input_.context.rows;
    Block parameters(lowered_.parameter_bytes, 64), arena(working_bytes(program_->program, threads), 64);
    for (const auto& [symbol, t] : input_.symbols)
      write(parameters.base + lowered_.symbol_offsets.at(symbol), t);
    std::vector<Block> inputs, outputs;  // at their element's alignment: all that is promised of them
    std::vector<const void*> input_pointers;
    std::vector<void*> output_pointers;
    for (const std::string& n : program_->inputs) {
      const Tensor& t = input_.inputs.at(n);
      const int64_t width = width_of(t.type.dtype);
      inputs.emplace_back(count(t.type, rows) * width, static_cast<size_t>(width));
      write(inputs.back().base, t);
      input_pointers.push_back(inputs.back().base);
    }
    for (const Output& out : function_.outputs) {
      const int64_t width = width_of(out.value->type.dtype);
      outputs.emplace_back(count(out.value->type, rows) * width, static_cast<size_t>(width));
      output_pointers.push_back(outputs.back().base);
    }
    double scalars[GRADC_SCALAR_COUNT] = GRADC_SCALAR_DEFAULTS;
    const char* names[GRADC_SCALAR_COUNT] = GRADC_SCALAR_NAMES;
    for (int i = 0; i < GRADC_SCALAR_COUNT; ++i)
      if (input_.inputs.count(names[i])) scalars[i] = *input_.inputs.at(names[i]).data.data();
    gradc_step_args args{};
    args.arena = arena.base;
    args.parameters = parameters.base;
    args.inputs = input_pointers.data();
    args.outputs = output_pointers.data();
    args.scalars = scalars;
    args.rows = rows;
    args.row_offset = input_.context.row_offset;
    args.seed = input_.context.seed;
    args.micro_step = input_.context.micro_step;

    RunnerResult result;
    result.status = execute(args, threads);
    if (!arena.intact() || !parameters.intact())
      throw std::runtime_error("memory beside the arena or the parameters was written");
    for (const std::vector<Block>* blocks : {&inputs, &outputs})
      for (const Block& b : *blocks)
        if (!b.intact()) throw std::runtime_error("memory beside an input or output was written");
    for (size_t i = 0; i < function_.outputs.size(); ++i)
      result.outputs[function_.outputs[i].name] =
          read(outputs[i].base, function_.outputs[i].value->type, rows);
    for (const Symbol& s : module_.symbols)
      result.symbols[s.name] = read(parameters.base + lowered_.symbol_offsets.at(s.name), s.type, 1);
    if (options_.keep_all)
      for (const passes::StoredValue& v : program_->stored) {
        const loop::Allocation& a = program_->program.allocations[static_cast<size_t>(v.allocation)];
        const uint8_t* from = arena.base + a.offset;
        result.stored[v.op] = v.op->type.batched ? read_panels(from, v, rows, program_->program.panel)
                                                 : read(from, v.op->type, 1);
      }
    return result;
  }

 private:
  int execute(gradc_step_args& args, int threads) const {
    if (!entry_)
      return loop::interpret(program_->program,
                             {args.arena, args.parameters, args.inputs, args.outputs, args.scalars, args.rows,
                              args.row_offset, args.seed, args.micro_step},
                             {.threads = threads, .reversed = options_.reversed});
    runtime::Team team(threads);
    args.barrier = [](void* t) { static_cast<runtime::Team*>(t)->barrier(); };
    args.team = &team;
    std::vector<int32_t> status(static_cast<size_t>(threads), 0);
    team.run([&](int thread, int of) { status[static_cast<size_t>(thread)] = entry_(&args, thread, of); });
    return status[0];
  }

  const Module& module_;
  const Function& function_;
  const interpreter::RunInput& input_;
  const RunnerOptions& options_;
  passes::Lowered lowered_;
  const passes::LoweredProgram* program_ = nullptr;
  std::optional<codegen::Jit> jit_;
  gradc_entry entry_ = nullptr;
};

}  // namespace

RunnerResult run_lowered(const Module& module, const std::string& name, const interpreter::RunInput& input,
                         const RunnerOptions& o) {
  return Runner(module, name, input, o).run(o.threads);
}

std::vector<RunnerResult> run_lowered(const Module& module, const std::string& name,
                                      const interpreter::RunInput& input, const RunnerOptions& o,
                                      const std::vector<int>& threads) {
  const Runner runner(module, name, input, o);
  std::vector<RunnerResult> results;
  for (const int t : threads) results.push_back(runner.run(t));
  return results;
}

std::unique_ptr<Module> fused_module(const std::string& text) {
  ModuleParseResult parsed = parse_module(text);
  GRADC_CHECK(parsed.module, "{}", parsed.error);
  for (const auto& f : parsed.module->functions) {
    passes::assign_layout(*f);
    passes::fuse_elementwise(*f);
    f->renumber();
  }
  return std::move(parsed.module);
}

interpreter::RunInput uniform_input(const Module& module, const std::string& name, const Type& type,
                                    int64_t rows, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  const auto made = [&](const Type& t, int64_t n) {
    interpreter::Tensor tensor = interpreter::make_tensor(t, n);
    for (double& v : tensor.data) v = static_cast<float>(uniform(random));
    return tensor;
  };
  interpreter::RunInput input;
  input.context.rows = rows;
  input.inputs[name] = made(type, rows);
  for (const Symbol& s : module.symbols) input.symbols[s.name] = made(s.type, 1);
  return input;
}

}  // namespace gradc::testing
