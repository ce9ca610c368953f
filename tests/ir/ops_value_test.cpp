// Values of the primitives against their definitions written out, and the rules for NaN, ties, extremes and
// empty positions.
#include <cmath>
#include <limits>
#include <numbers>

#include "support/philox.h"
#include "tests/ir/ops_tools.h"

namespace gradc::test::ops_value_test {
namespace {

using V = std::vector<double>;
const double kNaN = std::numeric_limits<double>::quiet_NaN();
const double kInf = std::numeric_limits<double>::infinity();
Tensor list(const V& v, DType d = DType::f32) {
  return tensor(plain({static_cast<int64_t>(v.size())}, d), v);
}
Tensor scalar(double v, DType d = DType::f32) { return tensor(plain({}, d), {v}); }

V unary(const char* name, const V& x, const Attributes& a = {}) { return value_of(name, {list(x)}, a); }
V unary_gradient(const char* name, const V& x) {
  return gradients_of(name, {list(x)}, list(V(x.size(), 1.0)))[0];
}

void expect_same(const V& got, const V& wanted, double tolerance = 1e-12) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(wanted[i])) {
      EXPECT_TRUE(std::isnan(got[i])) << "position " << i << ": " << got[i];
    } else if (std::isinf(wanted[i])) {
      EXPECT_EQ(got[i], wanted[i]) << "position " << i;
    } else {
      EXPECT_NEAR(got[i], wanted[i], tolerance * std::max(1.0, std::abs(wanted[i]))) << "position " << i;
    }
  }
}

TEST(OpsValue, UnaryFunctions) {
  const V x = {-1.5, -0.2, 0.3, 2};
  const auto check = [&](const char* name, const V& at, double (*f)(double)) {
    V wanted;
    for (const double v : at) wanted.push_back(f(v));
    SCOPED_TRACE(name);
    expect_same(unary(name, at), wanted);
  };
  check("neg", x, [](double v) { return -v; });
  check("exp", x, [](double v) { return std::exp(v); });
  check("expm1", x, [](double v) { return std::expm1(v); });
  check("tanh", x, [](double v) { return std::tanh(v); });
  check("sigmoid", x, [](double v) { return 1 / (1 + std::exp(-v)); });
  check("softplus", x, [](double v) { return std::log(1 + std::exp(v)); });
  check("relu", x, [](double v) { return v > 0 ? v : 0.0; });
  check("abs", x, [](double v) { return std::abs(v); });
  check("erf", x, [](double v) { return std::erf(v); });
  check("sin", x, [](double v) { return std::sin(v); });
  check("cos", x, [](double v) { return std::cos(v); });
  check("floor", {-1.5, -1, 0.99, 2}, [](double v) { return std::floor(v); });
  check("log", {0.1, 1, 7}, [](double v) { return std::log(v); });
  check("log1p", {-0.9, 1e-18, 7}, [](double v) { return std::log1p(v); });
  check("sqrt", {0, 2, 9}, [](double v) { return std::sqrt(v); });
  check("rsqrt", {0.25, 2, 9}, [](double v) { return 1 / std::sqrt(v); });
}

TEST(OpsValue, NaNPassesThroughAndTiesAreFixed) {
  expect_same(unary("relu", {kNaN, -1, 0, kInf}), {kNaN, 0, 0, kInf});
  expect_same(unary("sign", {kNaN, -3, 0, 2}), {kNaN, -1, 0, 1});
  expect_same(value_of("max", {list({kNaN, 1, 2, -kInf}), list({1, kNaN, 3, 0})}), {kNaN, kNaN, 3, 0});
  expect_same(value_of("min", {list({kNaN, 1, 2, -kInf}), list({1, kNaN, 3, 0})}), {kNaN, kNaN, 2, -kInf});
  expect_same(value_of("ne", {list({kNaN, 1}), list({kNaN, 1})}), {1, 0});
  expect_same(value_of("ge", {list({kNaN, 1}), list({kNaN, 1})}), {0, 1});
  expect_same(unary_gradient("relu", {-1, 0, 1}), {0, 0, 1});
  expect_same(unary_gradient("abs", {-1, 0, 1}), {-1, 0, 1});
  const auto g = gradients_of("max", {list({1, 2, 2}), list({2, 2, 1})}, list({1, 1, 1}));
  expect_same(g[0], {0, 0.5, 1});
  expect_same(g[1], {1, 0.5, 0});
}

