// Lowers gather and scatter_add to loops over the elements they move.
//
// A batched result has the examples in the lanes: each lane reads, or adds to, the element that its own index selects;
// lanes are different examples, so they never conflict. A table without a batch is summed by the thread that owns a
// chunk of its first axis, over the examples in order and then over the index in order: the bits do not depend on the
// number of threads, and no two threads write one element. Where an element may take many terms, the rounding error of
// its sum is stored beside it and goes into the next term (Kahan 1965).
#include "passes/kernels/gather.h"

#include <functional>
#include <optional>

#include "passes/kernels/blocked_sum.h"
#include "passes/kernels/lowering.h"
#include "support/check.h"

namespace gradc::passes::lowering {

namespace {

using loop::Expr;

Expr linear(const Shape& shape, const std::vector<Expr>& places) {
  Expr e = loop::index(0);
  for (size_t a = 0; a < shape.size(); ++a) e = e * loop::index(shape[a]) + places[a];
  return e;
}

class Gather {
 public:
  Gather(Lowering& l, const KernelGroup& g)
      : l_(l),
        op_(g.ops.front()),
        kb_(l, g),
        b_(kb_.b),
        index_(op_->operands[1]),
        axis_(static_cast<size_t>(op_->attributes.integer("axis"))) {
    GRADC_CHECK(g.ops.size() == 1, "{} has no epilogue", op_->name());
    if (!op_->locations.empty()) b_.set_location(op_->locations.front());
    scatters_ = op_->def->loop_nest == LoopNest::scatter_add;
    table_ = scatters_ ? op_ : op_->operands[0];
    rows_ = scatters_ ? op_->operands[0] : op_;
    const auto found = l.targets.find(op_);
    GRADC_CHECK(found != l.targets.end(), "nothing reads {}", op_->name());
    targets_ = found->second;
    if (scatters_ && table_->type.is_float() && most_terms() > 2 * kBlockProducts) {
      const Layout layout = table_->type.batched ? Layout::panels : Layout::plain;
      lost_ = l_.new_allocation(fmt::format("%{} cut off", op_->id), scalar_of(op_->type.dtype),
                                l_.elements_of(table_->type, layout), loop::Space::arena, 0);
      kb_.declare_written(lost_);
    }
  }

  void run() {
    loop::Partition partition{};
    const bool batched = op_->type.batched;
    const Shape& shape = op_->type.shape;
    if (batched)
      partition = {loop::Partition::Extent::panels, 1, 1};
    else if (!shape.empty() && shape[0] > 1)
      partition = axis_partition(shape[0]);
    const Expr lo = loop::ref(b_.predefined().lo), hi = loop::ref(b_.predefined().hi);
    const auto body = [&] {
      if (batched) {
        b_.loop("q", lo, hi, 1, [&](Expr q) {
          b_.loop("s", loop::index(0), loop::index(kPanel / l_.width), 1, [&](Expr s) {
            panel_ = q;
            lane_ = s * loop::index(l_.width);
            lanes_ = l_.width;
            if (scatters_) fill_zero();
            over_elements();
          });
        });
        return;
      }
      first_ = lo;
      last_ = hi;
      if (scatters_) fill_zero();
      if (!rows_->type.batched) return over_elements();
      b_.loop("m", loop::index(0), loop::ref(b_.predefined().rows), 1, [&](Expr m) {
        panel_ = m / loop::index(kPanel);
        lane_ = loop::binary(loop::BinaryOp::rem, m, loop::index(kPanel));
        over_elements();
      });
    };
    if (batched || partition.extent > 1)
      body();
    else
      b_.if_then(loop::compare(loop::CompareOp::lt, lo, hi), body);
    l_.finish(kb_, partition);
  }

 private:
  // Terms that an element of the table may have.
  int64_t most_terms() const {
    return index_->type.elements() *
           (op_->type.batched || !rows_->type.batched ? 1 : l_.options.batch * kb_.kernel.rows);
  }
  AccessScope scope() const { return op_->type.batched ? AccessScope::own_panels : AccessScope::anything; }

  // Whether the result's first axis is split over threads.
  bool splits() const { return first_ && !op_->type.shape.empty() && op_->type.shape[0] > 1; }

