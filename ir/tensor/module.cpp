// Functions and modules: creating, finding, rewiring and removing operations. Knows no operator but the two
// external ones, "input" and "symbol".
#include "ir/tensor/module.h"

#include <algorithm>
#include <set>

#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc {

namespace {

std::unique_ptr<Op> make_external(const char* def, const std::string& name, Type type, Location location) {
  auto op = std::make_unique<Op>();
  op->def = find_op(def);
  GRADC_CHECK(op->def, "the registry has no `{}`", def);
  op->attributes.set("name", name);
  op->type = std::move(type);
  if (location.valid()) op->locations.push_back(std::move(location));
  return op;
}

}  // namespace

bool is_loss_part(const Output& output) { return output.name.rfind("loss.", 0) == 0; }
bool is_weight_sum(const Output& output) { return output.name.rfind("weights.", 0) == 0; }

const std::string& Op::name() const {
  GRADC_CHECK(def, "an operation without a definition");
  return def->name;
}

bool Op::is(std::string_view op_name) const { return def && def->name == op_name; }

int64_t rows_of_example(const Op& op) {
  int64_t rows = op.type.rows;
  for (const Op* operand : op.operands) rows = std::max(rows, operand->type.rows);
  return rows;
}

Op* Function::add_input(const std::string& input_name, Type type, Location location) {
  GRADC_CHECK(!input(input_name), "@{} has an input %{} already", name, input_name);
  inputs.push_back(make_external("input", input_name, std::move(type), std::move(location)));
  return inputs.back().get();
}

Op* Function::input(std::string_view input_name) const {
  for (const auto& op : inputs)
    if (op->symbol() == input_name) return op.get();
  return nullptr;
}

Op* Function::read(const Symbol& symbol) {
  for (const auto& op : symbols)
    if (op->symbol() == symbol.name) return op.get();
  symbols.push_back(make_external("symbol", symbol.name, symbol.type, symbol.location));
  return symbols.back().get();
}

void Function::renumber() {
  int number = 0;
  for (const auto& op : body) op->id = ++number;
}

void Function::replace_uses(Op* from, Op* to) {
  for (const auto& op : body) std::replace(op->operands.begin(), op->operands.end(), from, to);
  for (Output& o : outputs)
    if (o.value == from) o.value = to;
  for (Update& u : updates)
    if (u.value == from) u.value = to;
}

std::map<const Op*, int> Function::use_counts() const {
  std::map<const Op*, int> counts;
  for (const auto& op : body)
    for (const Op* operand : op->operands) ++counts[operand];
  for (const Output& o : outputs) ++counts[o.value];
  for (const Update& u : updates) ++counts[u.value];
  return counts;
}

int Function::remove_dead() {
  std::set<const Op*> live;
  for (const Output& o : outputs) live.insert(o.value);
  for (const Update& u : updates) live.insert(u.value);
  int removed = 0;
  for (auto it = body.end(); it != body.begin();) {
    --it;
    if (live.count(it->get())) {
      live.insert((*it)->operands.begin(), (*it)->operands.end());
    } else {
      it = body.erase(it);
      ++removed;
    }
  }
  std::erase_if(symbols, [&](const auto& op) { return !live.count(op.get()); });
  return removed;
}

std::vector<Op*> Function::ops() const {
  std::vector<Op*> result;
  result.reserve(body.size());
  for (const auto& op : body) result.push_back(op.get());
  return result;
}

void Function::reorder(const std::vector<Op*>& order) {
  GRADC_CHECK(order.size() == body.size(), "@{}: an order of {} operations for {}", name, order.size(),
              body.size());
  std::map<const Op*, std::unique_ptr<Op>> by_pointer;
  for (auto& op : body) {
    const Op* key = op.get();
    by_pointer.emplace(key, std::move(op));
  }
  body.clear();
  for (const Op* op : order) {
    const auto it = by_pointer.find(op);
    GRADC_CHECK(it != by_pointer.end() && it->second,
                "@{}: an operation that is not in the body, or is listed twice", name);
    body.push_back(std::move(it->second));
  }
}

Function* Module::function(std::string_view function_name) const {
  for (const auto& f : functions)
    if (f->name == function_name) return f.get();
  return nullptr;
}

Function& Module::add_function(std::string function_name) {
  GRADC_CHECK(!function(function_name), "the module has a function @{} already", function_name);
  functions.push_back(std::make_unique<Function>(std::move(function_name)));
  return *functions.back();
}

const Symbol* Module::symbol(std::string_view symbol_name) const {
  for (const Symbol& s : symbols)
    if (s.name == symbol_name) return &s;
  return nullptr;
}

Symbol& Module::add_symbol(Symbol added) {
  GRADC_CHECK(!symbol(added.name), "the module has a symbol @{} already", added.name);
  GRADC_CHECK(!added.type.batched, "symbol @{} cannot be batched", added.name);
  symbols.push_back(std::move(added));
  return symbols.back();
}

void Module::remove_function(std::string_view function_name) {
  std::erase_if(functions, [&](const auto& f) { return f->name == function_name; });
}

std::map<const Op*, Op*> inline_function(const Function& from, const std::map<std::string, Op*>& inputs,
                                         Module& module, Builder& b) {
  std::map<const Op*, Op*> image;
  for (const auto& input : from.inputs) {
    const auto it = inputs.find(input->symbol());
    GRADC_CHECK(it != inputs.end() && it->second, "@{} is inlined without a value for %{}", from.name,
                input->symbol());
    GRADC_CHECK(it->second->type == input->type, "@{} is inlined with %{} of type {}, not {}", from.name,
                input->symbol(), to_string(it->second->type), to_string(input->type));
    image[input.get()] = it->second;
  }
  for (const auto& read : from.symbols) {
    const Symbol* symbol = module.symbol(read->symbol());
    GRADC_CHECK(symbol, "@{} reads @{}, which the module has not", from.name, read->symbol());
    image[read.get()] = b.function().read(*symbol);
  }
  // Copied first: `from` may be the function that the builder writes to.
  for (const Op* op : from.ops()) {
    std::vector<Op*> operands;
    for (const Op* operand : op->operands) operands.push_back(image.at(operand));
    Op* copy = b.create(op->name(), std::move(operands), op->attributes);
    GRADC_CHECK(copy->type == op->type, "inlining @{} changed {} from {} to {}", from.name, op->name(),
                to_string(op->type), to_string(copy->type));
    if (!op->locations.empty()) copy->locations = op->locations;
    image[op] = copy;
  }
  return image;
}

}  // namespace gradc