TEST(OpsValue, IntegersWrapAndConvert) {
  const DType i = DType::i32;
  expect_same(value_of("add", {list({2147483647, 1}, i), list({1, 2}, i)}), {-2147483648.0, 3});
  expect_same(value_of("mul", {list({65536, 46341}, i), list({65536, 46341}, i)}), {0, -2147479015.0});
  expect_same(unary("cast", {1.9, -1.9, 0}, {{"to", std::string("i32")}}), {1, -1, 0});
  expect_same(unary("cast", {0.2, 0, kNaN}, {{"to", std::string("bool")}}), {1, 0, 1});
}

TEST(OpsValue, GradientsStayFiniteAtExtremes) {
  const V far = {-1e30, -100, 100, 1e30};
  expect_same(unary_gradient("sigmoid", far), {0, 0, 0, 0}, 1e-40);
  expect_same(unary_gradient("tanh", far), {0, 0, 0, 0}, 1e-40);
  expect_same(unary_gradient("softplus", far), {0, 0, 1, 1}, 1e-40);
  expect_same(unary_gradient("erf", far), {0, 0, 0, 0});
  expect_same(unary_gradient("expm1", {-1e30, -100}), {0, 0}, 1e-40);
  expect_same(unary("softplus", far), {0, 0, 100, 1e30}, 1e-40);
  expect_same(unary("log_softmax", {1e30, -1e30, 0}, {{"axis", integer(0)}}), {0, -2e30, -1e30});
  expect_same(
      gradients_of("log_softmax", {list({1e30, -1e30, 100})}, list({0, 1, 0}), {{"axis", integer(0)}})[0],
      {-1, 1, 0});
}

// elu written as select(x >= 0, x, expm1(x)): the branch not taken overflows, its gradient must not become 0
// * infinity.
TEST(OpsValue, AnOverflowInABranchNotTakenMakesNoNaN) {
  Function f("elu");
  Builder b(f);
  Op *x = f.add_input("x", plain({2})), *g = f.add_input("g", plain({2}));
  Op *inner = b.create("expm1", {x}), *y = b.select(b.compare("ge", x, b.constant(0)), x, inner);
  const auto branch = y->def->gradient(b, y, g);
  Op* dx = b.add(branch[1], inner->def->gradient(b, inner, branch[2])[0]);
  f.outputs = {{"dx", dx}};
  f.renumber();
  interpreter::RunInput input;
  input.inputs["x"] = list({1e30, -1});
  input.inputs["g"] = list({1, 1});
  expect_same(values(interpreter::run(f, input).outputs.at("dx")), {1, std::exp(-1)});
}

TEST(OpsValue, PowerRules) {
  expect_same(value_of("pow", {list({2, 9, -2, 0, 4}), list({3, 0.5, 3, 2, -1})}), {8, 3, -8, 0, 0.25});
  const auto g = gradients_of("pow", {list({0, 2, 0}), list({0, 0, 2})}, list({1, 1, 1}));
  expect_same(g[0], {0, 0, 0});
  expect_same(g[1], {0, std::log(2), 0});
}

TEST(OpsValue, Reductions) {
  const Tensor x = tensor(batched({2, 3}), {1, 5, 3, 5, 2, 4, -1, 0, 7, 7, 7, -9});
  const auto with = [](std::vector<int64_t> axes, bool batch) {
    return Attributes{{"axes", axes}, {"batch", batch}};
  };
  expect_same(value_of("reduce_sum", {x}, with({1}, false)), {9, 11, 6, 5});
  expect_same(value_of("reduce_sum", {x}, with({0}, true)), {12, 14, 5});
  expect_same(value_of("reduce_max", {x}, with({0, 1}, false)), {5, 7});
  expect_same(value_of("reduce_min", {x}, with({}, true)), {-1, 0, 3, 5, 2, -9});
  expect_same(value_of("reduce_max", {list({1, kNaN, 3})}, with({0}, false)), {kNaN});
}

