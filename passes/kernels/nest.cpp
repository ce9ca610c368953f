// Lowers a group of elementwise operations and reductions to one loop nest in phases.
//
// Outer loops run over the axes that stay, inner loops over the reduced ones, once for every phase:
//   for f in this thread's features:                    outer point
//     for panel, for lanes:  sum += x                   phase 0: a reduction
//     mean = sum / n                                    outer value
//     for panel, for lanes:  sum2 += (x - mean)^2       phase 1
//     for panel, for lanes:  y = relu((x - mean) ...)   phase 2: stores
//   store what belongs to the outer point; symbols last
// Values of an earlier phase are loaded where they are stored in memory, else recomputed. Updates of symbols
// in place are stored when everything that reads the symbol in this group has been computed.
//
// Sums over batch and space of images are taken by partial sums instead (partial_sums.h), in one pass.
//
// Order of summation: each lane adds its examples (or elements) in order, in blocks (blocked_sum.h), the
// sub-vectors of a panel are added, then the lanes by the fixed tree of loop::reduce. It depends on the
// vector width and the batch, never on threads.
#include <algorithm>
#include <optional>

#include "passes/kernels/blocked_sum.h"
#include "passes/kernels/lowering.h"
#include "passes/kernels/partial_sums.h"
#include "support/check.h"

namespace gradc::passes::lowering {

namespace {

using loop::Expr;

class Nest {
 public:
  Nest(Lowering& l, const KernelGroup& g) : l_(l), g_(g), kb_(l, g), b_(kb_.b) {}

  void run() {
    choose_partition();
    emitter_.emplace(kb_, g_, own_, chunks());
    int64_t scratch = 0;
    if (g_.by_partial_sums()) sums_.emplace(kb_, g_, chunks(), 1, scratch);
    find_phases();
    if (flat_)
      flat_loop();
    else
      outer_loops();
    l_.finish(kb_, partition_);
    if (sums_) sums_->add_chunks();
  }

 private:
  // Partial sums (partial_sums.h) need no inner loops: every point of the domain is an outer one.
  bool has_reduction() const { return g_.has_reduction && !g_.by_partial_sums(); }
  bool reduces_batch() const { return g_.reduces_batch && !g_.by_partial_sums(); }
  bool reduced(size_t axis) const { return g_.reduced[axis] != 0 && !g_.by_partial_sums(); }
  int64_t extent(size_t axis) const { return g_.domain.shape[axis]; }
  bool batch_outer() const { return g_.domain.batched && !reduces_batch(); }
  // Panels are split into chunks of one row of images.
  bool by_image_row() const { return own_ == AccessScope::own_panels && partition_.extent > 1; }
  int64_t chunks() const { return own_ == AccessScope::own_panels ? partition_.extent : 1; }
  Expr rows() const { return loop::ref(b_.predefined().rows); }
  Expr panels() const { return loop::ref(b_.predefined().panels); }
  Expr lo() const { return loop::ref(b_.predefined().lo); }
  Expr hi() const { return loop::ref(b_.predefined().hi); }

  bool can_flatten() const {
    if (g_.domain.batched || has_reduction() || g_.domain.elements() == 1) return false;
    for (const Op* op : g_.ops) {
      if (op->def->kind == OpKind::indexing) return false;
      for (const Op* operand : op->operands) {
        if (operand->type.elements() != 1 && operand->type.shape != g_.domain.shape) return false;
        if (operand->def->kind == OpKind::source && !operand->type.shape.empty() && !operand->def->random)
          return false;
      }
      if (op->def->kind == OpKind::source && !op->type.shape.empty() && !op->def->random) return false;
    }
    return true;
  }

  // Indices of moved elements are computed one by one, so there are no vectors along an axis.
  bool moves_elements() const {
    for (const Op* op : g_.ops)
      if (op->def->kind == OpKind::indexing) return true;
    return false;
  }

  bool is_random() const {
    return std::any_of(g_.ops.begin(), g_.ops.end(), [](const Op* op) { return op->def->random; });
  }

