// The prelude against formulas written here in C++, evaluated by the reference interpreter in double
// precision: activations, losses, metrics, layers, initialisers, twenty steps of every optimizer, schedules
// at named steps.
#include <cmath>
#include <functional>

#include "ir/interpreter/interpreter.h"
#include "tests/frontend/helpers.h"

namespace gradc::frontend_test::prelude_test {
namespace {

using interpreter::Tensor;
using Values = std::vector<double>;

Tensor tensor(const Type& type, int64_t rows, const std::function<double(size_t)>& value) {
  Tensor t = interpreter::make_tensor(type, rows);
  for (size_t i = 0; i < t.data.size(); ++i) t.data.data()[i] = value(i);
  return t;
}
Values values(const Tensor& t) { return {t.data.data(), t.data.data() + t.data.size()}; }
void expect_near(const Values& got, const Values& wanted, double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], wanted[i], tolerance * std::max(1.0, std::abs(wanted[i]))) << what << " at " << i;
}

// Inputs that every function of x is tried on: negative and positive, no kinks.
double sample(size_t i) { return std::sin(1.7 * static_cast<double>(i) + 0.3) * 2.5; }

constexpr int64_t kRows = 4;

// What `expression` makes of rows x, f32[6], with these labels.
Values of_rows(const std::string& expression, const Values& x, const Values& labels) {
  const auto c =
      compile(experiment("model net(image: f32[1, 28, 28]) = image |> flatten |> dense(10)",
                         "x = flatten(digits.image)[0..6]; label = select(digits.label < 6, digits.label, "
                         "0); predict " +
                             expression + "; optimizer sgd()"));
  if (!c->model) {
    ADD_FAILURE() << expression << "\n" << c->diagnostics.render();
    return {};
  }
  interpreter::RunInput in;
  in.context.rows = static_cast<int64_t>(labels.size());
  const Function* f = c->model->module->function("predict");
  for (const auto& input : f->inputs)
    in.inputs[input->symbol()] = tensor(input->type, in.context.rows, [&](size_t i) {
      if (input->symbol() == "label") return labels[i];
      return i % 784 < 6 ? x[i / 784 * 6 + i % 784] : 0;
    });
  return values(interpreter::run(*f, in).outputs.at("predict"));
}

TEST(Prelude, TopKRanksEqualScoresByClassAndNaNFirst) {
  const double nan = std::nan("");
  // All equal: the k least classes are among the k greatest, as argmax takes the first.
  const Values labels = {0, 1, 2, 3, 4, 5};
  Values equal(36, 0.25);
  EXPECT_EQ(of_rows("cast(top_k(x, label, k=3), \"f32\")", equal, labels), (Values{1, 1, 1, 0, 0, 0}));
  EXPECT_EQ(of_rows("cast(top_k(x, label, k=1), \"f32\")", equal, labels),
            of_rows("cast(accuracy(x, label), \"f32\")", equal, labels));
  // Ties at the edge: of the classes 1, 2 and 3 two are among the two greatest.
  Values tied;
  for (int row = 0; row < 6; ++row) tied.insert(tied.end(), {1, 5, 5, 5, 0, 2});
  EXPECT_EQ(of_rows("cast(top_k(x, label, k=2), \"f32\")", tied, labels), (Values{0, 1, 1, 0, 0, 0}));
  EXPECT_EQ(of_rows("cast(top_k(x, label, k=5), \"f32\")", tied, labels), (Values{1, 1, 1, 1, 0, 1}));
  // A score that is NaN is before all others, and wrong where it is the label's own, for any k.
  Values broken;
  for (int row = 0; row < 6; ++row) broken.insert(broken.end(), {1, 4, nan, 3, 0, 2});
  EXPECT_EQ(of_rows("cast(top_k(x, label, k=1), \"f32\")", broken, labels), Values(6));
  EXPECT_EQ(of_rows("cast(top_k(x, label, k=2), \"f32\")", broken, labels), (Values{0, 1, 0, 0, 0, 0}));
  EXPECT_EQ(of_rows("cast(top_k(x, label, k=9), \"f32\")", broken, labels), (Values{1, 1, 0, 1, 1, 1}));
  EXPECT_EQ(of_rows("cast(top_k(x, label, k=9), \"f32\")", Values(36, nan), labels), Values(6));
  EXPECT_EQ(of_rows("cast(binary_accuracy(x[2], cast(label > 2, \"f32\")), \"f32\")", broken, labels),
            Values(6));
}

