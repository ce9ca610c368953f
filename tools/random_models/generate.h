// A random model file: data, network, losses and training, all of one seed.
#pragma once
#include <cstdint>
#include <string>

namespace gradc::random_models {

struct RandomModel {
  std::string text;
  int64_t batch = 1;
  bool runs_alone = false;  // its data source needs no file and no program: the model can be trained as it is
  bool draws = false;       // random numbers while training
};

// The same for the same two numbers on every machine. Throws InternalError when the compiler breaks.
// `unmended`: models that show known faults too.
RandomModel random_model(uint64_t seed, uint64_t number, bool unmended = false);

}  // namespace gradc::random_models
