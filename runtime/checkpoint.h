// A session's weights in files, and their hash. Knows a program's symbols; the file format stands in
// safetensors.h.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/session.h"

namespace gradc::runtime {

struct CheckpointInfo {
  uint64_t seed = 0;
  int64_t step = 0;    // updates done
  bool slots = false;  // optimizer state too
};

// Writes parameters and states under their names, in their logical shapes, and the session's data arrays.
// __metadata__ has gradc_version, target, name, source, seed and step. Throws RunError (kExitRunFailed); the
// old file then stays as it was.
void save_checkpoint(const Session& session, const std::string& path, const CheckpointInfo& info);

// Reads weights into the session. Every parameter and state must be there with its type and shape, slots may
// be, arrays called data.* become the session's data arrays, anything else is an error: RunError
// (kExitDataError) that lists what does not fit. Then the session is unchanged. A program compiled without
// training leaves out what only training needs.
void load_checkpoint(Session& session, const std::string& path);
// Whether load_checkpoint would take the file, without a session. Throws as it does.
void check_checkpoint(const gradc_program& program, const std::string& path);
// load_checkpoint from the bytes of such a file; `name` is for messages.
void load_checkpoint(Session& session, const std::string& name, std::vector<uint8_t> bytes);

// SHA-256 over parameters and states in name order; of each: the name's bytes and a zero byte, rank and
// extents as 64-bit little-endian integers, the elements' bytes row-major in the logical shape. Hexadecimal.
std::string weights_sha256(const Session& session);

}  // namespace gradc::runtime
