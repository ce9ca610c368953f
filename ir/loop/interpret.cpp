// Walks the statements of each kernel, lane by lane.
#include "ir/loop/interpret.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <stdexcept>

#include "runtime/panels.h"
#include "support/check.h"
#include "support/philox.h"

namespace gradc::loop {

namespace {

struct Lane {
  double f = 0;
  int64_t i = 0;
};
using Value = std::vector<Lane>;

struct Memory {
  uint8_t* base = nullptr;  // address of element 0
  int64_t elements = 0;     // index after the last element
  Scalar scalar = Scalar::f32;
  int64_t first = 0;  // index of the first element that exists
};

double rounded(Scalar s, double v) {
  return s == Scalar::f32 ? static_cast<double>(static_cast<float>(v)) : v;
}
int64_t wrapped(Scalar s, int64_t v) {
  if (s == Scalar::i32) return static_cast<int32_t>(static_cast<uint32_t>(v));
  return s == Scalar::i1 ? v & 1 : v;
}

class Machine {
 public:
  Machine(const Kernel& k, const RunMemory& args, std::map<const BufferData*, Memory> memory, int64_t lo,
          int64_t hi, int64_t panel)
      : kernel_(k), memory_(std::move(memory)) {
    const auto& p = k.predefined;
    const auto set = [&](const Variable& v, int64_t i) { variables_[v.get()] = {Lane{0, i}}; };
    set(p.lo, lo);
    set(p.hi, hi);
    set(p.rows, args.rows * k.rows);
    set(p.panels, (args.rows * k.rows + panel - 1) / panel);
    set(p.row_offset, args.row_offset * k.rows);
    set(p.seed_lo, static_cast<int32_t>(args.seed));
    set(p.seed_hi, static_cast<int32_t>(args.seed >> 32));
    set(p.step_lo, static_cast<int32_t>(args.micro_step));
    set(p.step_hi, static_cast<int32_t>(args.micro_step >> 32));
  }
  void run() { block(kernel_.body); }

 private:
  void block(const std::vector<Stmt>& body) {
    for (const Stmt& s : body) statement(*s);
  }
  void statement(const StmtData& s) {
    switch (s.kind) {
      case StmtKind::block: return block(s.body);
      case StmtKind::for_loop: {
        const int64_t end = eval(s.end)[0].i;
        for (int64_t i = eval(s.begin)[0].i; i < end; i += s.step) {
          variables_[s.variable.get()] = {Lane{0, i}};
          block(s.body);
        }
        return;
      }
      case StmtKind::let:
      case StmtKind::declare:
      case StmtKind::assign: variables_[s.variable.get()] = eval(s.value); return;
      case StmtKind::store: {
        const Value v = eval(s.value), at = eval(s.index), mask = s.mask ? eval(s.mask) : Value{};
        for (size_t l = 0; l < v.size(); ++l) {
          if (!mask.empty() && !mask[l].i) continue;
          write(*s.buffer, at.size() > 1 ? at[l].i : at[0].i + static_cast<int64_t>(l), v[l]);
        }
        return;
      }
      case StmtKind::if_then: return block(eval(s.condition)[0].i ? s.body : s.other);
      case StmtKind::prefetch: return;
    }
  }
  uint8_t* address(const BufferData& b, int64_t at) {
    const Memory& m = memory_.at(&b);
    if (at < m.first || at >= m.elements)
      throw std::runtime_error(
          fmt::format("kernel {}: {}[{}] of {} to {}", kernel_.name, b.name, at, m.first, m.elements));
    return m.base + at * bytes(m.scalar);
  }
  Lane read(const BufferData& b, int64_t at) {
    const uint8_t* p = address(b, at);
    float f;
    double d;
    int32_t i;
    int64_t w;
    switch (b.scalar) {
      case Scalar::f32: std::memcpy(&f, p, 4); return {f, 0};
      case Scalar::f64: std::memcpy(&d, p, 8); return {d, 0};
      case Scalar::i32: std::memcpy(&i, p, 4); return {0, i};
      case Scalar::i64: std::memcpy(&w, p, 8); return {0, w};
      default: return {0, *p != 0};
    }
  }
  void write(const BufferData& b, int64_t at, const Lane& v) {
    uint8_t* p = address(b, at);
    const float f = static_cast<float>(v.f);
    const auto i = static_cast<int32_t>(v.i);
    switch (b.scalar) {
      case Scalar::f32: std::memcpy(p, &f, 4); return;
      case Scalar::f64: std::memcpy(p, &v.f, 8); return;
      case Scalar::i32: std::memcpy(p, &i, 4); return;
      case Scalar::i64: std::memcpy(p, &v.i, 8); return;
      default: *p = static_cast<uint8_t>(v.i & 1); return;
    }
  }

