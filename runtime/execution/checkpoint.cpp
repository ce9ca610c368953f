// Saves, loads and hashes weights.
#include "runtime/execution/checkpoint.h"

#include <fmt/format.h>

#include <cstring>
#include <map>

#include "runtime/data/dataset.h"
#include "runtime/execution/not_finite.h"
#include "runtime/execution/safetensors.h"
#include "runtime/sha256.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/shape_text.h"

namespace gradc::runtime {
namespace {

constexpr size_t kListedParameters = 10;
const std::string kFullBatch = "full_batch/";
const std::string kBest = "best/";  // prefix of the weights to put back

const char* file_dtype(int32_t dtype) {
  switch (dtype) {
    case GRADC_F32: return "F32";
    case GRADC_F64: return "F64";
    case GRADC_I32: return "I32";
    default: return "BOOL";
  }
}

uint64_t bytes_of(const gradc_symbol& symbol) {
  return static_cast<uint64_t>(element_count(symbol.rank, symbol.shape) * dtype_bytes(symbol.dtype));
}

// Without a block the view gives the expected type and shape.
TensorView view_of(const uint8_t* block, const gradc_symbol& symbol) {
  return {file_dtype(symbol.dtype),
          {symbol.shape, symbol.shape + symbol.rank},
          block ? block + symbol.offset : nullptr,
          bytes_of(symbol)};
}

bool is_weight(const gradc_symbol& symbol) {
  return symbol.kind == GRADC_PARAMETER || symbol.kind == GRADC_STATE || symbol.kind == GRADC_AVERAGE;
}

// Whether every update overwrites the symbol; such symbols are not saved.
bool is_of_an_update(const gradc_symbol& symbol) {
  return symbol.kind == GRADC_GRADIENT || symbol.kind == GRADC_WEIGHTS;
}

std::map<std::string, TensorView> views(const gradc_program& program, const uint8_t* block, bool slots) {
  std::map<std::string, TensorView> result;
  for (int32_t i = 0; i < program.symbol_count; ++i) {
    const gradc_symbol& symbol = program.symbols[i];
    if (is_weight(symbol) || (slots && symbol.kind == GRADC_SLOT))
      result[symbol.name] = view_of(block, symbol);
  }
  return result;
}

// "dense_1.weight" of "dense_1.weight.ema".
std::string owner_of(const std::string& name) {
  return name.substr(0, std::min(name.rfind('.'), name.size()));
}

const gradc_symbol* find(const gradc_program& program, const std::string& name) {
  for (int32_t i = 0; i < program.symbol_count; ++i)
    if (name == program.symbols[i].name) return &program.symbols[i];
  return nullptr;
}

// `storage` holds what becomes floats.
void add_data_arrays(const Session& session, std::map<std::string, TensorView>& tensors,
                     std::map<std::string, std::vector<float>>& storage) {
  for (const auto& [name, array] : session.data_arrays) {
    const std::vector<double>& values = array.values;
    if (!array.are_floats()) {
      tensors[name] = {"F64", array.shape, reinterpret_cast<const uint8_t*>(values.data()),
                       values.size() * sizeof(double)};
      continue;
    }
    const std::vector<float>& floats = storage[name] = {values.begin(), values.end()};
    tensors[name] = {"F32", array.shape, reinterpret_cast<const uint8_t*>(floats.data()),
                     floats.size() * sizeof(float)};
  }
}

template <class T>
void append(const TensorView& view, std::vector<double>& values) {
  for (uint64_t at = 0; at < view.bytes; at += sizeof(T)) {
    T value;
    std::memcpy(&value, view.data + at, sizeof value);
    values.push_back(static_cast<double>(value));
  }
}

// Takes the data arrays out of a file: those with their prefix that are no symbols of the model.
DataArrays take_data_arrays(const gradc_program& program, TensorFile& file) {
  DataArrays result;
  for (auto it = file.tensors.begin(); it != file.tensors.end();) {
    const auto& [name, view] = *it;
    if (name.rfind(kDataPrefix, 0) != 0 || (view.dtype != "F32" && view.dtype != "F64") ||
        find(program, name)) {
      ++it;
      continue;
    }
    NumberArray& array = result[name];
    array.shape = view.shape;
    view.dtype == "F32" ? append<float>(view, array.values) : append<double>(view, array.values);
    it = file.tensors.erase(it);
  }
  return result;
}

// The differences between a file and a program, as text. `all`: slots and averages are required too.
class Fit {
 public:
  Fit(const gradc_program& program, const TensorFile& file, bool all)
      : program_(program), file_(file), all_(all) {
    const bool own = file.metadata.count("gradc_version") != 0;
    const bool trains = program.train_step.output_count > 0;  // an entry that does not exist has no outputs
    for (const auto& [name, view] : file.tensors) {
      const gradc_symbol* symbol = find(program, name);
      if (symbol && !is_of_an_update(*symbol)) {
        used_.push_back(name);
        continue;
      }
      const gradc_symbol* owner = find(program, owner_of(name));
      const bool extra = name.rfind(kBest, 0) == 0 || name.rfind(kFullBatch, 0) == 0 ||
                         (owner && owner->kind == GRADC_PARAMETER);
      if (trains && !(own && extra)) unknown_.push_back(name);
    }
    for (int32_t i = 0; i < program.symbol_count; ++i) expect(program.symbols[i]);
    for (const std::string& name : unknown_)
      problem([&] {
        const std::string nearest = nearest_name(name, missing_);
        return fmt::format("{}: the model has no such parameter{}", name,
                           nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest));
      });
  }

