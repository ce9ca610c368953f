// What `--data OPTION=VALUE` gives an option of each kind.
#include "support/experiment.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

void run(Bytes input) {
  const std::string text(text_of(input));
  DataRecord record{.name = "fuzz",
                    .source = "csv",
                    .options = {{"path", std::string("a.csv")},
                                {"header", true},
                                {"classes", int64_t{10}},
                                {"ratio", 0.5},
                                {"shape", std::vector<int64_t>{1, 2}}}};
  for (const char* name : {"", "path=", "header=", "classes=", "ratio=", "shape="})
    accepts([&] {
      const auto before = record.options;
      override_options(record, {name + text});
      for (const auto& [key, value] : before)
        require(record.options.at(key).index() == value.index(), "an option keeps its kind");
    });
}

const Registration registration("data_option", run);

}  // namespace
}  // namespace gradc::fuzz
