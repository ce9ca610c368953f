// Lowers attention and its gradients (ir/ops/attention.cpp has the formulas) without a value of queries x keys in memory
// (as Dao et al. 2022): a thread's own positions, a panel of queries or of keys, are in the lanes, and all positions of
// the other side that they see are taken one after the other, in tiles.
//   for panel, for example in it, for head:
//     for j tile of 8:  acc[8][2] = sum over d of other[j][d] * own[d]      scores, a scalar times two vectors
//       weights[j] = f(acc)                                                 scratch memory, for one panel
//     for d tile of 8:  acc[8][2] = sum over j of other[j][d] * weights[j]  the result
// So no operand is transposed, softmax runs along j without crossing lanes, and positions that a causal mask hides from
// the whole panel are left out. A panel has lanes of several examples where the length is no multiple of a panel: then
// each example is worked on in all lanes, and its own lanes are kept.
//
// Sums are in the order of d and of j, in blocks (blocked_sum.h), for any number of threads.
#include <algorithm>

#include "passes/kernels/lowering.h"
#include "passes/kernels/tile.h"
#include "support/check.h"

namespace gradc::passes::lowering {

namespace {

using loop::Expr;

class Attention {
 public:
  Attention(Lowering& l, const KernelGroup& g)
      : l_(l),
        op_(g.ops.front()),
        nest_(op_->def->loop_nest),
        causal_(op_->attributes.boolean("causal")),
        keys_own_(nest_ == LoopNest::attention_key_grad || nest_ == LoopNest::attention_value_grad),
        tile_(l, g),
        b_(tile_.kb.b),
        own_(op_->operands[keys_own_ ? 1 : 0]),
        other_(op_->operands[keys_own_ ? 0 : 1]),
        vectors_(tile_vectors(l.width)),
        type_{scalar_of(op_->type.dtype), static_cast<uint16_t>(l.width)} {
    GRADC_CHECK(g.ops.size() == 1, "{} has no epilogue", op_->name());
    tile_.kb.kernel.rows = own_->type.rows;
    tile_.partition_panels();
    const int scratch = l_.new_scratch(fmt::format("k{} weights", g.number), type_.scalar,
                                       others() * vectors_ * l_.width, tile_.scratch);
    tile_.kb.declare_written(scratch);
    weights_ = tile_.kb.buffer(scratch, true, AccessScope::anything);
  }

  void run() {
    b_.loop("q", tile_.lo(), tile_.hi(), 1, [&](Expr panel) {
      panel_ = panel;
      const int64_t length = own_->type.rows;
      if (length % kPanel == 0) return example(panel_ / loop::index(length / kPanel));
      // Lanes past the last row are of no example.
      const auto cap = [](const Expr& a, const Expr& b) { return loop::binary(loop::BinaryOp::min, a, b); };
      const Expr first = panel_ * loop::index(kPanel);
      const Expr examples = loop::ref(b_.predefined().rows) / loop::index(length);
      const Expr past = (first + loop::index(kPanel - 1)) / loop::index(length) + loop::index(1);
      first_example_ = b_.let("e0", first / loop::index(length));
      // The counter's own cap changes nothing, and is what proves that reads are within their values.
      b_.loop("e", first_example_, b_.let("e1", cap(past, examples)), 1,
              [&](Expr e) { example(cap(e, examples - loop::index(1))); });
    });
    tile_.finish();
  }

 private:
  int64_t heads() const { return own_->type.shape[0]; }
  int64_t others() const { return other_->type.rows; }
  bool shares_panels() const { return first_example_ != nullptr; }  // with other examples
  int block() const { return tile_block(l_.options.machine.registers); }
  Expr number(double v) const { return loop::constant(type_, v); }
  static int64_t width_of(const Op* value) { return value->type.rank() > 1 ? value->type.shape[1] : 1; }

  void example(const Expr& e) {
    example_ = b_.let("example", e);
    start_ = b_.let("start", panel_ * loop::index(kPanel) - example_ * loop::index(own_->type.rows));
    others_seen();
    b_.loop("h", loop::index(0), loop::index(heads()), 1, [&](Expr h) {
      head_ = h;
      b_.loop("s", loop::index(0), loop::index(kPanel / l_.width), vectors_, [&](Expr s) {
        sub_ = s;
        compute();
      });
    });
  }

