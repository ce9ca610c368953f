/* Sessions of compiled models: train, evaluate and predict with data in the caller's own memory. Plain C; no
 * function throws, exits or aborts; there is no global state but each thread's last message, and neither the
 * environment nor signals are read or changed.
 *
 * A session holds one model's parameters, its optimizer's state and the threads that compute. Several
 * sessions may be used at once by different threads; one session is used by one thread at a time, and a call
 * by another thread meanwhile returns GRADC_USAGE. Any thread may call gradc_session_cancel(),
 * gradc_session_close() and the functions that only describe a model at any time.
 *
 * A batch is one array per field of the model's data: `rows` consecutive examples, row-major in the shape
 * that gradc_session_input() returns. Arrays are read where they are; nothing is copied and nothing is kept.
 * Evaluation and prediction compute more rows than the compiled batch as several batches, which does not
 * change their results. */
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

/* The result of a call; the values are the exit codes of the gradc tool. */
typedef enum gradc_status {
  GRADC_OK = 0,
  GRADC_RUN_FAILED = 1,  /* memory, files, threads */
  GRADC_USAGE = 2,       /* arguments that make no sense: a null pointer, wrong sizes, a closed session */
  GRADC_MODEL_ERROR = 3, /* the model file has errors, or the model has nothing to predict */
  GRADC_DATA_ERROR = 4,  /* data or weights that do not fit the model */
  GRADC_NOT_FINITE = 5,  /* a loss, or parameters and state, were NaN or infinite: see
                            gradc_session_not_finite() */
  GRADC_INTERNAL = 70,   /* a bug in gradc */
  GRADC_CANCELLED = 130
} gradc_status;

/* The message of this thread's last call that did not return GRADC_OK; never null, valid until the thread's
 * next call. */
GRADC_API const char* gradc_last_error(void);

typedef struct gradc_image gradc_image; /* a bundle: a model compiled ahead of time */
typedef struct gradc_session gradc_session;

/* Creates a session of the program in the bundle `image` that fits this processor. threads: 0 means the
 * processors that the process may use; no more are started than make the model faster, and results are the
 * same for any number. The parameters are the embedded ones, if any, else the initial values with the model
 * file's seed. */
GRADC_API gradc_status gradc_session_create(const gradc_image* image, int32_t threads,
                                            gradc_session** session);
/* Cancels the call that another thread is in, waits until it ends, and frees memory and threads; every later
 * call but destroy returns GRADC_USAGE. In a callback of the session: as soon as the call that made the
 * callback ends. Null is allowed. */
GRADC_API void gradc_session_close(gradc_session* session);
/* Closes and frees the session; null is allowed. No other thread may use the session from then on. */
GRADC_API void gradc_session_destroy(gradc_session* session);
/* Makes the call in progress (training, evaluating, predicting) end soon, with GRADC_CANCELLED. A step is
 * completed first; without a call in progress nothing happens. */
GRADC_API void gradc_session_cancel(gradc_session* session);

/* Sets parameters, state and optimizer to initial values, and the count of steps to 0. */
GRADC_API gradc_status gradc_session_initialize(gradc_session* session, uint64_t seed);

/* The result of a step or an evaluation: means over the rows. */
typedef struct gradc_result {
  double loss;
  double lr; /* the learning rate of the step; NaN otherwise */
  int32_t metric_count;
  const double* metrics; /* in the order of gradc_session_metric(); valid until the session's next call */
} gradc_result;

/* One update on `rows` examples, at most gradc_session_batch(); inputs as gradc_session_input(..,
 * GRADC_TRAIN, ..) lists them, in the form that the model reads. Where the model file says `normalize` or
 * crops images, see gradc_session_prepare(). `result` may be null.
 * Every step checks its loss: if it is not finite, the step returns GRADC_NOT_FINITE and changes nothing. No
 * step checks its update. Parameters, state, the optimizer's state and averages are checked once after the
 * last update, when gradc_session_evaluate(), _predict() or _sample() first uses them, which then returns
 * GRADC_NOT_FINITE with the first array's name. Not checked are floats of `inputs`, values that the caller
 * writes to gradc_session_tensor_data() and values that gradc_session_load() reads; they show in losses and
 * predictions. gradc_session_save() checks all that it writes. gradc_session_train() checks updates too, see
 * there. */
GRADC_API gradc_status gradc_session_step(gradc_session* session, const void* const* inputs, int64_t rows,
                                          gradc_result* result);
