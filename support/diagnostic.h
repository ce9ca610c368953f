// A user's mistake as data: a code, labelled spans, the trail of calls, advice. Rendered as
// text or JSON. Compiler mistakes are asserts (support/check.h), never diagnostics.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "support/source.h"

namespace gradc {

// Process exit codes of the tool and of compiled executables.
enum ExitCode : int {
  kExitOk = 0,
  kExitRunFailed = 1,
  kExitUsage = 2,
  kExitModelError = 3,
  kExitDataError = 4,
  kExitCheckFailed = 5,
  kExitInternal = 70,
  kExitInterrupted = 130,
};

// The one form of a user's mistake. Its text is in message, label, notes and helps; what programs may want to use
// separately is in fields of its own as well.
struct Diagnostic {
  struct Label {
    Span span;
    std::string text;  // printed after the carets; may be empty
  };
  std::string code;  // "E0203"; stable
  std::string message;
  Span span;                       // the primary span
  std::string label;               // printed after the primary carets
  std::vector<Label> related;      // further spans
  std::vector<std::string> notes;  // "in `residual`, called at line 26 with channels=32"
  std::vector<std::string> helps;  // what to try
  // What was expected at the span and what was found instead, in the words of the message: "an integer" and "0.5",
  // or types as the language writes them, "f32[64]" and "f32[32]" (of two operands the first is the expected
  // one). Both or neither, except for a name where only `found` is known.
  std::string expected, found;
  std::string suggestion;  // the name that was probably meant in place of `found`; a help says so too

  Diagnostic& expect(std::string_view what, std::string_view instead);
  // Sets `found` and, if a candidate is near, `suggestion` and its help "did you mean `it`?" in these quotes; returns
  // whether there was one.
  bool suggest(const std::string& name, const std::vector<std::string>& candidates, char quote = '`');
  // The same for a name that must be one of `candidates`, which a last help lists after `intro` ("there
  // are").
  void choose(const std::string& name, const std::vector<std::string>& candidates, const std::string& intro);
};

// Collects the errors of a stage; stops growing at a limit so that bad input cannot flood.
class Diagnostics {
 public:
  explicit Diagnostics(const SourceManager& sources, size_t limit = 20) : sources_(sources), limit_(limit) {}
  // Adds an error and returns it for further notes. Beyond the limit errors are counted, not kept.
  Diagnostic& error(std::string code, Span span, std::string message, std::string label = {});
  bool has_errors() const { return count_ != 0; }
  size_t count() const { return count_; }
  bool full() const { return count_ >= limit_; }
  const std::vector<Diagnostic>& all() const { return diagnostics_; }
  // Text as Clang and Rust print it: location, source lines, carets, notes, help. `color` adds ANSI escapes.
  std::string render(bool color = false) const;
  // One JSON object a line: severity ("error"), code, message, file, line, column, end_line, end_column,
  // label, related, notes, helps, expected, found, suggestion (the last three "" where they are not known).
  std::string render_json() const;
  const SourceManager& sources() const { return sources_; }

 private:
  const SourceManager& sources_;
  size_t limit_;
  size_t count_ = 0;
  std::vector<Diagnostic> diagnostics_;
  Diagnostic overflow_;
};

// The candidate nearest to `name` in edit distance, if near enough to be what was meant; else empty.
std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates);

}  // namespace gradc
