// Statistics in double precision, in the examples' order, so that they do not depend on threads; eigenvectors
// by Eigen.
#include "runtime/data/normalize.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/check.h"

namespace gradc::runtime {
namespace {

constexpr int64_t kBlock = 256;  // examples whose products are summed at once

int64_t elements_of(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

// The number of groups of neighbouring elements, each of which has its own statistics.
int64_t groups_of(const std::string& method, const std::vector<int64_t>& shape) {
  if (method == "value" || shape.empty()) return 1;
  if (method == "channel" || method == "min_max") return shape[0];
  return elements_of(shape);
}

constexpr double kShift = 1e-6;  // of a deviation: how much rounding to floats may move examples

NumberArray array_of(std::vector<int64_t> shape, const std::vector<double>& values, bool wide = false) {
  NumberArray array{std::move(shape), values};
  if (!wide)
    for (double& v : array.values) v = static_cast<float>(v);
  return array;
}

double lost(double v) { return std::fabs(v - static_cast<double>(static_cast<float>(v))); }

// Whether rounding the offsets moves something by more than kShift of its scale.
bool needs_doubles(const std::vector<double>& offsets, const std::vector<double>& scales) {
  for (size_t i = 0; i < offsets.size(); ++i)
    if (lost(offsets[i]) > kShift * scales[i]) return true;
  return false;
}

// The ends of the values of each group.
struct Range {
  std::vector<double> low, high;
  explicit Range(size_t size) : low(size, HUGE_VAL), high(size, -HUGE_VAL) {}
  void take(size_t g, double v) {
    low[g] = std::min(low[g], v);
    high[g] = std::max(high[g], v);
  }
  bool constant(size_t g) const { return low[g] == high[g]; }
  std::vector<double> extents() const {
    std::vector<double> result;
    for (size_t g = 0; g < low.size(); ++g) result.push_back(constant(g) ? 1 : high[g] - low[g]);
    return result;
  }
};

// The deviation of a constant, which is only rounding, counts as 1.
double deviation(double variance, double mean, bool exact) {
  const double std = std::sqrt(std::max(variance, 0.0));
  return std > (exact ? 0 : 1e-7) * std::fabs(mean) && std > 1e-30 ? std : 1;
}

// Eigenvectors (columns) by falling eigenvalue, signs as in the header.
void eigen(const Eigen::MatrixXd& covariance, Eigen::MatrixXd& vectors, Eigen::VectorXd& values) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(covariance);
  GRADC_CHECK(solver.info() == Eigen::Success, "the eigenvalues did not converge");
  values = solver.eigenvalues().reverse();
  vectors = solver.eigenvectors().rowwise().reverse();
  for (Eigen::Index k = 0; k < vectors.cols(); ++k) {
    Eigen::Index largest = 0;
    for (Eigen::Index i = 1; i < vectors.rows(); ++i)
      if (std::fabs(vectors(i, k)) > std::fabs(vectors(largest, k))) largest = i;
    if (vectors(largest, k) < 0) vectors.col(k) *= -1;
  }
}

}  // namespace

Normalization::Normalization(DataMethod record) : record_(std::move(record)) {}

int64_t Normalization::passes() const {
  const auto divides = record_.options.find("std");
  return projects() || (divides != record_.options.end() && std::get<bool>(divides->second)) ? 2 : 1;
}

std::string Normalization::prefix() const { return kDataPrefix + record_.field + "." + record_.name + "."; }

int64_t Normalization::components() const { return std::get<int64_t>(record_.options.at("components")); }

std::vector<int64_t> Normalization::shape_of(const std::vector<int64_t>& shape) const {
  return projects() ? std::vector<int64_t>{components()} : shape;
}

std::vector<std::string> Normalization::array_names() const {
  const auto divides = record_.options.find("std");
  if (record_.name == "min_max") return {"max", "min"};
  if (record_.name == "pca") return {"components", "mean"};
  if (record_.name == "whiten") return {"components", "mean", "std"};
  if (divides != record_.options.end() && std::get<bool>(divides->second)) return {"mean", "std"};
  return {"mean"};
}

std::map<std::string, std::vector<int64_t>> Normalization::expected(const std::vector<int64_t>& shape) const {
  const int64_t elements = elements_of(shape), groups = groups_of(record_.name, shape);
  std::vector<int64_t> own = shape;
  if (record_.name == "value" || shape.empty()) own = {};
  if ((record_.name == "channel" || record_.name == "min_max") && !shape.empty()) own = {groups};
  std::map<std::string, std::vector<int64_t>> result;
  for (const std::string& name : array_names()) result[name] = own;
  if (projects()) {
    result["mean"] = {elements};
    result["components"] = {components(), elements};
    if (result.count("std")) result["std"] = {components()};
  }
  return result;
}

void Normalization::fit(const std::vector<int64_t>& shape, int64_t count, const Reader& read, bool exact) {
  GRADC_CHECK(count >= 1, "{} examples", count);
  const int64_t elements = elements_of(shape);
  if (projects()) {
    fit_components(elements, count, read);
    return prepare();
  }
  const int64_t groups = groups_of(record_.name, shape), each = elements / groups;
  const auto shapes = expected(shape);
  std::vector<double> x(static_cast<size_t>(elements));
  const auto over_all = [&](const auto& take) {
    for (int64_t i = 0; i < count; ++i) {
      read(i, x.data());
      for (int64_t g = 0; g < groups; ++g)
        for (int64_t k = g * each; k < (g + 1) * each; ++k)
          take(static_cast<size_t>(g), x[static_cast<size_t>(k)]);
    }
  };
  const auto size = static_cast<size_t>(groups);
  Range range(size);
  if (record_.name == "min_max") {
    over_all([&](size_t g, double v) { range.take(g, v); });
    const bool wide = needs_doubles(range.low, range.extents()) || needs_doubles(range.high, range.extents());
    arrays_["min"] = array_of(shapes.at("min"), range.low, wide);
    arrays_["max"] = array_of(shapes.at("max"), range.high, wide);
    return prepare();
  }
  // Two passes: the mean, then the squared deviations.
  const double n = static_cast<double>(count) * static_cast<double>(each);
  std::vector<double> mean(size), scales(size);
  over_all([&](size_t g, double v) {
    mean[g] += v;
    range.take(g, v);
  });
  for (size_t g = 0; g < size; ++g) mean[g] = range.constant(g) ? range.low[g] : mean[g] / n;
  if (shapes.count("std")) {
    over_all([&](size_t g, double v) { scales[g] += (v - mean[g]) * (v - mean[g]); });
    for (size_t g = 0; g < size; ++g)
      scales[g] = range.constant(g) ? 1 : deviation(scales[g] / n, mean[g], exact);
    arrays_["std"] = array_of(shapes.at("std"), scales);
  } else {
    scales = range.extents();
  }
  arrays_["mean"] = array_of(shapes.at("mean"), mean, needs_doubles(mean, scales));
  prepare();
}

void Normalization::fit_components(int64_t elements, int64_t count, const Reader& read) {
  const auto size = static_cast<Eigen::Index>(elements);
  Eigen::VectorXd mean = Eigen::VectorXd::Zero(size);
  Eigen::VectorXd example(size);
  for (int64_t i = 0; i < count; ++i) {
    read(i, example.data());
    mean += example;
  }
  mean /= static_cast<double>(count);
  Eigen::MatrixXd covariance = Eigen::MatrixXd::Zero(size, size), block;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    block.resize(size, static_cast<Eigen::Index>(std::min(kBlock, count - begin)));
    for (Eigen::Index i = 0; i < block.cols(); ++i) {
      read(begin + i, example.data());
      block.col(i) = example - mean;
    }
    covariance.selfadjointView<Eigen::Lower>().rankUpdate(block);
  }
  covariance /= static_cast<double>(count);
  Eigen::MatrixXd vectors;
  Eigen::VectorXd values;
  eigen(covariance, vectors, values);
  const auto kept = static_cast<Eigen::Index>(components());
  NumberArray rows{{components(), elements}, {}};
  for (Eigen::Index k = 0; k < kept; ++k)
    for (Eigen::Index i = 0; i < size; ++i) rows.values.push_back(static_cast<float>(vectors(i, k)));
  arrays_["components"] = std::move(rows);
  const bool whitens = record_.name == "whiten";
  const double eps = whitens ? std::get<double>(record_.options.at("eps")) : 0;
  std::vector<double> std;
  for (Eigen::Index k = 0; k < kept; ++k) {
    const double variance = std::max(values(whitens ? k : 0), 0.0) + eps;  // pca scales by the greatest
    std.push_back(variance > 0 ? std::sqrt(variance) : 1);
  }
  // The error that rounding the mean adds to each component.
  const Eigen::VectorXd moved =
      vectors.leftCols(kept).transpose() * (mean - mean.cast<float>().cast<double>());
  bool wide = false;
  for (Eigen::Index k = 0; k < kept; ++k) wide |= std::fabs(moved(k)) > kShift * std[static_cast<size_t>(k)];
  arrays_["mean"] = array_of({elements}, {mean.data(), mean.data() + size}, wide);
  if (whitens) arrays_["std"] = array_of({components()}, std);
}

