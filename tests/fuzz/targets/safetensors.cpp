// Weights files: every array that is accepted lies in the file, with as many bytes as its shape says.
#include "runtime/execution/safetensors.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

void run(Bytes input) {
  accepts([&] {
    const runtime::TensorFile file = runtime::parse_safetensors("fuzz.safetensors", vector_of(input));
    uint64_t bytes = 0;
    volatile uint8_t sink = 0;
    for (const auto& [name, view] : file.tensors) {
      require(view.data >= file.storage.data() &&
                  view.data + view.bytes <= file.storage.data() + file.storage.size(),
              "an array lies in the file");
      bytes += view.bytes;
      for (uint64_t i = 0; i < view.bytes; ++i) sink = sink ^ view.data[i];
    }
    require(bytes < file.storage.size(), "arrays do not overlap");
  });
}

const Registration registration("safetensors", run);

}  // namespace
}  // namespace gradc::fuzz
