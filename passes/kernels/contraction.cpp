// Lowers einsum, with the elementwise operations that follow it in its group as epilogue, to register tiles.
//
// Batched result, lanes along the batch (dense forward "nk,ok->no" and input gradient "no,ok->nk"):
//   for o tile of 8, for panel:  acc[8][panel / width] = 0
//     for k:  x[j] = load X[panel][k][lanes];  acc[i][j] += broadcast(W[o + i][k]) * x[j]
//     epilogue on every acc; store
// so weights are read as they are stored, one scalar a multiply-add pair, and no operand is transposed. The input
// gradient of large layers, and their forward product with few registers, pack blocks of weights (packed_weights.h); a
// last panel with few rows has outputs in the lanes (few_rows.h).
//
// Sum over the batch (weight gradient "no,nk->ok"), lanes along the last letter of the result, whose operand
// is read by rows:
//   for k block of 2 vectors, for o tile of 8:  acc[8][2] = 0
//     for row:  b[j] = load X[row][k + j];  acc[i][j] += broadcast(dY[o + i][row]) * b[j]
// An epilogue that divides or takes roots (Adam's) is deferred: it runs vector by vector between the products of the
// next tile. The latency of the divider, and of memory for parameters and state, is longer than out-of-order execution
// can hide. Where dY is more than half of the second-level cache, o runs in bands outside of k.
//
// Every element of the result is summed in one order (reduced letters as the operands name them, the batch by
// rows), by chains of fused multiply-adds, in blocks where they are long (blocked_sum.h): the order does not depend on
// tiles, threads or caches. Other forms run as scalar loops.
#include <algorithm>
#include <functional>

#include "ir/ops/einsum.h"
#include "passes/kernels/few_rows.h"
#include "passes/kernels/gather.h"
#include "passes/kernels/lowering.h"
#include "passes/kernels/orthonormal.h"
#include "passes/kernels/packed_weights.h"
#include "passes/kernels/tile.h"
#include "passes/kernels/window_weights.h"
#include "support/check.h"

namespace gradc::passes::lowering {

namespace {

using loop::Expr;

struct Spec {
  std::string in[2], out;  // letters without n
  bool batched[2] = {false, false}, out_batched = false;
  std::string reduced;  // letters summed over, without n
  std::map<char, int64_t> extent;
  bool reduces_batch() const { return (batched[0] || batched[1]) && !out_batched; }
};

Spec parse(const Op* op) {
  Spec s;
  const ops::EinsumSpec spec = ops::einsum_spec(*op);
  const std::string parts[3] = {spec.a, spec.b, spec.result};
  for (int i = 0; i < 3; ++i) {
    std::string letters;
    for (char c : parts[i])
      if (c != 'n') letters += c;
    const bool has_n = letters.size() != parts[i].size();
    if (i == 2) {
      s.out = letters;
      s.out_batched = has_n;
    } else {
      s.in[i] = letters;
      s.batched[i] = has_n;
      for (size_t a = 0; a < letters.size(); ++a)
        s.extent[letters[a]] = op->operands[static_cast<size_t>(i)]->type.shape[a];
    }
  }
  for (int i = 0; i < 2; ++i)
    for (char c : s.in[i])
      if (s.out.find(c) == std::string::npos && s.reduced.find(c) == std::string::npos) s.reduced += c;
  return s;
}

// Operand read by rows: it has the result's last letter last, is batched, and the batch is summed over.
int by_rows(const Spec& s) {
  if (!s.reduces_batch() || s.out.empty() || !s.batched[0] || !s.batched[1]) return -1;
  const char v = s.out.back();
  if (s.extent.at(v) < 4) return -1;
  for (int i : {1, 0})
    if (!s.in[i].empty() && s.in[i].back() == v && s.in[1 - i].find(v) == std::string::npos) return i;
  return -1;
}

// Whether the operand read by rows is packed block by block from its own layout: the weight gradient of a dense layer,
// "no,nk->ok". Else it needs a copy by rows.
bool packs_rows(const Spec& s) {
  const int r = by_rows(s);
  return r >= 0 && s.in[r].size() == 1 && s.reduced.empty();
}

class Einsum {
 public:
  Einsum(Lowering& l, const KernelGroup& g)
      : l_(l),
        g_(g),
        tile_(l, g),
        op_(g.ops.front()),
        s_(parse(op_)),
        b_(tile_.kb.b),
        rows_(l.options.batch * tile_.kb.kernel.rows),
        panels_(l.batch_panels(tile_.kb.kernel.rows)) {}

