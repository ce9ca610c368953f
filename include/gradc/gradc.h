/* gradc as a library: compile a model in this process, then train, evaluate and predict with it (session.h).
 * Plain C; no function throws, exits or aborts. Nothing is read from the environment: the settings that the
 * command line takes from there are options here. */
#ifndef GRADC_GRADC_H
#define GRADC_GRADC_H
#include "gradc/session.h"
#include "gradc/version.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the loaded library, which may be newer than these headers. */
GRADC_API const char* gradc_version(void);    /* "0.1.0" */
GRADC_API int32_t gradc_version_number(void); /* as GRADC_VERSION_NUMBER */

typedef struct gradc_model gradc_model;             /* a model compiled for this processor */
typedef struct gradc_diagnostics gradc_diagnostics; /* the errors of a model file */

typedef struct gradc_setting {
  const char* name; /* of a `set` of the model file */
  const char* value;
} gradc_setting;

/* Initialise it with gradc_compile_options_init(). */
typedef struct gradc_compile_options {
  uint32_t size; /* of this struct, as the caller was compiled */
  int32_t setting_count;
  const gradc_setting* settings; /* as `--set NAME=VALUE` */
  const char* target;    /* null: this processor; "x86-64-v3": the same bits on every one of that level */
  int64_t batch;         /* rows of a step at most; 0: as the model file says */
  int32_t strict_math;   /* 1: convolutions by their definition, as `--strict-math` */
  int32_t infer;         /* 1: without training, which compiles in half the time */
  const char* cache;     /* folder of the cache of compiled objects, created if missing; null: no cache */
  int64_t memory_limit;  /* greatest memory of a session in bytes, as `--mem-limit`; 0: no limit. A limit may
                            split batches, and gradc_session_batch() is then less than the model file's */
  int32_t limit_threads; /* threads of the sessions that the limit applies to; 0: one per usable processor */
} gradc_compile_options;

static inline void gradc_compile_options_init(gradc_compile_options* options) {
  const gradc_compile_options defaults = {sizeof(gradc_compile_options), 0, 0, 0, 0, 0, 0, 0, 0, 0};
  *options = defaults;
}

/* Compiles a model file, or its text (`name` is then the file's name in messages). `options` null: the
 * defaults. The data that the model file names are not read.
 *
 * On an error *model is null, gradc_last_error() returns the whole explanation as text, and *diagnostics,
 * unless `diagnostics` is null, has at least one diagnostic; the caller frees it. GRADC_MODEL_ERROR: they are
 * all errors that were found in the model file. On other errors (no such file, an unknown target) there is
 * one diagnostic without a location. Several threads may compile at once. */
GRADC_API gradc_status gradc_model_compile_file(const char* path, const gradc_compile_options* options,
                                                gradc_model** model, gradc_diagnostics** diagnostics);
GRADC_API gradc_status gradc_model_compile_string(const char* text, const char* name,
                                                  const gradc_compile_options* options, gradc_model** model,
                                                  gradc_diagnostics** diagnostics);
/* A model may be freed before its sessions, which keep the data they need. Null is allowed. */
GRADC_API void gradc_model_free(gradc_model* model);
GRADC_API const char* gradc_model_target(const gradc_model* model); /* "x86-64-v3"; lives as the model */

/* Creates a session of a compiled model, as gradc_session_create() does of one compiled ahead of time. */
GRADC_API gradc_status gradc_session_create_from_model(const gradc_model* model, int32_t threads,
                                                       gradc_session** session);

typedef enum gradc_severity { GRADC_SEVERITY_ERROR = 0 } gradc_severity;

/* Line and column count from 1, columns in bytes; the end is one after the last character. `file` is null and
 * the numbers are 0 where there is no location. */
typedef struct gradc_location {
  const char* file;
  int32_t line, column, end_line, end_column;
  const char* label; /* the message at this location; may be empty */
} gradc_location;

/* Initialise it with gradc_diagnostic_init(). Texts are never null, and live as long as the diagnostics. */
typedef struct gradc_diagnostic {
  uint32_t size;       /* of this struct, as the caller was compiled */
  int32_t severity;    /* gradc_severity */
  const char* code;    /* "E0203", as docs/language.md lists them; empty: no error of the model file */
  const char* message; /* what was expected and what was found */
  gradc_location location;
  int32_t related_count; /* further locations */
  const gradc_location* related;
  int32_t note_count; /* the layers and calls that lead to the location */
  const char* const* notes;
  int32_t help_count; /* what to try */
  const char* const* helps;
  /* The expected and the found value of the message in fields of their own: "an integer" and "a string", or
   * types, "f32[64]" and "f32[32]" (of two operands the first counts as expected). Empty for errors that are
   * no mismatch of two values; for an unknown name `expected` may be empty. */
  const char* expected;
  const char* found;
  const char* suggestion; /* the name that was probably meant in place of `found`; empty: none is similar */
} gradc_diagnostic;

static inline void gradc_diagnostic_init(gradc_diagnostic* diagnostic) {
  const gradc_diagnostic none = {
      sizeof(gradc_diagnostic), 0, 0, 0, {0, 0, 0, 0, 0, 0}, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  *diagnostic = none;
}

GRADC_API int32_t gradc_diagnostics_count(const gradc_diagnostics* diagnostics); /* 0 of null */
GRADC_API gradc_status gradc_diagnostics_get(const gradc_diagnostics* diagnostics, int32_t index,
                                             gradc_diagnostic* diagnostic);
/* All of them as the command line prints them, with source lines and carets. */
GRADC_API const char* gradc_diagnostics_text(const gradc_diagnostics* diagnostics);
GRADC_API void gradc_diagnostics_free(gradc_diagnostics* diagnostics); /* null is allowed */

#ifdef __cplusplus
}
#endif
#endif