  void choose_partition() {
    const Shape& shape = g_.domain.shape;
    const loop::Partition serial{};
    const loop::Partition by_panel{loop::Partition::Extent::panels, 1, 1};
    const bool axis0 = !shape.empty() && !reduced(0) && shape[0] > 1;
    flat_ = can_flatten();
    row_elements_ = 1;
    for (size_t a = 1; a < shape.size(); ++a) row_elements_ *= shape[a];
    if (g_.domain.batched && batch_outer() && is_image(g_.domain, l_.images) && !reduced(1)) {
      partition_ = {loop::Partition::Extent::panels, shape[1], 1}, own_ = AccessScope::own_panels;
    } else if (g_.domain.batched) {
      if (axis0 && shape[0] >= 4 * kSplitUnit)
        partition_ = axis_partition(shape[0]), own_ = AccessScope::own_axis0;
      else if (batch_outer())
        partition_ = by_panel, own_ = AccessScope::own_panels;
      else if (axis0)
        partition_ = axis_partition(shape[0]), own_ = AccessScope::own_axis0;
    } else if (axis0) {
      const loop::Partition by_row = axis_partition(shape[0]);
      if (flat_ && (by_row.unit * row_elements_) % l_.width == 0)
        partition_ = by_row, own_ = AccessScope::own_axis0;
      else if (flat_ && g_.domain.elements() >= 1024)
        partition_ = {loop::Partition::Extent::fixed, g_.domain.elements(), 4 * kSplitUnit},
        flat_partition_ = true;
      else if (!flat_ && shape.size() > 1)
        partition_ = by_row, own_ = AccessScope::own_axis0;
    }
    serial_ = partition_ == serial;
  }

  // Phases: see the head of this file.
  void find_phases() {
    for (const Op* op : g_.ops) {
      int at = 0;
      for (const Op* operand : op->operands) {
        const auto p = phase_.find(operand);
        if (p != phase_.end()) at = std::max(at, p->second);
      }
      if (op->def->kind == OpKind::reduction && !g_.by_partial_sums()) {
        reductions_.emplace_back(op, at);
        phases_ = std::max(phases_, at + 1);
        ++at;
      } else if (g_.level.at(op) == Level::inner && l_.targets.count(op)) {
        phases_ = std::max(phases_, at + 1);
      }
      phase_[op] = at;
    }
  }

  // Loops over the outer axes; calls outer_point at each.
  void outer_loops() {
    Point p;
    p.axes.assign(g_.domain.shape.size(), loop::index(0));
    std::vector<size_t> axes;
    for (const int a : memory_order(g_.domain, l_.images))
      if (const auto axis = static_cast<size_t>(a); !reduced(axis) && extent(axis) > 1) axes.push_back(axis);
    const bool split_axis0 = own_ == AccessScope::own_axis0;
    const size_t last = g_.domain.shape.empty() ? 0 : g_.domain.shape.size() - 1;
    const bool vector =
        !g_.domain.batched && !g_.domain.shape.empty() && extent(last) > 1 && !moves_elements();
    vector_axis_ = vector ? static_cast<int>(last) : -1;

    const auto vector_loop = [&](auto&& body, const Expr& begin, const Expr& end, size_t a) {
      b_.loop("i", begin, end, l_.width, [&](Expr i) {
        p.axes[a] = i;
        p.vector_last = true;
        p.lanes = l_.width;
        p.mask = extent(a) % l_.width ? lane_mask(i, loop::index(extent(a))) : nullptr;
        body();
      });
    };
    const auto rest = [&](auto&& self, size_t index) -> void {
      if (index == axes.size()) {
        if (!batch_outer()) return outer_point(p);
        // Copies of the body share the Philox counters of a panel's random numbers.
        b_.loop(
            "s", loop::index(0), loop::index(kPanel / l_.width), 1,
            [&](Expr s) {
              p.sub = s;
              p.batched = true;
              p.lanes = l_.width;
              outer_point(p);
            },
            l_.offset_aligned && is_random());
        return;
      }
      const size_t a = axes[index];
      if ((a == 0 && split_axis0 && !(vector_axis_ == 0)) || (a == 1 && by_image_row()))
        return self(self, index + 1);  // the outermost loop already
      if (static_cast<int>(a) == vector_axis_) {
        const bool split = a == 0 && split_axis0;
        return vector_loop([&] { self(self, index + 1); }, split ? lo() : loop::index(0),
                           split ? hi() : loop::index(extent(a)), a);
      }
      b_.loop("d", loop::index(0), loop::index(extent(a)), 1, [&](Expr d) {
        p.axes[a] = d;
        self(self, index + 1);
      });
    };
    const auto with_panels = [&] {
      if (!batch_outer()) return rest(rest, 0);
      const bool split = own_ == AccessScope::own_panels;
      b_.loop("q", split ? lo() : loop::index(0), split ? hi() : panels(), 1, [&](Expr q) {
        p.panel = q;
        if (by_image_row()) {
          p.panel = b_.let("panel", q / loop::index(chunks()));
          p.axes[1] = b_.let("y", loop::binary(loop::BinaryOp::rem, q, loop::index(chunks())));
        }
        if (sums_) begin_sums(p);
        rest(rest, 0);
        if (sums_) sums_->end_chunk(q);
      });
    };
    if (split_axis0 && vector_axis_ != 0) {
      b_.loop("f", lo(), hi(), 1, [&](Expr f) {
        p.axes[0] = f;
        with_panels();
      });
    } else if (serial_) {
      b_.if_then(loop::compare(loop::CompareOp::lt, lo(), hi()), with_panels);
    } else {
      with_panels();
    }
  }

