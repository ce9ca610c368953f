// Loop IR: explicit loops, buffers, vector registers and scalar expression trees. Every tensor operation is lowered to
// it before LLVM; it knows no tensor operator. One Kernel is one native function; a Program is the
// static list of kernel calls that makes one entry (a training step), with its memory and its split over
// threads.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "support/location.h"

namespace gradc::loop {

// i1 is a comparison's result (a mask when it has lanes); i32 also carries random words (unsigned arithmetic
// wraps); i64 is for indices and extents; i8 is only for buffers of booleans (loads give i1, stores take i1).
enum class Scalar : uint8_t { i1, i8, i32, i64, f32, f64 };
std::string_view name(Scalar s);  // "f32"
int bytes(Scalar s);              // in memory

struct Type {
  Scalar scalar = Scalar::f32;
  uint16_t lanes = 1;
  bool is_float() const { return scalar == Scalar::f32 || scalar == Scalar::f64; }
  bool is_integer() const { return scalar == Scalar::i32 || scalar == Scalar::i64; }
  Type with(Scalar s) const { return {s, lanes}; }
  Type with_lanes(int n) const { return {scalar, static_cast<uint16_t>(n)}; }
  friend bool operator==(const Type&, const Type&) = default;
};
std::string to_string(Type t);  // "f32", "f32x16"

// A local name: a loop counter, an immutable `let`, or a mutable `var` (a register that loops accumulate in).
struct VariableData {
  std::string name;  // unique within its kernel
  Type type;
  bool is_mutable = false;
};
using Variable = std::shared_ptr<const VariableData>;

// A pointer parameter of a kernel. Distinct buffers of one call never overlap unless they are the same
// allocation.
enum class Access : uint8_t { read, write, read_write };
struct BufferData {
  std::string name;  // unique within its kernel
  Scalar scalar = Scalar::f32;
  Access access = Access::read;
  int64_t alignment = 4;  // bytes, of element 0
};
using Buffer = std::shared_ptr<const BufferData>;

enum class ExprKind : uint8_t {
  constant,  // number, splat over the lanes
  variable,  // var
  load,  // buffer[a]; lanes > 1 and scalar index: consecutive elements; vector index: a gather. Optional mask
         // b (i1 with the same lanes): masked-off lanes read nothing and give 0
  broadcast,  // a (one lane) to type.lanes
  ramp,       // a, a+number, a+2*number, ... (integer)
  unary,
  binary,
  compare,
  select,  // select(a, b, c): a is i1
  fma,     // a*b + c, one rounding (two on x86-64-v2, which has no such instruction)
  cast,    // to type; int<->float, i1 -> any (0/1), float -> int truncates, i32 <-> i64
  reduce,  // all lanes of a to one: a fixed binary tree (halves added: lane i with lane i + lanes/2, and so
           // on)
  zip,     // a and b interleaved: a0 b0 a1 b1 ..., the lower half (`integer` 0) or the upper half (1) of it
  concat,  // the lanes of a, then those of b
  philox,  // word (0..3, `number`) of Philox4x32-10; args: c0 c1 c2 c3 k0 k1 (i32, c0 may have lanes, others
           // scalar) -> i32
};
enum class UnaryOp : uint8_t {
  neg,
  abs,
  sqrt,
  rsqrt,
  floor,
  round,  // round: to nearest, ties to even; rsqrt = 1/sqrt(x), correctly computed
  exp,
  expm1,
  log,
  log1p,
  tanh,
  sigmoid,
  softplus,
  erf,
  sin,
  cos,
  logical_not,
  is_finite,  // is_finite gives i1
};
enum class BinaryOp : uint8_t {
  add,
  sub,
  mul,
  div,
  rem,  // integer div and rem: operands are not negative
  min,
  max,  // float: NaN if either is NaN
  pow,  // float
  bit_and,
  bit_or,
  bit_xor,
  shift_left,
  shift_right,  // integers (and/or/xor on i1 too); shift_right is logical
};
enum class CompareOp : uint8_t { lt, le, gt, ge, eq, ne };  // float: false on NaN, but ne is true
// Whether a comparison of two numbers holds.
template <class T>
bool holds(CompareOp op, T a, T b) {
  switch (op) {
    case CompareOp::lt: return a < b;
    case CompareOp::le: return a <= b;
    case CompareOp::gt: return a > b;
    case CompareOp::ge: return a >= b;
    case CompareOp::eq: return a == b;
    case CompareOp::ne: return a != b;
  }
  return false;
}
std::string_view name(UnaryOp op);
std::string_view name(BinaryOp op);
std::string_view name(CompareOp op);

struct ExprData;
using Expr = std::shared_ptr<const ExprData>;
struct ExprData {
  ExprKind kind;
  Type type;
  double number = 0;    // constant (floats), ramp's stride, philox's word
  int64_t integer = 0;  // constant (integers and i1), zip's half
  UnaryOp unary{};
  BinaryOp binary{};  // also the combiner of reduce: add, min or max
  CompareOp compare{};
  Variable variable;
  Buffer buffer;
  std::vector<Expr> args;
};

// Typed constructors. They check types (GRADC_CHECK) and fold constants and identities of index arithmetic
// (x*1, x+0).
Expr constant(Type type, double value);
Expr constant_int(Type type, int64_t value);
Expr index(int64_t value);  // i64 constant
Expr ref(const Variable& v);
inline Expr ref(Variable& v) {
  return ref(static_cast<const Variable&>(v));
}  // else std::ref, found by argument, is the better match
inline Expr ref(Variable&& v) { return ref(static_cast<const Variable&>(v)); }
Expr load(const Buffer& b, Expr index, int lanes = 1, Expr mask = nullptr);
Expr gather(const Buffer& b, Expr vector_index, Expr mask = nullptr);
Expr broadcast(Expr a, int lanes);  // a itself when lanes == 1 or already so wide
Expr ramp(Expr base, int64_t stride, int lanes);
Expr unary(UnaryOp op, Expr a);
Expr binary(BinaryOp op, Expr a, Expr b);  // widens a one-lane side to the other's lanes
Expr compare(CompareOp op, Expr a, Expr b);
Expr select(Expr c, Expr a, Expr b);
Expr fma(Expr a, Expr b, Expr c);
Expr cast(Scalar to, Expr a);
Expr reduce(BinaryOp combiner, Expr a);
Expr zip(bool upper, Expr a, Expr b);  // lanes: even
Expr concat(Expr a, Expr b);
Expr philox(int word, Expr c0, Expr c1, Expr c2, Expr c3, Expr k0, Expr k1);
inline Expr operator+(Expr a, Expr b) { return binary(BinaryOp::add, std::move(a), std::move(b)); }
inline Expr operator-(Expr a, Expr b) { return binary(BinaryOp::sub, std::move(a), std::move(b)); }
inline Expr operator*(Expr a, Expr b) { return binary(BinaryOp::mul, std::move(a), std::move(b)); }
inline Expr operator/(Expr a, Expr b) { return binary(BinaryOp::div, std::move(a), std::move(b)); }
bool is_constant(const Expr& e, int64_t value);  // an integer constant with this value

enum class StmtKind : uint8_t {
  block,     // body
  for_loop,  // for variable = begin to end step: body (end exclusive; step is a positive constant); `unroll`
             // requests full unrolling
  let,       // variable = value, immutable, visible to the end of the enclosing block
  declare,   // mutable variable = value
  assign,    // mutable variable = value
  store,     // buffer[index] = value; lanes consecutive, or a scatter under a vector index; optional mask
  if_then,   // condition (i1): body, else other
  prefetch,  // buffer[index], into the second-level cache; may point anywhere
};
struct StmtData;
using Stmt = std::shared_ptr<StmtData>;
struct StmtData {
  StmtKind kind;
  Variable variable;
  Buffer buffer;
  Expr begin, end;  // for
  int64_t step = 1;
  bool unroll = false;
  Expr value, index, mask, condition;
  std::vector<Stmt> body, other;
  Location location;  // the .nn line this serves; may be empty
};

// One native function: void(const gradc_step_args*, int64 lo, int64 hi, pointers of buffers...).
// Predefined variables, all immutable one-lane: lo, hi (i64: this thread's range of the partition), rows (i64:
// n, times the kernel's rows of an example), panels (i64: ceil(rows / panel width)), row_offset (i64: of the batch's
// first row, counted likewise), seed_lo, seed_hi, step_lo, step_hi (i32: the random key's words).
struct Kernel {
  std::string name;
  int64_t rows = 1;  // of an example
  std::vector<Buffer> buffers;
  std::vector<Stmt> body;
  std::vector<Location> locations;  // every op that was fused into it
  std::string summary;              // "einsum + add + relu": for profiles and dumps
  struct Predefined {
    Variable lo, hi, rows, panels, row_offset, seed_lo, seed_hi, step_lo, step_hi;
  } predefined;
};

enum class Space : uint8_t {
  arena,      // offset is bytes into args.arena
  parameter,  // offset is bytes into args.parameters
  input,      // offset is the index into args.inputs
  output,     // offset is the index into args.outputs
  scalars,    // args.scalars (f64)
  scratch,    // offset is bytes into thread-local memory, which does not outlive a call
  local,      // values of one segment, one block a panel: offset is bytes into Program::local_bytes
};
struct Allocation {
  std::string name;  // the tensor value or symbol it holds: "%12", "@dense_1.weight", "input image"
  Scalar scalar = Scalar::f32;
  int64_t elements = 0;  // at the full batch, padding included; local: the same number for each panel
  Space space = Space::arena;
  int64_t offset = 0;
};

// How a call is split over threads: thread t of T gets, of U = ceil(extent/unit) units, [U*t/T, U*(t+1)/T),
// in elements and capped at extent. Results never depend on the split: every point of the partitioned axis is computed
// independently.
struct Partition {
  enum class Extent : uint8_t { fixed, panels } kind = Extent::fixed;
  int64_t extent = 1;  // fixed: of the axis; 1: thread 0 alone runs it. panels: chunks of each panel
                       // (rows of an image, say): chunk p of panel q is number q * extent + p
  int64_t unit = 1;
  int64_t rows = 1;  // of an example, as the kernel's; fixed: 1
  friend bool operator==(const Partition&, const Partition&) = default;
};

// What a call accesses of an allocation: the units of the partition that belong to the calling thread, or anything. Two
// calls with equal partitions that access an allocation only within their own units need no barrier between them.
enum class AccessScope : uint8_t {
  anything,
  own_axis0,   // the own units of an axis of fixed extent
  own_panels,  // the own panels, or chunks of panels
  panel,       // beyond the own chunk of a panel, but not beyond the panel: neighbouring rows of images
};

std::string_view name(AccessScope scope);  // "anything", "axis0", "panels", "panel"

// Rows [begin, end) of an image.
struct RowRange {
  int64_t begin = 0, end = 0;
  friend bool operator==(const RowRange&, const RowRange&) = default;
};

// The argument for one of a kernel's buffers.
struct CallBuffer {
  CallBuffer(int allocation = 0, AccessScope scope = AccessScope::anything, std::vector<RowRange> rows = {})
      : allocation(allocation), scope(scope), rows(std::move(rows)) {}
  int allocation;  // index into Program.allocations
  AccessScope scope;
  std::vector<RowRange> rows;  // of a panel's images, by chunk of the panel; empty: all, or not within panels
  friend bool operator==(const CallBuffer&, const CallBuffer&) = default;
};

struct Call {
  int kernel = 0;                   // index into Program.kernels
  std::vector<CallBuffer> buffers;  // one for each of the kernel's
  Partition partition;
  bool barrier_before = false;  // all threads synchronise before it
  bool guard_before =
      false;  // return 1 on every thread here if the guard value is not finite (there is a barrier before it)
  // Arithmetic operations at the full batch, and the bytes it moves if it reads and writes each buffer once. Estimates
  // for readers and cost models, never for results.
  int64_t flop = 0, bytes = 0;
  friend bool operator==(const Call&, const Call&) = default;
};

// Calls that a thread may run one after the other for each of its panels, a band of images at a time, instead
// of each for the whole batch: what one writes is read by the next while it is in the caches. All are split over panels
// and access each other's values only within the current panel.
//
// A segment affects how its calls run, not what they compute: an entry runs them panel by panel where all threads have
// about as many panels (by_panels in runtime/panels.h), else one after the other with their barriers.
struct Segment {
  int first = 0, last = 0;  // the calls [first, last)
  // For each band, how many of a panel's chunks each call has completed when the band ends: never fewer than before, at
  // the end all of its partition's extent.
  std::vector<std::vector<int64_t>> bands;
};

struct Program {
  std::string name;       // "train_step"
  int64_t panel = 32;     // rows a panel
  int vector_width = 16;  // f32 lanes the kernels were built for
  bool once = false;  // runs once, not once a step: small code that compiles fast is better than fast code
  std::vector<Kernel> kernels;
  std::vector<Allocation> allocations;
  std::vector<Call> calls;
  std::vector<Segment> segments;  // in order, without overlap
  int guard = -1;                 // allocation of the f32 scalar that must be finite; -1: none
  int64_t arena_bytes = 0;
  // After the arena comes local memory, local_bytes for each of local_panels(panels, threads) (runtime/panels.h):
  // where a segment runs panel by panel, thread t's panel is at t * local_bytes; where it runs call by call, a value's
  // panels are stored consecutively, at that number times its offset.
  int64_t local_bytes = 0;
  int64_t panels = 1;         // of the full batch
  int64_t scratch_bytes = 0;  // after that, of each thread
};

// Whether a call writes to one of its buffers.
inline bool writes(const Program& p, const Call& c, size_t buffer) {
  return p.kernels[static_cast<size_t>(c.kernel)].buffers[buffer]->access != Access::read;
}

// Bytes of working memory that so many threads need: the arena, local and scratch memory.
int64_t working_bytes(const Program& p, int threads);

// Panels of so many examples with `rows` rows each.
constexpr int64_t panels_of(const Program& p, int64_t examples, int64_t rows) {
  return (examples * rows + p.panel - 1) / p.panel;
}

// Bytes of one panel of a value in local memory.
int64_t panel_bytes(const Program& p, const Allocation& a);

// Builds a kernel's body with unique names; statements go to the innermost open block.
class Builder {
 public:
  explicit Builder(Kernel& kernel);
  Buffer buffer(std::string_view name, Scalar scalar, Access access, int64_t alignment = 4);
  Expr let(std::string_view name,
           Expr value);  // names a value; constants and variables are returned unchanged
  Variable declare(std::string_view name, Expr initial);
  void assign(const Variable& v, Expr value);
  void store(const Buffer& b, Expr index, Expr value, Expr mask = nullptr);
  void prefetch(const Buffer& b, Expr index);
  // Runs body with the counter as an expression. A loop known to run exactly once becomes a plain block of
  // statements.
  template <class F>
  void loop(std::string_view name, Expr begin, Expr end, int64_t step, F&& body, bool unroll = false) {
    Stmt s = open_loop(name, std::move(begin), std::move(end), step, unroll);
    body(ref(s->variable));
    close();
  }
  template <class F>
  void if_then(Expr condition, F&& body) {
    open_if(std::move(condition));
    body();
    close();
  }
  template <class F, class G>
  void if_else(Expr condition, F&& body, G&& other) {
    open_if(std::move(condition));
    body();
    open_else();
    other();
    close();
  }
  void set_location(const Location& l) { location_ = l; }
  const Kernel::Predefined& predefined() const { return kernel_.predefined; }

