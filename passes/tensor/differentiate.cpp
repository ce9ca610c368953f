// Reverse-mode differentiation on tensor IR: walks the forward operations backwards and asks each definition
// for its gradient. Knows no operator: every formula is in ir/ops/.
//
//   %4 = einsum %image, @dense_1.weight {spec="nk,ok->no"} : f32[n,10]        (forward)
//   %9 = ...                                                                   (gradient of %4)
//   %10 = einsum %9, %image {spec="no,nk->ok"} : f32[10,784]          (appended: gradient of the weight)
//
// The loss is the mean over the rows that exist, so each example's loss starts with gradient 1 / row_count, or 1 / the
// sum of the rows' weights; with 1 where gradients of several batches add up to one update. Gradients of
// a value used several times add up in reverse order of its uses. Backward operations carry the location of
// the forward operation they belong to.
#include <set>

#include "ir/tensor/op_def.h"
#include "passes/tensor/passes.h"
#include "support/check.h"

namespace gradc::passes {

namespace {

class Differentiator {
 public:
  Differentiator(Module& module, Function& step, const std::string& sum_of)
      : module_(module), step_(step), sum_of_(sum_of), b_(step) {}

  std::map<std::string, Op*> run() {
    std::set<const Op*> active;  // depends on a trained parameter
    for (const auto& s : step_.symbols)
      if (module_.function("update." + s->symbol())) active.insert(s.get());
    const std::vector<Op*> forward = step_.ops();
    for (Op* op : forward)
      for (Op* operand : op->operands)
        if (active.count(operand)) active.insert(op);

    for (const Output& o : losses_of(step_)) {
      if (!active.count(o.value) || (!sum_of_.empty() && o.name != sum_of_)) continue;
      b_.set_locations(o.value->locations);
      accumulate(o.value,
                 b_.create("broadcast", {seed(o)}, {{"shape", o.value->type.shape}, {"batched", true}}));
    }
    for (const Output& o : step_.outputs) {
      if (o.name != "penalty" || !sum_of_.empty() || !active.count(o.value)) continue;
      b_.set_locations(o.value->locations);
      accumulate(o.value, b_.constant(1));
    }
    for (auto it = forward.rbegin(); it != forward.rend(); ++it) {
      Op* op = *it;
      const auto g = gradient_.find(op);
      if (g == gradient_.end() || !active.count(op)) continue;
      b_.set_locations(op->locations);
      if (!op->def->gradient)
        continue;  // not differentiable (the definition says why); the frontend has reported it
      const std::vector<Op*> gradients = op->def->gradient(b_, op, g->second);
      GRADC_CHECK(gradients.size() == op->operands.size(), "gradient of {} has {} values for {} operands",
                  op->name(), gradients.size(), op->operands.size());
      for (size_t i = 0; i < gradients.size(); ++i)
        if (gradients[i] && active.count(op->operands[i]))
          accumulate(op->operands[i], b_.sum_to(gradients[i], op->operands[i]->type));
    }
    std::map<std::string, Op*> result;
    for (const auto& s : step_.symbols)
      if (active.count(s.get()) && gradient_.count(s.get())) result[s->symbol()] = gradient_[s.get()];
    return result;
  }

  const std::map<const Op*, Op*>& values() const { return gradient_; }

 private:
  // 1, or the example's share of the mean; 0 where all weights are 0.
  Op* seed(const Output& loss) {
    Op* one = b_.constant(1);
    if (!sum_of_.empty()) return one;
    if (loss.divisor.empty()) return b_.div(one, b_.create("row_count", {}));
    for (const Output& o : step_.outputs) {
      if (o.name != loss.divisor) continue;
      Op* weights = b_.reduce_sum(o.value, {}, /*batch=*/true);
      return b_.select(b_.compare("gt", weights, b_.constant(0)), b_.div(one, weights), b_.constant(0));
    }
    GRADC_CHECK(false, "{} has no output {}", step_.name, loss.divisor);
  }

  void accumulate(Op* value, Op* g) {
    Op*& sum = gradient_[value];
    sum = sum ? b_.add(sum, g) : g;
  }

  Module& module_;
  Function& step_;
  const std::string& sum_of_;  // empty: the means
  Builder b_;
  std::map<const Op*, Op*> gradient_;
};

}  // namespace

std::vector<Output> losses_of(const Function& f) {
  std::vector<Output> whole, parts;
  for (const Output& o : f.outputs) {
    if (o.name == "loss") whole.push_back(o);
    if (is_loss_part(o)) parts.push_back(o);
  }
  return parts.empty() ? whole : parts;
}

std::map<std::string, Op*> differentiate(Module& module, Function& step, const std::string& sum_of,
                                         std::map<const Op*, Op*>* values) {
  Differentiator differentiator(module, step, sum_of);
  std::map<std::string, Op*> gradients = differentiator.run();
  if (values) *values = differentiator.values();
  return gradients;
}

}  // namespace gradc::passes
