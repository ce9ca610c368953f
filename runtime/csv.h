// Text files of columns (CSV, RFC 4180); knows the format and nothing of data sets.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gradc::runtime {

struct CsvOptions {
  char separator = ',';
  bool header = true;  // the first line names the columns
};

struct CsvColumn {
  std::string name;    // as in the first line; empty: by number
  int64_t number = 0;  // from 0
};

// Chosen columns of a file as numbers.
struct CsvNumbers {
  int64_t rows = 0;
  std::vector<double> values;  // rows x columns asked for
  std::vector<int64_t> lines;  // of each row, from 1, for messages
};

// Reads the chosen columns. Every line must
// have as many columns as the first, and a number in those asked for; empty lines are passed over. Quotes
// around a column are taken off, and a quoted column may hold separators and line ends. Throws RunError
// (kExitDataError) with file, line, expectation, finding, advice.
CsvNumbers read_csv(const std::string& path, const CsvOptions& options, const std::vector<CsvColumn>& chosen);
// The same from memory; `path` is for messages.
CsvNumbers parse_csv(const std::string& path, std::string_view text, const CsvOptions& options,
                     const std::vector<CsvColumn>& chosen);

}  // namespace gradc::runtime
