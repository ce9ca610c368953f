// The definition of a primitive: one record of its name, documentation, operands, attributes, traits, type
// inference, gradient, lowering, reference evaluation, cost and test samples. All code that must know operators uses
// this record; only rewrite patterns name them. To add a primitive, add one OpDef to a file
// under ir/ops/ and list its file's register function in ir/ops/registry.cpp: calls in .nn files,
// did-you-mean, the verifier, autodiff, fusion, docs/ops.md and the value, gradient and text tests all come
// from it; the registry rejects an incomplete record.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ir/loop/loop_ir.h"
#include "ir/tensor/module.h"

namespace gradc {

namespace interpreter {
struct Tensor;
struct Context;
}  // namespace interpreter

enum class OpKind : uint8_t {
  elementwise,  // one result element from the elements at the same position of broadcast operands; `scalar`
                // lowers it
  reduction,    // attributes axes, batch, keep; `combiner`
  contraction,  // sums of products (einsum, convolutions): lowered by its own loop nest, may carry an
                // elementwise epilogue
  indexing,   // moves elements: the result at a position is one operand at a computed position, or a constant
              // (transpose, slice, pad, concat)
  view,       // the same elements in the same order under another shape (reshape)
  source,     // no tensor operand: constants, iota, random numbers, row counts; `scalar` lowers it
  composite,  // replaced by other ops before fusion (`decompose`): log_softmax, argmax, pick
  external,   // "input" and "symbol": not computed
};

// The loop nest that computes a contraction (passes/kernels/); every contraction names one.
enum class LoopNest : uint8_t {
  none,
  einsum,
  convolution,
  convolution_input_grad,
  convolution_weight_grad,
  max_pool,
  max_pool_grad,
  avg_pool,
  avg_pool_grad,
  gather,
  scatter_add,
  orthonormal_rows,
  fold_rows,
  rows_convolution,
  rows_convolution_input_grad,
  rows_convolution_weight_grad,
  fold_pixels,
  unfold_pixels,
  move_pixels,
  attention,
  attention_log_sum,
  attention_query_grad,
  attention_key_grad,
  attention_value_grad,
};

// How a model file calls a primitive. by_kind: elementwise ones by their plain names, others with `primitive.` before
// them; those without operands (sources, random numbers) or with any number of them cannot be called: built-in
// functions replace them.
enum class CallForm : uint8_t { by_kind, plain, qualified, none };

enum class AttributeKind : uint8_t { boolean, integer, number, text, integers };

struct OperandSpec {
  std::string name, doc;
};

struct AttributeSpec {
  std::string name;
  AttributeKind kind;
  bool required = true;
  Attribute default_value{};  // set by the builder when an optional one is missing
  std::string doc;
};

struct InferResult {
  Type type;
  std::string error;  // empty: no error. Else the message for the user: "channels 16 and 32 differ"
  static InferResult ok(Type t) { return {std::move(t), {}}; }
  static InferResult fail(std::string e) { return {{}, std::move(e)}; }
};

// One concrete use for the generic tests (value, gradient, text, native code): operand types and attributes.
struct OpSample {
  std::vector<Type> operands;
  Attributes attributes;
  double low = -2,
         high = 2;   // operand values are drawn uniformly from here (integers: 0 .. high-1 when high > 1)
  int64_t rows = 5;  // batch
};

struct Cost {
  double flop = 0;   // of one row when batched
  double bytes = 0;  // read and written once
};

// The context of a scalar lowering: random numbers, row counts and iota need more than their operands.
struct ScalarContext {
  loop::Builder& b;
  loop::Type type;     // of the result: scalar and lanes
  loop::Expr row;      // i64 row of lane 0 within the call; lanes are consecutive rows when batched
  loop::Expr element;  // i64 index of the element within the example in logical order (unbatched: of lane 0
                       // within the value; lanes are consecutive elements)
  bool batched = false;
  loop::Expr axis_index(int axis) const { return axis_indices[static_cast<size_t>(axis)]; }
  std::vector<loop::Expr>
      axis_indices;             // i64 position on each example axis (the last may have lanes when unbatched)
  bool from_row_zero = false;   // the call's row 0 is the step's: row_offset is 0
  bool offset_aligned = false;  // row_offset is a multiple of a panel
  int64_t rows = 1;             // of an example, as the kernel's
  bool aligned = false;         // row (batched) or element (unbatched) is a multiple of the lanes
};

// An operand whose elements are positions: only 0 .. extent - 1 are valid.
struct IndexUse {
  size_t operand = 0;
  int64_t extent = 0;
};

struct OpDef {
  std::string name;
  std::string doc;  // one or more sentences, with the formula and the source
  OpKind kind = OpKind::elementwise;
  LoopNest loop_nest = LoopNest::none;  // of a contraction
  std::vector<OperandSpec> operands;
  bool variadic = false;         // the last operand may repeat (concat, einsum)
  size_t optional_operands = 0;  // so many of the last may be left out
  std::vector<AttributeSpec> attributes;
  bool commutative = false;
  bool random =
      false;  // result depends on (seed, step, stream, row, element); never merged with another stream
  bool epilogue = true;  // of a contraction: its kernel may have an elementwise epilogue
  bool images = false;   // batched operands and results of three axes are images [channels, height, width]
  // An example has as many rows in every batched operand and in the result, and the operator works row by row: all but
  // those that fold and unfold rows, or look across them.
  bool by_row = true;
  bool cheap = false;                 // recomputed in each kernel that needs it instead of stored
  CallForm call = CallForm::by_kind;  // in model files; `none` also where only passes create it
  // Each result is an operand's element, its negative, or a whole number, so f32 does not round it (abs,
  // select, max_pool2d). Not needed for views, indexing and extrema, which never round.
  bool exact = false;
  // For operators that read at positions (pick, gather). Null where every integer is valid, as in one_hot, whose result
  // is zero for positions out of range.
  IndexUse (*index)(const Op& op) = nullptr;
  // The asymptotes of the values (tanh: -1 and 1); none where they are unbounded.
  std::optional<std::pair<double, double>> range;
  loop::BinaryOp combiner = loop::BinaryOp::add;  // of a reduction
  // A reduction that adds the squares of the deviations of the operand's values from their mean.
  bool squared_deviations = false;
  double identity = 0;  // of the combiner