/* The values of an array. */
typedef struct gradc_range {
  const char* name;                    /* of an operand: "%5 sub", "parameter head.weight"; else empty */
  double low, high;                    /* of its finite values; NaN where it has none */
  int64_t elements, nan, above, below; /* how many: in all, NaN, +infinity and -infinity */
} gradc_range;

/* The cause of a loss, update, parameter or state that is not finite. Initialise it with
 * gradc_not_finite_init(). Texts are never null but `file`; pointers live until the session's next step or
 * training. */
typedef struct gradc_not_finite {
  uint32_t size;              /* of this struct, as the caller was compiled */
  int32_t line, column;       /* in `file`, from 1; 0: not known */
  int64_t step, epoch, batch; /* from 1; batch 0: the caller's own, of gradc_session_step() */
  const char* text;           /* the whole report as text of several lines, with the source line */
  const char* operation; /* that computed the first value that is not finite: "log"; "parameter" or "input"
                            when that was not finite already; empty: not known */
  const char* name;      /* "%6" in the IR, or the parameter's or input's name */
  const char* type;      /* "f32[n,10]" */
  const char* file;      /* of the user's location; null: none */
  gradc_range result;    /* of the operation */
  int32_t operand_count;
  const gradc_range* operands; /* each finite */
  int32_t note_count;          /* the layers and calls that lead to the location */
  const char* const* notes;
  int32_t help_count; /* what to try */
  const char* const* helps;
} gradc_not_finite;

static inline void gradc_not_finite_init(gradc_not_finite* report) {
  const gradc_not_finite none = {sizeof(gradc_not_finite), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                 {0, 0, 0, 0, 0, 0, 0},    0, 0, 0, 0, 0, 0};
  *report = none;
}

/* After a call that returned GRADC_NOT_FINITE: where the first value that is not finite was computed. The
 * failed call replays its step and checks every value before it returns; other calls have no such cost. A
 * model compiled ahead of time cannot be replayed: its report has the step, epoch and batch alone. Of
 * parameters that gradc_session_step() made non-finite, the report has the first. GRADC_USAGE when the
 * session's last step was finite. */
GRADC_API gradc_status gradc_session_not_finite(const gradc_session* session, gradc_not_finite* report);

/* Loss and metrics of any number of examples. */
GRADC_API gradc_status gradc_session_evaluate(gradc_session* session, const void* const* inputs, int64_t rows,
                                              gradc_result* result);
/* The model's predictions for any number of examples, rows x the output's shape, into `output` of `bytes`
 * bytes. */
GRADC_API gradc_status gradc_session_predict(gradc_session* session, const void* const* inputs, int64_t rows,
                                             void* output, int64_t bytes);

/* The inputs of the schedule: steps done so far, the epoch (from 0), the steps of the whole training (1 until
 * they are set or known from training), and a factor on the learning rate, initially 1. */
GRADC_API gradc_status gradc_session_set_progress(gradc_session* session, int64_t step, int64_t epoch,
                                                  int64_t total);
GRADC_API gradc_status gradc_session_set_lr_factor(gradc_session* session, double factor);
GRADC_API int64_t gradc_session_steps(const gradc_session* session);
GRADC_API int64_t gradc_session_batch(const gradc_session* session); /* rows of a step at most */
GRADC_API int32_t gradc_session_threads(const gradc_session* session);

typedef enum gradc_kind {
  GRADC_KIND_PARAMETER = 0,
  GRADC_KIND_STATE = 1,    /* running statistics */
  GRADC_KIND_SLOT = 2,     /* an optimizer's state for one parameter */
  GRADC_KIND_AVERAGE = 3,  /* a parameter's moving average, which evaluation and prediction read instead */
  GRADC_KIND_GRADIENT = 4, /* accumulated gradients of an update of several batches */
  GRADC_KIND_WEIGHTS = 5   /* accumulated weights of their examples */
} gradc_kind;
typedef enum gradc_element {
  GRADC_ELEMENT_F32 = 0,
  GRADC_ELEMENT_F64 = 1,
  GRADC_ELEMENT_I32 = 2,
  GRADC_ELEMENT_BOOL = 3,
  GRADC_ELEMENT_U8 = 4 /* training data only, for fields of f32: read as value / 255 */
} gradc_element;
typedef enum gradc_use { GRADC_TRAIN = 0, GRADC_EVALUATE = 1, GRADC_PREDICT = 2 } gradc_use;

