// Tensor IR and loop IR as JSON records and Graphviz graphs.
#include "cli/inspect/ir_views.h"

#include <fmt/format.h>

#include <cmath>

namespace gradc::cli {

using Json = nlohmann::ordered_json;

namespace {

// A value's name in text: "%7", "%image", "@dense_1.weight".
std::string value_name(const Op& op) {
  if (op.is("input")) return "%" + op.symbol();
  if (op.is("symbol")) return "@" + op.symbol();
  return fmt::format("%{}", op.id);
}

Json attribute_json(const Attribute& attribute) {
  return std::visit(
      [&](const auto& value) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, double>)
          if (!std::isfinite(value)) return to_string(attribute);  // JSON has no such numbers
        return value;
      },
      attribute);
}

const char* space_name(loop::Space space) {
  switch (space) {
    case loop::Space::arena: return "arena";
    case loop::Space::parameter: return "parameter";
    case loop::Space::input: return "input";
    case loop::Space::output: return "output";
    case loop::Space::scalars: return "scalars";
    case loop::Space::scratch: return "scratch";
    case loop::Space::local: return "local";
  }
  return "?";
}

const char* kind_name(SymbolKind kind) {
  switch (kind) {
    case SymbolKind::parameter: return "parameter";
    case SymbolKind::state: return "state";
    case SymbolKind::slot: return "slot";
    case SymbolKind::average: return "average";
    case SymbolKind::gradient: return "gradient";
    case SymbolKind::weights: return "weights";
  }
  return "?";
}

const char* access_name(loop::Access access) {
  switch (access) {
    case loop::Access::read: return "read";
    case loop::Access::write: return "write";
    case loop::Access::read_write: return "read_write";
  }
  return "?";
}

// Text within a quoted label of Graphviz.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out + "\"";
}

constexpr const char* kGraphStyle =
    "  rankdir=TB;\n  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"monospace\", "
    "fontsize=10];\n  edge [color=\"#555555\"];\n";

}  // namespace

Json locations_json(const std::vector<Location>& locations) {
  Json list = Json::array();
  for (const Location& l : locations) {
    if (!l.valid()) continue;
    Json location = {{"location", to_string(l)}, {"user_location", user_location(l)}};
    Json trail = Json::array();
    for (const CallSite* site = l.call.get(); site; site = site->parent.get()) {
      Json call = {{"callee", site->callee}};
      if (!site->instance.empty()) call["instance"] = site->instance;
      if (site->line) call["called_at"] = fmt::format("{}:{}", site->file, site->line);
      trail.push_back(std::move(call));
    }
    if (!trail.empty()) location["trail"] = std::move(trail);
    list.push_back(std::move(location));
  }
  return list;
}

Json symbols_json(const Module& module) {
  Json list = Json::array();
  for (const Symbol& s : module.symbols)
    list.push_back({{"name", s.name},
                    {"kind", kind_name(s.kind)},
                    {"type", to_string(s.type)},
                    {"locations", locations_json({s.location})}});
  return list;
}

Json function_json(const Function& f) {
  Json inputs = Json::array(), ops = Json::array(), updates = Json::array(), outputs = Json::array();
  for (const auto& op : f.inputs) inputs.push_back({{"name", op->symbol()}, {"type", to_string(op->type)}});
  for (const auto& op : f.body) {
    Json operands = Json::array(), attributes = Json::object();
    for (const Op* operand : op->operands) operands.push_back(value_name(*operand));
    for (const auto& [name, value] : op->attributes) attributes[name] = attribute_json(value);
    Json entry = {{"id", op->id},
                  {"op", op->name()},
                  {"operands", operands},
                  {"attributes", attributes},
                  {"type", to_string(op->type)}};
    if (op->kernel >= 0) entry["kernel"] = op->kernel;
    entry["locations"] = locations_json(op->locations);
    ops.push_back(std::move(entry));
  }
  for (const Update& u : f.updates)
    updates.push_back({{"symbol", u.symbol}, {"value", value_name(*u.value)}});
  for (const Output& o : f.outputs) outputs.push_back({{"name", o.name}, {"value", value_name(*o.value)}});
  Json result = {
      {"name", f.name}, {"inputs", inputs}, {"ops", ops}, {"updates", updates}, {"outputs", outputs}};
  if (f.guard_output >= 0) result["guard"] = f.outputs[static_cast<size_t>(f.guard_output)].name;
  return result;
}