bool Normalization::consistent(const std::map<std::string, NumberArray>& arrays) const {
  for (const auto& [name, array] : arrays)
    if (static_cast<int64_t>(array.values.size()) != elements_of(array.shape) || array.values.empty())
      return false;
  if (!projects())
    return std::all_of(arrays.begin(), arrays.end(),
                       [&](const auto& entry) { return entry.second.shape == arrays.begin()->second.shape; });
  const std::vector<int64_t>& shape = arrays.at("components").shape;
  return shape.size() == 2 && shape[0] == components() &&
         arrays.at("mean").shape == std::vector<int64_t>{shape[1]} &&
         (!arrays.count("std") || arrays.at("std").shape == std::vector<int64_t>{shape[0]});
}

void Normalization::set(std::map<std::string, NumberArray> arrays) {
  arrays_ = std::move(arrays);
  prepare();
}

void Normalization::prepare() {
  const NumberArray& offsets = arrays_.at(record_.name == "min_max" ? "min" : "mean");
  exact_offset_ = offsets.values;
  offset_.assign(exact_offset_.begin(), exact_offset_.end());
  wide_ = !offsets.are_floats();
  if (record_.name == "min_max") {
    const double low = std::get<double>(record_.options.at("low")),
                 high = std::get<double>(record_.options.at("high"));
    const std::vector<double>& most = arrays_.at("max").values;
    factor_.clear();
    for (size_t i = 0; i < most.size(); ++i) {
      const double range = most[i] - exact_offset_[i];
      factor_.push_back(static_cast<float>((high - low) / (range > 0 ? range : 1)));
    }
    shift_ = static_cast<float>(low);
    return;
  }
  factor_.assign(projects() ? static_cast<size_t>(components()) : offset_.size(), 1.0f);
  if (const auto std = arrays_.find("std"); std != arrays_.end())
    for (size_t i = 0; i < factor_.size(); ++i) factor_[i] = 1 / static_cast<float>(std->second.values[i]);
  if (!projects()) return;
  const NumberArray& rows = arrays_.at("components");
  const auto kept = static_cast<size_t>(rows.shape[0]), size = static_cast<size_t>(rows.shape[1]);
  columns_.resize(kept * size);
  for (size_t k = 0; k < kept; ++k)
    for (size_t i = 0; i < size; ++i) columns_[i * kept + k] = static_cast<float>(rows.values[k * size + i]);
}

