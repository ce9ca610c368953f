// The cache of compiled objects on disk: what is stored comes back, what is damaged, foreign or not ours does
// not, and no state of the folder makes a run fail.
#include <gtest/gtest.h>

#include "compiler/object_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "compiler/compile.h"
#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::object_cache_test {
namespace {

namespace fs = std::filesystem;
using compiler::DiskObjectCache;
using Json = nlohmann::json;

std::string object_of(int n, size_t bytes = 300) {
  std::string object;
  for (size_t i = 0; i < bytes; ++i)
    object += static_cast<char>((i * 31 + static_cast<size_t>(n) * 17) % 253);
  return object;
}

// The files of the folder, in order.
std::vector<std::string> paths(const std::string& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path().string());
  std::sort(found.begin(), found.end());
  return found;
}

// The only file there.
std::string entry_of(const std::string& folder) {
  const auto found = paths(folder);
  if (found.size() != 1) throw std::runtime_error("one entry expected");
  return found[0];
}

void overwrite(const std::string& path, const std::string& content) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  std::fwrite(content.data(), 1, content.size(), file);
  std::fclose(file);
}

mode_t mode_of(const std::string& path) {
  struct stat status{};
  EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777;
}

TEST(DiskObjectCache, GivesBackWhatWasStored) {
  TemporaryFolder folder;
  const std::string nested = folder.path("a/b/c");
  DiskObjectCache cache(nested);
  const std::vector<std::string> objects = {"", "x", object_of(1), object_of(2, 1 << 20)};
  for (const std::string& object : objects) {
    const std::string key = "key " + std::to_string(object.size());
    EXPECT_EQ(cache.load(key), std::nullopt);
    cache.store(key, object);
    EXPECT_EQ(cache.load(key), object);
  }
  EXPECT_EQ(cache.load(std::string("key 0\0", 6)), std::nullopt);
  EXPECT_EQ(cache.hits(), 4u);
  EXPECT_EQ(cache.misses(), 5u);
  EXPECT_EQ(cache.stored(), 4u);
  cache.store("key 1", "y");  // the later one counts
  EXPECT_EQ(DiskObjectCache(nested).load("key 1"), "y");
  EXPECT_EQ(paths(nested).size(), 4u);
  EXPECT_EQ(compiler::cache_usage(nested).entries, 4);
}

TEST(DiskObjectCache, IsForThisUserAlone) {
  TemporaryFolder folder;
  const std::string nested = folder.path("a/b");
  const mode_t mask = umask(0);
  DiskObjectCache(nested).store("key", "object");
  umask(mask);
  EXPECT_EQ(mode_of(folder.path("a")), 0700u);
  EXPECT_EQ(mode_of(nested), 0700u);
  EXPECT_EQ(mode_of(entry_of(nested)), 0600u);
}

TEST(DiskObjectCache, MakesNoFolderBeforeItStores) {
  TemporaryFolder folder;
  EXPECT_EQ(DiskObjectCache(folder.path("cache")).load("key"), std::nullopt);
  EXPECT_FALSE(fs::exists(folder.path("cache")));
}

class Damage : public testing::Test {
 protected:
  void SetUp() override {
    DiskObjectCache(folder_.path()).store("key", object_);
    entry_ = entry_of(folder_.path());
    whole_ = read_text(entry_);
    ASSERT_EQ(whole_.substr(whole_.size() - object_.size()), object_);
  }
  // The damaged entry is not loaded, but replaced by the next store.
  void expect_replaced(const std::string& what) {
    DiskObjectCache cache(folder_.path());
    EXPECT_EQ(cache.load("key"), std::nullopt) << what;
    EXPECT_EQ(cache.misses(), 1u) << what;
    cache.store("key", object_);
    EXPECT_EQ(cache.load("key"), object_) << what;
    EXPECT_EQ(read_text(entry_), whole_) << what;
  }
  TemporaryFolder folder_;
  const std::string object_ = object_of(3, 40);
  std::string entry_, whole_;
};

TEST_F(Damage, TruncatedAtEveryLength) {
  for (size_t length = 0; length < whole_.size(); ++length) {
    overwrite(entry_, whole_.substr(0, length));
    expect_replaced(std::to_string(length) + " bytes");
  }
}

