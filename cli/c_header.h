// The C header of a compiled model. Knows nothing of how it was compiled.
#pragma once
#include <string>
#include <vector>

#include "runtime/abi.h"

namespace gradc::cli {

// A model file's name as an identifier of C: "my-net" is my_net.
std::string c_identifier(const std::string& name);

// A self-contained header: the session interface, and functions and structs with the model's own names, types and
// sizes.
std::string c_header(const gradc_program& program, const std::string& identifier);

// The symbols that a shared library of the model exports: its bundle, and the session interface.
std::vector<std::string> exported_symbols(const std::string& identifier);

}  // namespace gradc::cli
