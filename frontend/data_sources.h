// The data sources a model file may name: their options, fields and the fields' types. It reads no data; the
// runtime does.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "ir/tensor/type.h"
#include "support/experiment.h"
#include "support/source.h"

namespace gradc::frontend {

struct SourceOption {
  const char* name;
  enum class Kind : uint8_t { integer, integers, text, boolean } kind;
  bool required = false;
  RecordValue default_value{};
  int64_t low = 0;  // least value of an integer, or of each in a list
  const char* doc = "";
  int64_t high = INT64_MAX;  // greatest value, likewise
  int64_t most = 0;          // greatest length of a list; the least is 1
};

struct SourceKind {
  const char* name;
  const char* doc;
  std::vector<SourceOption>
      options;  // besides batch and last, which every source has; the first may be given by position
  bool declares_fields = false;                                   // the model file declares the fields
  std::vector<DataField> (*fields)(const DataRecord&) = nullptr;  // else: its fields with these options
};
const std::vector<SourceKind>& source_kinds();

// `data NAME = ...`, checked.
struct DataSource {
  std::string name;
  DataRecord record;
  std::map<std::string, Type> fields;  // as programs read them: "image": f32[n,1,28,28]
};
// The number of values of an integer field (DataField::count); 0: not known, or no such field.
int64_t count_of(const DataRecord& record, const std::string& field);

}  // namespace gradc::frontend
