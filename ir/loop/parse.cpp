// Reads the text of docs/loop_ir.md. Any text gives a program or one error with its position; nothing is folded or
// simplified.
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <unordered_map>

#include "ir/loop/token_reader.h"
#include "ir/loop/type_rules.h"

namespace gradc::loop {
namespace {

class Parser : TokenReader {
 public:
  explicit Parser(std::string_view text) : TokenReader(text) {}

  // All programs of the text.
  std::vector<Program> programs() {
    std::vector<Program> list;
    do {
      list.push_back(program());
    } while (is("program"));
    if (token_.kind != TokenKind::end) fail("expected the end of the text");
    return list;
  }

 private:
  Program program() {
    program_ = {};
    files_.clear();
    expect("program");
    program_.name = text();
    expect("panel");
    program_.panel = integer();
    if (accept("panels")) program_.panels = integer();
    expect("vector");
    program_.vector_width = small();
    expect("arena");
    program_.arena_bytes = integer();
    if (accept("local")) program_.local_bytes = integer();
    if (accept("scratch")) program_.scratch_bytes = integer();
    program_.once = accept("once");
    expect("{");
    while (!accept("}")) item();
    return std::move(program_);
  }

  // Levels of parentheses and statements: with the sanitizers one takes some 6 KB of the stack.
  static constexpr int kMostNested = 500;
  // Bounds the recursion, and with it the stack, on any input.
  struct Nesting {
    explicit Nesting(Parser& p) : p(p) {
      if (++p.depth_ > kMostNested) p.fail("nested too deeply");
    }
    ~Nesting() { --p.depth_; }
    Parser& p;
  };

  // --- program
  void item() {
    if (is("allocation")) return allocation();
    if (is("kernel")) return kernel();
    if (is("call")) return call();
    if (is("segment")) return segment();
    if (accept("guard")) {
      program_.guard = small();
      return;
    }
    fail("expected `allocation`, `guard`, `kernel`, `call`, `segment` or `}`");
  }

  void allocation() {
    take();
    const Token at = token_;
    if (integer() != static_cast<int64_t>(program_.allocations.size()))
      fail_at(at, fmt::format("allocations are numbered from 0; expected {}", program_.allocations.size()));
    Allocation a;
    a.name = text();
    a.scalar = scalar();
    a.elements = integer();
    static const std::map<std::string_view, Space> spaces = {
        {"arena", Space::arena},   {"parameter", Space::parameter}, {"input", Space::input},
        {"output", Space::output}, {"scalars", Space::scalars},     {"scratch", Space::scratch},
        {"local", Space::local}};
    const auto space = spaces.find(token_.text);
    if (space == spaces.end()) fail("expected arena, parameter, input, output, scalars, scratch or local");
    take();
    a.space = space->second;
    a.offset = integer();
    program_.allocations.push_back(std::move(a));
  }

  void call() {
    take();
    Call c;
    c.kernel = small();
    expect("(");
    while (!accept(")")) {
      if (!c.buffers.empty()) expect(",");
      c.buffers.push_back(argument());
    }
    expect("over");
    if (accept("panels")) {
      c.partition.kind = Partition::Extent::panels;
      expect("*");
    }
    c.partition.extent = integer();
    expect("unit");
    c.partition.unit = integer();
    if (accept("rows")) c.partition.rows = integer();
    if (accept("flop")) c.flop = integer();
    if (accept("bytes")) c.bytes = integer();
    c.barrier_before = accept("barrier");
    c.guard_before = accept("guard");
    program_.calls.push_back(std::move(c));
  }