  void run() {
    if (s_.out_batched && packs_weights())
      lower_packed_weights(l_, tile_, op_, sums_rows());
    else if (s_.out_batched)
      lanes_on_batch();
    else if (by_rows(s_) >= 0)
      lanes_on_last_letter(by_rows(s_));
    else
      scalar_loops();
    tile_.finish();
  }

 private:
  int64_t extent(char c) const { return s_.extent.at(c); }
  // The index of an operand's element, given a position for every letter: in memory order where the operand is stored
  // in panels, else (plain, or by rows) in logical order.
  Expr in_memory(int operand, const std::map<char, Expr>& at) const {
    if (!s_.batched[operand]) return linear(operand, at);
    std::vector<Expr> places;
    for (char c : s_.in[operand]) places.push_back(at.at(c));
    return l_.element(op_->operands[static_cast<size_t>(operand)]->type, places);
  }
  Expr linear(int operand, const std::map<char, Expr>& at) const {
    Expr e = loop::index(0);
    for (char c : s_.in[operand]) e = e * loop::index(extent(c)) + at.at(c);
    return e;
  }
  // Loops over the letters that are summed over.
  std::vector<SumLoop> sum_loops(std::map<char, Expr>& at) const {
    std::vector<SumLoop> result;
    for (const char c : s_.reduced)
      result.push_back(sum_loop(std::string(1, c), extent(c), 1, [&at, c](const Expr& i) { at[c] = i; }));
    return result;
  }
  // Opens loops over letters in order; `body` sees their positions.
  void loops(const std::string& letters, std::map<char, Expr>& at, const std::function<void()>& body,
             size_t index = 0) {
    if (index == letters.size()) return body();
    const char c = letters[index];
    b_.loop(std::string(1, c), loop::index(0), loop::index(extent(c)), 1, [&](Expr i) {
      at[c] = i;
      loops(letters, at, body, index + 1);
    });
  }

  // Whether the epilogue divides or takes roots.
  bool divides() const {
    return std::any_of(g_.ops.begin(), g_.ops.end(), [](const Op* op) {
      return op->name() == "div" || op->name() == "sqrt" || op->name() == "rsqrt";
    });
  }

  // The letter whose elements make the rows of the register tile: in the result and in one operand only, best
  // one without a batch.
  char tile_letter(const std::string& candidates, int& operand) const {
    for (const bool want_batched : {false, true})
      for (char c : candidates)
        for (int i = 0; i < 2; ++i)
          if (s_.batched[i] == want_batched && s_.in[i].find(c) != std::string::npos &&
              s_.in[1 - i].find(c) == std::string::npos) {
            operand = i;
            return c;
          }
    return 0;
  }

  // Operand 1 is a large matrix that is summed over its rows, W[r][t] of "no,ok->nk", the input gradient of a dense
  // layer; or over its columns, as forward does, where the tiles of few registers would read a panel of the other
  // operand from beyond the second-level cache too often.
  bool packs_weights() const {
    const bool product = s_.batched[0] && !s_.batched[1] && s_.in[0].size() == 1 && s_.in[1].size() == 2 &&
                         s_.out.size() == 1 && s_.reduced == s_.in[0] && op_->type.dtype == DType::f32;
    if (!product || extent(s_.out[0]) < 64 || extent(s_.reduced[0]) < 64) return false;
    if (sums_rows()) return s_.in[1][1] == s_.out[0];
    const Machine& machine = l_.options.machine;
    const int64_t panel = extent(s_.reduced[0]) * kPanel * loop::bytes(loop::Scalar::f32);
    return s_.in[1][0] == s_.out[0] && machine.registers < 32 && panel > machine.l2 / 4;
  }
  bool sums_rows() const { return s_.in[1][0] == s_.in[0][0]; }

