// Calls a compiled program once and reads the values that it stored as double-precision tensors; knows the ABI's memory
// layouts, no operator.
#include "cli/check/native_call.h"

#include <algorithm>
#include <cstring>

#include "runtime/execution/session.h"
#include "runtime/panels.h"
#include "support/check.h"

namespace gradc::cli {

using interpreter::Tensor;

namespace {

Type type_of(int32_t dtype, bool batched, int32_t rank, const int64_t* shape) {
  return {static_cast<DType>(dtype), batched, Shape(shape, shape + rank)};
}

int64_t count(const Type& type, int64_t rows) { return type.elements() * (type.batched ? rows : 1); }

DType dtype_of(loop::Scalar scalar) {
  switch (scalar) {
    case loop::Scalar::f32: return DType::f32;
    case loop::Scalar::f64: return DType::f64;
    case loop::Scalar::i32: return DType::i32;
    default: return DType::boolean;
  }
}

Tensor scalar(DType dtype, double value) {
  Tensor t = interpreter::make_tensor({dtype, false, {}}, 1);
  t.data.data()[0] = value;
  return t;
}

Tensors inputs_of(const Function& f, const CallRequest& request, const Tensors& more) {
  static const char* const scalars[GRADC_SCALAR_COUNT] = GRADC_SCALAR_NAMES;
  Tensors result;
  for (const auto& input : f.inputs) {
    const std::string& name = input->symbol();
    if (const auto it = more.find(name); it != more.end()) {
      result[name] = it->second;
      continue;
    }
    if (const auto it = request.inputs.find(name); it != request.inputs.end() && input->type.batched) {
      result[name] = it->second;
      continue;
    }
    for (int i = 0; i < GRADC_SCALAR_COUNT; ++i)
      if (name == scalars[i]) result[name] = scalar(DType::f64, request.scalars[i]);
    GRADC_CHECK(result.count(name), "no value for the input '{}' of @{}", name, f.name);
  }
  return result;
}

}  // namespace

CallRequest update_call(CallRequest request) {
  request.inputs.clear();
  request.rows = 1;
  return request;
}

interpreter::RunInput interpreter_input(const Function& f, const CallRequest& request, const Tensors& symbols,
                                        const Tensors& more) {
  interpreter::RunInput input;
  input.inputs = inputs_of(f, request, more);
  input.symbols = symbols;
  input.context.rows = request.rows;
  input.context.row_offset = request.row_offset;
  input.context.seed = request.seed;
  input.context.micro_step = request.micro_step;
  return input;
}

int64_t bytes_of(DType dtype) {
  switch (dtype) {
    case DType::f64: return 8;
    case DType::boolean: return 1;
    default: return 4;
  }
}

NativeCaller::NativeCaller(const CompiledModel& compiled)
    : compiled_(compiled),
      parameters_(static_cast<uint64_t>(std::max<int64_t>(compiled.program().parameter_bytes, 64)),
                  "parameters") {
  set_engine({}, 1);
}

void NativeCaller::set_engine(Engine engine, int threads) {
  engine_ = std::move(engine);
  int64_t arena = 64;
  const gradc_program& p = compiled_.program();
  for (const gradc_entry_info* e : {&p.init, &p.train_step, &p.update, &p.eval, &p.predict})
    arena = std::max(arena, runtime::working_bytes(*e, threads));
  arena_ = runtime::AlignedBlock(static_cast<uint64_t>(arena), "arena");
}

int32_t NativeCaller::call(const std::string& name, const CallRequest& request) {
  const gradc_program& p = compiled_.program();
  const gradc_entry_info& info = runtime::entry_called(p, name);
  GRADC_CHECK(info.run, "the model has no program '{}'", name);
  GRADC_CHECK(
      name != "train_step" || request.row_offset == 0 || (p.pieces > 1 && request.row_offset % p.batch == 0),
      "a step's rows begin at {}", request.row_offset);
  rows_ = request.rows;
  std::memset(arena_.data(), 0xff, arena_.size());

  std::vector<std::vector<uint8_t>> memory;
  std::vector<const void*> inputs;
  for (int i = 0; i < info.input_count; ++i) {
    const gradc_input& input = info.inputs[i];
    const Type type = type_of(input.dtype, true, input.rank, input.shape);
    const auto it = request.inputs.find(input.name);
    GRADC_CHECK(it != request.inputs.end(), "no input '{}'", input.name);
    const int64_t elements = count(type, request.rows);
    GRADC_CHECK(static_cast<int64_t>(it->second.data.size()) == elements,
                "input '{}' has {} elements, not {}", input.name, it->second.data.size(), elements);
    memory.emplace_back(static_cast<size_t>(elements * bytes_of(type.dtype)));
    to_memory(it->second.data.data(), type.dtype, elements, memory.back().data());
    inputs.push_back(memory.back().data());
  }
  std::vector<std::vector<uint8_t>> results;
  std::vector<void*> outputs;
  for (int i = 0; i < info.output_count; ++i) {
    const gradc_output& output = info.outputs[i];
    const Type type = type_of(output.dtype, output.batched != 0, output.rank, output.shape);
    results.emplace_back(static_cast<size_t>(count(type, request.rows) * bytes_of(type.dtype)),
                         uint8_t{0xff});
    outputs.push_back(results.back().data());
  }
  gradc_step_args args{};
  args.arena = arena_.data();
  args.parameters = parameters_.data();
  args.inputs = inputs.data();
  args.outputs = outputs.data();
  args.scalars = request.scalars;
  args.rows = request.rows;
  args.row_offset = request.row_offset;
  args.seed = request.seed;
  args.micro_step = request.micro_step;
  const int32_t status = engine_ ? engine_(name, args) : runtime::code_of(info)(&args, 0, 1);

  outputs_.clear();
  for (int i = 0; i < info.output_count; ++i) {
    const gradc_output& output = info.outputs[i];
    const Type type = type_of(output.dtype, output.batched != 0, output.rank, output.shape);
    Tensor tensor = interpreter::make_tensor(type, request.rows);
    from_memory(results[static_cast<size_t>(i)].data(), type.dtype, count(type, request.rows),
                tensor.data.data());
    outputs_[output.name] = std::move(tensor);
  }
  return status;
}

bool NativeCaller::stored(const passes::LoweredProgram& program, const passes::StoredValue& value,
                          Tensor& result) const {
  const loop::Allocation& a = program.program.allocations[static_cast<size_t>(value.allocation)];
  const uint8_t* base;
  if (a.space == loop::Space::arena) {
    base = arena_.data() + a.offset;
  } else if (a.space == loop::Space::parameter) {
    base = parameters_.data() + a.offset;
  } else {
    return false;
  }
  const Type& type = value.op->type;
  const DType dtype = dtype_of(a.scalar);
  const int64_t rows = rows_ * type.rows;
  result = interpreter::make_tensor(type, rows);
  if (!type.batched) {
    from_memory(base, dtype, type.elements(), result.data.data());
    return true;
  }
  const int64_t panel = program.program.panel, panels = (rows + panel - 1) / panel;
  std::vector<double> flat(static_cast<size_t>(panels * type.elements() * panel));
  from_memory(base, dtype, static_cast<int64_t>(flat.size()), flat.data());
  const std::vector<double> values =
      passes::rows_of_panels(value, rows, panel, [&](int64_t i) { return flat[static_cast<size_t>(i)]; });
  std::copy(values.begin(), values.end(), result.data.data());
  return true;
}

const gradc_symbol& NativeCaller::find(const std::string& name) const {
  const gradc_program& p = compiled_.program();
  for (int i = 0; i < p.symbol_count; ++i)
    if (name == p.symbols[i].name) return p.symbols[i];
  internal_error(__FILE__, __LINE__, "no symbol '" + name + "'");
}

Tensor NativeCaller::symbol(const std::string& name) const {
  const gradc_symbol& s = find(name);
  const Type type = type_of(s.dtype, false, s.rank, s.shape);
  Tensor result = interpreter::make_tensor(type, 1);
  from_memory(parameters_.data() + s.offset, type.dtype, type.elements(), result.data.data());
  return result;
}

Tensors NativeCaller::symbols() const {
  Tensors result;
  const gradc_program& p = compiled_.program();
  for (int i = 0; i < p.symbol_count; ++i) result[p.symbols[i].name] = symbol(p.symbols[i].name);
  return result;
}

void NativeCaller::set_symbol(const std::string& name, const Tensor& value) {
  const gradc_symbol& s = find(name);
  const Type type = type_of(s.dtype, false, s.rank, s.shape);
  GRADC_CHECK(static_cast<int64_t>(value.data.size()) == type.elements(), "'{}' has {} elements", name,
              value.data.size());
  to_memory(value.data.data(), type.dtype, type.elements(), parameters_.data() + s.offset);
}

}  // namespace gradc::cli