 private:
  Stmt open_loop(std::string_view name, Expr begin, Expr end, int64_t step, bool unroll);
  void open_if(Expr condition);
  void open_else();
  void close();
  void add(Stmt s);
  std::string unique(std::string_view name);
  Kernel& kernel_;
  Location location_;
  std::vector<std::vector<Stmt>*> open_;
  std::vector<Stmt> open_stmts_;
  std::vector<std::pair<std::string, int>> used_;
};

// Fills in the predefined variables of a fresh kernel.
Kernel make_kernel(std::string name);

// Text. print(parse(print(p))) == print(p). Grammar in docs/loop_ir.md.
std::string print(const Program& p, bool locations = false);
std::string print(const Kernel& k, bool locations = false);
struct ParseResult {
  Program program;
  std::string error;  // "line 3, column 7: expected ..."; empty when it parsed
};
ParseResult parse(std::string_view text);
// One program or more, after each other.
struct ParseProgramsResult {
  std::vector<Program> programs;
  std::string error;
};
ParseProgramsResult parse_programs(std::string_view text);

// Errors: types, scopes, unique names, buffers that exist, calls that fit kernels. Empty when sound.
std::vector<std::string> verify(const Program& p);
std::vector<std::string> verify(const Kernel& k);

}  // namespace gradc::loop
