// Gradient descent with a line search, L-BFGS and SVRG.
#include "runtime/training/full_batch.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>

#include "runtime/training/line_search.h"
#include "support/check.h"

namespace gradc::runtime {
namespace {

using Vector = std::vector<float>;

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

double largest(const Vector& v) {
  float most = 0;
  for (const float x : v) most = std::max(most, std::fabs(x));
  return most;
}

// v += scale u
void add(Vector& v, double scale, const Vector& u) {
  const auto s = static_cast<float>(scale);
  for (size_t i = 0; i < v.size(); ++i) v[i] += s * u[i];
}

int64_t examples_of(const BatchReader& reader, int64_t first, int64_t count) {
  int64_t examples = 0;
  for (int64_t i = first; i < first + count; ++i) examples += reader.rows(i);
  return examples;
}

// All trained parameters, or their gradients, as one vector; the order is the program's. Where each part of the loss
// has its own gradients (P.grad, P.grad1), a parameter occurs once for each part, or only with the first.
class Flat {
 public:
  explicit Flat(Session& session, bool parts = false) : session_(session) {
    const gradc_program& program = session.program();
    for (int32_t i = 0; i < program.symbol_count; ++i) {
      const gradc_symbol& gradient = program.symbols[i];
      if (gradient.kind != GRADC_GRADIENT) continue;
      const std::string name = gradient.name, digits = name.substr(name.rfind('.') + sizeof ".grad" - 1);
      if (!digits.empty() && !parts) continue;
      const gradc_symbol* parameter = session.find(name.substr(0, name.rfind('.')));
      GRADC_CHECK(parameter && gradient.dtype == GRADC_F32, "{} is no parameter's gradient", name);
      const auto count = static_cast<size_t>(element_count(gradient.rank, gradient.shape));
      parts_.push_back({parameter, &gradient, count, digits.empty() ? 0 : std::stoul(digits)});
      size_ += count;
    }
    GRADC_CHECK(size_ > 0, "a full-batch optimizer for a program without gradients");
  }
  size_t size() const { return size_; }
  Vector parameters() const { return read(false); }
  Vector gradients() const { return read(true); }
  void set_parameters(const Vector& v) { write(v, false); }
  void set_gradients(const Vector& v) { write(v, true); }
  // Calls visit(i, loss) for each element i of the vectors, `loss` being the number of its part of the loss.
  template <class F>
  void for_each(F&& visit) const {
    size_t at = 0;
    for (const Part& p : parts_)
      for (size_t k = 0; k < p.count; ++k) visit(at++, p.loss);
  }

 private:
  struct Part {
    const gradc_symbol *parameter, *gradient;
    size_t count, loss;
  };
  Vector read(bool gradients) const {
    Vector result(size_);
    size_t at = 0;
    for (const Part& p : parts_) {
      std::memcpy(result.data() + at, session_.data(gradients ? *p.gradient : *p.parameter),
                  p.count * sizeof(float));
      at += p.count;
    }
    return result;
  }
  void write(const Vector& v, bool gradients) {
    size_t at = 0;
    for (const Part& p : parts_) {
      std::memcpy(session_.data(gradients ? *p.gradient : *p.parameter), v.data() + at,
                  p.count * sizeof(float));
      at += p.count;
    }
  }
  Session& session_;
  std::vector<Part> parts_;
  size_t size_ = 0;
};

double option(const TrainRecord& record, const char* name) {
  const auto it = record.full_batch_options.find(name);
  GRADC_CHECK(it != record.full_batch_options.end(), "the optimizer {} has no option {}", record.full_batch,
              name);
  return it->second;
}

// Moves along a direction by a length from a line search. Programs of such models update no parameter: @update leaves
// the mean gradient, penalties included, in the gradients' symbols.
class LineSearchOptimizer : public FullBatchOptimizer {
 public:
  // An update has so many iterations, or fewer when it converges.
  explicit LineSearchOptimizer(Session& session, int64_t iterations = 1)
      : session_(session), flat_(session), iterations_an_update_(iterations) {}