  void lanes_on_batch() {
    const int vectors = tile_vectors(l_.width);
    int tiled = 0;
    const char t = tile_letter(s_.out, tiled);
    tile_.partition_batched();
    std::string others;
    for (char c : s_.out)
      if (c != t && !(tile_.splits_axis0() && c == s_.out[0])) others += c;
    std::map<char, Expr> at;
    Point point;
    point.batched = true;
    point.lanes = l_.width;

    Expr first_sub = loop::index(0);
    const auto element = [&](int operand, int offset, int sub) {
      std::map<char, Expr> there = at;
      if (operand == tiled && t) there[t] = at.at(t) + loop::index(offset);
      const Expr index = in_memory(operand, there);
      const Storage st = l_.storage(op_->operands[static_cast<size_t>(operand)]);
      const loop::Buffer buffer = tile_.kb.buffer(
          st.allocation, false,
          tile_.own() == AccessScope::own_panels && s_.batched[operand] ? AccessScope::own_panels
                                                                        : AccessScope::anything);
      if (!s_.batched[operand]) return loop::load(buffer, index);
      const int64_t elements = op_->operands[static_cast<size_t>(operand)]->type.elements();
      return loop::load(buffer,
                        (point.panel * loop::index(elements) + index) * loop::index(kPanel) +
                            (first_sub + loop::index(sub)) * loop::index(l_.width),
                        l_.width);
    };
    const auto vectors_at = [&](int count) {
      tile_.declare(count, vectors, l_.width);
      tile_.sum(sum_loops(at), 1, [&] {
        std::vector<Expr> shared;
        for (int j = 0; j < vectors; ++j)
          shared.push_back(loop::broadcast(
              s_.batched[1 - tiled] || j == 0 ? b_.let("b", element(1 - tiled, 0, j)) : shared[0], l_.width));
        for (int i = 0; i < count; ++i) {
          Expr a;
          for (int j = 0; j < vectors; ++j) {
            if (j == 0 || s_.batched[tiled]) a = b_.let("a", loop::broadcast(element(tiled, i, j), l_.width));
            tile_.accumulate(i, j, a, shared[static_cast<size_t>(j)]);
          }
        }
      });
      tile_.epilogue([&](int i, int j) {
        Point p = point;
        p.sub = first_sub + loop::index(j);
        for (char c : s_.out) p.axes.push_back(c == t ? at.at(c) + loop::index(i) : at.at(c));
        return p;
      });
    };
    const auto tile_at = [&](int count) {
      b_.loop("s", loop::index(0), loop::index(kPanel / l_.width), vectors, [&](Expr s) {
        first_sub = s;
        vectors_at(count);
      });
    };
    const Expr panels = loop::ref(b_.predefined().panels);
    const bool few = tile_.splits_axis0() && may_have_few_rows(l_, op_);
    Expr left, is_few;  // rows of the last panel
    if (few) {
      left =
          b_.let("left", loop::ref(b_.predefined().rows) - (panels - loop::index(1)) * loop::index(kPanel));
      is_few = b_.let("few", loop::compare(loop::CompareOp::le, left,
                                           loop::index(few_rows(l_.options.machine.registers))));
    }
    const auto over_panels = [&](const std::function<void()>& body) {
      const bool split = tile_.own() == AccessScope::own_panels;
      const Expr past = few ? loop::select(is_few, panels - loop::index(1), panels) : panels;
      b_.loop("q", split ? tile_.lo() : loop::index(0), split ? tile_.hi() : past, 1, [&](Expr q) {
        point.panel = q;
        body();
      });
    };
    const auto over_tile = [&](const std::function<void(int)>& body) {
      if (!t) return body(1);
      const bool split = tile_.splits_axis0() && t == s_.out[0];
      tile_.over_rows("o", extent(t), split, [&](Expr begin, int count) {
        at[t] = begin;
        body(count);
      });
    };
    const auto inside = [&] {
      if (tile_.own() == AccessScope::own_panels)
        over_panels([&] { loops(others, at, [&] { over_tile(tile_at); }); });
      else
        loops(others, at, [&] { over_tile([&](int count) { over_panels([&] { tile_at(count); }); }); });
    };
    if (tile_.splits_axis0() && t != s_.out[0]) {
      b_.loop("f", tile_.lo(), tile_.hi(), 1, [&](Expr f) {
        at[s_.out[0]] = f;
        inside();
      });
    } else {
      inside();
    }
    if (few) b_.if_then(is_few, [&] { lower_few_rows(l_, tile_, op_, left); });
  }

