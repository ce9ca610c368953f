// The page of `gradc dump --format html`: a model at every stage as one JSON record, which the page's script
// (cli/page/inspect.js) shows. Knows no operator.
#include "cli/inspect/inspect_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "cli/inspect/ir_views.h"
#include "cli/page.h"
#include "cli/page_text.h"
#include "cli/text_diff.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"
#include "support/json_line.h"

namespace gradc::cli {

using Json = nlohmann::ordered_json;

namespace {

// Origins and texts that repeat are written once and referred to by number.
class Origins {
 public:
  Json numbers(const std::vector<Location>& locations) {
    Json list = Json::array();
    for (const Json& location : locations_json(locations)) {
      const auto [it, fresh] = numbers_.emplace(json_line(location), all_.size());
      if (fresh) all_.push_back(location);
      if (std::find(list.begin(), list.end(), Json(it->second)) == list.end()) list.push_back(it->second);
    }
    return list;
  }
  const Json& all() const { return all_; }

 private:
  std::map<std::string, size_t> numbers_;
  Json all_ = Json::array();
};

// A function as its text, whose line i is operation i, with data of each operation for the script.
Json function_record(const Function& f, Origins& origins) {
  Json ops = Json::array();
  for (const auto& op : f.body) {
    Json entry = {{"op", op->name()}, {"type", to_string(op->type)}, {"at", origins.numbers(op->locations)}};
    if (op->kernel >= 0) entry["kernel"] = op->kernel;
    entry["flop"] = flop_of(*op);
    ops.push_back(std::move(entry));
  }
  return {{"name", f.name}, {"text", print(f)}, {"ops", ops}};
}

Json module_record(const Module& module, Origins& origins) {
  Json list = Json::array();
  for (const auto& f : module.functions) list.push_back(function_record(*f, origins));
  return list;
}

// For each operation of a function its number before a pass, or 0 if the pass made it; operations that the pass made
// have their name and origins.
Json lineage(const passes::PassReport& report, const Function& f, Origins& origins) {
  const auto known = report.numbered.find(f.name);
  const int numbered = known == report.numbered.end() ? 0 : known->second;
  Json before = Json::array(), made = Json::object();
  for (const auto& op : f.body) {
    const bool old = op->id <= numbered;
    before.push_back(old ? op->id : 0);
    if (!old)
      made[std::to_string(before.size())] = {{"op", op->name()}, {"at", origins.numbers(op->locations)}};
  }
  return {{"before", before}, {"made", made}};
}

// The functions of generated text by name.
using FunctionTexts = std::map<std::string, std::string>;

// LLVM's text: from "define" to "}".
FunctionTexts split_llvm(const std::string& text) {
  FunctionTexts result;
  std::istringstream in(text);
  std::string name;
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("define ", 0) == 0) {
      size_t at = line.find('@') + 1, end;
      if (line[at] == '"')
        end = line.find('"', ++at);
      else
        end = line.find('(', at);
      name = line.substr(at, end - at);
    }
    if (name.empty()) continue;
    result[name] += line + "\n";
    if (line == "}") name.clear();
  }
  return result;
}

std::string unquoted(const std::string& name) {
  return name.size() > 1 && name.front() == '"' ? name.substr(1, name.size() - 2) : name;
}

