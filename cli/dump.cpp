// `gradc dump` and `gradc passes`: every stage of a compilation as text on stdout. Knows no operator.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/cache.h"
#include "cli/command.h"
#include "cli/inspect/inspect_page.h"
#include "cli/inspect/ir_views.h"
#include "cli/output.h"
#include "cli/text_diff.h"
#include "compiler/memory.h"
#include "support/check.h"
#include "support/environment.h"
#include "support/json_line.h"

namespace gradc::cli {

namespace {

struct DumpOptions {
  ModelOptions model;
  std::string stage = "ir";
  std::string function;  // only this function or program
  std::string after;     // a pass: shows the state after it, instead of a stage
  std::string diff;      // a pass: shows its changes
  std::string format = "text";
  std::string color = "auto";
  std::string output;  // empty: stdout
};

const std::vector<std::string> kStages = {"ast", "ir", "grad", "opt", "loops", "llvm", "asm"};
const std::vector<std::string> kFormats = {"text", "json", "dot", "html"};

[[noreturn]] void unknown(const std::string& what, const std::string& name,
                          const std::vector<std::string>& known) {
  const std::string nearest = nearest_name(name, known);
  throw RunError(kExitUsage, fmt::format("dump: there is no {} '{}'{}; there are: {}", what, name,
                                         nearest.empty() ? "" : fmt::format(" (did you mean '{}'?)", nearest),
                                         fmt::join(known, ", ")));
}

void check_known(const std::string& what, const std::string& name, const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), name) == known.end()) unknown(what, name, known);
}

// The output: text alone, or text of functions or programs, which other formats give as data.
struct Shown {
  std::string stage;  // or the pass after which it is shown
  std::string text;
  const Module* module = nullptr;
  std::vector<const Function*> functions;
  std::vector<const passes::LoweredProgram*> programs;
};

// The model at the selected stage and its output: owns everything that Shown points to.
class Dump {
 public:
  explicit Dump(const DumpOptions& options) : options_(options), request_(compile_request(options.model)) {}

  Shown run() {
    if (!options_.after.empty()) return after();
    const std::string& stage = options_.stage;
    if (stage == "ast") return {stage, syntax_tree()};
    load();
    if (stage == "ir") return functions(stage);
    if (stage == "grad") {
      passes::make_train_step(*loaded_->model.module);
      return functions(stage);
    }
    passes::PipelineOptions pipeline = pipeline_options(request_, target_, *loaded_);
    if (!passes::run_tensor_passes(*loaded_->model.module, pipeline) || stage == "opt")
      return functions(stage);
    lowered_ = passes::lower(*loaded_->model.module, pipeline);
    Shown shown = programs(stage);
    std::vector<const loop::Program*> list;
    for (const passes::LoweredProgram* p : shown.programs) list.push_back(&p->program);
    if (stage == "llvm") return {stage, codegen::emit_llvm(list, target_)};
    if (stage == "asm") return {stage, codegen::emit_assembly(list, target_)};
    return shown;
  }

  // The changes of one pass as a diff; empty when it changed nothing.
  std::string diff(bool color) {
    const bool on_tensors = passes::is_tensor_pass(options_.diff, "--diff");
    const std::string& pass = options_.diff;
    load();
    Module& module = *loaded_->model.module;
    passes::PipelineOptions pipeline = pipeline_options(request_, target_, *loaded_);
    pipeline.stop_after = pass;
    std::string before = on_tensors ? module_text(module, {}) : "", result;
    std::map<std::string, std::string> programs_before;
    bool enabled = true, found = options_.function.empty();
    pipeline.observe = [&](const passes::PassReport& report) {
      const bool wanted = report.pass.name == pass;
      enabled = enabled && (!wanted || report.enabled);
      if (report.module && on_tensors) {
        found = found || has(*report.module);
        if (wanted)
          result = unified_diff(before, module_text(*report.module, {options_.model.locations, true}), color);
        else
          before = module_text(*report.module, {});
      } else if (report.program) {
        const loop::Program& p = report.program->program;
        if (!options_.function.empty() && p.name != options_.function) return;
        found = true;
        const std::string text = loop::print(p, options_.model.locations);
        if (wanted) result += unified_diff(programs_before[p.name], text, color);
        programs_before[p.name] = text;
      }
    };
    if (passes::run_tensor_passes(module, pipeline)) lowered_ = passes::lower(module, pipeline);
    if (!found) unknown("function", options_.function, function_names(module));
    if (!enabled)
      throw RunError(
          kExitUsage,
          fmt::format("dump: --diff {0} and --disable-pass {0}: a pass that is left out changes nothing",
                      pass));
    return result;
  }

