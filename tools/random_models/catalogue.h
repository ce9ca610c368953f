// The building blocks of random models: everything the prelude defines, every built-in function and every primitive,
// with the examples and samples of their definitions. Nothing is listed by hand: a new layer, optimizer or primitive is
// in the next model.
#pragma once
#include <string>
#include <vector>

#include "ir/tensor/op_def.h"

namespace gradc::random_models {

// A parameter that a call may leave out.
struct Option {
  std::string name, default_value;  // as in the definition
};

struct Callable {
  std::string name, kind, group;  // as frontend::ReferenceEntry
  std::string example;            // an expression, or a statement of `train`
  std::vector<Option> options;
};

struct Sample {
  const OpDef* def;
  const OpSample* sample;
};

struct Catalogue {
  std::vector<Callable> expressions;  // layers, functions and built-in functions, on a model's values
  std::vector<Callable> activations;  // functions of one value
  std::vector<Callable> initialisers;
  std::vector<Callable>
      statements;               // of `train`: losses, penalties, metrics, optimizers, schedules, projections
  std::vector<Sample> samples;  // of primitives that a model file can call
  const Callable* find(const std::string& name) const;  // null: no callable with options
  // The statements that begin with a word.
  std::vector<const Callable*> with_word(const std::string& word) const;
};

const Catalogue& catalogue();

}  // namespace gradc::random_models