  void lanes_on_last_letter(int rows_of) {
    const int other = 1 - rows_of;
    const char v = s_.out.back();
    int tiled = other;
    std::string candidates;
    for (char c : s_.out)
      if (s_.in[other].find(c) != std::string::npos && s_.in[rows_of].find(c) == std::string::npos)
        candidates += c;
    const char t = tile_letter(candidates, tiled);
    const int64_t block = 2 * l_.width;
    const bool packs = packs_rows(s_);
    // For each block of lanes all of the other operand is read: where that is more than the second-level cache holds, in
    // bands of the tile's letter.
    int64_t band = t ? extent(t) : 1;
    const int64_t near = l_.options.machine.l2 / 2 / (rows_ * loop::bytes(scalar_of(op_->type.dtype)));
    if (packs && t && band > near && extent(v) >= 2 * block)
      band = std::max<int64_t>(near / kSplitUnit, 4) * kSplitUnit;
    const bool in_bands = t && band < extent(t);
    // Split the tile's letter over threads when it is the first and long enough, else the lanes' letter.
    const bool by_axis0 = !in_bands && t && t == s_.out[0] && extent(t) >= 4 * kSplitUnit;
    if (by_axis0)
      tile_.partition_axis0(extent(t));
    else if (extent(v) >= 2 * block)
      tile_.partition_free(extent(v), block);
    std::string others;
    for (char c : s_.out)
      if (c != t && c != v) others += c;
    const bool split_rows = by_axis0 || in_bands;
    std::map<char, Expr> at;
    const Op* lanes_value = op_->operands[static_cast<size_t>(rows_of)];
    const Storage by_row = packs ? Storage{} : l_.rows_storage(lanes_value);
    loop::Buffer packed;
    if (packs) {
      const int a = l_.new_scratch(fmt::format("k{} packed", op_->kernel), scalar_of(lanes_value->type.dtype),
                                   panels_ * kPanel * block, tile_.scratch);
      tile_.kb.declare_written(a);
      packed = tile_.kb.buffer(a, true, AccessScope::anything);
    }
    const Storage by_panel = l_.storage(op_->operands[static_cast<size_t>(other)]);
    const int64_t row_elements = op_->operands[static_cast<size_t>(rows_of)]->type.elements();
    const int64_t panel_elements = op_->operands[static_cast<size_t>(other)]->type.elements();

    // The point of a tile's row i and lanes from j on.
    const auto point_from = [&](const Expr& i, const Expr& j, const Expr& mask) {
      Point p;
      for (char c : s_.out) p.axes.push_back(c == t ? at.at(c) + i : c == v ? at.at(c) + j : at.at(c));
      p.vector_last = true;
      p.lanes = l_.width;
      p.mask = mask;
      return p;
    };
    // Runs meanwhile(chunk) after each `chunk_rows` rows of a panel; chunks are numbered over all panels.
    const auto tile_at = [&](int count, int vectors, int last_lanes, int64_t chunk_rows = kPanel,
                             const std::function<void(const Expr&)>& meanwhile = nullptr) {
      Expr last_mask;
      const auto point_of = [&](int i, int j) {
        return point_from(loop::index(i), loop::index(j * l_.width), j + 1 == vectors ? last_mask : nullptr);
      };
      if (!meanwhile) tile_.prefetch_epilogue(count, vectors, point_of);
      tile_.declare(count, vectors, l_.width);
      const loop::Buffer rows_buffer =
          packs ? packed : tile_.kb.buffer(by_row.allocation, false, AccessScope::anything);
      const loop::Buffer panel_buffer = tile_.kb.buffer(
          by_panel.allocation, false,
          by_axis0 && s_.in[other].size() > 0 && s_.in[other][0] == t ? AccessScope::own_axis0
                                                                      : AccessScope::anything);
      const auto mask = [&](int j) -> Expr {
        if (j + 1 < vectors || last_lanes == l_.width) return nullptr;
        return loop::compare(
            loop::CompareOp::lt, loop::ramp(loop::constant_int({loop::Scalar::i32, 1}, 0), 1, l_.width),
            loop::constant_int({loop::Scalar::i32, static_cast<uint16_t>(l_.width)}, last_lanes));
      };
      Expr q, count_rows;
      std::vector<SumLoop> sum = sum_loops(at);
      sum.push_back(
          {"q", [&] { return std::pair{loop::index(0), loop::ref(b_.predefined().panels)}; }, 1, panels_,
           [&](const Expr& panel) {
             q = panel;
             const Expr left = loop::ref(b_.predefined().rows) - q * loop::index(kPanel);
             count_rows = b_.let("m_end", loop::binary(loop::BinaryOp::min, left, loop::index(kPanel)));
           }});
      tile_.sum(std::move(sum), std::min(kPanel, rows_), [&] {
        const auto add_row = [&](const Expr& m) {
          std::vector<Expr> shared;
          for (int j = 0; j < vectors; ++j) {
            const Expr row = q * loop::index(kPanel) + m;
            const Expr index =
                packs ? row * loop::index(block) + loop::index(j * l_.width)
                      : row * loop::index(row_elements) + linear(rows_of, at) + loop::index(j * l_.width);
            shared.push_back(
                b_.let("b", loop::load(rows_buffer, index, l_.width, packs ? nullptr : mask(j))));
          }
          for (int i = 0; i < count; ++i) {
            std::map<char, Expr> there = at;
            if (t) there[t] = at.at(t) + loop::index(i);
            const Expr index =
                (q * loop::index(panel_elements) + in_memory(other, there)) * loop::index(kPanel) + m;
            const Expr a = b_.let("a", loop::broadcast(loop::load(panel_buffer, index), l_.width));
            for (int j = 0; j < vectors; ++j) tile_.accumulate(i, j, a, shared[static_cast<size_t>(j)]);
          }
        };
        if (!meanwhile) return b_.loop("m", loop::index(0), count_rows, 1, add_row);
        b_.loop("c", loop::index(0), loop::index(kPanel), chunk_rows, [&](const Expr& c) {
          b_.loop("m", c, loop::binary(loop::BinaryOp::min, c + loop::index(chunk_rows), count_rows), 1,
                  add_row);
          meanwhile(q * loop::index(kPanel / chunk_rows) + c / loop::index(chunk_rows));
        });
      });
      if (meanwhile) return;
      last_mask = mask(vectors - 1);
      tile_.epilogue(point_of);
    };
    // Tiles with a deferred epilogue: their sums are kept in scratch memory. The epilogue of vector e runs after chunk
    // e of the next tile's sums; the vectors left over follow the last chunk.
    const auto late_tiles = [&] {
      const int registers = l_.options.machine.registers, vectors = 2;
      const int64_t block = tile_block(registers);
      const std::vector<int> tiles = tiles_of(block, registers);
      const int most = vectors * *std::max_element(tiles.begin(), tiles.end());
      int64_t chunk_rows = 2;
      while (chunk_rows < kPanel && chunk_rows * 2 * most <= rows_) chunk_rows *= 2;
      const int a = l_.new_scratch(fmt::format("k{} sums", op_->kernel), scalar_of(op_->type.dtype),
                                   most * l_.width, tile_.scratch);
      tile_.kb.declare_written(a);
      const loop::Buffer sums = tile_.kb.buffer(a, true, AccessScope::anything);
      const Expr begin = split_rows ? tile_.first_row() : loop::index(0);
      const auto late_point = [&](const Expr& e) {
        return point_from(e / loop::index(vectors),
                          loop::binary(loop::BinaryOp::rem, e, loop::index(vectors)) * loop::index(l_.width),
                          nullptr);
      };
      const auto late_vector = [&](const Expr& first, const Expr& e) {
        at[t] = first;
        const Expr sum = b_.let("sum", loop::load(sums, e * loop::index(l_.width), l_.width));
        tile_.epilogue_at(late_point(e), sum);
      };
      const auto late_vectors = [&](const Expr& first, const Expr& from, int rows) {
        b_.loop("e", from, loop::index(rows * vectors), 1, [&](const Expr& e) { late_vector(first, e); });
      };
      // A tile of so many rows, after one of `earlier` rows, which waits for its epilogue if there is one.
      const auto tile = [&](const Expr& o, int rows, int earlier, const Expr& waiting) {
        at[t] = o;
        const Expr before = o - loop::index(earlier);
        const auto if_waiting = [&](const Expr& condition, const std::function<void()>& body) {
          const Expr all = waiting && condition ? loop::binary(loop::BinaryOp::bit_and, waiting, condition)
                           : waiting            ? waiting
                                                : condition;
          if (!all) return body();
          b_.if_then(all, body);
        };
        tile_at(rows, vectors, l_.width, chunk_rows, [&](const Expr& chunk) {
          const auto below = [&](int count) {
            return loop::compare(loop::CompareOp::lt, chunk, loop::index(count * vectors));
          };
          b_.if_then(below(rows), [&] {
            at[t] = o;
            tile_.prefetch_epilogue(1, 1, [&](int, int) { return late_point(chunk); });
          });
          if_waiting(below(earlier), [&] { late_vector(before, chunk); });
          at[t] = o;
        });
        if_waiting(nullptr, [&] {
          late_vectors(before, loop::ref(b_.predefined().panels) * loop::index(kPanel / chunk_rows), earlier);
        });
        for (int i = 0; i < rows; ++i)
          for (int j = 0; j < vectors; ++j)
            b_.store(sums, loop::index((i * vectors + j) * l_.width), loop::ref(tile_.accumulator(i, j)));
      };
      tile_.over_blocks("o", extent(t), split_rows, block, [&](const Expr& o, int64_t count) {
        if (count != block)
          return in_tiles(o, count, registers, [&](const Expr& first, int rows) {
            at[t] = first;
            tile_at(rows, vectors, l_.width);
          });
        const Expr waiting = b_.let("waiting", loop::compare(loop::CompareOp::gt, o, begin));
        int64_t from = 0;
        for (size_t i = 0; i < tiles.size(); ++i) {
          tile(o + loop::index(from), tiles[i], i == 0 ? tiles.back() : tiles[i - 1],
               i == 0 ? waiting : nullptr);
          from += tiles[i];
        }
      });
      const Expr end = loop::index(extent(t) / block * block);
      const Expr own_end = split_rows ? loop::binary(loop::BinaryOp::min, tile_.past_row(), end) : end;
      b_.if_then(loop::compare(loop::CompareOp::lt, begin, own_end),
                 [&] { late_vectors(own_end - loop::index(tiles.back()), loop::index(0), tiles.back()); });
    };
    const auto rows_of_tile = [&](int vectors, int last_lanes) {
      if (packs) pack(lanes_value, packed, at.at(v), block, vectors, last_lanes);
      if (!t) return tile_at(1, vectors, last_lanes);
      if (packs && others.empty() && vectors == 2 && last_lanes == l_.width && divides() &&
          extent(t) >= 2 * short_axis(l_.options.machine.registers))
        return late_tiles();
      tile_.over_rows("o", extent(t), split_rows, [&](Expr begin, int count) {
        at[t] = begin;
        tile_at(count, vectors, last_lanes);
      });
    };
    const int64_t full = extent(v) / block * block;
    const int64_t rest = extent(v) - full;
    const auto blocks = [&] {
      const bool split = tile_.splits_free();
      const Expr begin = split ? tile_.lo() : loop::index(0);
      const Expr end =
          split ? loop::binary(loop::BinaryOp::min, tile_.hi(), loop::index(full)) : loop::index(full);
      if (full)
        b_.loop("v", begin, end, block, [&](Expr i) {
          at[v] = i;
          rows_of_tile(2, l_.width);
        });
      if (rest) {
        const auto tail = [&] {
          at[v] = loop::index(full);
          const int vectors = static_cast<int>((rest + l_.width - 1) / l_.width);
          rows_of_tile(vectors, static_cast<int>(rest - (vectors - 1) * l_.width));
        };
        if (split)
          b_.if_then(loop::compare(loop::CompareOp::eq, tile_.hi(), loop::index(extent(v))), tail);
        else
          tail();
      }
    };
    const auto all = [&] {
      if (!in_bands) return loops(others, at, blocks);
      b_.loop("band", loop::index(0), loop::index(extent(t)), band, [&](Expr first) {
        const Expr past =
            loop::binary(loop::BinaryOp::min, first + loop::index(band), loop::index(extent(t)));
        tile_.set_rows(first, b_.let("past", past));
        loops(others, at, blocks);
      });
    };
    if (tile_.serial())
      b_.if_then(loop::compare(loop::CompareOp::lt, tile_.lo(), tile_.hi()), all);
    else
      all();
  }

