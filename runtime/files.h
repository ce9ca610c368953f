// Files as the runtime reads and writes them: whole in, and out through a new file that replaces the old one
// only when complete. Knows nothing of formats.
#pragma once
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace gradc::runtime {

// The bytes of a regular file. `what` names its role in messages ("weights file"). Throws RunError
// (kExitDataError) when it is missing, unreadable, no regular file or larger than `limit` bytes.
std::vector<uint8_t> read_file(const std::string& path, std::string_view what,
                               uint64_t limit = uint64_t{1} << 40);

// Writes a file so that `path` always holds either its old content or the whole new one: the bytes go to a temporary
// file in the same directory, which commit() syncs and renames; without commit() the temporary file is removed, and one
// that a killed process leaves is removed by check_output_path(). Symbolic
// links are followed. A device or pipe (/dev/null) is written directly. Errors are RunError (kExitRunFailed).
class OutputFile {
 public:
  OutputFile(const std::string& path, std::string_view what);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  void flush();
  void write_through(const uint8_t* data, size_t bytes);
  [[noreturn]] void fail(const char* action, int error);
  std::string path_;       // as the user wrote it, for messages
  std::string target_;     // the path with links resolved
  std::string temporary_;  // empty: written directly
  std::string what_;
  std::vector<uint8_t> buffer_;
  int file_ = -1;
};

// For use before a long run: throws what OutputFile would throw later, as far as that can be known without writing.
// Removes temporary files that killed processes left for this path.
void check_output_path(const std::string& path, std::string_view what);

// For use before a long run: throws what read_file would throw later, without reading.
void check_input_path(const std::string& path, std::string_view what);

// Removes from a folder the temporary files of OutputFile whose process is gone, if `target` is true of the name they
// were to be renamed to: regular files of this user on which no process holds the lock that a writer holds until it
// renames. Errors are ignored.
void remove_abandoned(const std::string& folder, const std::function<bool(std::string_view)>& target);

// While it exists, a write of this thread past a file size limit fails with EFBIG, which can be reported, instead of
// ending the process; the process's signal handling is not changed.
class FileSizeGuard {
 public:
  FileSizeGuard();
  ~FileSizeGuard();
  FileSizeGuard(const FileSizeGuard&) = delete;
  FileSizeGuard& operator=(const FileSizeGuard&) = delete;

 private:
  sigset_t old_;
};

// "No space left on device" and the like for an errno value.
std::string error_text(int error);

}  // namespace gradc::runtime
