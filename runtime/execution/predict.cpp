// Evaluation and prediction to files.
#include "runtime/execution/predict.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "runtime/data/npy_field.h"
#include "runtime/data/prepare.h"
#include "runtime/execution/not_finite.h"
#include "runtime/execution/report.h"
#include "runtime/files.h"
#include "runtime/interrupt.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/experiment.h"
#include "support/shape_text.h"

namespace gradc::runtime {
namespace {

bool ends_with(const std::string& text, const std::string& ending) {
  return text.size() >= ending.size() &&
         text.compare(text.size() - ending.size(), ending.size(), ending) == 0;
}

// A split whose fields come from .npy files, one for each input of the program.
Split split_from_files(const gradc_program& program, const std::map<std::string, std::string>& files,
                       const Preparation* preparation) {
  const gradc_entry_info& entry = program.predict;
  std::vector<std::string> names;
  for (int32_t i = 0; i < entry.input_count; ++i) names.push_back(entry.inputs[i].name);
  for (const auto& [name, path] : files) {
    if (name.empty() ? names.size() == 1 : std::count(names.begin(), names.end(), name)) continue;
    const std::string nearest = nearest_name(name, names);
    throw RunError(kExitUsage,
                   name.empty()
                       ? fmt::format("the model has {} inputs ({}); name the one that {} is for",
                                     names.size(), fmt::join(names, ", "), path)
                       : fmt::format("the model has no input `{}`; it has {}{}", name, fmt::join(names, ", "),
                                     nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest)));
  }
  Table table;
  for (int32_t i = 0; i < entry.input_count; ++i) {
    const gradc_input& input = entry.inputs[i];
    auto file = files.find(input.name);
    if (file == files.end() && names.size() == 1) file = files.find("");
    if (file == files.end())
      throw RunError(kExitUsage, fmt::format("no file for the model's input `{}`; it needs {}", input.name,
                                             fmt::join(names, ", ")));
    const std::string& path = file->second;
    NpyArray array = read_npy(path);
    const std::vector<int64_t> shape = array.shape;
    const bool image = input.rank == 3 || shape.size() == 4;  // with the axis of the examples
    Field field = npy_field(
        path, std::move(array), input.name, input.dtype == GRADC_F32,
        fmt::format("the input `{}` is {}", input.name, type_text(input.dtype, input.rank, input.shape)),
        preparation && preparation->reads_doubles(input.name, image ? 3 : 1));
    // Flat examples are accepted too: 784 numbers for f32[1, 28, 28].
    const int64_t elements = element_count(input.rank, input.shape);
    if (field.shape.size() == 1 && field.shape[0] == elements)
      field.shape.assign(input.shape, input.shape + input.rank);
    const int64_t examples = shape[0];
    if (table.rows != 0 && table.rows != examples)
      throw RunError(kExitDataError, fmt::format("{}: {} examples, but the other inputs have {}", path,
                                                 examples, table.rows));
    table.rows = examples;
    table.fields.push_back(std::move(field));
    if (table.fields.back().elements() == 0)
      throw RunError(kExitDataError, fmt::format("{}: shape {} holds no numbers", path, shape_text(shape)));
  }
  Split split{"input", nullptr, 0, table.rows};
  split.table = std::make_shared<const Table>(std::move(table));
  return split;
}

// The shortest text that reads back to the same number.
std::string number_text(int32_t dtype, const uint8_t* bytes) {
  switch (dtype) {
    case GRADC_F32: {
      float value;
      std::memcpy(&value, bytes, sizeof value);
      return fmt::format("{}", value);
    }
    case GRADC_F64: {
      double value;
      std::memcpy(&value, bytes, sizeof value);
      return fmt::format("{}", value);
    }
    case GRADC_I32: {
      int32_t value;
      std::memcpy(&value, bytes, sizeof value);
      return fmt::format("{}", value);
    }
    default: return *bytes ? "1" : "0";
  }
}

std::string csv_header(const std::string& name, int64_t columns) {
  if (columns == 1) return name + "\n";
  std::string line;
  for (int64_t i = 0; i < columns; ++i) line += fmt::format("{}{}_{}", i ? "," : "", name, i);
  return line + "\n";
}

std::string npy_dtype(int32_t dtype) {
  switch (dtype) {
    case GRADC_F32: return "<f4";
    case GRADC_F64: return "<f8";
    case GRADC_I32: return "<i4";
    default: return "|b1";
  }
}

}  // namespace

