// Saves, loads and hashes weights.
#include "runtime/checkpoint.h"

#include <fmt/format.h>

#include <cstring>
#include <map>
#include <set>

#include "runtime/dataset.h"
#include "runtime/safetensors.h"
#include "runtime/sha256.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

constexpr size_t kListed = 10;

const char* file_dtype(int32_t dtype) {
  switch (dtype) {
    case GRADC_F32: return "F32";
    case GRADC_F64: return "F64";
    case GRADC_I32: return "I32";
    default: return "BOOL";
  }
}

// Without `data` the view says what a file must hold.
TensorView view_of(const gradc_symbol& symbol, const uint8_t* data = nullptr) {
  return {file_dtype(symbol.dtype),
          {symbol.shape, symbol.shape + symbol.rank},
          data,
          static_cast<uint64_t>(element_count(symbol.rank, symbol.shape) * dtype_bytes(symbol.dtype))};
}

std::map<std::string, TensorView> views(const Session& session, bool slots) {
  std::map<std::string, TensorView> result;
  const gradc_program& program = session.program();
  for (int32_t i = 0; i < program.symbol_count; ++i)
    if (slots || program.symbols[i].kind != GRADC_SLOT)
      result[program.symbols[i].name] = view_of(program.symbols[i], session.data(program.symbols[i]));
  return result;
}

void add_data_arrays(const Session& session, std::map<std::string, TensorView>& tensors) {
  for (const auto& [name, array] : session.data_arrays)
    tensors[name] = {"F32", array.shape, reinterpret_cast<const uint8_t*>(array.values.data()),
                     array.values.size() * sizeof(float)};
}

// Takes the arrays of the data out of a file: what is called so and is no symbol of the model.
DataArrays take_data_arrays(const std::set<std::string>& symbols, TensorFile& file) {
  DataArrays result;
  for (auto it = file.tensors.begin(); it != file.tensors.end();) {
    const auto& [name, view] = *it;
    if (name.rfind(kDataPrefix, 0) != 0 || view.dtype != "F32" || symbols.count(name)) {
      ++it;
      continue;
    }
    FloatArray& array = result[name];
    array.shape = view.shape;
    array.values.resize(view.bytes / sizeof(float));
    if (view.bytes != 0) std::memcpy(array.values.data(), view.data, view.bytes);
    it = file.tensors.erase(it);
  }
  return result;
}

// Removes what a program without training has no place for, and throws when the rest does not fit. The arrays
// of the data are taken out and returned.
DataArrays check(const gradc_program& program, const std::string& path, TensorFile& file) {
  std::set<std::string> names;
  for (int32_t i = 0; i < program.symbol_count; ++i) names.insert(program.symbols[i].name);
  DataArrays data_arrays = take_data_arrays(names, file);
  if (program.train_step.output_count == 0)  // an entry that is not there has no outputs
    std::erase_if(file.tensors, [&](const auto& tensor) { return !names.count(tensor.first); });
  std::vector<std::string> problems, known, unknown, unused_known;
  for (const auto& [name, view] : file.tensors)
    if (!names.count(name)) unknown.push_back(name);
  for (int32_t i = 0; i < program.symbol_count; ++i) known.push_back(program.symbols[i].name);
  for (int32_t i = 0; i < program.symbol_count; ++i) {
    const gradc_symbol& symbol = program.symbols[i];
    const auto found = file.tensors.find(symbol.name);
    const TensorView expected = view_of(symbol);
    if (found == file.tensors.end()) {
      if (symbol.kind == GRADC_SLOT) continue;
      unused_known.push_back(symbol.name);
      const std::string nearest = nearest_name(symbol.name, unknown);
      problems.push_back(fmt::format("{}: missing; expected {}{}{}", symbol.name, expected.dtype,
                                     shape_text(expected.shape),
                                     nearest.empty() ? "" : fmt::format(" (the file has `{}`)", nearest)));
    } else if (found->second.dtype != expected.dtype || found->second.shape != expected.shape) {
      problems.push_back(fmt::format("{}: expected {}{}, found {}{}", symbol.name, expected.dtype,
                                     shape_text(expected.shape), found->second.dtype,
                                     shape_text(found->second.shape)));
    }
  }
  for (const std::string& name : unknown) {
    const std::string nearest = nearest_name(name, unused_known);
    problems.push_back(fmt::format("{}: the model has no such parameter{}", name,
                                   nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest)));
  }
  if (!problems.empty()) {
    std::string message =
        fmt::format("{}: the weights do not fit {}:", path, program.name ? program.name : "the model");
    for (size_t i = 0; i < std::min(problems.size(), kListed); ++i) message += "\n  " + problems[i];
    if (problems.size() > kListed) message += fmt::format("\n  and {} more", problems.size() - kListed);
    throw RunError(kExitDataError, message);
  }
  return data_arrays;
}

void load(Session& session, const std::string& path, TensorFile file) {
  session.data_arrays = check(session.program(), path, file);
  for (const auto& [name, view] : file.tensors)
    std::memcpy(session.data(*session.find(name)), view.data, view.bytes);
}

}  // namespace

void save_checkpoint(const Session& session, const std::string& path, const CheckpointInfo& info) {
  const gradc_program& program = session.program();
  const auto text = [](const char* value) { return std::string(value ? value : ""); };
  std::map<std::string, TensorView> tensors = views(session, info.slots);
  add_data_arrays(session, tensors);
  write_safetensors(path, tensors,
                    {{"gradc_version", text(program.gradc_version)},
                     {"target", text(program.target)},
                     {"name", text(program.name)},
                     {"source", text(program.source)},
                     {"seed", std::to_string(info.seed)},
                     {"step", std::to_string(info.step)}});
}

void load_checkpoint(Session& session, const std::string& path) {
  load(session, path, read_safetensors(path));
}

void check_checkpoint(const gradc_program& program, const std::string& path) {
  TensorFile file = read_safetensors(path);
  check(program, path, file);
}

void load_checkpoint(Session& session, const std::string& name, std::vector<uint8_t> bytes) {
  load(session, name, parse_safetensors(name, std::move(bytes)));
}

std::string weights_sha256(const Session& session) {
  Sha256 hash;
  const auto number = [&](int64_t value) { hash.add(&value, sizeof value); };
  for (const auto& [name, view] : views(session, false)) {
    hash.add(name.c_str(), name.size() + 1);
    number(static_cast<int64_t>(view.shape.size()));
    for (int64_t extent : view.shape) number(extent);
    hash.add(view.data, view.bytes);
  }
  return hash.hex();
}

}  // namespace gradc::runtime