  void check(const std::string& path) const {
    if (problems_.empty()) return;
    std::string message =
        fmt::format("{}: the weights do not fit {}:", path, program_.name ? program_.name : "the model");
    for (const std::string& said : problems_) message += "\n  " + said;
    if (more_ > 0) message += fmt::format("\n  and {} more", more_);
    throw RunError(kExitDataError, message);
  }

  const std::vector<std::string>& used() const { return used_; }

 private:
  void expect(const gradc_symbol& symbol) {
    if (is_of_an_update(symbol)) return;
    auto found = file_.tensors.find(symbol.name);
    // An average that is missing starts as its parameter.
    if (!all_ && symbol.kind == GRADC_AVERAGE && found == file_.tensors.end())
      found = file_.tensors.find(owner_of(symbol.name));
    const TensorView expected = view_of(nullptr, symbol);
    if (found == file_.tensors.end()) {
      if (!all_ && symbol.kind == GRADC_SLOT) return;
      missing_.push_back(symbol.name);
      problem([&] {
        const std::string nearest = nearest_name(symbol.name, unknown_);
        return fmt::format("{}: missing; expected {}{}{}", symbol.name, expected.dtype,
                           shape_text(expected.shape),
                           nearest.empty() ? "" : fmt::format(" (the file has `{}`)", nearest));
      });
    } else if (found->second.dtype != expected.dtype || found->second.shape != expected.shape) {
      problem([&] {
        return fmt::format("{}: expected {}{}, found {}{}", symbol.name, expected.dtype,
                           shape_text(expected.shape), found->second.dtype, shape_text(found->second.shape));
      });
    }
  }

  // Builds the text only for problems that are listed: a hostile file has hundreds of thousands of names to compare.
  template <class Text>
  void problem(Text&& text) {
    if (problems_.size() < kListedParameters)
      problems_.push_back(text());
    else
      ++more_;
  }

  const gradc_program& program_;
  const TensorFile& file_;
  const bool all_;
  size_t more_ = 0;  // problems that are not listed
  std::vector<std::string> used_, unknown_, missing_, problems_;
};

void copy_in(Session& session, const TensorFile& file, const Fit& fit) {
  for (const std::string& name : fit.used()) {
    const TensorView& view = file.tensors.at(name);
    std::memcpy(session.data(*session.find(name)), view.data, view.bytes);
  }
}

}  // namespace

namespace {

// Weights that are not finite would overwrite good ones, and pass for trained.
void check_finite(const gradc_program& program, const std::map<std::string, TensorView>& tensors,
                  const std::string& path, int64_t step) {
  for (const auto& [name, view] : tensors) {
    const gradc_symbol* symbol = find(program, name);
    if (!symbol) continue;  // copies of symbols that were checked, numbers fitted to the data
    const int64_t count = element_count(symbol->rank, symbol->shape);
    if (const int64_t bad = count_not_finite(symbol->dtype, view.data, count))
      throw not_finite_weights({symbol, count, bad}, step, step, fmt::format("; {} was not written", path));
  }
}

}  // namespace

