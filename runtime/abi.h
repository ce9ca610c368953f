/* The contract between compiled code and the runtime: plain C, versioned. JIT and ahead-of-time code provide
 * the same structs; the training loop sees nothing else. The runtime owns all memory; compiled code allocates
 * nothing. */
#ifndef GRADC_RUNTIME_ABI_H
#define GRADC_RUNTIME_ABI_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GRADC_ABI_VERSION 5

/* Indices into gradc_step_args.scalars (doubles). */
enum gradc_scalar {
  GRADC_SCALAR_STEP = 0,      /* updates done before this one: 0 at the first */
  GRADC_SCALAR_EPOCH = 1,     /* from 0 */
  GRADC_SCALAR_TOTAL = 2,     /* updates of the whole run */
  GRADC_SCALAR_LR_FACTOR = 3, /* run-time factor on the learning rate, normally 1 */
  GRADC_SCALAR_MICRO = 4,     /* number of the micro-batch within its update, from 0 */
  GRADC_SCALAR_EXAMPLES = 5,  /* examples of the whole update, over all its micro-batches */
  GRADC_SCALAR_COUNT = 6
};
/* Their names as inputs of tensor IR functions, in the same order. */
#define GRADC_SCALAR_NAMES {"step", "epoch", "total", "lr_factor", "micro", "examples"}
/* What programs other than train_step and update are given: the first of one update, of one example. */
#define GRADC_SCALAR_DEFAULTS {0, 0, 1, 1, 0, 1}

/* What one call of an entry reads. Field order is fixed: generated code addresses fields by their byte
 * offsets. */
typedef struct gradc_step_args {
  uint8_t* arena;      /*  0: working_bytes(entry, threads) of runtime/panels.h; aligned to 64 */
  uint8_t* parameters; /*  8: gradc_program.parameter_bytes bytes, aligned to 64: parameters, state, optimizer
                          slots */
  const void* const* inputs;   /* 16: one pointer an input, rows x logical shape, row-major; never written */
  void* const* outputs;        /* 24: one pointer an output, see gradc_output */
  const double* scalars;       /* 32: GRADC_SCALAR_COUNT doubles */
  int64_t rows;                /* 40: examples in this batch, 1 <= rows <= batch */
  int64_t row_offset;          /* 48: global number of row 0 within the step's batch (random keys); of
                                  train_step 0 or, where gradc_program.pieces is more than 1, a multiple of
                                  gradc_program.batch; its code relies on it */
  uint64_t seed;               /* 56: random key, together with micro_step and an op's stream */
  uint64_t micro_step;         /* 64 */
  void (*barrier)(void* team); /* 72: every thread of the team calls it; may be null when threads == 1 */
  void* team;                  /* 80 */
  uint64_t* profile; /* 88: read only by code compiled for profiling, which then writes, for thread t of the
                        entry's n calls, the processor's cycle counter before and after call c to
                        profile[2 * (t * n + c)] and the next (of a call made in pieces: before the first, and
                        that plus the length of all); unchanged where t has no share of c */
} gradc_step_args;

/* Runs one program as thread `thread` of `threads`; every thread of the team calls it with the same args.
 * Meanwhile subnormal operands and results are zero: they would cost a hundred times the time of others.
 * Returns 0, or 1 on every thread when the loss is not finite; then no parameter, state or slot was written.
 */
typedef int32_t (*gradc_entry)(const gradc_step_args* args, int32_t thread, int32_t threads);

enum gradc_dtype { GRADC_F32 = 0, GRADC_F64 = 1, GRADC_I32 = 2, GRADC_BOOL = 3 /* one byte */ };

/* A value that outlives a call. `name` is PyTorch-like ("dense_1.weight"); slots, averages and gradients belong to a
 * parameter and are named after it: "dense_1.weight.m", "dense_1.weight.ema", "dense_1.weight.grad". */
enum gradc_symbol_kind {
  GRADC_PARAMETER = 0,
  GRADC_STATE = 1,    /* running statistics */
  GRADC_SLOT = 2,     /* an optimizer's state for one parameter */
  GRADC_AVERAGE = 3,  /* a parameter's moving average, which eval and predict read in its stead */
  GRADC_GRADIENT = 4, /* the sum of a parameter's gradients over the micro-batches of one update */
  GRADC_WEIGHTS = 5   /* the sum of the examples' weights over them, f64: what the gradients are divided by */
};
typedef struct gradc_symbol {
  const char* name;
  int32_t kind;  /* gradc_symbol_kind */
  int32_t dtype; /* gradc_dtype */
  int32_t rank;
  const int64_t* shape; /* logical, PyTorch's order */
  int64_t offset;       /* bytes into parameters; elements are stored row-major in logical order */
} gradc_symbol;

