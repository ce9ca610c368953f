// A network that grows statement by statement: each candidate is compiled and evaluated, and rejected if it does not
// compile, is too large or leaves the range of ordinary activations.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "compiler/compile.h"
#include "ir/interpreter/interpreter.h"
#include "tools/random_models/draw.h"

namespace gradc::random_models {

// A data source, its fields, and their names in the model.
struct Source {
  std::string declaration;  // data d = random(...)
  struct Field {
    std::string name;
    Type type;
  };
  std::vector<Field> fields;  // read as d.NAME
  std::string label;          // an expression of `train`: i32, less than `classes`
  int64_t classes = 10;
  int64_t batch = 1;
};

struct Value {
  std::string name;
  Type type;
};

class Network {
 public:
  Network(Draw& draw, const Source& source);

  Draw& draw() { return draw_; }
  const Source& source() const { return source_; }
  const std::vector<Value>& values() const { return values_; }

  // Binds a new name to an expression, after some lines that it needs; false when that cannot be.
  bool take(const std::string& expression, const std::vector<std::string>& before = {});
  // An unused name, for lines before an expression.
  std::string fresh(const char* stem) { return stem + std::to_string(++count_); }

  // A value of f32 with that many axes (-1: any), made of another one where there is none.
  std::string pick(int rank);
  const Value& any_value(bool only_float = true);
  // The shape of a result of pick(), which is valid for one use.
  Shape shape_of(const std::string& picked) const;
  // An expression of that shape, made of a value of the network.
  std::string with_shape(const Shape& shape, const std::string& of = {});

  // Makes all values that nothing uses one vector of `classes` numbers, or [length, classes].
  bool finish(int64_t length);
  // The definition of the model `net`.
  std::string text() const;
  std::string call() const;  // net(d.image)

 private:
  struct Probe {
    bool sound = false;
    Type type;
  };
  Probe probe(const std::vector<std::string>& lines, const std::string& name) const;
  std::string definition(const std::vector<std::string>& lines, const std::string& result) const;
  std::vector<Value> unused() const;

  Draw& draw_;
  const Source& source_;
  std::vector<Value> values_;
  std::vector<std::string> lines_;
  std::map<std::string, Shape> picked_;
  std::string result_;
  int count_ = 0;
};

// Tries to add one statement of some kind; false when it was not taken.
bool add_statement(Network& network);

// Network structures that no single definition has: joins, blocks, shared parameters, loops, products.
bool add_motif(Network& network);

// Whether the module's forward programs give ordinary numbers on synthetic examples: finite and of moderate size.
bool ordinary(const Module& module, int64_t integers_below, double most);

// Values for the inputs of a function: f32 between -2.5 and 2.5, i32 from 0 to integers_below - 1.
std::map<std::string, interpreter::Tensor> made_up_inputs(const Function& f, int64_t rows,
                                                          int64_t integers_below);

int64_t elements(const Shape& shape);

}  // namespace gradc::random_models