void save_checkpoint(const Session& session, const std::string& path, const CheckpointInfo& info) {
  const gradc_program& program = session.program();
  const auto text = [](const char* value) { return std::string(value ? value : ""); };
  std::map<std::string, TensorView> tensors = views(program, session.parameters(), info.slots);
  std::map<std::string, std::vector<float>> data_floats;
  add_data_arrays(session, tensors, data_floats);
  if (info.best)
    for (const auto& [name, view] : views(program, info.best, false)) tensors[kBest + name] = view;
  for (const auto& [name, values] : info.arrays)
    tensors[kFullBatch + name] = {"F32",
                                  {static_cast<int64_t>(values.size())},
                                  reinterpret_cast<const uint8_t*>(values.data()),
                                  values.size() * sizeof(float)};
  std::map<std::string, std::string> metadata = {{"gradc_version", text(program.gradc_version)},
                                                 {"target", text(program.target)},
                                                 {"name", text(program.name)},
                                                 {"source", text(program.source)},
                                                 {"seed", std::to_string(info.seed)},
                                                 {"step", std::to_string(info.step)}};
  if (!info.training.empty()) metadata["training"] = info.training;
  check_finite(program, tensors, path, info.step);
  write_safetensors(path, tensors, metadata);
}

namespace {

void load(Session& session, const std::string& path, TensorFile file) {
  const gradc_program& program = session.program();
  DataArrays data_arrays = take_data_arrays(program, file);
  const Fit fit(program, file, false);
  fit.check(path);
  session.data_arrays = std::move(data_arrays);
  copy_in(session, file, fit);
  // An average that the file lacks starts as its parameter, which a program without training may lack.
  for (int32_t i = 0; i < program.symbol_count; ++i) {
    const gradc_symbol& average = program.symbols[i];
    if (average.kind != GRADC_AVERAGE || file.tensors.count(average.name)) continue;
    const TensorView& parameter = file.tensors.at(owner_of(average.name));
    std::memcpy(session.data(average), parameter.data, parameter.bytes);
  }
}

}  // namespace

void load_checkpoint(Session& session, const std::string& path) {
  load(session, path, read_safetensors(path));
}

void load_checkpoint(Session& session, const std::string& name, std::vector<uint8_t> bytes) {
  load(session, name, parse_safetensors(name, std::move(bytes)));
}

void check_checkpoint(const gradc_program& program, const std::string& path) {
  TensorFile file = read_safetensors(path);
  take_data_arrays(program, file);
  Fit(program, file, false).check(path);
}

TrainingFile load_training(Session& session, const std::string& path) {
  TensorFile file = read_safetensors(path);
  const auto training = file.metadata.find("training");
  if (training == file.metadata.end())
    throw RunError(
        kExitDataError,
        fmt::format("{}: these are weights alone: a run cannot go on from them. Write the file with "
                    "--save-state or a `checkpoint` rule, or start from the weights with --init-from",
                    path));
  DataArrays data_arrays = take_data_arrays(session.program(), file);
  const Fit fit(session.program(), file, true);
  fit.check(path);
  session.data_arrays = std::move(data_arrays);
  copy_in(session, file, fit);
  TrainingFile result{training->second, file.metadata, {}, {}};
  for (const auto& [name, view] : file.tensors) {
    if (name.rfind(kFullBatch, 0) != 0 || view.dtype != "F32") continue;
    std::vector<float>& values = result.arrays[name.substr(kFullBatch.size())];
    values.resize(view.bytes / sizeof(float));
    std::memcpy(values.data(), view.data, view.bytes);
  }
  std::vector<uint8_t>& best = result.best;
  const gradc_program& program = session.program();
  for (const auto& [name, view] : views(program, session.parameters(), false)) {
    const auto found = file.tensors.find(kBest + name);
    if (found == file.tensors.end()) continue;
    if (found->second.bytes != view.bytes)
      throw RunError(kExitDataError,
                     fmt::format("{}: {} has another size than {}", path, found->first, name));
    if (best.empty()) best.assign(session.parameters(), session.parameters() + program.parameter_bytes);
    std::memcpy(best.data() + session.find(name)->offset, found->second.data, view.bytes);
  }
  return result;
}

