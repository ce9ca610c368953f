// Aligned, zeroed memory blocks for parameters, arena and batches; knows nothing of their contents.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace gradc::runtime {

// Owns `bytes` zero bytes, aligned to 64 (to 2 MiB, with huge pages requested, where the block is that large).
class AlignedBlock {
 public:
  AlignedBlock() = default;
  // `what` names the block in the message of the RunError (kExitRunFailed) thrown when there is not enough
  // memory.
  AlignedBlock(uint64_t bytes, std::string_view what);
  ~AlignedBlock() { release(); }
  AlignedBlock(AlignedBlock&& other) noexcept { swap(other); }
  AlignedBlock& operator=(AlignedBlock&& other) noexcept {
    swap(other);
    return *this;
  }
  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void swap(AlignedBlock& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(mapping_, other.mapping_);
    std::swap(mapping_bytes_, other.mapping_bytes_);
  }
  void release();
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  void* mapping_ = nullptr;  // null: from the heap
  size_t mapping_bytes_ = 0;
};

// Bytes this process may still allocate: the minimum of what /proc/meminfo reports, and what the control group's limit
// and the process's own limits (ulimit -v, -d) leave; UINT64_MAX when none can be read.
uint64_t available_memory();
// Smaller blocks are not checked against the available memory.
inline constexpr uint64_t kCheckedBytes = uint64_t{64} << 20;

}  // namespace gradc::runtime