TEST(OpsValue, ExtremumGradientsGoToTheFirst) {
  const Tensor x = tensor(batched({2, 2}), {1, 3, 3, 0, 2, 3, 1, 3});
  const auto with = [](std::vector<int64_t> axes, bool batch) {
    return Attributes{{"axes", axes}, {"batch", batch}};
  };
  const auto gradient = [&](const char* op, const Tensor& g, const Attributes& a) {
    return gradients_of(op, {x}, g, a)[0];
  };
  expect_same(gradient("reduce_max", tensor(batched({}), {10, 20}), with({0, 1}, false)),
              {0, 10, 0, 0, 0, 20, 0, 0});
  expect_same(gradient("reduce_max", scalar(10), with({0, 1}, true)), {0, 10, 0, 0, 0, 0, 0, 0});
  expect_same(gradient("reduce_max", list({10, 20}), with({0}, true)), {0, 20, 10, 0, 0, 0, 0, 0});
  expect_same(gradient("reduce_max", tensor(plain({2, 2}), {1, 2, 3, 4}), with({}, true)),
              {0, 2, 3, 0, 1, 0, 0, 4});
  expect_same(gradients_of("reduce_min", {list({4, 2, 2})}, scalar(1), with({0}, false))[0], {0, 1, 0});
  expect_same(gradients_of("reduce_max", {list({4, kNaN, kNaN})}, scalar(1), with({0}, false))[0], {0, 1, 0});
}

TEST(OpsValue, ArgmaxPickOneHot) {
  expect_same(
      value_of("argmax", {tensor(batched({3}), {1, 5, 5, kNaN, 7, kNaN, 2, 1, 0})}, {{"axis", integer(-1)}}),
      {1, 0, 0});
  const Tensor x = tensor(batched({3}), {1, 2, 3, 4, 5, 6}), at = tensor(batched({}, DType::i32), {2, 7});
  expect_same(value_of("pick", {x, at}), {3, 0});
  expect_same(gradients_of("pick", {x, at}, tensor(batched({}), {10, 20}))[0], {0, 0, 10, 0, 0, 0});
  expect_same(value_of("one_hot", {list({1, -1, 2}, DType::i32)}, {{"depth", integer(3)}}),
              {0, 1, 0, 0, 0, 0, 0, 0, 1});
}

TEST(OpsValue, BatchStatistics) {
  const Tensor x = tensor(batched({2, 1, 2}), {1, 2, 3, 4, 5, 6, 7, 8});
  const Attributes space{{"axes", ints({1, 2})}};
  expect_same(value_of("batch_mean", {x}, space), {3.5, 5.5});
  expect_same(value_of("batch_var", {x}, space), {4.25, 4.25});
  expect_same(value_of("reduce_squared_deviations", {x}, {}), {17, 17});
}

// Slow and obvious: every product of the definition, in one loop nest over all indices.
TEST(OpsValue, ConvolutionIsItsDefinition) {
  for (const OpSample& sample : find_op("conv2d")->samples) {
    OneOp one("conv2d", sample.operands, sample.attributes, sample.rows);
    one.randomize(sample, 17);
    const Tensor got = one.value();
    const Shape &x = sample.operands[0].shape, &w = sample.operands[1].shape, &y = one.op->type.shape;
    const auto get = [&](const char* name, int i) {
      return sample.attributes.integers(name)[static_cast<size_t>(i)];
    };
    const int64_t groups = sample.attributes.integer("groups"),
                  rows = sample.operands[0].batched ? sample.rows : 1;
    V wanted;
    for (int64_t n = 0; n < rows; ++n)
      for (int64_t o = 0; o < y[0]; ++o)
        for (int64_t i = 0; i < y[1]; ++i)
          for (int64_t j = 0; j < y[2]; ++j) {
            double sum = 0;
            for (int64_t c = 0; c < w[1]; ++c)
              for (int64_t p = 0; p < w[2]; ++p)
                for (int64_t q = 0; q < w[3]; ++q) {
                  const int64_t h = i * get("stride", 0) - get("padding", 0) + p * get("dilation", 0);
                  const int64_t v = j * get("stride", 1) - get("padding", 1) + q * get("dilation", 1);
                  if (h < 0 || h >= x[1] || v < 0 || v >= x[2]) continue;
                  const int64_t channel = o / (y[0] / groups) * w[1] + c;
                  sum += begin(one.operand(0))[((n * x[0] + channel) * x[1] + h) * x[2] + v] *
                         begin(one.operand(1))[((o * w[1] + c) * w[2] + p) * w[3] + q];
                }
            wanted.push_back(sum);
          }
    expect_same(values(got), wanted);
  }
}