  // Packs the elements from `first` on, `vectors` vectors of them, of every example into scratch memory as
  // [example][block]: copies the caller's rows, transposes panels. Values past the last element or example are never
  // used.
  void pack(const Op* value, const loop::Buffer& packed, const Expr& first, int64_t block, int vectors,
            int last_lanes) {
    const int64_t elements = value->type.elements();
    const Op* base = storage_of(value);
    if (const auto by_row = l_.rows.find(base); by_row != l_.rows.end()) {
      const loop::Buffer source = tile_.kb.buffer(by_row->second.allocation, false, AccessScope::anything);
      b_.loop("m", loop::index(0), loop::ref(b_.predefined().rows), 1, [&](Expr m) {
        for (int j = 0; j < vectors; ++j) {
          const bool partial = j + 1 == vectors && last_lanes != l_.width;
          const Expr mask =
              partial ? loop::compare(loop::CompareOp::lt,
                                      loop::ramp(loop::constant_int({loop::Scalar::i32, 1}, 0), 1, l_.width),
                                      loop::constant_int({loop::Scalar::i32, static_cast<uint16_t>(l_.width)},
                                                         last_lanes))
                      : nullptr;
          const Expr from = m * loop::index(elements) + first + loop::index(j * l_.width);
          b_.store(packed, m * loop::index(block) + loop::index(j * l_.width),
                   b_.let("x", loop::load(source, from, l_.width, mask)));
        }
        // Prefetch the next block: it arrives while the tiles of this one are computed.
        for (int64_t c = 0; c < block; c += kLineBytes / 4)
          b_.prefetch(source, m * loop::index(elements) + first + loop::index(block + c));
      });
      return;
    }
    const loop::Buffer source = tile_.kb.buffer(l_.storage(value).allocation, false, AccessScope::anything);
    b_.loop("q", loop::index(0), loop::ref(b_.predefined().panels), 1, [&](Expr q) {
      b_.loop("s", loop::index(0), loop::index(kPanel), l_.width, [&](Expr s) {
        for (int j = 0; j < vectors; ++j) {
          std::vector<Expr> v;
          for (int i = 0; i < l_.width; ++i) {
            Expr element = first + loop::index(j * l_.width + i);
            if (j + 1 == vectors && i >= last_lanes)
              element = first + loop::index(j * l_.width + last_lanes - 1);
            const Expr from = (q * loop::index(elements) + element) * loop::index(kPanel) + s;
            v.push_back(b_.let("x", loop::load(source, from, l_.width)));
          }
          v = transposed(b_, std::move(v));
          for (int i = 0; i < l_.width; ++i)
            b_.store(packed,
                     (q * loop::index(kPanel) + s + loop::index(i)) * loop::index(block) +
                         loop::index(j * l_.width),
                     v[static_cast<size_t>(i)]);
        }
      });
    });
  }