  // The other side's positions that some lane sees: queries see keys up to their own position.
  void others_seen() {
    begin_ = loop::index(0);
    end_ = loop::index(others());
    if (!causal_) return;
    const Expr rows = loop::index(block());
    using loop::BinaryOp;
    if (keys_own_) {
      const Expr first = loop::binary(BinaryOp::max, start_, loop::index(0)) / rows;
      const Expr blocks = loop::index(others() / block());
      begin_ = b_.let("begin", loop::binary(BinaryOp::min, first, blocks) * rows);
    } else {
      const Expr past = start_ + loop::index(kPanel);
      const Expr whole = (past + rows - loop::index(1)) / rows * rows;
      end_ = b_.let("end", loop::binary(BinaryOp::min, whole, loop::index(others())));
    }
  }

  void compute() {
    const Op *q = op_->operands[0], *k = op_->operands[1];
    switch (nest_) {
      case LoopNest::attention: {
        softmax();
        const std::vector<Expr> sums = exponentials();
        return product(op_->operands[2],
                       [&](int j, const Expr& v) { return v / sums[static_cast<size_t>(j)]; });
      }
      case LoopNest::attention_log_sum: {
        softmax();
        const std::vector<Expr> sums = exponentials();
        for (int j = 0; j < vectors_; ++j) {
          const Expr log = loop::unary(loop::UnaryOp::log, sums[static_cast<size_t>(j)]);
          store(head_, j, loop::ref(greatest_[static_cast<size_t>(j)]) + log);
        }
        return;
      }
      case LoopNest::attention_value_grad:
        probabilities(op_->operands[2]);
        return product(op_->operands[3], [](int, const Expr& v) { return v; });
      case LoopNest::attention_query_grad:
      case LoopNest::attention_key_grad:
        probabilities(op_->operands[3]);
        score_gradients();
        return product(keys_own_ ? q : k,
                       [&](int, const Expr& v) { return v * number(op_->attributes.number("scale")); });
      default: break;
    }
    internal_error(__FILE__, __LINE__, "no attention: " + op_->name());
  }

  // --- memory

  loop::Buffer buffer(const Op* value, bool own) {
    return tile_.kb.buffer(l_.storage(value).allocation, false,
                           own ? AccessScope::own_panels : AccessScope::anything);
  }
  // Of the own side's value, in the lanes of vector j.
  Expr own_index(const Op* value, const Expr& element, int j) const {
    return (panel_ * loop::index(value->type.elements()) + element) * loop::index(kPanel) +
           (sub_ + loop::index(j)) * loop::index(l_.width);
  }
  Expr own(const Op* value, const Expr& element, int j) {
    return loop::load(buffer(value, true), own_index(value, element, j), l_.width);
  }
  // Of the other side's value, the first element of the head in the row of a position.
  Expr other_row(const Op* value, const Expr& position) {
    const Expr panel = loop::index(kPanel);
    Expr at = position, lane = position;
    Expr first = example_ * loop::index(others());
    if (others() % kPanel == 0) {
      first = example_ * loop::index(others() / kPanel);
      at = first + position / panel;
    } else {
      lane = b_.let("row", first + position);
      at = lane / panel;
    }
    return b_.let("row",
                  (at * loop::index(value->type.elements()) + head_ * loop::index(width_of(value))) * panel +
                      loop::binary(loop::BinaryOp::rem, lane, panel));
  }
  // The same for `count` consecutive positions from a multiple of a tile's rows on.
  std::vector<Expr> other_rows(const Op* value, const Expr& position, int count) {
    std::vector<Expr> rows{other_row(value, position)};
    for (int i = 1; i < count; ++i)
      rows.push_back(others() % kPanel == 0 ? rows[0] + loop::index(i)
                                            : other_row(value, position + loop::index(i)));
    return rows;
  }
  Expr weight_index(const Expr& position, int j) const {
    return (position * loop::index(vectors_) + loop::index(j)) * loop::index(l_.width);
  }
  Expr weight(const Expr& position, int j) {
    return b_.let("p", loop::load(weights_, weight_index(position, j), l_.width));
  }
  void store(const Expr& element, int j, Expr value) {
    for (const int a : l_.targets.at(op_)) {
      const loop::Buffer to = tile_.kb.buffer(a, true, AccessScope::own_panels);
      const Expr at = own_index(op_, element, j);
      if (shares_panels()) {
        const Expr before = loop::select(
            loop::broadcast(loop::compare(loop::CompareOp::eq, example_, first_example_), l_.width),
            number(0), b_.let("before", loop::load(to, at, l_.width)));
        value = loop::select(in_example(j), value, before);
      }
      b_.store(to, at, value);
    }
  }
  Expr positions(int j) const {
    const Expr first = start_ + (sub_ + loop::index(j)) * loop::index(l_.width);
    return loop::ramp(loop::cast(loop::Scalar::i32, first), 1, l_.width);
  }
  Expr position(const Expr& p) const { return loop::broadcast(loop::cast(loop::Scalar::i32, p), l_.width); }
  Expr in_example(int j) const {
    return loop::binary(
        loop::BinaryOp::bit_and, loop::compare(loop::CompareOp::ge, positions(j), position(loop::index(0))),
        loop::compare(loop::CompareOp::lt, positions(j), position(loop::index(own_->type.rows))));
  }