TEST(Prelude, AccuracyCountsNoExampleWithANaN) {
  const double nan = std::nan("");
  const Values labels = {0, 1, 2, 3, 4, 5};
  EXPECT_EQ(of_rows("cast(accuracy(x, label), \"f32\")", Values(36, nan), labels), Values(6));
  // The label's own score, the first or a later NaN of the row; and another class's, beside the greatest.
  const Values broken = {nan, 1, 2, 3, 4, 5, 1, nan, nan, 3, 4, 5,   nan, 1, nan, 3, 4, 5,
                         0,   1, 2, 9, 4, 5, 1, 1,   2,   3, 9, nan, 0,   1, 2,   3, 4, INFINITY};
  EXPECT_EQ(of_rows("cast(accuracy(x, label), \"f32\")", broken, labels), (Values{0, 0, 0, 1, 0, 1}));
  EXPECT_EQ(of_rows("cast(top_k(x, label, k=1), \"f32\")", broken, labels), (Values{0, 0, 0, 1, 0, 1}));
}

// The prediction of a model that ends in `expression` of x, f32[6]: the first 6 values of each image.
Values predicted(const std::string& expression) {
  const auto c =
      compile(experiment("model net(image: f32[1, 28, 28]) = image |> flatten |> dense(10)",
                         "x = flatten(digits.image)[0..6]; label = select(digits.label < 6, digits.label, "
                         "0); predict " +
                             expression + " + 0 * cast(label, \"f32\"); optimizer sgd()"));
  if (!c->model) {
    ADD_FAILURE() << expression << "\n" << c->diagnostics.render();
    return {};
  }
  interpreter::RunInput in;
  in.context.rows = kRows;
  const Function* f = c->model->module->function("predict");
  for (const auto& input : f->inputs)
    in.inputs[input->symbol()] = tensor(input->type, kRows, [&](size_t i) {
      return input->symbol() == "label" ? static_cast<double>(i % 6) : sample(i / 784 * 6 + i % 784);
    });
  return values(interpreter::run(*f, in).outputs.at("predict"));
}

void expect_elementwise(const std::string& expression, double (*formula)(double)) {
  Values wanted;
  for (size_t i = 0; i < static_cast<size_t>(kRows) * 6; ++i) wanted.push_back(formula(sample(i)));
  expect_near(predicted(expression), wanted, 1e-9, expression);
}

TEST(Prelude, Activations) {
  expect_elementwise("relu(x)", [](double x) { return x > 0 ? x : 0; });
  expect_elementwise("sigmoid(x)", [](double x) { return 1 / (1 + std::exp(-x)); });
  expect_elementwise("softplus(x)", [](double x) { return std::log(1 + std::exp(x)); });
  expect_elementwise("leaky_relu(x)", [](double x) { return x > 0 ? x : 0.01 * x; });
  expect_elementwise("leaky_relu(x, 0.2)", [](double x) { return x > 0 ? x : 0.2 * x; });
  expect_elementwise("elu(x, alpha=1.5)", [](double x) { return x > 0 ? x : 1.5 * (std::exp(x) - 1); });
  expect_elementwise("selu(x)", [](double x) {
    return 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * (std::exp(x) - 1));
  });
  expect_elementwise("silu(x)", [](double x) { return x / (1 + std::exp(-x)); });
  expect_elementwise("gelu(x)", [](double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2)); });
  expect_elementwise("gelu_tanh(x)", [](double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  });
  expect_elementwise("mish(x)", [](double x) { return x * std::tanh(std::log(1 + std::exp(x))); });
}

