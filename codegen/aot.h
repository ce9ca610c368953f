// Loop IR to object files for linking: code, and the runtime's tables as constant data. LLVM's headers are
// no part of this interface.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/jit.h"
#include "runtime/abi.h"

namespace gradc::codegen {

// One model for one processor.
struct ImageProgram {
  std::vector<const loop::Program*> programs;
  Target target;
  // The tables, without code: `run` of the entry called NAME becomes the program of that name.
  const gradc_program* tables = nullptr;
};

struct ObjectFile {
  std::string name;  // "lenet.x86-64-v3.0.o"
  std::string bytes;
};

// Objects that hold one model's code for each processor and a gradc_image `symbol` that leads to it, visible
// to whoever links them; all else is hidden. Equal arguments give equal bytes. `weights`: a safetensors file
// to embed, or empty. Names of objects begin with `name`.
std::vector<ObjectFile> emit_image(const std::vector<ImageProgram>& programs, const std::string& name,
                                   const std::string& symbol, std::string_view weights,
                                   const CodegenOptions& options, ObjectCache* cache);

// A static library (ar) of objects and of the members of other static libraries. Throws RunError (exit 1)
// when one of those cannot be read.
std::string make_archive(const std::vector<ObjectFile>& objects, const std::vector<std::string>& libraries);

}  // namespace gradc::codegen
