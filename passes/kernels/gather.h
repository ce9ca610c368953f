// Kernels of gather and scatter_add.
#pragma once

namespace gradc::passes {
struct KernelGroup;
}

namespace gradc::passes::lowering {

class Lowering;
void lower_gather(Lowering& lowering, const KernelGroup& group);

}  // namespace gradc::passes::lowering
