// Text files of columns (CSV, RFC 4180); knows the format and nothing of data sets.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gradc::runtime {

// Whether the first line names the columns. automatic: it does where a column is chosen by name, or where no
// chosen column of it is a number; a first line that may be an example is an error, because a row would be lost
// silently.
enum class CsvHeader : uint8_t { automatic, present, absent };

struct CsvOptions {
  char separator = ',';
  CsvHeader header = CsvHeader::automatic;
};

struct CsvColumn {
  std::string name;    // as in the first line; empty: by number
  int64_t number = 0;  // from 0
};

// Chosen columns of a file as numbers.
struct CsvNumbers {
  int64_t rows = 0;
  std::vector<double> values;  // rows x requested columns
  std::vector<int64_t> lines;  // of each row, from 1, for messages
};

// Reads the chosen columns. Every line must have as many columns as the first, and a number in the chosen ones; empty
// lines are skipped. A line ends with \n, \r\n or \r. Quotes around a column are taken off,
// and a quoted column may hold separators and line ends. A number too small for a double is 0. Throws
// RunError (kExitDataError) with file, line, expectation, finding, advice. Time is linear in the file; memory besides
// the file and the result is that of the chosen cells of one line.
CsvNumbers read_csv(const std::string& path, const CsvOptions& options, const std::vector<CsvColumn>& chosen);
// The same from memory; `path` is for messages.
CsvNumbers parse_csv(const std::string& path, std::string_view text, const CsvOptions& options,
                     const std::vector<CsvColumn>& chosen);

}  // namespace gradc::runtime
