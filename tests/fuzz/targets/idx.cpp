// IDX files, plain and gzip, and the data source that reads them.
#include "runtime/data/idx.h"
#include "runtime/data/dataset.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

void run(Bytes input) {
  const bool plain = accepts([&] {
    const runtime::IdxArray array = runtime::parse_idx("fuzz.idx", input.data(), input.size());
    int64_t bytes = runtime::idx_element_bytes(array.type);
    for (const int64_t extent : array.shape) bytes *= extent;
    require(static_cast<int64_t>(array.bytes.size()) == bytes, "the data are what the shape says");
  });
  const MemoryFile file(input);
  const bool read = accepts([&] { runtime::read_idx(file.path()); });
  require(read || !plain, "a plain file reads as its bytes do");
  accepts([&] {
    runtime::load_dataset(
        {.name = "fuzz",
         .source = "idx",
         .options = {{"images", file.path()}, {"labels", file.path()}, {"classes", int64_t{10}}},
         .batch = 1});
  });
}

const Registration registration("idx", run);

}  // namespace
}  // namespace gradc::fuzz