// A formula of one example: its 6 values and its label.
void expect_per_example(const std::string& expression,
                        const std::function<double(const Values&, size_t)>& formula,
                        double tolerance = 1e-9) {
  Values wanted;
  for (size_t r = 0; r < static_cast<size_t>(kRows); ++r) {
    Values x;
    for (size_t i = 0; i < 6; ++i) x.push_back(sample(r * 6 + i));
    wanted.push_back(formula(x, r % 6));
  }
  expect_near(predicted(expression), wanted, tolerance, expression);
}

double log_sum(const Values& x) {
  double s = 0;
  for (double v : x) s += std::exp(v);
  return std::log(s);
}
double mean_of(const Values& x, const std::function<double(double)>& f) {
  double s = 0;
  for (double v : x) s += f(v);
  return s / static_cast<double>(x.size());
}

TEST(Prelude, LossesAndMetrics) {
  expect_per_example("cross_entropy(x, label)", [](const Values& x, size_t y) { return log_sum(x) - x[y]; });
  expect_per_example("cross_entropy(x, label, label_smoothing=0.2)", [](const Values& x, size_t y) {
    return 0.8 * (log_sum(x) - x[y]) + 0.2 * (log_sum(x) - mean_of(x, [](double v) { return v; }));
  });
  expect_per_example("cross_entropy(x, one_hot(label, 6) * 0.5)",
                     [](const Values& x, size_t y) { return 0.5 * (log_sum(x) - x[y]); });
  expect_per_example("hinge(x, label)", [](const Values& x, size_t y) {
    double s = 0;
    for (size_t j = 0; j < x.size(); ++j)
      if (j != y) s += std::max(0.0, x[j] - x[y] + 1);
    return s;
  });
  expect_per_example("binary_cross_entropy(x, 1)", [](const Values& x, size_t) {
    return mean_of(x, [](double v) { return std::log(1 + std::exp(-v)); });
  });
  expect_per_example("binary_cross_entropy(x[0], label == 2)", [](const Values& x, size_t y) {
    return y == 2 ? std::log(1 + std::exp(-x[0])) : std::log(1 + std::exp(x[0]));
  });
  expect_per_example("mse(x, 0.5)", [](const Values& x, size_t) {
    return mean_of(x, [](double v) { return (v - 0.5) * (v - 0.5); });
  });
  expect_per_example("half_squared_error(x, 0.5)", [](const Values& x, size_t) {
    return 3 * mean_of(x, [](double v) { return (v - 0.5) * (v - 0.5); });
  });
  expect_per_example("mae(x, 0.5)", [](const Values& x, size_t) {
    return mean_of(x, [](double v) { return std::abs(v - 0.5); });
  });
  expect_per_example("huber(x, 0, delta=1.5)", [](const Values& x, size_t) {
    return mean_of(x, [](double v) { return std::abs(v) <= 1.5 ? v * v / 2 : 1.5 * (std::abs(v) - 0.75); });
  });
  expect_per_example("cast(accuracy(x, label), \"f32\")", [](const Values& x, size_t y) {
    return std::max_element(x.begin(), x.end()) - x.begin() == static_cast<int64_t>(y) ? 1.0 : 0.0;
  });
  expect_per_example("cast(top_k(x, label, k=3), \"f32\")", [](const Values& x, size_t y) {
    return std::count_if(x.begin(), x.end(), [&](double v) { return v > x[y]; }) < 3 ? 1.0 : 0.0;
  });
  expect_per_example("cast(binary_accuracy(x[0], cast(label == 0, \"f32\")), \"f32\")",
                     [](const Values& x, size_t y) { return (x[0] > 0) == (y == 0) ? 1.0 : 0.0; });
  expect_per_example("norm(x)", [](const Values& x, size_t) {
    return std::sqrt(6 * mean_of(x, [](double v) { return v * v; }));
  });
  expect_per_example("sum(softmax(x) * [0, 1, 2, 3, 4, 5][2])", [](const Values&, size_t) { return 2.0; });
  expect_per_example("l2(x, 0.5) + l1(x, 2) + elastic_net(x, 0.1, beta=3)", [](const Values& x, size_t) {
    const double squares = 6 * mean_of(x, [](double v) { return v * v; }),
                 sizes = 6 * mean_of(x, [](double v) { return std::abs(v); });
    return 0.25 * squares + 2 * sizes + 0.1 * (3 * squares + sizes);
  });
}

