// CSV files: columns by number and by name, with and without a line of names, separated by commas and by
// tabs.
#include "runtime/data/csv.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

void run(Bytes input) {
  const auto read = [&](const runtime::CsvOptions& options, const std::vector<runtime::CsvColumn>& columns) {
    accepts([&] {
      const runtime::CsvNumbers numbers = runtime::parse_csv("fuzz.csv", text_of(input), options, columns);
      require(numbers.rows > 0 && numbers.lines.size() == static_cast<size_t>(numbers.rows) &&
                  numbers.values.size() == static_cast<size_t>(numbers.rows) * columns.size(),
              "every row has a line and its columns");
    });
  };
  for (const char separator : {',', '\t'}) {
    read({separator, runtime::CsvHeader::present}, {{"x"}, {"label"}});
    read({separator, runtime::CsvHeader::absent}, {{"", 0}, {"", 2}});
    read({separator, runtime::CsvHeader::automatic}, {{"", 0}, {"", 2}});
  }
}

const Registration registration("csv", run);

}  // namespace
}  // namespace gradc::fuzz