  // The first axis of `rows_` after the index's.
  size_t after_index() const { return axis_ + index_->type.shape.size(); }

  // The axis of the result that corresponds to an axis of `rows_`. In a table the index's axes have none; the axes
  // after them follow the indexed axis, which is the first one where axis_ is 0.
  std::optional<size_t> result_axis(size_t rows_axis) const {
    if (!scatters_ || rows_axis < axis_) return rows_axis;
    if (rows_axis < after_index()) return std::nullopt;
    return rows_axis - after_index() + axis_ + 1;
  }

  // Loops over an axis of `rows_`: over this thread's chunk where it is the result's first axis and that is split.
  template <class F>
  void over_axis(const char* name, size_t rows_axis, F&& body) {
    const bool own = splits() && result_axis(rows_axis) == size_t{0};
    b_.loop(name, own ? first_ : loop::index(0), own ? last_ : loop::index(rows_->type.shape[rows_axis]), 1,
            body);
  }

  // The address of an element: in a batched value that of this panel and, with several lanes, of the first lane.
  Expr address(const Op* value, const std::vector<Expr>& places) const {
    if (!value->type.batched) return linear(value->type.shape, places);
    return (panel_ * loop::index(value->type.elements()) + l_.element(value->type, places)) *
               loop::index(kPanel) +
           lane_;
  }
  Expr each_lane(Expr address, const Op* value) const {
    return value->type.batched && lanes_ > 1 ? address + loop::ramp(loop::index(0), 1, lanes_) : address;
  }
  loop::Buffer buffer_of(const Op* value) {
    return kb_.buffer(l_.storage(value).allocation, false, AccessScope::anything);
  }
  Expr load(const Op* value, const std::vector<Expr>& places) {
    const Expr at = address(value, places);
    if (at->type.lanes > 1) return loop::gather(buffer_of(value), each_lane(at, value));
    return loop::load(buffer_of(value), at, value->type.batched ? lanes_ : 1);
  }

  void over(const Shape& shape, size_t axis, std::vector<Expr>& places, const std::function<void()>& body) {
    if (axis == shape.size()) return body();
    b_.loop("a", loop::index(0), loop::index(shape[axis]), 1, [&](Expr i) {
      places[axis] = i;
      over(shape, axis + 1, places, body);
    });
  }

  // Zeros in this thread's chunk of the table, or in this example's.
  void fill_zero() {
    const Shape& shape = op_->type.shape;
    if (op_->type.batched) {
      std::vector<Expr> places(shape.size());
      return over(shape, 0, places, [&] { store(places, zero(lanes_)); });
    }
    const int64_t row = splits() ? op_->type.elements() / shape[0] : op_->type.elements();
    const Expr begin = splits() ? first_ * loop::index(row) : loop::index(0);
    const Expr end = b_.let("end", splits() ? last_ * loop::index(row) : loop::index(row));
    b_.loop("z", begin, end, l_.width, [&](Expr z) {
      const Expr there =
          loop::compare(loop::CompareOp::lt, loop::ramp(z, 1, l_.width), loop::broadcast(end, l_.width));
      for (const int target : targets_)
        b_.store(kb_.buffer(target, true, AccessScope::anything), z, zero(l_.width), there);
      if (lost_ >= 0) b_.store(kb_.buffer(lost_, true, AccessScope::anything), z, zero(l_.width), there);
    });
  }

  Expr zero(int lanes) const {
    return loop::constant({scalar_of(op_->type.dtype), static_cast<uint16_t>(lanes)}, 0);
  }

  void store(const std::vector<Expr>& places, const Expr& value, const Expr& mask = nullptr) {
    const Expr at = address(op_, places);
    for (const int target : targets_) {
      const loop::Buffer to =
          kb_.buffer(target, true, op_->type.batched ? AccessScope::own_panels : AccessScope::anything);
      b_.store(to, at->type.lanes > 1 ? each_lane(at, op_) : at, value, mask);
    }
    if (lost_ >= 0) b_.store(kb_.buffer(lost_, true, scope()), at, value, mask);
  }

