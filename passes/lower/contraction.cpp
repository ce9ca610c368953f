// Lowers einsum, with the elementwise operations that follow it in its group as epilogue, to register tiles.
//
// Batched result, lanes along the batch (dense forward "nk,ok->no" and input gradient "no,ok->nk"):
//   for o tile of 8, for panel:  acc[8][panel / width] = 0
//     for k:  x[j] = load X[panel][k][lanes];  acc[i][j] += broadcast(W[o + i][k]) * x[j]
//     epilogue on every acc; store
// so weights are read as they stand, one scalar a multiply-add pair, and no operand is transposed.
//
// Sum over the batch (weight gradient "no,nk->ok"), lanes along the last letter of the result, whose operand
// is read by rows:
//   for k block of 2 vectors, for o tile of 8:  acc[8][2] = 0
//     for row:  b[j] = load X[row][k + j];  acc[i][j] += broadcast(dY[o + i][row]) * b[j]
//
// Every element of the result is summed in one order (reduced letters as the operands name them, the batch by
// rows), by one chain of fused multiply-adds: it does not depend on tiles, threads or how many rows there
// are. Other forms run as scalar loops.
#include <algorithm>
#include <functional>

#include "passes/lower/lowering.h"
#include "passes/lower/tile.h"
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
  const std::string& text = op->attributes.text("spec");
  const size_t comma = text.find(','), arrow = text.find("->");
  GRADC_CHECK(comma != std::string::npos && arrow != std::string::npos, "einsum spec {}", text);
  std::string parts[3] = {text.substr(0, comma), text.substr(comma + 1, arrow - comma - 1),
                          text.substr(arrow + 2)};
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

class Einsum {
 public:
  Einsum(Lowering& l, const KernelGroup& g)
      : l_(l), tile_(l, g), op_(g.ops.front()), s_(parse(op_)), b_(tile_.kb.b) {}

  void run() {
    if (s_.out_batched)
      lanes_on_batch();
    else if (by_rows(s_) >= 0)
      lanes_on_last_letter(by_rows(s_));
    else
      scalar_loops();
    tile_.finish();
  }

