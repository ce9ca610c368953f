// Dense products with their weights packed: the input gradient, and forward where tiles are short. Knows no epilogue but
// the tile's.
#pragma once
#include "passes/kernels/lowering.h"
#include "passes/kernels/tile.h"

namespace gradc::passes::lowering {

// The loops of "no,ok->nk" (sums_rows), or of "nk,ok->no", f32, which the tile's kernel is of; the caller finishes it.
void lower_packed_weights(Lowering& lowering, Tile& tile, const Op* product, bool sums_rows);

}  // namespace gradc::passes::lowering
