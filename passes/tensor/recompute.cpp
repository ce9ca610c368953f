// Rematerialises values of forward in backward instead of keeping them: less memory for more arithmetic. A recomputed
// value has the same bits; sums of backward may be taken in another order, since their kernels have other operations.
// Runs after order_operations. At level 0 (PipelineOptions::recompute) only those values of images are recomputed for
// which that takes less time than loading them; each higher level recomputes more.
//
//   %1 = conv2d %x, @w                                   %1 = conv2d %x, @w
//   %2 = relu %1                                         %2 = relu %1
//   %3 = conv2d %2, @v                                   %3 = conv2d %2, @v
//   ...                                                  ...
//   %8 = conv2d_input_grad %7, @v                 ->     %8 = conv2d_input_grad %7, @v
//                                                        %9 = after %1, %7         (%1, but not before %7)
//                                                        %10 = relu %9
//   %9 = conv2d_weight_grad %7, %2                       %11 = conv2d_weight_grad %7, %10
//
// `after` separates the copy from forward: without it the copy would join the kernel that computes %2, and be live as
// long.
//
// Two steps. With segments, forward is split where few bytes cross; values that cross are kept, and backward recomputes
// a segment when it reaches it (Chen et al. 2016, "Training deep nets with sublinear memory cost"); the last segment is
// kept whole. Then elementwise operations, of forward and of the recomputed segments: the choice that keeps the fewest
// bytes is a minimum cut between values that are computed once (contractions, reductions, indexing) and values that
// backward reads, each value weighted by its bytes (as PyTorch's functorch partitioner does; Ford and Fulkerson 1956).
#include <algorithm>
#include <limits>
#include <set>

#include "ir/ops/lower.h"
#include "ir/tensor/op_def.h"
#include "passes/tensor/kernel_groups.h"
#include "passes/tensor/layout.h"
#include "passes/tensor/passes.h"
#include "support/check.h"

namespace gradc::passes {

namespace {

double bytes_of_value(const Op* op) {
  return static_cast<double>(op->type.elements() * op->type.rows) *
         loop::bytes(ops::memory_scalar_of(op->type.dtype));
}

// Analysis for both steps: the operations that the loss depends on, in their order, and the users of each.
struct Forward {
  // `again`: copies of forward's operations, which count as forward's.
  Forward(const Function& f, const std::set<const Op*>& again) {
    needed = needed_by_guard(f);
    needed.insert(again.begin(), again.end());
    const std::vector<Op*> all = f.ops();
    for (size_t i = 0; i < all.size(); ++i) {
      at[all[i]] = i;
      for (Op* operand : all[i]->operands) users[operand].push_back(all[i]);
      if (is_value(all[i])) values.push_back(all[i]);
    }
    for (const Output& o : f.outputs) kept_outside.insert(o.value);
    for (const Update& u : f.updates) kept_outside.insert(u.value);
  }

  // A value of forward with one element or more for each example; the others are small and always kept.
  bool is_value(const Op* op) const { return needed.count(op) && op->type.batched && at.count(op); }

  // Uses by backward, in order; through views of forward as well.
  void backward_uses(const Op* op, std::vector<Op*>& uses) const {
    const auto it = users.find(op);
    if (it == users.end()) return;
    for (Op* user : it->second) {
      if (!needed.count(user))
        uses.push_back(user);
      else if (user->def->kind == OpKind::view)
        backward_uses(user, uses);
    }
  }
  bool used_backward(const Op* op) const {
    std::vector<Op*> uses;
    backward_uses(op, uses);
    return !uses.empty() || kept_outside.count(op);
  }

  std::set<const Op*> needed, kept_outside;
  std::map<const Op*, size_t> at;  // position in the order
  std::map<const Op*, std::vector<Op*>> users;
  std::vector<Op*> values;  // in order
};

// Copies operations of forward to the points of backward where they are used.
class Copier {
 public:
  // Adds the copies to `again`, but not the `after` operations.
  Copier(Function& f, const Forward& forward, std::set<const Op*>& again)
      : f_(f), forward_(forward), again_(again), order_(f.ops()) {}

