// Prints and parses tensor IR after every pass and loop IR after every pass on it, and continues from the text.
#include "tools/random_models/stage_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "codegen/jit.h"
#include "ir/interpreter/interpreter.h"
#include "ir/loop/loop_ir.h"
#include "ir/tensor/module.h"
#include "passes/pipeline.h"
#include "tools/random_models/network.h"

namespace gradc::random_models {

using interpreter::Tensor;

namespace {

std::string first_other_line(const std::string& a, const std::string& b) {
  size_t begin = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()) && a[i] == b[i]; ++i)
    if (a[i] == '\n') begin = i + 1;
  const auto line = [&](const std::string& text) {
    return begin < text.size() ? text.substr(begin, text.find('\n', begin) - begin) : std::string("the end");
  };
  return fmt::format("'{}' and '{}'", line(a), line(b));
}

std::optional<Finding> module_text(const Module& module, const std::string& pass, bool locations) {
  const std::string printed = print(module, {locations});
  const ModuleParseResult parsed = parse_module(printed);
  if (!parsed.error.empty())
    return Finding{"parse", fmt::format("tensor IR after {} does not parse: {}", pass, parsed.error)};
  const std::vector<std::string> wrong = verify(*parsed.module);
  if (!wrong.empty())
    return Finding{"verify", fmt::format("tensor IR after {}, parsed: {}", pass, wrong.front())};
  if (const std::string again = print(*parsed.module, {locations}); again != printed)
    return Finding{"print", fmt::format("tensor IR after {}, printed again: {}", pass,
                                        first_other_line(printed, again))};
  return std::nullopt;
}

std::optional<Finding> program_text(const loop::Program& program, const std::string& pass, bool locations) {
  const std::string printed = loop::print(program, locations);
  const loop::ParseResult parsed = loop::parse(printed);
  if (!parsed.error.empty())
    return Finding{
        "parse", fmt::format("loop IR of @{} after {} does not parse: {}", program.name, pass, parsed.error)};
  if (const std::string again = loop::print(parsed.program, locations); again != printed)
    return Finding{"print", fmt::format("loop IR of @{} after {}, printed again: {}", program.name, pass,
                                        first_other_line(printed, again))};
  return std::nullopt;
}

// The interpreter gives the same numbers, to the bit, on what is parsed.
std::optional<Finding> same_meaning(const Module& module) {
  const ModuleParseResult parsed = parse_module(print(module));
  interpreter::RunInput input;
  input.context.rows = 3;
  input.context.seed = 1;
  for (const Symbol& s : module.symbols) {
    Tensor t = interpreter::make_tensor(s.type, 1);
    for (size_t i = 0; i < t.data.size(); ++i) t.data.data()[i] = 0.1 + 0.01 * static_cast<double>(i % 7);
    input.symbols[s.name] = std::move(t);
  }
  for (const auto& f : module.functions) {
    input.inputs = made_up_inputs(*f, input.context.rows, 2);
    const interpreter::RunResult a = interpreter::run(*f, input),
                                 b = interpreter::run(*parsed.module->function(f->name), input);
    for (const auto& [results, again] : {std::pair{&a.outputs, &b.outputs}, {&a.updates, &b.updates}})
      for (const auto& [name, t] : *results)
        if (std::memcmp(t.data.data(), again->at(name).data.data(), t.data.size() * sizeof(double)) != 0)
          return Finding{"meaning",
                         fmt::format("@{} {} is another value after printing and parsing", f->name, name)};
  }
  return std::nullopt;
}

}  // namespace

std::optional<Finding> compare_stage_text(const CompileRequest& request) {
  const auto loaded = compiler::load_model(request);
  Module& module = *loaded->model.module;
  passes::PipelineOptions pipeline =
      compiler::pipeline_options(request, codegen::find_target(request.target), *loaded);
  std::optional<Finding> found;
  pipeline.observe = [&](const passes::PassReport& pass) {
    for (const bool locations : {false, true}) {
      if (found || !pass.enabled) return;
      if (pass.module) found = module_text(*pass.module, pass.pass.name, locations);
      if (pass.program) found = program_text(pass.program->program, pass.pass.name, locations);
    }
  };
  if (auto wrong = module_text(module, "the frontend", true)) return wrong;
  passes::run_tensor_passes(module, pipeline);
  if (found) return found;
  passes::lower(module, pipeline);
  if (found) return found;
  return same_meaning(module);
}

}  // namespace gradc::random_models
