// The block of a data declaration: fields, splits, order. Shared by the frontend's own files.
#pragma once
#include "frontend/data_sources.h"
#include "frontend/evaluator.h"

namespace gradc::frontend {

// Adds the declared fields to the record; a source with fields of its own allows none. False after an error.
bool data_fields(Evaluator& e, const DataSyntax& d, const SourceKind& kind, DataRecord& record);

// Adds the splits to the record, whose options and fields must be set. Reports errors.
void data_splits(Evaluator& e, const DataSyntax& d, DataRecord& record);

// Adds curriculum and bootstrap to the record. Reports errors.
void data_order(Evaluator& e, const DataSyntax& d, const DataSource& data, DataRecord& record);

}  // namespace gradc::frontend