// --- layers, through @train and @eval of a small model

struct Program {
  std::unique_ptr<Compiled> compiled;
  std::map<std::string, Tensor> symbols;
  interpreter::RunResult call(const std::string& function, int64_t rows) {
    interpreter::RunInput in;
    in.context.rows = rows;
    in.context.seed = 5;
    in.symbols = symbols;
    const Function* f = compiled->model->module->function(function);
    for (const auto& input : f->inputs)
      in.inputs[input->symbol()] = tensor(input->type, rows, [&](size_t i) {
        return input->symbol() == "label" ? static_cast<double>(i % 10) : sample(i);
      });
    return interpreter::run(*f, in);
  }
};

Program start(const std::string& body, const std::string& statements = "predict logits; optimizer sgd()") {
  Program r{compile(experiment("model net(image: f32[1, 28, 28]) {\n" + body + "\n}", statements)), {}};
  EXPECT_TRUE(r.compiled->model) << r.compiled->diagnostics.render();
  if (!r.compiled->model) return r;
  interpreter::RunInput in;
  in.context.seed = 5;
  for (auto& [name, t] : interpreter::run(*r.compiled->model->module->function("init"), in).updates)
    r.symbols[name] = t;
  return r;
}

TEST(Prelude, BatchnormTrainsWithTheBatchAndPredictsWithItsStatistics) {
  Program r = start("return image |> flatten |> batchnorm(momentum=0.25) |> dense(10)");
  ASSERT_TRUE(r.compiled->model);
  const int64_t rows = 5;
  const auto result = r.call("train", rows);
  const Values mean = values(result.updates.at("batchnorm_1.running_mean")),
               var = values(result.updates.at("batchnorm_1.running_var"));
  for (size_t c : {0u, 7u, 783u}) {
    double m = 0, v = 0;
    for (size_t i = 0; i < static_cast<size_t>(rows); ++i)
      m += sample(i * 784 + c) / static_cast<double>(rows);
    for (size_t i = 0; i < static_cast<size_t>(rows); ++i)
      v += std::pow(sample(i * 784 + c) - m, 2) / static_cast<double>(rows - 1);
    EXPECT_NEAR(mean[c], 0.25 * m, 1e-9);
    EXPECT_NEAR(var[c], 0.75 + 0.25 * v, 1e-9);
  }
  // At evaluation x = 1 everywhere passes through (1 - mean) / sqrt(var + eps), whatever else is in the
  // batch.
  for (size_t i = 0; i < 784; ++i) r.symbols["batchnorm_1.running_mean"].data.data()[i] = 0.5;
  const Values one = values(r.call("predict", 1).outputs.at("predict"));
  Values wanted(10, 0.0);
  const Values w = values(r.symbols["dense_1.weight"]);
  for (size_t o = 0; o < 10; ++o)
    for (size_t i = 0; i < 784; ++i) wanted[o] += w[o * 784 + i] * (sample(i) - 0.5) / std::sqrt(1 + 1e-5);
  expect_near(one, wanted, 1e-7, "batchnorm at evaluation");
}

