// `gradc stats`: the lecture's tables of activations, exact values against double precision, dead and
// saturated units, and what it says when it cannot.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/data/random_data.h"
#include "runtime/execution/safetensors.h"
#include "tests/cli/tool.h"

namespace gradc::test::stats_test {
namespace {

using Json = nlohmann::json;

const std::string kReference =
    std::string(GRADC_SOURCE_DIR) + "/../shared/reference/activation_statistics.csv";

std::vector<Json> events(const ToolResult& r) {
  std::vector<Json> result;
  for (const std::string& line : lines(r.out)) result.push_back(Json::parse(line));
  return result;
}

Json layer(const std::vector<Json>& all, const std::string& name) {
  for (const Json& e : all)
    if (e.at("event") == "layer" && e.at("name") == name) return e;
  ADD_FAILURE() << "no layer " << name;
  return {};
}

// --- the lecture's tables: ten layers of 500 units on 1000 examples of unit normal numbers

const char* const kLecture = R"(
set act = "tanh"
set std = 0.01

data noise = random(shape=[500], train=1000, batch=1000)

model net(image: f32[500]) {
    h = image
    for i in 0..10 as hidden {
        h = h |> dense(500, bias=false, init=normal(0, std))
        if act == "tanh" { h = tanh(h) } else { h = relu(h) }
    }
    return h |> dense(10, init=normal(0, 0.01)) as head
}

train {
    loss      cross_entropy(net(noise.image), noise.label)
    optimizer sgd()
}
)";

struct Variant {
  const char *activation, *weights;  // as the reference calls them
  double std;
};
const std::vector<Variant> kVariants = {{"tanh", "normal 0.01", 0.01},
                                        {"tanh", "normal 1.0", 1},
                                        {"tanh", "normal 1/sqrt(fan_in)", std::sqrt(1 / 500.)},
                                        {"relu", "normal 1/sqrt(fan_in)", std::sqrt(1 / 500.)},
                                        {"relu", "normal 1/sqrt(fan_in/2)", std::sqrt(2 / 500.)}};

double activation(const std::string& name, double x) {
  return name == "tanh" ? std::tanh(x) : std::max(x, 0.0);
}

struct Expected {
  double mean, std;
};

// What infinitely many units would show: what goes into a unit is normal with variance 500 std^2 times the
// mean square of what the layer before makes. Layer 0 is the input.
std::vector<Expected> expected(const Variant& v) {
  std::vector<Expected> result = {{0, 1}};
  double square = 1;
  for (int l = 1; l <= 10; ++l) {
    const double deviation = v.std * std::sqrt(500 * square);
    double mean = 0;
    square = 0;
    constexpr double kStep = 1e-3;
    for (double z = -9; z <= 9; z += kStep) {
      const double p = std::exp(-z * z / 2) / std::sqrt(2 * M_PI) * kStep,
                   y = activation(v.activation, deviation * z);
      mean += p * y;
      square += p * y * y;
    }
    result.push_back({mean, std::sqrt(square - mean * mean)});
  }
  return result;
}

// How far two draws of weights may lie apart, relative: the mean square of a layer is a sum of 500 units,
// whose errors go on to the next layers. ReLU's units vary more, and lose less of it.
double tolerance(const Variant& v, int l) {
  return v.activation == std::string("tanh") ? 0.02 + 0.005 * l : 0.03 + 0.05 * std::sqrt(l);
}

class LectureTable : public testing::TestWithParam<size_t> {};

TEST_P(LectureTable, IsReproduced) {
  const Variant& v = kVariants[GetParam()];
  TemporaryFolder folder;
  folder.write("net.nn", kLecture);
  const ToolResult r = run_tool({"stats", "net.nn", "--json", "--set", std::string("act=") + v.activation,
                                 "--set", "std=" + std::to_string(v.std)},
                                folder.path());
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const std::vector<Json> all = events(r);
  std::vector<Expected> found;
  for (int l = 0; l <= 10; ++l) {
    const Json e =
        layer(all, l == 0 ? "image" : "hidden." + std::to_string(l - 1) + "." + v.activation + "_1");
    ASSERT_TRUE(e.contains("value"));
    found.push_back({e["value"]["mean"], e["value"]["std"]});
    EXPECT_EQ(e["value"]["count"], 500000);
  }
  const auto compare = [&](const std::vector<Expected>& wanted, const char* with) {
    for (int l = 0; l <= 10; ++l) {
      const auto& [mean, deviation] = wanted[static_cast<size_t>(l)];
      // 2e-6: the reference's numbers have six places.
      const double off = tolerance(v, l) * deviation + 2e-6;
      EXPECT_NEAR(found[static_cast<size_t>(l)].std, deviation, off) << with << ", layer " << l;
      EXPECT_NEAR(found[static_cast<size_t>(l)].mean, mean, std::max(off, 0.01 * deviation))
          << with << ", layer " << l;
    }
  };
  compare(expected(v), "closed form");
  const Json last = layer(all, std::string("hidden.9.") + v.activation + "_1");
  const Json first = layer(all, std::string("hidden.0.") + v.activation + "_1");
  if (v.activation == std::string("tanh")) {
    // |tanh x| > 0.95 where |x| > 1.8318.
    const double share = std::erfc(1.8318 / (v.std * std::sqrt(500.)) / std::sqrt(2.));
    EXPECT_NEAR(first.at("saturated").get<double>(), share, 0.01);
    EXPECT_EQ(first.at("dead"), 0);
  } else {
    EXPECT_FALSE(first.contains("saturated"));
    EXPECT_NEAR(first["value"]["zero"].get<double>(), 0.5, 0.01);
  }
  // Values that vanish with depth let gradients vanish on the way back.
  if (v.std == 0.01) {
    EXPECT_LT(first["gradient"]["std"].get<double>(), 1e-4 * last["gradient"]["std"].get<double>());
  }
  if (std::filesystem::exists(kReference)) {
    std::vector<Expected> table;
    for (const std::string& line : lines(read_text(kReference))) {
      std::istringstream in(line);
      std::vector<std::string> cells;
      for (std::string cell; std::getline(in, cell, ',');) cells.push_back(cell);
      if (cells.size() == 5 && cells[0] == v.activation && cells[1] == v.weights)
        table.push_back({std::stod(cells[3]), std::stod(cells[4])});
    }
    ASSERT_EQ(table.size(), 11u);
    compare(table, "reference");
  } else {
    GTEST_SKIP() << kReference << " is not there: compared with the closed form alone";
  }
}

INSTANTIATE_TEST_SUITE_P(Stats, LectureTable, testing::Range(size_t{0}, kVariants.size()));

// --- against double precision, element by element

constexpr int kIn = 12, kHidden = 9, kClasses = 5, kRows = 96, kBatch = 32;

std::string small_net(const std::string& extra = "") {
  return "data noise = random(shape=[12], classes=5, train=96, test=8, batch=32)\n"
         "model net(image: f32[12]) = image |> dense(9) |> relu |> dense(9) |> sigmoid |> dense(5) as head\n"
         "train {\n    loss cross_entropy(net(noise.image), noise.label)\n    optimizer sgd()\n" +
         extra + "}\n";
}

struct Matrix {
  int rows = 0, columns = 0;
  std::vector<double> data;
  Matrix(int r, int c) : rows(r), columns(c), data(static_cast<size_t>(r) * static_cast<size_t>(c)) {}
  double& at(int r, int c) {
    return data[static_cast<size_t>(r) * static_cast<size_t>(columns) + static_cast<size_t>(c)];
  }
  double at(int r, int c) const { return const_cast<Matrix&>(*this).at(r, c); }
};

struct Layer {
  Matrix weight;
  std::vector<double> bias;
};

Layer read_layer(const runtime::TensorFile& file, const std::string& name, int out, int in) {
  Layer l{Matrix(out, in), std::vector<double>(static_cast<size_t>(out))};
  const auto copy = [&](const std::string& array, std::vector<double>& to) {
    const runtime::TensorView& view = file.tensors.at(name + array);
    std::vector<float> values(view.bytes / 4);
    std::memcpy(values.data(), view.data, view.bytes);
    to.assign(values.begin(), values.end());
  };
  copy(".weight", l.weight.data);
  copy(".bias", l.bias);
  return l;
}

Matrix forward(const Layer& l, const Matrix& x) {
  Matrix y(x.rows, l.weight.rows);
  for (int r = 0; r < x.rows; ++r)
    for (int o = 0; o < y.columns; ++o) {
      y.at(r, o) = l.bias[static_cast<size_t>(o)];
      for (int i = 0; i < x.columns; ++i) y.at(r, o) += x.at(r, i) * l.weight.at(o, i);
    }
  return y;
}

Matrix backward(const Layer& l, const Matrix& g) {
  Matrix x(g.rows, l.weight.columns);
  for (int r = 0; r < g.rows; ++r)
    for (int o = 0; o < g.columns; ++o)
      for (int i = 0; i < x.columns; ++i) x.at(r, i) += g.at(r, o) * l.weight.at(o, i);
  return x;
}

Matrix map(const Matrix& a, const Matrix& b, const std::function<double(double, double)>& f) {
  Matrix y = a;
  for (size_t i = 0; i < y.data.size(); ++i) y.data[i] = f(a.data[i], b.data[i]);
  return y;
}

void expect_summary(const Json& found, const Matrix& m, const std::string& what) {
  double mean = 0, square = 0, zeros = 0;
  const auto n = static_cast<double>(m.data.size());
  for (const double v : m.data) mean += v / n;
  for (const double v : m.data) square += (v - mean) * (v - mean) / n;
  for (const double v : m.data) zeros += v == 0;
  const double deviation = std::sqrt(square);
  const auto near = [&](const char* key, double wanted) {
    EXPECT_NEAR(found.at(key).get<double>(), wanted, 2e-5 * deviation) << what << " " << key;
  };
  near("mean", mean);
  near("std", deviation);
  near("min", *std::min_element(m.data.begin(), m.data.end()));
  near("max", *std::max_element(m.data.begin(), m.data.end()));
  EXPECT_NEAR(found.at("zero").get<double>(), zeros / n, 1e-12) << what;
  EXPECT_EQ(found.at("count").get<size_t>(), m.data.size()) << what;
  EXPECT_EQ(found.at("not_finite"), 0) << what;
  const std::vector<int64_t> counts = found.at("histogram");
  EXPECT_EQ(counts.size(), 40u);
  int64_t sum = 0;
  for (const int64_t c : counts) sum += c;
  EXPECT_EQ(sum, static_cast<int64_t>(m.data.size())) << what;
  EXPECT_GT(counts.front(), 0) << what;
  EXPECT_GT(counts.back(), 0) << what;
}

TEST(Stats, ValuesAndGradientsAreThoseOfDoublePrecision) {
  TemporaryFolder folder;
  folder.write("net.nn", small_net());
  ASSERT_EQ(run_tool({"train", "net.nn", "--steps", "5", "--save", "w.safetensors"}, folder.path()).exit_code,
            0);
  const runtime::TensorFile file = runtime::read_safetensors(folder.path("w.safetensors"));
  const Layer first = read_layer(file, "dense_1", kHidden, kIn),
              second = read_layer(file, "dense_2", kHidden, kHidden),
              head = read_layer(file, "head", kClasses, kHidden);
  const runtime::RandomExamples examples = runtime::make_random_examples(1, 0, kRows, kIn, kClasses);
  Matrix image(kRows, kIn);
  image.data.assign(examples.images.begin(), examples.images.end());
  const Matrix a = forward(first, image), b = map(a, a, [](double x, double) { return std::max(x, 0.0); });
  const Matrix c = forward(second, b), d = map(c, c, [](double x, double) { return 1 / (1 + std::exp(-x)); });
  const Matrix logits = forward(head, d);
  // Of each batch's mean loss: batches are all full, in any order.
  Matrix g(kRows, kClasses);
  for (int r = 0; r < kRows; ++r) {
    double sum = 0;
    for (int k = 0; k < kClasses; ++k) sum += std::exp(logits.at(r, k));
    for (int k = 0; k < kClasses; ++k)
      g.at(r, k) =
          (std::exp(logits.at(r, k)) / sum - (examples.labels[static_cast<size_t>(r)] == k)) / kBatch;
  }
  const Matrix gd = backward(head, g), gc = map(gd, d, [](double h, double y) { return h * y * (1 - y); });
  const Matrix gb = backward(second, gc), ga = map(gb, a, [](double h, double x) { return x > 0 ? h : 0; });
  for (const char* threads : {"1", "2"}) {
    const ToolResult r = run_tool(
        {"stats", "net.nn", "--json", "--weights", "w.safetensors", "--threads", threads}, folder.path());
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const std::vector<Json> all = events(r);
    expect_summary(layer(all, "image")["value"], image, "image");
    EXPECT_FALSE(layer(all, "image").contains("gradient"));
    const std::vector<std::tuple<const char*, const Matrix*, const Matrix*>> rows = {{"dense_1", &a, &ga},
                                                                                     {"relu_1", &b, &gb},
                                                                                     {"dense_2", &c, &gc},
                                                                                     {"sigmoid_1", &d, &gd},
                                                                                     {"head", &logits, &g}};
    for (const auto& [name, value, gradient] : rows) {
      expect_summary(layer(all, name)["value"], *value, name);
      expect_summary(layer(all, name)["gradient"], *gradient, std::string("gradient of ") + name);
    }
    EXPECT_EQ(all.back().at("examples"), kRows);
    EXPECT_EQ(all.back().at("batches"), 3);
  }
  // A step that adds up gradients gives the same.
  folder.write("sums.nn", small_net("    accumulate 3\n"));
  const std::vector<Json> sums =
      events(run_tool({"stats", "sums.nn", "--json", "--weights", "w.safetensors"}, folder.path()));
  expect_summary(layer(sums, "relu_1")["gradient"], gb, "with accumulate");
}

TEST(Stats, DeadUnitsAreThoseThatAreZeroForEveryExample) {
  TemporaryFolder folder;
  folder.write("net.nn", R"(
data noise = random(shape=[3, 8, 8], train=64, test=8, batch=32)
layer half_dead(x) {
    shift = param[4] ~ normal(0, 1)
    y = x |> conv2d(4, 3)
    z = concat([y[0..3], y[3..4] * 0 - 1])
    return relu(z + reshape(shift, [4, 1, 1]) * 0)
}
model net(image: f32[3, 8, 8]) {
    h = half_dead(image) as part
    return h |> flatten |> dense(6, init=zeros) |> relu |> dense(10) as head
}
train {
    loss      cross_entropy(net(noise.image), noise.label)
    optimizer sgd()
}
)");
  const ToolResult r = run_tool({"stats", "net.nn", "--json"}, folder.path());
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const std::vector<Json> all = events(r);
  EXPECT_EQ(layer(all, "part.relu_1").at("dead"), 0.25);  // one channel of four
  EXPECT_EQ(layer(all, "relu_1").at("dead"), 1);
  EXPECT_EQ(layer(all, "part.conv2d_1").at("dead"), 0);
  EXPECT_EQ(layer(all, "part.conv2d_1").at("shape"), Json({4, 6, 6}));
  // The instance `part` returns what its relu makes: one row of the two.
  EXPECT_EQ(
      std::count_if(all.begin(), all.end(), [](const Json& e) { return e.value("name", "") == "part"; }), 0);
  EXPECT_EQ(layer(all, "part.relu_1").at("location"), "net.nn:7:12");
}

TEST(Stats, LooksAtWhatTheModelFileCallsAndNoMore) {
  TemporaryFolder folder;
  folder.write("net.nn", R"(
data noise = random(shape=[12], train=64, test=8, batch=32)
fn both(x) = tanh(x) + relu(x)
layer inner(x, out) = x |> layernorm |> dense(out) |> both
model net(image: f32[12]) {
    h = image
    for i in 0..2 as stage { h = inner(h, 12) }
    h = h + inner(h, 12) as again
    h = inner(h, 12) reuse again
    return h |> dense(10) as head
}
train {
    loss      cross_entropy(net(noise.image), noise.label)
    predict   softmax(net(noise.image) reuse net)
    optimizer sgd()
}
)");
  const std::vector<Json> all = events(run_tool({"stats", "net.nn", "--json", "--seed", "3"}, folder.path()));
  std::vector<std::string> names;
  for (const Json& e : all)
    if (e.at("event") == "layer") names.push_back(e.at("name"));
  const std::vector<std::string> wanted = {"image",
                                           "stage.0.inner_1.layernorm_1",
                                           "stage.0.inner_1.dense_1",
                                           "stage.0.inner_1.both_1",
                                           "stage.1.inner_1.layernorm_1",
                                           "stage.1.inner_1.dense_1",
                                           "stage.1.inner_1.both_1",
                                           "again.layernorm_1",
                                           "again.dense_1",
                                           "again.both_1",
                                           "again.layernorm_1#2",
                                           "again.dense_1#2",
                                           "again.both_2",
                                           "head"};
  EXPECT_EQ(names, wanted);
  EXPECT_EQ(all.back().at("seed"), 3);

  const std::vector<Json> few = events(
      run_tool({"stats", "net.nn", "--json", "--layers", "stage.*", "--layers", "head"}, folder.path()));
  EXPECT_EQ(few.size(), 8u);
}

TEST(Stats, CountsWhatIsNotFinite) {
  TemporaryFolder folder;
  folder.write("net.nn", R"(
data noise = random(shape=[12], train=32, test=8, batch=32)
model net(image: f32[12]) = image |> dense(4) |> log |> dense(10) as head
train {
    loss      cross_entropy(net(noise.image), noise.label)
    optimizer sgd()
}
)");
  const ToolResult r = run_tool({"stats", "net.nn", "--json"}, folder.path());
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json log = layer(events(r), "log_1");
  const auto count = log["value"]["count"].get<double>(), lost = log["value"]["not_finite"].get<double>();
  EXPECT_NEAR(lost / count, 0.5, 0.25);
  EXPECT_TRUE(std::isfinite(log["value"]["mean"].get<double>()));
  EXPECT_NE(run_tool({"stats", "net.nn"}, folder.path()).out.find("not finite"), std::string::npos);
}

TEST(Stats, TextAndPageShowEachLayer) {
  TemporaryFolder folder;
  folder.write("a<b.nn", small_net());
  const ToolResult r = run_tool({"stats", "a<b.nn", "-o", "page.svg"}, folder.path());
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const std::string page = read_text(folder.path("page.svg"));
  for (const char* name : {"image", "dense_1", "relu_1", "dense_2", "sigmoid_1", "head"}) {
    EXPECT_NE(r.out.find(name), std::string::npos) << name;
    EXPECT_NE(page.find(std::string(">") + name + "<"), std::string::npos) << name;
  }
  EXPECT_NE(r.out.find("96 examples in 3 batches, initial values of seed 1"), std::string::npos) << r.out;
  EXPECT_NE(r.out.find("█"), std::string::npos);
  EXPECT_EQ(page.rfind("<svg xmlns=\"http://www.w3.org/2000/svg\"", 0), 0u);
  EXPECT_TRUE(page.ends_with("</svg>\n"));
  EXPECT_NE(page.find("a&lt;b.nn"), std::string::npos);
  EXPECT_EQ(page.find("a<b"), std::string::npos);
  EXPECT_EQ(page.find("nan"), std::string::npos);
}

TEST(Stats, SaysWhatIsWrong) {
  TemporaryFolder folder;
  folder.write("net.nn", small_net());
  folder.write("bare.nn",
               "data noise = random(shape=[12], train=32, batch=32)\n"
               "train {\n    loss sum(noise.image)\n    optimizer sgd()\n}\n");
  const auto fails = [&](std::vector<std::string> arguments, int code, const std::string& text) {
    arguments.insert(arguments.begin(), "stats");
    const ToolResult r = run_tool(arguments, folder.path());
    EXPECT_EQ(r.exit_code, code) << r.err;
    EXPECT_NE(r.err.find(text), std::string::npos) << r.err;
  };
  fails({"net.nn", "-o", "page.png"}, 2, "expected NAME.svg");
  fails({"net.nn", "-o", "no/such/page.svg"}, 1, "no/such");
  fails({"net.nn", "--layers", "dense_7"}, 2, "did you mean 'dense_1'?");
  fails({"net.nn", "--mem-limit", "1GB"}, 2, "--layers takes some");
  fails({"net.nn", "--batches", "0"}, 2, "--batches");
  fails({"net.nn", "--weights", "missing.safetensors"}, 4, "missing.safetensors");
  fails({"net.nn", "--batch", "3"}, 2, "did you mean '--batches'?");
}

}  // namespace
}  // namespace gradc::test::stats_test
