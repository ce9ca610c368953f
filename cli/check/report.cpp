// The report of `gradc check` as a table and as JSON; knows nothing of the checks.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/check/check.h"
#include "support/json_line.h"

namespace gradc::cli {

namespace {

// Rows that differ only in the number of examples are one line: the worst of them, with all numbers of examples.
struct Line {
  CheckRow worst;
  std::string rows;
};

std::vector<Line> lines_of(const std::vector<CheckRow>& rows) {
  std::vector<Line> lines;
  std::map<std::string, size_t> known;
  for (const CheckRow& r : rows) {
    const auto [it, is_new] = known.try_emplace(r.kind + "|" + r.program + "|" + r.name, lines.size());
    if (is_new) {
      lines.push_back({r, std::to_string(r.rows)});
      continue;
    }
    Line& line = lines[it->second];
    line.rows += fmt::format(",{}", r.rows);
    const auto badness = [](const CheckRow& c) {
      return std::make_tuple(!c.pass, c.rounding, c.max_relative);
    };
    if (badness(r) > badness(line.worst)) line.worst = r;
  }
  return lines;
}

std::string shown_name(const CheckRow& r) {
  return r.kind == "output" ? fmt::format("@{} {}", r.program, r.name) : r.name;
}

const char* verdict(const CheckRow& r) {
  return !r.pass ? "FAIL" : r.rounding ? "ok, rounding" : r.curved ? "ok, curved" : "ok";
}

const char* heading(const std::string& kind) {
  if (kind == "init") return "Initial values: native against the interpreter";
  if (kind == "value") return "Stored values, operation by operation: native against the interpreter";
  if (kind == "trained")
    return "Products as training makes them (Winograd), each given its native operands: native against the "
           "interpreter";
  if (kind == "output")
    return "Outputs: optimised native code against the interpreter on the module as written";
  if (kind == "gradient") return "Gradients, parameter by parameter: native against the interpreter";
  if (kind == "update") return "Updates: native against the interpreter, given the native gradient";
  if (kind == "numeric")
    return "Gradients along one random direction: the interpreter against central differences";
  if (kind == "kink")
    return "Gradients where a decision is a tie: the interpreter against the slopes of both sides";
  if (kind == "zeros")
    return "Gradients at rows of zeros and initial values: native against the interpreter; that against "
           "central differences";
  return "Gradients along one random direction: native against central differences";
}

}  // namespace

std::string render_check(const CheckReport& report) {
  std::string text;
  for (const std::string& note : report.notes) text += note + "\n";
  const std::vector<Line> lines = lines_of(report.rows);
  size_t name_width = 4, location_width = 8;  // of the headings
  for (const Line& l : lines) {
    name_width = std::max(name_width, shown_name(l.worst).size());
    location_width = std::max(location_width, l.worst.location.size());
  }
  name_width = std::min<size_t>(name_width, 44);
  location_width = std::min<size_t>(location_width, 28);
  for (const char* kind : {"init", "value", "trained", "output", "gradient", "update", "numeric",
                           "native numeric", "kink", "zeros"}) {
    bool first = true;
    std::string program;
    for (const Line& l : lines) {
      const CheckRow& r = l.worst;
      if (r.kind != kind) continue;
      if (first) {
        text += fmt::format("\n{}\n  {:{}}  {:{}}  {:>12}  {:>9}  {:>9}  {:>9}\n", heading(kind), "name",
                            name_width, "location", location_width, "examples", "absolute", "relative",
                            "allowed");
        first = false;
      }
      if (r.program != program && r.kind == "value") text += fmt::format("  @{}\n", r.program);
      program = r.program;
      text += fmt::format("  {:{}}  {:{}}  {:>12}  {:>9.2e}  {:>9.2e}  {:>9.0e}  {}\n", shown_name(r),
                          name_width, r.location, location_width, l.rows, r.max_absolute, r.max_relative,
                          r.tolerance, verdict(r));
    }
  }
  const auto failed =
      std::count_if(report.rows.begin(), report.rows.end(), [](const CheckRow& r) { return !r.pass; });
  if (failed) {
    text += fmt::format("\nFAIL: {} of {} comparisons differ by more than docs/check.md allows\n", failed,
                        report.rows.size());
  } else {
    text += fmt::format("\nPASS: {} comparisons\n", report.rows.size());
  }
  return text;
}

std::string render_check_json(const CheckReport& report) {
  using Json = nlohmann::ordered_json;
  // JSON has no infinity: a difference that is not finite is null.
  const auto number = [](double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); };
  std::string text;
  for (const std::string& note : report.notes)
    text += json_line(Json{{"event", "note"}, {"text", note}}) + "\n";
  for (const CheckRow& r : report.rows)
    text += json_line(Json{{"event", "comparison"},
                           {"kind", r.kind},
                           {"program", r.program},
                           {"name", r.name},
                           {"location", r.location},
                           {"type", r.type},
                           {"rows", r.rows},
                           {"max_absolute", number(r.max_absolute)},
                           {"max_relative", number(r.max_relative)},
                           {"tolerance", r.tolerance},
                           {"rounding", r.rounding},
                           {"curved", r.curved},
                           {"pass", r.pass}}) +
            "\n";
  return text +
         json_line(Json{{"event", "end"}, {"comparisons", report.rows.size()}, {"pass", report.pass()}}) +
         "\n";
}

}  // namespace gradc::cli
