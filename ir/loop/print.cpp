// Loop IR as text, in the grammar of docs/loop_ir.md; parse.cpp reads it back. Prints any program, sound or not.
#include <fmt/format.h>

#include <cmath>

#include "ir/loop/type_rules.h"

namespace gradc::loop {
namespace {

std::string quoted(std::string_view s) {
  std::string out = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string number_text(Scalar s, double v) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v < 0 ? "-inf" : "inf";
  return s == Scalar::f32 ? fmt::format("{}", static_cast<float>(v)) : fmt::format("{}", v);
}

std::string_view access_name(Access a) {
  switch (a) {
    case Access::read: return "read";
    case Access::write: return "write";
    case Access::read_write: return "read_write";
  }
  return "?";
}

std::string_view space_name(Space s) {
  switch (s) {
    case Space::arena: return "arena";
    case Space::parameter: return "parameter";
    case Space::input: return "input";
    case Space::output: return "output";
    case Space::scalars: return "scalars";
    case Space::scratch: return "scratch";
    case Space::local: return "local";
  }
  return "?";
}

class Printer {
 public:
  explicit Printer(bool locations) : locations_(locations) {}

  void program(const Program& p) {
    line(fmt::format("program {} panel {}{} vector {} arena {}{}{}{} {{", quoted(p.name), p.panel,
                     p.panels != 1 ? fmt::format(" panels {}", p.panels) : "", p.vector_width, p.arena_bytes,
                     p.local_bytes ? fmt::format(" local {}", p.local_bytes) : "",
                     p.scratch_bytes ? fmt::format(" scratch {}", p.scratch_bytes) : "",
                     p.once ? " once" : ""));
    ++depth_;
    for (size_t i = 0; i < p.allocations.size(); ++i) {
      const Allocation& a = p.allocations[i];
      line(fmt::format("allocation {} {} {} {} {} {}", i, quoted(a.name), name(a.scalar), a.elements,
                       space_name(a.space), a.offset));
    }
    if (p.guard >= 0) line(fmt::format("guard {}", p.guard));
    for (const Kernel& k : p.kernels) {
      out_ += '\n';
      kernel(k);
    }
    if (!p.calls.empty()) out_ += '\n';
    for (const Call& c : p.calls) call(p, c);
    for (const Segment& s : p.segments) segment(s);
    --depth_;
    line("}");
  }

  void kernel(const Kernel& k) {
    std::string buffers;
    for (const Buffer& b : k.buffers) {
      buffers += fmt::format("{}{} {}: {} align {}", buffers.empty() ? "" : ", ", access_name(b->access),
                             b->name, name(b->scalar), b->alignment);
    }
    std::string head = fmt::format("kernel {} ({})", quoted(k.name), buffers);
    if (k.rows != 1) head += fmt::format(" rows {}", k.rows);
    if (!k.summary.empty()) head += " " + quoted(k.summary);
    if (locations_)
      for (const Location& l : k.locations) head += location(l);
    line(head + " {");
    body(k.body);
    line("}");
  }

  std::string text() { return std::move(out_); }

 private:
  void line(const std::string& s) {
    out_.append(2 * static_cast<size_t>(depth_), ' ');
    out_ += s;
    out_ += '\n';
  }

  void segment(const Segment& s) {
    std::string text = fmt::format("segment {} to {}", s.first, s.last);
    for (const std::vector<int64_t>& band : s.bands) text += fmt::format(" ({})", fmt::join(band, ", "));
    line(text);
  }

  void call(const Program& p, const Call& c) {
    std::string buffers;
    for (const CallBuffer& b : c.buffers) buffers += (buffers.empty() ? "" : ", ") + argument(b);
    std::string s = fmt::format("call {} ({}) over {}{} unit {}", c.kernel, buffers,
                                c.partition.kind == Partition::Extent::panels ? "panels * " : "",
                                c.partition.extent, c.partition.unit);
    if (c.partition.rows != 1) s += fmt::format(" rows {}", c.partition.rows);
    if (c.flop != 0 || c.bytes != 0) s += fmt::format(" flop {} bytes {}", c.flop, c.bytes);
    if (c.barrier_before) s += " barrier";
    if (c.guard_before) s += " guard";
    if (c.kernel >= 0 && static_cast<size_t>(c.kernel) < p.kernels.size()) {
      const Kernel& k = p.kernels[static_cast<size_t>(c.kernel)];
      std::string note;
      for (const char ch : k.name) note += ch == '\n' ? ' ' : ch;
      s += "  # " + note;
    }
    line(s);
  }

  static std::string argument(const CallBuffer& b) {
    std::string text = std::to_string(b.allocation);
    if (b.scope != AccessScope::anything) text += fmt::format(" {}", name(b.scope));
    if (!b.rows.empty()) text += " rows";
    for (size_t i = 0; i < b.rows.size();) {
      const RowRange& r = b.rows[i];
      text += fmt::format(" {} to {}", r.begin, r.end);
      // Three ranges or more at equal distances are a run.
      const auto follows = [&](size_t next, int64_t step) {
        return next < b.rows.size() && step >= 0 && b.rows[next].begin == b.rows[next - 1].begin + step &&
               b.rows[next].end == b.rows[next - 1].end + step;
      };
      const int64_t step = i + 1 < b.rows.size() ? b.rows[i + 1].begin - r.begin : 0;
      size_t end = i + 1;
      while (follows(end, step)) ++end;
      if (end - i >= 3)
        text += fmt::format(" by {} for {}", step, end - i);
      else
        end = i + 1;
      i = end;
    }
    return text;
  }

