// Writes the report of values that are not finite as text and as JSON.
#include "cli/not_finite.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "compiler/not_finite.h"
#include "runtime/execution/report.h"
#include "support/diagnostic.h"

namespace gradc::cli {

namespace {

nlohmann::ordered_json json_of(const runtime::ValueRange& range) {
  return {{"name", range.name}, {"low", range.low},     {"high", range.high},  {"elements", range.elements},
          {"nan", range.nan},   {"above", range.above}, {"below", range.below}};
}

// {"event":"not_finite", ...}, with the fields of runtime::NotFiniteReport.
nlohmann::ordered_json json_of(const runtime::NotFiniteReport& report) {
  nlohmann::ordered_json operands = nlohmann::ordered_json::array();
  for (const runtime::ValueRange& operand : report.operands) operands.push_back(json_of(operand));
  return {{"event", "not_finite"},
          {"value", runtime::name_of(report.value)},
          {"split", report.split},
          {"step", report.step},
          {"epoch", report.epoch},
          {"batch", report.batch},
          {"operation", report.operation},
          {"name", report.name},
          {"type", report.type},
          {"file", report.file},
          {"line", report.line},
          {"column", report.column},
          {"result", json_of(report.result)},
          {"operands", operands},
          {"notes", report.notes},
          {"helps", report.helps}};
}

}  // namespace

int report_not_finite(const compiler::CompileRequest& request, const runtime::Session& session,
                      const runtime::NotFiniteError& error, bool json) {
  const runtime::NotFiniteReport why = compiler::explain_not_finite(request, session, error);
  if (json) runtime::write_event(stdout, json_of(why));
  fmt::print(stderr, "gradc: {}\n", why.text);
  return kExitCheckFailed;
}

}  // namespace gradc::cli
