// The workloads that are timed against PyTorch and JAX (bench/workloads/*.nn) are the networks of those
// peers: as many parameters, the batch, the optimizer on every parameter; and their programs lower, the
// training step among them.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "frontend/frontend.h"
#include "ir/interpreter/interpreter.h"
#include "passes/pipeline.h"

namespace gradc::testing::workloads_test {
namespace {

enum class Optimizer { sgd, momentum, adam };

struct Workload {
  const char* name;
  int64_t batch;
  Shape image;         // or the length of a text
  int64_t parameters;  // elements, as PyTorch's sum(p.numel() for p in model.parameters())
  Optimizer optimizer;
  double rate;
  double decay;  // added to every gradient, times the parameter
  bool text = false;
};
void PrintTo(const Workload& w, std::ostream* out) { *out << w.name; }

// A dense layer has in x out weights and out biases; batchnorm 2 for each channel; convolutions beside
// batchnorm have no bias.
constexpr int64_t dense(int64_t in, int64_t out) { return in * out + out; }
constexpr int64_t conv_bn(int64_t in, int64_t out) { return in * out * 9 + 2 * out; }

// Of a CIFAR ResNet-20 whose shortcuts have no parameters, which the plain network shares: 464 for the stem,
// 14,016 + 51,072 + 203,520 for the stages, 650 for the classifier.
constexpr int64_t kResNet20 = conv_bn(3, 16) + 6 * conv_bn(16, 16) +   //
                              conv_bn(16, 32) + 5 * conv_bn(32, 32) +  //
                              conv_bn(32, 64) + 5 * conv_bn(64, 64) + dense(64, 10);
static_assert(kResNet20 == 269'722);
constexpr int64_t kMlp = dense(784, 512) + 2 * 512 + dense(512, 512) + 2 * 512 + dense(512, 10);
static_assert(kMlp == 671'754);
constexpr int64_t kTanh10 = 10 * dense(500, 500) + dense(500, 10);
static_assert(kTanh10 == 2'510'010);
constexpr int64_t kLeNet =
    (1 * 25 + 1) * 6 + (6 * 25 + 1) * 16 + dense(400, 120) + dense(120, 84) + dense(84, 10);
static_assert(kLeNet == 61'706);
constexpr int64_t kVgg = conv_bn(3, 64) + conv_bn(64, 64) + conv_bn(64, 128) + conv_bn(128, 128) +
                         conv_bn(128, 256) + conv_bn(256, 256) + dense(256 * 4 * 4, 10);
static_assert(kVgg == 1'187'274);
constexpr int64_t kWide = 2 * dense(4096, 4096) + dense(4096, 1000);
static_assert(kWide == 37'659'624);
constexpr int64_t kTiny = 2 * dense(64, 64) + dense(64, 10);
static_assert(kTiny == 8'970);
// Tokens and positions; four blocks of two norms, attention and a net; a norm and the classifier.
constexpr int64_t kGpt =
    256 * 128 + 128 * 128 +
    4 * (4 * 128 + dense(128, 3 * 128) + dense(128, 128) + dense(128, 512) + dense(512, 128)) + 2 * 128 +
    dense(128, 256);
static_assert(kGpt == 875'520);
// Gates of an input and a state, each with a bias.
constexpr int64_t kLstm = dense(28, 4 * 128) + dense(128, 4 * 128) + dense(128, 10);
static_assert(kLstm == 82'186);
// Depthwise (nine weights a channel) and pointwise, each before batchnorm.
constexpr int64_t separable(int64_t in, int64_t out) { return in * 9 + 2 * in + in * out + 2 * out; }
constexpr int64_t kMobile = conv_bn(3, 32) + separable(32, 64) + separable(64, 128) + separable(128, 128) +
                            separable(128, 256) + separable(256, 256) + dense(256, 10);
static_assert(kMobile == 136'778);

const std::vector<Workload>& workloads() {
  static const std::vector<Workload> table = {
      {"mlp", 128, {784}, kMlp, Optimizer::adam, 1e-3, 0},
      {"tanh10", 1000, {500}, kTanh10, Optimizer::sgd, 1e-2, 0},
      {"lenet", 64, {1, 28, 28}, kLeNet, Optimizer::momentum, 1e-2, 0},
      {"resnet20", 128, {3, 32, 32}, kResNet20, Optimizer::momentum, 0.1, 3e-4},
      {"plain20", 128, {3, 32, 32}, kResNet20, Optimizer::momentum, 0.1, 3e-4},
      {"vgg", 64, {3, 32, 32}, kVgg, Optimizer::adam, 1e-3, 0},
      {"wide", 256, {4096}, kWide, Optimizer::adam, 1e-4, 0},
      {"tiny", 32, {64}, kTiny, Optimizer::adam, 1e-3, 0},
      {"resnet20_b1", 1, {3, 32, 32}, kResNet20, Optimizer::momentum, 0.01, 3e-4},
      {"resnet20_b8", 8, {3, 32, 32}, kResNet20, Optimizer::momentum, 0.01, 3e-4},
      {"gpt", 16, {128}, kGpt, Optimizer::adam, 1e-3, 0, true},
      {"gpt_b4", 4, {128}, kGpt, Optimizer::adam, 1e-3, 0, true},
      {"lstm", 64, {28, 28}, kLstm, Optimizer::adam, 1e-3, 0},
      {"mobile", 64, {3, 32, 32}, kMobile, Optimizer::momentum, 0.05, 0},
  };
  return table;
}

// What PyTorch's optimizer takes from a parameter w at its first step, divided by the rate, for a gradient g
// and every slot at `slot`.
double torch_update(const Workload& w, double weight, double g, double slot) {
  g += w.decay * weight;
  if (w.optimizer == Optimizer::sgd) return g;
  if (w.optimizer == Optimizer::momentum) return 0.9 * slot + g;
  const double m = 0.9 * slot + 0.1 * g, v = 0.999 * slot + 0.001 * g * g;
  return m / (1 - 0.9) / (std::sqrt(v / (1 - 0.999)) + 1e-8);
}

// @update of one parameter, evaluated where the parameter is 3, its gradient 0.5 and each slot 0.25.
void expect_torch_update(const Workload& w, const Module& module, const Symbol& parameter) {
  const Function* update = module.function("update." + parameter.name);
  ASSERT_NE(update, nullptr) << parameter.name;
  const auto filled = [](const Type& type, double value) {
    interpreter::Tensor t = interpreter::make_tensor(type, 1);
    t.data.fill(value);
    return t;
  };
  interpreter::RunInput input;
  for (const auto& [name, value] :
       {std::pair{"step", 0.0}, {"epoch", 0.0}, {"total", 4.0}, {"lr_factor", 1.0}})
    input.inputs[name] = filled(Type{DType::f64, false, {}}, value);
  input.inputs["g"] = filled(parameter.type, 0.5);
  for (const auto& read : update->symbols)
    input.symbols[read->symbol()] = filled(read->type, read->symbol() == parameter.name ? 3 : 0.25);
  const interpreter::RunResult result = interpreter::run(*update, input);
  for (const double after : result.updates.at(parameter.name).data)
    ASSERT_NEAR((3 - after) / w.rate, torch_update(w, 3, 0.5, 0.25), 1e-5) << parameter.name;
}

const std::string kFolder = std::string(GRADC_SOURCE_DIR) + "/bench/workloads";

class WorkloadTest : public ::testing::TestWithParam<Workload> {};

TEST_P(WorkloadTest, IsThePeersNetworkAndLowers) {
  const Workload& w = GetParam();
  std::ifstream in(kFolder + "/" + w.name + ".nn", std::ios::binary);
  ASSERT_TRUE(in.good());
  std::stringstream text;
  text << in.rdbuf();
  SourceManager sources;
  Diagnostics diagnostics(sources);
  const std::optional<frontend::Model> model =
      frontend::compile(sources, sources.add(std::string(w.name) + ".nn", text.str()), {}, diagnostics);
  ASSERT_TRUE(model) << diagnostics.render();
  Module& module = *model->module;

  const DataRecord& data = model->experiment.data;
  EXPECT_EQ(data.source, w.text ? "text" : "random");
  EXPECT_EQ(data.batch, w.batch);
  if (w.text) {
    EXPECT_EQ(std::get<int64_t>(data.options.at("length")), w.image[0]);
  } else {
    EXPECT_EQ(std::get<std::vector<int64_t>>(data.options.at("shape")), w.image);
    // Whole batches alone: the peers' steps have no partial ones.
    EXPECT_EQ(std::get<int64_t>(data.options.at("train")), 4 * w.batch);
  }
  int64_t parameters = 0, slots = 0;
  for (const Symbol& s : module.symbols) {
    if (s.kind == SymbolKind::slot) slots += s.type.elements();
    if (s.kind != SymbolKind::parameter) continue;
    parameters += s.type.elements();
    if (s.type.elements() <= 1000)
      expect_torch_update(w, module, s);  // the interpreter is slow on large ones
  }
  EXPECT_EQ(parameters, w.parameters);
  EXPECT_EQ(slots, static_cast<int>(w.optimizer) * w.parameters);  // none, a velocity, two moments

  passes::PipelineOptions options;
  options.batch = w.batch;
  ASSERT_TRUE(passes::run_tensor_passes(module, options));
  const passes::Lowered lowered = passes::lower(module, options);
  for (const char* program : {"init", "train_step", "eval", "predict"})
    ASSERT_EQ(lowered.programs.count(program), 1u) << program;
  const passes::LoweredProgram& step = lowered.programs.at("train_step");
  EXPECT_FALSE(step.program.calls.empty());
  EXPECT_EQ(std::set<std::string>(step.inputs.begin(), step.inputs.end()),
            w.text ? (std::set<std::string>{"tokens", "next"}) : (std::set<std::string>{"image", "label"}));
  // Every parameter is trained.
  std::set<std::string> updated;
  for (const Update& update : module.function("train_step")->updates) updated.insert(update.symbol);
  for (const Symbol& s : module.symbols) EXPECT_EQ(updated.count(s.name), 1u) << s.name;
}

INSTANTIATE_TEST_SUITE_P(Workloads, WorkloadTest, ::testing::ValuesIn(workloads()),
                         [](const auto& info) { return info.param.name; });

TEST(Workloads, AllFilesAreInTheTable) {
  std::set<std::string> files, names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder))
    files.insert(entry.path().filename().string());
  for (const Workload& w : workloads()) names.insert(std::string(w.name) + ".nn");
  EXPECT_EQ(files, names);
}

}  // namespace
}  // namespace gradc::testing::workloads_test
