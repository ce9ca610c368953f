// Names in scope, limits, and the call notes of every error.
#include "frontend/call_stack.h"

#include <fmt/format.h>

#include "frontend/error_codes.h"

namespace gradc::frontend {

CallStack::Binding* CallStack::find(const std::string& name) {
  auto& scopes = frame().scopes;
  for (auto scope = scopes.rbegin(); scope != scopes.rend(); ++scope)
    if (const auto it = scope->find(name); it != scope->end()) return &it->second;
  return nullptr;
}

void CallStack::count_evaluation(Span span, int64_t cost) {
  evaluations_ += cost;
  if (evaluations_ <= kMaxEvaluations) return;
  error(codes::limit, span, fmt::format("compiling this takes more than {} evaluations", kMaxEvaluations))
      .helps.push_back("nested loops multiply: the limit is on all of them together");
  throw Abort{};
}

bool CallStack::within_limit(int64_t held, const char* what, Span span) {
  if (held <= kMaxList) return true;
  error(codes::limit, span,
        fmt::format("{} holds more than {} values, those within its lists and arguments included", what,
                    kMaxList));
  return false;
}

const std::shared_ptr<const std::string>& CallStack::file_name(uint32_t file) const {
  auto& name = file_names_[file];
  if (!name) name = std::make_shared<const std::string>(diagnostics_.sources().name(file));
  return name;
}

Location CallStack::location(Span span) const {
  Location l;
  if (!span.valid()) return l;
  const LineColumn at = diagnostics_.sources().line_column(span.file, span.begin);
  l.file = file_name(span.file);
  l.line = at.line;
  l.column = at.column;
  if (!frames_.empty()) l.call = frames_.back()->call;
  return l;
}

void CallStack::trail(Diagnostic& d, Span failing) const {
  const SourceManager& sources = diagnostics_.sources();
  for (auto f = frames_.rbegin(); f != frames_.rend(); ++f) {
    const Frame& frame = **f;
    if (!frame.definition) continue;
    std::string text = fmt::format("in `{}`", frame.definition->name);
    if (frame.prelude && failing.valid() && program_.in_prelude(failing)) {
      const LineColumn at = sources.line_column(failing.file, failing.begin);
      text += fmt::format(" ({}:{}:{})", sources.name(failing.file), at.line, at.column);
    }
    if (frame.call_span.valid()) {
      const LineColumn at = sources.line_column(frame.call_span.file, frame.call_span.begin);
      text += program_.in_prelude(frame.call_span)
                  ? fmt::format(", called at {}:{}", sources.name(frame.call_span.file), at.line)
                  : fmt::format(", called at line {}", at.line);
    }
    if (!frame.details.empty()) text += " " + frame.details;
    if (!frame.rounds.empty()) text += " (" + frame.rounds + ")";
    d.notes.push_back(std::move(text));
    failing = frame.call_span;
  }
}

Span CallStack::user_span(Span span) const {
  for (auto f = frames_.rbegin(); f != frames_.rend() && program_.in_prelude(span); ++f)
    if ((*f)->call_span.valid()) span = (*f)->call_span;
  return span;
}

Diagnostic& CallStack::error(const char* code, Span span, std::string message, std::string label) {
  const Span failing = span;
  span = user_span(span);  // users can correct only their own file
  if (!reported_.emplace(code, span.file, span.begin, message).second) {
    dropped_ = {};
    return dropped_;
  }
  Diagnostic& d = diagnostics_.error(code, span, std::move(message), std::move(label));
  trail(d, failing);
  return d;
}

Diagnostic& CallStack::must_be(const Value& v, Span span, const std::string& what,
                               const std::string& expected) {
  return error(codes::wrong_kind, span, fmt::format("{} must be {}, not {}", what, expected, describe(v)))
      .expect(expected, describe(v));
}

}  // namespace gradc::frontend