// The difference is taken in the wider of the two types, and is a float after that.
template <class In, class Offset>
void Normalization::apply_to(const In* in, const std::vector<Offset>& offset,
                             const std::vector<int64_t>& shape, float* out) const {
  if (projects()) {
    const size_t kept = factor_.size();
    std::fill_n(out, kept, 0.0f);
    for (size_t i = 0; i < offset.size(); ++i) {
      const auto x = static_cast<float>(in[i] - offset[i]);
      const float* column = columns_.data() + i * kept;
      for (size_t k = 0; k < kept; ++k) out[k] += x * column[k];
    }
    for (size_t k = 0; k < kept; ++k) out[k] *= factor_[k];
    return;
  }
  const auto each = static_cast<size_t>(elements_of(shape)) / offset.size();
  for (size_t g = 0; g < offset.size(); ++g, in += each, out += each)
    for (size_t k = 0; k < each; ++k) out[k] = static_cast<float>(in[k] - offset[g]) * factor_[g] + shift_;
}

void Normalization::apply(const float* in, const std::vector<int64_t>& shape, float* out) const {
  wide_ ? apply_to(in, exact_offset_, shape, out) : apply_to(in, offset_, shape, out);
}

void Normalization::apply(const double* in, const std::vector<int64_t>& shape, float* out) const {
  apply_to(in, exact_offset_, shape, out);
}

Colours fit_colours(int64_t pixels, int64_t count, const std::function<void(int64_t i, float* out)>& read) {
  std::vector<float> x(static_cast<size_t>(pixels) * 3);
  Eigen::Vector3d mean = Eigen::Vector3d::Zero();
  Eigen::Matrix3d covariance = Eigen::Matrix3d::Zero();
  const auto over_all = [&](const auto& take) {
    for (int64_t i = 0; i < count; ++i) {
      read(i, x.data());
      for (size_t k = 0; k < static_cast<size_t>(pixels); ++k) {
        const auto size = static_cast<size_t>(pixels);
        take(Eigen::Vector3d(x[k], x[size + k], x[2 * size + k]));
      }
    }
  };
  const double n = static_cast<double>(pixels) * static_cast<double>(count);
  over_all([&](const Eigen::Vector3d& colour) { mean += colour; });
  mean /= n;
  over_all(
      [&](const Eigen::Vector3d& colour) { covariance += (colour - mean) * (colour - mean).transpose(); });
  Eigen::MatrixXd vectors;
  Eigen::VectorXd values;
  eigen(covariance / n, vectors, values);
  Colours result;
  for (size_t k = 0; k < 3; ++k) {
    result.values[k] = values(static_cast<Eigen::Index>(k));
    for (size_t c = 0; c < 3; ++c)
      result.vectors[c][k] = vectors(static_cast<Eigen::Index>(c), static_cast<Eigen::Index>(k));
  }
  return result;
}

}  // namespace gradc::runtime