  Value eval(const Expr& e) {
    const size_t lanes = e->type.lanes;
    if (e->kind == ExprKind::variable) return variables_.at(e->variable.get());
    if (e->kind == ExprKind::load) return load(*e);
    Arguments a;
    for (const Expr& x : e->args) a.push_back(eval(x));
    if (e->kind == ExprKind::reduce) {
      Value v = a[0];
      for (size_t half = v.size() / 2; half; half /= 2)
        for (size_t l = 0; l < half; ++l) v[l] = binary(*e, v[l], v[l + half]);
      return {v[0]};
    }
    Value r(lanes);
    for (size_t l = 0; l < lanes; ++l) r[l] = lane(*e, a, l);
    return r;
  }

  Value load(const ExprData& e) {
    const Value at = eval(e.args[0]);
    const Value mask = e.args.size() > 1 && e.args[1] ? eval(e.args[1]) : Value{};
    Value r(e.type.lanes);
    for (size_t l = 0; l < r.size(); ++l) {
      if (!mask.empty() && !mask[l].i) continue;
      r[l] = read(*e.buffer, at.size() > 1 ? at[l].i : at[0].i + static_cast<int64_t>(l));
    }
    return r;
  }

  using Arguments = std::vector<Value>;

  // Lane `l` of an expression without memory.
  static Lane lane(const ExprData& e, const Arguments& a, size_t l) {
    const Scalar s = e.type.scalar;
    const size_t half = e.type.lanes / 2;
    const auto arg = [&](size_t k, size_t at) -> const Lane& { return a[k][a[k].size() == 1 ? 0 : at]; };
    switch (e.kind) {
      case ExprKind::constant: return {rounded(s, e.number), e.integer};
      case ExprKind::broadcast: return a[0][0];
      case ExprKind::ramp:
        return {0, wrapped(s, a[0][0].i + static_cast<int64_t>(e.number) * static_cast<int64_t>(l))};
      case ExprKind::unary: return unary(e, arg(0, l));
      case ExprKind::binary: return binary(e, arg(0, l), arg(1, l));
      case ExprKind::compare:
        return {0, e.args[0]->type.is_float() ? holds(e.compare, arg(0, l).f, arg(1, l).f)
                                              : holds(e.compare, arg(0, l).i, arg(1, l).i)};
      case ExprKind::select: return arg(0, l).i ? arg(1, l) : arg(2, l);
      case ExprKind::fma: return {fused(s, arg(0, l).f, arg(1, l).f, arg(2, l).f), 0};
      case ExprKind::cast: return cast(e, arg(0, l));
      case ExprKind::zip: return arg(l % 2, (e.integer ? half : 0) + l / 2);
      case ExprKind::concat: return arg(l < half ? 0 : 1, l % half);
      case ExprKind::philox: {
        const auto word = [&](size_t k) { return static_cast<uint32_t>(arg(k, l).i); };
        return {0, static_cast<int32_t>(philox4x32_10({word(0), word(1), word(2), word(3)}, word(4),
                                                      word(5))[static_cast<size_t>(e.number)])};
      }
      default: throw std::runtime_error("no such expression");
    }
  }

  static double fused(Scalar s, double x, double y, double z) {
    if (s != Scalar::f32) return std::fma(x, y, z);
    return std::fmaf(static_cast<float>(x), static_cast<float>(y), static_cast<float>(z));
  }
  static Lane cast(const ExprData& e, const Lane& a) {
    const Scalar s = e.type.scalar;
    const bool from_float = e.args[0]->type.is_float();
    // Random words become floats only after a shift, which leaves them positive, so signed conversion is right for
    // them too.
    if (e.type.is_float()) return {rounded(s, from_float ? a.f : static_cast<double>(a.i)), 0};
    return {0, wrapped(s, from_float ? static_cast<int64_t>(a.f) : a.i)};
  }

