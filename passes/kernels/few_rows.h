// Dense products of a panel with few rows. Knows no epilogue but the tile's.
#pragma once
#include "passes/kernels/lowering.h"
#include "passes/kernels/tile.h"

namespace gradc::passes::lowering {

// Whether "nk,ok->no" has the form for few rows, and rows may be so few: of predictions and evaluations, and where the
// batch leaves few for its last panel.
bool may_have_few_rows(const Lowering& lowering, const Op* product);
// Rows of a panel up to which it is used.
int few_rows(int registers);

// The loops over this thread's outputs, of the last panel, which has `left` rows, at most few_rows().
void lower_few_rows(Lowering& lowering, Tile& tile, const Op* product, const loop::Expr& left);

}  // namespace gradc::passes::lowering