  // Loss and metrics are those at the update's beginning.
  StepResult step(BatchReader& reader, int64_t first, int64_t count, const StepScalars& scalars,
                  uint64_t seed) final {
    StepResult result = iterate(reader, first, count, scalars, seed);
    for (int64_t i = 1; i < iterations_an_update_ && result.finite && !result.converged; ++i) {
      const StepResult next = iterate(reader, first, count, scalars, seed);
      if (!next.finite) return next;
      result.converged = next.converged;
    }
    return result;
  }

 private:
  StepResult iterate(BatchReader& reader, int64_t first, int64_t count, const StepScalars& scalars,
                     uint64_t seed) {
    const auto evaluate = [&] {
      StepResult r = session_.gradients(reader, first, count, scalars, seed);
      if (!r.finite) {
        r.loss = std::numeric_limits<double>::infinity();
        return r;
      }
      session_.update(examples_of(reader, first, count), scalars, seed, r);
      gradient_ = flat_.gradients();
      return r;
    };
    StepResult now;
    if (known_) {
      now = known_result_;
      session_.update(examples_of(reader, first, count), scalars, seed, now);  // for this update's rate alone
    } else {
      now = evaluate();
    }
    known_ = false;
    if (!now.finite) return now;
    const Vector start = flat_.parameters(), gradient = gradient_;
    Vector direction;
    double t = now.lr;
    if (!choose(gradient, direction, t)) {
      now.converged = true;
      return now;
    }
    StepResult last;
    double last_t = 0;
    const LineFunction along = [&](double at) {
      Vector x = start;
      add(x, at, direction);
      flat_.set_parameters(x);
      last = evaluate();
      last_t = at;
      return LinePoint{at, last.loss, last.finite ? dot(gradient_, direction) : kNothing};
    };
    const LinePoint from{0, now.loss, dot(gradient, direction)};
    const LinePoint to = search(from, t, direction, along);
    if (last_t == to.t && to.t != 0) {
      known_ = last.finite;
      known_result_ = last;
    } else {
      Vector x = start;
      add(x, to.t, direction);
      flat_.set_parameters(x);
    }
    now.converged = to.t == 0 || moved(to, from, largest(direction));
    return now;
  }

 protected:
  static constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
  // The direction from here and the length to try first, at entry the scheduled rate; false where there is no descent
  // direction.
  virtual bool choose(const Vector& gradient, Vector& direction, double& t) = 0;
  virtual LinePoint search(const LinePoint& from, double t, const Vector& direction,
                           const LineFunction& along) = 0;
  // Whether this step was the last.
  virtual bool moved(const LinePoint& to, const LinePoint& from, double width) { return false; }

 private:
  Session& session_;
  Flat flat_;
  const int64_t iterations_an_update_;
  Vector gradient_;     // of the last evaluation
  bool known_ = false;  // whether it is the gradient at the current parameters
  StepResult known_result_;
};

class GradientDescent : public LineSearchOptimizer {
 public:
  GradientDescent(Session& session, const TrainRecord& record)
      : LineSearchOptimizer(session),
        armijo_(option(record, "armijo")),
        shrink_(option(record, "shrink")),
        trials_(static_cast<int64_t>(option(record, "trials"))) {}

 private:
  bool choose(const Vector& gradient, Vector& direction, double&) override {
    direction.resize(gradient.size());
    std::transform(gradient.begin(), gradient.end(), direction.begin(), [](float g) { return -g; });
    return largest(gradient) > 0;
  }
  LinePoint search(const LinePoint& from, double t, const Vector&, const LineFunction& along) override {
    return backtrack(from, t, armijo_, shrink_, trials_, along);
  }
  const double armijo_, shrink_;
  const int64_t trials_;
};

class Lbfgs : public LineSearchOptimizer {
 public:
  Lbfgs(Session& session, const TrainRecord& record)
      : LineSearchOptimizer(session, static_cast<int64_t>(option(record, "max_iter"))),
        size_(Flat(session).size()),
        history_(static_cast<size_t>(option(record, "history"))),
        line_search_(static_cast<int>(option(record, "line_search"))),
        tolerance_grad_(option(record, "tolerance_grad")),
        tolerance_change_(option(record, "tolerance_change")) {}

