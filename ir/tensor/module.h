// Tensor IR: modules of functions; a function is a list of operations in dependence order, each with exactly
// one result (SSA). Pure dataflow: a symbol (parameter, state, optimizer slot) reads as its value when the
// function starts; the function's updates all happen at its end. So any reordering that respects operands is
// legal and passes need no effect analysis.
#pragma once
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ir/tensor/attributes.h"
#include "ir/tensor/type.h"
#include "support/location.h"

namespace gradc {

struct OpDef;

enum class SymbolKind : uint8_t {
  parameter,  // trained
  state,      // running statistics
  slot,       // an optimizer's state for one parameter
  average,    // a parameter's moving average, which evaluation and prediction read instead
  gradient,   // the sum of a parameter's gradients over the micro-batches of one update
  weights,    // the sum of the examples' weights over the micro-batches of one update
};

struct Symbol {
  std::string name;  // "stage1.0.conv2d_1.weight"; slots, averages and gradients: "<parameter>.<what>", as
                     // "dense_1.weight.m"
  Type type;         // never batched
  SymbolKind kind = SymbolKind::parameter;
  Location location;
};

// One operation and its result. Inputs and symbol reads are operations too (defs "input" and "symbol"), stored outside
// the body.
struct Op {
  const OpDef* def = nullptr;
  std::vector<Op*> operands;
  Attributes attributes;
  Type type;
  std::vector<Location> locations;  // a fused or rewritten op keeps all its origins
  int id = 0;                       // number in text: %7; renumbered by Function::renumber
  int kernel = -1;  // set by the fusion passes: ops with one number become one kernel; -1: not assigned
  const std::string& name() const;  // of the definition
  bool is(std::string_view op_name) const;
  const std::string& symbol() const { return attributes.text("name"); }  // of an "input" or "symbol" op
};
// The rows of an example that an operation works on row by row: its result's or, where that is not batched, its
// operands'.
int64_t rows_of_example(const Op& op);

struct Update {
  std::string symbol;
  Op* value = nullptr;  // the symbol's type
  Location location;
};

struct Output {
  std::string name;  // "loss", "accuracy", "predict"
  Op* value = nullptr;
  // For a value of each example, or its sum: the output whose sum over the same rows divides it to give the mean.
  // Empty: the number of rows.
  std::string divisor = {};
};
// A loss whose examples have weights has parts, outputs "loss.0", "loss.1", ..., each with a divisor
// of its own; it is the sum of their means, and the output "loss" the sum of their values.
bool is_loss_part(const Output& output);
// The sums of weights, "weights.1", ..., that divide other outputs.
bool is_weight_sum(const Output& output);

class Function {
 public:
  explicit Function(std::string name) : name(std::move(name)) {}
  Function(const Function&) = delete;
  Function& operator=(const Function&) = delete;

  std::string name;
  std::vector<std::unique_ptr<Op>> inputs;   // def "input", attribute name
  std::vector<std::unique_ptr<Op>> symbols;  // def "symbol", attribute name; in order of first use
  std::list<std::unique_ptr<Op>> body;       // in dependence order
  std::vector<Output> outputs;
  std::vector<Update> updates;
  int guard_output =
      -1;  // index into outputs of a scalar that must be finite before updates are written; -1: none