// Assembly: labels and instructions, with the .nn line as a comment where it changes, without directives.
FunctionTexts split_assembly(const std::string& text) {
  FunctionTexts result;
  std::map<int, std::string> files;
  std::istringstream in(text);
  std::string name, next, location;
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find_first_not_of(" \t");
    if (first == std::string::npos) continue;
    const std::string body = line.substr(first);
    int file = 0, number = 0;
    if (body.rfind(".type", 0) == 0 && body.find("@function") != std::string::npos) {
      next = unquoted(body.substr(6, body.find(',') - 6));
    } else if (std::sscanf(body.c_str(), ".file\t%d", &file) == 1) {
      const size_t end = body.rfind('"'), begin = body.rfind('"', end - 1);
      if (end != std::string::npos && begin != std::string::npos)
        files[file] = body.substr(begin + 1, end - begin - 1);
    } else if (std::sscanf(body.c_str(), ".loc\t%d %d", &file, &number) == 2) {
      const std::string at = number ? fmt::format("{}:{}", files[file], number) : "";
      if (!name.empty() && !at.empty() && at != location) result[name] += "# " + at + "\n";
      if (!at.empty()) location = at;
    } else if (body.rfind(".size", 0) == 0) {
      name.clear();
    } else if (first == 0 && body[0] != '.' && !next.empty() && body.find(':') != std::string::npos &&
               unquoted(body.substr(0, body.find(':'))) == next) {
      name = next;
      next.clear();
      location.clear();
      result[name] = name + ":\n";
    } else if (!name.empty()) {
      const bool label = body[0] == '.' && body.find(':') != std::string::npos;
      if (body[0] == '.' && !label) continue;
      if (label && (body.rfind(".Ltmp", 0) == 0 || body.rfind(".Lfunc", 0) == 0)) continue;
      if (body[0] == '#' || body.rfind("//", 0) == 0) continue;  // comments on x86-64, aarch64
      result[name] += label ? body + "\n" : "    " + body + "\n";
    }
  }
  return result;
}

// "k12_conv2d" belongs to kernel 12 of the tensor IR; copies between layouts belong to none.
int kernel_number(const std::string& name) {
  int number = -1;
  return std::sscanf(name.c_str(), "k%d_", &number) == 1 ? number : -1;
}

Json sources_record(const SourceManager& sources, uint32_t user_file, const Json& origins) {
  Json list = Json::array();
  for (uint32_t file = 1; file <= sources.file_count(); ++file) {
    const std::string start = sources.name(file) + ":";
    // Of the prelude only files that the model uses.
    const bool used = file == user_file || std::any_of(origins.begin(), origins.end(), [&](const Json& o) {
                        return o.at("location").get_ref<const std::string&>().rfind(start, 0) == 0;
                      });
    if (!used) continue;
    Json entry = {{"name", sources.name(file)}, {"text", sources.text(file)}};
    if (file == user_file)
      list.insert(list.begin(), std::move(entry));
    else
      list.push_back(std::move(entry));
  }
  return list;
}

// Records what each pass changes.
class PassRecorder {
 public:
  // `program`: the only one whose loop IR is recorded; empty: all.
  PassRecorder(const Module& module, const std::string& program, Origins& origins)
      : program_(program), origins_(origins), before_(print(module)) {}

  void operator()(const passes::PassReport& report) {
    if (report.module)
      tensor_pass(report);
    else if (program_.empty() || report.program->program.name == program_)
      loop_pass(report.pass, report.program->program);
  }
  Json take_passes() { return std::move(passes_); }
  Json take_backward() { return std::move(backward_); }

 private:
  void tensor_pass(const passes::PassReport& report) {
    Json pass = {{"name", report.pass.name},
                 {"doc", report.pass.doc},
                 {"enabled", report.enabled},
                 {"changed", report.changed}};
    if (report.changed) pass["diff"] = unified_diff(before_, print(*report.module, {false, true}));
    Json functions = Json::object();
    for (const auto& f : report.module->functions) functions[f->name] = lineage(report, *f, origins_);
    pass["lineage"] = std::move(functions);
    before_ = print(*report.module);
    passes_.push_back(std::move(pass));
    if (report.pass.name == "differentiate") backward_ = module_record(*report.module, origins_);
  }

  // Each pass over loop IR is one entry, with the changes of all programs.
  void loop_pass(const passes::PassInfo& info, const loop::Program& p) {
    const std::string text = loop::print(p);
    if (passes_.empty() || passes_.back()["name"] != info.name)
      passes_.push_back({{"name", info.name}, {"doc", info.doc}, {"enabled", true}, {"changed", false}});
    Json& pass = passes_.back();
    std::string& old = programs_before_[p.name];
    if (old.empty()) {
      pass["changed"] = true;
      pass["note"] = "makes the loop IR that the programs tab shows";
    } else if (old != text) {
      pass["changed"] = true;
      pass["diff"] = pass.value("diff", Json("")).get<std::string>() + unified_diff(old, text);
    }
    old = text;
  }