TEST(Prelude, BatchnormOfImagesSharesOverSpace) {
  Program r = start(
      "h = image |> conv2d(3, kernel=5, stride=2, padding=2) |> batchnorm |> global_avg_pool\nreturn h |> "
      "dense(10)");
  ASSERT_TRUE(r.compiled->model);
  EXPECT_EQ(r.symbols.at("batchnorm_1.running_mean").data.size(), 3u);
  // The mean over space and batch of what is normalised is 0: so is the pooled value's mean over the batch,
  // plus beta.
  for (size_t i = 0; i < 3; ++i) r.symbols["batchnorm_1.beta"].data.data()[i] = 1 + static_cast<double>(i);
  interpreter::RunInput in;
  in.context.rows = 6;
  in.symbols = r.symbols;
  in.keep_all = true;
  const Function* f = r.compiled->model->module->function("train");
  for (const auto& input : f->inputs)
    in.inputs[input->symbol()] =
        tensor(input->type, 6, [&](size_t i) { return input->symbol() == "label" ? 0 : sample(i * i); });
  const auto result = interpreter::run(*f, in);
  bool seen = false;
  for (const auto& [op, value] : result.values) {
    if (!op->is("batch_norm")) continue;
    seen = true;
    for (size_t c = 0; c < 3; ++c) {
      double mean = 0, square = 0;
      const size_t space = 14 * 14;
      for (size_t row = 0; row < 6; ++row)
        for (size_t i = 0; i < space; ++i) {
          const double v = value.data.data()[(row * 3 + c) * space + i];
          mean += v / 6 / static_cast<double>(space);
          square += v * v / 6 / static_cast<double>(space);
        }
      EXPECT_NEAR(mean, 1 + static_cast<double>(c), 1e-9);
      EXPECT_NEAR(square - mean * mean, 1, 1e-3);
    }
  }
  EXPECT_TRUE(seen);
}

TEST(Prelude, DropoutKeepsTheMean) {
  Program r = start("return image |> flatten |> dropout(0.25) |> dense(10)");
  interpreter::RunInput in;
  in.context.rows = 64;
  in.symbols = r.symbols;
  in.keep_all = true;
  const Function* f = r.compiled->model->module->function("train");
  for (const auto& input : f->inputs)
    in.inputs[input->symbol()] =
        tensor(input->type, 64, [&](size_t) { return input->symbol() == "label" ? 0 : 3.0; });
  const auto result = interpreter::run(*f, in);
  for (const auto& [op, value] : result.values) {
    if (!op->is("div") || value.type.shape != Shape{784}) continue;
    const Values v = values(value);
    const double zeros =
        static_cast<double>(std::count(v.begin(), v.end(), 0.0)) / static_cast<double>(v.size());
    EXPECT_NEAR(zeros, 0.25, 0.01);
    EXPECT_NEAR(mean_of(v, [](double x) { return x; }), 3.0, 0.05);
    EXPECT_TRUE(
        std::all_of(v.begin(), v.end(), [](double x) { return x == 0 || std::abs(x - 4.0) < 1e-12; }));
    return;
  }
  FAIL() << "no dropout in " << print(*f);
}