  void over_elements() {
    std::vector<Expr> places(rows_->type.shape.size());
    // The index's axes are outermost, so that an index is read once for all elements it moves.
    std::vector<Expr> at(index_->type.shape.size());
    const auto at_index = [&](auto&& self, size_t i) -> void {
      if (i < at.size()) {
        return over_axis("i", axis_ + i, [&](Expr p) {
          at[i] = places[axis_ + i] = p;
          self(self, i + 1);
        });
      }
      named_ = b_.let("named", loop::cast(loop::Scalar::i64, load(index_, at)));
      const int64_t extent = table_->type.shape[axis_];
      const bool owned = scatters_ && splits() && axis_ == 0;
      const Expr low = owned ? first_ : loop::index(0), high = owned ? last_ : loop::index(extent);
      const auto wide = [&](const Expr& e) { return loop::broadcast(e, named_->type.lanes); };
      valid_ = b_.let("valid", loop::binary(loop::BinaryOp::bit_and,
                                            loop::compare(loop::CompareOp::ge, named_, wide(low)),
                                            loop::compare(loop::CompareOp::lt, named_, wide(high))));
      named_ = b_.let("place", loop::select(valid_, named_, wide(loop::index(0))));
      const auto move_all = [&] { outer(places, 0); };
      // One index for all lanes: nothing is added where it is out of range.
      if (scatters_ && valid_->type.lanes == 1)
        b_.if_then(valid_, move_all);
      else
        move_all();
    };
    at_index(at_index, 0);
  }

  // Loops over the axes before and after the index's.
  void outer(std::vector<Expr>& places, size_t a) {
    if (a == axis_) a = after_index();
    if (a == places.size()) return move(places);
    over_axis("a", a, [&](Expr i) {
      places[a] = i;
      outer(places, a + 1);
    });
  }

  void move(const std::vector<Expr>& places) {
    std::vector<Expr> there(places.begin(), places.begin() + static_cast<std::ptrdiff_t>(axis_));
    there.push_back(named_);
    there.insert(there.end(), places.begin() + static_cast<std::ptrdiff_t>(after_index()), places.end());
    if (!scatters_) {
      const Expr v = loop::broadcast(load(table_, there), lanes_);
      return store(places, loop::select(loop::broadcast(valid_, lanes_), v, zero(lanes_)));
    }
    const Expr v = b_.let("v", load(rows_, places));
    Expr at = address(op_, there);
    const bool apart = at->type.lanes > 1;
    if (apart) at = b_.let("at", each_lane(at, op_));
    const auto read = [&](int from) {
      const loop::Buffer buffer = kb_.buffer(from, true, scope());
      return b_.let("before", apart ? loop::gather(buffer, at)
                                    : loop::load(buffer, at, op_->type.batched ? lanes_ : 1));
    };
    const auto write = [&](int to, const Expr& value, const Expr& before) {
      b_.store(kb_.buffer(to, true, scope()), at, apart ? loop::select(valid_, value, before) : value);
    };
    const Expr before = read(targets_.front());  // every target has the same
    if (lost_ < 0) {
      const Expr sum = b_.let("sum", before + v);
      for (const int target : targets_) write(target, sum, before);
      return;
    }
    const Expr lost = read(lost_), term = b_.let("term", v - lost), sum = b_.let("sum", before + term);
    for (const int target : targets_) write(target, sum, before);
    write(lost_, (sum - before) - term, lost);
  }

  Lowering& l_;
  const Op* op_;
  KernelBuilder kb_;
  loop::Builder& b_;
  const Op* index_;
  const Op* table_ = nullptr;  // the value that is indexed, and the one that has the index's own axes
  const Op* rows_ = nullptr;
  size_t axis_;
  bool scatters_ = false;
  std::vector<int> targets_;
  int lost_ =
      -1;  // scatter_add of many terms: rounding errors of the sums, positive where a sum is too large
  Expr panel_, lane_, first_, last_, named_, valid_;
  int lanes_ = 1;
};

}  // namespace

void lower_gather(Lowering& lowering, const KernelGroup& group) { Gather(lowering, group).run(); }

}  // namespace gradc::passes::lowering
