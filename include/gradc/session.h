/* Sessions of compiled models: train, evaluate and predict with data in the caller's own memory. Plain C; no
 * function throws, exits or aborts; there is no global state but each thread's last message.
 *
 * A session holds one model's parameters, its optimizer's state and the threads that compute. Several
 * sessions may be used at once by different threads; one session is used by one thread at a time, and says so
 * when it is not.
 *
 * A batch is an array a field of the model's data: `rows` examples one after the other, row-major in the
 * shape that gradc_session_input() tells. Memory is read where it is; nothing is copied and nothing is kept.
 * More rows than the batch that was compiled are computed in pieces where that changes nothing: evaluating
 * and predicting. */
#ifndef GRADC_SESSION_H
#define GRADC_SESSION_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define GRADC_API __attribute__((visibility("default")))
#else
#define GRADC_API
#endif

/* What a call came to; the values are the exit codes of the gradc tool. */
typedef enum gradc_status {
  GRADC_OK = 0,
  GRADC_RUN_FAILED = 1,  /* memory, files, threads */
  GRADC_USAGE = 2,       /* arguments that make no sense: a null pointer, wrong sizes, a closed session */
  GRADC_MODEL_ERROR = 3, /* the model file has errors, or the model has nothing to predict */
  GRADC_DATA_ERROR = 4,  /* data or weights that do not fit the model */
  GRADC_NOT_FINITE = 5,  /* the loss was NaN or infinite; the step changed nothing */
  GRADC_INTERNAL = 70,   /* a mistake in gradc */
  GRADC_CANCELLED = 130
} gradc_status;

/* What the last call of this thread that did not return GRADC_OK has to say; never null, valid until its next
 * call. */
GRADC_API const char* gradc_last_error(void);

typedef struct gradc_image gradc_image; /* a model compiled ahead of time */
typedef struct gradc_session gradc_session;

/* A session of the program in the image that suits this processor. threads: 0 means the processors there are.
 * Its parameters are the embedded ones, if any, else the initialisers' with the model file's seed. */
GRADC_API gradc_status gradc_session_create(const gradc_image* image, int32_t threads,
                                            gradc_session** session);
/* Gives memory and threads back; every later call but destroy returns GRADC_USAGE. */
GRADC_API void gradc_session_close(gradc_session* session);
/* Closes and frees the session; null is allowed. */
GRADC_API void gradc_session_destroy(gradc_session* session);

/* First values for parameters, state and optimizer; the count of steps is 0 again. */
GRADC_API gradc_status gradc_session_initialize(gradc_session* session, uint64_t seed);

/* The result of a step or an evaluation: means over the rows. */
typedef struct gradc_result {
  double loss;
  double lr; /* the learning rate of the step; NaN otherwise */
  int32_t metric_count;
  const double* metrics; /* in the order of gradc_session_metric(); valid until the session's next call */
} gradc_result;

/* One update on `rows` examples, at most gradc_session_batch(); inputs as gradc_session_input(..,
 * GRADC_TRAIN, ..) lists them: as the model reads them. Where the model file says `normalize` or crops
 * images, the caller does so before; what was fitted stands in the weights file as data.FIELD.METHOD.*.
 * `result` may be null. */
GRADC_API gradc_status gradc_session_step(gradc_session* session, const void* const* inputs, int64_t rows,
                                          gradc_result* result);
/* Loss and metrics of any number of examples. */
GRADC_API gradc_status gradc_session_evaluate(gradc_session* session, const void* const* inputs, int64_t rows,
                                              gradc_result* result);
/* What the model says of any number of examples, rows x the output's shape, into `output` of `bytes` bytes.
 */
GRADC_API gradc_status gradc_session_predict(gradc_session* session, const void* const* inputs, int64_t rows,
                                             void* output, int64_t bytes);

/* What the schedule knows: steps done so far, the epoch (from 0), the steps of the whole training (at first
 * what the model file's epochs make of no data: 1), and a factor on the learning rate, at first 1. */
GRADC_API gradc_status gradc_session_set_progress(gradc_session* session, int64_t step, int64_t epoch,
                                                  int64_t total);
GRADC_API gradc_status gradc_session_set_lr_factor(gradc_session* session, double factor);
GRADC_API int64_t gradc_session_steps(const gradc_session* session);
GRADC_API int64_t gradc_session_batch(const gradc_session* session); /* rows of a step at most */
GRADC_API int32_t gradc_session_threads(const gradc_session* session);

typedef enum gradc_kind { GRADC_KIND_PARAMETER = 0, GRADC_KIND_STATE = 1, GRADC_KIND_SLOT = 2 } gradc_kind;
typedef enum gradc_element {
  GRADC_ELEMENT_F32 = 0,
  GRADC_ELEMENT_F64 = 1,
  GRADC_ELEMENT_I32 = 2,
  GRADC_ELEMENT_BOOL = 3
} gradc_element;
typedef enum gradc_use { GRADC_TRAIN = 0, GRADC_EVALUATE = 1, GRADC_PREDICT = 2 } gradc_use;

/* An array: a parameter, or what a call takes or gives for each example. Pointers live as long as the
 * session. */
typedef struct gradc_array {
  const char* name;
  int32_t kind;    /* gradc_kind, of parameters */
  int32_t element; /* gradc_element; a bool is one byte */
  int32_t rank;
  const int64_t* shape; /* inputs and outputs: of one example */
  int64_t bytes;        /* inputs and outputs: of one example */
} gradc_array;

/* The index-th input, metric name or tensor; GRADC_USAGE from the first index that is not there. */
GRADC_API gradc_status gradc_session_input(const gradc_session* session, gradc_use use, int32_t index,
                                           gradc_array* input);
GRADC_API gradc_status gradc_session_output(const gradc_session* session,
                                            gradc_array* output); /* of predict */
GRADC_API const char* gradc_session_metric(const gradc_session* session, gradc_use use,
                                           int32_t index); /* or null */
GRADC_API gradc_status gradc_session_tensor(const gradc_session* session, int32_t index, gradc_array* tensor);
/* Where a tensor's elements stand, row-major; to be read and written between calls. */
GRADC_API gradc_status gradc_session_tensor_data(gradc_session* session, const char* name, void** data,
                                                 gradc_array* tensor);

/* Parameters and state as safetensors. Loading all or nothing: on an error the session is as it was. */
GRADC_API gradc_status gradc_session_save(const gradc_session* session, const char* path);
GRADC_API gradc_status gradc_session_load(gradc_session* session, const char* path);

#ifdef __cplusplus
}
#endif
#endif
