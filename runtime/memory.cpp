// Allocates aligned blocks, by mmap with huge pages where they are large.
#include "runtime/memory.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "runtime/cgroup.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

constexpr uint64_t kHugePage = uint64_t{2} << 20;
constexpr uint64_t kLargest = uint64_t{1} << 46;

std::string human(uint64_t bytes) {
  if (bytes >= uint64_t{1} << 30)
    return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (uint64_t{1} << 30));
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (uint64_t{1} << 20));
}

[[noreturn]] void out_of_memory(uint64_t bytes, std::string_view what, uint64_t available) {
  std::string message = fmt::format("not enough memory for the {}: it needs {}", what, human(bytes));
  // The allocation failed although there seems to be enough: unknown limits, or a fragmented address space.
  if (available < bytes)
    message += fmt::format(", and {} are available", human(available));
  else
    message += ", which the system refuses";
  throw RunError(kExitRunFailed,
                 message +
                     "; try a smaller batch or a smaller model, or raise the limits on memory "
                     "(ulimit -v, control group)");
}

// The bytes left below a limit of the process; `used` is the column of /proc/self/statm that the limit counts, in
// pages.
uint64_t left_of_limit(decltype(RLIMIT_AS) resource, int used) {
  rlimit limit{};
  if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
  std::ifstream file("/proc/self/statm");
  uint64_t pages = 0;
  for (int i = 0; i <= used; ++i) file >> pages;
  if (!file) return UINT64_MAX;
  const uint64_t taken = pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return limit.rlim_cur > taken ? limit.rlim_cur - taken : 0;
}

}  // namespace

uint64_t available_memory() {
  uint64_t available = cgroup_memory_limit(CgroupFiles{}).value_or(UINT64_MAX);
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  uint64_t kilobytes = 0, promised = 0, promises = 0;
  while (file >> key >> kilobytes) {
    if (key == "MemAvailable:") available = std::min(available, kilobytes * 1024);
    if (key == "CommitLimit:") promises = kilobytes * 1024;
    if (key == "Committed_AS:") promised = kilobytes * 1024;
    std::getline(file, unit);
  }
  int overcommit = 0;
  if (std::ifstream("/proc/sys/vm/overcommit_memory") >> overcommit && overcommit == 2)
    available = std::min(available, promises > promised ? promises - promised : 0);
  available = std::min(available, left_of_limit(RLIMIT_AS, 0));
  return std::min(available, left_of_limit(RLIMIT_DATA, 5));
}

AlignedBlock::AlignedBlock(uint64_t bytes, std::string_view what) {
  if (bytes == 0) return;
  // The kernel overcommits memory and kills the process on access: so check first.
  if (bytes >= kCheckedBytes) {
    const uint64_t available = available_memory();
    if (bytes > available || bytes > kLargest) out_of_memory(bytes, what, available);
  }
  if (bytes < kHugePage) {
    data_ = static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
    if (!data_) out_of_memory(bytes, what, available_memory());
    std::memset(data_, 0, (bytes + 63) / 64 * 64);
    size_ = bytes;
    return;
  }
  mapping_bytes_ = (bytes + kHugePage - 1) / kHugePage * kHugePage + kHugePage;
  void* mapping = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) out_of_memory(bytes, what, available_memory());
  mapping_ = mapping;
  const auto address = reinterpret_cast<uintptr_t>(mapping);
  data_ = reinterpret_cast<uint8_t*>((address + kHugePage - 1) / kHugePage * kHugePage);
  size_ = bytes;
  madvise(data_, (bytes + kHugePage - 1) / kHugePage * kHugePage, MADV_HUGEPAGE);  // advice: may fail
}

void AlignedBlock::release() {
  if (mapping_)
    munmap(mapping_, mapping_bytes_);
  else
    std::free(data_);
  data_ = nullptr;
  mapping_ = nullptr;
  size_ = 0;
}

}  // namespace gradc::runtime
