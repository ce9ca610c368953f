// Makes one operation of a sum that differentiation leaves where a value is used piece by piece, or parameters again at
// every step of an unrolled recurrence:
//
//   %3 = pad %1 {high=[6], low=[0]} : f32[n,8]
//   %4 = pad %2 {high=[0], low=[2]} : f32[n,8]            ->  %5 = concat %1, %2 {axis=0} : f32[n,8]
//   %5 = add %3, %4 : f32[n,8]
//
//   %3 = einsum %g1, %h1 {spec="no,nk->ok"} : f32[4,8]        %5 = einsum stack(%g1, %g2, ..), stack(%h1, %h2, ..)
//   %4 = einsum %g2, %h2 {spec="no,nk->ok"} : f32[4,8]    ->       {spec="nao,nak->ok"} : f32[4,8]
//   %5 = add (add %3, %4), ..
//
// A sum of n pieces writes the whole n times; its concatenation, once, with zeros where no piece is. Products over more
// rows fill tiles that those of one step leave half empty, and write their result once.
#include <algorithm>
#include <map>
#include <optional>

#include "ir/ops/einsum.h"
#include "ir/tensor/op_def.h"
#include "passes/tensor/passes.h"
#include "passes/tensor/rewrite.h"

namespace gradc::passes {

namespace {

using Integers = std::vector<int64_t>;

// A term that is zero but for a range of one axis.
struct Piece {
  Op* value = nullptr;
  size_t axis = 0;
  int64_t begin = 0, end = 0;
};

std::optional<Piece> piece_of(const Op* term) {
  if (!term->is("pad") || term->attributes.number("value") != 0) return std::nullopt;
  const Integers &low = term->attributes.integers("low"), &interior = term->attributes.integers("interior");
  if (std::any_of(interior.begin(), interior.end(), [](int64_t n) { return n != 0; })) return std::nullopt;
  Piece piece{term->operands[0]};
  int axes = 0;
  for (size_t a = 0; a < low.size(); ++a) {
    const int64_t extent = term->operands[0]->type.shape[a];
    if (extent == term->type.shape[a]) continue;
    ++axes;
    piece.axis = a, piece.begin = low[a], piece.end = low[a] + extent;
  }
  return axes == 1 ? std::optional(piece) : std::nullopt;
}

class MergeSums {
 public:
  explicit MergeSums(Function& f) : f_(f), b_(f), uses_(f.use_counts()) {
    for (const auto& op : f.body)
      for (const Op* operand : op->operands) user_[operand] = op.get();
  }

  bool run() {
    bool changed = false;
    for (Op* op : f_.ops())
      if (op->is("add") && !is_inner(op)) changed = merge(op) || changed;
    if (changed) f_.remove_dead();
    return changed;
  }

 private:
  static bool same_type_add(const Op* op) {
    return op->is("add") && op->operands[0]->type == op->type && op->operands[1]->type == op->type;
  }
  bool once(const Op* op) const {
    const auto it = uses_.find(op);
    return it != uses_.end() && it->second == 1;
  }
  // An addition whose result only another one takes.
  bool is_inner(const Op* op) const {
    const auto user = user_.find(op);
    return same_type_add(op) && once(op) && user != user_.end() && same_type_add(user->second);
  }

  void terms_of(Op* op, std::vector<Op*>& terms) const {
    for (Op* operand : op->operands)
      if (same_type_add(operand) && is_inner(operand))
        terms_of(operand, terms);
      else
        terms.push_back(operand);
  }

  bool merge(Op* sum) {
    if (!same_type_add(sum)) return false;
    std::vector<Op*> terms;
    terms_of(sum, terms);
    const size_t before = terms.size();
    b_.insert_before(sum);
    b_.set_locations(sum->locations);
    concatenate(terms, sum->type);
    stack_products(terms);
    if (terms.size() == before) return false;
    Op* total = terms[0];
    for (size_t i = 1; i < terms.size(); ++i) total = b_.add(total, terms[i]);
    f_.replace_uses(sum, total);
    return true;
  }

