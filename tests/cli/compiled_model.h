// The model that tests of `gradc compile` compile, and a C program that uses its library.
#pragma once
#include <string>

#include "tests/cli/tool.h"

namespace gradc::test {

// Batchnorm and dropout make it one with state and random numbers.
inline std::string model_to_compile() {
  std::string model = small_model("adam(lr=0.01)");
  model.replace(model.find("flatten |>"), 10, "flatten |> dense(24) |> batchnorm |> relu |> dropout(0.2) |>");
  return model;
}

// Trains, evaluates, predicts, saves and loads m.nn through m.h; prints "done", or what went wrong.
inline constexpr const char* kProgram = R"(
#include <stdio.h>
#include <string.h>
#include "m.h"

static float images[2 * M_BATCH * M_IMAGE_SIZE];
static int32_t labels[2 * M_BATCH];

#define CHECK(condition) \
  if (!(condition)) { printf("line %d: %s\n", __LINE__, gradc_last_error()); return 1; }

int main(void) {
  gradc_session *s = NULL, *other = NULL;
  gradc_result r;
  float out[2 * M_BATCH * M_PREDICT_SIZE], again[2 * M_BATCH * M_PREDICT_SIZE];
  m_parameters p;
  double first;
  int i, j;
  for (i = 0; i < 2 * M_BATCH; ++i) {
    labels[i] = i % 10;
    for (j = 0; j < M_IMAGE_SIZE; ++j) images[i * M_IMAGE_SIZE + j] = (float)(j % 10 == i % 10);
  }
  CHECK(m_create(1, &s) == GRADC_OK)
  CHECK(m_evaluate(s, images, labels, 2 * M_BATCH, &r) == GRADC_OK)
  first = r.loss;
  CHECK(first > 1 && r.metric_count == 1)
  CHECK(gradc_session_set_progress(s, 0, 0, 100) == GRADC_OK)
  for (i = 0; i < 100; ++i) CHECK(m_step(s, images, labels, M_BATCH, &r) == GRADC_OK)
  CHECK(gradc_session_steps(s) == 100)
  CHECK(m_evaluate(s, images, labels, 2 * M_BATCH, &r) == GRADC_OK)
  CHECK(r.loss < 0.1 * first && r.metrics[M_METRIC_ACCURACY] == 1)
  CHECK(m_predict(s, images, 2 * M_BATCH, out) == GRADC_OK)
  CHECK(out[0] > 0.3f && out[M_PREDICT_SIZE + 1] > 0.3f)

  /* What was saved predicts the same elsewhere, and parameters can be written. */
  CHECK(gradc_session_save(s, "c.safetensors") == GRADC_OK)
  CHECK(m_create(0, &other) == GRADC_OK)
  CHECK(gradc_session_load(other, "c.safetensors") == GRADC_OK)
  CHECK(m_predict(other, images, 2 * M_BATCH, again) == GRADC_OK)
  CHECK(memcmp(out, again, sizeof out) == 0)
  CHECK(m_get_parameters(other, &p) == GRADC_OK)
  p.dense_2_bias[3] += 1000;
  CHECK(m_predict(other, images, 2 * M_BATCH, again) == GRADC_OK)
  CHECK(again[3] == 1)

  /* Mistakes have a status and a message; nothing ends the program. */
  CHECK(m_step(s, images, labels, M_BATCH + 1, &r) == GRADC_USAGE && strstr(gradc_last_error(), "at most 32"))
  CHECK(m_step(s, NULL, labels, 1, &r) == GRADC_USAGE && strstr(gradc_last_error(), "`image`"))
  CHECK(m_step(s, images, labels, 0, &r) == GRADC_USAGE)
  CHECK(gradc_session_load(s, "none.safetensors") == GRADC_DATA_ERROR)
  CHECK(gradc_session_predict(s, NULL, 1, out, 40) == GRADC_USAGE)
  {
    const void* inputs[] = {images};
    CHECK(gradc_session_predict(s, inputs, 2, out, 79) == GRADC_USAGE && strstr(gradc_last_error(), "expected 80"))
  }
  CHECK(gradc_session_set_lr_factor(s, -1) == GRADC_USAGE)

  /* What a library without the compiler knows of a loss that is not finite. */
  {
    gradc_not_finite why;
    const float one = images[0], nothing = 0;
    gradc_not_finite_init(&why);
    CHECK(gradc_session_not_finite(s, &why) == GRADC_USAGE)
    images[0] = nothing / nothing;
    CHECK(m_step(s, images, labels, M_BATCH, &r) == GRADC_NOT_FINITE && strstr(gradc_last_error(), "gradc train"))
    CHECK(gradc_session_not_finite(s, &why) == GRADC_OK && why.step == 101 && why.batch == 0 && !why.file)
    CHECK(why.operation[0] == 0 && why.help_count == 1 && strstr(why.text, "step 101"))
    images[0] = one;
    CHECK(m_step(s, images, labels, M_BATCH, &r) == GRADC_OK)
  }
  /* Other views of images, and text of other models. */
  {
    static float seen[M_IMAGE_SIZE], mirrored[M_IMAGE_SIZE], middle[M_IMAGE_SIZE];
    const int64_t shape[] = {1, 1, 28, 28};
    const gradc_view view = {"image", images, GRADC_ELEMENT_F32, 4, shape, NULL};
    int64_t bytes = 0;
    const char* text = "";
    CHECK(gradc_session_prepare_view(s, &view, 40, 1, NULL, &bytes) == GRADC_OK && bytes == sizeof seen)
    CHECK(gradc_session_prepare_view(s, &view, 40, 2, seen, &bytes) == GRADC_OK)
    CHECK(gradc_session_prepare_view(s, &view, 40, 7, mirrored, &bytes) == GRADC_OK)
    CHECK(gradc_session_prepare_view(s, &view, 40, 0, middle, &bytes) == GRADC_OK)
    for (i = 0; i < M_IMAGE_SIZE; ++i) CHECK(seen[i] == mirrored[i / 28 * 28 + 27 - i % 28])
    CHECK(memcmp(seen, middle, sizeof seen) != 0)
    CHECK(gradc_session_prepare_view(s, &view, 40, 5, seen, &bytes) == GRADC_OK)
    CHECK(memcmp(seen, middle, sizeof seen) == 0)
    CHECK(gradc_session_prepare_view(s, &view, 40, 11, seen, &bytes) == GRADC_USAGE)
    CHECK(gradc_session_prepare_view(s, &view, 9, 0, seen, &bytes) == GRADC_USAGE)
    CHECK(gradc_session_sample(s, NULL, &text) == GRADC_MODEL_ERROR && !text)
  }
  gradc_session_close(s);
  CHECK(m_step(s, images, labels, 1, &r) == GRADC_USAGE && strstr(gradc_last_error(), "closed"))
  gradc_session_destroy(s);
  gradc_session_destroy(other);
  gradc_session_destroy(NULL);
  printf("done\n");
  return 0;
}
)";

}  // namespace gradc::test