  static std::string location(const Location& l) {
    if (!l.valid()) return {};
    return fmt::format(" at {}:{}:{}", quoted(l.file ? *l.file : std::string()), l.line, l.column);
  }

  void body(const std::vector<Stmt>& statements) {
    ++depth_;
    for (const Stmt& s : statements) statement(*s);
    --depth_;
  }

  void statement(const StmtData& s) {
    const std::string at = locations_ ? location(s.location) : "";
    const auto where = [&] { return fmt::format("{}[{}]", s.buffer ? s.buffer->name : "?", expr(s.index)); };
    const std::string variable = s.variable ? s.variable->name : "?";
    switch (s.kind) {
      case StmtKind::block:
        line("block" + at + " {");
        body(s.body);
        line("}");
        break;
      case StmtKind::for_loop:
        line(fmt::format("for {} = {} to {} step {}{}{} {{", variable, expr(s.begin), expr(s.end), s.step,
                         s.unroll ? " unroll" : "", at));
        body(s.body);
        line("}");
        break;
      case StmtKind::let: line(fmt::format("let {} = {}{}", variable, expr(s.value), at)); break;
      case StmtKind::declare: line(fmt::format("var {} = {}{}", variable, expr(s.value), at)); break;
      case StmtKind::assign: line(fmt::format("{} = {}{}", variable, expr(s.value), at)); break;
      case StmtKind::store:
        line(fmt::format("{} = {}{}{}", where(), expr(s.value), s.mask ? " where " + expr(s.mask) : "", at));
        break;
      case StmtKind::if_then:
        line(fmt::format("if {}{} {{", expr(s.condition), at));
        body(s.body);
        if (!s.other.empty()) {
          line("} else {");
          body(s.other);
        }
        line("}");
        break;
      case StmtKind::prefetch: line(fmt::format("prefetch {}{}", where(), at)); break;
    }
  }

  std::string arguments(const ExprData& e) {
    std::string s;
    for (const Expr& a : e.args) s += (s.empty() ? "" : ", ") + expr(a);
    return s;
  }

  // An operand of an infix operator: infix expressions within it are in parentheses, so that there is no precedence.
  std::string operand(const Expr& e) {
    const bool infix =
        e && (e->kind == ExprKind::compare || (e->kind == ExprKind::binary && e->binary != BinaryOp::min &&
                                               e->binary != BinaryOp::max && e->binary != BinaryOp::pow));
    return infix ? "(" + expr(e) + ")" : expr(e);
  }

  std::string constant(const ExprData& e) {
    if (e.type.is_float())
      return fmt::format("{}:{}", number_text(e.type.scalar, e.number), to_string(e.type));
    if (e.type.scalar == Scalar::i1)
      return (e.integer ? "true" : "false") + (e.type.lanes == 1 ? "" : ":" + to_string(e.type));
    const std::string s = std::to_string(e.integer);
    return e.type == Type{Scalar::i64, 1} ? s : s + ":" + to_string(e.type);
  }

  std::string expr(const Expr& p) {
    if (!p) return "?";
    const ExprData& e = *p;
    switch (e.kind) {
      case ExprKind::constant: return constant(e);
      case ExprKind::variable: return e.variable ? e.variable->name : "?";
      case ExprKind::load: {
        if (e.args.empty()) return "?";
        std::string s = fmt::format("{}[{}", e.buffer ? e.buffer->name : "?", expr(e.args[0]));
        if (e.args[0] && e.args[0]->type.lanes == 1 && e.type.lanes != 1)
          s += fmt::format("; {}", e.type.lanes);
        if (e.args.size() > 1) s += " if " + expr(e.args[1]);
        return s + "]";
      }
      case ExprKind::broadcast: return fmt::format("broadcast({}, {})", arguments(e), e.type.lanes);
      case ExprKind::ramp:
        return fmt::format("ramp({}, {}, {})", arguments(e), static_cast<int64_t>(e.number), e.type.lanes);
      case ExprKind::unary: return fmt::format("{}({})", name(e.unary), arguments(e));
      case ExprKind::binary:
        if (e.args.size() != 2 || e.binary == BinaryOp::min || e.binary == BinaryOp::max ||
            e.binary == BinaryOp::pow)
          return fmt::format("{}({})", name(e.binary), arguments(e));
        return fmt::format("{} {} {}", operand(e.args[0]), name(e.binary), operand(e.args[1]));
      case ExprKind::compare:
        if (e.args.size() != 2) return fmt::format("{}({})", name(e.compare), arguments(e));
        return fmt::format("{} {} {}", operand(e.args[0]), name(e.compare), operand(e.args[1]));
      case ExprKind::select: return fmt::format("select({})", arguments(e));
      case ExprKind::fma: return fmt::format("fma({})", arguments(e));
      case ExprKind::cast: return fmt::format("{}({})", name(e.type.scalar), arguments(e));
      case ExprKind::reduce:
        return fmt::format("reduce_{}({})", e.binary == BinaryOp::add ? "add" : name(e.binary), arguments(e));
      case ExprKind::zip: return fmt::format("zip_{}({})", e.integer ? "high" : "low", arguments(e));
      case ExprKind::concat: return fmt::format("concat({})", arguments(e));
      case ExprKind::philox: return fmt::format("philox({}, {})", static_cast<int>(e.number), arguments(e));
    }
    return "?";
  }

  bool locations_;
  int depth_ = 0;
  std::string out_;
};

}  // namespace

std::string print(const Program& p, bool locations) {
  Printer printer(locations);
  printer.program(p);
  return printer.text();
}

std::string print(const Kernel& k, bool locations) {
  Printer printer(locations);
  printer.kernel(k);
  return printer.text();
}

}  // namespace gradc::loop
