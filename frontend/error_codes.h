// The one table of the frontend's error codes and their one-line meanings; knows nothing of when they are
// raised. Codes are stable: a code is never given another meaning.
#pragma once
#include <span>

namespace gradc::frontend {

struct ErrorCode {
  const char* code;
  const char* meaning;
};

#define GRADC_ERROR_CODES(X)                                                                             \
  X(bad_character, "E0101", "a character that begins nothing in the language")                           \
  X(bad_string, "E0102", "a string without its end, or with an unknown escape")                          \
  X(bad_number, "E0103", "a number that is malformed or out of range")                                   \
  X(syntax, "E0104", "something else was expected here")                                                 \
  X(too_deep, "E0105", "nesting deeper than the limit")                                                  \
  X(unknown_word, "E0106", "not a declaration or statement that exists here")                            \
  X(unclosed, "E0107", "a bracket that is never closed")                                                 \
  X(bad_instance, "E0108", "`as` and `reuse` follow a call")                                             \
  X(bad_file, "E0109", "a file that is too large to be a model")                                         \
  X(unknown_name, "E0201", "a name that is not bound here")                                              \
  X(duplicate, "E0202", "a name defined twice")                                                          \
  X(shapes, "E0203", "operand types or shapes that do not fit together")                                 \
  X(wrong_kind, "E0204", "a value of the wrong kind for its position")                                   \
  X(unknown_argument, "E0205", "an argument the definition does not take")                               \
  X(missing_argument, "E0206", "a required argument that is not given")                                  \
  X(extra_argument, "E0207", "an argument given twice, or too many arguments")                           \
  X(unused, "E0208", "a value that is never used")                                                       \
  X(recursion, "E0209", "a definition that calls itself")                                                \
  X(condition, "E0210", "a condition that is not a static boolean")                                      \
  X(arithmetic, "E0211", "static arithmetic that overflows or divides by zero")                          \
  X(limit, "E0212", "a limit on loops, sizes or emitted operations")                                     \
  X(state_assignment, "E0213", "state assigned where `training` does not hold")                          \
  X(batch_outside_training, "E0214", "a value computed across the batch outside training")               \
  X(instance_taken, "E0215", "two instances or parameters of one name")                                  \
  X(reuse, "E0216", "`reuse` of an instance that is not there or differs")                               \
  X(impure, "E0217", "a parameter, state, layer or random number where the definition may not have one") \
  X(no_value, "E0218", "a definition that ends without a value")                                         \
  X(bad_index, "E0219", "an index or axis out of range")                                                 \
  X(requirement, "E0220", "a `require` of a definition that does not hold")                              \
  X(late_parameter, "E0221", "a parameter that only evaluation or prediction would use")                 \
  X(unreachable, "E0222", "statements that can never run")                                               \
  X(experiment_part, "E0301", "a statement of the experiment that is missing or given twice")            \
  X(unknown_setting, "E0302", "--set names no `set` of the file")                                        \
  X(bad_setting, "E0303", "a value of --set that does not fit the setting")                              \
  X(unknown_source, "E0304", "a data source, method or option that does not exist")                      \
  X(unknown_field, "E0305", "a field the data does not have")                                            \
  X(bad_result, "E0306", "a loss, metric, penalty or prediction of the wrong type")                      \
  X(bad_value, "E0307", "an experiment value out of its range")                                          \
  X(pattern, "E0308", "a pattern that matches no parameter")                                             \
  X(coverage, "E0309", "a parameter with no optimizer, or with two")                                     \
  X(bad_schedule, "E0310", "a schedule that cannot be used as written")                                  \
  X(no_gradient, "E0311", "a loss that no trained parameter reaches")                                    \
  X(monitor, "E0312", "a loss or metric to watch that is not there")                                     \
  X(full_batch, "E0313", "an optimizer of all examples with what it cannot work with")                   \
  X(positions, "E0314", "a field that counts further than what it is used to choose from")

namespace codes {
#define GRADC_CODE(name, code, meaning) inline constexpr const char* name = code;
GRADC_ERROR_CODES(GRADC_CODE)
#undef GRADC_CODE
}  // namespace codes

// Every code with its meaning, in order.
inline std::span<const ErrorCode> error_codes() {
#define GRADC_CODE(name, code, meaning) {code, meaning},
  static const ErrorCode all[] = {GRADC_ERROR_CODES(GRADC_CODE)};
#undef GRADC_CODE
  return all;
}

}  // namespace gradc::frontend
