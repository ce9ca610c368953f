// The leaves of functions: inputs and symbol reads. Their types are declared; they are never computed.
#include "ir/ops/common.h"
#include "ir/ops/registry.h"

namespace gradc {

void register_external(std::vector<OpDef>& defs) {
  for (const auto& [name, doc, name_doc] :
       {std::tuple{"input", "A value that the caller passes for each run.", "the input's name"},
        std::tuple{"symbol",
                   "A parameter, running statistic or optimizer slot, as it was when the function started.",
                   "the symbol's name"}}) {
    OpDef def = ops::Def(name, OpKind::external, doc);
    def.attributes = {ops::required("name", AttributeKind::text, name_doc)};
    def.infer = [](std::span<const Type>, const Attributes&) {
      return InferResult::fail("the type of an input or symbol is declared, not inferred");
    };
    def.no_gradient = "it has no operand";
    defs.push_back(std::move(def));
  }
}

}  // namespace gradc
