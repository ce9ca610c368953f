// The parts of a compilation after parsing: settings, data, the programs of `train`, and the updates. Shared
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

// What the statements of `train` say, collected while @train is emitted.
struct Experiment {
  struct Loss {
    std::string name;
    Op* value = nullptr;
    double weight = 1;
    Op* by_example = nullptr;  // a weight for each example; null: all weigh the same
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
  };
  struct Phase {
    std::shared_ptr<const DefinitionValue> value;
    Span span;
  };

  ProgramKind kind = ProgramKind::train;
  std::vector<Loss> losses;         // of the program being emitted
  std::vector<NamedValue> metrics;  // likewise
  Op* predict = nullptr;
  bool has_predict = false;
  std::vector<Optimizer> optimizers;
  std::vector<Penalty> penalties;
  std::vector<const Statement*> freezes;
  std::vector<Phase> schedule;
  std::map<std::string, Span> seen;  // statements that may stand once
  TrainRecord record;

  std::map<std::string, const Optimizer*> governed;  // trained parameter -> its optimizer
  std::set<std::string> frozen;
};

// `set` with --set, and `data` (experiment_data.cpp).
bool evaluate_settings(Evaluator& e, SourceManager& sources,
                       const std::map<std::string, std::string>& overrides);
bool evaluate_data(Evaluator& e, DataRecord& record);

// One statement of `train` (train_statements.cpp); context is the Experiment.
void run_experiment_statement(Evaluator& e, void* context, const Statement& s);

// After @train: which optimizer has which parameter, penalties (train_statements.cpp).
bool assign_optimizers(Evaluator& e, Experiment& experiment);
Op* emit_penalties(Evaluator& e, Experiment& experiment);

// @update.P for every trained parameter (updates.cpp).
bool emit_updates(Evaluator& e, const Experiment& experiment);

// `*` matches any text, dots too.
bool matches(const std::string& pattern, const std::string& name);

}  // namespace gradc::frontend
