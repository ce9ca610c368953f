// Reads whole files and replaces files atomically; knows nothing of formats.
#include "runtime/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <system_error>

#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

struct Descriptor {
  int number = -1;
  ~Descriptor() {
    if (number >= 0) close(number);
  }
};

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Follows symbolic links, so that a link stays a link and its target is replaced.
std::string resolved(const std::string& path) {
  char* real = realpath(path.c_str(), nullptr);
  if (!real) return path;
  std::string result(real);
  std::free(real);
  return result;
}

// Opens a new file named after `path`, which becomes its name; -1 on an error. Not by mkstemp: its files are
// private, and the process's umask, which they lack, cannot be read without changing it for other threads.
int open_beside(std::string& path) {
  static std::atomic<uint32_t> next = 0;
  const std::string beside = path + ".tmp-";
  for (int attempt = 0; attempt < 1000; ++attempt) {
    path = fmt::format("{}{:x}-{:x}", beside, getpid(), next++);
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file >= 0 || errno != EEXIST) return file;  // what a killed process left stays
  }
  return -1;
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
  sigtimedwait(&wanted, nullptr, &now);  // the signal of a write that failed is this thread's own
  pthread_sigmask(SIG_SETMASK, &old_, nullptr);
  errno = error;
}

std::string error_text(int error) { return std::generic_category().message(error); }

std::vector<uint8_t> read_file(const std::string& path, std::string_view what, uint64_t limit) {
  const auto fail = [&](const std::string& why) -> RunError {
    return RunError(kExitDataError, fmt::format("{}: cannot read the {}: {}", path, what, why));
  };
  // Non-blocking, so that a pipe without a writer is refused below and does not hang.
  Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.number < 0) throw fail(error_text(errno));
  struct stat status{};
  if (fstat(file.number, &status) != 0) throw fail(error_text(errno));
  if (S_ISDIR(status.st_mode)) throw fail("it is a directory; name a file");
  if (!S_ISREG(status.st_mode)) throw fail("it is not a regular file");
  if (static_cast<uint64_t>(status.st_size) > limit)
    throw fail(fmt::format("it has {} bytes; more than {} are not accepted", status.st_size, limit));
  std::vector<uint8_t> bytes;
  try {
    bytes.resize(static_cast<size_t>(status.st_size));
  } catch (const std::bad_alloc&) {
    throw fail(fmt::format("there is no memory for its {} bytes", status.st_size));
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
  if (fsync(file_) != 0) fail("write", errno);
  const int closed = close(file_);
  file_ = -1;
  if (closed != 0 || rename(temporary_.c_str(), target_.c_str()) != 0) {
    const int error = errno;
    unlink(temporary_.c_str());
    fail("write", error);
  }
  // The directory too, so that the new name survives a crash; some file systems cannot, which is no error.
  Descriptor directory{open(directory_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (directory.number >= 0) fsync(directory.number);
}

void check_output_path(const std::string& path, std::string_view what) { OutputFile probe(path, what); }

}  // namespace gradc::runtime
