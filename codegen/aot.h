// Loop IR to object files for linking: code, and the runtime's tables as constant data. Does not expose LLVM's headers.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/jit.h"
#include "runtime/abi.h"

namespace gradc::codegen {

// A model's programs for one processor, in a bundle.
struct BundleProgram {
  std::vector<const loop::Program*> programs;
  Target target;
  // The tables, without code: `run` of the entry called NAME becomes the program of that name.
  const gradc_program* tables = nullptr;
};

struct ObjectFile {
  std::string name;  // "lenet.x86-64-v3.0.o"
  std::string bytes;
};

// Objects of a bundle: one model's code for each processor and a gradc_image `symbol` that refers to it, visible to
// other objects; all else is hidden. Equal arguments give equal bytes. `weights`: a safetensors file
// to embed, or empty. Names of objects begin with `name`.
std::vector<ObjectFile> emit_bundle(const std::vector<BundleProgram>& programs, const std::string& name,
                                    const std::string& symbol, std::string_view weights,
                                    const CodegenOptions& options, ObjectCache* cache);

// A static library (ar) of objects and of the members of other static libraries. Throws RunError (exit 1)
// when one of those cannot be read.
std::string make_archive(const std::vector<ObjectFile>& objects, const std::vector<std::string>& libraries);

}  // namespace gradc::codegen
