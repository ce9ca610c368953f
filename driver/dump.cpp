// `gradc dump` and `gradc passes`: every stage of a compilation as text on stdout. Knows no operator.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "compiler/memory.h"
#include "driver/cache.h"
#include "driver/command_line.h"
#include "driver/options.h"
#include "support/check.h"

namespace gradc::driver {

namespace {

const std::vector<std::string> kStages = {"ast", "ir", "grad", "opt", "loops", "llvm", "asm"};

[[noreturn]] void unknown(const std::string& what, const std::string& name,
                          const std::vector<std::string>& known) {
  const std::string nearest = nearest_name(name, known);
  throw RunError(kExitUsage, fmt::format("dump: there is no {} '{}'{}; there are: {}", what, name,
                                         nearest.empty() ? "" : fmt::format(" (did you mean '{}'?)", nearest),
                                         fmt::join(known, ", ")));
}

std::string module_text(const Module& module, const DumpOptions& options) {
  const PrintOptions print_options{options.model.locations};
  if (options.function.empty()) return print(module, print_options);
  const Function* f = module.function(options.function);
  if (!f) {
    std::vector<std::string> names;
    for (const auto& each : module.functions) names.push_back(each->name);
    unknown("function", options.function, names);
  }
  return print(*f, print_options);
}

std::string stage_text(const DumpOptions& options) {
  const CompileRequest request = compile_request(options.model);
  const std::string& stage = options.stage;
  if (stage == "ast") {
    SourceManager sources;
    const uint32_t file = read_model_file(sources, request.file);
    Diagnostics diagnostics(sources);
    std::string text = frontend::dump_ast(sources, file, diagnostics);
    if (diagnostics.has_errors())
      throw ModelError(diagnostics.render(request.color), diagnostics.render_json());
    return text;
  }
  const codegen::Target target = codegen::find_target(request.target, /*must_run=*/false);
  const std::unique_ptr<LoadedModel> loaded = load_model(request);
  Module& module = *loaded->model.module;
  if (stage == "ir") return module_text(module, options);
  if (stage == "grad") {
    passes::make_train_step(module);
    return module_text(module, options);
  }
  const passes::PipelineOptions pipeline = pipeline_options(request, target, *loaded);
  if (!passes::run_tensor_passes(module, pipeline) || stage == "opt") return module_text(module, options);

  const passes::Lowered lowered = passes::lower(module, pipeline);
  std::vector<const loop::Program*> programs;
  std::vector<std::string> names;
  for (const loop::Program* p : program_list(lowered)) {
    names.push_back(p->name);
    if (options.function.empty() || p->name == options.function) programs.push_back(p);
  }
  if (programs.empty()) unknown("program", options.function, names);
  if (stage == "llvm") return codegen::emit_llvm(programs, target);
  if (stage == "asm") return codegen::emit_assembly(programs, target);
  std::string text;
  for (const loop::Program* p : programs) text += loop::print(*p, options.model.locations) + "\n";
  return text;
}

}  // namespace

CompileRequest compile_request(const ModelOptions& options, int64_t batch) {
  CompileRequest request;
  request.batch = batch;
  request.file = options.file;
  request.target = options.target;
  request.color = use_color();
  if (cache_is_on()) request.object_cache = default_cache_folder();
  for (const std::string& setting : options.settings) {
    const size_t equals = setting.find('=');
    if (equals == 0 || equals == std::string::npos)
      throw RunError(kExitUsage,
                     fmt::format("--set {}: expected name=value, for example --set width=32", setting));
    request.settings[setting.substr(0, equals)] = setting.substr(equals + 1);
  }
  request.passes.print_after = options.print_after;
  request.passes.disable = options.disable_pass;
  request.passes.stop_after = options.stop_after;
  request.passes.print_locations = options.locations;
  request.passes.strict_math = options.strict_math;
  request.passes.print = [](const std::string& text) { fmt::print(stderr, "{}", text); };
  if (options.mem_limit > 0) {
    const std::string how = fit_memory(request, options.threads, static_cast<int64_t>(options.mem_limit));
    if (!how.empty()) fmt::print(stderr, "gradc: memory: {}\n", how);
  }
  return request;
}

int run_dump(const DumpOptions& options) {
  if (std::find(kStages.begin(), kStages.end(), options.stage) == kStages.end())
    unknown("stage", options.stage, kStages);
  const std::string text = stage_text(options);
  if (options.model.json) {
    fmt::print("{}\n",
               nlohmann::ordered_json{{"event", "dump"}, {"stage", options.stage}, {"text", text}}.dump(
                   -1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("{}{}", text, text.empty() || text.back() == '\n' ? "" : "\n");
  }
  return kExitOk;
}

int run_passes(bool json) {
  for (const passes::PassInfo& pass : passes::pass_list()) {
    if (json) {
      fmt::print(
          "{}\n",
          nlohmann::ordered_json{{"name", pass.name}, {"optional", pass.optional}, {"doc", pass.doc}}.dump());
    } else {
      fmt::print("{:<24}{}{}\n", pass.name, pass.doc, pass.optional ? "" : " (always runs)");
    }
  }
  return kExitOk;
}

}  // namespace gradc::driver
