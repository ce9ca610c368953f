// Lowers one function of tensor IR to one loop IR program: gives every value an allocation, lowers group after group,
// copies at the edges.
#include "passes/kernels/lowering.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/abi.h"
#include "support/check.h"

namespace gradc::passes::lowering {

namespace {

int scalar_input_index(const std::string& name) {
  static const char* const names[GRADC_SCALAR_COUNT] = GRADC_SCALAR_NAMES;
  for (int i = 0; i < GRADC_SCALAR_COUNT; ++i)
    if (name == names[i]) return i;
  internal_error(__FILE__, __LINE__, "unknown scalar input " + name);
}

bool is_scalar_input(const Op* input) { return input->type.dtype == DType::f64 && !input->type.batched; }

}  // namespace

int Lowering::new_allocation(std::string name, loop::Scalar scalar, int64_t elements, loop::Space space,
                             int64_t offset) {
  result.program.allocations.push_back({std::move(name), scalar, elements, space, offset});
  return static_cast<int>(result.program.allocations.size()) - 1;
}

int Lowering::new_scratch(std::string name, loop::Scalar scalar, int64_t elements, int64_t& at) {
  const int allocation = new_allocation(std::move(name), scalar, elements, loop::Space::scratch, at);
  at += round_up(elements * loop::bytes(scalar), kArenaAlignment);
  result.program.scratch_bytes = std::max(result.program.scratch_bytes, at);
  return allocation;
}

int64_t Lowering::elements_of(const Type& t, Layout layout) const {
  constexpr int64_t kWhole = 16;  // plain values end on whole vectors of the widest target
  switch (layout) {
    case Layout::panels: return batch_panels(t.rows) * kPanel * t.elements();
    case Layout::rows: return options.batch * t.rows * t.elements();
    case Layout::plain: return (t.elements() + kWhole - 1) / kWhole * kWhole;
  }
  return 0;
}

Storage Lowering::storage(const Op* value) const {
  const auto it = panels_or_plain.find(storage_of(value));
  GRADC_CHECK(it != panels_or_plain.end(), "%{} {} has no place in memory", value->id, value->name());
  return it->second;
}

Storage Lowering::rows_storage(const Op* value) const {
  const auto it = rows.find(storage_of(value));
  GRADC_CHECK(it != rows.end(), "%{} {} has no copy by rows", value->id, value->name());
  return it->second;
}

loop::Expr Lowering::element(const Type& t, const std::vector<loop::Expr>& places) const {
  loop::Expr linear = loop::index(0);
  for (const int axis : memory_order(t, images)) {
    const auto a = static_cast<size_t>(axis);
    linear = linear * loop::index(t.shape[a]) + places[a];
  }
  return linear;
}

void Lowering::finish(KernelBuilder& kb, loop::Partition partition) {
  loop::Call call;
  call.kernel = static_cast<int>(result.program.kernels.size());
  call.partition = partition;
  if (partition.kind == loop::Partition::Extent::panels) call.partition.rows = kb.kernel.rows;
  call.flop = std::llround(kb.flop);
  for (size_t i = 0; i < kb.accesses.size(); ++i) {
    const MemoryAccess& access = kb.accesses[i];
    const loop::Allocation& a = result.program.allocations[static_cast<size_t>(access.allocation)];
    const bool written = kb.kernel.buffers[i]->access != loop::Access::read;
    GRADC_CHECK(access.writes == written, "{} of kernel {} is to be written, and is not", a.name,
                kb.kernel.name);
    // An update reads what it writes.
    call.bytes += a.elements * loop::bytes(a.scalar) * (written && a.space == loop::Space::parameter ? 2 : 1);
    call.buffers.push_back(access);
  }
  result.program.kernels.push_back(std::move(kb.kernel));
  result.program.calls.push_back(std::move(call));
}

int Lowering::symbol_allocation(const std::string& name) {
  const auto it = symbol_allocations_.find(name);
  if (it != symbol_allocations_.end()) return it->second;
  const Symbol* s = module.symbol(name);
  GRADC_CHECK(s, "no symbol @{}", name);
  return symbol_allocations_[name] =
             new_allocation("@" + name, memory_scalar_of(s->type.dtype), elements_of(s->type, Layout::plain),
                            loop::Space::parameter, symbol_offsets.at(name));
}

int Lowering::scalars_allocation() {
  if (scalars_ < 0)
    scalars_ = new_allocation("scalars", loop::Scalar::f64, GRADC_SCALAR_COUNT, loop::Space::scalars, 0);
  return scalars_;
}

void Lowering::find_users(std::map<const Op*, std::vector<const Op*>>& users) const {
  for (const auto& op : function.body)
    for (const Op* operand : op->operands) users[operand].push_back(op.get());
}

// In place: nothing that runs after the writing kernel reads the old value, and the kernel itself reads it
// only at the point it writes.
bool Lowering::can_update_in_place(const Update& u, const std::map<const Op*, int>& group_index,
                                   const std::map<const Op*, std::vector<const Op*>>& users) const {
  const auto writer = group_index.find(u.value);
  if (writer == group_index.end() || u.value->def->kind == OpKind::contraction) {
    if (writer == group_index.end()) return false;
  }
  const Op* read = nullptr;
  for (const auto& s : function.symbols)
    if (s->symbol() == u.symbol) read = s.get();
  if (!read) return true;
  for (const Output& o : function.outputs)
    if (storage_of(o.value) == read) return false;
  for (const Update& other : function.updates)
    if (storage_of(other.value) == read) return false;
  std::vector<const Op*> work{read};
  while (!work.empty()) {
    const Op* value = work.back();
    work.pop_back();
    const auto uses = users.find(value);
    if (uses == users.end()) continue;
    for (const Op* user : uses->second) {
      if (user->def->kind == OpKind::view) {
        work.push_back(user);
        continue;
      }
      const auto reader = group_index.find(user);
      if (reader == group_index.end() || reader->second > writer->second) return false;
      const bool whole = user->def->kind == OpKind::contraction || user->def->kind == OpKind::indexing;
      if (reader->second == writer->second && (whole || value != read)) return false;
    }
  }
  return true;
}

void Lowering::place_inputs() {
  int index = 0;
  for (const auto& input : function.inputs) {
    const Type& t = input->type;
    if (is_scalar_input(input.get())) {
      panels_or_plain[input.get()] = {scalars_allocation(), Layout::plain,
                                      scalar_input_index(input->symbol())};
      continue;
    }
    GRADC_CHECK(t.batched, "input {} has no rows", input->symbol());
    result.inputs.push_back(input->symbol());
    rows[input.get()] = {new_allocation("input " + input->symbol(), memory_scalar_of(t.dtype),
                                        elements_of(t, Layout::rows), loop::Space::input, index++),
                         Layout::rows};
  }
}

void Lowering::place_outputs(const std::map<const Op*, int>& group_index) {
  for (size_t i = 0; i < function.outputs.size(); ++i) {
    const Output& o = function.outputs[i];
    const Type& t = o.value->type;
    result.outputs.push_back(o.name);
    const int allocation = new_allocation("output " + o.name, memory_scalar_of(t.dtype),
                                          t.batched ? elements_of(t, Layout::rows) : t.elements(),
                                          loop::Space::output, static_cast<int64_t>(i));
    if (t.batched)
      batched_outputs_.emplace_back(o.value, allocation);
    else if (t.elements() == 1 && group_index.count(o.value))
      targets[o.value].push_back(allocation);
    else
      plain_outputs_.emplace_back(o.value, allocation);
    if (static_cast<int>(i) == function.guard_output) result.program.guard = allocation;
  }
}

void Lowering::place_updates(const std::map<const Op*, int>& group_index,
                             const std::map<const Op*, std::vector<const Op*>>& users) {
  for (const Update& u : function.updates) {
    const int allocation = symbol_allocation(u.symbol);
    if (can_update_in_place(u, group_index, users)) {
      targets[u.value].push_back(allocation);
      symbol_targets.insert(allocation);
    } else {
      late_updates_.emplace_back(u.value, allocation);
    }
  }
}

void Lowering::run() {
  result.program.name = function.name;
  result.program.panel = kPanel;
  result.program.panels = batch_panels();
  result.program.vector_width = width;
  result.program.once = function.inputs.empty();  // neither data nor a step's scalars: initial values
  const std::vector<KernelGroup> groups = kernel_groups(function);
  std::map<const Op*, int> group_index;
  for (size_t g = 0; g < groups.size(); ++g)
    for (const Op* op : groups[g].ops) group_index[op] = static_cast<int>(g);
  std::map<const Op*, std::vector<const Op*>> users;
  find_users(users);

  place_inputs();
  for (const auto& s : function.symbols)
    panels_or_plain[s.get()] = {symbol_allocation(s->symbol()), Layout::plain};
  place_outputs(group_index);
  place_updates(group_index, users);

  // Values that other kernels, copies at the edges or views read are stored in the arena.
  std::set<const Op*> by_rows, stored;
  for (const auto& op : function.body) {
    const RowsOperand r = op->def->kind == OpKind::contraction ? rows_operand(op.get()) : RowsOperand{};
    for (size_t i = 0; i < op->operands.size(); ++i) {
      const Op* base = storage_of(op->operands[i]);
      if (static_cast<int>(i) == r.index && (rows.count(base) || !r.packs))
        by_rows.insert(base);
      else if (op->def->kind != OpKind::view && (base != op->operands[i] || !group_index.count(base) ||
                                                 group_index.at(base) != group_index[op.get()]))
        stored.insert(base);
    }
  }
  for (const auto& list : {batched_outputs_, plain_outputs_, late_updates_})
    for (const auto& [value, allocation] : list) stored.insert(storage_of(value));
  for (const Op* value : by_rows)
    if (!rows.count(value)) stored.insert(value);
  const auto arena = [&](const Op* op, Layout layout, const char* suffix) {
    const std::string name = op->def->kind == OpKind::external ? op->symbol() : fmt::format("%{}", op->id);
    return Storage{new_allocation(name + suffix, memory_scalar_of(op->type.dtype),
                                  elements_of(op->type, layout), loop::Space::arena, 0),
                   layout};
  };
  for (const auto& input : function.inputs)
    if (stored.count(input.get()) && !is_scalar_input(input.get())) {
      const Storage to = panels_or_plain[input.get()] = arena(input.get(), Layout::panels, "");
      copy_rows_to_panels(*this, input->symbol(), input->type, rows.at(input.get()).allocation,
                          to.allocation);
    }
  for (const KernelGroup& g : groups)
    for (const Op* op : g.ops) {
      if (!stored.count(op)) continue;
      const Storage s = panels_or_plain[op] =
          arena(op, op->type.batched ? Layout::panels : Layout::plain, "");
      targets[op].push_back(s.allocation);
      result.stored.push_back({op, s.allocation, memory_order(op->type, images)});
    }
  for (const KernelGroup& g : groups) {
    if (g.contraction)
      lower_contraction(*this, g);
    else
      lower_nest(*this, g);
    for (const Op* op : g.ops)
      if (by_rows.count(op)) {
        const Storage to = rows[op] = arena(op, Layout::rows, " by rows");
        copy_panels_to_rows(*this, fmt::format("v{}", op->id), op->type, storage(op).allocation,
                            to.allocation);
      }
  }
  for (const auto& [value, allocation] : batched_outputs_)
    copy_panels_to_rows(*this, "output", value->type, storage(value).allocation, allocation);
  for (const auto& [value, allocation] : plain_outputs_)
    copy_plain(*this, "output", value->type, storage(value), allocation);
  for (const auto& [value, allocation] : late_updates_)
    copy_plain(*this, "update", value->type, storage(value), allocation);

  // Every value at an offset of its own, until the memory plan.
  for (loop::Allocation& a : result.program.allocations) {
    if (a.space != loop::Space::arena) continue;
    a.offset = result.program.arena_bytes;
    result.program.arena_bytes += spaced_bytes(a.elements * loop::bytes(a.scalar));
  }
}

}  // namespace gradc::passes::lowering

namespace gradc::passes {

std::string lowering_error(const Function& f) {
  static const char* const names[GRADC_SCALAR_COUNT] = GRADC_SCALAR_NAMES;
  for (const auto& input : f.inputs) {
    if (input->type.batched) continue;
    const bool known = std::find(std::begin(names), std::end(names), input->symbol()) != std::end(names);
    if (known && input->type == Type{DType::f64, false, {}}) continue;
    return fmt::format(
        "input %{} is {}, one value for all examples: inputs have a batch (as f32[n,4] has), but for the "
        "step's scalars, f64: %{}",
        input->symbol(), to_string(input->type), fmt::join(names, ", %"));
  }
  return kernel_error(f);
}

}  // namespace gradc::passes
