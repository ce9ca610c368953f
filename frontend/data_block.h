// What stands in the block of a data declaration: fields, splits. Shared by the frontend's own files.
#pragma once
#include "frontend/data_sources.h"
#include "frontend/evaluator.h"

namespace gradc::frontend {

// Declared fields into the record; for a source that has fields of its own there must be none. False after an
// error.
bool data_fields(Evaluator& e, const DataSyntax& d, const SourceKind& kind, DataRecord& record);

// Splits into the record; the options and fields must be there already.
void data_splits(Evaluator& e, const DataSyntax& d, DataRecord& record);

// Curriculum and bootstrap into the record. Reports errors.
void data_order(Evaluator& e, const DataSyntax& d, const DataSource& data, DataRecord& record);

}  // namespace gradc::frontend
