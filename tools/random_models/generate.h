// A random model file: data, network, losses and training, all of one seed.
#pragma once
#include <cstdint>
#include <string>

namespace gradc::random_models {

struct RandomModel {
  std::string text;
  bool runs_alone = false;  // its data source needs no file or program: it can be trained by itself
};

// The same for the same two numbers and the same program. Throws InternalError when the compiler fails.
// `unmended`: models that show known faults too.
RandomModel random_model(uint64_t seed, uint64_t number, bool unmended = false);

}  // namespace gradc::random_models