 private:
  int64_t extent(char c) const { return s_.extent.at(c); }
  // The element index of an operand given a position for every letter.
  Expr linear(int operand, const std::map<char, Expr>& at) const {
    Expr e = loop::index(0);
    for (char c : s_.in[operand]) e = e * loop::index(extent(c)) + at.at(c);
    return e;
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

  void lanes_on_batch() {
    const int subs = static_cast<int>(kPanel / l_.width);
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

    const auto element = [&](int operand, int offset, int sub) {
      std::map<char, Expr> there = at;
      if (operand == tiled && t) there[t] = at.at(t) + loop::index(offset);
      const Expr index = linear(operand, there);
      const Storage st = l_.storage(op_->operands[static_cast<size_t>(operand)]);
      const loop::Buffer buffer = tile_.kb.buffer(
          st.allocation, false,
          tile_.own() == Reach::own_panels && s_.batched[operand] ? Reach::own_panels : Reach::anything);
      if (!s_.batched[operand]) return loop::load(buffer, index);
      const int64_t elements = op_->operands[static_cast<size_t>(operand)]->type.elements();
      return loop::load(
          buffer,
          (point.panel * loop::index(elements) + index) * loop::index(kPanel) + loop::index(sub * l_.width),
          l_.width);
    };
    const auto tile_at = [&](int count) {
      tile_.declare(count, subs, l_.width);
      loops(s_.reduced, at, [&] {
        std::vector<Expr> shared;
        for (int j = 0; j < subs; ++j)
          shared.push_back(loop::broadcast(
              s_.batched[1 - tiled] || j == 0 ? b_.let("b", element(1 - tiled, 0, j)) : shared[0], l_.width));
        for (int i = 0; i < count; ++i) {
          Expr a;
          for (int j = 0; j < subs; ++j) {
            if (j == 0 || s_.batched[tiled]) a = b_.let("a", loop::broadcast(element(tiled, i, j), l_.width));
            tile_.accumulate(i, j, a, shared[static_cast<size_t>(j)]);
          }
        }
      });
      tile_.epilogue([&](int i, int j) {
        Point p = point;
        p.sub = loop::index(j);
        for (char c : s_.out) p.axes.push_back(c == t ? at.at(c) + loop::index(i) : at.at(c));
        return p;
      });
    };
    const auto over_panels = [&](const std::function<void()>& body) {
      const bool split = tile_.own() == Reach::own_panels;
      b_.loop("q", split ? tile_.lo() : loop::index(0),
              split ? tile_.hi() : loop::ref(b_.predefined().panels), 1, [&](Expr q) {
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
      if (tile_.own() == Reach::own_panels)
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
    // Split the tile's letter when it is the first and long enough, else the lanes' letter.
    const bool by_axis0 = t && t == s_.out[0] && extent(t) >= 4 * kSplitUnit;
    const int64_t block = 2 * l_.width;
    if (by_axis0)
      tile_.partition_axis0(extent(t));
    else if (extent(v) >= 2 * block)
      tile_.partition_free(extent(v), block);
    std::string others;
    for (char c : s_.out)
      if (c != t && c != v) others += c;
    std::map<char, Expr> at;
    const Storage by_row = l_.rows_storage(op_->operands[static_cast<size_t>(rows_of)]);
    const Storage by_panel = l_.storage(op_->operands[static_cast<size_t>(other)]);
    const int64_t row_elements = op_->operands[static_cast<size_t>(rows_of)]->type.elements();
    const int64_t panel_elements = op_->operands[static_cast<size_t>(other)]->type.elements();

    const auto tile_at = [&](int count, int vectors, int last_lanes) {
      tile_.declare(count, vectors, l_.width);
      const loop::Buffer rows_buffer = tile_.kb.buffer(by_row.allocation, false, Reach::anything);
      const loop::Buffer panel_buffer = tile_.kb.buffer(
          by_panel.allocation, false,
          by_axis0 && s_.in[other].size() > 0 && s_.in[other][0] == t ? Reach::own_axis0 : Reach::anything);
      const auto mask = [&](int j) -> Expr {
        if (j + 1 < vectors || last_lanes == l_.width) return nullptr;
        return loop::compare(
            loop::CompareOp::lt, loop::ramp(loop::constant_int({loop::Scalar::i32, 1}, 0), 1, l_.width),
            loop::constant_int({loop::Scalar::i32, static_cast<uint16_t>(l_.width)}, last_lanes));
      };
      loops(s_.reduced, at, [&] {
        const Expr rows = loop::ref(b_.predefined().rows);
        b_.loop("q", loop::index(0), loop::ref(b_.predefined().panels), 1, [&](Expr q) {
          const Expr count_rows =
              b_.let("m_end",
                     loop::binary(loop::BinaryOp::min, rows - q * loop::index(kPanel), loop::index(kPanel)));
          b_.loop("m", loop::index(0), count_rows, 1, [&](Expr m) {
            std::vector<Expr> shared;
            for (int j = 0; j < vectors; ++j) {
              const Expr index = (q * loop::index(kPanel) + m) * loop::index(row_elements) +
                                 linear(rows_of, at) + loop::index(j * l_.width);
              shared.push_back(b_.let("b", loop::load(rows_buffer, index, l_.width, mask(j))));
            }
            for (int i = 0; i < count; ++i) {
              std::map<char, Expr> there = at;
              if (t) there[t] = at.at(t) + loop::index(i);
              const Expr index =
                  (q * loop::index(panel_elements) + linear(other, there)) * loop::index(kPanel) + m;
              const Expr a = b_.let("a", loop::broadcast(loop::load(panel_buffer, index), l_.width));
              for (int j = 0; j < vectors; ++j) tile_.accumulate(i, j, a, shared[static_cast<size_t>(j)]);
            }
          });
        });
      });
      tile_.epilogue([&](int i, int j) {
        Point p;
        for (char c : s_.out) {
          Expr e = at.at(c);
          if (c == t) e = e + loop::index(i);
          if (c == v) e = e + loop::index(j * l_.width);
          p.axes.push_back(e);
        }
        p.vector_last = true;
        p.lanes = l_.width;
        p.mask = mask(j);
        return p;
      });
    };
    const auto rows_of_tile = [&](int vectors, int last_lanes) {
      if (!t) return tile_at(1, vectors, last_lanes);
      tile_.over_rows("o", extent(t), by_axis0, [&](Expr begin, int count) {
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
    const auto all = [&] { loops(others, at, blocks); };
    if (tile_.serial())
      b_.if_then(loop::compare(loop::CompareOp::lt, tile_.lo(), tile_.hi()), all);
    else
      all();
  }

  void scalar_loops() {
    if (!s_.out.empty() && extent(s_.out[0]) > 1) tile_.partition_axis0(extent(s_.out[0]));
    std::map<char, Expr> at;
    const auto element = [&](int operand, const Expr& q, const Expr& m) {
      const Op* x = op_->operands[static_cast<size_t>(operand)];
      const Storage st = l_.storage(x);
      const loop::Buffer buffer = tile_.kb.buffer(st.allocation, false, Reach::anything);
      const Expr index = linear(operand, at);
      return s_.batched[operand]
                 ? loop::load(buffer, (q * loop::index(x->type.elements()) + index) * loop::index(kPanel) + m)
                 : loop::load(buffer, index);
    };
    const auto point = [&] {
      tile_.declare(1, 1, 1);
      loops(s_.reduced, at, [&] {
        const auto add = [&](const Expr& q, const Expr& m) {
          tile_.accumulate(0, 0, b_.let("a", element(0, q, m)), b_.let("b", element(1, q, m)));
        };
        if (!s_.reduces_batch()) return add(nullptr, nullptr);
        b_.loop("m", loop::index(0), loop::ref(b_.predefined().rows), 1, [&](Expr m) {
          add(m / loop::index(kPanel), loop::binary(loop::BinaryOp::rem, m, loop::index(kPanel)));
        });
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
  Tile tile_;
  const Op* op_;
  Spec s_;
  loop::Builder& b_;
};

}  // namespace

int rows_operand(const Op* contraction) {
  return contraction->is("einsum") ? by_rows(parse(contraction)) : -1;
}

void lower_contraction(Lowering& lowering, const KernelGroup& group) {
  const Op* op = group.ops.front();
  if (op->is("einsum")) return Einsum(lowering, group).run();
  lower_window(lowering, group);
}

}  // namespace gradc::passes::lowering