  FullBatchState state() const override {
    FullBatchState s;
    s.numbers = {{"iterations", iterations_}, {"length", length_}, {"scale", scale_}};
    if (!direction_.empty()) {
      s.arrays["direction"] = direction_;
      s.arrays["gradient"] = last_gradient_;
    }
    for (size_t i = 0; i < steps_.size(); ++i) {
      s.arrays["step." + std::to_string(i)] = steps_[i];
      s.arrays["change." + std::to_string(i)] = changes_[i];
    }
    return s;
  }

  bool restore(const FullBatchState& s) override {
    for (const char* name : {"iterations", "length", "scale"})
      if (!s.numbers.count(name)) return false;
    for (const auto& [name, v] : s.arrays)
      if (v.size() != size_) return false;
    iterations_ = s.numbers.at("iterations");
    length_ = s.numbers.at("length");
    scale_ = s.numbers.at("scale");
    if (!(iterations_ >= 0) || !std::isfinite(length_) || !std::isfinite(scale_)) return false;
    if (iterations_ > 0) {
      if (!s.arrays.count("direction") || !s.arrays.count("gradient")) return false;
      direction_ = s.arrays.at("direction");
      last_gradient_ = s.arrays.at("gradient");
    }
    for (size_t i = 0; s.arrays.count("step." + std::to_string(i)); ++i) {
      if (!s.arrays.count("change." + std::to_string(i))) return false;
      steps_.push_back(s.arrays.at("step." + std::to_string(i)));
      changes_.push_back(s.arrays.at("change." + std::to_string(i)));
    }
    return steps_.size() <= history_;
  }

 private:
  bool choose(const Vector& gradient, Vector& direction, double& t) override {
    if (largest(gradient) <= tolerance_grad_) return false;
    direction.resize(gradient.size());
    std::transform(gradient.begin(), gradient.end(), direction.begin(), [](float g) { return -g; });
    if (iterations_ == 0) {
      double size = 0;
      for (const float g : gradient) size += std::fabs(g);
      t *= std::min(1.0, 1 / size);
    } else {
      remember(gradient);
      apply_inverse_hessian(direction);
    }
    ++iterations_;
    last_gradient_ = gradient;
    direction_ = direction;
    return dot(gradient, direction) <= -tolerance_change_;
  }

  // Keeps the last step and its change of the gradient, if the curvature along it is positive.
  void remember(const Vector& gradient) {
    Vector change = gradient, step = direction_;
    for (size_t i = 0; i < change.size(); ++i) change[i] -= last_gradient_[i];
    for (float& s : step) s *= static_cast<float>(length_);
    const double curvature = dot(change, step);
    if (curvature <= 1e-10) return;
    if (steps_.size() == history_) {
      steps_.pop_front();
      changes_.pop_front();
    }
    scale_ = curvature / dot(change, change);
    steps_.push_back(std::move(step));
    changes_.push_back(std::move(change));
  }

  // Nocedal and Wright 2006, algorithm 7.4: the two loops over the history.
  void apply_inverse_hessian(Vector& r) const {
    std::vector<double> weight(steps_.size()), rho(steps_.size());
    for (size_t i = steps_.size(); i-- > 0;) {
      rho[i] = 1 / dot(changes_[i], steps_[i]);
      weight[i] = dot(steps_[i], r) * rho[i];
      add(r, -weight[i], changes_[i]);
    }
    for (float& x : r) x *= static_cast<float>(scale_);
    for (size_t i = 0; i < steps_.size(); ++i) add(r, weight[i] - dot(changes_[i], r) * rho[i], steps_[i]);
  }