TEST(OpsValue, PoolingIsItsDefinition) {
  for (const bool maximum : {true, false}) {
    const char* name = maximum ? "max_pool2d" : "avg_pool2d";
    for (const OpSample& sample : find_op(name)->samples) {
      OneOp one(name, sample.operands, sample.attributes, sample.rows);
      one.randomize(sample, 23);
      const Tensor got = one.value();
      const Shape &x = sample.operands[0].shape, &y = one.op->type.shape;
      const auto get = [&](const char* key, int i) {
        return sample.attributes.integers(key)[static_cast<size_t>(i)];
      };
      V wanted;
      for (int64_t plane = 0; plane < (sample.operands[0].batched ? sample.rows : 1) * y[0]; ++plane)
        for (int64_t i = 0; i < y[1]; ++i)
          for (int64_t j = 0; j < y[2]; ++j) {
            double most = -kInf, sum = 0;
            for (int64_t p = 0; p < get("window", 0); ++p)
              for (int64_t q = 0; q < get("window", 1); ++q) {
                const int64_t h = i * get("stride", 0) - get("padding", 0) + p,
                              v = j * get("stride", 1) - get("padding", 1) + q;
                if (h < 0 || h >= x[1] || v < 0 || v >= x[2]) continue;
                const double e = begin(one.operand(0))[(plane * x[1] + h) * x[2] + v];
                most = std::max(most, e);
                sum += e;
              }
            wanted.push_back(maximum ? most : sum / static_cast<double>(get("window", 0) * get("window", 1)));
          }
      expect_same(values(got), wanted);
    }
  }
}

TEST(OpsValue, MaxPoolGradientGoesToTheFirstMaximum) {
  const Tensor x = tensor(plain({1, 2, 4}), {1, 3, 0, 0, 3, 2, 0, 0});
  const auto g = gradients_of("max_pool2d", {x}, tensor(plain({1, 1, 2}), {5, 7}),
                              {{"window", ints({2, 2})}, {"stride", ints({2, 2})}});
  expect_same(g[0], {0, 5, 7, 0, 0, 0, 0, 0});
}

// The sum over all letters, one position at a time.
TEST(OpsValue, EinsumIsItsDefinition) {
  for (const OpSample& sample : find_op("einsum")->samples) {
    const std::string spec = sample.attributes.text("spec");
    SCOPED_TRACE(spec);
    OneOp one("einsum", sample.operands, sample.attributes, sample.rows);
    one.randomize(sample, 29);
    const Tensor got = one.value();
    const size_t comma = spec.find(','), arrow = spec.find("->");
    const std::string parts[] = {spec.substr(0, comma), spec.substr(comma + 1, arrow - comma - 1),
                                 spec.substr(arrow + 2)};
    std::map<char, int64_t> extent, position;
    for (int k = 0; k < 2; ++k) {
      const Type& t = sample.operands[static_cast<size_t>(k)];
      for (size_t i = 0; i < parts[k].size(); ++i) {
        extent[parts[k][i]] = t.batched ? (i == 0 ? sample.rows : t.shape[i - 1]) : t.shape[i];
      }
    }
    int64_t total = 1;
    for (const auto& [letter, e] : extent) total *= e;
    V wanted(static_cast<size_t>(count(got)), 0.0);
    for (int64_t flat = 0; flat < total; ++flat) {
      int64_t rest = flat;
      for (const auto& [letter, e] : extent) {
        position[letter] = rest % e;
        rest /= e;
      }
      int64_t index[3] = {0, 0, 0};
      for (int k = 0; k < 3; ++k) {
        for (const char c : parts[k]) index[k] = index[k] * extent[c] + position[c];
      }
      wanted[static_cast<size_t>(index[2])] +=
          begin(one.operand(0))[index[0]] * begin(one.operand(1))[index[1]];
    }
    expect_same(values(got), wanted);
  }
}

TEST(OpsValue, Indexing) {
  const Tensor x = tensor(plain({2, 3}), {1, 2, 3, 4, 5, 6});
  expect_same(value_of("transpose", {x}, {{"permutation", ints({1, 0})}}), {1, 4, 2, 5, 3, 6});
  expect_same(
      value_of("slice", {x}, {{"begin", ints({0, 0})}, {"end", ints({2, 3})}, {"step", ints({1, 2})}}),
      {1, 3, 4, 6});
  expect_same(value_of("pad", {list({1, 2})},
                       {{"low", ints({1})}, {"high", ints({2})}, {"interior", ints({1})}, {"value", 9.0}}),
              {9, 1, 9, 2, 9, 9});
  expect_same(value_of("concat", {x, tensor(plain({2, 1}), {7, 8})}, {{"axis", integer(-1)}}),
              {1, 2, 3, 7, 4, 5, 6, 8});
  expect_same(
      value_of("broadcast", {tensor(plain({2, 1}), {1, 2})}, {{"shape", ints({2, 2})}, {"batched", false}}),
      {1, 1, 2, 2});
  expect_same(value_of("iota", {}, {{"shape", ints({2, 3})}, {"axis", integer(1)}}), {0, 1, 2, 0, 1, 2});
}

