// SHA-256 of pieces of memory.
#pragma once
#include <cstddef>
#include <memory>
#include <string>

namespace gradc::runtime {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void add(const void* data, size_t bytes);
  std::string hex();  // 64 digits; ends the hash

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gradc::runtime