TEST_F(Damage, ABitFlippedAnywhere) {
  for (size_t i = 0; i < whole_.size(); ++i) {
    std::string text = whole_;
    text[i] = static_cast<char>(text[i] ^ (1 << i % 8));
    overwrite(entry_, text);
    expect_replaced("bit of byte " + std::to_string(i));
  }
}

TEST_F(Damage, ForeignContent) {
  for (const std::string& text : {std::string("\x7f"
                                              "ELF and more"),
                                  std::string(1000, '\0'), whole_ + '\0', whole_ + whole_, '\n' + whole_}) {
    overwrite(entry_, text);
    expect_replaced(text.substr(0, 20));
  }
}

TEST_F(Damage, TheEntryOfAnotherKey) {
  TemporaryFolder other;
  DiskObjectCache(other.path()).store("another key", object_of(4));
  fs::copy_file(entry_of(other.path()), entry_, fs::copy_options::overwrite_existing);
  expect_replaced("another key's entry");
}

TEST_F(Damage, ALinkIsNotFollowed) {
  TemporaryFolder other;
  DiskObjectCache(other.path()).store("key", object_);
  fs::remove(entry_);
  fs::create_symlink(entry_of(other.path()), entry_);
  expect_replaced("link");
  EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(entry_)));
  EXPECT_EQ(read_text(entry_of(other.path())), whole_);
}

TEST_F(Damage, APipeDoesNotHang) {
  fs::remove(entry_);
  ASSERT_EQ(mkfifo(entry_.c_str(), 0600), 0);
  expect_replaced("pipe");
}

TEST_F(Damage, WhatOthersMayWriteIsNotRun) {
  ASSERT_EQ(chmod(entry_.c_str(), 0620), 0);
  expect_replaced("writable by the group");
  ASSERT_EQ(chmod(entry_.c_str(), 0602), 0);
  expect_replaced("writable by all");
}

TEST_F(Damage, AnotherUsersEntryIsNotRun) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  ASSERT_EQ(chown(entry_.c_str(), 65534, 65534), 0);
  EXPECT_EQ(compiler::cache_usage(folder_.path()).entries, 0);
  expect_replaced("another user's");
}

TEST_F(Damage, UnreadableEntry) {
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  ASSERT_EQ(chmod(entry_.c_str(), 0), 0);
  expect_replaced("unreadable");
}

TEST_F(Damage, ADirectoryInItsPlaceStays) {
  fs::remove(entry_);
  fs::create_directory(entry_);
  DiskObjectCache cache(folder_.path());
  EXPECT_EQ(cache.load("key"), std::nullopt);
  cache.store("key", object_);
  EXPECT_EQ(cache.stored(), 0u);
  EXPECT_EQ(cache.load("key"), std::nullopt);
  EXPECT_EQ(entry_of(folder_.path()), entry_) << "a temporary file was left";
  EXPECT_TRUE(fs::is_directory(entry_));
}

TEST(DiskObjectCache, AFolderThatCannotBeUsed) {
  TemporaryFolder folder;
  folder.write("file", "x");
  for (const std::string& path : {folder.path("file"), folder.path("file/below"), std::string("/proc/gradc"),
                                  std::string("/dev/null")}) {
    DiskObjectCache cache(path);
    EXPECT_EQ(cache.load("key"), std::nullopt) << path;
    cache.store("key", "object");
    EXPECT_EQ(cache.load("key"), std::nullopt) << path;
    EXPECT_EQ(cache.stored(), 0u) << path;
    EXPECT_EQ(compiler::cache_usage(path).entries, 0) << path;
  }
  EXPECT_NE(compiler::cache_problem(folder.path("file")), "");
  EXPECT_NE(compiler::cache_problem(folder.path("file/below")), "");
  EXPECT_EQ(compiler::cache_problem(folder.path("new/and/below")), "");
  EXPECT_EQ(read_text(folder.path("file")), "x");
}

// --- Size

void set_age(const std::string& path, int seconds) {
  fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::seconds(seconds));
}