// Random operators: every number from its definition, and moments of many.

Attributes random_at(Shape shape, bool is_batched, int64_t stream, Attributes own) {
  own.set("shape", std::move(shape));
  own.set("batched", is_batched);
  own.set("stream", integer(stream));
  return own;
}

TEST(OpsRandom, WordsFollowTheirPlace) {
  OneOp one("uniform", {}, random_at({3, 2}, true, 5, {}), 70);
  const auto& c = one.run_input.context;
  const V got = values(one.value());
  for (int64_t row = 0; row < 70; ++row) {
    for (int64_t e = 0; e < 6; ++e) {
      const uint32_t word = random_word(c.seed, c.micro_step, 5, static_cast<uint64_t>(row + c.row_offset),
                                        static_cast<uint64_t>(e));
      ASSERT_EQ(got[static_cast<size_t>(row * 6 + e)], uniform_from_word(word));
    }
  }
  OneOp flat("bernoulli", {}, random_at({100}, false, 6, {{"keep", 0.3}}));
  const V bits = values(flat.value());
  for (uint64_t i = 0; i < 100; ++i)
    ASSERT_EQ(bits[i] == 1, bernoulli_from_word(random_word(c.seed, c.micro_step, 6, i, 0), 0.3));
}

TEST(OpsRandom, DropoutAndItsGradientShareTheMask) {
  OneOp one("dropout", {batched({50})}, {{"keep", 0.25}, {"stream", integer(9)}}, 40);
  one.set(0, tensor(batched({50}), V(2000, 1.0)));
  one.run_input.inputs["g"] = tensor(batched({50}), V(2000, 3.0));
  const auto grads = one.op->def->gradient(one.builder, one.op, one.function.add_input("g", one.op->type));
  one.function.outputs.push_back({"d", grads[0]});
  const auto result = one.run();
  const V y = values(result.outputs.at("y")), d = values(result.outputs.at("d"));
  int kept = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    ASSERT_TRUE(y[i] == 0 || y[i] == 4);
    ASSERT_EQ(d[i], 3 * y[i]);
    kept += y[i] != 0;
  }
  EXPECT_NEAR(kept, 500, 80);  // four standard deviations
}

TEST(OpsRandom, Moments) {
  const int64_t n = 200000;
  const auto moments = [&](const char* name, const Attributes& own) {
    OneOp one(name, {}, random_at({n}, false, 3, own));
    const V x = values(one.value());
    V m(4, 0.0);
    for (const double v : x) m[0] += v / static_cast<double>(n);
    for (const double v : x) {
      const double d = v - m[0];
      m[1] += d * d / static_cast<double>(n), m[2] += d * d * d / static_cast<double>(n),
          m[3] += d * d * d * d / static_cast<double>(n);
    }
    return m;
  };
  const V u = moments("uniform", {{"low", -1.0}, {"high", 3.0}});
  EXPECT_NEAR(u[0], 1, 0.02);
  EXPECT_NEAR(u[1], 16.0 / 12, 0.02);
  const V normal = moments("normal", {{"mean", 2.0}, {"std", 3.0}});
  EXPECT_NEAR(normal[0], 2, 0.03);
  EXPECT_NEAR(normal[1], 9, 0.15);
  EXPECT_NEAR(normal[2] / 27, 0, 0.03);
  EXPECT_NEAR(normal[3] / 81, 3, 0.06);
  EXPECT_NEAR(moments("bernoulli", {{"keep", 0.9}})[0], 0.9, 0.004);
  EXPECT_NEAR(moments("bernoulli", {{"keep", 1.0}})[0], 1, 1e-9);
  EXPECT_EQ(moments("bernoulli", {{"keep", 0.0}})[1], 0);
}

}  // namespace
}  // namespace gradc::test::ops_value_test