  // Runs make much memory of little text.
  static constexpr int64_t kMaxRows = 1 << 20;
  // 0 to 2, or 0 to 2 by 1 for 3: also 1 to 3 and 2 to 4.
  void rows(std::vector<RowRange>& list) {
    RowRange r;
    r.begin = integer();
    expect("to");
    r.end = integer();
    list.push_back(r);
    if (!accept("by")) return;
    const Token at = token_;
    const int64_t step = integer();
    expect("for");
    const int64_t count = integer();
    if (step < 0 || step > kMaxRows || count < 2 || count > kMaxRows || std::abs(r.begin) > kMaxRows ||
        std::abs(r.end) > kMaxRows)
      fail_at(at, fmt::format("a run of rows has 2 to {} ranges at steps of 0 to {}", kMaxRows, kMaxRows));
    if ((run_rows_ += count) > kMaxRows)
      fail_at(at, fmt::format("runs of rows have at most {} ranges in all", kMaxRows));
    for (int64_t i = 1; i < count; ++i) list.push_back({r.begin + i * step, r.end + i * step});
  }

  CallBuffer argument() {
    CallBuffer b = small();
    for (const AccessScope scope : {AccessScope::own_axis0, AccessScope::own_panels, AccessScope::panel})
      if (accept(name(scope))) b.scope = scope;
    if (!accept("rows")) return b;
    do {
      rows(b.rows);
    } while (!is(",") && !is(")"));
    return b;
  }

  void segment() {
    take();
    Segment s;
    s.first = small();
    expect("to");
    s.last = small();
    while (accept("(")) {
      std::vector<int64_t>& band = s.bands.emplace_back();
      while (!accept(")")) {
        if (!band.empty()) expect(",");
        band.push_back(integer());
      }
    }
    program_.segments.push_back(std::move(s));
  }

  void kernel() {
    take();
    kernel_ = make_kernel(text());
    buffers_.clear();
    variables_.clear();
    scope_.clear();
    const Kernel::Predefined& p = kernel_.predefined;
    for (const Variable* v :
         {&p.lo, &p.hi, &p.rows, &p.panels, &p.row_offset, &p.seed_lo, &p.seed_hi, &p.step_lo, &p.step_hi})
      variables_[(*v)->name] = *v;
    expect("(");
    while (!accept(")")) {
      if (!kernel_.buffers.empty()) expect(",");
      buffer();
    }
    if (accept("rows")) kernel_.rows = integer();
    if (token_.kind == TokenKind::text) kernel_.summary = text();
    while (is("at")) kernel_.locations.push_back(location());
    kernel_.body = body();
    program_.kernels.push_back(std::move(kernel_));
  }

  void buffer() {
    BufferData b;
    if (accept("read")) {
      b.access = Access::read;
    } else if (accept("write")) {
      b.access = Access::write;
    } else if (accept("read_write")) {
      b.access = Access::read_write;
    } else {
      fail("expected read, write or read_write");
    }
    const Token n = fresh_name("a buffer's name");
    b.name = n.text;
    expect(":");
    b.scalar = scalar();
    expect("align");
    b.alignment = integer();
    auto made = std::make_shared<const BufferData>(std::move(b));
    buffers_[made->name] = made;
    kernel_.buffers.push_back(std::move(made));
  }

  Token fresh_name(const char* what) {
    const Token n = identifier(what);
    if (is_reserved(n.text)) fail_at(n, fmt::format("`{}` is reserved", n.text));
    if (buffers_.contains(std::string(n.text)) || variables_.contains(std::string(n.text)))
      fail_at(n, fmt::format("`{}` already names something here", n.text));
    return n;
  }

  Location location() {
    expect("at");
    Location l;
    const std::string name = text();
    auto& file = files_[name];
    if (!file) file = std::make_shared<const std::string>(name);
    l.file = file;
    expect(":");
    l.line = place_number();
    expect(":");
    l.column = place_number();
    return l;
  }
  uint32_t place_number() {
    const Token at = token_;
    const int64_t v = integer();
    if (v < 0 || v > std::numeric_limits<uint32_t>::max())
      fail_at(at, fmt::format("lines and columns are 0 to {}", std::numeric_limits<uint32_t>::max()));
    return static_cast<uint32_t>(v);
  }

  // --- statements
  std::vector<Stmt> body() {
    Nesting nesting(*this);
    expect("{");
    const size_t outer = scope_.size();
    std::vector<Stmt> statements;
    while (!accept("}")) statements.push_back(statement());
    while (scope_.size() > outer) {
      variables_.erase(scope_.back());
      scope_.pop_back();
    }
    return statements;
  }