Json program_json(const passes::LoweredProgram& lowered, bool locations) {
  const loop::Program& p = lowered.program;
  Json kernels = Json::array(), allocations = Json::array(), calls = Json::array();
  for (const loop::Kernel& k : p.kernels) {
    Json buffers = Json::array();
    for (const loop::Buffer& b : k.buffers)
      buffers.push_back(
          {{"name", b->name}, {"type", loop::name(b->scalar)}, {"access", access_name(b->access)}});
    kernels.push_back({{"name", k.name},
                       {"summary", k.summary},
                       {"buffers", buffers},
                       {"locations", locations_json(k.locations)},
                       {"text", loop::print(k, locations)}});
  }
  for (const loop::Allocation& a : p.allocations)
    allocations.push_back({{"name", a.name},
                           {"type", loop::name(a.scalar)},
                           {"elements", a.elements},
                           {"bytes", a.elements * loop::bytes(a.scalar)},
                           {"space", space_name(a.space)},
                           {"offset", a.offset}});
  for (const loop::Call& c : p.calls) {
    Json buffers = Json::array(), scopes = Json::array();
    for (const loop::CallBuffer& b : c.buffers) {
      buffers.push_back(b.allocation);
      scopes.push_back(loop::name(b.scope));
    }
    calls.push_back({{"kernel", c.kernel},
                     {"buffers", std::move(buffers)},
                     {"scopes", std::move(scopes)},
                     {"split",
                      {{"over", c.partition.kind == loop::Partition::Extent::panels ? "panels" : "axis"},
                       {"extent", c.partition.extent},
                       {"unit", c.partition.unit}}},
                     {"barrier_before", c.barrier_before},
                     {"guard_before", c.guard_before},
                     {"flop", c.flop},
                     {"bytes", c.bytes}});
  }
  return {{"name", p.name},
          {"panel", p.panel},
          {"vector_width", p.vector_width},
          {"arena_bytes", p.arena_bytes},
          {"least_arena_bytes", passes::least_arena_bytes(p)},
          {"local_bytes", p.local_bytes},
          {"panels", p.panels},
          {"scratch_bytes", p.scratch_bytes},
          {"guard", p.guard},
          {"kernels", kernels},
          {"allocations", allocations},
          {"calls", calls}};
}

std::string functions_dot(const std::vector<const Function*>& functions) {
  std::string out = std::string("digraph gradc {\n") + kGraphStyle;
  for (size_t n = 0; n < functions.size(); ++n) {
    const Function& f = *functions[n];
    const std::string at = fmt::format("f{}", n);
    std::map<const Op*, std::string> nodes;
    out += fmt::format("  subgraph cluster_{} {{\n    label={};\n", at, quoted("@" + f.name));
    const auto add = [&](const Op& op, const std::string& id, const char* color) {
      nodes[&op] = id;
      return fmt::format(
          "{} [label={}{}];\n", id,
          quoted(fmt::format("{}{}\n{}", value_name(op),
                             op.is("input") || op.is("symbol") ? "" : " " + op.name(), to_string(op.type))),
          color[0] ? fmt::format(", fillcolor=\"{}\"", color) : "");
    };
    size_t next = 0;
    for (const auto& op : f.inputs) out += "    " + add(*op, fmt::format("{}_i{}", at, next++), "#d8e8ff");
    next = 0;
    for (const auto& op : f.symbols) out += "    " + add(*op, fmt::format("{}_s{}", at, next++), "#ffe9c9");
    std::map<int, std::string> kernels;  // text of each kernel's nodes
    for (const auto& op : f.body)
      kernels[op->kernel] += "      " + add(*op, fmt::format("{}_{}", at, op->id), "");
    for (const auto& [number, text] : kernels) {
      if (number < 0)
        out += text;
      else
        out += fmt::format(
            "    subgraph cluster_{}_k{} {{\n      label=\"kernel {}\"; color=\"#999999\";\n{}    }}\n", at,
            number, number, text);
    }
    const auto edge = [&](const Op* from, const std::string& to) {
      out += fmt::format("    {} -> {};\n", nodes.at(from), to);
    };
    for (const auto& op : f.body)
      for (const Op* operand : op->operands) edge(operand, nodes.at(op.get()));
    for (size_t i = 0; i < f.updates.size(); ++i) {
      const std::string id = fmt::format("{}_u{}", at, i);
      out += fmt::format("    {} [label={}, fillcolor=\"#ffe9c9\"];\n", id,
                         quoted("update @" + f.updates[i].symbol));
      edge(f.updates[i].value, id);
    }
    for (size_t i = 0; i < f.outputs.size(); ++i) {
      const std::string id = fmt::format("{}_o{}", at, i);
      out += fmt::format("    {} [label={}, fillcolor=\"#d9f2d9\"];\n", id,
                         quoted("output " + f.outputs[i].name));
      edge(f.outputs[i].value, id);
    }
    out += "  }\n";
  }
  return out + "}\n";
}

std::string programs_dot(const std::vector<const passes::LoweredProgram*>& programs) {
  std::string out = std::string("digraph gradc {\n") + kGraphStyle;
  for (size_t n = 0; n < programs.size(); ++n) {
    const loop::Program& p = programs[n]->program;
    out += fmt::format("  subgraph cluster_p{} {{\n    label={};\n", n, quoted(p.name));
    std::map<int, size_t> written;  // allocation: the call that wrote it last
    std::string edges;
    for (size_t c = 0; c < p.calls.size(); ++c) {
      const loop::Call& call = p.calls[c];
      const loop::Kernel& kernel = p.kernels[static_cast<size_t>(call.kernel)];
      out += fmt::format("    p{}_{} [label={}];\n", n, c,
                         quoted(fmt::format("{} {}\n{}", c, kernel.name, kernel.summary)));
      for (size_t b = 0; b < call.buffers.size(); ++b) {
        const auto from = written.find(call.buffers[b].allocation);
        if (from != written.end() && kernel.buffers[b]->access != loop::Access::write)
          edges += fmt::format("    p{}_{} -> p{}_{} [label={}, fontsize=8];\n", n, from->second, n, c,
                               quoted(p.allocations[static_cast<size_t>(call.buffers[b].allocation)].name));
      }
      for (size_t b = 0; b < call.buffers.size(); ++b)
        if (kernel.buffers[b]->access != loop::Access::read) written[call.buffers[b].allocation] = c;
    }
    out += edges + "  }\n";
  }
  return out + "}\n";
}

}  // namespace gradc::cli