  // --- the two products

  // Calls body(position, count) for the tiles of the other side's positions that are seen.
  void over_tiles(const std::function<void(Expr, int)>& body) {
    const int64_t rows = block(), full = others() / rows * rows;
    const auto tiles = [&](const Expr& first, int64_t count) {
      in_tiles(first, count, l_.options.machine.registers, body);
    };
    const Expr end = loop::binary(loop::BinaryOp::min, end_, loop::index(full));
    if (full > 0) b_.loop("j", begin_, end, rows, [&](Expr j) { tiles(j, rows); });
    if (full == others()) return;
    const auto rest = [&] { tiles(loop::index(full), others() - full); };
    if (causal_)
      b_.if_then(loop::compare(loop::CompareOp::gt, end_, loop::index(full)), rest);
    else
      rest();
  }

  // The accumulators become, for each of `count` positions of the other side, the product of its row with own rows.
  void row_products(const Op* other, const Op* own_value, const Expr& position, int count) {
    const int64_t width = width_of(own_value);
    const std::vector<Expr> rows = other_rows(other, position, count);
    const loop::Buffer from = buffer(other, false);
    tile_.declare(count, vectors_, l_.width);
    Expr d;
    tile_.sum({sum_loop("d", width, 1, [&](const Expr& i) { d = i; })}, 1, [&] {
      std::vector<Expr> shared;
      for (int j = 0; j < vectors_; ++j)
        shared.push_back(b_.let("b", own(own_value, head_ * loop::index(width) + d, j)));
      for (int i = 0; i < count; ++i) {
        const Expr at = rows[static_cast<size_t>(i)] + d * loop::index(kPanel);
        const Expr a = b_.let("a", loop::broadcast(loop::load(from, at), l_.width));
        for (int j = 0; j < vectors_; ++j) tile_.accumulate(i, j, a, shared[static_cast<size_t>(j)]);
      }
    });
  }

  // Stores finish(sum over positions of the other side's rows times their weights).
  void product(const Op* other, const std::function<Expr(int, const Expr&)>& finish) {
    const int64_t width = width_of(other);
    const loop::Buffer from = buffer(other, false);
    tile_.over_rows("d", width, false, [&](Expr d, int count) {
      tile_.declare(count, vectors_, l_.width);
      Expr p;
      tile_.sum({positions_seen([&](const Expr& i) { p = i; })}, 1, [&] {
        const Expr row = other_row(other, p);
        std::vector<Expr> shared;
        for (int j = 0; j < vectors_; ++j) shared.push_back(weight(p, j));
        for (int i = 0; i < count; ++i) {
          const Expr at = row + (d + loop::index(i)) * loop::index(kPanel);
          const Expr a = b_.let("a", loop::broadcast(loop::load(from, at), l_.width));
          for (int j = 0; j < vectors_; ++j) tile_.accumulate(i, j, a, shared[static_cast<size_t>(j)]);
        }
      });
      for (int i = 0; i < count; ++i)
        for (int j = 0; j < vectors_; ++j)
          store(head_ * loop::index(width) + d + loop::index(i), j,
                finish(j, loop::ref(tile_.accumulator(i, j))));
    });
  }

  SumLoop positions_seen(std::function<void(const Expr&)> at) const {
    return {"j", [this] { return std::pair{begin_, end_}; }, 1, others(), std::move(at)};
  }

  // --- softmax and its gradient

  // The score in an accumulator; `hidden` where its query does not see its key.
  Expr score(const Expr& position_of_other, int i, int j, double hidden) {
    const Expr s = loop::ref(tile_.accumulator(i, j)) * number(op_->attributes.number("scale"));
    if (!causal_) return s;
    const Expr there = position(position_of_other + loop::index(i));
    const Expr seen = keys_own_ ? loop::compare(loop::CompareOp::le, positions(j), there)
                                : loop::compare(loop::CompareOp::le, there, positions(j));
    return loop::select(seen, s, number(hidden));
  }