  // A chunk's sums, around the values of its first pixel where they need a shift.
  void begin_sums(Point p) {
    sums_->begin_chunk();
    if (!sums_->shifted()) return;
    p.axes[2] = p.sub = loop::index(0);
    p.batched = true;
    p.lanes = l_.width;
    b_.loop("c", loop::index(0), loop::index(extent(0)), 1, [&](Expr c) {
      p.axes[0] = c;
      emitter_->begin_outer(p);
      emitter_->begin_inner(p);
      sums_->take_shift(*emitter_, p);
    });
  }

  Expr lane_mask(const Expr& begin, const Expr& end) {
    return b_.let("lanes", loop::compare(loop::CompareOp::lt,
                                         loop::ramp(loop::cast(loop::Scalar::i32, begin), 1, l_.width),
                                         loop::broadcast(loop::cast(loop::Scalar::i32, end), l_.width)));
  }

  void outer_point(const Point& p) {
    emitter_->begin_outer(p);
    if (!has_reduction()) {
      emitter_->begin_inner(p);
      if (sums_) sums_->add(*emitter_, p);
      inner_values(0, true);
      return;
    }
    for (int phase = 0; phase < phases_; ++phase) {
      ready_outer(phase);
      run_phase(p, phase);
    }
    ready_outer(phases_);
    for (const auto which : {PointEmitter::Which::others, PointEmitter::Which::symbols})
      for (const Op* op : g_.ops)
        if (g_.level.at(op) == Level::outer) emitter_->store(op, Level::outer, which);
  }

  // Outer values are computed outside the inner loops, as soon as their phase has come.
  void ready_outer(int phase) {
    for (const Op* op : g_.ops)
      if (g_.level.at(op) == Level::outer && op->def->kind != OpKind::reduction && phase_.at(op) <= phase)
        emitter_->value(op, Level::outer);
  }

  // All inner values to store in a phase: first compute every one, then store, so that in-place updates come
  // after all reads.
  void inner_values(int phase, bool last) {
    using Which = PointEmitter::Which;
    const auto due = [&](const Op* op, bool symbols) {
      return g_.level.at(op) == Level::inner && l_.targets.count(op) &&
             (symbols ? last : phase_.at(op) == phase);
    };
    for (const Op* op : g_.ops)
      if (due(op, false) || (due(op, true) && updates_symbol(op))) emitter_->value(op, Level::inner);
    for (const Op* op : g_.ops)
      if (due(op, false)) emitter_->store(op, Level::inner, Which::others);
    for (const Op* op : g_.ops)
      if (due(op, true) && updates_symbol(op)) emitter_->store(op, Level::inner, Which::symbols);
  }

  bool updates_symbol(const Op* op) const {
    for (int allocation : l_.targets.at(op))
      if (l_.symbol_targets.count(allocation)) return true;
    return false;
  }

