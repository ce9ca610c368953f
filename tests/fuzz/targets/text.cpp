// Text as examples: UTF-8 to characters and back, windows, vocabularies.
#include "runtime/data/text.h"
#include "runtime/data/prepare.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

void run(Bytes input) {
  accepts([&] {
    std::string again;
    for (const int32_t c : runtime::code_points(text_of(input), "fuzz.txt")) again += runtime::utf8(c);
    require(again == text_of(input), "characters are written as they were read");
  });
  const MemoryFile file(input);
  accepts([&] {
    const DataRecord record{.name = "fuzz",
                            .source = "text",
                            .options = {{"path", file.path()},
                                        {"length", int64_t{4}},
                                        {"stride", int64_t{3}},
                                        {"vocabulary", int64_t{5}}},
                            .batch = 1};
    runtime::Dataset data = runtime::load_dataset(record);
    runtime::fit_preparation(data, record);
    const runtime::DataArrays kept = runtime::data_arrays_of(data.splits.at(0));
    const auto& numbers = kept.at(runtime::kVocabularyArray).values;
    require(runtime::Vocabulary::restored(numbers).kept().values == numbers,
            "a vocabulary survives being kept");
  });
}

const Registration registration("text", run);

}  // namespace
}  // namespace gradc::fuzz