  LinePoint search(const LinePoint& from, double t, const Vector& direction,
                   const LineFunction& along) override {
    constexpr double kArmijo = 1e-4, kShrink = 0.5;
    constexpr int64_t kTrials = 25;
    LinePoint to{t, kNothing, kNothing};
    if (line_search_ == 1) to = backtrack(from, t, kArmijo, kShrink, kTrials, along);
    if (line_search_ == 2) to = strong_wolfe(from, t, largest(direction), tolerance_change_, along);
    length_ = to.t;
    return to;
  }

  bool moved(const LinePoint& to, const LinePoint& from, double width) override {
    return width * to.t <= tolerance_change_ || std::fabs(to.loss - from.loss) < tolerance_change_;
  }

  const size_t size_, history_;
  const int line_search_;  // 0 none, 1 armijo, 2 strong_wolfe
  const double tolerance_grad_, tolerance_change_;
  double iterations_ = 0, length_ = 0, scale_ = 1;
  Vector direction_, last_gradient_;
  std::deque<Vector> steps_, changes_;
};

// Stochastic variance-reduced gradient. Programs of such models update parameters from the gradients' sums as usual;
// this class replaces the sums.
class Svrg : public FullBatchOptimizer {
 public:
  Svrg(Session& session, const TrainRecord& record)
      : session_(session),
        flat_(session, /*parts=*/true),
        every_(static_cast<int64_t>(option(record, "every"))) {}

  StepResult step(BatchReader& reader, int64_t first, int64_t count, const StepScalars& scalars,
                  uint64_t seed) override {
    if (full_.empty() || (first == 0 && scalars.epoch % every_ == 0)) {
      const StepResult all = session_.gradients(reader, 0, reader.batches(), scalars, seed);
      if (!all.finite) return all;
      full_ = flat_.gradients();
      const std::vector<double> divisors = all.sums.divisors();
      flat_.for_each([&](size_t i, size_t loss) {
        full_[i] = divisors[loss] == 0 ? 0 : full_[i] / static_cast<float>(divisors[loss]);
      });
      anchor_ = flat_.parameters();
    }
    const Vector here = flat_.parameters();
    flat_.set_parameters(anchor_);
    StepResult result = session_.gradients(reader, first, count, scalars, seed);
    const Vector at_anchor = flat_.gradients();
    flat_.set_parameters(here);
    if (!result.finite) return result;
    result = session_.gradients(reader, first, count, scalars, seed);
    if (!result.finite) return result;
    const int64_t examples = examples_of(reader, first, count);
    Vector sums = flat_.gradients();
    const std::vector<double> divisors = result.sums.divisors();
    flat_.for_each([&](size_t i, size_t loss) {
      sums[i] += static_cast<float>(divisors[loss]) * full_[i] - at_anchor[i];
    });
    flat_.set_gradients(sums);
    session_.update(examples, scalars, seed, result);
    return result;
  }

  FullBatchState state() const override {
    FullBatchState s;
    if (!full_.empty()) s.arrays = {{"anchor", anchor_}, {"full_gradient", full_}};
    return s;
  }

  bool restore(const FullBatchState& s) override {
    if (s.arrays.empty()) return true;
    if (!s.arrays.count("anchor") || !s.arrays.count("full_gradient")) return false;
    for (const auto& [name, v] : s.arrays)
      if (v.size() != flat_.size()) return false;
    anchor_ = s.arrays.at("anchor");
    full_ = s.arrays.at("full_gradient");
    return true;
  }

  bool keeps_order() const override { return false; }

 private:
  Session& session_;
  Flat flat_;
  const int64_t every_;   // epochs
  Vector anchor_, full_;  // the anchor's parameters, and the mean gradient there
};

}  // namespace

std::unique_ptr<FullBatchOptimizer> make_full_batch_optimizer(Session& session, const TrainRecord& record) {
  if (record.full_batch.empty()) return nullptr;
  if (record.full_batch == "gd") return std::make_unique<GradientDescent>(session, record);
  if (record.full_batch == "lbfgs") return std::make_unique<Lbfgs>(session, record);
  GRADC_CHECK(record.full_batch == "svrg", "no full-batch optimizer is called {}", record.full_batch);
  return std::make_unique<Svrg>(session, record);
}

}  // namespace gradc::runtime
