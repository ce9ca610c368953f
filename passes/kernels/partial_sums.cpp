#include "passes/kernels/partial_sums.h"

#include <fmt/format.h>

#include "passes/kernels/window.h"
#include "support/check.h"

namespace gradc::passes::lowering {

using loop::BinaryOp;
using loop::Expr;

namespace {

constexpr int64_t kLaneTerms = 512;  // of one lane's sum

}  // namespace

PartialSums::PartialSums(KernelBuilder& kb, const KernelGroup& group, int64_t chunks, int64_t rows,
                         int64_t& scratch)
    : l_(kb.lowering), kb_(kb), g_(group), chunks_(chunks), rows_(rows), channels_(group.domain.shape[0]) {
  const int64_t width = g_.domain.shape[2], column = rows_ * (kPanel / l_.width);
  GRADC_CHECK((chunks_ - 1) * rows_ < g_.domain.shape[1] && g_.domain.shape[1] <= chunks_ * rows_,
              "kernel {}: {} chunks of {} rows of {}", g_.number, chunks_, rows_, g_.domain.shape[1]);
  columns_ = std::max<int64_t>(1, kLaneTerms / column);
  slots_ = ceil_div(width, columns_);
  for (const Op* op : g_.ops)
    if (op->def->squared_deviations) {
      const int shift = new_shift(op->operands[0], scratch);
      const int sum = new_sum(op, Term::difference, shift, scratch);
      results_.push_back({op, sum, new_sum(op, Term::square, shift, scratch)});
    }
  for (const Op* op : g_.ops) {
    if (op->def->kind != OpKind::reduction || op->def->squared_deviations) continue;
    const auto around = std::find_if(sums_.begin(), sums_.end(), [&](const Sum& s) {
      return s.term == Term::difference && s.value == op->operands[0] && op->def->combiner == BinaryOp::add;
    });
    const int sum = around != sums_.end() ? static_cast<int>(around - sums_.begin())
                                          : new_sum(op, Term::value, -1, scratch);
    results_.push_back({op, sum});
  }
}

loop::Buffer PartialSums::new_partial(const std::string& name, loop::Scalar scalar, int& allocation) {
  allocation =
      l_.new_allocation(name, scalar, l_.batch_panels() * chunks_ * channels_, loop::Space::arena, 0);
  kb_.declare_written(allocation);
  return kb_.buffer(allocation, true, AccessScope::own_panels);
}

int PartialSums::new_sum(const Op* op, Term term, int shift, int64_t& scratch) {
  Sum sum{op->operands[0], term, op->def->combiner, op->def->identity, shift, nullptr, nullptr, -1};
  const char* what = term == Term::value ? "" : term == Term::square ? " squares" : " differences";
  const auto scalar = scalar_of(op->type.dtype);
  const int lanes = l_.new_scratch(fmt::format("%{}{} lanes", op->id, what), scalar,
                                   slots_ * channels_ * l_.width, scratch);
  kb_.declare_written(lanes);
  sum.scratch = kb_.buffer(lanes, true, AccessScope::anything);
  sum.partial = new_partial(fmt::format("%{}{} parts", op->id, what), scalar, sum.allocation);
  sums_.push_back(sum);
  return static_cast<int>(sums_.size()) - 1;
}

int PartialSums::new_shift(const Op* value, int64_t& scratch) {
  Shift shift{value, nullptr, nullptr, -1};
  const auto scalar = scalar_of(value->type.dtype);
  const int lanes =
      l_.new_scratch(fmt::format("%{} shifts", value->id), scalar, channels_ * l_.width, scratch);
  kb_.declare_written(lanes);
  shift.scratch = kb_.buffer(lanes, true, AccessScope::anything);
  shift.partial = new_partial(fmt::format("%{} parts' shifts", value->id), scalar, shift.allocation);
  shifts_.push_back(shift);
  return static_cast<int>(shifts_.size()) - 1;
}

Expr PartialSums::identity(const Sum& s, int lanes) const {
  const loop::Type t = type(s.value, lanes);
  if (t.is_float()) return loop::constant(t, s.identity);
  switch (s.combiner) {
    case BinaryOp::min: return loop::constant_int(t, INT32_MAX);
    case BinaryOp::max: return loop::constant_int(t, INT32_MIN);
    default: return loop::constant_int(t, 0);
  }
}

void PartialSums::begin_chunk() {
  kb_.b.loop("z", loop::index(0), loop::index(slots_ * channels_ * l_.width), l_.width, [&](Expr z) {
    for (const Sum& s : sums_) kb_.b.store(s.scratch, z, identity(s, l_.width));
  });
}

// Lanes whose example exists.
Expr PartialSums::existing(const Point& point) {
  const Expr row =
      loop::cast(loop::Scalar::i32, point.panel * loop::index(kPanel) + point.sub * loop::index(l_.width));
  const Expr rows = loop::cast(loop::Scalar::i32, loop::ref(kb_.b.predefined().rows));
  return kb_.b.let("lanes", loop::compare(loop::CompareOp::lt, loop::ramp(row, 1, l_.width),
                                          loop::broadcast(rows, l_.width)));
}

// Where a point's sums are stored.
Expr PartialSums::place(const Point& point) {
  Expr channel = point.axes[0];
  if (slots_ > 1) channel = point.axes[2] / loop::index(columns_) * loop::index(channels_) + channel;
  return kb_.b.let("at", channel * loop::index(l_.width));
}

void PartialSums::combine(const Sum& s, const Expr& at, const Expr& v, const Expr& exists) {
  const Expr sum = kb_.b.let("sum", loop::load(s.scratch, at, l_.width));
  kb_.b.store(s.scratch, at, loop::select(exists, loop::binary(s.combiner, sum, v), sum));
}

// The first example's value: every panel has one. It is kept with its vector, of which it is the first lane.
Expr PartialSums::shift_at(const Shift& s, const Expr& channel) const {
  return loop::load(s.scratch, channel * loop::index(l_.width));
}

Expr PartialSums::is_first(const Point& point) const {
  const auto zero = [](const Expr& e) { return loop::compare(loop::CompareOp::eq, e, loop::index(0)); };
  Expr first = loop::binary(BinaryOp::bit_and, zero(point.axes[2]), zero(point.sub));
  if (rows_ > 1)
    first = loop::binary(BinaryOp::bit_and, first,
                         zero(loop::binary(BinaryOp::rem, point.axes[1], loop::index(rows_))));
  return first;
}

void PartialSums::take_shift(PointEmitter& emitter, const Point& point) {
  for (const Shift& s : shifts_)
    kb_.b.store(s.scratch, point.axes[0] * loop::index(l_.width),
                loop::broadcast(emitter.value(s.value, Level::inner), l_.width));
}

void PartialSums::compute(PointEmitter& emitter) const {
  for (const Shift& s : shifts_) emitter.value(s.value, Level::inner);
}

std::vector<Expr> PartialSums::terms(PointEmitter& emitter, const Point& point) {
  std::vector<Expr> differences;
  for (const Shift& s : shifts_) {
    const Expr shift = s.run ? s.run : shift_at(s, point.axes[0]);
    differences.push_back(
        kb_.b.let("away", emitter.value(s.value, Level::inner) - loop::broadcast(shift, l_.width)));
  }
  std::vector<Expr> result;
  for (const Sum& s : sums_) {
    const Expr away = s.shift < 0 ? nullptr : differences[static_cast<size_t>(s.shift)];
    result.push_back(s.term == Term::value        ? emitter.value(s.value, Level::inner)
                     : s.term == Term::difference ? away
                                                  : away * away);
  }
  return result;
}

void PartialSums::add(PointEmitter& emitter, const Point& point) {
  const std::vector<Expr> values = terms(emitter, point);
  if (adds_in_registers()) {
    for (size_t i = 0; i < sums_.size(); ++i)
      kb_.b.assign(sums_[i].run, loop::binary(sums_[i].combiner, loop::ref(sums_[i].run),
                                              loop::broadcast(values[i], l_.width)));
    return;
  }
  const Expr exists = existing(point), at = place(point);
  for (size_t i = 0; i < sums_.size(); ++i)
    combine(sums_[i], at, loop::broadcast(values[i], l_.width), exists);
}

void PartialSums::in_registers(const Point& point, const std::function<void()>& body) {
  for (Shift& s : shifts_) s.run = kb_.b.let("shift", shift_at(s, point.axes[0]));
  for (Sum& s : sums_) s.run = kb_.b.declare("run", identity(s, l_.width));
  body();
  const Expr exists = existing(point), at = place(point);
  for (Sum& s : sums_) {
    combine(s, at, loop::ref(s.run), exists);
    s.run = nullptr;
  }
  for (Shift& s : shifts_) s.run = nullptr;
}

void PartialSums::end_chunk(const Expr& chunk) {
  kb_.b.loop("c", loop::index(0), loop::index(channels_), 1, [&](Expr c) {
    const Expr to = chunk * loop::index(channels_) + c;
    for (const Shift& s : shifts_) kb_.b.store(s.partial, to, shift_at(s, c));
    for (const Sum& s : sums_) {
      const auto slot = [&](const Expr& i) {
        return loop::load(s.scratch, (i * loop::index(channels_) + c) * loop::index(l_.width), l_.width);
      };
      Expr lanes = slot(loop::index(0));
      if (slots_ > 1) {
        const loop::Variable all = kb_.b.declare("all", lanes);
        kb_.b.loop("slot", loop::index(1), loop::index(slots_), 1,
                   [&](Expr i) { kb_.b.assign(all, loop::binary(s.combiner, loop::ref(all), slot(i))); });
        lanes = loop::ref(all);
      }
      kb_.b.store(s.partial, to, loop::reduce(s.combiner, lanes));
    }
  });
}

void PartialSums::add_chunks() {
  KernelBuilder kb(l_, fmt::format("k{}_parts", g_.number), "sum of partial sums");
  for (const Result& r : results_) {
    kb.kernel.locations.insert(kb.kernel.locations.end(), r.op->locations.begin(), r.op->locations.end());
    for (int target : l_.targets.at(r.op)) kb.declare_written(target);
  }
  loop::Builder& b = kb.b;
  const loop::Partition partition = axis_partition(channels_);
  const int lanes = l_.width;
  const bool whole = partition.unit % lanes == 0 && channels_ % lanes == 0;  // every vector is full
  const Expr panels = loop::ref(b.predefined().panels), rows = loop::ref(b.predefined().rows);
  b.loop("c", loop::ref(b.predefined().lo), loop::ref(b.predefined().hi), lanes, [&](Expr c) {
    const Expr mask =
        whole
            ? nullptr
            : b.let("there",
                    loop::compare(
                        loop::CompareOp::lt, loop::ramp(loop::cast(loop::Scalar::i32, c), 1, lanes),
                        loop::broadcast(loop::cast(loop::Scalar::i32, loop::ref(b.predefined().hi)), lanes)));
    // Sums of floats are added in double precision.
    const auto wide = [&](const Sum& s) {
      const loop::Type t = type(s.value, lanes);
      return t.is_float() && s.combiner == BinaryOp::add ? loop::Type{loop::Scalar::f64, t.lanes} : t;
    };
    const auto read = [&](int allocation, loop::Scalar to, const Expr& chunk) {
      return b.let("part", loop::cast(to, loop::load(kb.buffer(allocation, false, AccessScope::anything),
                                                     chunk * loop::index(channels_) + c, lanes, mask)));
    };
    // Calls body(number of a chunk, how many values a channel has in it).
    const auto over_chunks = [&](const std::function<void(const Expr&, const Expr&)>& body) {
      b.loop("q", loop::index(0), panels, 1, [&](Expr q) {
        const Expr examples = minimum(rows - q * loop::index(kPanel), loop::index(kPanel));
        b.loop("y", loop::index(0), loop::index(chunks_), 1, [&](Expr y) {
          const int64_t height = g_.domain.shape[1];
          const Expr high = minimum(loop::index(rows_), loop::index(height) - y * loop::index(rows_));
          const Expr count = examples * high * loop::index(g_.domain.shape[2]);
          body(b.let("number", q * loop::index(chunks_) + y),
               loop::broadcast(loop::cast(loop::Scalar::f64, count), lanes));
        });
      });
    };
    const auto store = [&](const Op* op, const Expr& value) {
      for (int target : l_.targets.at(op))
        b.store(kb.buffer(target, true, AccessScope::own_axis0), c,
                loop::cast(scalar_of(op->type.dtype), value), mask);
    };
    std::vector<Expr> totals;
    for (const Sum& s : sums_) {
      totals.push_back(nullptr);
      if (s.term == Term::square) continue;
      const loop::Type t = wide(s);
      const loop::Variable sum =
          b.declare("sum", t.is_float() ? loop::constant(t, s.identity) : identity(s, lanes));
      over_chunks([&](const Expr& chunk, const Expr& count) {
        Expr v = read(s.allocation, t.scalar, chunk);
        if (s.shift >= 0)
          v = loop::fma(count, read(shifts_[static_cast<size_t>(s.shift)].allocation, t.scalar, chunk), v);
        b.assign(sum, loop::binary(s.combiner, loop::ref(sum), v));
      });
      totals.back() = loop::ref(sum);
    }
    for (const Result& r : results_) {
      const Expr& total = totals[static_cast<size_t>(r.sum)];
      if (r.squares < 0) {
        store(r.op, total);
        continue;
      }
      const Sum &differences = sums_[static_cast<size_t>(r.sum)],
                &squares = sums_[static_cast<size_t>(r.squares)];
      const Shift& shift = shifts_[static_cast<size_t>(squares.shift)];
      const loop::Type t = wide(squares);
      const Expr all = rows * loop::index(g_.domain.shape[1] * g_.domain.shape[2]);
      const Expr mean = b.let("mean", total / loop::broadcast(loop::cast(loop::Scalar::f64, all), lanes));
      const loop::Variable sum = b.declare("squares", loop::constant(t, 0));
      over_chunks([&](const Expr& chunk, const Expr& count) {
        const Expr away = b.let("away", read(shift.allocation, t.scalar, chunk) - mean);
        const Expr a = read(differences.allocation, t.scalar, chunk);
        b.assign(sum, loop::ref(sum) + loop::fma(away, loop::fma(count, away, a + a),
                                                 read(squares.allocation, t.scalar, chunk)));
      });
      store(r.op, loop::binary(BinaryOp::max, loop::ref(sum), loop::constant(t, 0)));
    }
  });
  l_.finish(kb, partition);
}

}  // namespace gradc::passes::lowering
