// Builder: appends statements to a kernel's innermost open block and keeps names unique; knows no operator.
#include <algorithm>
#include <cctype>

#include "ir/loop/type_rules.h"
#include "support/check.h"

namespace gradc::loop {
namespace {

Variable make_variable(std::string name, Type type, bool is_mutable = false) {
  return std::make_shared<const VariableData>(VariableData{std::move(name), type, is_mutable});
}

// Turns a name into one that the text form accepts: a letter or underscore, then letters, digits, underscores and dots.
std::string spelled(std::string_view name) {
  std::string s(name);
  for (char& c : s)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '.') c = '_';
  if (s.empty() || std::isdigit(static_cast<unsigned char>(s[0])) || s[0] == '.') s.insert(s.begin(), 'v');
  return s;
}

// Whether the loop has one iteration: from `begin` to an end at most a step further, as constants or as end = begin +
// constant.
bool runs_once(const Expr& begin, const Expr& end, int64_t step) {
  if (begin->kind == ExprKind::constant && end->kind == ExprKind::constant)
    return begin->integer < end->integer && end->integer - begin->integer <= step;
  if (end->kind != ExprKind::binary || end->binary != BinaryOp::add ||
      end->args[1]->kind != ExprKind::constant)
    return false;
  const Expr& base = end->args[0];
  const bool same = base == begin || (base->kind == ExprKind::variable && begin->kind == ExprKind::variable &&
                                      base->variable == begin->variable && !begin->variable->is_mutable);
  return same && end->args[1]->integer > 0 && end->args[1]->integer <= step;
}

}  // namespace

Kernel make_kernel(std::string name) {
  Kernel k;
  k.name = std::move(name);
  const Type i64{Scalar::i64, 1}, i32{Scalar::i32, 1};
  k.predefined = {
      make_variable("lo", i64),      make_variable("hi", i64),         make_variable("rows", i64),
      make_variable("panels", i64),  make_variable("row_offset", i64), make_variable("seed_lo", i32),
      make_variable("seed_hi", i32), make_variable("step_lo", i32),    make_variable("step_hi", i32)};
  return k;
}

Builder::Builder(Kernel& kernel) : kernel_(kernel) {
  GRADC_CHECK(kernel.predefined.lo, "a kernel is made by make_kernel");
  GRADC_CHECK(kernel.body.empty(), "kernel `{}` already has a body", kernel.name);
  const Kernel::Predefined& p = kernel.predefined;
  for (const Variable* v :
       {&p.lo, &p.hi, &p.rows, &p.panels, &p.row_offset, &p.seed_lo, &p.seed_hi, &p.step_lo, &p.step_hi})
    used_.emplace_back((*v)->name, 0);
  for (const Buffer& b : kernel.buffers) used_.emplace_back(b->name, 0);
  open_.push_back(&kernel.body);
}

std::string Builder::unique(std::string_view name) {
  const std::string base = spelled(name);
  const auto find = [this](const std::string& n) {
    return std::find_if(used_.begin(), used_.end(), [&](const auto& u) { return u.first == n; });
  };
  auto it = find(base);
  if (it == used_.end()) {
    used_.emplace_back(base, 0);
    if (!is_reserved(base)) return base;
    it = std::prev(used_.end());
  }
  for (;;) {
    std::string candidate = base + "_" + std::to_string(++it->second);
    if (find(candidate) != used_.end()) continue;
    used_.emplace_back(candidate, 0);
    return candidate;
  }
}

Buffer Builder::buffer(std::string_view name, Scalar scalar, Access access, int64_t alignment) {
  GRADC_CHECK(scalar != Scalar::i1, "booleans are stored in buffers as i8");
  GRADC_CHECK(alignment > 0 && (alignment & (alignment - 1)) == 0, "alignment {} is no power of two",
              alignment);
  auto b = std::make_shared<const BufferData>(BufferData{unique(name), scalar, access, alignment});
  kernel_.buffers.push_back(b);
  return b;
}

void Builder::add(Stmt s) {
  s->location = location_;
  open_.back()->push_back(std::move(s));
}

Expr Builder::let(std::string_view name, Expr value) {
  if (value->kind == ExprKind::constant) return value;
  if (value->kind == ExprKind::variable && !value->variable->is_mutable) return value;
  Stmt s = std::make_shared<StmtData>(StmtData{.kind = StmtKind::let});
  s->variable = make_variable(unique(name), value->type);
  s->value = std::move(value);
  Expr r = ref(s->variable);
  add(std::move(s));
  return r;
}