const Split& split_to_use(const Dataset& data, const std::string& name) {
  if (!name.empty()) return data.split(name);
  for (const char* usual : {"test", "val"})
    if (const Split* split = data.find(usual)) return *split;
  return data.split("train");
}

EvalResult run_eval(Session& session, const Split& split, bool json, std::FILE* out) {
  const InterruptGuard interrupt;
  const EvalResult result =
      session.evaluate(split, [&](int64_t, int64_t) { return !interrupt.interrupted(); });
  if (!result.complete) throw RunError(interrupt.exit_code(), "interrupted");
  if (json) {
    nlohmann::ordered_json event = {
        {"event", "eval"}, {"split", split.name}, {"examples", result.examples}, {"loss", result.loss}};
    for (const auto& [name, value] : result.metrics) event[name] = value;
    write_event(out, event);
  } else {
    const TrainRecord train = read_experiment(session.program().experiment_json).train;
    write_line(out, fmt::format("{}  ({} examples)",
                                results_text(result.loss, result.metrics, train.shares, split.name + " "),
                                result.examples));
  }
  if (result.failed >= 0) throw not_finite_evaluation(session, split, result.failed);
  return result;
}

int64_t run_predict(Session& session, const PredictOptions& options) {
  const gradc_output& output = session.predict_output();
  const bool npy = ends_with(options.output, ".npy"), csv = ends_with(options.output, ".csv");
  const bool lines = options.output.empty();
  if (!npy && !csv && !lines)
    throw RunError(kExitUsage,
                   fmt::format("{}: predictions are written as .npy or .csv; choose a name that ends so",
                               options.output));
  const gradc_program& program = session.program();
  Split split = options.inputs.empty() ? *options.split
                                       : split_from_files(program, options.inputs, options.preparation.get());
  if (!options.inputs.empty()) split.preparation = options.preparation;
  split.count = std::min(split.count, options.rows.value_or(split.count));
  BatchReader reader(split, program.predict, std::min(program.batch, split.count));
  const int64_t columns = element_count(output.rank, output.shape), size = dtype_bytes(output.dtype);
  const bool several = options.ensemble.members() > 1 || !options.ensemble.scales.empty();
  const Ensemble ensemble = several ? predict_ensemble(session, split, options.ensemble) : Ensemble();
  std::optional<OutputFile> file;
  if (!lines) file.emplace(options.output, "predictions");
  std::vector<int64_t> shape = {split.count};
  shape.insert(shape.end(), output.shape, output.shape + output.rank);
  if (npy) file->write(npy_header(npy_dtype(output.dtype), shape));
  if (csv) file->write(csv_header(output.name, columns));
  const InterruptGuard interrupt;
  int64_t done = 0;
  for (int64_t index = 0; index < reader.batches(); ++index) {
    if (interrupt.interrupted())
      throw RunError(interrupt.exit_code(),
                     lines ? "interrupted" : "interrupted; no predictions were written");
    const int64_t rows = reader.rows(index);
    const auto* values = several ? reinterpret_cast<const uint8_t*>(ensemble.mean.data() + done * columns)
                                 : static_cast<const uint8_t*>(session.predict(reader, index));
    if (npy) {
      file->write(values, static_cast<size_t>(rows * columns * size));
      done += rows;
      continue;
    }
    std::string block;  // lines are collected: a write for each example would take most of the time
    for (int64_t row = 0; row < rows; ++row, ++done) {
      std::string line;
      const char between = csv || options.json ? ',' : ' ';
      for (int64_t column = 0; column < columns; ++column) {
        if (column) line += between;
        std::string text = number_text(output.dtype, values + (row * columns + column) * size);
        if (options.json && (text.back() == 'f' || text.back() == 'n')) text = "null";  // inf, nan: not JSON
        line += text;
      }
      if (!block.empty()) block += '\n';
      if (lines && options.json)
        block += fmt::format(R"({{"event":"predict","row":{},"predict":[{}]}})", done, line);
      else
        block += line;
    }
    if (csv)
      file->write(block + "\n");
    else
      write_line(options.out, block);
  }
  if (lines) return split.count;
  file->commit();
  if (several && !options.spread.empty()) {
    OutputFile spread(options.spread, "spread of predictions");
    spread.write(npy_header("<f4", shape));
    spread.write(ensemble.spread.data(), ensemble.spread.size() * sizeof(float));
    spread.commit();
  }
  if (options.json) {
    write_event(options.out, {{"event", "end"}, {"examples", split.count}, {"output", options.output}});
  } else {
    write_line(options.out, fmt::format("{} predictions in {}", split.count, options.output));
  }
  return split.count;
}

}  // namespace gradc::runtime