  static Lane unary(const ExprData& e, const Lane& a) {
    const Scalar s = e.type.scalar;
    const double x = a.f;
    const auto f = [&](double v) { return Lane{rounded(s, v), 0}; };
    switch (e.unary) {
      case UnaryOp::neg: return e.type.is_float() ? f(-x) : Lane{0, wrapped(s, -a.i)};
      case UnaryOp::abs: return e.type.is_float() ? f(std::fabs(x)) : Lane{0, wrapped(s, std::llabs(a.i))};
      case UnaryOp::sqrt: return f(std::sqrt(x));
      case UnaryOp::rsqrt: return f(1 / std::sqrt(x));
      case UnaryOp::floor: return f(std::floor(x));
      case UnaryOp::round: return f(std::nearbyint(x));
      case UnaryOp::exp: return f(std::exp(x));
      case UnaryOp::expm1: return f(std::expm1(x));
      case UnaryOp::log: return f(std::log(x));
      case UnaryOp::log1p: return f(std::log1p(x));
      case UnaryOp::tanh: return f(std::tanh(x));
      case UnaryOp::sigmoid: return f(1 / (1 + std::exp(-x)));
      case UnaryOp::softplus: return f(x > 30 ? x : std::log1p(std::exp(x)));
      case UnaryOp::erf: return f(std::erf(x));
      case UnaryOp::sin: return f(std::sin(x));
      case UnaryOp::cos: return f(std::cos(x));
      case UnaryOp::logical_not: return {0, !a.i};
      case UnaryOp::is_finite: return {0, std::isfinite(x)};
    }
    return {};
  }
  static Lane binary(const ExprData& e, const Lane& a, const Lane& b) {
    const Scalar s = e.type.scalar;
    if (e.type.is_float()) {
      const auto f = [&](double v) { return Lane{rounded(s, v), 0}; };
      const bool nan = std::isnan(a.f) || std::isnan(b.f);
      switch (e.binary) {
        case BinaryOp::add: return f(a.f + b.f);
        case BinaryOp::sub: return f(a.f - b.f);
        case BinaryOp::mul: return f(a.f * b.f);
        case BinaryOp::div: return f(a.f / b.f);
        case BinaryOp::min: return f(nan ? std::nan("") : std::min(a.f, b.f));
        case BinaryOp::max: return f(nan ? std::nan("") : std::max(a.f, b.f));
        case BinaryOp::pow: return f(std::pow(a.f, b.f));
        default: throw std::runtime_error("no such float operation");
      }
    }
    const auto i = [&](int64_t v) { return Lane{0, wrapped(s, v)}; };
    const uint64_t unsigned_a = s == Scalar::i32 ? static_cast<uint32_t>(a.i) : static_cast<uint64_t>(a.i);
    switch (e.binary) {
      case BinaryOp::add: return i(a.i + b.i);
      case BinaryOp::sub: return i(a.i - b.i);
      case BinaryOp::mul:
        return i(static_cast<int64_t>(static_cast<uint64_t>(a.i) * static_cast<uint64_t>(b.i)));
      case BinaryOp::div: return i(a.i / b.i);
      case BinaryOp::rem: return i(a.i % b.i);
      case BinaryOp::min: return i(std::min(a.i, b.i));
      case BinaryOp::max: return i(std::max(a.i, b.i));
      case BinaryOp::bit_and: return i(a.i & b.i);
      case BinaryOp::bit_or: return i(a.i | b.i);
      case BinaryOp::bit_xor: return i(a.i ^ b.i);
      case BinaryOp::shift_left: return i(static_cast<int64_t>(unsigned_a << b.i));
      case BinaryOp::shift_right: return i(static_cast<int64_t>(unsigned_a >> b.i));
      default: throw std::runtime_error("no such integer operation");
    }
  }

  const Kernel& kernel_;
  std::map<const BufferData*, Memory> memory_;
  std::map<const VariableData*, Value> variables_;
};

// A run of a program's calls by simulated threads.
class Run {
 public:
  Run(const Program& program, const RunMemory& memory, const RunOptions& options)
      : program_(program), memory_(memory), options_(options) {}

  int calls() {
    // Segments run panel by panel under the condition of codegen/emit_entry.cpp.
    const std::vector<Call>& calls = program_.calls;
    std::vector<const Segment*> segment_at(calls.size(), nullptr);
    if (runtime::runs_by_panels<int64_t>(panels_, program_.panels, threads_))
      for (const Segment& s : program_.segments) segment_at[static_cast<size_t>(s.first)] = &s;
    const auto after = [&](size_t i) {
      return segment_at[i] ? static_cast<size_t>(segment_at[i]->last) : i + 1;
    };
    for (size_t c = 0; c < calls.size();) {
      if (calls[c].guard_before && program_.guard >= 0) {
        float v;
        std::memcpy(&v, storage(program_.guard, 0).base, 4);
        if (!std::isfinite(v)) return 1;
      }
      size_t end = after(c);
      while (end < calls.size() && !calls[end].barrier_before) end = after(end);
      for (int t = 0; t < threads_; ++t)
        for (size_t i = c; i < end; i = after(i)) {
          const int thread = options_.reversed ? threads_ - 1 - t : t;
          segment_at[i] ? segment(*segment_at[i], thread) : call(calls[i], thread);
        }
      c = end;
    }
    return 0;
  }