TEST(Prelude, SmallLayers) {
  {  // layernorm, prelu, maxout of known weights
    Program r = start(
        "x = flatten(image)\na = x |> layernorm\nb = x |> prelu(slope=0.5)\nreturn dense(a + b, 10) + "
        "maxout(x, 10, pieces=3)");
    EXPECT_EQ(values(r.symbols.at("prelu_1.a")), Values{0.5});
    EXPECT_EQ(r.symbols.at("maxout_1.dense_1.weight").type.shape, (Shape{30, 784}));
    for (auto& [name, t] : r.symbols)
      if (name.find("maxout") == 0 || name == "dense_1.bias") t.data *= 0.0;
    const Values got = values(r.call("predict", 1).outputs.at("predict"));
    Values x;
    for (size_t i = 0; i < 784; ++i) x.push_back(sample(i));
    const double m = mean_of(x, [](double v) { return v; });
    const double var = mean_of(x, [&](double v) { return (v - m) * (v - m); });
    const Values w = values(r.symbols["dense_1.weight"]);
    Values wanted(10, 0.0);
    for (size_t o = 0; o < 10; ++o)
      for (size_t i = 0; i < 784; ++i)
        wanted[o] += w[o * 784 + i] * ((x[i] - m) / std::sqrt(var + 1e-5) + (x[i] > 0 ? x[i] : 0.5 * x[i]));
    expect_near(got, wanted, 1e-7, "layernorm and prelu");
  }
  {  // evaluation of the random layers: the branch scaled, the noise gone, the first form of dropout scaled
    Program r = start(
        "x = flatten(image)\ny = stochastic_depth(x |> vanilla_dropout(0.25) |> gaussian_noise(0.5), 2 * x, "
        "keep=0.125)\nreturn dense(y, 10)");
    const Values got = values(r.call("predict", 1).outputs.at("predict"));
    const Values w = values(r.symbols["dense_1.weight"]);
    Values wanted(10, 0.0);
    for (size_t o = 0; o < 10; ++o)
      for (size_t i = 0; i < 784; ++i) wanted[o] += w[o * 784 + i] * (0.75 + 0.25) * sample(i);
    expect_near(got, wanted, 1e-7, "random layers at evaluation");
  }
  {  // shapes of convolutions and pools
    const auto c = compile(
        model("h = image |> conv2d(4, padding=\"same\") |> max_pool |> conv2d(8, 3, dilation=2, "
              "padding=\"same\", groups=2) |> avg_pool(3, stride=2, padding=1)\n"
              "return h |> conv2d(6, kernel=[1, 7], padding=\"valid\", bias=false) |> flatten |> dense(10)"));
    ASSERT_TRUE(c->model) << c->text();
    const std::string eval = c->function("eval");
    for (const char* type :
         {"f32[n,4,28,28]", "f32[n,4,14,14]", "f32[n,8,14,14]", "f32[n,8,7,7]", "f32[n,6,7,1]"})
      EXPECT_NE(eval.find(type), std::string::npos) << type << "\n" << eval;
  }
}

TEST(Prelude, InitialisersHaveTheirMoments) {
  struct Case {
    const char* init;
    double std;
    bool uniform;
  };
  for (const Case& k : {Case{"he_normal", std::sqrt(2.0 / 784), false},
                        {"he_uniform", std::sqrt(2.0 / 784), true},
                        {"he_normal_out", std::sqrt(2.0 / 300), false},
                        {"xavier_normal", std::sqrt(2.0 / 1084), false},
                        {"xavier_uniform", std::sqrt(2.0 / 1084), true},
                        {"lecun_normal", std::sqrt(1.0 / 784), false},
                        {"normal(0, 0.01)", 0.01, false},
                        {"uniform(-0.3, 0.3)", 0.3 / std::sqrt(3), true},
                        {"zeros", 0, true}}) {
    Program r = start("return image |> flatten |> dense(300, init=" + std::string(k.init) + ") |> dense(10)");
    const Values w = values(r.symbols.at("dense_1.weight"));
    const double m = mean_of(w, [](double v) { return v; }),
                 s = std::sqrt(mean_of(w, [&](double v) { return (v - m) * (v - m); }));
    EXPECT_NEAR(m, 0, 0.01 * k.std + 1e-12) << k.init;
    EXPECT_NEAR(s, k.std, 0.01 * k.std + 1e-12) << k.init;
    const double largest = std::abs(*std::max_element(w.begin(), w.end()));
    if (k.uniform)
      EXPECT_LE(largest, k.std * std::sqrt(3) * 1.0001) << k.init;
    else
      EXPECT_GT(largest, 3 * k.std) << k.init;
  }
  Program r = start("return image |> flatten |> dense(300, init=constant(0.5)) |> dense(10, init=ones)");
  EXPECT_EQ(values(r.symbols.at("dense_1.weight"))[17], 0.5);
  EXPECT_EQ(values(r.symbols.at("dense_2.weight"))[17], 1.0);
  EXPECT_EQ(values(r.symbols.at("dense_2.bias"))[3], 0.0);
}

// --- optimizers: twenty steps of one number with gradients that depend on it, against PyTorch's formulas

struct Trace {
  double w = 0.7, a = 0, b = 0, c = 0;  // the parameter and what the optimizer remembers
};

