// `gradc compile`: a model file to an executable, a library, objects or text.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "cli/c_header.h"
#include "cli/command.h"
#include "cli/link.h"
#include "codegen/aot.h"
#include "compiler/memory.h"
#include "compiler/object_cache.h"
#include "compiler/program_tables.h"
#include "runtime/execution/checkpoint.h"
#include "runtime/files.h"
#include "support/check.h"
#include "support/json_line.h"

namespace gradc::cli {

namespace {

struct CompileOptions {
  ModelOptions model;  // `target` is not used
  std::string output;
  std::string emit = "exe";
  std::vector<std::string> targets;  // empty: every level of this machine's architecture
  std::string cpu;
  std::string weights;  // to embed
  bool infer = false;   // without training
  bool fully_static = false;
  bool strip = false;
};

// The kinds of output, and the name of the file for a model called NAME.
struct Emit {
  const char* name;
  const char* output;  // {}: the model's name
};
constexpr Emit kEmits[] = {{"exe", "{}"},        {"obj", "{}.o"},   {"lib", "lib{}.a"}, {"header", "{}.h"},
                           {"c-api", "lib{}.a"}, {"llvm", "{}.ll"}, {"asm", "{}.s"}};

const Emit& find_emit(const std::string& name) {
  std::vector<std::string> names;
  for (const Emit& e : kEmits) {
    if (name == e.name) return e;
    names.emplace_back(e.name);
  }
  const std::string near = nearest_name(name, names);
  throw RunError(kExitUsage, fmt::format("compile: --emit={}: there are {}{}", name, fmt::join(names, ", "),
                                         near.empty() ? "" : fmt::format("; did you mean '{}'?", near)));
}

// One model for one processor, up to loop IR.
struct Compiled {
  codegen::Target target;
  std::unique_ptr<LoadedModel> model;
  passes::Lowered lowered;
  std::unique_ptr<ProgramTables> tables;
};

Compiled compile_for(const codegen::Target& target, const CompileRequest& request,
                     const CompileOptions& options) {
  const ModelOptions& model = options.model;
  Compiled c;
  c.target = target;
  c.model = load_model(request);
  Module& module = *c.model->model.module;
  const passes::PipelineOptions pipeline = pipeline_options(request, target, *c.model);
  if (!passes::run_tensor_passes(module, pipeline))
    throw RunError(kExitUsage, "compile needs the whole pipeline: no --stop-after");
  if (options.infer) leave_out_training(module);
  c.lowered = passes::lower(module, pipeline);
  if (c.lowered.stopped) throw RunError(kExitUsage, "compile needs the whole pipeline: no --stop-after");
  // The limit was met for this machine's own processor; memory plans of others differ a little.
  const MemoryPlan memory = memory_plan(c.lowered, pipeline.batch, model.threads);
  if (model.mem_limit > 0 && memory.peak() > static_cast<int64_t>(model.mem_limit))
    throw RunError(
        kExitUsage,
        fmt::format("--mem-limit: {} for {}; compile for fewer targets (--target) or allow as much",
                    megabytes(static_cast<double>(memory.peak())), target.name));
  c.tables =
      std::make_unique<ProgramTables>(*c.model, c.lowered, target, pipeline.batch, request, options.strip);
  return c;
}

std::vector<codegen::Target> chosen_targets(const CompileOptions& options) {
  std::vector<codegen::Target> targets;
  if (!options.cpu.empty()) {
    if (!options.targets.empty())
      throw RunError(kExitUsage, "compile: --cpu names one processor, --target levels; give one of them");
    return {codegen::find_cpu(options.cpu)};
  }
  std::vector<std::string> names = options.targets;
  if (names.empty()) {
    names = codegen::target_names(codegen::host_architecture());
  }
  for (const std::string& name : names) {
    if (std::any_of(targets.begin(), targets.end(), [&](const auto& t) { return t.name == name; }))
      throw RunError(kExitUsage, fmt::format("compile: the target `{}` is given twice", name));
    targets.push_back(codegen::find_target(name, /*must_run=*/false));
  }
  for (const codegen::Target& target : targets)
    if (target.architecture != targets.front().architecture)
      throw RunError(
          kExitUsage,
          fmt::format("compile: a file holds code for one architecture, but `{}` is {} and `{}` is "
                      "{}; compile once for each",
                      targets.front().name, codegen::name(targets.front().architecture), target.name,
                      codegen::name(target.architecture)));
  // The bundle's order: a processor takes the first one it can run.
  std::stable_sort(targets.begin(), targets.end(),
                   [](const auto& a, const auto& b) { return a.vector_width > b.vector_width; });
  return targets;
}

// The optional features of the runtime library for models like this (standalone/features.h, runtime/data/dataset.cpp).
std::vector<std::string> features_of(const std::string& source, const gradc_program& program) {
  std::vector<std::string> features;
  if (source == "folder") features.emplace_back("gradc_source_folder");
  if (program.predict.output_count == 0) return features;
  if (source == "text") features.emplace_back("gradc_feature_sample");
  bool images = false;
  for (int32_t i = 0; i < program.predict.input_count; ++i) images |= program.predict.inputs[i].rank == 3;
  if (images) features.insert(features.end(), {"gradc_feature_view_options", "gradc_feature_view_eval"});
  return features;
}

void write_output(const std::string& path, std::string_view what, std::string_view bytes) {
  runtime::OutputFile out(path, what);
  out.write(bytes);
  out.commit();
}

// The kind of output, and the names that follow from it.
struct Output {
  Output(const CompileOptions& options, const Emit& emit)
      : kind(emit.name),
        stem(std::filesystem::path(options.model.file).stem().string()),
        identifier(c_identifier(stem)),
        file(options.output.empty() ? fmt::format(fmt::runtime(emit.output), stem) : options.output),
        executable(kind == "exe"),
        library(kind == "lib" || kind == "c-api"),
        shared(library && std::filesystem::path(file).extension() == ".so"),
        text(kind == "llvm" || kind == "asm") {
    if (kind == "header") header = file;
    if (kind == "c-api") header = (std::filesystem::path(file).parent_path() / (identifier + ".h")).string();
  }
  bool archive() const { return library && !shared; }
  bool objects() const { return executable || library || kind == "obj"; }