/* An array: a parameter, or an input or output of each example. Pointers live as long as the session. */
typedef struct gradc_array {
  const char* name;
  int32_t kind;    /* gradc_kind, of parameters */
  int32_t element; /* gradc_element; a bool is one byte */
  int32_t rank;
  const int64_t* shape; /* inputs and outputs: of one example */
  int64_t bytes;        /* inputs and outputs: of one example */
} gradc_array;

/* The index-th input, metric name or tensor; GRADC_USAGE for an index that does not exist. */
GRADC_API gradc_status gradc_session_input(const gradc_session* session, gradc_use use, int32_t index,
                                           gradc_array* input);
GRADC_API gradc_status gradc_session_output(const gradc_session* session,
                                            gradc_array* output); /* of predict */
GRADC_API const char* gradc_session_metric(const gradc_session* session, gradc_use use,
                                           int32_t index); /* or null */
GRADC_API gradc_status gradc_session_tensor(const gradc_session* session, int32_t index, gradc_array* tensor);
/* The address of a tensor's elements, row-major, which may be read and written between calls. */
GRADC_API gradc_status gradc_session_tensor_data(gradc_session* session, const char* name, void** data,
                                                 gradc_array* tensor);

/* An array of the caller with its name, element type and shape. */
typedef struct gradc_view {
  const char* name; /* of the input or field; null: by position */
  const void* data;
  int32_t element;        /* gradc_element */
  int32_t rank;           /* the rows are the first axis */
  const int64_t* shape;   /* a single axis may hold all elements of all rows */
  const int64_t* strides; /* in elements; null: row-major without gaps, which is required */
} gradc_view;

/* Checks arrays against the inputs of a use and puts their addresses, in the model's order, into `inputs` (as
 * many as there are inputs) and the number of rows into `rows`, for the calls above. Copies nothing. A
 * mismatch is GRADC_DATA_ERROR, with both types in the message. */
GRADC_API gradc_status gradc_session_bind(const gradc_session* session, gradc_use use,
                                          const gradc_view* views, int32_t count, const void** inputs,
                                          int64_t* rows);

/* For models whose file says `normalize` or crops images: converts raw examples to the input that the model
 * reads at evaluation, with the statistics that gradc_session_train() fitted or that came with the weights.
 * `raw` has the field's name; `output` takes rows x the input's shape, *bytes bytes in all. Null for
 * `output`: only *bytes is set. */
GRADC_API gradc_status gradc_session_prepare(gradc_session* session, const gradc_view* raw, void* output,
                                             int64_t* bytes);

/* The same for another view of each image, as in `gradc predict --ten-crop --scales`: scaled so that its
 * shorter side has `scale` pixels (0: unscaled), and instead of the middle (crop 0) a corner (1 to 4: top
 * left, top right, bottom left, bottom right), the middle (5), or one of these five mirrored (6 to 10). The
 * caller averages the predictions of several views. */
GRADC_API gradc_status gradc_session_prepare_view(gradc_session* session, const gradc_view* raw,
                                                  int64_t scale, int32_t crop, void* output, int64_t* bytes);

/* Initialise it with gradc_sample_options_init(), which sets the values named below. */
typedef struct gradc_sample_options {
  uint32_t size;      /* of this struct, as the caller was compiled */
  int32_t length;     /* characters to generate: 200 */
  const char* prompt; /* UTF-8, the text to continue: a new line */
  double
      temperature; /* below 1 likely characters become likelier, above 1 less so; 0: always the likeliest */
  uint64_t seed;   /* of the random choices: 1 */
} gradc_sample_options;

static inline void gradc_sample_options_init(gradc_sample_options* options) {
  const gradc_sample_options defaults = {sizeof(gradc_sample_options), 200, "\n", 1, 1};
  *options = defaults;
}

/* For a model of characters (data source `text`): the prompt followed by the text that the model generates,
 * UTF-8, valid until the session's next sample. The vocabulary came with the weights or from
 * gradc_session_train(). `options` null: the defaults. GRADC_MODEL_ERROR for other models. */
GRADC_API gradc_status gradc_session_sample(gradc_session* session, const gradc_sample_options* options,
                                            const char** text);

/* Parameters and state as safetensors; save_all: the optimizer's state too. Values that are not finite are
 * never saved: GRADC_NOT_FINITE, with the array's name, and the file at `path` is unchanged. Loading is all
 * or nothing: on an error the session is unchanged. Values that are not finite are loaded like others.
 * Loading does not change the count of steps, see gradc_session_set_progress(). */
