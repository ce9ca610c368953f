// The letters of an einsum, for passes that read or change them.
#pragma once
#include <string>

#include "ir/tensor/module.h"

namespace gradc::ops {

// "nk,ok->no": letters of both operands and of the result, the batch's n among them.
struct EinsumSpec {
  std::string a, b, result;
  std::string text() const { return a + "," + b + "->" + result; }
};

// Of an einsum, whose type inference has checked it.
EinsumSpec einsum_spec(const Op& op);

}  // namespace gradc::ops