void use_raw_parameters(Session& session) {
  const gradc_program& program = session.program();
  for (int32_t i = 0; i < program.symbol_count; ++i) {
    const gradc_symbol& average = program.symbols[i];
    if (average.kind != GRADC_AVERAGE) continue;
    const gradc_symbol* parameter = session.find(owner_of(average.name));
    if (!parameter)
      throw RunError(kExitUsage,
                     "a program without training has no parameters besides their averages (--raw)");
    std::memcpy(session.data(average), session.data(*parameter), bytes_of(average));
  }
}

void average_checkpoints(const std::vector<std::string>& paths, const std::string& output) {
  GRADC_CHECK(!paths.empty(), "the mean of no files");
  std::vector<TensorFile> files;
  for (const std::string& path : paths) files.push_back(read_safetensors(path));
  const TensorFile& first = files.front();
  for (size_t f = 1; f < files.size(); ++f) {
    const auto differs = [&](const std::string& what) {
      throw RunError(kExitDataError,
                     fmt::format("{} and {} cannot be averaged: {}", paths[0], paths[f], what));
    };
    for (const auto& [name, view] : first.tensors) {
      const auto other = files[f].tensors.find(name);
      if (other == files[f].tensors.end()) differs(fmt::format("only the first has `{}`", name));
      if (other->second.shape != view.shape || other->second.dtype != view.dtype)
        differs(fmt::format("`{}` is {}{} in the first and {}{} in the second", name, view.dtype,
                            shape_text(view.shape), other->second.dtype, shape_text(other->second.shape)));
      // Arrays fitted to the data are no weights: the mean of two would fit neither.
      if (name.starts_with(kDataPrefix) && std::memcmp(view.data, other->second.data, view.bytes) != 0)
        differs(fmt::format("`{}`, which was fitted to their training data, is not the same", name));
    }
    for (const auto& [name, view] : files[f].tensors)
      if (!first.tensors.count(name)) differs(fmt::format("only the second has `{}`", name));
  }
  std::map<std::string, TensorView> tensors = files.back().tensors;
  std::map<std::string, std::vector<float>> means;
  for (auto& [name, view] : tensors) {
    if (view.dtype != "F32" || name.starts_with(kDataPrefix))
      continue;  // counters and the like: the last file's
    std::vector<float>& mean = means[name];
    mean.resize(view.bytes / sizeof(float));
    for (size_t i = 0; i < mean.size(); ++i) {
      double sum = 0;
      for (const TensorFile& file : files) {
        float value;
        std::memcpy(&value, file.tensors.at(name).data + i * sizeof value, sizeof value);
        sum += value;
      }
      mean[i] = static_cast<float>(sum / static_cast<double>(files.size()));
    }
    if (count_not_finite(GRADC_F32, reinterpret_cast<const uint8_t*>(mean.data()),
                         static_cast<int64_t>(mean.size())))
      throw RunError(
          kExitCheckFailed,
          fmt::format("`{}` is NaN or infinite in one of the files, so that their mean would be; {} was "
                      "not written",
                      name, output));
    view.data = reinterpret_cast<const uint8_t*>(mean.data());
  }
  std::map<std::string, std::string> metadata = files.back().metadata;
  metadata.erase("training");
  write_safetensors(output, tensors, metadata);
}

std::string weights_sha256(const Session& session) {
  Sha256 hash;
  const auto number = [&](int64_t value) { hash.add(&value, sizeof value); };
  for (const auto& [name, view] : views(session.program(), session.parameters(), false)) {
    hash.add(name.c_str(), name.size() + 1);
    number(static_cast<int64_t>(view.shape.size()));
    for (int64_t extent : view.shape) number(extent);
    hash.add(view.data, view.bytes);
  }
  return hash.hex();
}

}  // namespace gradc::runtime