GRADC_API gradc_status gradc_session_save(const gradc_session* session, const char* path);
GRADC_API gradc_status gradc_session_save_all(const gradc_session* session, const char* path);
GRADC_API gradc_status gradc_session_load(gradc_session* session, const char* path);

/* The training that the model file describes: epochs, shuffling, preparation of the examples, accumulation,
 * rules for stopping, plateaus and checkpoints, evaluation. */

/* Examples of one split of the data, in the caller's memory: "train", "val" or "test". Each field is rows x
 * shape, as a file of the model's data source would hold it, and is only read. */
typedef struct gradc_split {
  const char* name;
  const gradc_view* fields;
  int32_t field_count;
} gradc_split;

/* Means over a split; metrics in the order of gradc_session_metric(). */
typedef struct gradc_split_result {
  const char* split;
  double loss;
  int32_t metric_count;
  const double* metrics;
} gradc_split_result;

/* The arguments of callbacks; pointers are valid until the callback returns. */
typedef struct gradc_step_event {
  int64_t step;  /* updates done */
  int64_t epoch; /* from 1 */
  int64_t total; /* updates of the whole run */
  double loss;   /* of this update's examples, as are the metrics */
  double lr;
  double grad_norm; /* NaN where the model file does not clip */
  int32_t metric_count;
  const double* metrics;
} gradc_step_event;
typedef struct gradc_epoch_event {
  int64_t epoch, epochs; /* complete, and of the whole run */
  int64_t step;
  double lr;
  double seconds; /* of training this epoch */
  int32_t split_count;
  const gradc_split_result* splits; /* train first, then the evaluated splits */
} gradc_epoch_event;

/* Initialise it with gradc_train_options_init(). */
typedef struct gradc_train_options {
  uint32_t size;             /* of this struct, as the caller was compiled */
  int64_t epochs;            /* -1: the model file's; with `steps` alone, as many as these need */
  int64_t steps;             /* updates at most; -1: no limit */
  int64_t seed;              /* of initial values, order and random layers; -1: the model file's */
  int32_t shuffle;           /* 1 */
  int32_t keep_parameters;   /* 1: start from the session's parameters; 0: from initial values */
  int32_t loaders;           /* threads that prepare batches during training; -1: chosen for the data */
  const char* init_from;     /* weights to start from; null: none */
  const char* resume;        /* a checkpoint to resume, bit for bit; null: none */
  const char* save;          /* file for the final weights; null: none */
  int32_t save_state;        /* also save the state that `resume` needs; always when cancelled */
  const char* checkpoints;   /* folder for the model file's rule `checkpoint`; null: NAME.checkpoints */
  const gradc_split* splits; /* the data; null: from the model file's source */
  int32_t split_count;
  /* Called by the thread that trains, after each update and epoch; a result other than 0 cancels the
   * training. They may call this session's functions but gradc_session_step(),
   * _train(), _initialize(), _set_progress() and _load(). Null: none. */
  int32_t (*on_step)(void* user, const gradc_step_event* event);
  int32_t (*on_epoch)(void* user, const gradc_epoch_event* event);
  void* user;
} gradc_train_options;

static inline void gradc_train_options_init(gradc_train_options* options) {
  const gradc_train_options defaults = {
      sizeof(gradc_train_options), -1, -1, -1, 1, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  *options = defaults;
}

/* Pointers are valid until the session's next call. */
typedef struct gradc_train_result {
  int64_t steps, epochs; /* updates done, epochs complete */
  int64_t best_epoch;    /* whose weights the rule `stop` restored; else 0 */
  double seconds;        /* of training alone */
  double examples_per_second;
  const char* weights_sha256; /* as `gradc train` shows it */
  int32_t split_count;
  const gradc_split_result* splits; /* train, the splits evaluated after the last epoch, test */
} gradc_train_result;

/* Trains as the model file says. `options` null: the defaults; `result` may be null. Cancelled, it returns
 * GRADC_CANCELLED with the result so far; the session holds the parameters of the last update. When a step's
 * loss is not finite, or the last update of an epoch or of the training makes parameters or state non-finite,
 * it returns GRADC_NOT_FINITE, and the parameters are those before that update. It returns the same, with the
 * whole result, when the loss of a split is not finite with the trained parameters. */
GRADC_API gradc_status gradc_session_train(gradc_session* session, const gradc_train_options* options,
                                           gradc_train_result* result);

#ifdef __cplusplus
}
#endif
#endif