 private:
  // The memory of an allocation by itself; it reads as NaN until it is written, as the arena does for checks.
  uint8_t* own(int index, int thread) {
    const Allocation& a = program_.allocations[static_cast<size_t>(index)];
    std::vector<uint8_t>& block = apart_[{index, thread}];
    if (block.empty())
      block.assign(static_cast<size_t>(std::max<int64_t>(a.elements, 1) * bytes(a.scalar)), 0xff);
    return block.data();
  }

  // `panel`: the current one where calls run panel by panel, else -1.
  Memory storage(int index, int thread, int64_t panel = -1) {
    const Allocation& a = program_.allocations[static_cast<size_t>(index)];
    Memory m{nullptr, a.elements, a.scalar};
    switch (a.space) {
      case Space::arena: m.base = options_.apart ? own(index, 0) : memory_.arena + a.offset; break;
      case Space::parameter: m.base = memory_.parameters + a.offset; break;
      case Space::input: m.base = static_cast<uint8_t*>(const_cast<void*>(memory_.inputs[a.offset])); break;
      case Space::output: m.base = static_cast<uint8_t*>(memory_.outputs[a.offset]); break;
      case Space::scratch:
        m.base = options_.apart ? own(index, thread) : scratch_ + thread * program_.scratch_bytes + a.offset;
        break;
      case Space::local:
        if (options_.apart) {
          m.base = own(index, 0);
        } else if (panel < 0) {
          m.base = locals_ + local_panels_ * a.offset;
        } else {
          m.base = locals_ + thread * program_.local_bytes + a.offset - panel * panel_bytes(program_, a);
          m.first = panel * (a.elements / program_.panels);
          m.elements = m.first + a.elements / program_.panels;
        }
        break;
      case Space::scalars: m.base = reinterpret_cast<uint8_t*>(const_cast<double*>(memory_.scalars)); break;
    }
    return m;
  }

  // Units lo to hi of a call's partition.
  void chunk(const Call& c, int thread, int64_t lo, int64_t hi, int64_t panel = -1) {
    if (lo >= hi) return;
    const Kernel& k = program_.kernels[static_cast<size_t>(c.kernel)];
    std::map<const BufferData*, Memory> buffers;
    for (size_t b = 0; b < c.buffers.size(); ++b)
      buffers[k.buffers[b].get()] = storage(c.buffers[b].allocation, thread, panel);
    Machine(k, memory_, std::move(buffers), lo, hi, program_.panel).run();
  }

  void call(const Call& c, int thread) {
    const bool by_panels = c.partition.kind == Partition::Extent::panels;
    const int64_t extent =
        c.partition.extent * (by_panels ? panels_of(program_, memory_.rows, c.partition.rows) : 1);
    const int64_t units = (extent + c.partition.unit - 1) / c.partition.unit;
    chunk(c, thread, std::min(extent, units * thread / threads_ * c.partition.unit),
          std::min(extent, units * (thread + 1) / threads_ * c.partition.unit));
  }

  void segment(const Segment& s, int thread) {
    for (int64_t q = panels_ * thread / threads_; q < panels_ * (thread + 1) / threads_; ++q) {
      std::vector<int64_t> made(static_cast<size_t>(s.last - s.first), 0);
      for (const std::vector<int64_t>& band : s.bands) {
        for (size_t i = 0; i < band.size(); ++i) {
          const Call& c = program_.calls[static_cast<size_t>(s.first) + i];
          chunk(c, thread, q * c.partition.extent + made[i], q * c.partition.extent + band[i], q);
        }
        made = band;
      }
    }
  }

  const Program& program_;
  const RunMemory& memory_;
  const RunOptions& options_;
  const int threads_ = options_.threads;
  const int64_t panels_ = (memory_.rows + program_.panel - 1) / program_.panel;
  const int64_t local_panels_ = runtime::local_panels<int64_t>(program_.panels, threads_);
  uint8_t* const locals_ = memory_.arena + program_.arena_bytes;
  uint8_t* const scratch_ = locals_ + local_panels_ * program_.local_bytes;
  std::map<std::pair<int, int>, std::vector<uint8_t>> apart_;  // by allocation and thread
};

}  // namespace

int interpret(const Program& p, const RunMemory& memory, const RunOptions& options) {
  return Run(p, memory, options).calls();
}

}  // namespace gradc::loop
