// Reads whole files and replaces files atomically; knows nothing of formats.
#include "runtime/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "runtime/memory.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

struct Descriptor {
  int number = -1;
  explicit Descriptor(int file = -1) : number(file) {}
  Descriptor(Descriptor&& other) noexcept : number(std::exchange(other.number, -1)) {}
  ~Descriptor() {
    if (number >= 0) close(number);
  }
};

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Follows symbolic links, so that the link's target is replaced and not the link.
std::string resolved(const std::string& path) {
  char* real = realpath(path.c_str(), nullptr);
  if (!real) return path;
  std::string result(real);
  std::free(real);
  return result;
}

constexpr std::string_view kTemporary = ".tmp-";  // then process and counter, both hexadecimal

// Opens a new file named after `path`, which becomes its name; -1 on an error. Not by mkstemp: its files are
// private, and the process's umask, which they lack, cannot be read without changing it for other threads.
// The lock marks the file as being written; on file systems without locks there is none.
int open_beside(std::string& path) {
  static std::atomic<uint32_t> next = 0;
  const std::string beside = path + std::string(kTemporary);
  for (int attempt = 0; attempt < 1000; ++attempt) {
    path = fmt::format("{}{:x}-{:x}", beside, getpid(), next++);
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0 && errno == EEXIST) continue;  // left by a killed process, or in use on another machine
    if (file < 0) return file;
    const bool taken = flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    struct stat status{};
    if (!taken && (fstat(file, &status) != 0 || status.st_nlink != 0)) return file;
    close(file);  // between the two calls another process took it for abandoned and removed it
  }
  return -1;
}

// The name of the file that a temporary one was to become; empty for other names.
std::string_view target_of(std::string_view name) {
  const size_t at = name.rfind(kTemporary);
  if (at == std::string_view::npos || at == 0) return {};
  const std::string_view key = name.substr(at + kTemporary.size());
  const size_t dash = key.find('-');
  if (dash == std::string_view::npos || dash == 0 || dash + 1 == key.size() || key.size() > 17) return {};
  for (size_t i = 0; i < key.size(); ++i)
    if (i != dash && std::string_view("0123456789abcdef").find(key[i]) == std::string_view::npos) return {};
  return name.substr(0, at);
}

void remove_if_abandoned(const std::string& path) {
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  struct stat status{}, now{};
  if (file.number < 0 || fstat(file.number, &status) != 0) return;
  if (!S_ISREG(status.st_mode) || status.st_uid != geteuid()) return;
  if (flock(file.number, LOCK_EX | LOCK_NB) != 0) return;  // its writer is alive
  // It may have been renamed since it was opened.
  if (lstat(path.c_str(), &now) == 0 && now.st_ino == status.st_ino && now.st_dev == status.st_dev)
    unlink(path.c_str());
}

}  // namespace

FileSizeGuard::FileSizeGuard() {
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGXFSZ);
  pthread_sigmask(SIG_BLOCK, &wanted, &old_);
}

FileSizeGuard::~FileSizeGuard() {
  if (sigismember(&old_, SIGXFSZ) == 1) return;
  const int error = errno;
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGXFSZ);
  const timespec now{};
  sigtimedwait(&wanted, nullptr,
               &now);  // takes the pending signal of a failed write, which is sent to this thread
  pthread_sigmask(SIG_SETMASK, &old_, nullptr);
  errno = error;
}

std::string error_text(int error) { return std::generic_category().message(error); }

namespace {

RunError unreadable(const std::string& path, std::string_view what, const std::string& why) {
  return RunError(kExitDataError, fmt::format("{}: cannot read the {}: {}", path, what, why));
}

struct Input {
  Descriptor file;
  struct stat status{};
};

// A regular file, opened for reading.
Input open_input(const std::string& path, std::string_view what) {
  // Non-blocking, so that a pipe without a writer is refused below and does not hang.
  Input input{Descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK))};
  if (input.file.number < 0 || fstat(input.file.number, &input.status) != 0)
    throw unreadable(path, what, error_text(errno));
  if (S_ISDIR(input.status.st_mode)) throw unreadable(path, what, "it is a directory; name a file");
  if (!S_ISREG(input.status.st_mode)) throw unreadable(path, what, "it is not a regular file");
  return input;
}

}  // namespace