  void scalar_loops() {
    if (!s_.out.empty() && extent(s_.out[0]) > 1) tile_.partition_axis0(extent(s_.out[0]));
    std::map<char, Expr> at;
    const auto element = [&](int operand, const Expr& q, const Expr& m) {
      const Op* x = op_->operands[static_cast<size_t>(operand)];
      const Storage st = l_.storage(x);
      const loop::Buffer buffer = tile_.kb.buffer(st.allocation, false, AccessScope::anything);
      const Expr index = in_memory(operand, at);
      return s_.batched[operand]
                 ? loop::load(buffer, (q * loop::index(x->type.elements()) + index) * loop::index(kPanel) + m)
                 : loop::load(buffer, index);
    };
    const auto point = [&] {
      tile_.declare(1, 1, 1);
      Expr q, m;
      std::vector<SumLoop> sum = sum_loops(at);
      if (s_.reduces_batch())
        sum.push_back({"m", [&] { return std::pair{loop::index(0), loop::ref(b_.predefined().rows)}; }, 1,
                       rows_,
                       [&](const Expr& row) {
                         q = row / loop::index(kPanel);
                         m = loop::binary(loop::BinaryOp::rem, row, loop::index(kPanel));
                       }});
      tile_.sum(std::move(sum), 1, [&] {
        tile_.accumulate(0, 0, b_.let("a", element(0, q, m)), b_.let("b", element(1, q, m)));
      });
      tile_.epilogue([&](int, int) {
        Point p;
        for (char c : s_.out) p.axes.push_back(at.at(c));
        return p;
      });
    };
    const std::string inner = tile_.splits_axis0() ? s_.out.substr(1) : s_.out;
    if (tile_.splits_axis0()) {
      b_.loop("o", tile_.lo(), tile_.hi(), 1, [&](Expr o) {
        at[s_.out[0]] = o;
        loops(inner, at, point);
      });
    } else {
      b_.if_then(loop::compare(loop::CompareOp::lt, tile_.lo(), tile_.hi()),
                 [&] { loops(inner, at, point); });
    }
  }