  // Copies the values for which `copied` is true: every use by backward that has an operation to wait for then reads a
  // copy. Other values are read from where they are stored. Returns whether it changed anything.
  template <class Copied>
  bool run(Copied&& copied) {
    bool changed = false;
    const Op* wait = nullptr;
    for (Op* user : order_) {
      if (forward_.needed.count(user)) continue;
      for (Op*& operand : user->operands) {
        if (!forward_.is_value(operand) || !reads_copy(operand, copied)) continue;
        if (!wait) continue;  // used so early that nothing is gained by recomputing
        operand = copy(operand, user, const_cast<Op*>(wait), copied);
        changed = true;
      }
      // The operands of a contraction of backward are computed before its kernel, which the copies may then join.
      if (user->def->kind != OpKind::contraction || !user->type.batched) continue;
      for (const Op* operand : user->operands) {
        const Op* base = storage_of(operand);
        if (base->type.batched && !forward_.needed.count(base) && base->def->kind != OpKind::source)
          wait = base;
      }
    }
    return changed;
  }

 private:
  template <class Copied>
  bool reads_copy(const Op* op, Copied&& copied) const {
    return copied(storage_of(op));
  }

  template <class Copied>
  Op* copy(Op* op, const Op* before, Op* wait, Copied&& copied) {
    // Contractions are recomputed once, elementwise operations at each use: otherwise a chain of residual sums would be
    // stored as a whole where its end is used first.
    const std::pair<const Op*, const Op*> key(op, op->def->kind == OpKind::contraction ? nullptr : wait);
    if (const auto it = copies_.find(key); it != copies_.end()) return it->second;
    Builder b(f_);
    std::vector<Op*> operands;
    bool waits = false;
    for (Op* operand : op->operands) {
      Op* from = operand;
      if (forward_.is_value(operand) && reads_copy(operand, copied)) {
        from = copy(operand, before, wait, copied);
        waits = true;
      }
      operands.push_back(from);
    }
    b.insert_before(before);
    b.set_locations(op->locations);
    // One operand through `after` is enough; of kept operands, preferably one with a batch.
    if (!waits && !operands.empty()) {
      size_t i = 0;
      while (i + 1 < operands.size() && !operands[i]->type.batched) ++i;
      operands[i] = b.create("after", {operands[i], wait});
    }
    Op* made = b.create(op->name(), std::move(operands), op->attributes);
    again_.insert(made);
    copies_[key] = made;
    return made;
  }

  Function& f_;
  const Forward& forward_;
  std::set<const Op*>& again_;
  const std::vector<Op*> order_;
  std::map<std::pair<const Op*, const Op*>, Op*> copies_;
};

// A minimum cut by augmenting paths, shortest first (Edmonds and Karp 1972); graphs have some hundreds of
// nodes.
class Cut {
 public:
  explicit Cut(size_t nodes) : edges_of_(nodes) {}
  void edge(size_t from, size_t to, double capacity) {
    edges_of_[from].push_back(edges_.size());
    edges_.push_back({to, capacity});
    edges_of_[to].push_back(edges_.size());
    edges_.push_back({from, 0});
  }
  // The nodes from which `sink` can still be reached when the flow is greatest: the cut nearest to it.
  std::vector<char> sink_side(size_t source, size_t sink) {
    while (true) {
      std::vector<size_t> by(edges_of_.size(), kNone), queue{source};
      for (size_t q = 0; q < queue.size() && by[sink] == kNone; ++q)
        for (size_t e : edges_of_[queue[q]]) {
          const size_t to = edges_[e].to;
          if (edges_[e].capacity <= 0 || to == source || by[to] != kNone) continue;
          by[to] = e;
          queue.push_back(to);
        }
      if (by[sink] == kNone) break;
      double flow = std::numeric_limits<double>::infinity();
      for (size_t n = sink; n != source; n = edges_[by[n] ^ 1].to)
        flow = std::min(flow, edges_[by[n]].capacity);
      GRADC_CHECK(flow < std::numeric_limits<double>::infinity(), "a value that must be kept has no size");
      for (size_t n = sink; n != source; n = edges_[by[n] ^ 1].to) {
        edges_[by[n]].capacity -= flow;
        edges_[by[n] ^ 1].capacity += flow;
      }
    }
    std::vector<char> reaches(edges_of_.size(), 0);
    std::vector<size_t> queue{sink};
    reaches[sink] = 1;
    for (size_t q = 0; q < queue.size(); ++q)
      for (size_t e : edges_of_[queue[q]]) {
        const size_t from = edges_[e].to;
        if (reaches[from] || edges_[e ^ 1].capacity <= 0) continue;
        reaches[from] = 1;
        queue.push_back(from);
      }
    return reaches;
  }