  // Pieces along one axis that do not overlap, in the place of the first of them.
  void concatenate(std::vector<Op*>& terms, const Type& whole) {
    for (size_t axis = 0; axis < whole.shape.size(); ++axis) {
      for (;;) {
        std::vector<std::pair<Piece, size_t>> pieces;  // with their terms' positions
        for (size_t i = 0; i < terms.size(); ++i) {
          const std::optional<Piece> piece = once(terms[i]) ? piece_of(terms[i]) : std::nullopt;
          if (piece && piece->axis == axis) pieces.emplace_back(*piece, i);
        }
        std::stable_sort(pieces.begin(), pieces.end(),
                         [](const auto& a, const auto& b) { return a.first.begin < b.first.begin; });
        std::vector<Op*> parts;
        std::vector<size_t> taken;
        int64_t at = 0;
        for (const auto& [piece, term] : pieces) {
          if (piece.begin < at) continue;
          if (piece.begin > at) parts.push_back(zeros(whole, axis, piece.begin - at));
          parts.push_back(piece.value);
          taken.push_back(term);
          at = piece.end;
        }
        if (taken.size() < 2) break;
        if (at < whole.shape[axis]) parts.push_back(zeros(whole, axis, whole.shape[axis] - at));
        replace(terms, taken, b_.create("concat", std::move(parts), {{"axis", static_cast<int64_t>(axis)}}));
      }
    }
  }

  Op* zeros(const Type& like, size_t axis, int64_t extent) {
    Shape shape = like.shape;
    shape[axis] = extent;
    return b_.create("broadcast", {b_.constant(0, like.dtype)},
                     {{"shape", shape}, {"batched", like.batched}});
  }

  // Products of batched values, summed over the batch, that differ in their operands alone.
  void stack_products(std::vector<Op*>& terms) {
    constexpr size_t kLeast = 3;
    for (size_t first = 0; first < terms.size(); ++first) {
      const Op* like = terms[first];
      if (!is_product(like)) continue;
      std::vector<size_t> taken;
      for (size_t i = first; i < terms.size(); ++i)
        if (is_product(terms[i]) && terms[i]->attributes == like->attributes &&
            terms[i]->operands[0]->type == like->operands[0]->type &&
            terms[i]->operands[1]->type == like->operands[1]->type)
          taken.push_back(i);
      if (taken.size() < kLeast) continue;
      ops::EinsumSpec spec = ops::einsum_spec(*like);
      char letter = 'a';
      while (spec.text().find(letter) != std::string::npos) ++letter;
      for (std::string* operand : {&spec.a, &spec.b}) operand->insert(1, 1, letter);  // after n
      std::vector<Op*> operands;
      for (const size_t side : {0, 1}) {
        std::vector<Op*> parts;
        for (const size_t i : taken) {
          Op* x = terms[i]->operands[side];
          Shape shape = x->type.shape;
          shape.insert(shape.begin(), 1);
          parts.push_back(b_.reshape(x, std::move(shape)));
        }
        operands.push_back(b_.create("concat", std::move(parts), {{"axis", int64_t{0}}}));
      }
      replace(terms, taken, b_.create("einsum", std::move(operands), {{"spec", spec.text()}}));
    }
  }

  bool is_product(const Op* op) const {
    return op->is("einsum") && once(op) && !op->type.batched && op->operands[0]->type.batched &&
           op->operands[1]->type.batched && op->operands[0]->type.rows == 1 &&
           op->operands[0]->type.rank() < kMaxRank && op->operands[1]->type.rank() < kMaxRank &&
           op->attributes.text("spec").size() < 20;  // so that a letter is left
  }

  void replace(std::vector<Op*>& terms, const std::vector<size_t>& taken, Op* by) {
    const size_t place = *std::min_element(taken.begin(), taken.end());
    std::vector<Op*> rest;
    for (size_t i = 0; i < terms.size(); ++i) {
      if (i == place) rest.push_back(by);
      if (std::find(taken.begin(), taken.end(), i) == taken.end()) rest.push_back(terms[i]);
    }
    terms = std::move(rest);
  }

  Function& f_;
  Builder b_;
  std::map<const Op*, int> uses_;
  std::map<const Op*, Op*> user_;
};

}  // namespace

bool merge_sums(Function& f) { return MergeSums(f).run(); }

}  // namespace gradc::passes
