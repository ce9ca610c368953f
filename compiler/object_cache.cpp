// Compiled objects on disk. Files are written under a temporary name and renamed, so that a reader sees only complete
// ones; an entry is used only if its hash is right.
#include "compiler/object_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <tuple>
#include <utility>
#include <vector>

#include "include/gradc/version.h"
#include "runtime/files.h"
#include "runtime/sha256.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::compiler {

namespace {

constexpr std::string_view kMagic = "gradc object ";
constexpr int kFormat = 1;  // of the files; to be incremented when they or the meaning of keys change
constexpr std::string_view kSuffix = ".gradc-object";
constexpr std::string_view kTemporary = ".tmp-";  // then six letters
constexpr size_t kHashDigits = 64;
constexpr time_t kAbandoned = 3600;  // seconds after which a temporary file counts as abandoned

struct Descriptor {
  int number = -1;
  ~Descriptor() {
    if (number >= 0) close(number);
  }
};

std::string hash(std::string_view bytes) {
  runtime::Sha256 sha;
  sha.add(bytes.data(), bytes.size());
  return sha.hex();
}

std::string key_hash(const std::string& key) {
  return hash(fmt::format("{}{} gradc {}\n", kMagic, kFormat, GRADC_VERSION) + key);
}

// The first line of an entry, of one length for every object: magic, format, bytes, key's and object's hash.
std::string header(const std::string& name, std::string_view object) {
  return fmt::format("{}{:04} {:020} {} {}\n", kMagic, kFormat, object.size(), name, hash(object));
}
constexpr size_t kHeaderBytes = kMagic.size() + 4 + 1 + 20 + 1 + 64 + 1 + 64 + 1;

std::string path_of(const std::string& folder, const std::string& name) {
  return fmt::format("{}/{}{}", folder, name, kSuffix);
}

bool read_all(int file, char* to, size_t bytes) {
  while (bytes != 0) {
    const ssize_t count = read(file, to, bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    to += count;
    bytes -= static_cast<size_t>(count);
  }
  return true;
}

bool write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(file, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    text.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

// Creates the folder and its missing parents, with access for this user only.
void make_folders(const std::string& folder) {
  for (size_t slash = folder.find('/', 1); slash != std::string::npos; slash = folder.find('/', slash + 1))
    mkdir(folder.substr(0, slash).c_str(), 0700);
  mkdir(folder.c_str(), 0700);
}

// The object of an entry, if the file is valid and only this user could have written it: an object is code that will
// run.
std::optional<std::string> read_entry(int file, const std::string& name) {
  struct stat status{};
  if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  if (status.st_uid != geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) return std::nullopt;
  if (status.st_size < static_cast<off_t>(kHeaderBytes)) return std::nullopt;
  std::string head(kHeaderBytes, '\0');
  if (!read_all(file, head.data(), head.size()) || !head.starts_with(kMagic)) return std::nullopt;
  std::string object(static_cast<size_t>(status.st_size) - kHeaderBytes, '\0');
  if (!read_all(file, object.data(), object.size()) || head != header(name, object)) return std::nullopt;
  return object;
}

enum class Kind { foreign, entry, temporary };

Kind kind_of(std::string_view file) {
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (file.size() < kHashDigits || !std::all_of(file.begin(), file.begin() + kHashDigits, hex))
    return Kind::foreign;
  file.remove_prefix(kHashDigits);
  if (!file.starts_with(kSuffix)) return Kind::foreign;
  file.remove_prefix(kSuffix.size());
  if (file.empty()) return Kind::entry;
  return file.starts_with(kTemporary) && file.size() == kTemporary.size() + 6 ? Kind::temporary
                                                                              : Kind::foreign;
}

// Files whose name and first bytes say that they are the cache's. A temporary file may be shorter than that.
struct File {
  std::string path;
  Kind kind;
  int64_t bytes;
  timespec used;
};
std::vector<File> files_of(const std::string& folder) {
  std::vector<File> files;
  DIR* directory = opendir(folder.c_str());
  if (!directory) return files;
  while (const dirent* entry = readdir(directory)) {
    const Kind kind = kind_of(entry->d_name);
    if (kind == Kind::foreign) continue;
    std::string path = fmt::format("{}/{}", folder, entry->d_name);
    const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
    struct stat status{};
    if (file.number < 0 || fstat(file.number, &status) != 0) continue;
    if (!S_ISREG(status.st_mode) || status.st_uid != geteuid()) continue;
    std::string head(std::min(kMagic.size(), static_cast<size_t>(status.st_size)), '\0');
    if (!read_all(file.number, head.data(), head.size()) || !kMagic.starts_with(head)) continue;
    if (kind == Kind::entry && head.size() < kMagic.size()) continue;
    files.push_back({std::move(path), kind, static_cast<int64_t>(status.st_size), status.st_mtim});
  }
  closedir(directory);
  return files;
}

}  // namespace

DiskObjectCache::DiskObjectCache(std::string folder, uint64_t limit)
    : folder_(std::move(folder)), limit_(limit) {}

DiskObjectCache::~DiskObjectCache() {
  try {
    if (stored_ != 0) trim_cache(folder_, limit_);
  } catch (const std::exception&) {  // no memory: left to another run
  }
}

std::optional<std::string> DiskObjectCache::load(const std::string& key) noexcept {
  try {
    const std::string name = key_hash(key);
    // Non-blocking, so that a pipe without a writer is refused and does not hang.
    const Descriptor file{
        open(path_of(folder_, name).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
    std::optional<std::string> object;
    if (file.number >= 0) object = read_entry(file.number, name);
    if (object)
      futimens(file.number, nullptr);  // marks it as used; fails harmlessly on a read-only file system
    ++(object ? hits_ : misses_);
    return object;
  } catch (const std::exception&) {  // no memory
    ++misses_;
    return std::nullopt;
  }
}

void DiskObjectCache::store(const std::string& key, std::string_view object) noexcept {
  try {
    if (object.size() + kHeaderBytes > limit_) return;
    std::call_once(made_, [&] { make_folders(folder_); });
    const runtime::FileSizeGuard guard;
    const std::string name = key_hash(key);
    const std::string path = path_of(folder_, name);
    std::string temporary = fmt::format("{}{}XXXXXX", path, kTemporary);
    Descriptor file{mkostemp(temporary.data(), O_CLOEXEC)};  // readable and writable by this user alone
    if (file.number < 0) return;
    // Not synced: the hash reveals an entry that a crash of the machine truncated.
    bool good = write_all(file.number, header(name, object)) && write_all(file.number, object);
    if (close(std::exchange(file.number, -1)) != 0) good = false;
    if (good && rename(temporary.c_str(), path.c_str()) == 0) {
      ++stored_;
    } else {
      unlink(temporary.c_str());
    }
  } catch (const std::exception&) {  // no memory
  }
}

CacheUsage cache_usage(const std::string& folder) {
  CacheUsage usage;
  for (const File& file : files_of(folder)) {
    usage.entries += file.kind == Kind::entry ? 1 : 0;
    usage.bytes += file.bytes;
  }
  return usage;
}

CacheUsage clear_cache(const std::string& folder) {
  CacheUsage removed;
  std::string failure;
  for (const File& file : files_of(folder)) {
    if (unlink(file.path.c_str()) != 0) {
      if (errno != ENOENT)  // else another process removed it
        failure = fmt::format("{}: cannot remove the cache entry: {}", file.path, runtime::error_text(errno));
      continue;
    }
    removed.entries += file.kind == Kind::entry ? 1 : 0;
    removed.bytes += file.bytes;
  }
  if (!failure.empty()) throw RunError(kExitRunFailed, failure);
  return removed;
}

void trim_cache(const std::string& folder, uint64_t limit) {
  std::vector<File> entries;
  uint64_t total = 0;
  const time_t now = std::time(nullptr);
  for (File& file : files_of(folder)) {
    if (file.kind == Kind::temporary) {
      if (file.used.tv_sec + kAbandoned < now) unlink(file.path.c_str());
      continue;
    }
    total += static_cast<uint64_t>(file.bytes);
    entries.push_back(std::move(file));
  }
  std::sort(entries.begin(), entries.end(), [](const File& a, const File& b) {
    return std::tie(a.used.tv_sec, a.used.tv_nsec, a.path) < std::tie(b.used.tv_sec, b.used.tv_nsec, b.path);
  });
  for (const File& file : entries) {
    if (total <= limit) return;
    if (unlink(file.path.c_str()) == 0 || errno == ENOENT) total -= static_cast<uint64_t>(file.bytes);
  }
}

std::string cache_problem(const std::string& folder) {
  // Checks the folder itself, or the one that it would be created in.
  for (std::string path = folder;;) {
    struct stat status{};
    if (stat(path.c_str(), &status) == 0) {
      if (!S_ISDIR(status.st_mode)) return fmt::format("{} is not a directory", path);
      if (access(path.c_str(), W_OK | X_OK) != 0)
        return fmt::format("cannot write to {}: {}", path, runtime::error_text(errno));
      return "";
    }
    if (errno != ENOENT) return fmt::format("{}: {}", path, runtime::error_text(errno));
    const size_t slash = path.find_last_of('/');
    if (path == ".") return "";
    path = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  }
}

}  // namespace gradc::compiler
