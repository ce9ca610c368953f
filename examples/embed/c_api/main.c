/* The C interface: compiles a model file, trains it as the file says on arrays of this program, with a
 * callback an epoch, and predicts. Every call has a status; nothing ends the process.
 *
 * usage: c_api [MODEL.nn]    (without one: the model below) */
#include <stdio.h>
#include <stdlib.h>

#include "gradc/gradc.h"

enum { ROWS = 512, TEST_ROWS = 128 };

static const char* const model_text =
    "data flowers = arrays(batch=32, classes=3) {\n"
    "    field x:     f32[2]\n"
    "    field label: i32\n"
    "}\n"
    "model net(x: f32[2]) = x |> dense(24) |> relu |> dense(3)\n"
    "train {\n"
    "    logits    = net(flowers.x)\n"
    "    loss      cross_entropy(logits, flowers.label)\n"
    "    metric    accuracy(logits, flowers.label)\n"
    "    predict   softmax(logits)\n"
    "    optimizer adam(lr=0.02)\n"
    "    epochs    15\n"
    "    seed      1\n"
    "}\n";

/* Three clouds of points around the corners of a triangle. */
static void make_points(float* x, int32_t* label, int rows) {
  static const float corner[3][2] = {{0, 1}, {-1, -1}, {1, -1}};
  int i, k;
  for (i = 0; i < rows; ++i) {
    label[i] = i % 3;
    for (k = 0; k < 2; ++k) x[2 * i + k] = corner[i % 3][k] + 0.8f * ((float)rand() / (float)RAND_MAX - 0.5f);
  }
}

static int failed(const char* what, gradc_status status) {
  fprintf(stderr, "%s: %s\n", what, gradc_last_error());
  return status;
}

static int32_t on_epoch(void* user, const gradc_epoch_event* event) {
  const gradc_split_result* train = &event->splits[0];
  (void)user;
  if (event->epoch % 5 == 0)
    printf("epoch %d/%d  loss %.4f  accuracy %.1f%%\n", (int)event->epoch, (int)event->epochs, train->loss,
           100 * train->metrics[0]);
  return 0; /* go on */
}

int main(int argc, char** argv) {
  static float x[ROWS * 2], test_x[TEST_ROWS * 2];
  static int32_t label[ROWS], test_label[TEST_ROWS];
  gradc_model* model = NULL;
  gradc_session* session = NULL;
  gradc_diagnostics* diagnostics = NULL;
  gradc_status status;
  int good;

  status = argc > 1 ? gradc_model_compile_file(argv[1], NULL, &model, &diagnostics)
                    : gradc_model_compile_string(model_text, "flowers.nn", NULL, &model, &diagnostics);
  if (status != GRADC_OK) {
    gradc_diagnostic d;
    int32_t i;
    gradc_diagnostic_init(&d);
    for (i = 0; gradc_diagnostics_get(diagnostics, i, &d) == GRADC_OK; ++i)
      fprintf(stderr, "%s:%d:%d: %s %s%s%s\n", d.location.file ? d.location.file : "-", d.location.line,
              d.location.column, d.code, d.message, d.help_count ? "; " : "", d.help_count ? d.helps[0] : "");
    gradc_diagnostics_free(diagnostics);
    return status;
  }
  status = gradc_session_create_from_model(model, 0, &session);
  gradc_model_free(model); /* the session keeps what it needs */
  if (status != GRADC_OK) return failed("create", status);

  srand(1);
  make_points(x, label, ROWS);
  make_points(test_x, test_label, TEST_ROWS);
  {
    const int64_t rows_x_2[] = {ROWS, 2}, rows[] = {ROWS}, test_rows_x_2[] = {TEST_ROWS, 2},
                  test_rows[] = {TEST_ROWS};
    const gradc_view train_fields[] = {{"x", x, GRADC_ELEMENT_F32, 2, rows_x_2, NULL},
                                       {"label", label, GRADC_ELEMENT_I32, 1, rows, NULL}};
    const gradc_view test_fields[] = {{"x", test_x, GRADC_ELEMENT_F32, 2, test_rows_x_2, NULL},
                                      {"label", test_label, GRADC_ELEMENT_I32, 1, test_rows, NULL}};
    const gradc_split splits[] = {{"train", train_fields, 2}, {"test", test_fields, 2}};
    gradc_train_options options;
    gradc_train_result result;
    gradc_train_options_init(&options);
    options.splits = splits;
    options.split_count = 2;
    options.on_epoch = on_epoch;
    status = gradc_session_train(session, &options, &result);
    if (status != GRADC_OK) return failed("train", status);
    printf("%d steps; test loss %.4f  accuracy %.1f%%\n", (int)result.steps,
           result.splits[result.split_count - 1].loss,
           100 * result.splits[result.split_count - 1].metrics[0]);
    good = result.splits[result.split_count - 1].metrics[0] > 0.95;
  }
  {
    const float point[] = {0.9f, -0.8f};
    const void* inputs[] = {point};
    float probabilities[3];
    status = gradc_session_predict(session, inputs, 1, probabilities, sizeof probabilities);
    if (status != GRADC_OK) return failed("predict", status);
    printf("classes of (0.9, -0.8): %.3f %.3f %.3f\n", probabilities[0], probabilities[1], probabilities[2]);
  }
  gradc_session_destroy(session);
  return good ? 0 : 1;
}
