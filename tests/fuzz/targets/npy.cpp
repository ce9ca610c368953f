// NumPy's .npy files: the format alone, and as fields of numbers and of integers.
#include "runtime/data/npy.h"
#include "runtime/data/file_sources.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

void run(Bytes input) {
  runtime::NpyArray array;
  const bool sound = accepts([&] { array = runtime::parse_npy("fuzz.npy", vector_of(input)); });
  if (!sound) return;
  const std::string header = runtime::npy_header(array.dtype, array.shape);
  std::vector<uint8_t> again(header.begin(), header.end());
  again.insert(again.end(), array.bytes.begin(), array.bytes.end());
  require(runtime::parse_npy("fuzz.npy", again).shape == array.shape, "an array survives writing");
  const MemoryFile file(input);
  for (const bool is_float : {false, true}) {
    DataField field{.name = "label", .is_float = is_float, .train = file.path()};
    if (!array.shape.empty()) field.shape.assign(array.shape.begin() + 1, array.shape.end());
    accepts([&] {
      runtime::read_npy_files({.name = "fuzz",
                               .source = "npy",
                               .options = {{"classes", int64_t{is_float ? 0 : 10}}},
                               .batch = 1,
                               .fields = {field}});
    });
  }
}

const Registration registration("npy", run);

}  // namespace
}  // namespace gradc::fuzz
