// The reference interpreter: evaluates tensor IR in double precision, operator by operator, straight from the
// definitions. It shares no code with lowering or code generation (but for the random generator's
// definition), so that they can be checked against it.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>
#include <xtensor/xarray.hpp>

#include "ir/tensor/module.h"

namespace gradc::interpreter {

// A value: shape is the example's shape, with the rows first when batched. Booleans are 0 and 1, integers
// exact.
struct Tensor {
  Type type;
  int64_t rows = 1;  // when batched: those of the batch, times an example's (Type::rows)
  xt::xarray<double> data;
};

// Which way kinked operations went (relu, select's comparisons, max, argmax): recorded in one run and
// replayed in others, so that central differences do not step over a kink.
struct Decisions {
  enum class Mode { off, record, replay } mode = Mode::off;
  std::map<int, std::vector<int64_t>> by_op;  // op id -> a choice per element
};

struct Context {
  int64_t rows = 1;
  int64_t row_offset = 0;
  uint64_t seed = 0;
  uint64_t micro_step = 0;
  Decisions* decisions = nullptr;  // may be null
};

// The rows of a value: those of the context, or 1 where it is not batched. While an operation that works row by row is
// evaluated, the context counts its rows, of which an example may have several.
inline int64_t rows_of(const Type& type, const Context& context) { return type.batched ? context.rows : 1; }

struct RunInput {
  std::map<std::string, Tensor> inputs;
  std::map<std::string, Tensor> symbols;
  Context context;
  bool keep_all = false;  // keep every op's value in RunResult::values
};

struct RunResult {
  std::map<std::string, Tensor> outputs;
  std::map<std::string, Tensor> updates;  // new values of symbols
  std::map<const Op*, Tensor> values;     // with keep_all
};

RunResult run(const Function& f, const RunInput& input);

// One operation's result, by its definition.
Tensor evaluate(const Op& op, std::span<const Tensor* const> operands, const Context& context);

// A zero tensor of a type (rows used when batched: those of the examples, each Type::rows).
Tensor make_tensor(const Type& type, int64_t rows);

}  // namespace gradc::interpreter
