// `gradc opt`: named passes on tensor IR or loop IR as text. Knows no operator.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <iostream>
#include <iterator>
#include <set>

#include "cli/command.h"
#include "cli/inspect/ir_views.h"
#include "cli/output.h"
#include "passes/tensor/passes.h"
#include "runtime/files.h"
#include "support/diagnostic.h"

namespace gradc::cli {

namespace {

struct OptOptions {
  std::string file;                 // "-": standard input
  std::vector<std::string> passes;  // in order
  std::string output;               // empty: stdout
  std::string target = "native";
  int64_t batch = 32;
  bool locations = false, json = false;
};

constexpr uint64_t kMaxBytes = uint64_t{256} << 20;

std::string read_ir(const std::string& file) {
  if (file == "-") {
    std::string text{std::istreambuf_iterator<char>(std::cin), {}};
    if (std::cin.bad()) throw RunError(kExitUsage, "opt: standard input cannot be read");
    return text;
  }
  try {
    const std::vector<uint8_t> bytes = runtime::read_file(file, "IR file", kMaxBytes);
    return {bytes.begin(), bytes.end()};
  } catch (const RunError& error) {  // here the file is an argument of the command, not data
    throw RunError(kExitUsage, fmt::format("opt: {}", error.what()));
  }
}

void check_sound(const Module& module, const std::string& what) {
  const std::vector<std::string> wrong = verify(module);
  if (wrong.empty()) return;
  throw RunError(kExitUsage, fmt::format("opt: {} is no sound IR:\n  {}", what, fmt::join(wrong, "\n  ")));
}

// Runs the passes that lowering needs and that come before the named one (empty: all), each once.
class NeededPasses {
 public:
  // Where operations have kernels, these passes have run.
  explicit NeededPasses(Module& module) : module_(module) {
    for (const auto& f : module.functions)
      for (const auto& op : f->body) done_ = done_ || op->kernel >= 0;
  }
  void run_before(const std::string& name) {
    const std::vector<passes::PassInfo>& list = passes::pass_list();
    const auto at = std::find_if(list.begin(), list.end(), [&](const auto& p) { return p.name == name; });
    for (auto p = list.begin(); p < at && !done_; ++p)
      if (!p->optional && p->name != "differentiate" && passes::is_tensor_pass(p->name, "--pass") &&
          ran_.insert(p->name).second)
        passes::run_pass(module_, p->name);
  }