  Variable define(const Token& n, Type t, bool is_mutable) {
    auto v = std::make_shared<const VariableData>(VariableData{std::string(n.text), t, is_mutable});
    variables_[v->name] = v;
    scope_.push_back(v->name);
    return v;
  }

  Stmt statement() {
    Stmt s = std::make_shared<StmtData>(StmtData{});
    if (token_.kind != TokenKind::name) fail("expected a statement");
    if (accept("block")) {
      s->kind = StmtKind::block;
      location(*s);
      s->body = body();
    } else if (accept("for")) {
      for_loop(*s);
    } else if (is("let") || is("var")) {
      const bool is_mutable = take().text == "var";
      s->kind = is_mutable ? StmtKind::declare : StmtKind::let;
      const Token n = fresh_name("a variable's name");
      expect("=");
      s->value = expr();
      s->variable = define(n, s->value->type, is_mutable);
      location(*s);
    } else if (accept("if")) {
      s->kind = StmtKind::if_then;
      const Token at = token_;
      s->condition = expr();
      if (s->condition->type != Type{Scalar::i1, 1})
        fail_at(at, "a condition is i1, not " + to_string(s->condition->type));
      location(*s);
      s->body = body();
      if (accept("else")) s->other = body();
    } else if (accept("prefetch")) {
      s->kind = StmtKind::prefetch;
      s->buffer = buffer_named(identifier("a buffer"));
      element(*s);
      location(*s);
    } else {
      assignment(*s);
    }
    return s;
  }

  void location(StmtData& s) {
    if (is("at")) s.location = location();
  }

  void for_loop(StmtData& s) {
    s.kind = StmtKind::for_loop;
    const Token n = fresh_name("a loop counter's name");
    expect("=");
    s.begin = index("a loop's begin");
    expect("to");
    s.end = index("a loop's end");
    expect("step");
    const Token at = token_;
    s.step = integer();
    if (s.step < 1) fail_at(at, "a step is positive");
    s.unroll = accept("unroll");
    location(s);
    // The counter is known within the loop only.
    const size_t outer = scope_.size();
    s.variable = define(n, {Scalar::i64, 1}, false);
    s.body = body();
    variables_.erase(std::string(n.text));
    scope_.resize(outer);
  }

  Expr index(const char* what) {
    const Token at = token_;
    Expr e = expr();
    if (e->type != Type{Scalar::i64, 1})
      fail_at(at, fmt::format("{} is i64, not {}", what, to_string(e->type)));
    return e;
  }

  Buffer buffer_named(const Token& n) {
    const auto it = buffers_.find(std::string(n.text));
    if (it == buffers_.end()) fail_at(n, fmt::format("no buffer is called `{}`", n.text));
    return it->second;
  }

  void element(StmtData& s) {
    expect("[");
    const Token at = token_;
    s.index = expr();
    if (s.index->type.scalar != Scalar::i64 && s.index->type.scalar != Scalar::i32)
      fail_at(at, "an index must be i64 (or i32), not " + to_string(s.index->type));
    expect("]");
  }

  void assignment(StmtData& s) {
    const Token n = take();
    if (is("[")) {
      s.kind = StmtKind::store;
      s.buffer = buffer_named(n);
      element(s);
      expect("=");
      const Token at = token_;
      s.value = expr();
      const Scalar stored = s.buffer->scalar == Scalar::i8 ? Scalar::i1 : s.buffer->scalar;
      if (s.value->type.scalar != stored)
        fail_at(at, fmt::format("`{}` takes {}, not {}", n.text, name(stored), to_string(s.value->type)));
      if (s.index->type.lanes != 1 && s.index->type.lanes != s.value->type.lanes)
        fail_at(at, fmt::format("an index of {} lanes scatters as many, not {}", s.index->type.lanes,
                                s.value->type.lanes));
      if (accept("where")) {
        const Token mask = token_;
        s.mask = expr();
        if (s.mask->type != s.value->type.with(Scalar::i1))
          fail_at(mask, fmt::format("the mask of a store of {} is {}", to_string(s.value->type),
                                    to_string(s.mask->type)));
      }
    } else {
      s.kind = StmtKind::assign;
      const auto it = variables_.find(std::string(n.text));
      if (it == variables_.end()) fail_at(n, fmt::format("no variable is called `{}`", n.text));
      s.variable = it->second;
      if (!s.variable->is_mutable) fail_at(n, fmt::format("`{}` is not mutable", n.text));
      expect("=");
      const Token at = token_;
      s.value = expr();
      if (s.value->type != s.variable->type)
        fail_at(at, fmt::format("`{}` is {}, not {}", n.text, to_string(s.variable->type),
                                to_string(s.value->type)));
    }
    location(s);
  }