  const std::string kind, stem, identifier, file;
  std::string header;  // the C header's file; empty: none
  const bool executable, library, shared, text;
};

// The machine code of all targets, linked or as an archive.
void write_code(const Output& output, const std::vector<Compiled>& compiled, const CompileOptions& options,
                const CompileRequest& request, const std::string& weights) {
  const codegen::Architecture architecture = compiled.front().target.architecture;
  std::vector<codegen::BundleProgram> bundle;
  for (const Compiled& c : compiled)
    bundle.push_back({program_list(c.lowered), c.target, &c.tables->program()});
  std::optional<DiskObjectCache> cache;
  if (!request.object_cache.empty()) cache.emplace(request.object_cache);
  const std::string symbol = output.executable ? "gradc_standalone_image" : output.identifier + "_image";
  const auto objects =
      codegen::emit_bundle(bundle, output.stem, symbol, weights, {}, cache ? &*cache : nullptr);
  if (output.archive())
    return write_output(output.file, "library",
                        codegen::make_archive(objects, {standalone_library(architecture)}));
  const TemporaryDirectory folder;
  LinkRequest link_request;
  for (const codegen::ObjectFile& object : objects)
    link_request.objects.push_back(folder.write(object.name, object.bytes));
  link_request.output = output.file;
  link_request.architecture = architecture;
  link_request.kind = output.executable ? LinkKind::executable
                      : output.shared   ? LinkKind::shared
                                        : LinkKind::object;
  link_request.fully_static = options.fully_static;
  link_request.strip = options.strip;
  if (output.kind != "obj") link_request.objects.push_back(standalone_library(architecture));
  if (output.executable)
    link_request.need =
        features_of(compiled.front().model->model.experiment.data.source, compiled.front().tables->program());
  else
    link_request.keep = exported_symbols(output.identifier);
  link(link_request);
}

void report(const Output& output, const std::vector<Compiled>& compiled, bool json, double seconds) {
  std::error_code error;
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(output.file, error));
  std::vector<std::string> names;
  for (const Compiled& c : compiled) names.push_back(c.target.name);
  if (json) {
    fmt::print("{}\n", json_line(nlohmann::ordered_json{{"event", "compile"},
                                                        {"emit", output.kind},
                                                        {"output", output.file},
                                                        {"bytes", bytes},
                                                        {"targets", names},
                                                        {"seconds", seconds}}));
    return;
  }
  fmt::print("{}: {:.2f} MB for {}, in {:.1f} s\n", output.file, static_cast<double>(bytes) / 1e6,
             fmt::join(names, ", "), seconds);
  if (!output.header.empty() && output.header != output.file) fmt::print("{}: its C header\n", output.header);
}

int run_compile(const CompileOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  const Emit& emit = find_emit(options.emit);
  const CompileRequest request = compile_request(options.model);
  const Output output(options, emit);
  if ((options.fully_static || options.strip) && !output.executable && !output.shared)
    throw RunError(kExitUsage, fmt::format("compile: {} is for executables, not for --emit={}",
                                           options.fully_static ? "--static" : "--strip", output.kind));
  runtime::check_output_path(output.file, output.kind);
  const std::vector<codegen::Target> targets = chosen_targets(options);
  if (output.text && targets.size() > 1 && !options.targets.empty())
    throw RunError(kExitUsage, fmt::format("compile: --emit={} is for one target", output.kind));

  std::vector<Compiled> compiled;
  for (const codegen::Target& target : targets) {
    compiled.push_back(compile_for(target, request, options));
    if (output.text || output.kind == "header") break;
  }
  const gradc_program& program = compiled.front().tables->program();
  std::string weights;
  if (!options.weights.empty()) {
    runtime::check_checkpoint(program, options.weights);
    const std::vector<uint8_t> bytes = runtime::read_file(options.weights, "weights file");
    weights.assign(bytes.begin(), bytes.end());
  }

  if (output.text) {
    const auto programs = program_list(compiled.front().lowered);
    write_output(output.file, output.kind,
                 output.kind == "llvm" ? codegen::emit_llvm(programs, targets.front())
                                       : codegen::emit_assembly(programs, targets.front()));
  }
  if (!output.header.empty()) write_output(output.header, "header", c_header(program, output.identifier));
  if (output.objects()) write_code(output, compiled, options, request, weights);
  report(output, compiled, options.model.json,
         std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return kExitOk;
}

}  // namespace

Command add_compile(CLI::App& app) {
  const auto o = std::make_shared<CompileOptions>();
  CLI::App* c = app.add_subcommand(
      "compile",
      "make a program or a library of its own, which trains, evaluates and predicts without gradc");
  add_model_options(c, o->model);
  c->add_option("--output,-o", o->output, "the file to write (default: the model's name)")->type_name("FILE");
  c->add_option("--emit", o->emit,
                "exe, obj, lib (static, or shared if FILE ends in .so), header (C), c-api (lib and "
                "header), llvm, asm")
      ->capture_default_str()
      ->type_name("KIND");
  c->add_option(
       "--target", o->targets,
       "native, x86-64-v2, x86-64-v3, x86-64-v4, aarch64; several by commas, of which the best one is "
       "chosen at start (default: every one of this machine's architecture)")
      ->delimiter(',')
      ->type_name("NAMES");
  c->add_option("--cpu", o->cpu, "this processor alone, by LLVM's name, for example znver4, neoverse-n1")
      ->type_name("NAME");
  c->add_option("--weights", o->weights, "embed these trained parameters (safetensors)")->type_name("FILE");
  c->add_flag("--infer", o->infer, "leave training out");
  c->add_flag("--static", o->fully_static, "need not even the C library where it runs");
  c->add_flag("--strip", o->strip,
              "without symbols, line numbers, the model file's text and this machine's paths");
  add_pass_options(c, o->model);
  return {c, [o] { return run_compile(*o); }, &o->model.json};
}

}  // namespace gradc::cli
