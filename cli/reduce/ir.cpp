// Reduces tensor IR: removes functions, outputs and updates, replaces operations by zero, one of their operands, or an
// input or symbol of their type; then removes everything unused.
#include <algorithm>
#include <set>

#include "cli/reduce/reduce.h"
#include "ir/tensor/module.h"
#include "support/check.h"

namespace gradc::cli {

namespace {

// Drops what no output or update needs: operations, inputs, symbols.
void clean(Module& m) {
  std::set<std::string> used;
  for (const auto& f : m.functions) {
    f->remove_dead();
    const auto counts = f->use_counts();
    std::erase_if(f->inputs, [&](const auto& op) { return !counts.count(op.get()); });
    for (const auto& op : f->symbols) used.insert(op->symbol());
    for (const Update& u : f->updates) used.insert(u.symbol);
    f->renumber();
  }
  std::erase_if(m.symbols, [&](const Symbol& s) { return !used.count(s.name); });
}

class IrReducer : Shrinking {
 public:
  using Shrinking::Shrinking;

  Reduction run() {
    for (bool again = true; again;) {
      again = each([](Module& m) { return m.functions.size(); },
                   [](Module& m, size_t i) {
                     const std::string name = m.functions[i]->name;
                     m.remove_function(name);
                     return !m.functions.empty();
                   });
      again = of_functions([](Function& f) { return f.updates.size(); },
                           [](Function& f, size_t i) {
                             f.updates.erase(f.updates.begin() + static_cast<std::ptrdiff_t>(i));
                             return true;
                           }) ||
              again;
      again = of_functions([](Function& f) { return f.outputs.size(); },
                           [](Function& f, size_t i) {
                             f.outputs.erase(f.outputs.begin() + static_cast<std::ptrdiff_t>(i));
                             if (f.guard_output == static_cast<int>(i))
                               f.guard_output = -1;
                             else if (f.guard_output > static_cast<int>(i))
                               --f.guard_output;
                             return true;
                           }) ||
              again;
      again = of_functions([](Function& f) { return static_cast<size_t>(f.guard_output >= 0); },
                           [](Function& f, size_t) {
                             f.guard_output = -1;
                             return true;
                           }) ||
              again;
      // Replace an output by an operand of its operation, of any type.
      for (const size_t operand : {0, 1, 2})
        again = of_functions([](Function& f) { return f.outputs.size(); },
                             [operand](Function& f, size_t i) {
                               const std::vector<Op*>& from = f.outputs[i].value->operands;
                               if (operand >= from.size() || from[operand]->operands.empty()) return false;
                               f.outputs[i].value = from[operand];
                               return true;
                             }) ||
                again;
      // From the end: the operands of a replaced operation are removed with it.
      for (const int kind : {0, 1, 2})
        again =
            of_functions([](Function& f) { return f.body.size(); },
                         [kind](Function& f, size_t i) { return shorten(f, f.body.size() - 1 - i, kind); }) ||
            again;
    }
    return std::move(result_);
  }

 private:
  // Replaces operation `at` by zero (kind 0), an operand of its type (1), an input or symbol of its type (2).
  static bool shorten(Function& f, size_t at, int kind) {
    const std::vector<Op*> ops = f.ops();
    Op* op = ops[at];
    if (kind == 0) {
      if (op->operands.empty() || !op->type.is_float()) return false;
      Builder b(f);
      b.insert_before(op);
      b.set_locations(op->locations);
      Op* zero = b.constant(0, op->type.dtype);
      if (!(op->type == zero->type))
        zero = b.create("broadcast", {zero}, {{"shape", op->type.shape}, {"batched", op->type.batched}});
      // A broadcast zero cannot be reduced further.
      if (op->is("broadcast") && op->operands[0]->is("constant")) return false;
      f.replace_uses(op, zero);
      return true;
    }
    const std::vector<Op*> operands = op->operands;
    if (kind == 1) {
      for (Op* operand : operands)
        if (operand->type == op->type) {
          f.replace_uses(op, operand);
          return true;
        }
      return false;
    }
    for (const auto* list : {&f.inputs, &f.symbols})
      for (const auto& value : *list)
        if (value->type == op->type) {
          f.replace_uses(op, value.get());
          return true;
        }
    return false;
  }

  // Tries edit(module, i) for every i below count(module), each on a fresh module.
  template <class Count, class Change>
  bool each(Count count, Change edit) {
    bool any = false;
    for (size_t i = 0;;) {
      ModuleParseResult parsed = parse_module(result_.text);
      GRADC_CHECK(parsed.error.empty(), "reduced IR does not parse: {}", parsed.error);
      if (i >= count(*parsed.module)) return any;
      if (edit(*parsed.module, i) && take_module(*parsed.module))
        any = true;
      else
        ++i;
    }
  }

  template <class Count, class Change>
  bool of_functions(Count count, Change edit) {
    const auto total = [&](Module& m) {
      size_t sum = 0;
      for (const auto& f : m.functions) sum += count(*f);
      return sum;
    };
    return each(total, [&](Module& m, size_t i) {
      for (const auto& f : m.functions) {
        const size_t here = count(*f);
        if (i < here) return edit(*f, i);
        i -= here;
      }
      return false;
    });
  }

  bool take_module(Module& m) {
    clean(m);
    return verify(m).empty() && take(print(m, {true}));
  }
};

}  // namespace

Reduction reduce_ir(std::string text, const Interesting& interesting,
                    const std::function<void(const std::string&)>& better) {
  return IrReducer(std::move(text), interesting, better).run();
}

}  // namespace gradc::cli
