#include "tests/passes/program_runner.h"

#include <cstring>
#include <random>
#include <thread>

#include "codegen/jit.h"
#include "ir/loop/interpret.h"
#include "passes/passes.h"
#include "runtime/abi.h"
#include "runtime/threads.h"
#include "support/check.h"

namespace gradc::testing {

namespace {

using interpreter::Tensor;

int64_t count(const Type& t, int64_t rows) { return t.elements() * (t.batched ? rows : 1); }

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
  Tensor t = interpreter::make_tensor(type, rows);
  for (int64_t i = 0; i < count(type, rows); ++i) t.data.data()[i] = element(from, type.dtype, i);
  return t;
}

Tensor read_panels(const uint8_t* from, const passes::StoredValue& v, int64_t rows, int64_t panel) {
  const Type& type = v.op->type;
  Tensor t = interpreter::make_tensor(type, rows);
  const std::vector<double> values =
      passes::rows_of_panels(v, rows, panel, [&](int64_t i) { return element(from, type.dtype, i); });
  std::copy(values.begin(), values.end(), t.data.data());
  return t;
}

struct Block {
  explicit Block(int64_t size) : bytes(static_cast<size_t>(size) + 64 + kGuard, 0xA5) {
    base = bytes.data();
    while (reinterpret_cast<uintptr_t>(base) % 64) ++base;
    std::memset(base, 0, static_cast<size_t>(size));
    end = base + size;
  }
  bool intact() const {
    for (const uint8_t* p = end; p < bytes.data() + bytes.size(); ++p)
      if (*p != 0xA5) return false;
    return true;
  }
  static constexpr size_t kGuard = 256;
  std::vector<uint8_t> bytes;
  uint8_t *base, *end;
};

}  // namespace

RunnerResult run_lowered(const Module& module, const std::string& name, const interpreter::RunInput& input,
                         const RunnerOptions& o) {
  const int64_t rows = input.context.rows;
  passes::PipelineOptions options;
  options.batch = o.batch ? o.batch : rows;
  options.vector_width = o.vector_width;
  options.keep_all_values = o.keep_all;
  options.strict_math = o.strict_math;
  options.band_bytes = o.band_bytes;
  if (o.engine == Engine::native) {
    const codegen::Target target = codegen::find_target(o.target);
    options.vector_width = target.vector_width;
    options.registers = target.registers;
  }
  const passes::Lowered lowered = passes::lower(module, options);
  const passes::LoweredProgram& program = lowered.programs.at(name);
  const Function* f = module.function(name);

  Block parameters(lowered.parameter_bytes), arena(working_bytes(program.program, o.threads));
  for (const auto& [symbol, t] : input.symbols) write(parameters.base + lowered.symbol_offsets.at(symbol), t);
  std::vector<Block> inputs, outputs;
  std::vector<const void*> input_pointers;
  std::vector<void*> output_pointers;
  for (const std::string& n : program.inputs) {
    const Tensor& t = input.inputs.at(n);
    inputs.emplace_back(count(t.type, rows) * 8);
    write(inputs.back().base, t);
    input_pointers.push_back(inputs.back().base);
  }
  for (const Output& out : f->outputs) {
    const int width = out.value->type.dtype == DType::f64       ? 8
                      : out.value->type.dtype == DType::boolean ? 1
                                                                : 4;
    outputs.emplace_back(count(out.value->type, rows) * width);
    output_pointers.push_back(outputs.back().base);
  }
  double scalars[GRADC_SCALAR_COUNT] = {0, 0, 1, 1, 0, 1};
  const char* names[GRADC_SCALAR_COUNT] = GRADC_SCALAR_NAMES;
  for (int i = 0; i < GRADC_SCALAR_COUNT; ++i)
    if (input.inputs.count(names[i])) scalars[i] = *input.inputs.at(names[i]).data.data();
  gradc_step_args args{};
  args.arena = arena.base;
  args.parameters = parameters.base;
  args.inputs = input_pointers.data();
  args.outputs = output_pointers.data();
  args.scalars = scalars;
  args.rows = rows;
  args.row_offset = input.context.row_offset;
  args.seed = input.context.seed;
  args.micro_step = input.context.micro_step;

  RunnerResult result;
  if (o.engine == Engine::loops) {
    result.status = loop::interpret(program.program,
                                    {args.arena, args.parameters, args.inputs, args.outputs, args.scalars,
                                     args.rows, args.row_offset, args.seed, args.micro_step},
                                    {.threads = o.threads, .reversed = o.reversed});
  } else {
    codegen::Jit jit({&program.program}, codegen::find_target(o.target));
    const gradc_entry entry = jit.entry(name);
    runtime::Team team(o.threads);
    args.barrier = [](void* t) { static_cast<runtime::Team*>(t)->barrier(); };
    args.team = &team;
    std::vector<int32_t> status(static_cast<size_t>(o.threads), 0);
    team.run([&](int thread, int threads) {
      status[static_cast<size_t>(thread)] = entry(&args, thread, threads);
    });
    result.status = status[0];
  }
  if (!arena.intact() || !parameters.intact())
    throw std::runtime_error("memory past the arena or the parameters was written");
  for (const Block& b : outputs)
    if (!b.intact()) throw std::runtime_error("memory past an output was written");
  for (size_t i = 0; i < f->outputs.size(); ++i)
    result.outputs[f->outputs[i].name] = read(outputs[i].base, f->outputs[i].value->type, rows);
  for (const Symbol& s : module.symbols)
    result.symbols[s.name] = read(parameters.base + lowered.symbol_offsets.at(s.name), s.type, 1);
  if (o.keep_all)
    for (const passes::StoredValue& v : program.stored) {
      const loop::Allocation& a = program.program.allocations[static_cast<size_t>(v.allocation)];
      const uint8_t* from = arena.base + a.offset;
      result.stored[v.op] =
          v.op->type.batched ? read_panels(from, v, rows, program.program.panel) : read(from, v.op->type, 1);
    }
  return result;
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
