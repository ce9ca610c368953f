// Tells builds of the code generator apart. Private to codegen.
#pragma once

namespace gradc::codegen {

// SHA-256 of the code generator's sources and of the interfaces that its code relies on (loop IR, the ABI);
// made by cmake/source_hash.cmake.
extern const char* const source_hash;

}  // namespace gradc::codegen