TEST(DiskObjectCache, TheLeastRecentlyUsedGoFirst) {
  TemporaryFolder folder;
  const auto key = [](int i) { return "key " + std::to_string(i); };
  std::map<int, std::string> files;
  for (int i = 0; i < 6; ++i) {
    const auto before = paths(folder.path());
    DiskObjectCache(folder.path()).store(key(i), object_of(i, 10000));
    for (const std::string& path : paths(folder.path()))
      if (!std::count(before.begin(), before.end(), path)) files[i] = path;
    set_age(files[i], 1000 - 10 * i);
  }
  EXPECT_TRUE(DiskObjectCache(folder.path()).load(key(0)));  // used now: the youngest
  {
    DiskObjectCache cache(folder.path(), 42000);
    cache.store(key(6), object_of(6, 10000));
    EXPECT_EQ(compiler::cache_usage(folder.path()).entries, 7);
  }
  DiskObjectCache cache(folder.path());
  for (int i = 0; i < 7; ++i) EXPECT_EQ(cache.load(key(i)).has_value(), i == 0 || i >= 4) << i;  // four fit
  EXPECT_LE(compiler::cache_usage(folder.path()).bytes, 42000);
  DiskObjectCache(folder.path(), 5000).store(key(7), object_of(7, 10000));
  EXPECT_FALSE(cache.load(key(7))) << "larger than all that is allowed";
}

TEST(DiskObjectCache, TrimmingKnowsItsOwnFiles) {
  TemporaryFolder folder;
  DiskObjectCache(folder.path()).store("key", object_of(1));
  const std::string entry = entry_of(folder.path());
  const std::string hex(64, 'a');
  for (const std::string& name :
       {std::string("notes.txt"), hex, hex + ".gradc-object.bak", "b" + hex + ".gradc-object"})
    folder.write(name, read_text(entry));
  folder.write(hex + ".gradc-object", "not what its name says");
  fs::create_directory(folder.path(std::string(64, 'b') + ".gradc-object"));
  folder.write(hex + ".gradc-object.tmp-abcdef", "");
  folder.write(hex + ".gradc-object.tmp-ghijkl", read_text(entry).substr(0, 100));
  set_age(folder.path(hex + ".gradc-object.tmp-ghijkl"), 7200);
  EXPECT_EQ(folder.files().size(), 9u);
  compiler::trim_cache(folder.path(), 0);
  EXPECT_EQ(folder.files().size(), 7u);
  EXPECT_FALSE(fs::exists(entry));
  EXPECT_FALSE(fs::exists(folder.path(hex + ".gradc-object.tmp-ghijkl"))) << "left by a run that ended";
  EXPECT_TRUE(fs::exists(folder.path(hex + ".gradc-object.tmp-abcdef"))) << "perhaps being written";
  const compiler::CacheUsage removed = compiler::clear_cache(folder.path());
  EXPECT_EQ(removed.entries, 0);
  EXPECT_EQ(folder.files().size(), 6u);
}

// --- Several at once

