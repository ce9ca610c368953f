// Checks the values of integer fields against the axes that a program indexes with them: labels that pick a
// score, indices of the rows of a table. The runtime checks fields whose values are not known before the data
// are read (gradc_index_range).
#include <fmt/format.h>

#include "frontend/error_codes.h"
#include "frontend/train_statements.h"

namespace gradc::frontend {

void check_index_ranges(Evaluator& e, const IndexRanges& ranges) {
  if (e.data.empty()) return;
  const DataRecord& record = e.data.begin()->second.record;  // of the one data set; inputs are its fields
  for (const auto& [field, list] : ranges) {
    const int64_t count = count_of(record, field);
    for (const IndexRange& range : list) {
      const auto location = e.index_locations.find(range.op);
      if (count <= range.extent || location == e.index_locations.end()) continue;
      Diagnostic& d = e.error(codes::positions, location->second.span,
                              fmt::format("`{}` has {} to choose from, but `{}` counts {}, from 0 to {}",
                                          range.operation, range.extent, field, count, count - 1));
      d.expect(fmt::format("at least {}", count), std::to_string(range.extent));
      d.notes.insert(d.notes.end(), location->second.notes.begin(), location->second.notes.end());
      const bool declared = record.options.count("classes") != 0;
      d.related.push_back({e.program().user.data.front().source->span,
                           declared ? fmt::format("`{}` counts {} classes here", field, count)
                                    : fmt::format("`{}` counts {} with this source", field, count)});
      d.helps.push_back(fmt::format(
          "make what is chosen from {} long: as many outputs of the model, or rows of the table{}", count,
          declared ? "; or correct `classes`" : ""));
      break;
    }
  }
}

}  // namespace gradc::frontend
