// Values and gradients at every kink of the operators and of the prelude, by native code, against the slopes
// that docs/language.md ("Kinks") states: PyTorch's.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <set>

#include "cli/check/native_call.h"
#include "codegen/jit.h"
#include "support/check.h"
#include "tests/cli/tool.h"

namespace gradc::test::kinks_test {
namespace {

using Numbers = std::vector<double>;

// One expression of x, whose elements are `at`: the sum of its elements, and its gradient in x.
struct Kink {
  std::string name;  // of the function
  std::string expression;
  Numbers at;
  double value;
  Numbers gradient;
};

constexpr double kSelu = 1.0507009873554805 * 1.6732632423543772;

const std::vector<Kink>& kinks() {
  static const std::vector<Kink> list = {
      // Operators.
      {"relu", "relu(x)", {0}, 0, {0}},
      {"abs", "abs(x)", {0}, 0, {0}},
      {"sign", "sign(x) * x", {0}, 0, {0}},
      {"max", "max(x, 0)", {0}, 0, {1}},  // torch.clamp(x, min=0)
      {"min", "min(x, 0)", {0}, 0, {1}},  // torch.clamp(x, max=0)
      {"min", "min(max(x, -1), 2)", {-1}, -1, {1}},
      {"min", "min(max(x, -1), 2)", {2}, 2, {1}},
      {"max", "max(0.5, x)", {0.5}, 0.5, {1}},
      {"max", "max(x[0], x[1])", {3, 3}, 3, {0.5, 0.5}},  // torch.maximum
      {"min", "min(x[0], x[1])", {3, 3}, 3, {0.5, 0.5}},
      {"max", "max(x, 3 * x)", {0}, 0, {2}},
      {"select", "select(x > 1, x, 5 * x)", {1}, 5, {5}},
      {"select", "select(x >= 1, x, 5 * x)", {1}, 1, {1}},
      {"max_over", "max_over(x, 0)", {2, 1, 2}, 2, {1, 0, 0}},
      {"min_over", "min_over(x, 0)", {2, 1, 1}, 1, {0, 1, 0}},
      {"max_pool", "max_pool(reshape(x, [1, 2, 2]), 2)", {0, 0, 0, 0}, 0, {1, 0, 0, 0}},
      {"max_pool", "max_pool(relu(reshape(x, [1, 2, 2])), 2)", {0, 0, 0, 0}, 0, {0, 0, 0, 0}},
      // Overlapping pairs of rows and columns; of equal elements the first in a row counts.
      {"fractional_max_pool",
       "fractional_max_pool(reshape(x, [1, 3, 3]), 1.5)",
       {0, 1, 0, 1, 0, 0, 0, 0, 0},
       3,
       {0, 2, 0, 1, 1, 0, 0, 0, 0}},
      {"log_softmax", "log_softmax(x)[0]", {0, 0}, -0.6931471805599453, {0.5, -0.5}},
      // Forms that are kept finite by a bound in the branch that is not taken.
      {"guard", "select(x > 0, x, expm1(min(x, 0)))", {0}, 0, {1}},
      {"guard", "select(x > 0, x * x, 2 * x + 0 * max(x, 0))", {0}, 0, {2}},
      // The prelude.
      {"leaky_relu", "leaky_relu(x)", {0}, 0, {0.01}},
      {"leaky_relu", "leaky_relu(x, 0.2)", {0}, 0, {0.2}},
      {"prelu", "prelu(x)", {0}, 0, {0.25}},
      {"elu", "elu(x)", {0}, 0, {1}},
      {"elu", "elu(x, alpha=2.0)", {0}, 0, {2}},
      {"celu", "celu(x)", {0}, 0, {1}},
      {"celu", "celu(x, alpha=2.0)", {0}, 0, {1}},
      {"selu", "selu(x)", {0}, 0, {kSelu}},
      {"relu6", "relu6(x)", {0}, 0, {0}},
      {"relu6", "relu6(x)", {6}, 6, {0}},
      {"relu6", "relu6(x)", {3}, 3, {1}},
      {"hard_tanh", "hard_tanh(x)", {-1}, -1, {0}},
      {"hard_tanh", "hard_tanh(x)", {1}, 1, {0}},
      {"hard_tanh", "hard_tanh(x, low=-2.0, high=0.5)", {0.5}, 0.5, {0}},
      {"hard_sigmoid", "hard_sigmoid(x)", {-3}, 0, {0}},
      {"hard_sigmoid", "hard_sigmoid(x)", {3}, 1, {0}},
      {"hard_sigmoid", "hard_sigmoid(x)", {0}, 0.5, {1.0 / 6}},
      {"hard_swish", "hard_swish(x)", {-3}, 0, {0}},
      {"hard_swish", "hard_swish(x)", {3}, 3, {1}},
      {"hard_swish", "hard_swish(x)", {0}, 0, {0.5}},
      {"soft_shrink", "soft_shrink(x)", {0.5}, 0, {0}},
      {"soft_shrink", "soft_shrink(x)", {-0.5}, 0, {0}},
      {"soft_shrink", "soft_shrink(x)", {0}, 0, {0}},
      {"hard_shrink", "hard_shrink(x)", {0.5}, 0, {0}},
      {"hard_shrink", "hard_shrink(x)", {-0.5}, 0, {0}},
      {"softsign", "softsign(x)", {0}, 0, {1}},
      {"gelu_tanh", "gelu_tanh(x)", {10}, 10, {1}},
      {"gelu_tanh", "gelu_tanh(x)", {-10}, 0, {0}},
      {"hinge", "hinge(x, label)", {1, 0, 1}, 1, {-1, 0, 1}},
      {"hinge", "hinge(x, label, margin=0.0)", {1, 1, 0}, 0, {0, 0, 0}},
      {"l1_loss", "l1_loss(x, 0.5)", {0.5, 1.5}, 0.5, {0, 0.5}},
      {"huber", "huber(x, 0, delta=2.0)", {2}, 2, {2}},
      {"huber", "huber(x, 0, delta=2.0)", {-2}, 2, {-2}},
      {"huber", "huber(x, 0)", {0}, 0, {0}},
      {"smooth_l1", "smooth_l1(x, 0, beta=0.5)", {0.5}, 0.25, {1}},
      {"smooth_l1", "smooth_l1(x, 0)", {0}, 0, {0}},
      {"l1", "l1(x, 0.1)", {0, 2}, 0.2, {0, 0.1}},
      {"elastic_net", "elastic_net(x, 0.1)", {0, 2}, 0.4, {0, 0.3}},
  };
  return list;
}

// One model with every expression of a slice of the image, a parameter of zeros added to it.
std::string model_of_all(size_t elements) {
  std::string body;
  size_t first = 0, number = 0;
  for (const Kink& k : kinks()) {
    const std::string x = fmt::format("x{}", number++);
    body += fmt::format("    {} = moved[{}..{}]\n", x, first, first + k.at.size());
    std::string expression = std::regex_replace(k.expression, std::regex("\\bx\\b"), x);
    body += fmt::format("    y{} = reshape(sum({}), [1])\n", number - 1, expression);
    first += k.at.size();
  }
  std::string parts;
  for (size_t i = 0; i < number; ++i) parts += fmt::format("{}y{}", i ? ", " : "", i);
  return fmt::format(
      "data d = random(shape=[{0}], classes=3, train=8, test=8, batch=8)\n"
      "model net(image: f32[{0}], label: i32) {{\n    p = param[{0}] ~ zeros\n    moved = image + p\n{1}"
      "    return concat([{2}], 0)\n}}\n"
      "train {{\n    y = net(d.image, d.label)\n    loss sum(y)\n    predict y\n    optimizer "
      "sgd(lr=0.1)\n}}\n",
      elements, body, parts);
}

class KinkSlopes : public testing::TestWithParam<const char*> {};

TEST_P(KinkSlopes, HaveTheStatedSlopes) {
  Numbers at;
  for (const Kink& k : kinks()) at.insert(at.end(), k.at.begin(), k.at.end());
  compiler::CompileRequest request;
  request.file = "kinks.nn";
  request.text = model_of_all(at.size());
  request.target = GetParam();
  request.passes.gradient_outputs = true;
  try {
    codegen::find_target(GetParam());
  } catch (const RunError& e) {  // not for this machine
    GTEST_SKIP() << e.what();
  }
  const auto compiled = std::make_unique<compiler::CompiledModel>(request);
  cli::NativeCaller caller(*compiled);
  cli::CallRequest call;
  ASSERT_EQ(caller.call("init", call), 0);
  interpreter::Tensor& image = call.inputs["image"] =
      interpreter::make_tensor({DType::f32, true, {static_cast<int64_t>(at.size())}}, 1);
  std::copy(at.begin(), at.end(), image.data.data());
  call.inputs["label"] = interpreter::make_tensor({DType::i32, true, {}}, 1);
  ASSERT_EQ(caller.call("predict", call), 0);
  const interpreter::Tensor values = caller.outputs().begin()->second;
  ASSERT_EQ(caller.call("train_step", call), 0);
  const interpreter::Tensor gradient = caller.outputs().at("grad.p");
  ASSERT_EQ(values.data.size(), kinks().size());
  size_t first = 0, number = 0;
  for (const Kink& k : kinks()) {
    const double near = 1e-6 * std::max(1.0, std::fabs(k.value));
    EXPECT_NEAR(values.data.data()[number], k.value, near) << k.expression << " at " << k.at[0];
    for (size_t i = 0; i < k.at.size(); ++i)
      EXPECT_NEAR(gradient.data.data()[first + i], k.gradient[i], 1e-6)
          << k.expression << ": element " << i << " at " << k.at[i];
    first += k.at.size();
    ++number;
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, KinkSlopes, testing::Values("x86-64-v2", "native"), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// A function of the prelude that decides has its rows above.
TEST(Kinks, AreListedForEveryFunctionOfThePreludeThatDecides) {
  std::set<std::string> listed = {
      "kl_divergence",     // decides on the target, which is data
      "class_weight",      // and on the label
      "fractional_pairs",  // of fractional_max_pool
      "maxout",            // max_over
      "batchnorm",         // on the number of examples
      "batchrenorm",       // bounds what is no longer differentiated
      "attention",         // masks by position
  };
  for (const Kink& k : kinks()) listed.insert(k.name);
  const std::regex definition(R"(^(fn|layer) (\w+)\()"),
      decides(
          R"(\b(select|min|max|abs|sign|relu|floor|relu6|hard_\w+|max_over|min_over|max_pool2d|huber)\()");
  int found = 0;
  for (const char* file : {"activations", "losses", "layers"}) {
    std::string name;
    for (const std::string& line :
         lines(read_text(GRADC_SOURCE_DIR "/frontend/prelude/" + std::string(file) + ".nn"))) {
      std::smatch m;
      std::string body = line;
      if (std::regex_search(line, m, definition)) {
        name = m[2];
        body = m.suffix();
      }
      if (line.rfind('#', 0) == 0 || !std::regex_search(body, decides)) continue;
      ++found;
      EXPECT_TRUE(listed.count(name)) << name << " in " << file << ".nn has no row: " << line;
    }
  }
  EXPECT_GT(found, 15);
}

}  // namespace
}  // namespace gradc::test::kinks_test