 private:
  void load() {
    target_ = codegen::find_target(request_.target, /*must_run=*/false);
    loaded_ = load_model(request_);
  }

  Shown after() {
    const bool on_tensors = passes::is_tensor_pass(options_.after, "--after");
    load();
    passes::PipelineOptions pipeline = pipeline_options(request_, target_, *loaded_);
    pipeline.stop_after = options_.after;
    if (!passes::run_tensor_passes(*loaded_->model.module, pipeline) || on_tensors)
      return functions(options_.after);
    lowered_ = passes::lower(*loaded_->model.module, pipeline);
    return programs(options_.after);
  }

  std::string syntax_tree() const {
    SourceManager sources;
    const uint32_t file = read_model_file(sources, request_.file);
    Diagnostics diagnostics(sources);
    std::string text = frontend::dump_ast(sources, file, diagnostics);
    if (diagnostics.has_errors()) throw ModelError(diagnostics, request_.color);
    return text;
  }

  static std::vector<std::string> function_names(const Module& module) {
    std::vector<std::string> names;
    for (const auto& f : module.functions) names.push_back(f->name);
    return names;
  }

  bool has(const Module& module) const {
    return options_.function.empty() || module.function(options_.function) != nullptr;
  }

  // The module, or the selected function; empty where that does not exist (yet).
  std::string module_text(const Module& module, PrintOptions print_options) const {
    print_options.locations = options_.model.locations;
    if (options_.function.empty()) return print(module, print_options);
    const Function* f = module.function(options_.function);
    // Before differentiation @train_step is @train.
    if (!f && options_.function == "train_step") f = module.function("train");
    return f ? print(*f, print_options) : "";
  }

  Shown functions(const std::string& stage) const {
    const Module& module = *loaded_->model.module;
    if (!has(module)) unknown("function", options_.function, function_names(module));
    Shown shown{stage, {}, &module};
    for (const auto& f : module.functions)
      if (options_.function.empty() || f->name == options_.function) shown.functions.push_back(f.get());
    const PrintOptions print_options{options_.model.locations};
    shown.text = options_.function.empty() ? print(module, print_options)
                                           : print(*shown.functions.front(), print_options);
    return shown;
  }

  Shown programs(const std::string& stage) const {
    Shown shown{stage};
    std::vector<std::string> names;
    for (const auto& [name, program] : lowered_.programs) {
      names.push_back(name);
      if (!options_.function.empty() && name != options_.function) continue;
      shown.programs.push_back(&program);
      shown.text += loop::print(program.program, options_.model.locations) + "\n";
    }
    if (shown.programs.empty()) unknown("program", options_.function, names);
    return shown;
  }

  const DumpOptions& options_;
  CompileRequest request_;
  codegen::Target target_;
  std::unique_ptr<LoadedModel> loaded_;
  passes::Lowered lowered_;
};

std::string json_of(const Shown& shown, const DumpOptions& options) {
  nlohmann::ordered_json record = {
      {"event", "dump"}, {options.after.empty() ? "stage" : "after", shown.stage}, {"text", shown.text}};
  if (shown.module) {
    record["symbols"] = symbols_json(*shown.module);
    for (const Function* f : shown.functions) record["functions"].push_back(function_json(*f));
  }
  for (const passes::LoweredProgram* p : shown.programs)
    record["programs"].push_back(program_json(*p, options.model.locations));
  return json_text(record);
}

std::string dot_of(const Shown& shown) {
  if (!shown.functions.empty()) return functions_dot(shown.functions);
  if (!shown.programs.empty()) return programs_dot(shown.programs);
  throw RunError(
      kExitUsage,
      fmt::format("dump: the stage {} is no graph; --format dot shows ir, grad, opt and loops, and "
                  "what is there after a pass",
                  shown.stage));
}