  const std::string& program_;
  Origins& origins_;
  std::string before_;
  std::map<std::string, std::string> programs_before_;
  Json passes_ = Json::array(), backward_;
};

// The programs of the page: `program`, or all where it is empty.
std::vector<const passes::LoweredProgram*> chosen_programs(const passes::Lowered& lowered,
                                                           const std::string& program) {
  std::vector<const passes::LoweredProgram*> list;
  std::vector<std::string> names;
  for (const auto& [name, p] : lowered.programs) {
    names.push_back(name);
    if (program.empty() || name == program) list.push_back(&p);
  }
  if (list.empty()) {
    const std::string nearest = nearest_name(program, names);
    throw RunError(kExitUsage,
                   fmt::format("dump: there is no program '{}'{}; there are: {}", program,
                               nearest.empty() ? "" : fmt::format(" (did you mean '{}'?)", nearest),
                               fmt::join(names, ", ")));
  }
  return list;
}

// Loop IR, LLVM IR and assembly of the programs, into the page's record.
void add_programs(Json& record, const std::vector<const passes::LoweredProgram*>& programs,
                  const codegen::Target& target) {
  std::vector<const loop::Program*> list;
  Json entries = Json::array();
  for (const passes::LoweredProgram* p : programs) {
    list.push_back(&p->program);
    Json entry = program_json(*p, false);
    for (Json& kernel : entry["kernels"]) {
      kernel["group"] = kernel_number(kernel.at("name"));
      kernel.erase("buffers");  // the text contains them
      kernel.erase("locations");
    }
    entries.push_back(std::move(entry));
  }
  const auto symbols = codegen::call_symbols(list);
  for (size_t p = 0; p < symbols.size(); ++p)
    for (size_t c = 0; c < symbols[p].size(); ++c) entries[p]["calls"][c]["code"] = symbols[p][c];
  record["programs"] = std::move(entries);
  codegen::CodegenOptions bare;
  bare.debug_info = false;  // debug metadata would be most of the text
  record["llvm"] = split_llvm(codegen::emit_llvm(list, target, bare));
  record["asm"] = split_assembly(codegen::emit_assembly(list, target));
}

}  // namespace

std::string inspect_page(const CompileRequest& request, const std::string& program) {
  const codegen::Target target = codegen::find_target(request.target, /*must_run=*/false);
  const std::unique_ptr<LoadedModel> loaded = load_model(request);
  Module& module = *loaded->model.module;
  Origins origins;
  Json record = {{"model", request.file}, {"target", target.name}, {"cpu", target.cpu}};
  {
    SourceManager sources;
    Diagnostics diagnostics(sources);
    record["ast"] = frontend::dump_ast(sources, read_model_file(sources, request.file), diagnostics);
  }
  record["ir"] = module_record(module, origins);

  passes::PipelineOptions pipeline = pipeline_options(request, target, *loaded);
  record["batch"] = pipeline.batch;
  PassRecorder passes(module, program, origins);
  pipeline.observe = std::ref(passes);
  const bool complete = passes::run_tensor_passes(module, pipeline);
  GRADC_CHECK(complete, "the pipeline was stopped");
  record["opt"] = module_record(module, origins);
  record["symbols"] = symbols_json(module);
  const passes::Lowered lowered = passes::lower(module, pipeline);
  add_programs(record, chosen_programs(lowered, program), target);
  if (Json backward = passes.take_backward(); !backward.is_null()) record["grad"] = std::move(backward);
  record["passes"] = passes.take_passes();
  record["origins"] = origins.all();
  record["sources"] = sources_record(loaded->sources, loaded->file, origins.all());

  return fill_page(kInspectPage, request.file, kInspectStyle, kInspectScript, record);
}

}  // namespace gradc::cli
