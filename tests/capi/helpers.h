// What tests of the library through its public headers share: a model, its examples, and what a refusal says.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "gradc/gradc.hpp"
#include "tests/cli/tool.h"

namespace gradc::test {

using Json = nlohmann::json;

// Two classes told apart by the sign of the product of two numbers; dropout makes it one with random numbers.
inline std::string product_model(const std::string& source = "arrays(batch=32, classes=2)",
                                 const std::string& from_x = "", const std::string& from_label = "",
                                 const std::string& extra = "") {
  return "set width = 16\n"
         "data d = " +
         source +
         " {\n"
         "    field x: f32[2]" +
         from_x +
         "\n"
         "    field label: i32" +
         from_label +
         "\n"
         "}\n"
         "model net(x: f32[2]) = x |> dense(width) |> tanh |> dropout(0.1) |> dense(2)\n"
         "train {\n"
         "    logits    = net(d.x)\n"
         "    loss      cross_entropy(logits, d.label)\n"
         "    metric    accuracy(logits, d.label)\n"
         "    predict   softmax(logits)\n"
         "    optimizer adam(lr=0.02)\n"
         "    schedule  cosine\n"
         "    epochs    4\n"
         "    seed      3\n" +
         extra + "}\n";
}

struct Examples {
  explicit Examples(int rows) {
    for (int i = 0; i < rows; ++i) {
      x.push_back(std::sin(1.7f * static_cast<float>(i)));
      x.push_back(std::cos(0.9f * static_cast<float>(i)));
      label.push_back(x[x.size() - 2] * x.back() > 0 ? 1 : 0);
    }
  }
  Split split(const std::string& name = "train") const {
    return {name, {View("x", x), View("label", label)}};
  }
  std::vector<float> x;
  std::vector<int32_t> label;
};

// What `call` throws: its status, and all texts in its message.
template <class F>
void refuses(gradc_status status, const std::vector<std::string>& texts, F&& call) {
  try {
    call();
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), status) << error.what();
    for (const std::string& text : texts)
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << text << "\n" << error.what();
  }
}

inline std::vector<float> all_parameters(Session& session) {
  std::vector<float> all;
  for (const Array& a : session.tensors())
    if (a.kind == GRADC_KIND_PARAMETER)
      for (const float value : session.tensor(a.name)) all.push_back(value);
  return all;
}

// Whether an update takes several calls, whose gradients add up: batches in pieces, or `accumulate`.
inline bool has_gradient_sums(Session& session) {
  for (const Array& a : session.tensors())
    if (a.kind == GRADC_KIND_GRADIENT) return true;
  return false;
}

inline Json last_event(const ToolResult& r) {
  EXPECT_EQ(r.exit_code, 0) << r.err;
  const auto all = lines(r.out);
  return all.empty() ? Json() : Json::parse(all.back());
}

// The C interface's view of examples as the split `train`, and options of a training on them.
struct TrainOnC {
  explicit TrainOnC(const Examples& e) {
    rows[0] = shape[0] = static_cast<int64_t>(e.label.size());
    fields[0] = {"x", e.x.data(), GRADC_ELEMENT_F32, 2, shape, nullptr};
    fields[1] = {"label", e.label.data(), GRADC_ELEMENT_I32, 1, rows, nullptr};
    gradc_train_options_init(&options);
    options.splits = &split;
    options.split_count = 1;
  }
  TrainOnC(const TrainOnC&) = delete;
  int64_t rows[1] = {}, shape[2] = {0, 2};
  gradc_view fields[2] = {};
  gradc_split split = {"train", fields, 2};
  gradc_train_options options;
};

}  // namespace gradc::test
