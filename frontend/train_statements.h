// The steps of a compilation after parsing: settings, data, the programs of `train`, and the updates. Shared
// by their .cpp files.
#pragma once

#include "frontend/evaluator.h"
#include "frontend/frontend.h"

namespace gradc::frontend {

enum class ProgramKind : uint8_t { train, eval, predict };

struct NamedValue {
  std::string name;
  Op* value = nullptr;
  Span span;
};

// The statements of `train`, collected while @train is emitted.
struct TrainStatements {
  struct Loss {
    std::string name;
    Op* value = nullptr;
    double weight = 1;
    Op* by_example = nullptr;  // a weight for each example; null: equal weights
    Span span;
  };
  struct Optimizer {
    std::shared_ptr<const DefinitionValue> value;
    const Statement* statement = nullptr;
    std::set<std::string> no_decay;  // parameters
  };
  struct Penalty {
    std::shared_ptr<const DefinitionValue> callee;
    std::vector<BoundArgument> arguments;
    const Statement* statement = nullptr;
    std::set<std::string> parameters;  // of a projection
  };
  struct Clip {
    bool norm = false;  // of all gradients together; else each element
    double limit = 0;
    Span span;
  };
  // lr_mult, decay_mult: a factor for some parameters.
  struct Multiplier {
    double value = 1;
    const Statement* statement = nullptr;
  };
  struct Phase {
    std::shared_ptr<const DefinitionValue> value;
    Span span;
  };

  ProgramKind kind = ProgramKind::train;
  Variation variation;
  std::vector<Loss> losses;         // of the program being emitted
  std::vector<NamedValue> metrics;  // likewise
  Op* predict = nullptr;
  bool has_predict = false;
  std::vector<Optimizer> optimizers;
  std::vector<Penalty> penalties, projections;
  std::vector<Clip> clips;  // in the order written
  double noise = 0;
  double ema = 0;  // 0: none
  std::vector<Multiplier> multipliers;
  const Statement *stop = nullptr, *checkpoint = nullptr;
  bool moves = false;  // the runtime's full-batch optimizer moves the parameters; @update.P stores gradients
  std::vector<const Statement*> freezes;
  std::vector<Phase> schedule;
  std::map<std::string, Span> seen;  // statements that are allowed once
  TrainRecord record;

  std::map<std::string, const Optimizer*> governed;  // trained parameter -> its optimizer
  std::set<std::string> frozen;
  std::map<std::string, double> lr_mult, decay_mult;  // by parameter, where not 1
};

// `set` with --set, and `data` (settings_and_data.cpp).
bool evaluate_settings(Evaluator& e, SourceManager& sources,
                       const std::map<std::string, std::string>& overrides);
bool evaluate_data(Evaluator& e, DataRecord& record);

// Reports integer fields that are known to hold values beyond the axis that @train, @eval or @predict indexes
// with them (index_uses.cpp).
void check_index_ranges(Evaluator& e, const IndexRanges& ranges);

// Runs one statement of `train` after another (train_statements.cpp).
class TrainRunner final : public ExperimentStatements {
 public:
  TrainRunner(Evaluator& e, TrainStatements& statements) : e_(e), x_(statements) {}
  void run(const Statement& s) override;

 private:
  Evaluator& e_;
  TrainStatements& x_;
};

// After @train: the optimizer of each trained parameter, and the penalties (train_statements.cpp).
bool assign_optimizers(Evaluator& e, TrainStatements& experiment);
Op* emit_penalties(Evaluator& e, TrainStatements& experiment);

// @update.P for every trained parameter (updates.cpp).
bool emit_updates(Evaluator& e, const TrainStatements& experiment);

// Statements of `train` that change what an update does or when the run stops and saves (train_options.cpp).
bool is_train_option(const std::string& word);
void train_option(Evaluator& e, TrainStatements& x, const Statement& s);
// After @train: resolves the patterns of multipliers and projections, and checks monitors against the splits,
// losses and metrics that exist.
void resolve_options(Evaluator& e, TrainStatements& x, const DataRecord& data);
Monitor monitor_of(Evaluator& e, const TrainStatements& x, const DataRecord& data, const MonitorSyntax& m);
// Emits @gradients, which changes all gradients together: clipping, noise. Emits nothing where neither is
// used.
void emit_gradients(Evaluator& e, const TrainStatements& x);
// Add the symbols of moving averages, which @eval and @predict read instead of the parameters, and those of
// accumulated gradients.
void add_averages(Evaluator& e, const TrainStatements& x);
void add_gradient_sums(Evaluator& e, const TrainStatements& x);

// After @train: the options of a full-batch optimizer (gd, lbfgs, svrg), which the runtime implements, and
// errors for statements that it does not support (full_batch.cpp).
void resolve_driver(Evaluator& e, TrainStatements& x, const Function& train, const DataRecord& data);
// Model::batch_mixes: why a batch cannot be computed as micro-batches; empty: it can.
std::string why_whole_batches(const TrainStatements& x, const DataRecord& data, const Module& module,
                              const Function& train);
// Whether it is reduce_on_plateau, whose factor the runtime computes from the monitor.
bool is_plateau(const DefinitionValue& d);
// An argument of a partially bound definition, or its parameter's default; none when there is neither.
Value bound_argument(Evaluator& e, const DefinitionValue& d, const std::string& name);

// Shared by the statements (train_statements.cpp).
bool once(Evaluator& e, TrainStatements& x, const Statement& s, const std::string& what);
std::shared_ptr<const DefinitionValue> definition(Evaluator& e, const Expr& expr, DefinitionKind kind);
// The parameters that patterns match; each pattern must match one.
std::set<std::string> matched(Evaluator& e, const std::vector<Pattern>& patterns);
// The call after `penalty` or `project`; `example`: a correct statement, for the message.
bool parameter_function(Evaluator& e, TrainStatements::Penalty& p, const Statement& s, const char* example);

}  // namespace gradc::frontend
