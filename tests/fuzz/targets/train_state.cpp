// The state of a run, as JSON in a checkpoint's metadata: what is accepted survives being written.
#include "runtime/training/train_state.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

void run(Bytes input) {
  accepts([&] {
    const auto state = runtime::TrainState::parse(std::string(text_of(input)), "fuzz.safetensors");
    const std::string text = state.json();
    require(runtime::TrainState::parse(text, "fuzz.safetensors").json() == text, "a state survives writing");
  });
}

const Registration registration("train_state", run);

}  // namespace
}  // namespace gradc::fuzz