  void run_phase(const Point& outer, int phase) {
    const bool last_phase = phase + 1 == phases_;
    for (const Op* op : g_.ops)
      if (g_.level.at(op) == Level::inner && phase_.at(op) < phase && l_.panels_or_plain.count(op))
        emitter_->reload.insert(op);

    const bool lanes_reduced =
        reduces_batch() || (vector_axis_ >= 0 && reduced(static_cast<size_t>(vector_axis_)));
    const int subs = reduces_batch() ? static_cast<int>(kPanel / l_.width) : 1;
    const int lanes = lanes_reduced ? l_.width : outer.lanes;
    struct Sum {
      const Op* op;
      std::vector<loop::Variable> partial;
    };
    std::vector<Sum> sums;
    for (const auto& [op, at] : reductions_) {
      if (at != phase) continue;
      Sum sum{op, {}};
      const loop::Type type{scalar_of(op->type.dtype), static_cast<uint16_t>(lanes)};
      for (int s = 0; s < subs; ++s)
        sum.partial.push_back(b_.declare("acc", type.is_float()
                                                    ? loop::constant(type, op->def->identity)
                                                    : loop::constant_int(type, integer_identity(op))));
      sums.push_back(std::move(sum));
    }

    Point p = outer;
    const auto at_point = [&](int vector, const Expr& exists) {
      emitter_->begin_inner(p);
      for (const Sum& sum : sums) emitter_->value(sum.op->operands[0], Level::inner);
      for (const Sum& sum : sums) {
        const Expr v = loop::broadcast(emitter_->value(sum.op->operands[0], Level::inner), lanes);
        const Expr acc = loop::ref(sum.partial[static_cast<size_t>(vector)]);
        const Expr next = loop::binary(sum.op->def->combiner, acc, v);
        b_.assign(sum.partial[static_cast<size_t>(vector)], exists ? loop::select(exists, next, acc) : next);
      }
      inner_values(phase, last_phase);
    };
    const auto innermost = [&] {
      if (!reduces_batch())
        return at_point(0,
                        vector_axis_ >= 0 && reduced(static_cast<size_t>(vector_axis_)) ? p.mask : nullptr);
      for (int s = 0; s < subs; ++s) {
        p.sub = loop::index(s);
        at_point(s, lane_mask(p.panel * loop::index(kPanel) + loop::index(s * l_.width), rows()));
      }
    };
    std::vector<SumLoop> loops;
    if (reduces_batch())
      loops.push_back({"q", [&] { return std::pair{loop::index(0), panels()}; }, 1,
                       l_.batch_panels(kb_.kernel.rows),
                       [&](const Expr& q) {
                         p.panel = q;
                         p.batched = true;
                         p.lanes = l_.width;
                       }});
    for (const int axis : memory_order(g_.domain, l_.images)) {
      const auto a = static_cast<size_t>(axis);
      if (!reduced(a) || extent(a) == 1) continue;
      const bool vector = axis == vector_axis_;
      loops.push_back(sum_loop("r", extent(a), vector ? l_.width : 1, [&p, a, vector, this](const Expr& r) {
        p.axes[a] = r;
        if (!vector) return;
        p.vector_last = true;
        p.lanes = l_.width;
        p.mask = extent(a) % l_.width ? lane_mask(r, loop::index(extent(a))) : nullptr;
      }));
    }
    std::vector<loop::Variable*> rounded;  // sums whose terms are rounded
    for (Sum& sum : sums)
      if (sum.op->type.is_float() && sum.op->def->combiner == loop::BinaryOp::add)
        for (loop::Variable& v : sum.partial) rounded.push_back(&v);
    blocked_sum(b_, rounded, loops, kBlockTerms, 1, innermost);
    for (const Sum& sum : sums) {
      Expr total = loop::ref(sum.partial[0]);
      for (size_t s = 1; s < sum.partial.size(); ++s)
        total = loop::binary(sum.op->def->combiner, total, loop::ref(sum.partial[s]));
      if (lanes_reduced) total = loop::reduce(sum.op->def->combiner, total);
      emitter_->define(sum.op, Level::outer, b_.let(fmt::format("v{}", sum.op->id), total));
    }
  }

  static int64_t integer_identity(const Op* op) {
    switch (op->def->combiner) {
      case loop::BinaryOp::min: return INT32_MAX;
      case loop::BinaryOp::max: return INT32_MIN;
      default: return 0;
    }
  }

  void flat_loop() {
    Point p;
    p.vector_last = true;
    p.lanes = l_.width;
    const auto body = [&](const Expr& begin, const Expr& end) {
      b_.loop("i", begin, end, l_.width, [&](Expr i) {
        p.flat = i;  // every plain value is padded to whole vectors, so the last one needs no mask
        emitter_->begin_outer(p);
        emitter_->begin_inner(p);
        inner_values(0, true);
      });
    };
    if (serial_)
      b_.if_then(loop::compare(loop::CompareOp::lt, lo(), hi()),
                 [&] { body(loop::index(0), loop::index(g_.domain.elements())); });
    else if (flat_partition_)
      body(lo(), hi());
    else
      body(lo() * loop::index(row_elements_), hi() * loop::index(row_elements_));
  }

  Lowering& l_;
  const KernelGroup& g_;
  KernelBuilder kb_;
  loop::Builder& b_;
  std::optional<PointEmitter> emitter_;
  std::optional<PartialSums> sums_;  // of a group that is by_partial_sums()
  loop::Partition partition_;
  AccessScope own_ = AccessScope::anything;
  bool serial_ = true, flat_ = false, flat_partition_ = false;
  int64_t row_elements_ = 1;
  int vector_axis_ = -1;  // unbatched: the example axis the lanes run along
  int phases_ = 1;
  std::map<const Op*, int> phase_;  // inner: computed from here on; outer: known from here on
  std::vector<std::pair<const Op*, int>> reductions_;
};

}  // namespace

void lower_nest(Lowering& lowering, const KernelGroup& group) { Nest(lowering, group).run(); }

}  // namespace gradc::passes::lowering