Variable Builder::declare(std::string_view name, Expr initial) {
  Stmt s = std::make_shared<StmtData>(StmtData{.kind = StmtKind::declare});
  s->variable = make_variable(unique(name), initial->type, true);
  s->value = std::move(initial);
  Variable v = s->variable;
  add(std::move(s));
  return v;
}

void Builder::assign(const Variable& v, Expr value) {
  GRADC_CHECK(v->is_mutable, "`{}` is not mutable", v->name);
  value = broadcast(std::move(value), v->type.lanes);
  GRADC_CHECK(v->type == value->type, "`{}` is {}, the value {}", v->name, to_string(v->type),
              to_string(value->type));
  Stmt s = std::make_shared<StmtData>(StmtData{.kind = StmtKind::assign});
  s->variable = v;
  s->value = std::move(value);
  add(std::move(s));
}

void Builder::store(const Buffer& b, Expr index, Expr value, Expr mask) {
  value = broadcast(value, std::max(value->type.lanes, index->type.lanes));
  if (mask) {
    value = broadcast(value, std::max(value->type.lanes, mask->type.lanes));
    mask = broadcast(std::move(mask), value->type.lanes);
  }
  const Scalar s = b->scalar == Scalar::i8 ? Scalar::i1 : b->scalar;
  GRADC_CHECK(value->type.scalar == s, "store of {} into `{}` of {}", to_string(value->type), b->name,
              name(b->scalar));
  GRADC_CHECK(b->access != Access::read, "store into `{}`, which is only read", b->name);
  GRADC_CHECK(index->type.lanes == 1 || index->type.lanes == value->type.lanes, "scatter of {} under {}",
              to_string(value->type), to_string(index->type));
  GRADC_CHECK(!mask || mask->type.scalar == Scalar::i1, "a mask of {}", to_string(mask->type));
  Stmt stmt = std::make_shared<StmtData>(StmtData{.kind = StmtKind::store});
  stmt->buffer = b;
  stmt->index = std::move(index);
  stmt->value = std::move(value);
  stmt->mask = std::move(mask);
  add(std::move(stmt));
}

void Builder::prefetch(const Buffer& b, Expr index) {
  Stmt s = std::make_shared<StmtData>(StmtData{.kind = StmtKind::prefetch});
  s->buffer = b;
  s->index = std::move(index);
  add(std::move(s));
}

Stmt Builder::open_loop(std::string_view name, Expr begin, Expr end, int64_t step, bool unroll) {
  GRADC_CHECK(step > 0, "step {}", step);
  const Type i64{Scalar::i64, 1};
  GRADC_CHECK(begin->type == i64 && end->type == i64, "a loop runs over i64, not {} to {}",
              to_string(begin->type), to_string(end->type));
  const bool once = runs_once(begin, end, step);
  Stmt s = std::make_shared<StmtData>(StmtData{.kind = once ? StmtKind::block : StmtKind::for_loop});
  s->variable = make_variable(unique(name), i64);
  if (!once) {
    s->begin = std::move(begin);
    s->end = std::move(end);
    s->step = step;
    s->unroll = unroll;
  }
  add(s);
  open_stmts_.push_back(s);
  open_.push_back(&s->body);
  if (once) {
    Stmt counter = std::make_shared<StmtData>(StmtData{.kind = StmtKind::let});
    counter->variable = s->variable;
    counter->value = std::move(begin);
    add(std::move(counter));
  }
  return s;
}

void Builder::open_if(Expr condition) {
  GRADC_CHECK((condition->type == Type{Scalar::i1, 1}), "a condition of {}", to_string(condition->type));
  Stmt s = std::make_shared<StmtData>(StmtData{.kind = StmtKind::if_then});
  s->condition = std::move(condition);
  add(s);
  open_stmts_.push_back(s);
  open_.push_back(&s->body);
}

void Builder::open_else() {
  GRADC_CHECK(!open_stmts_.empty() && open_stmts_.back()->kind == StmtKind::if_then, "else without if");
  open_.back() = &open_stmts_.back()->other;
}

void Builder::close() {
  GRADC_CHECK(!open_stmts_.empty(), "close without open");
  open_.pop_back();
  open_stmts_.pop_back();
}

}  // namespace gradc::loop
