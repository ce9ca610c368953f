// `gradc machine`: what the passes know of the processor that code is made for.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "compiler/compile.h"
#include "runtime/execution/report.h"

namespace gradc::cli {

namespace {

struct MachineOptions {
  std::string target = "native", cpu;
  bool all = false, json = false;
};

nlohmann::ordered_json record(const passes::Machine& m) {
  return {{"event", "machine"},       {"cpu", m.name},
          {"lanes", m.lanes},         {"registers", m.registers},
          {"fma_units", m.fma_units}, {"fma_latency", m.fma_latency},
          {"line_bytes", m.line},     {"l1_bytes", m.l1},
          {"l2_bytes", m.l2},         {"l3_bytes", m.l3},
          {"known", m.known}};
}

void print_machine(const passes::Machine& m, bool json) {
  if (json) return runtime::write_event(stdout, record(m));
  const auto kib = [](int64_t bytes) { return fmt::format("{} KiB", bytes >> 10); };
  fmt::print("{}{}\n", m.name,
             m.known ? "" : ": not in the table, the figures are those of a usual processor");
  fmt::print("vectors    {} f32 in each of {} registers\n", m.lanes, m.registers);
  fmt::print("arithmetic {} vector multiply-add{} a cycle, each of {} cycles\n", m.fma_units,
             m.fma_units == 1 ? "" : "s", m.fma_latency);
  fmt::print("caches     lines of {} bytes; a core has {}, {} and {}\n", m.line, kib(m.l1), kib(m.l2),
             kib(m.l3));
}

int run_machine(const MachineOptions& options) {
  if (options.all) {
    for (const passes::Machine& m : passes::machines()) print_machine(m, options.json);
    return kExitOk;
  }
  const codegen::Target target = options.cpu.empty()
                                     ? codegen::find_target(options.target, /*must_run=*/false)
                                     : codegen::find_cpu(options.cpu);
  print_machine(machine_of(target), options.json);
  return kExitOk;
}

}  // namespace

Command add_machine(CLI::App& app) {
  const auto o = std::make_shared<MachineOptions>();
  CLI::App* c = app.add_subcommand("machine",
                                   "say what is known of the processor that code is made for: vectors, "
                                   "registers, caches");
  c->add_option("--target", o->target, "the processor's level (default: this machine's own processor)")
      ->type_name("NAME");
  auto* cpu = c->add_option("--cpu", o->cpu, "a processor by LLVM's name, as znver3")->type_name("NAME");
  c->add_flag("--all", o->all, "every processor in the table")->excludes(cpu);
  c->add_flag("--json", o->json, "as JSON, one object a line");
  return {c, [o] { return run_machine(*o); }, &o->json};
}

}  // namespace gradc::cli