  Lowering& l_;
  const KernelGroup& g_;
  Tile tile_;
  const Op* op_;
  Spec s_;
  loop::Builder& b_;
  const int64_t rows_, panels_;  // of a full batch
};

}  // namespace

RowsOperand rows_operand(const Op* contraction) {
  if (contraction->def->loop_nest == LoopNest::rows_convolution_weight_grad) return {1, false};
  // A program's input is there by rows.
  if (contraction->def->loop_nest == LoopNest::fold_pixels)
    return {contraction->operands[0]->def->kind == OpKind::external ? 0 : -1, false};
  if (contraction->def->loop_nest == LoopNest::fold_rows) return {0, false};
  if (contraction->def->loop_nest != LoopNest::einsum) return {};
  const Spec s = parse(contraction);
  return {by_rows(s), packs_rows(s)};
}

void lower_contraction(Lowering& lowering, const KernelGroup& group) {
  switch (group.ops.front()->def->loop_nest) {
    case LoopNest::none: break;
    case LoopNest::einsum: return Einsum(lowering, group).run();
    case LoopNest::gather:
    case LoopNest::scatter_add: return lower_gather(lowering, group);
    case LoopNest::fold_rows: return lower_fold_rows(lowering, group);
    case LoopNest::orthonormal_rows: return lower_orthonormal(lowering, group);
    case LoopNest::rows_convolution:
    case LoopNest::rows_convolution_input_grad:
    case LoopNest::rows_convolution_weight_grad:
    case LoopNest::fold_pixels:
    case LoopNest::unfold_pixels:
    case LoopNest::move_pixels: return lower_rows_convolution(lowering, group);
    case LoopNest::attention:
    case LoopNest::attention_log_sum:
    case LoopNest::attention_query_grad:
    case LoopNest::attention_key_grad:
    case LoopNest::attention_value_grad: return lower_attention(lowering, group);
    case LoopNest::convolution_weight_grad: return lower_weight_gradient(lowering, group);
    case LoopNest::convolution:
    case LoopNest::convolution_input_grad:
    case LoopNest::max_pool:
    case LoopNest::max_pool_grad:
    case LoopNest::avg_pool:
    case LoopNest::avg_pool_grad: return lower_window(lowering, group);
  }
  internal_error(__FILE__, __LINE__, "no loop nest for " + group.ops.front()->name());
}

}  // namespace gradc::passes::lowering