  // --- expressions
  Expr finish(const Token& at, ExprData e) {
    if (e.kind != ExprKind::constant && e.kind != ExprKind::broadcast && e.kind != ExprKind::ramp &&
        e.kind != ExprKind::cast && e.kind != ExprKind::load)
      e.type = result_type(e);
    const std::string error = type_error(e);
    if (!error.empty()) fail_at(at, error);
    return std::make_shared<const ExprData>(std::move(e));
  }

  Expr expr() {
    Nesting nesting(*this);
    Expr a = operand();
    if (token_.kind != TokenKind::symbol) return a;
    for (int i = 0; i <= static_cast<int>(BinaryOp::shift_right); ++i) {
      const auto op = static_cast<BinaryOp>(i);
      if (!is(name(op))) continue;
      const Token at = take();
      ExprData e{.kind = ExprKind::binary, .binary = op};
      e.args = {a, operand()};
      return finish(at, std::move(e));
    }
    for (int i = 0; i <= static_cast<int>(CompareOp::ne); ++i) {
      const auto op = static_cast<CompareOp>(i);
      if (!is(name(op))) continue;
      const Token at = take();
      ExprData e{.kind = ExprKind::compare, .compare = op};
      e.args = {a, operand()};
      return finish(at, std::move(e));
    }
    return a;
  }

  Expr operand() {
    if (accept("(")) {
      Expr e = expr();
      expect(")");
      return e;
    }
    if (token_.kind == TokenKind::number || is("-") || is("inf") || is("nan") || is("true") || is("false"))
      return constant();
    const Token n = identifier("an expression");
    if (is("[")) return load(n);
    if (is("(")) return function(n);
    const auto it = variables_.find(std::string(n.text));
    if (it == variables_.end()) fail_at(n, fmt::format("no variable is called `{}`", n.text));
    return finish(n, {.kind = ExprKind::variable, .variable = it->second});
  }

  Expr constant() {
    const Token at = token_;
    const bool negative = accept("-");
    if (token_.kind != TokenKind::number && token_.kind != TokenKind::name) fail("expected a number");
    const std::string digits = (negative ? "-" : "") + std::string(take().text);
    Type t{Scalar::i64, 1};
    if (digits == "true" || digits == "false") t.scalar = Scalar::i1;
    if (accept(":")) t = type();
    ExprData e{.kind = ExprKind::constant, .type = t};
    const char* const end = digits.data() + digits.size();
    bool good = false;
    if (t.is_float()) {
      if (digits == "nan" || digits == "inf" || digits == "-inf") {
        e.number = digits == "nan" ? std::numeric_limits<double>::quiet_NaN()
                                   : (negative ? -1 : 1) * std::numeric_limits<double>::infinity();
        good = true;
      } else {
        float single = 0;  // parsed as float: through double it would be rounded twice
        const auto [stop, error] = t.scalar == Scalar::f32 ? std::from_chars(digits.data(), end, single)
                                                           : std::from_chars(digits.data(), end, e.number);
        good = error == std::errc() && stop == end;
        if (t.scalar == Scalar::f32) e.number = single;
      }
    } else if (t.scalar == Scalar::i1) {
      good = digits == "true" || digits == "false";
      e.integer = digits == "true";
    } else {
      const auto [stop, error] = std::from_chars(digits.data(), end, e.integer);
      good = error == std::errc() && stop == end && canonical(t.scalar, e.integer) == e.integer;
    }
    if (!good) fail_at(at, fmt::format("`{}` is no {}", digits, to_string(t)));
    return finish(at, std::move(e));
  }