/* Elements of each example of an input of i32 that the model uses as positions: they must be in
 * 0 .. extent - 1. Others would be read as 0 and train nothing, so callers must check the values
 * (runtime/data/batches.h). */
typedef struct gradc_index_range {
  int64_t first, count; /* elements of an example, row-major */
  int64_t extent;
  const char* use; /* the operation that reads them, and its location: "`cross_entropy` at m.nn:9" */
} gradc_index_range;

/* An input of an entry: one field of the data set. */
typedef struct gradc_input {
  const char* name;
  int32_t dtype;
  int32_t rank;         /* of one example */
  const int64_t* shape; /* of one example */
  int32_t range_count;
  const gradc_index_range* ranges;
} gradc_input;

/* What an output is to the runtime. */
enum gradc_role {
  GRADC_RESULT = 0,    /* a loss, a metric, a number of the update, a prediction */
  GRADC_LOSS_PART = 1, /* of a loss with weights, which is the sum of its parts' means */
  GRADC_WEIGHT_SUM = 2 /* the sum of the rows' weights */
};

/* An output of an entry. batched = 0: one value of `shape` for the whole call ("loss" and metrics: the SUM
 * over the rows, f32; the runtime divides it by the rows it has seen, or by their weights; f64: a number of
 * the update, such as "lr", as it is). batched = 1: rows x shape, row-major. */
typedef struct gradc_output {
  const char* name;
  int32_t dtype;
  int32_t batched;
  int32_t rank;
  const int64_t* shape;
  int32_t role;    /* gradc_role */
  int32_t divisor; /* number, from 1, of the output whose sum divides this one's; 0: the rows do */
} gradc_output;

typedef struct gradc_entry_info {
  gradc_entry run; /* null: this program does not exist (a model without `predict`) */
  int64_t arena_bytes;
  int32_t input_count;
  const gradc_input* inputs;
  int32_t output_count;
  const gradc_output* outputs;
  int32_t max_threads;   /* more threads than this gain nothing (1 for tiny models) */
  int32_t panels;        /* of a full batch */
  int64_t local_bytes;   /* of each panel that local_panels (runtime/panels.h) counts, a multiple of 64 */
  int64_t scratch_bytes; /* of each thread that runs it, a multiple of 64 */
  /* Null: `run` is the code. Else `run` only tells that the program exists, and late(owner) returns the code,
   * compiled at the first call, from any thread; generated code never calls it, and it may throw. */
  gradc_entry (*late)(void* owner);
  void* owner;
} gradc_entry_info;

typedef struct gradc_program {
  uint32_t abi_version; /* GRADC_ABI_VERSION */
  const char* gradc_version;
  const char* target; /* for example "x86-64-v4" */
  const char* source; /* the model file's text; null where it was stripped */
  const char* name;   /* the model file's name without directories */
  int64_t batch;      /* B: the largest number of rows of one call; of a piece, see `pieces` */
  int64_t parameter_bytes;
  int32_t symbol_count;
  const gradc_symbol* symbols;
  gradc_entry_info init;       /* writes every symbol's initial value; rows = 1 */
  gradc_entry_info train_step; /* outputs: "loss", then metrics by name, then the update's numbers ("lr",
                                  "grad_norm": f64) unless `update` has them; where the compiler was asked
                                  for them, batched ones: "value.LAYER", "gradient.LAYER" */
  gradc_entry_info eval;       /* outputs: "loss", then metrics by name */
  gradc_entry_info predict;    /* outputs: "predict", batched */
  const char* experiment_json; /* data and training records, see support/experiment.h */
  gradc_entry_info update; /* null: train_step updates the parameters itself. Else train_step only adds each
                              micro-batch's gradients to the symbols of kind GRADC_GRADIENT (micro 0: replaces
                              them), and `update`, called once with rows = 1 and no inputs, divides them by
                              `examples`, or by the sums of kind GRADC_WEIGHTS, and updates. Outputs: the
                              update's numbers, f64 */
  int64_t pieces; /* calls of train_step that each batch of the model file takes, `batch` rows each but the
                     last; they share micro_step, and differ in row_offset. 0 is 1 */
} gradc_program;

/* The bundle in an executable or a library: one model, compiled for one processor or several. */
typedef struct gradc_image {
  uint32_t abi_version;
  int32_t program_count;
  const gradc_program* const* programs; /* the most demanding processor first; all else is equal */
  const char* const*
      features;           /* of each program: what the processor must have, LLVM's names split by commas */
  const uint8_t* weights; /* a safetensors file; null: none */
  uint64_t weight_bytes;
} gradc_image;

#ifdef __cplusplus
}
#endif
#endif
