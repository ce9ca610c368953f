// The resource limits of the process's control group, versions 1 and 2.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace gradc::runtime {

// Where to look; tests point these at files of their own.
struct CgroupFiles {
  std::string self = "/proc/self/cgroup";
  std::string root = "/sys/fs/cgroup";
};

// Processors by the quota (2.5: 250 ms of run time each 100 ms), the smallest along the path to the root; empty without
// a quota.
std::optional<double> cgroup_cpu_limit(const CgroupFiles& files);

// Bytes of the memory limit, the smallest along the path; empty without one.
std::optional<uint64_t> cgroup_memory_limit(const CgroupFiles& files);

}  // namespace gradc::runtime
