// Compiled objects on disk: a file of any bytes in an entry's place is no entry, a stored object comes back
// as it was, and one byte of damage anywhere in its file is noticed. The input is where to damage it, and the
// object.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "compiler/object_cache.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

namespace fs = std::filesystem;

// A folder of this process, in memory where there is such a file system.
class Folder {
 public:
  Folder() {
    std::error_code error;
    std::string name = fs::is_directory("/dev/shm", error) ? "/dev/shm" : fs::temp_directory_path().string();
    name += "/gradc-fuzz-XXXXXX";
    require(mkdtemp(name.data()) != nullptr, "a folder can be made");
    path_ = name;
  }
  ~Folder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  const std::string& path() const { return path_; }
  std::string only_file() const { return fs::directory_iterator(path_)->path().string(); }

 private:
  std::string path_;
};

std::string contents(const std::string& path) {
  std::string bytes(fs::file_size(path), '\0');
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  require(read(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "an entry is read");
  close(file);
  return bytes;
}

void replace(const std::string& path, std::string_view bytes) {
  const int file = open(path.c_str(), O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);
  require(write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
          "an entry is written");
  close(file);
}

void run(Bytes input) {
  static const Folder folder;
  constexpr const char* kKey = "key";
  constexpr size_t kDamage = 4;  // place, 16 bits; change; what kind
  compiler::DiskObjectCache cache(folder.path());
  const std::string_view object = text_of(input).substr(std::min(kDamage, input.size()));
  cache.store(kKey, object);
  require(cache.stored() == 1 && cache.load(kKey) == object, "an object comes back as it was");
  const std::string path = folder.only_file(), entry = contents(path);
  if (input.size() >= kDamage) {
    std::string damaged = entry;
    const size_t place = (input[0] | size_t{input[1]} << 8) % entry.size();
    if (input[3] % 3 == 0) damaged[place] = static_cast<char>(damaged[place] ^ input[2]);
    if (input[3] % 3 == 1) damaged.resize(place);
    if (input[3] % 3 == 2) damaged.insert(place, 1, static_cast<char>(input[2]));
    replace(path, damaged);
    require(cache.load(kKey).has_value() == (damaged == entry), "damage is noticed");
  }
  replace(path, text_of(input));
  require(!cache.load(kKey) || text_of(input) == entry, "what is no entry is not loaded");
  const compiler::CacheUsage usage = compiler::cache_usage(folder.path());
  require(usage.entries <= 1 && usage.bytes <= static_cast<int64_t>(input.size()),
          "the folder holds no more");
  compiler::trim_cache(folder.path(), 0);
  compiler::clear_cache(folder.path());
  std::error_code error;
  fs::remove(path, error);  // where it is not the cache's own
}

const Registration registration("cache_entry", run);

}  // namespace
}  // namespace gradc::fuzz
