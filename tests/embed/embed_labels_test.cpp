// Labels that choose nothing and batches in pieces, through the library's public headers.
#include <cmath>

#include "tests/embed/helpers.h"

namespace gradc::test {
namespace {

TEST(EmbedLabels, OutsideTheScoresAreRefusedInEveryCall) {
  Examples e(8);
  // Without `classes` the model knows nothing of labels but that it has two scores.
  Session session(Model::from_string(product_model("arrays(batch=8)"), "m.nn"));
  const std::vector<float> before = all_parameters(session);
  e.label[2] = -3;
  e.label[5] = 7;
  const std::vector<std::string> texts = {"`label` of row 2 is -3", "expected 0 to 1",
                                          "`cross_entropy` at m.nn:"};
  refuses(GRADC_DATA_ERROR, texts, [&] { session.step({e.x, e.label}); });
  refuses(GRADC_DATA_ERROR, texts, [&] { session.evaluate({e.x, e.label}); });
  refuses(GRADC_DATA_ERROR, {"the part `train`: `label` of example 2 is -3", "expected 0 to 1"},
          [&] { session.train({.parts = {e.part()}}); });
  const Examples right(8);
  refuses(GRADC_DATA_ERROR, {"the part `val`: `label` of example 2 is -3"},
          [&] { session.train({.parts = {right.part(), e.part("val")}}); });
  EXPECT_EQ(session.steps(), 0);
  EXPECT_EQ(all_parameters(session), before);
  session.predict({e.x});  // reads none
  session.step({right.x, right.label});
}

TEST(EmbedLabels, FromC) {
  const Examples e(8);
  gradc_session* session = nullptr;
  gradc_model* model = nullptr;
  ASSERT_EQ(
      gradc_model_compile_string(product_model("arrays(batch=8)").c_str(), "m.nn", nullptr, &model, nullptr),
      GRADC_OK);
  ASSERT_EQ(gradc_session_create_from_model(model, 1, &session), GRADC_OK);
  std::vector<int32_t> label = e.label;
  label[7] = 2;
  const void* inputs[] = {e.x.data(), label.data()};
  EXPECT_EQ(gradc_session_step(session, inputs, 8, nullptr), GRADC_DATA_ERROR);
  EXPECT_NE(std::string(gradc_last_error()).find("`label` of row 7 is 2"), std::string::npos)
      << gradc_last_error();
  EXPECT_EQ(gradc_session_evaluate(session, inputs, 8, nullptr), GRADC_DATA_ERROR);
  EXPECT_EQ(gradc_session_step(session, inputs, 7, nullptr), GRADC_OK) << gradc_last_error();
  gradc_session_destroy(session);
  gradc_model_free(model);
}

// A model whose activations are most of its memory.
std::string wide_model(const std::string& more) {
  return "data d = arrays(batch=64) {\n    field x: f32[64]\n    field label: i32\n}\n"
         "model net(x: f32[64]) = x |> dense(96) |> tanh |> dropout(0.5) |> dense(96) |> tanh |> "
         "dropout(0.5) |> "
         "dense(3)\n"
         "train {\n    z = net(d.x)\n    loss cross_entropy(z, d.label)" +
         more + "\n    optimizer sgd(lr=0.1)\n}\n";
}

TEST(EmbedPieces, AStepDrawsAndWeighsAsTheWholeBatch) {
  std::vector<float> x;
  std::vector<int32_t> label;
  for (int i = 0; i < 60; ++i) {
    for (int k = 0; k < 64; ++k) x.push_back(std::sin(0.37f * static_cast<float>(i * 64 + k)));
    label.push_back(i < 30 ? i % 2 : i % 3);
  }
  const View examples(x.data(), {60, 64});
  for (const char* weight : {"", " weight class_weight(d.label, [1, 9, 2])"}) {
    const std::string text = wide_model(weight);
    Session whole(Model::from_string(text), 1);
    // The largest limit that takes pieces: they are the last resort, so it is searched for from above.
    std::optional<Session> pieces;
    for (int64_t limit = 400'000; limit > 100'000 && !pieces; limit -= 20'000) {
      try {
        Session tried(Model::from_string(text, "m.nn", {.memory_limit = limit, .limit_threads = 1}), 1);
        bool adds_up = false;
        for (const Array& a : tried.tensors()) adds_up = adds_up || a.kind == GRADC_KIND_GRADIENT;
        if (adds_up) pieces.emplace(std::move(tried));
      } catch (const Error& error) {
        break;
      }
    }
    ASSERT_TRUE(pieces) << "no limit made pieces of the batch";
    EXPECT_EQ(pieces->batch(), 64);
    for (int step = 0; step < 3; ++step)
      // Sums over pieces in another order: units in the last place.
      EXPECT_NEAR(pieces->step({examples, label}).loss, whole.step({examples, label}).loss, 2e-6) << step;
    const std::vector<float> a = all_parameters(whole), b = all_parameters(*pieces);
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-6) << i;
  }
}

}  // namespace
}  // namespace gradc::test