  // Scores as weights, and the greatest of each lane.
  void softmax() {
    constexpr double kHidden = -1e30;
    greatest_.clear();
    for (int j = 0; j < vectors_; ++j) greatest_.push_back(b_.declare("greatest", number(kHidden)));
    over_tiles([&](const Expr& p, int count) {
      row_products(other_, own_, p, count);
      for (int i = 0; i < count; ++i)
        for (int j = 0; j < vectors_; ++j) {
          const loop::Variable& most = greatest_[static_cast<size_t>(j)];
          const Expr s = b_.let("s", score(p, i, j, kHidden));
          b_.assign(most, loop::binary(loop::BinaryOp::max, loop::ref(most), s));
          b_.store(weights_, weight_index(p + loop::index(i), j), s);
        }
    });
  }

  // exp(score - greatest) as weights; returns their sums.
  std::vector<Expr> exponentials() {
    std::vector<loop::Variable> sums;
    for (int j = 0; j < vectors_; ++j) sums.push_back(b_.declare("sum", number(0)));
    std::vector<loop::Variable*> all;
    for (loop::Variable& v : sums) all.push_back(&v);
    Expr p;
    blocked_sum(b_, all, {positions_seen([&](const Expr& i) { p = i; })}, kBlockTerms, 1, [&] {
      for (int j = 0; j < vectors_; ++j) {
        const Expr most = loop::ref(greatest_[static_cast<size_t>(j)]);
        const Expr w = b_.let("w", loop::unary(loop::UnaryOp::exp, weight(p, j) - most));
        b_.store(weights_, weight_index(p, j), w);
        b_.assign(*all[static_cast<size_t>(j)], loop::ref(*all[static_cast<size_t>(j)]) + w);
      }
    });
    std::vector<Expr> result;
    for (const loop::Variable& v : sums) result.push_back(loop::ref(v));
    return result;
  }

  // A number of each query and head, for a score in the tile.
  Expr of_query(const Op* numbers, const Expr& position_of_other, int i, int j) {
    if (!keys_own_) return own(numbers, head_, j);
    const Expr at = other_rows(numbers, position_of_other, i + 1).back();
    return loop::broadcast(loop::load(buffer(numbers, false), at), l_.width);
  }

  // exp(score - log sum) as weights.
  void probabilities(const Op* log_sum) {
    over_tiles([&](const Expr& p, int count) {
      row_products(other_, own_, p, count);
      for (int i = 0; i < count; ++i)
        for (int j = 0; j < vectors_; ++j) {
          const Expr s = score(p, i, j, -std::numeric_limits<double>::infinity());
          const Expr w = loop::unary(loop::UnaryOp::exp, s - b_.let("l", of_query(log_sum, p, i, j)));
          b_.store(weights_, weight_index(p + loop::index(i), j), b_.let("w", w));
        }
    });
  }

  // weight * (g . v - dots) as weights.
  void score_gradients() {
    const Op *v = op_->operands[2], *g = op_->operands[4], *dots = op_->operands[5];
    over_tiles([&](const Expr& p, int count) {
      row_products(keys_own_ ? g : v, keys_own_ ? v : g, p, count);
      for (int i = 0; i < count; ++i)
        for (int j = 0; j < vectors_; ++j) {
          const Expr at = p + loop::index(i);
          const Expr d = loop::ref(tile_.accumulator(i, j)) - b_.let("d", of_query(dots, p, i, j));
          b_.store(weights_, weight_index(at, j), b_.let("w", weight(at, j) * d));
        }
    });
  }

  Lowering& l_;
  const Op* op_;
  const LoopNest nest_;
  const bool causal_, keys_own_;  // whether keys are in the lanes, else queries
  Tile tile_;
  loop::Builder& b_;
  const Op *own_, *other_;  // queries and keys, or the other way round
  const int vectors_;
  const loop::Type type_;
  loop::Buffer weights_;                // of the other side's positions, for two vectors
  Expr panel_, first_example_;          // the first example: only where panels are shared
  Expr example_, start_, begin_, end_;  // start: position of lane 0, below 0 in an earlier example
  Expr head_, sub_;
  std::vector<loop::Variable> greatest_;
};

}  // namespace

void lower_attention(Lowering& lowering, const KernelGroup& group) { Attention(lowering, group).run(); }

}  // namespace gradc::passes::lowering