TEST(DiskObjectCache, ThreadsAndObjectsAtOnce) {
  TemporaryFolder folder;
  DiskObjectCache shared(folder.path());
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      DiskObjectCache own(folder.path(), 200000);  // small, so that some trim while others store
      DiskObjectCache& cache = t % 2 ? shared : own;
      for (int i = 0; i < 200; ++i) {
        const std::string key = "key " + std::to_string(i % 10), object = object_of(i % 10, 20000);
        cache.store(key, object);
        const auto loaded = cache.load(key);
        if (loaded && *loaded != object) ++wrong;
        if (t == 0 && i % 20 == 0) compiler::trim_cache(folder.path(), 100000);
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(shared.stored(), 400u);
  EXPECT_GE(shared.hits() + shared.misses(), 400u);
  EXPECT_LE(compiler::cache_usage(folder.path()).entries, 10);
  for (const std::string& path : paths(folder.path())) EXPECT_TRUE(path.ends_with(".gradc-object")) << path;
}

// --- Models

TEST(CompiledModel, TheSecondOneComesFromTheCache) {
  TemporaryFolder folder;
  compiler::CompileRequest request;
  request.file = folder.write("m.nn", small_model());
  request.object_cache = folder.path("cache");
  const compiler::CompiledModel cold(request);
  EXPECT_EQ(cold.cache_hits(), 0u);
  ASSERT_GT(cold.cache_misses(), 0u);
  const compiler::CompiledModel warm(request);
  EXPECT_EQ(warm.cache_hits(), cold.cache_misses());
  EXPECT_EQ(warm.cache_misses(), 0u);
  EXPECT_EQ(compiler::cache_usage(request.object_cache).entries, static_cast<int64_t>(cold.cache_misses()));
  request.batch = 7;
  EXPECT_GT(compiler::CompiledModel(request).cache_misses(), 0u);
  request.object_cache.clear();
  const compiler::CompiledModel none(request);
  EXPECT_EQ(none.cache_hits() + none.cache_misses(), 0u);
}

class Cached : public testing::Test {
 protected:
  void SetUp() override { folder_.write("m.nn", small_model("adam(lr=0.01)")); }
  ToolResult tool(const std::vector<std::string>& arguments, std::map<std::string, std::string> variables) {
    variables.emplace("GRADC_CACHE", "");
    return run_tool(arguments, folder_.path(), {}, 120, variables);
  }
  ToolResult tool(const std::vector<std::string>& arguments) {
    return tool(arguments, {{"GRADC_CACHE_DIR", cache_}});
  }
  // The trained weights' hash.
  std::string train(const std::map<std::string, std::string>& variables) {
    const ToolResult r = tool({"train", "m.nn", "--json"}, variables);
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_EQ(r.err, "");
    return r.exit_code == 0 ? Json::parse(lines(r.out).back()).at("weights_sha256").get<std::string>() : "";
  }
  std::string train() { return train({{"GRADC_CACHE_DIR", cache_}}); }
  Json usage() {
    const ToolResult r = tool({"cache", "--json"});
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return Json::parse(r.out);
  }
  TemporaryFolder folder_;
  const std::string cache_ = folder_.path("cache");
};

TEST_F(Cached, SameBitsColdWarmDamagedAndWithout) {
  const std::string without = train({{"GRADC_CACHE", "off"}, {"GRADC_CACHE_DIR", cache_}});
  EXPECT_FALSE(fs::exists(cache_));
  EXPECT_EQ(train(), without);
  const std::vector<std::string> entries = paths(cache_);
  ASSERT_FALSE(entries.empty());
  std::vector<fs::file_time_type> made;
  for (const std::string& entry : entries) {
    set_age(entry, 5000);
    made.push_back(fs::last_write_time(entry));
  }
  std::vector<std::string> contents;
  for (const std::string& entry : entries) contents.push_back(read_text(entry));
  EXPECT_EQ(train(), without);
  EXPECT_EQ(paths(cache_), entries);
  for (size_t i = 0; i < entries.size(); ++i) {
    EXPECT_GT(fs::last_write_time(entries[i]), made[i]) << "not used";
    EXPECT_EQ(read_text(entries[i]), contents[i]);
    overwrite(entries[i], contents[i].substr(0, contents[i].size() / 2));
  }
  EXPECT_EQ(train(), without);
  for (size_t i = 0; i < entries.size(); ++i) EXPECT_EQ(read_text(entries[i]), contents[i]) << "not mended";
}

TEST_F(Cached, AFolderThatCannotBeMadeChangesNothing) {
  const std::string without = train({{"GRADC_CACHE", "off"}});
  for (const char* folder : {"/proc/no/such", "m.nn", "/dev/null/x"})
    EXPECT_EQ(train({{"GRADC_CACHE_DIR", folder}}), without) << folder;
  EXPECT_EQ(train({{"GRADC_CACHE_DIR", ""}, {"XDG_CACHE_HOME", ""}, {"HOME", ""}}), without);
}

TEST_F(Cached, TwoProcessesAtOnce) {
  std::string results[2];
  std::thread other([&] { results[0] = train(); });
  results[1] = train();
  other.join();
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(train(), results[0]);
}

TEST_F(Cached, TheCommandCountsAndClears) {
  Json before = usage();
  EXPECT_EQ(before.at("folder"), cache_);
  EXPECT_EQ(before.at("entries"), 0);
  EXPECT_EQ(before.at("problem"), "");
  EXPECT_FALSE(fs::exists(cache_)) << "looking made a folder";
  train();
  const Json after = usage();
  EXPECT_GT(after.at("entries"), 0);
  int64_t bytes = 0;
  for (const std::string& entry : paths(cache_)) bytes += static_cast<int64_t>(fs::file_size(entry));
  EXPECT_EQ(after.at("bytes"), bytes);
  EXPECT_EQ(after.at("entries"), paths(cache_).size());
  EXPECT_EQ(after.at("on"), true);

  folder_.write("cache/notes.txt", "mine");
  const ToolResult text = tool({"cache"});
  EXPECT_EQ(text.exit_code, 0);
  EXPECT_NE(text.out.find(cache_), std::string::npos) << text.out;
  EXPECT_EQ(text.err, "");
  const ToolResult cleared = tool({"cache", "--clear", "--json"});
  EXPECT_EQ(cleared.exit_code, 0) << cleared.err;
  const Json event = Json::parse(cleared.out);
  EXPECT_EQ(event.at("removed_entries"), after.at("entries"));
  EXPECT_EQ(event.at("removed_bytes"), bytes);
  EXPECT_EQ(event.at("entries"), 0);
  EXPECT_EQ(paths(cache_), std::vector<std::string>{folder_.path("cache/notes.txt")});
  EXPECT_EQ(tool({"cache", "--clear"}).exit_code, 0) << "of an empty cache";
}

TEST_F(Cached, WhereItIs) {
  const auto folder = [&](const std::map<std::string, std::string>& variables) {
    const ToolResult r = tool({"cache", "--json"}, variables);
    EXPECT_EQ(r.exit_code, 0) << r.err;
    return Json::parse(r.out).at("folder").get<std::string>();
  };
  EXPECT_EQ(folder({{"GRADC_CACHE_DIR", "here"}, {"XDG_CACHE_HOME", "/x"}, {"HOME", "/h"}}), "here");
  EXPECT_EQ(folder({{"GRADC_CACHE_DIR", ""}, {"XDG_CACHE_HOME", "/x"}, {"HOME", "/h"}}), "/x/gradc");
  EXPECT_EQ(folder({{"GRADC_CACHE_DIR", ""}, {"XDG_CACHE_HOME", ""}, {"HOME", "/h"}}), "/h/.cache/gradc");
  EXPECT_EQ(folder({{"GRADC_CACHE_DIR", ""}, {"XDG_CACHE_HOME", "x"}, {"HOME", "/h"}}), "/h/.cache/gradc");
  const ToolResult nowhere = tool({"cache"}, {{"GRADC_CACHE_DIR", ""}, {"XDG_CACHE_HOME", ""}, {"HOME", ""}});
  EXPECT_EQ(nowhere.exit_code, 0);
  EXPECT_NE(nowhere.err.find("GRADC_CACHE_DIR"), std::string::npos) << nowhere.err;
  const ToolResult unusable = tool({"cache"}, {{"GRADC_CACHE_DIR", "m.nn"}});
  EXPECT_EQ(unusable.exit_code, 0);
  EXPECT_NE(unusable.err.find("m.nn is not a directory"), std::string::npos) << unusable.err;
  const ToolResult off = tool({"cache"}, {{"GRADC_CACHE", "off"}, {"GRADC_CACHE_DIR", cache_}});
  EXPECT_NE(off.err.find("GRADC_CACHE is off"), std::string::npos) << off.err;
}

TEST_F(Cached, AWrongSwitchIsAnError) {
  for (const char* command : {"train", "cache"}) {
    std::vector<std::string> arguments = {command};
    if (arguments[0] == "train") arguments.push_back("m.nn");
    const ToolResult r = tool(arguments, {{"GRADC_CACHE", "of"}});
    EXPECT_EQ(r.exit_code, kExitUsage);
    EXPECT_NE(r.err.find("GRADC_CACHE is \"of\": expected on or off"), std::string::npos) << r.err;
  }
}

}  // namespace
}  // namespace gradc::test::object_cache_test