 private:
  static constexpr size_t kNone = static_cast<size_t>(-1);
  struct Edge {
    size_t to;
    double capacity;
  };
  std::vector<Edge> edges_;  // with its reverse after it
  std::vector<std::vector<size_t>> edges_of_;
};

// Whether recomputing an elementwise operation saves time: a few instructions an element take less than loading its
// result from memory.
bool is_light(const Op* op) {
  constexpr double kMostFlop = 2;  // an element
  return !op->def->cost || op->def->cost(*op).flop <= kMostFlop * static_cast<double>(op->type.elements());
}

// The values of images that light operations compute from one kept value: recomputing each saves its share of a step's
// memory traffic. A value with more inputs is kept: a chain of residual sums would be read from its start wherever one
// of them is used.
std::set<const Op*> spared_values(const Function& f, const Forward& forward) {
  std::set<const Op*> result;
  if (!works_on_images(f)) return result;
  std::map<const Op*, const Op*> source;  // the kept value that each is computed from
  for (const Op* op : forward.values) {
    std::set<const Op*> sources;
    for (const Op* operand : op->operands)
      if (forward.is_value(operand)) sources.insert(source.at(operand));
    const OpKind kind = op->def->kind;
    source[op] = op;
    if (kind == OpKind::view && !sources.empty()) source[op] = *sources.begin();
    if (kind != OpKind::elementwise || op->type.rank() != 3 || !is_light(op) || sources.size() != 1) continue;
    source[op] = *sources.begin();
    result.insert(op);
  }
  return result;
}

bool recompute_elementwise(Function& f, std::set<const Op*>& again, bool all) {
  const Forward forward(f, again);
  const std::set<const Op*> spared = all ? std::set<const Op*>() : spared_values(f, forward);
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  // Nodes: source, sink, and for each value its computing (even) and its keeping (odd).
  std::map<const Op*, size_t> node;
  for (size_t i = 0; i < forward.values.size(); ++i) node[forward.values[i]] = 2 + 2 * i;
  Cut cut(2 + 2 * forward.values.size());
  const auto recomputable = [&](const Op* op) {
    const OpKind k = op->def->kind;
    if (k == OpKind::elementwise) return all || spared.count(op) != 0;
    return k == OpKind::view || (k == OpKind::source && op->def->cheap);
  };
  for (const Op* op : forward.values) {
    const size_t n = node[op];
    cut.edge(n, n + 1, op->def->kind == OpKind::view ? kInfinite : bytes_of_value(op));
    if (!recomputable(op)) cut.edge(0, n, kInfinite);
    if (forward.used_backward(op)) cut.edge(n + 1, 1, kInfinite);
    if (recomputable(op))
      for (const Op* operand : op->operands)
        if (const auto it = node.find(operand); it != node.end()) cut.edge(it->second + 1, n, kInfinite);
  }
  const std::vector<char> reaches = cut.sink_side(0, 1);
  const auto copied = [&](const Op* op) {
    const auto it = node.find(op);
    return it != node.end() && recomputable(op) && reaches[it->second];
  };
  return Copier(f, forward, again).run(copied);
}

bool recompute_segments(Function& f, int segments, std::set<const Op*>& again) {
  const Forward forward(f, again);
  double total = 0;
  for (const Op* op : forward.values)
    if (op->def->kind != OpKind::view && forward.used_backward(op)) total += bytes_of_value(op);
  // Position of the last operation of forward that reads a value's storage.
  std::map<const Op*, size_t> last;
  for (const Op* op : forward.values)
    for (const Op* operand : op->operands)
      if (forward.is_value(operand)) last[storage_of(operand)] = forward.at.at(op);
  const auto crosses = [&](const Op* op, size_t position) {
    const auto it = last.find(op);
    return op->def->kind != OpKind::view && forward.at.at(op) <= position && it != last.end() &&
           it->second > position;
  };
  const auto crossing = [&](size_t position) {
    double bytes = 0;
    for (const Op* op : forward.values)
      if (crosses(op, position)) bytes += bytes_of_value(op);
    return bytes;
  };

  // Cuts after about every 1/segments of the bytes, at the nearby position that the fewest bytes cross.
  std::set<const Op*> kept;
  std::map<const Op*, int> segment;
  const double share = total / segments;
  double since = 0, narrowest = 0;
  size_t best = 0, start = 0;
  bool found = false;
  int number = 0;
  const auto finish = [&](size_t end) {
    for (size_t i = start; i <= end; ++i) segment[forward.values[i]] = number;
    for (const Op* op : forward.values)
      if (crosses(op, forward.at.at(forward.values[end]))) kept.insert(op);
    ++number;
    start = end + 1;
    since = 0;
    found = false;
  };
  for (size_t i = 0; i < forward.values.size(); ++i) {
    const Op* op = forward.values[i];
    if (op->def->kind != OpKind::view && forward.used_backward(op)) since += bytes_of_value(op);
    if (number + 1 >= segments) continue;  // the last one goes to the end
    if (since < 0.6 * share) continue;
    const double width = crossing(forward.at.at(op));
    if (!found || width < narrowest) {
      found = true;
      narrowest = width;
      best = i;
    }
    if (since >= 1.2 * share) {
      const size_t from = best;
      finish(from);
      i = from;  // values after the cut count for the next segment
    }
  }
  if (number == 0) return false;
  const auto copied = [&](const Op* op) {
    const auto it = segment.find(op);
    return it != segment.end() && !kept.count(op);
  };
  return Copier(f, forward, again).run(copied);
}

// Moves weight gradients that read recomputed values after the elementwise operations that read them too: those may
// join an earlier kernel, which then recomputes the values. The gradients stay before operations that depend on sums
// over the batch, so that they run in that kernel's segment (passes/loop/segments.cpp).
void delay_weight_gradients(Function& f, const std::set<const Op*>& again) {
  std::vector<Op*> order, late;
  std::set<const Op*> delayed;
  const auto flush = [&] {
    order.insert(order.end(), late.begin(), late.end());
    late.clear();
    delayed.clear();
  };
  for (Op* op : f.ops()) {
    const bool contraction = op->def->kind == OpKind::contraction;
    if (op->type.batched ? contraction : !contraction && op->def->kind != OpKind::reduction) flush();
    const auto in = [&](const std::set<const Op*>& set) {
      return std::any_of(op->operands.begin(), op->operands.end(), [&](Op* o) { return set.count(o) != 0; });
    };
    if ((contraction && !op->type.batched && in(again)) || in(delayed)) {
      late.push_back(op);
      delayed.insert(op);
    } else {
      order.push_back(op);
    }
  }
  flush();
  f.reorder(order);
}

}  // namespace

bool recompute(Function& f, int level) {
  if (f.guard_output < 0) return false;
  std::set<const Op*> again;
  bool changed = level > 1 && recompute_segments(f, level, again);
  changed = recompute_elementwise(f, again, level > 0) || changed;
  if (!changed) return false;
  delay_weight_gradients(f, again);
  f.remove_dead();
  return true;
}

}  // namespace gradc::passes
