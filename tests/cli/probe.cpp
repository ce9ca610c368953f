#include "tests/cli/probe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <limits>

#include "support/check.h"

namespace gradc::test {

namespace {

Values values_of(const interpreter::Tensor& t) { return {t.data.data(), t.data.data() + t.data.size()}; }

}  // namespace

Probe::Probe(const std::string& text, uint64_t seed) : seed_(seed) {
  cli::CompileRequest request;
  request.file = folder_.write("probe.nn", text);
  request.passes.gradient_outputs = true;
  compiled_ = std::make_unique<cli::CompiledModel>(request);
  caller_ = std::make_unique<cli::NativeCaller>(*compiled_);
  cli::CallRequest init;
  init.seed = seed_;
  caller_->call("init", init);
}

Values Probe::get(const std::string& symbol) const { return values_of(caller_->symbol(symbol)); }

void Probe::set(const std::string& symbol, const Values& values) {
  interpreter::Tensor t = caller_->symbol(symbol);
  GRADC_CHECK(t.data.size() == values.size(), "`{}` has {} elements, not {}", symbol, t.data.size(),
              values.size());
  std::copy(values.begin(), values.end(), t.data.data());
  caller_->set_symbol(symbol, t);
}

bool Probe::has(const std::string& symbol) const { return compiled_->module().symbol(symbol) != nullptr; }

std::map<std::string, Values> Probe::run(const std::string& program,
                                         const std::map<std::string, Values>& inputs, int64_t rows,
                                         double step, double epoch, double total) {
  cli::CallRequest request;
  request.rows = rows;
  request.seed = seed_;
  request.micro_step = static_cast<uint64_t>(step);
  request.scalars[GRADC_SCALAR_STEP] = step;
  request.scalars[GRADC_SCALAR_EPOCH] = epoch;
  request.scalars[GRADC_SCALAR_TOTAL] = total;
  const Function* f = compiled_->module().function(program);
  GRADC_CHECK(f, "the model has no program `{}`", program);
  for (const auto& input : f->inputs) {
    if (!input->type.batched) continue;
    const auto it = inputs.find(input->symbol());
    GRADC_CHECK(it != inputs.end(), "no values for the input `{}`", input->symbol());
    interpreter::Tensor t = interpreter::make_tensor(input->type, rows);
    GRADC_CHECK(t.data.size() == it->second.size(), "`{}` has {} elements, not {}", input->symbol(),
                t.data.size(), it->second.size());
    std::copy(it->second.begin(), it->second.end(), t.data.data());
    request.inputs[input->symbol()] = std::move(t);
  }
  caller_->call(program, request);
  std::map<std::string, Values> outputs;
  for (const auto& [name, value] : caller_->outputs()) outputs[name] = values_of(value);
  return outputs;
}

double worst_error(const Values& got, const Values& wanted, double floor) {
  if (got.size() != wanted.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i] == wanted[i] || (std::isnan(got[i]) && std::isnan(wanted[i]))) continue;
    const double error = std::abs(got[i] - wanted[i]) / std::max(floor, std::abs(wanted[i]));
    worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
  }
  return worst;
}

}  // namespace gradc::test