  InferResult (*infer)(std::span<const Type> operands, const Attributes& a) = nullptr;
  // Gradients for each operand given the result's gradient g (same type as the op); null: no gradient flows
  // there. May return gradients of a broadcast type: autodiff sums them down.
  std::vector<Op*> (*gradient)(Builder& b, Op* op, Op* g) = nullptr;
  std::string no_gradient;  // when gradient is null: why ("integers are not differentiable")
  loop::Expr (*scalar)(const Op& op, std::span<const loop::Expr> args,
                       const ScalarContext& context) = nullptr;
  Op* (*decompose)(Builder& b, Op* op) = nullptr;  // composite ops
  interpreter::Tensor (*evaluate)(const Op& op, std::span<const interpreter::Tensor* const> operands,
                                  interpreter::Context& context) = nullptr;
  // Indexing ops: operand `operand`'s position for the result's position, and (out) a condition under which it applies;
  // lowering reads operand 0 where its condition holds, else the next operand, else `otherwise`.
  std::vector<loop::Expr> (*position)(const Op& op, int operand, std::span<const loop::Expr> result_position,
                                      loop::Expr& condition) = nullptr;
  double (*otherwise)(const Op& op) = nullptr;
  Cost (*cost)(const Op& op) = nullptr;  // null: elements x 1 FLOP, operands and result once
  std::vector<OpSample> samples;
};

// Every primitive, in a fixed order; built once, checked for missing fields.
const std::vector<OpDef>& op_defs();
const OpDef* find_op(std::string_view name);  // null when there is none
CallForm call_form(const OpDef& def);         // never by_kind
std::vector<std::string> op_names();

// Floating-point operations of an operation for one example, or for its value where nothing is batched.
double flop_of(const Op& op);

// Checks operand count and attributes (unknown, missing, wrong kind; fills in defaults), then calls the definition's
// infer.
InferResult infer(const OpDef& def, std::span<const Type> operands, Attributes& attributes);

}  // namespace gradc
