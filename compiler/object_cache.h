// Compiled objects on disk, so that the next run of a model need not compile. Knows files, nothing of an object's
// contents. If the folder or an entry is unusable, a run continues as without it.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "codegen/jit.h"

namespace gradc::compiler {

// An entry is a file of its own, named after the SHA-256 of gradc's version and the key: a line of text with
// the hashes of key and object, then the object. Any number of processes may use one folder at once. An entry that is
// damaged, of another version or of another user is not loaded, and is replaced if permissions allow.
class DiskObjectCache final : public codegen::ObjectCache {
 public:
  static constexpr uint64_t kDefaultLimit = uint64_t{256} << 20;  // bytes

  // The folder is created, with access for this user only, when the first object is stored.
  explicit DiskObjectCache(std::string folder, uint64_t limit = kDefaultLimit);
  // Brings the folder below its limit if anything was stored.
  ~DiskObjectCache() override;
  DiskObjectCache(const DiskObjectCache&) = delete;
  DiskObjectCache& operator=(const DiskObjectCache&) = delete;

  std::optional<std::string> load(const std::string& key) noexcept override;
  void store(const std::string& key, std::string_view object) noexcept override;

  size_t hits() const { return hits_; }
  size_t misses() const { return misses_; }
  size_t stored() const { return stored_; }

 private:
  std::string folder_;
  uint64_t limit_;
  std::once_flag made_;
  std::atomic<size_t> hits_ = 0, misses_ = 0, stored_ = 0;
};

struct CacheUsage {
  int64_t entries = 0, bytes = 0;
};
CacheUsage cache_usage(const std::string& folder);
// Removes every entry and the temporary files of interrupted runs, no other files. Returns what was removed; throws
// RunError (exit 1) if something could not be.
CacheUsage clear_cache(const std::string& folder);
// Removes entries until they have at most `limit` bytes, the least recently used first.
void trim_cache(const std::string& folder, uint64_t limit);
// Why nothing can be written there; empty when it can. Writes nothing.
std::string cache_problem(const std::string& folder);

}  // namespace gradc::compiler