void expect_trace(const std::string& optimizer, const std::function<void(Trace&, double g, double t)>& step,
                  double coupled_decay = 0) {
  Program r = start("a = param[1] ~ 0.7\nreturn dense(flatten(image) * a, 10)", "optimizer " + optimizer);
  ASSERT_TRUE(r.compiled->model) << optimizer;
  const Function* f = r.compiled->model->module->function("update.a");
  Trace trace;
  for (int t = 1; t <= 20; ++t) {
    const double w = r.symbols["a"].data.data()[0];
    ASSERT_NEAR(w, trace.w, 1e-6 * std::max(1.0, std::abs(trace.w))) << optimizer << " before step " << t;
    const double g = std::cos(3 * t + w) - 0.3;
    interpreter::RunInput in;
    in.symbols = r.symbols;
    in.inputs["g"] = tensor({DType::f32, false, {1}}, 1, [&](size_t) { return g; });
    for (const auto& [name, value] :
         {std::pair<const char*, double>{"step", t - 1.0}, {"epoch", 0}, {"total", 20}, {"lr_factor", 1}})
      in.inputs[name] = tensor({DType::f64, false, {}}, 1, [&, v = value](size_t) { return v; });
    for (auto& [name, value] : interpreter::run(*f, in).updates) r.symbols[name] = value;
    step(trace, std::cos(3 * t + trace.w) - 0.3 + coupled_decay * trace.w, t);
  }
  EXPECT_GT(std::abs(trace.w - 0.7), 1e-3) << optimizer << " does not move";
}

TEST(Prelude, Optimizers) {
  expect_trace("sgd(lr=0.1)", [](Trace& s, double g, double) { s.w -= 0.1 * g; });
  expect_trace("sgd(lr=0.1, weight_decay=0.05)", [](Trace& s, double g, double) { s.w -= 0.1 * g; }, 0.05);
  const auto momentum = [](Trace& s, double g, double) {
    s.a = 0.9 * s.a + g;
    s.w -= 0.1 * s.a;
  };
  expect_trace("momentum(lr=0.1)", momentum);
  expect_trace("momentum(lr=0.1, folded=true)", momentum);  // the same while the rate is constant
  expect_trace("momentum(lr=0.1, weight_decay=0.05)", momentum, 0.05);
  expect_trace("momentum(lr=0.1, momentum=0.5, nesterov=true)", [](Trace& s, double g, double) {
    s.a = 0.5 * s.a + g;
    s.w -= 0.1 * (g + 0.5 * s.a);
  });
  expect_trace("nesterov(lr=0.1, momentum=0.8)", [](Trace& s, double g, double) {
    const double last = s.a;
    s.a = 0.8 * s.a - 0.1 * g;
    s.w += -0.8 * last + 1.8 * s.a;
  });
  expect_trace("adagrad(lr=0.1, lr_decay=0.01, first=0.5)", [](Trace& s, double g, double t) {
    if (t == 1) s.a = 0.5;
    s.a += g * g;
    s.w -= 0.1 / (1 + (t - 1) * 0.01) * g / (std::sqrt(s.a) + 1e-10);
  });
  expect_trace("rmsprop(lr=0.05)", [](Trace& s, double g, double) {
    s.a = 0.99 * s.a + 0.01 * g * g;
    s.w -= 0.05 * g / (std::sqrt(s.a) + 1e-8);
  });
  expect_trace(
      "rmsprop(lr=0.05, alpha=0.9, momentum=0.5, centered=true, weight_decay=0.1)",
      [](Trace& s, double g, double) {
        s.a = 0.9 * s.a + 0.1 * g * g;
        s.b = 0.9 * s.b + 0.1 * g;
        s.c = 0.5 * s.c + g / (std::sqrt(s.a - s.b * s.b) + 1e-8);
        s.w -= 0.05 * s.c;
      },
      0.1);
  const auto adam = [](Trace& s, double g, double t) {
    s.a = 0.9 * s.a + 0.1 * g;
    s.b = 0.999 * s.b + 0.001 * g * g;
    s.w -= 0.1 * (s.a / (1 - std::pow(0.9, t))) / (std::sqrt(s.b / (1 - std::pow(0.999, t))) + 1e-8);
  };
  expect_trace("adam(lr=0.1)", adam);
  expect_trace("adam(lr=0.1, weight_decay=0.05)", adam, 0.05);
  expect_trace("adamw(lr=0.1, weight_decay=0.2)", [&](Trace& s, double g, double t) {
    s.w -= 0.1 * 0.2 * s.w;
    adam(s, g, t);
  });
}

