// Files and memory: whole or not at all, and what the messages say.
#include "runtime/files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "runtime/memory.h"
#include "support/diagnostic.h"
#include "tests/runtime/helpers.h"

namespace gradc::runtime::files_test {
namespace {

using test::expect_error;
using test::read_text;
using test::TemporaryFolder;

TEST(OutputFile, ReplacesOnlyOnCommit) {
  TemporaryFolder folder;
  const std::string path = folder / "out";
  test::write_bytes(path, {'o', 'l', 'd'});
  {
    OutputFile file(path, "weights file");
    file.write("half of it");
    EXPECT_EQ(read_text(path), "old");
  }
  EXPECT_EQ(read_text(path), "old");
  EXPECT_EQ(folder.files(), std::vector<std::string>{"out"});
  OutputFile file(path, "weights file");
  const std::string large(3 << 20, 'x');
  file.write("new ");
  file.write(large);
  file.commit();
  EXPECT_EQ(read_text(path), "new " + large);
  EXPECT_EQ(folder.files(), std::vector<std::string>{"out"});
}

TEST(OutputFile, KeepsRightsAndLinks) {
  TemporaryFolder folder;
  const std::string path = folder / "out", link = folder / "link";
  test::write_bytes(path, {'o'});
  chmod(path.c_str(), 0640);
  std::filesystem::create_symlink(path, link);
  OutputFile file(link, "weights file");
  file.write("n");
  file.commit();
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(read_text(path), "n");
  struct stat status{};
  stat(path.c_str(), &status);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
  const mode_t mask = umask(022);
  OutputFile fresh(folder / "fresh", "weights file");
  fresh.commit();
  umask(mask);
  stat((folder / "fresh").c_str(), &status);
  EXPECT_EQ(status.st_mode & 0777, 0644u);
}

TEST(OutputFile, SaysWhatIsWrong) {
  TemporaryFolder folder;
  expect_error(kExitRunFailed,
               {"none/out", "cannot create the weights file", "No such file", "make the directory"},
               [&] { OutputFile(folder / "none/out", "weights file"); });
  expect_error(kExitRunFailed, {"Is a directory"}, [&] { OutputFile(folder.path(), "weights file"); });
  expect_error(kExitUsage, {"empty"}, [&] { OutputFile("", "weights file"); });
  test::write_bytes(folder / "file", {1});
  expect_error(kExitRunFailed, {"Not a directory"},
               [&] { check_output_path(folder / "file/out", "weights file"); });
  if (geteuid() != 0) {
    std::filesystem::create_directory(folder / "closed");
    chmod((folder / "closed").c_str(), 0500);
    expect_error(kExitRunFailed, {"Permission denied", "you may write to"},
                 [&] { OutputFile(folder / "closed/out", "weights file"); });
  }
  // A file system that takes no files, for root too.
  expect_error(kExitRunFailed, {"/proc/out", "cannot create"},
               [&] { OutputFile("/proc/out", "weights file"); });
  EXPECT_EQ(folder.files()[folder.files().size() - 1], "file");
}

TEST(OutputFile, FullDiskLeavesTheOldFile) {
  expect_error(kExitRunFailed, {"/dev/full", "No space left", "free some space"}, [] {
    OutputFile file("/dev/full", "weights file");
    file.write("something");
    file.commit();
  });
  TemporaryFolder folder;
  const std::string path = folder / "out";
  test::write_bytes(path, {'o', 'l', 'd'});
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{64 << 10, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string message =
      expect_error(kExitRunFailed, {path, "cannot write the weights file", "File too large"}, [&] {
        OutputFile file(path, "weights file");
        file.write(std::string(1 << 20, 'x'));
        file.commit();
      });
  setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_EQ(read_text(path), "old");
  EXPECT_EQ(folder.files(), std::vector<std::string>{"out"});
}

// A process that was killed while it wrote: its temporary file goes when the file is next to be written, and
// no sooner, nor what others left.
TEST(OutputFile, RemovesWhatAKilledProcessLeft) {
  TemporaryFolder folder;
  const std::string path = folder / "out";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    OutputFile file(path, "weights file");
    file.write("half");
    const char byte = 1;
    if (write(ready[1], &byte, 1) == 1) pause();
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  const std::vector<std::string> left = folder.files();
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].rfind("out.tmp-", 0), 0u);
  check_output_path(path, "weights file");
  EXPECT_EQ(folder.files(), left);  // it is being written
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const std::vector<std::string> foreign = {"other.tmp-1f-0", "out.tmp-1f", "out.tmp-1f-0x", "out.tmp-notes"};
  for (const std::string& name : foreign) test::write_bytes(folder / name, {'a'});
  std::filesystem::create_directory(folder / "out.tmp-1f-1");
  check_output_path(path, "weights file");
  const std::vector<std::string> expected = {"other.tmp-1f-0", "out.tmp-1f", "out.tmp-1f-0x", "out.tmp-1f-1",
                                             "out.tmp-notes"};
  EXPECT_EQ(folder.files(), expected);
  close(ready[0]);
  close(ready[1]);
}

TEST(OutputFile, WritesToDevices) {
  OutputFile file("/dev/null", "weights file");
  file.write("gone");
  file.commit();
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST(ReadFile, SaysWhatIsWrong) {
  TemporaryFolder folder;
  expect_error(kExitDataError, {"missing", "cannot read the weights file", "No such file"},
               [&] { read_file(folder / "missing", "weights file"); });
  expect_error(kExitDataError, {"directory"}, [&] { read_file(folder.path(), "weights file"); });
  expect_error(kExitDataError, {"not a regular file"}, [&] { read_file("/dev/zero", "weights file"); });
  mkfifo((folder / "pipe").c_str(), 0600);
  expect_error(kExitDataError, {"not a regular file"}, [&] { read_file(folder / "pipe", "weights file"); });
  test::write_bytes(folder / "ten", test::Bytes(10, 1));
  expect_error(kExitDataError, {"10 bytes", "more than 9"},
               [&] { read_file(folder / "ten", "weights file", 9); });
  EXPECT_EQ(read_file(folder / "ten", "weights file").size(), 10u);
}

TEST(AlignedBlock, IsAlignedAndZero) {
  for (uint64_t bytes : {1ull, 64ull, 1000ull, (2ull << 20) - 1, 2ull << 20, 5000001ull}) {
    AlignedBlock block(bytes, "arena");
    EXPECT_EQ(block.size(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(block.data()) % (bytes >= 2ull << 20 ? 2u << 20 : 64u), 0u);
    for (uint64_t i = 0; i < bytes; ++i) ASSERT_EQ(block.data()[i], 0);
    std::fill_n(block.data(), bytes, uint8_t{1});
    AlignedBlock moved(std::move(block));
    EXPECT_EQ(moved.data()[bytes - 1], 1);
  }
  EXPECT_EQ(AlignedBlock(0, "arena").data(), nullptr);
}

TEST(AlignedBlock, SaysWhatIsMissing) {
  expect_error(kExitRunFailed, {"not enough memory for the arena", "GiB", "smaller batch"},
               [] { AlignedBlock(uint64_t{1} << 45, "arena"); });
  expect_error(kExitRunFailed, {"not enough memory"}, [] { AlignedBlock(UINT64_MAX - 5, "arena"); });
}

}  // namespace
}  // namespace gradc::runtime::files_test