 private:
  Module& module_;
  bool done_ = false;
  std::set<std::string> ran_;
};

void check_lowers(const Module& module) {
  for (const auto& f : module.functions)
    if (const std::string error = passes::lowering_error(*f); !error.empty())
      throw RunError(kExitUsage, fmt::format("opt: @{} cannot be lowered: {}", f->name, error));
}

std::string file_name(const std::string& file) { return file == "-" ? "standard input" : file; }

// The module that the text holds; `name` is its file, for errors.
std::unique_ptr<Module> read_module(const std::string& text, const std::string& name) {
  ModuleParseResult parsed = parse_module(text);
  if (!parsed.error.empty())
    throw RunError(
        kExitUsage,
        fmt::format("opt: {}, {}\n  = help: tensor IR is expected, symbols and all, as "
                    "`gradc dump MODEL.nn --stage ir` prints it, or loop IR, as `--stage loops` does",
                    name, parsed.error));
  check_sound(*parsed.module, name);
  return std::move(parsed.module);
}

bool is_loop_ir(const std::string& text) {
  size_t at = 0;
  while (at < text.size() && (std::isspace(static_cast<unsigned char>(text[at])) || text[at] == '#'))
    at = text[at] == '#' ? std::min(text.find('\n', at), text.size()) : at + 1;
  return text.compare(at, 8, "program ") == 0;
}

void write_programs(const OptOptions& options, const std::vector<passes::LoweredProgram>& programs) {
  nlohmann::ordered_json record = {{"event", "opt"}, {"passes", options.passes}};
  std::string text;
  for (const passes::LoweredProgram& p : programs) {
    text += loop::print(p.program, options.locations);
    if (options.json) record["programs"].push_back(program_json(p, options.locations));
  }
  if (options.json) record["text"] = text;
  write_result(options.json ? json_text(record) : text, options.output, "IR");
}

// Passes on loop IR, in the given order. Plans are not proven: barriers and offsets may be missing or the text's own.
int run_on_programs(const OptOptions& options, const std::string& text, const std::string& name) {
  loop::ParseProgramsResult parsed = loop::parse_programs(text);
  if (!parsed.error.empty())
    throw RunError(kExitUsage,
                   fmt::format("opt: {}, {}\n  = help: docs/loop_ir.md has the grammar", name, parsed.error));
  passes::PipelineOptions pipeline;
  pipeline.machine = machine_of(codegen::find_target(options.target, /*must_run=*/false));
  std::vector<passes::LoweredProgram> programs;
  for (loop::Program& p : parsed.programs) {
    if (const std::vector<std::string> wrong = loop::verify(p); !wrong.empty())
      throw RunError(kExitUsage, fmt::format("opt: program `{}` of {} is no sound IR:\n  {}", p.name, name,
                                             fmt::join(wrong, "\n  ")));
    for (const std::string& pass : options.passes) {
      passes::run_pass(p, pass, pipeline);
      if (const std::vector<std::string> wrong = loop::verify(p); !wrong.empty())
        throw InternalError(fmt::format("pass {} broke the IR: {}", pass, fmt::join(wrong, "; ")));
    }
    programs.emplace_back().program = std::move(p);
  }
  write_programs(options, programs);
  return kExitOk;
}

// Rejects lists of passes that cannot run on tensor IR; returns how many of them work on it.
size_t count_tensor_passes(const std::vector<std::string>& passes) {
  size_t tensor_passes = 0;
  for (const std::string& name : passes) {
    const bool tensor = passes::is_tensor_pass(name, "--pass");
    if (tensor && tensor_passes != static_cast<size_t>(&name - passes.data()))
      throw RunError(kExitUsage, fmt::format("opt: {} works on tensor IR, which is no longer there after {}",
                                             name, passes[tensor_passes]));
    tensor_passes += tensor;
  }
  if (passes.size() > tensor_passes + 1)
    throw RunError(
        kExitUsage,
        fmt::format("opt: one pass that makes loop IR, the last one: those before it run by themselves "
                    "({} alone is enough)",
                    passes.back()));
  return tensor_passes;
}

int run_opt(const OptOptions& options) {
  // Reject wrong names before any work.
  for (const std::string& name : options.passes) passes::is_tensor_pass(name, "--pass");
  const codegen::Target target = codegen::find_target(options.target, /*must_run=*/false);
  const std::string ir = read_ir(options.file), file = file_name(options.file);
  if (is_loop_ir(ir)) return run_on_programs(options, ir, file);
  const size_t tensor_passes = count_tensor_passes(options.passes);
  const std::unique_ptr<Module> module = read_module(ir, file);
  const bool lowers = tensor_passes < options.passes.size();
  NeededPasses needed(*module);
  for (size_t i = 0; i < tensor_passes; ++i) {
    const std::string& name = options.passes[i];
    if (lowers) needed.run_before(name);
    if (name == "differentiate" && !module->function("train"))
      throw RunError(kExitUsage, "opt: differentiate makes @train_step of @train, which is not there");
    passes::run_pass(*module, name, options.batch);
    const std::vector<std::string> wrong = verify(*module);
    if (!wrong.empty())
      throw InternalError(fmt::format("pass {} broke the IR: {}", name, fmt::join(wrong, "; ")));
  }
  if (lowers) {
    passes::PipelineOptions pipeline;
    pipeline.stop_after = options.passes.back();
    pipeline.batch = options.batch;
    pipeline.machine = machine_of(target);
    needed.run_before(options.passes.back());
    check_lowers(*module);
    passes::Lowered lowered = passes::lower(*module, pipeline);
    std::vector<passes::LoweredProgram> programs;
    for (auto& [name, program] : lowered.programs) programs.push_back(std::move(program));
    write_programs(options, programs);
    return kExitOk;
  }
  const std::string text = print(*module, {options.locations});
  nlohmann::ordered_json record = {{"event", "opt"}, {"passes", options.passes}};
  if (options.json) {
    record["text"] = text;
    record["symbols"] = symbols_json(*module);
    for (const auto& f : module->functions) record["functions"].push_back(function_json(*f));
  }
  write_result(options.json ? json_text(record) : text, options.output, "IR");
  return kExitOk;
}

}  // namespace

Command add_opt(CLI::App& app) {
  const auto o = std::make_shared<OptOptions>();
  CLI::App* c = app.add_subcommand(
      "opt", "run passes on IR as text: reads tensor IR or loop IR, writes what the passes make of it");
  c->add_option("FILE", o->file, "tensor IR or loop IR, as gradc dump prints it; - for standard input")
      ->required()
      ->type_name("");
  c->add_option("--pass,--passes", o->passes,
                "the passes in order, by commas or repeated (none: read, verify and print)")
      ->delimiter(',')
      ->type_name("PASS");
  c->add_option("--output,-o", o->output, "the file to write (default: stdout)")->type_name("FILE");
  c->add_option("--batch", o->batch, "examples a batch, for fold_rows and the passes that make loop IR")
      ->check(from_to(1, 1 << 20))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--target", o->target, "the processor, for those passes")->type_name("NAME");
  c->add_flag("--locations", o->locations, "print the .nn location of every operation");
  c->add_flag("--json", o->json, "the result as one JSON object with every operation as data");
  return {c, [o] { return run_opt(*o); }};
}

}  // namespace gradc::cli
