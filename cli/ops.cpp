// `gradc ops`: the functions and layers that a model file can call. Prints frontend/reference.h; knows no definition.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "frontend/reference.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/json_line.h"

namespace gradc::cli {

namespace {

struct OpsOptions {
  std::string name;  // empty: all, a line each
  bool json = false;
};

using frontend::ReferenceEntry;

constexpr size_t kWidth = 120;

// The first sentence, or as much of it as fits a line after the name.
std::string summary(const ReferenceEntry& e) {
  std::string text = e.text.substr(0, e.text.find('\n'));
  if (const size_t end = text.find(". "); end != std::string::npos) text.resize(end + 1);
  const size_t most = kWidth - 26;
  return text.size() <= most ? text : text.substr(0, text.rfind(' ', most - 4)) + " ...";
}

// Lines of at most kWidth characters, broken between words.
std::string wrapped(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t line_end = std::min(text.find('\n', at), text.size());
    size_t end = line_end;
    if (end - at > kWidth) end = text.rfind(' ', at + kWidth);
    if (end == std::string::npos || end <= at) end = line_end;
    out += text.substr(at, end - at) + "\n";
    at = end + 1;
  }
  return out;
}

std::string indented(const std::string& text) {
  std::string out = "    ";
  for (const char c : text) out += c == '\n' ? std::string("\n    ") : std::string(1, c);
  return out;
}

void print_entry(const ReferenceEntry& e) {
  fmt::print("{} {}\n{}\n{}", e.kind, e.signature, e.location.empty() ? "" : e.location + "\n",
             wrapped(e.text));
  if (!e.example.empty()) fmt::print("\nexample:\n{}\n", indented(e.example));
  if (!e.source.empty()) fmt::print("\ndefinition:\n{}\n", indented(e.source));
}

void print_json(const ReferenceEntry& e) {
  const nlohmann::json line = {{"name", e.name},        {"kind", e.kind},       {"signature", e.signature},
                               {"text", e.text},        {"example", e.example}, {"location", e.location},
                               {"definition", e.source}};
  fmt::print("{}\n", json_line(line));
}

int run_ops(const OpsOptions& options) {
  std::vector<const ReferenceEntry*> shown;
  std::vector<std::string> names;
  for (const ReferenceEntry& e : frontend::reference()) {
    names.push_back(e.name);
    if (options.name.empty() || options.name == e.name) shown.push_back(&e);
  }
  if (shown.empty()) {
    const std::string near = nearest_name(options.name, names);
    throw RunError(kExitUsage, fmt::format("there is nothing called '{}'; {}", options.name,
                                           near.empty() ? "gradc ops lists what there is"
                                                        : fmt::format("did you mean '{}'?", near)));
  }
  if (options.json) {
    for (const ReferenceEntry* e : shown) print_json(*e);
    return kExitOk;
  }
  if (!options.name.empty()) {
    for (const ReferenceEntry* e : shown) {
      if (e != shown.front()) fmt::print("\n");
      print_entry(*e);
    }
    return kExitOk;
  }
  std::string group;
  for (const ReferenceEntry* e : shown) {
    if (e->group != group) fmt::print("{}{}\n", group.empty() ? "" : "\n", e->group);
    group = e->group;
    fmt::print("  {:<23} {}\n", e->name, summary(*e));
  }
  fmt::print("\ngradc ops NAME shows one in full, with an example and its definition.\n");
  return kExitOk;
}

}  // namespace

Command add_ops(CLI::App& app) {
  const auto o = std::make_shared<OpsOptions>();
  CLI::App* c = app.add_subcommand(
      "ops",
      "list the layers, losses, optimizers, schedules and functions a model file can use, or explain one");
  c->add_option("NAME", o->name, "one of them, with formula, defaults, source and an example")->type_name("");
  c->add_flag("--json", o->json, "as JSON, one object a line");
  return {c, [o] { return run_ops(*o); }};
}

}  // namespace gradc::cli
