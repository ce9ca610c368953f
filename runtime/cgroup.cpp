// Reads control group limits. In a container the group's path often does not exist below the mount: then its
// parents do.
#include "runtime/cgroup.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <vector>

namespace gradc::runtime {
namespace {

// The folders that may hold the limits of `controller` ("cpu"), for version 1 and for version 2, innermost
// first.
std::vector<std::string> folders(const CgroupFiles& files, const std::string& controller) {
  std::vector<std::string> result;
  std::ifstream self(files.self);
  std::string line;
  while (std::getline(self, line)) {  // "4:cpu,cpuacct:/path" or, version 2, "0::/path"
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    std::vector<std::string> mounts;
    if (names.empty()) {
      mounts = {files.root, files.root + "/unified"};
    } else if (("," + names + ",").find("," + controller + ",") != std::string::npos) {
      mounts = {files.root + "/" + names, files.root + "/" + controller};
    }
    while (true) {
      if (path == "/") path.clear();
      for (const auto& mount : mounts) result.push_back(mount + path);
      if (path.empty()) break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return result;
}

template <typename T>
std::optional<T> read_number(const std::string& path) {
  std::ifstream file(path);
  T value{};
  if (file >> value) return value;
  return std::nullopt;
}

template <typename T>
void lower(std::optional<T>& limit, T value) {
  limit = limit ? std::min(*limit, value) : value;
}

}  // namespace

std::optional<double> cgroup_cpu_limit(const CgroupFiles& files) {
  std::optional<double> limit;
  for (const auto& folder : folders(files, "cpu")) {
    double quota = 0, period = 0;
    std::ifstream file(folder + "/cpu.max");  // "250000 100000" or "max 100000"
    if (!(file >> quota >> period)) {
      quota = read_number<double>(folder + "/cpu.cfs_quota_us").value_or(-1);
      period = read_number<double>(folder + "/cpu.cfs_period_us").value_or(0);
    }
    if (quota > 0 && period > 0) lower(limit, quota / period);
  }
  return limit;
}

std::optional<uint64_t> cgroup_memory_limit(const CgroupFiles& files) {
  std::optional<uint64_t> limit;
  for (const auto& folder : folders(files, "memory"))
    for (const char* name : {"/memory.max", "/memory.limit_in_bytes"})  // "max" does not read as a number
      if (const auto bytes = read_number<uint64_t>(folder + name)) lower(limit, *bytes);
  return limit;
}

}  // namespace gradc::runtime
