// The prelude: layers, activations, losses, initialisers, optimizers and schedules written in .nn, embedded
// at build.
#pragma once
#include <string>
#include <vector>

namespace gradc::frontend {

struct PreludeFile {
  const char* name;  // "prelude/layers.nn"
  const char* text;
};
const std::vector<PreludeFile>& prelude_files();

}  // namespace gradc::frontend