// --- schedules

double rate(const std::string& schedule, double step, double epoch, double total, double factor = 1) {
  Program r = start("return image |> flatten |> dense(10)", "optimizer sgd(lr=0.5); schedule " + schedule);
  if (!r.compiled->model) return NAN;
  interpreter::RunInput in;
  in.symbols = r.symbols;
  in.inputs["g"] = interpreter::make_tensor({DType::f32, false, {10}}, 1);
  for (const auto& [name, value] : {std::pair<const char*, double>{"step", step},
                                    {"epoch", epoch},
                                    {"total", total},
                                    {"lr_factor", factor}})
    in.inputs[name] = tensor({DType::f64, false, {}}, 1, [&, v = value](size_t) { return v; });
  return interpreter::run(*r.compiled->model->module->function("update.dense_1.bias"), in)
      .outputs.at("lr")
      .data.data()[0];
}

TEST(Prelude, Schedules) {
  EXPECT_DOUBLE_EQ(rate("constant_rate", 7, 3, 100, 0.25), 0.125);
  EXPECT_NEAR(rate("cosine", 0, 0, 100), 0.5, 1e-15);
  EXPECT_NEAR(rate("cosine", 50, 0, 100), 0.25, 1e-15);
  EXPECT_NEAR(rate("cosine(to=0.1)", 100, 0, 100), 0.1, 1e-15);
  EXPECT_NEAR(rate("warmup(10)", 0, 0, 100), 0.05, 1e-15);
  EXPECT_NEAR(rate("warmup(10)", 9, 0, 100), 0.5, 1e-15);
  EXPECT_NEAR(rate("linear", 25, 0, 100), 0.375, 1e-15);
  EXPECT_NEAR(rate("polynomial(power=3)", 50, 0, 100), 0.0625, 1e-15);
  EXPECT_NEAR(rate("multistep([30, 60])", 0, 29, 100), 0.5, 1e-15);
  EXPECT_NEAR(rate("multistep([30, 60])", 0, 30, 100), 0.05, 1e-15);
  EXPECT_NEAR(rate("multistep([30, 60], factor=0.5)", 0, 75, 100), 0.125, 1e-15);
  EXPECT_NEAR(rate("staircase(10, factor=0.5)", 0, 29, 100), 0.125, 1e-15);
  EXPECT_NEAR(rate("exponential(0.9)", 0, 2, 100), 0.405, 1e-15);
  EXPECT_NEAR(rate("inverse(0.5)", 0, 2, 100), 0.25, 1e-15);
  EXPECT_NEAR(rate("inverse_sqrt", 3, 0, 100), 0.25, 1e-15);
  // `then` starts the second one from step 0, with what is left of the run.
  EXPECT_NEAR(rate("warmup(20) then cosine", 19, 0, 120), 0.5, 1e-15);
  EXPECT_NEAR(rate("warmup(20) then cosine", 20, 0, 120), 0.5, 1e-15);
  EXPECT_NEAR(rate("warmup(20) then cosine", 70, 0, 120), 0.25, 1e-15);
  EXPECT_NEAR(rate("warmup(20) then hold(30) then linear", 49, 0, 150), 0.5, 1e-15);
  EXPECT_NEAR(rate("warmup(20) then hold(30) then linear", 100, 0, 150), 0.25, 1e-15);
}

}  // namespace
}  // namespace gradc::frontend_test::prelude_test