  Op* add_input(const std::string& input_name, Type type, Location location = {});
  Op* input(std::string_view input_name) const;  // null when there is none
  // The read of a symbol, created at the first call.
  Op* read(const Symbol& symbol);
  void renumber();
  // Rewires every use of `from` (operands, outputs, updates) to `to`.
  void replace_uses(Op* from, Op* to);
  std::map<const Op*, int> use_counts() const;  // operands, outputs and updates
  // Removes body ops that no output or update depends on, and unused symbol reads; inputs are kept. Returns how many
  // ops were removed.
  int remove_dead();
  std::vector<Op*> ops() const;  // body as plain pointers, in order
  // Puts the body in the given order; every body op must be listed once.
  void reorder(const std::vector<Op*>& order);
};

class Module {
 public:
  std::string name;             // the model file as the user named it
  std::vector<Symbol> symbols;  // in order of declaration
  std::vector<std::unique_ptr<Function>> functions;
  Function* function(std::string_view function_name) const;  // null when there is none
  Function& add_function(std::string function_name);
  const Symbol* symbol(std::string_view symbol_name) const;
  Symbol& add_symbol(Symbol symbol);  // GRADC_CHECKs that the name is new
  void remove_function(std::string_view function_name);
};

// Inserts operations, before a given body op or at the end, with a current location. Shapes and attributes
// must be right (GRADC_CHECK with the inference's message): a frontend calls infer() first.
class Builder {
 public:
  explicit Builder(Function& function) : function_(function), at_(function.body.end()) {}
  Function& function() { return function_; }
  void set_location(Location l) { locations_ = {std::move(l)}; }
  void set_locations(std::vector<Location> l) { locations_ = std::move(l); }
  void insert_before(const Op* op);
  void insert_at_end() { at_ = function_.body.end(); }

  Op* create(std::string_view op, std::vector<Op*> operands, Attributes attributes = {});

  // The operators that gradients and rewrites use most.
  Op* constant(double value, DType dtype = DType::f32);  // a scalar; broadcasting widens it
  Op* neg(Op* a) { return create("neg", {a}); }
  Op* exp(Op* a) { return create("exp", {a}); }
  Op* add(Op* a, Op* b) { return create("add", {a, b}); }
  Op* sub(Op* a, Op* b) { return create("sub", {a, b}); }
  Op* mul(Op* a, Op* b) { return create("mul", {a, b}); }
  Op* div(Op* a, Op* b) { return create("div", {a, b}); }
  Op* add(Op* a, double b) { return add(a, constant(b, a->type.dtype)); }
  Op* mul(Op* a, double b) { return mul(a, constant(b, a->type.dtype)); }
  Op* compare(const char* op, Op* a, Op* b) { return create(op, {a, b}); }  // "lt" "le" "gt" "ge" "eq" "ne"
  Op* select(Op* c, Op* a, Op* b) { return create("select", {c, a, b}); }
  Op* cast(Op* a, DType to);
  Op* reshape(Op* a, Shape shape);  // a itself when it has that shape
  // Sums over the batch (when `batch`) and over example axes; keep leaves extents of 1.
  Op* reduce_sum(Op* a, std::vector<int64_t> axes, bool batch = false, bool keep = false);
  // Sums a gradient down to the type of the operand it belongs to, undoing broadcasting (batch included).
  Op* sum_to(Op* a, const Type& type);

 private:
  Function& function_;
  std::list<std::unique_ptr<Op>>::iterator at_;
  std::vector<Location> locations_;
};

// Copies ops of `from` (inputs mapped by `inputs`, symbol reads to reads of the same symbols) to the builder's
// position; returns the copy of every op. Updates and outputs are not copied.
std::map<const Op*, Op*> inline_function(const Function& from, const std::map<std::string, Op*>& inputs,
                                         Module& module, Builder& b);

// Text. print(parse(print(m))) == print(m).
struct PrintOptions {
  bool locations = false;
  bool by_id = false;  // values are named by Op::id, which need not be their position in the body
};
std::string print(const Module& m, PrintOptions options = {});
std::string print(const Function& f, PrintOptions options = {});
struct ModuleParseResult {
  std::unique_ptr<Module> module;
  std::string error;  // "line 3, column 7: expected ..."; empty when it parsed
};
ModuleParseResult parse_module(std::string_view text);

// Errors: dependence order, types as inferred, symbols, updates. Empty when sound.
std::vector<std::string> verify(const Module& m);
std::vector<std::string> verify(const Module& m, const Function& f);

}  // namespace gradc