  Expr load(const Token& n) {
    ExprData e{.kind = ExprKind::load, .buffer = buffer_named(n)};
    take();
    e.args.push_back(expr());
    int count = e.args[0]->type.lanes;
    if (accept(";")) count = lanes();
    if (accept("if")) e.args.push_back(expr());
    expect("]");
    e.type = {e.buffer->scalar == Scalar::i8 ? Scalar::i1 : e.buffer->scalar, static_cast<uint16_t>(count)};
    return finish(n, std::move(e));
  }

  void arguments(ExprData& e, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      if (i) expect(",");
      e.args.push_back(expr());
    }
  }

  Expr function(const Token& n) {
    take();
    ExprData e{.kind = ExprKind::unary};
    if (const auto unary = unary_named(n.text)) {
      e.unary = *unary;
      arguments(e, 1);
    } else if (const auto s = scalar_named(n.text)) {
      e.kind = ExprKind::cast;
      arguments(e, 1);
      e.type = e.args[0]->type.with(*s);
    } else if (n.text == "min" || n.text == "max" || n.text == "pow") {
      e.kind = ExprKind::binary;
      e.binary = n.text == "min" ? BinaryOp::min : n.text == "max" ? BinaryOp::max : BinaryOp::pow;
      arguments(e, 2);
    } else if (n.text == "select" || n.text == "fma") {
      e.kind = n.text == "fma" ? ExprKind::fma : ExprKind::select;
      arguments(e, 3);
    } else if (n.text == "broadcast" || n.text == "ramp") {
      e.kind = n.text == "ramp" ? ExprKind::ramp : ExprKind::broadcast;
      arguments(e, 1);
      expect(",");
      if (e.kind == ExprKind::ramp) {
        e.number = static_cast<double>(integer());
        expect(",");
      }
      e.type = e.args[0]->type.with_lanes(lanes());
    } else if (n.text == "reduce_add" || n.text == "reduce_min" || n.text == "reduce_max") {
      e.kind = ExprKind::reduce;
      e.binary = n.text == "reduce_add"   ? BinaryOp::add
                 : n.text == "reduce_min" ? BinaryOp::min
                                          : BinaryOp::max;
      arguments(e, 1);
    } else if (n.text == "zip_low" || n.text == "zip_high") {
      e.kind = ExprKind::zip;
      e.integer = n.text == "zip_high";
      arguments(e, 2);
    } else if (n.text == "concat") {
      e.kind = ExprKind::concat;
      arguments(e, 2);
    } else if (n.text == "philox") {
      e.kind = ExprKind::philox;
      e.number = static_cast<double>(integer());
      expect(",");
      arguments(e, 6);
    } else {
      fail_at(n, fmt::format("no function is called `{}`", n.text));
    }
    expect(")");
    return finish(n, std::move(e));
  }

  int depth_ = 0;
  Program program_;
  int64_t run_rows_ = 0;
  Kernel kernel_;
  std::unordered_map<std::string, Buffer> buffers_;
  std::unordered_map<std::string, Variable> variables_;
  std::vector<std::string> scope_;  // names to forget at the end of blocks
  std::map<std::string, std::shared_ptr<const std::string>> files_;
};

}  // namespace

ParseResult parse(std::string_view text) {
  ParseProgramsResult all = parse_programs(text);
  if (all.error.empty() && all.programs.size() != 1) all.error = "one program is expected, not several";
  if (!all.error.empty()) return {{}, std::move(all.error)};
  return {std::move(all.programs.front()), {}};
}

ParseProgramsResult parse_programs(std::string_view text) {
  ParseProgramsResult result;
  try {
    result.programs = Parser(text).programs();
  } catch (const Failure& f) {
    size_t line = 1, column = 1;
    for (const char c : text.substr(0, f.offset)) {
      if (c == '\n') {
        ++line;
        column = 1;
      } else {
        ++column;
      }
    }
    result.error = fmt::format("line {}, column {}: {}", line, column, f.message);
  }
  return result;
}

}  // namespace gradc::loop