std::string diff_text(const DumpOptions& options, const std::string& format) {
  const bool json = format == "json";
  const std::string diff = Dump(options).diff(!json && options.output.empty() && use_color(options.color));
  if (json)
    return json_text({{"event", "dump"}, {"diff", options.diff}, {"changed", !diff.empty()}, {"text", diff}});
  return diff.empty() ? fmt::format("# {} changed nothing\n", options.diff)
                      : fmt::format("--- before {0}\n+++ after {0}\n{1}", options.diff, diff);
}

void check_dump_options(const DumpOptions& options, const std::string& format) {
  check_known("stage", options.stage, kStages);
  check_known("format", format, kFormats);
  const bool staged = options.stage != DumpOptions().stage;
  if (!options.after.empty() && !options.diff.empty())
    throw RunError(kExitUsage, "dump: --after shows a pass's result and --diff its changes: one of them");
  if (staged && !(options.after.empty() && options.diff.empty()))
    throw RunError(kExitUsage, "dump: --stage, --after and --diff each say what is shown: one of them");
  if (!options.model.stop_after.empty() && !(options.after.empty() && options.diff.empty()))
    throw RunError(kExitUsage, "dump: --after and --diff end the pipeline themselves: no --stop-after");
  if (!options.diff.empty() && format != "text" && format != "json")
    throw RunError(kExitUsage, fmt::format("dump: --diff is text or json, not {}", format));
  if (format != "html") return;
  if (staged || !options.after.empty() || !options.model.stop_after.empty())
    throw RunError(kExitUsage,
                   "dump: the page of --format html holds every stage and pass: no --stage, --after or "
                   "--stop-after");
  if (options.model.json) throw RunError(kExitUsage, "dump: --json and --format html: one of them");
}

int run_dump(const DumpOptions& options) {
  const std::string format = options.model.json && options.format == "text" ? "json" : options.format;
  check_dump_options(options, format);
  if (!options.diff.empty()) {
    write_result(diff_text(options, format), options.output, "dump");
    return kExitOk;
  }
  if (format == "html") {
    write_result(inspect_page(compile_request(options.model), options.function), options.output, "page");
    return kExitOk;
  }
  Dump dump(options);
  const Shown shown = dump.run();
  write_result(format == "json"  ? json_of(shown, options)
               : format == "dot" ? dot_of(shown)
                                 : shown.text,
               options.output, "dump");
  return kExitOk;
}

int run_passes(bool json) {
  for (const passes::PassInfo& pass : passes::pass_list()) {
    if (json) {
      fmt::print("{}\n", json_line(nlohmann::ordered_json{
                             {"name", pass.name}, {"optional", pass.optional}, {"doc", pass.doc}}));
    } else {
      fmt::print("{:<24}{}{}\n", pass.name, pass.doc, pass.optional ? "" : " (always runs)");
    }
  }
  return kExitOk;
}

}  // namespace

Command add_dump(CLI::App& app) {
  const auto o = std::make_shared<DumpOptions>();
  CLI::App* c = app.add_subcommand("dump", "print the model at a stage of its compilation");
  add_model_options(c, o->model);
  c->add_option("--stage", o->stage,
                "ast (syntax tree), ir (tensor IR as written), grad (with gradients and updates), opt "
                "(optimised), loops (loop IR), "
                "llvm, asm")
      ->capture_default_str()
      ->type_name("STAGE");
  c->add_option("--function", o->function, "one function alone, for example train_step")->type_name("NAME");
  c->add_option("--after", o->after, "instead of a stage: what is there after this pass")->type_name("PASS");
  c->add_option("--diff", o->diff, "what this pass changes, as a diff")->type_name("PASS");
  c->add_option("--format", o->format,
                "text; json (with every operation as data); dot (a graph for Graphviz); html (one page "
                "with source, every stage and pass, assembly and memory, to click through)")
      ->capture_default_str()
      ->type_name("FORMAT");
  add_color_option(c, o->color);
  c->add_option("--output,-o", o->output, "the file to write (default: stdout)")->type_name("FILE");
  add_code_options(c, o->model);
  return {c, [o] { return run_dump(*o); }, &o->model.json};
}

Command add_passes(CLI::App& app) {
  const auto json = std::make_shared<bool>(false);
  CLI::App* c = app.add_subcommand("passes", "list the compiler's passes in their order");
  c->add_flag("--json", *json, "as JSON, one object a line");
  return {c, [json] { return run_passes(*json); }};
}

}  // namespace gradc::cli
