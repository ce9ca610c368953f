// The kernel of orthonormal_rows.
#pragma once

namespace gradc::passes {
struct KernelGroup;
}

namespace gradc::passes::lowering {

class Lowering;
void lower_orthonormal(Lowering& lowering, const KernelGroup& group);

}  // namespace gradc::passes::lowering
