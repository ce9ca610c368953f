// A session's weights in files, and their hash. Knows a program's symbols; the file format stands in
// safetensors.h.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/execution/session.h"

namespace gradc::runtime {

struct CheckpointInfo {
  uint64_t seed = 0;
  int64_t step = 0;    // updates done
  bool slots = false;  // optimizer state too
  std::string
      training;  // where the run stands, as JSON (runtime/training/train.cpp); with it a run can go on
  const uint8_t* best = nullptr;  // a copy of the session's block: weights to put back when the run ends
  std::map<std::string, std::vector<float>> arrays;  // of a driver
};

// Writes parameters, states and averages under their names, in their logical shapes; the copy in `best` as
// "best/NAME", a driver's arrays as "driver/NAME", and the session's data arrays. __metadata__ has
// gradc_version, target, name, source, seed, step and, if given, training. Throws RunError (kExitRunFailed),
// and NotFiniteError where one of them is not finite; the old file then stays as it was.
void save_checkpoint(const Session& session, const std::string& path, const CheckpointInfo& info);

// Reads weights into the session. Every parameter and state must be there with its type and shape; optimizer
// slots may be; arrays called data.* become the session's data arrays. An average (`ema`) that is missing
// starts as its parameter. Anything else is an error, but in a file that gradc wrote: what belongs to a
// parameter there (slots of another optimizer) is passed over. RunError (kExitDataError) lists what does not
// fit; then the session is unchanged. A program compiled without training leaves out what only training
// needs.
void load_checkpoint(Session& session, const std::string& path);
// Whether load_checkpoint would take the file, without a session. Throws as it does.
void check_checkpoint(const gradc_program& program, const std::string& path);
// load_checkpoint from the bytes of such a file; `name` is for messages.
void load_checkpoint(Session& session, const std::string& name, std::vector<uint8_t> bytes);

// Reads everything a run needs to go on, slots and averages too; `training` must be there.
// Errors as above.
struct TrainingFile {
  std::string training;
  std::map<std::string, std::string> metadata;
  std::vector<uint8_t> best;  // a block with the weights that were saved so, or empty
  std::map<std::string, std::vector<float>> arrays;
};
TrainingFile load_training(Session& session, const std::string& path);

// Puts the parameters in their averages' place, so that eval and predict read them.
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
