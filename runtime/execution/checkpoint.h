// A session's weights in files, and their hash. Knows a program's symbols; the file format is in safetensors.h.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/execution/session.h"

namespace gradc::runtime {

struct CheckpointInfo {
  uint64_t seed = 0;
  int64_t step = 0;      // updates done
  bool slots = false;    // optimizer state too
  std::string training;  // the state of the run, as JSON (runtime/training/train_state.h); needed to resume
  const uint8_t* best = nullptr;  // a copy of the session's block: weights to put back when the run ends
  std::map<std::string, std::vector<float>> arrays;  // of a full-batch optimizer
};

// Writes parameters, states and averages under their names, in their logical shapes; the copy in `best` as "best/NAME",
// a full-batch optimizer's arrays as "full_batch/NAME", and the session's data arrays. __metadata__ has
// gradc_version, target, name, source, seed, step and, if given, training. Throws RunError (kExitRunFailed),
// and NotFiniteError where one of them is not finite; the old file is then unchanged.
void save_checkpoint(const Session& session, const std::string& path, const CheckpointInfo& info);

// Reads weights into the session. The file must have every parameter and state with its type and shape, and may have
// optimizer slots; arrays called data.* become the session's data arrays. An average (`ema`) that is missing
// starts as its parameter. Anything else is an error, except that in a file that gradc wrote, other arrays of a
// parameter (slots of another optimizer) are skipped. RunError (kExitDataError) lists what does not fit; then the
// session is unchanged. A program compiled without training skips what only training needs.
void load_checkpoint(Session& session, const std::string& path);
// Checks without a session that load_checkpoint would accept the file. Throws as it does.
void check_checkpoint(const gradc_program& program, const std::string& path);
// load_checkpoint from the bytes of such a file; `name` is for messages.
void load_checkpoint(Session& session, const std::string& name, std::vector<uint8_t> bytes);

// Reads everything that resuming a run needs, slots and averages too; the file must have `training`. Errors as above.
struct TrainingFile {
  std::string training;
  std::map<std::string, std::string> metadata;
  std::vector<uint8_t> best;  // a block with the weights under "best/", or empty
  std::map<std::string, std::vector<float>> arrays;
};
TrainingFile load_training(Session& session, const std::string& path);

// Overwrites averages with their parameters, so that eval and predict read the parameters.
void use_raw_parameters(Session& session);

// The arithmetic mean of several files' arrays of numbers, in double precision; states, slots and all. Files
// must have the same arrays, and the same numbers in those called data.*. Metadata are the last file's,
// without `training`. Throws RunError.
void average_checkpoints(const std::vector<std::string>& paths, const std::string& output);

// SHA-256 over parameters, states and averages in name order; of each: the name's bytes and a zero byte, rank
// and extents as 64-bit little-endian integers, the elements' bytes row-major in the logical shape.
// Hexadecimal.
std::string weights_sha256(const Session& session);

}  // namespace gradc::runtime
