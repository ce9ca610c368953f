// Errors of gradc for C++20: what gradc.h reports as a status, thrown with its diagnostics. Included by
// gradc/gradc.hpp.
#pragma once
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "gradc/gradc.h"

namespace gradc {
inline namespace v0 {

// Where something is wrong in a model file: lines and columns from 1, the end after the last character. No
// file: nowhere.
struct Location {
  std::string file;
  int line = 0, column = 0, end_line = 0, end_column = 0;
  std::string label;
};

// One mistake of a model file.
struct Diagnostic {
  gradc_severity severity = GRADC_SEVERITY_ERROR;
  std::string code;     // "E0203"; empty: not of the model file
  std::string message;  // what was expected and what was found
  Location location;
  std::vector<Location> related;   // further ones
  std::vector<std::string> notes;  // how it came there
  std::vector<std::string> helps;  // what to try
  // What the message says, in fields of their own (see gradc_diagnostic): empty where it says no such thing.
  std::string expected, found;
  std::string suggestion;  // the name that was probably meant in place of `found`
};

// What an array holds: the range of its finite values (NaN where it has none), and how many are not finite.
struct ValueRange {
  std::string name;
  double low = 0, high = 0;
  int64_t elements = 0, nan = 0, above = 0, below = 0;
};

// Why a loss or an update was not finite, as gradc_not_finite: where the first value that is not finite was
// made.
struct NotFinite {
  int64_t step = 0, epoch = 0, batch = 0;  // from 1; batch 0: the program's own
  std::string operation, name, type;       // empty where the operation is not known
  Location location;                       // line and column alone; no file: nowhere
  ValueRange result;
  std::vector<ValueRange> operands;
  std::vector<std::string> notes, helps;
  std::string text;
};

class Error : public std::runtime_error {
 public:
  Error(gradc_status status, const std::string& message, std::vector<Diagnostic> diagnostics = {})
      : std::runtime_error(message),
        status_(status),
        diagnostics_(std::make_shared<const std::vector<Diagnostic>>(std::move(diagnostics))) {}
  gradc_status status() const noexcept { return status_; }
  // Of a model that does not compile: at least one.
  const std::vector<Diagnostic>& diagnostics() const noexcept { return *diagnostics_; }

 private:
  gradc_status status_;
  std::shared_ptr<const std::vector<Diagnostic>> diagnostics_;
};

// A loss, parameters or state that are not finite (GRADC_NOT_FINITE); what() is the report's text.
class NotFiniteError : public Error {
 public:
  explicit NotFiniteError(NotFinite report)
      : Error(GRADC_NOT_FINITE, report.text), report_(std::make_shared<const NotFinite>(std::move(report))) {}
  const NotFinite& report() const noexcept { return *report_; }

 private:
  std::shared_ptr<const NotFinite> report_;
};

namespace detail {

inline void check(gradc_status status) {
  if (status != GRADC_OK) throw Error(status, gradc_last_error());
}

inline Location location_of(const gradc_location& p) {
  return {p.file ? p.file : "", p.line, p.column, p.end_line, p.end_column, p.label ? p.label : ""};
}

inline std::vector<Diagnostic> diagnostics_of(const gradc_diagnostics* from) {
  std::vector<Diagnostic> result;
  for (int32_t i = 0; i < gradc_diagnostics_count(from); ++i) {
    gradc_diagnostic d;
    gradc_diagnostic_init(&d);
    check(gradc_diagnostics_get(from, i, &d));
    Diagnostic& made = result.emplace_back();
    made.severity = static_cast<gradc_severity>(d.severity);
    made.code = d.code;
    made.message = d.message;
    made.location = location_of(d.location);
    for (int32_t k = 0; k < d.related_count; ++k) made.related.push_back(location_of(d.related[k]));
    made.notes.assign(d.notes, d.notes + d.note_count);
    made.helps.assign(d.helps, d.helps + d.help_count);
    made.expected = d.expected;
    made.found = d.found;
    made.suggestion = d.suggestion;
  }
  return result;
}

inline ValueRange range_of(const gradc_range& r) {
  return {r.name, r.low, r.high, r.elements, r.nan, r.above, r.below};
}

// Of a step, a training, and what uses its results: what is not finite comes with its report.
inline void check_step(const gradc_session* session, gradc_status status) {
  if (status != GRADC_NOT_FINITE) return check(status);
  gradc_not_finite r;
  gradc_not_finite_init(&r);
  check(gradc_session_not_finite(session, &r));
  NotFinite made;
  made.step = r.step;
  made.epoch = r.epoch;
  made.batch = r.batch;
  made.operation = r.operation;
  made.name = r.name;
  made.type = r.type;
  if (r.file) made.location = {r.file, r.line, r.column, r.line, r.column, ""};
  made.result = range_of(r.result);
  for (int32_t i = 0; i < r.operand_count; ++i) made.operands.push_back(range_of(r.operands[i]));
  made.notes.assign(r.notes, r.notes + r.note_count);
  made.helps.assign(r.helps, r.helps + r.help_count);
  made.text = r.text;
  throw NotFiniteError(std::move(made));
}

}  // namespace detail

}  // namespace v0
}  // namespace gradc