std::vector<uint8_t> read_file(const std::string& path, std::string_view what, uint64_t limit) {
  const auto fail = [&](const std::string& why) { return unreadable(path, what, why); };
  const Input input = open_input(path, what);
  const Descriptor& file = input.file;
  const struct stat& status = input.status;
  if (static_cast<uint64_t>(status.st_size) > limit)
    throw fail(fmt::format("it has {} bytes; more than {} are not accepted", status.st_size, limit));
  std::vector<uint8_t> bytes;
  const auto size = static_cast<uint64_t>(status.st_size);
  // The kernel overcommits memory and kills the process on access: so check first.
  if (size >= kCheckedBytes && size > available_memory())
    throw fail(
        fmt::format("there is no memory for its {} bytes; {} are available", size, available_memory()));
  try {
    bytes.resize(size);
  } catch (const std::bad_alloc&) {
    throw fail(fmt::format("there is no memory for its {} bytes", size));
  }
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = read(file.number, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw fail(error_text(errno));
    if (count == 0)
      throw fail(fmt::format("it ended after {} of {} bytes; is it being written?", done, bytes.size()));
    done += static_cast<size_t>(count);
  }
  return bytes;
}

void OutputFile::fail(const char* action, int error) {
  std::string advice;
  if (error == ENOSPC || error == EDQUOT) advice = "; free some space or write elsewhere";
  if (error == EFBIG) advice = "; raise the file size limit (ulimit -f) or write elsewhere";
  if (error == ENOENT) advice = fmt::format("; make the directory {} first", directory_of(path_));
  if (error == EACCES || error == EROFS || error == EPERM)
    advice = "; choose a directory that you may write to";
  throw RunError(kExitRunFailed,
                 fmt::format("{}: cannot {} the {}: {}{}", path_, action, what_, error_text(error), advice));
}

OutputFile::OutputFile(const std::string& path, std::string_view what)
    : path_(path), target_(resolved(path)), what_(what) {
  if (path.empty()) throw RunError(kExitUsage, fmt::format("the name of the {} is empty", what));
  buffer_.reserve(kBufferBytes);
  struct stat status{};
  if (stat(target_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    if (S_ISDIR(status.st_mode)) fail("write", EISDIR);
    file_ = open(target_.c_str(), O_WRONLY | O_CLOEXEC);
    if (file_ < 0) fail("open", errno);
    return;
  }
  temporary_ = target_;
  file_ = open_beside(temporary_);
  if (file_ < 0) {
    const int error = errno;
    temporary_.clear();
    fail("create", error);
  }
  if (status.st_mode != 0 && fchmod(file_, status.st_mode & 07777) != 0 && errno != EPERM &&
      errno != ENOTSUP) {
    const int error = errno;
    close(file_);
    unlink(temporary_.c_str());
    fail("create", error);
  }
}

OutputFile::~OutputFile() {
  if (file_ >= 0) {
    close(file_);
    if (!temporary_.empty()) unlink(temporary_.c_str());
  }
}

void OutputFile::write_through(const uint8_t* data, size_t bytes) {
  const FileSizeGuard guard;
  while (bytes != 0) {
    const ssize_t count = ::write(file_, data, bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write", errno);
    if (count == 0) fail("write", ENOSPC);
    data += count;
    bytes -= static_cast<size_t>(count);
  }
}

void OutputFile::flush() {
  write_through(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void OutputFile::write(const void* data, size_t bytes) {
  const auto* begin = static_cast<const uint8_t*>(data);
  if (buffer_.size() + bytes > kBufferBytes) flush();
  if (bytes >= kBufferBytes) return write_through(begin, bytes);
  buffer_.insert(buffer_.end(), begin, begin + bytes);
}

void OutputFile::commit() {
  flush();
  if (temporary_.empty()) {
    const int closed = close(file_);
    file_ = -1;
    if (closed != 0) fail("write", errno);
    return;
  }
  // Renamed while the lock is held, so that no process takes the temporary file for abandoned. Once synced, the content
  // is safe, and errors of close() do not matter.
  if (fsync(file_) != 0 || rename(temporary_.c_str(), target_.c_str()) != 0) fail("write", errno);
  close(file_);
  file_ = -1;
  // Sync the directory too, so that the new name survives a crash; some file systems cannot, which is no error.
  Descriptor directory{open(directory_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (directory.number >= 0) fsync(directory.number);
}

void remove_abandoned(const std::string& folder, const std::function<bool(std::string_view)>& target) {
  DIR* directory = opendir(folder.c_str());
  if (!directory) return;
  std::vector<std::string> found;
  while (const dirent* entry = readdir(directory))
    if (const std::string_view name = target_of(entry->d_name); !name.empty() && target(name))
      found.push_back(folder + "/" + entry->d_name);
  closedir(directory);
  for (const std::string& path : found) remove_if_abandoned(path);
}

void check_output_path(const std::string& path, std::string_view what) {
  const std::string target = resolved(path);
  const std::string base = target.substr(target.rfind('/') + 1);
  if (!base.empty())
    remove_abandoned(directory_of(target), [&](std::string_view name) { return name == base; });
  OutputFile probe(path, what);
}

void check_input_path(const std::string& path, std::string_view what) { open_input(path, what); }

}  // namespace gradc::runtime
