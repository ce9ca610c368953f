// Labels that choose nothing and batches in pieces, through the library's public headers.
#include <cmath>

#include "tests/capi/helpers.h"

namespace gradc::test::embed_labels_test {
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
  refuses(GRADC_DATA_ERROR, {"the split `train`: `label` of example 2 is -3", "expected 0 to 1"},
          [&] { session.train({.splits = {e.split()}}); });
  const Examples right(8);
  refuses(GRADC_DATA_ERROR, {"the split `val`: `label` of example 2 is -3"},
          [&] { session.train({.splits = {right.split(), e.split("val")}}); });
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

TEST(EmbedPieces, AStepDrawsAndWeighsAsTheWholeBatch) {
  const Examples e(4000);  // the last piece is not full
  for (const char* weight : {"", " weight class_weight(d.label, [1, 9])"}) {
    std::string text = product_model("arrays(batch=4096)");
    const std::string loss = "cross_entropy(logits, d.label)";
    text.insert(text.find(loss) + loss.size(), weight);
    Session whole(Model::from_string(text, "m.nn"), 1);
    Session pieces(Model::from_string(text, "m.nn", {.memory_limit = 700'000, .limit_threads = 1}), 1);
    ASSERT_TRUE(has_gradient_sums(pieces)) << "the limit made no pieces of the batch";
    EXPECT_FALSE(has_gradient_sums(whole));
    EXPECT_EQ(pieces.batch(), 4096);
    // Sums over pieces in another order: units in the last place.
    for (int step = 0; step < 3; ++step)
      EXPECT_NEAR(pieces.step({e.x, e.label}).loss, whole.step({e.x, e.label}).loss, 2e-6) << step;
    EXPECT_NEAR(pieces.evaluate({e.x, e.label}).loss, whole.evaluate({e.x, e.label}).loss, 2e-6);
    const std::vector<float> a = all_parameters(whole), b = all_parameters(pieces);
    // Adam divides by a gradient's own size, which makes its rounding larger: 3 steps of 0.02.
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-4) << i;
  }
}

}  // namespace
}  // namespace gradc::test::embed_labels_test
