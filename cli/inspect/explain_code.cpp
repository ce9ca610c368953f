// `gradc explain`: what an error code means, with an example that is compiled to show its message.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/command.h"
#include "cli/output.h"
#include "frontend/error_codes.h"
#include "frontend/explanations.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::cli {

namespace {

struct ExplainOptions {
  std::string code;  // of an error
  bool list = false, json = false;
  std::string color = "auto";
};

constexpr size_t kWidest = 120;  // columns of an example's line

const char* meaning_of(const std::string& code) {
  for (const frontend::ErrorCode& e : frontend::error_codes())
    if (e.code == code) return e.meaning;
  return nullptr;
}

// The compiler's message for the example.
std::string message_of(const frontend::Explanation& e, bool color) {
  if (e.example.empty()) return "";
  SourceManager sources;
  Diagnostics diagnostics(sources);
  const std::string text = e.wrong();
  frontend::compile(sources, sources.add("example.nn", text), frontend::settings_in(text), diagnostics);
  return diagnostics.render(color);
}

std::string shortened(const std::string& line) {
  return line.size() <= kWidest ? line : line.substr(0, kWidest - 4) + " ...";
}

std::string indented(const std::string& text, bool diff, bool color) {
  std::string out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    const char* escape = !color || !diff  ? ""
                         : line[0] == '-' ? "\x1b[31m"
                         : line[0] == '+' ? "\x1b[32m"
                                          : "";
    out += fmt::format("    {}{}{}\n", escape, shortened(line), *escape ? "\x1b[0m" : "");
  }
  return out;
}

// "e203" and "203" are E0203.
std::string normalized(const std::string& given) {
  std::string digits = !given.empty() && (given[0] == 'e' || given[0] == 'E') ? given.substr(1) : given;
  if (digits.empty() ||
      !std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return given;
  while (digits.size() < 4) digits.insert(digits.begin(), '0');
  return "E" + digits;
}

void list_codes(bool json) {
  for (const frontend::ErrorCode& e : frontend::error_codes()) {
    if (json)
      fmt::print("{}", json_text({{"code", e.code}, {"meaning", e.meaning}}));
    else
      fmt::print("{}  {}\n", e.code, e.meaning);
  }
  if (!json) fmt::print("\ngradc explain CODE shows one in full, with an example and how to mend it.\n");
}

int run_explain(const ExplainOptions& options) {
  if (options.list || options.code.empty()) {
    if (!options.list)
      throw RunError(kExitUsage, "explain: a code is needed, as in gradc explain E0203; --list shows all");
    list_codes(options.json);
    return kExitOk;
  }
  const std::string code = normalized(options.code);
  const char* meaning = meaning_of(code);
  if (!meaning) {
    std::vector<std::string> codes;
    for (const frontend::ErrorCode& e : frontend::error_codes()) codes.push_back(e.code);
    const std::string nearest = nearest_name(code, codes);
    throw RunError(
        kExitUsage,
        fmt::format("explain: there is no error code '{}'{}; gradc explain --list shows all", options.code,
                    nearest.empty() ? "" : fmt::format(", did you mean {}?", nearest)));
  }
  const auto& all = frontend::explanations();
  const auto it = std::find_if(all.begin(), all.end(), [&](const auto& e) { return e.code == code; });
  GRADC_CHECK(it != all.end(), "{} has no explanation", code);
  if (options.json) {
    fmt::print("{}", json_text({{"code", code},
                                {"meaning", meaning},
                                {"text", it->text},
                                {"wrong", it->wrong()},
                                {"mended", it->mended()},
                                {"message", message_of(*it, false)}}));
    return kExitOk;
  }
  const bool color = use_color(options.color);
  fmt::print("{}: {}\n\n{}\n", code, meaning, it->text);
  if (!it->example.empty())
    fmt::print("\nFor example (- as it is wrong, + mended):\n\n{}\nwhich is answered by\n\n{}",
               indented(it->example, true, color), indented(message_of(*it, color), false, color));
  return kExitOk;
}

}  // namespace

Command add_explain(CLI::App& app) {
  const auto o = std::make_shared<ExplainOptions>();
  CLI::App* c = app.add_subcommand("explain", "what an error code means, with an example and how to mend it");
  c->add_option("CODE", o->code, "as the message has it, for example E0203")->type_name("");
  c->add_flag("--list", o->list, "every code, a line each");
  c->add_flag("--json", o->json, "as JSON, one object a line");
  add_color_option(c, o->color);
  return {c, [o] { return run_explain(*o); }};
}

}  // namespace gradc::cli
