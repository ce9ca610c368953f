// The thread team, its barrier, the choice of its size, and control group limits.
#include "runtime/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "runtime/cgroup.h"
#include "support/diagnostic.h"
#include "tests/runtime/helpers.h"

namespace gradc::runtime::threads_test {
namespace {

using test::expect_error;

TEST(Team, RunsEveryThreadOnce) {
  for (int threads : {1, 2, 3, 8}) {
    Team team(threads);
    EXPECT_EQ(team.threads(), threads);
    std::vector<std::atomic<int>> calls(static_cast<size_t>(threads));
    for (int round = 0; round < 200; ++round)
      team.run([&](int thread, int count) {
        EXPECT_EQ(count, threads);
        ++calls[static_cast<size_t>(thread)];
      });
    for (auto& count : calls) EXPECT_EQ(count, 200);
  }
}

TEST(Team, RunsOnFewerThreadsThanItHas) {
  Team team(4);
  for (int round = 0; round < 100; ++round)
    for (int threads : {1, 3, 2, 4}) {
      std::atomic<int> sum = 0, counted = 0;
      team.run(
          [&](int thread, int count) {
            sum += thread + 1;
            counted += count;
            team.barrier();
            EXPECT_EQ(sum, threads * (threads + 1) / 2);
          },
          threads);
      EXPECT_EQ(counted, threads * threads);
    }
}

TEST(Team, BarrierOrdersPhases) {
  constexpr int kThreads = 5, kPhases = 300;
  Team team(kThreads);
  std::vector<int> values(kThreads, 0);  // plain ints: the barrier alone must make them visible
  std::atomic<int> wrong = 0;
  team.run([&](int thread, int threads) {
    for (int phase = 1; phase <= kPhases; ++phase) {
      values[static_cast<size_t>(thread)] = phase;
      Team::barrier_of(&team);
      for (int other = 0; other < threads; ++other) wrong += values[static_cast<size_t>(other)] != phase;
      Team::barrier_of(&team);
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST(Team, WakesAfterSleeping) {
  Team team(3);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));  // far longer than workers spin
    std::atomic<int> calls = 0;
    team.run([&](int thread, int) {
      if (thread == 1)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));  // others sleep in the barrier
      team.barrier();
      ++calls;
    });
    EXPECT_EQ(calls, 3);
  }
}

class ThreadCount : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"GRADC_THREADS", "OMP_NUM_THREADS"}) {
      const char* value = std::getenv(name);
      saved_.emplace_back(name, value ? value : "");
      unsetenv(name);
    }
  }
  void TearDown() override {
    for (const auto& [name, value] : saved_)
      value.empty() ? unsetenv(name.c_str()) : setenv(name.c_str(), value.c_str(), 1);
  }
  std::vector<std::pair<std::string, std::string>> saved_;
};

TEST_F(ThreadCount, FollowsTheOrderOfSources) {
  EXPECT_EQ(choose_thread_count(0), usable_processors());
  setenv("OMP_NUM_THREADS", "3,2", 1);
  EXPECT_EQ(choose_thread_count(0), 3);
  setenv("OMP_NUM_THREADS", "many", 1);
  EXPECT_EQ(choose_thread_count(0), usable_processors());
  setenv("GRADC_THREADS", "5", 1);
  EXPECT_EQ(choose_thread_count(0), 5);
  EXPECT_EQ(choose_thread_count(7), 7);
}

TEST_F(ThreadCount, RefusesWhatIsNoCount) {
  for (const char* text : {"0", "-2", "two", "3x", "4,2", "999999", "99999999999999999999"}) {
    setenv("GRADC_THREADS", text, 1);
    expect_error(kExitUsage, {"GRADC_THREADS", text, "1 to 1024"}, [] { choose_thread_count(0); });
  }
  expect_error(kExitUsage, {"-1 threads"}, [] { choose_thread_count(-1); });
  expect_error(kExitUsage, {"5000 threads"}, [] { choose_thread_count(5000); });
}

class Cgroup : public ::testing::Test {
 protected:
  void put(const std::string& path, const std::string& text) {
    const std::string full = folder_ / path;
    std::filesystem::create_directories(std::filesystem::path(full).parent_path());
    std::ofstream(full) << text;
  }
  CgroupFiles files() const { return {folder_ / "self", folder_ / "fs"}; }
  test::TemporaryFolder folder_;
};

TEST_F(Cgroup, Version2TakesTheLeastOnThePath) {
  put("self", "0::/a/b\n");
  EXPECT_FALSE(cgroup_cpu_limit(files()));
  put("fs/cpu.max", "max 100000\n");
  EXPECT_FALSE(cgroup_cpu_limit(files()));
  put("fs/a/cpu.max", "150000 100000\n");
  put("fs/a/b/cpu.max", "400000 100000\n");
  EXPECT_DOUBLE_EQ(cgroup_cpu_limit(files()).value(), 1.5);
  put("fs/a/memory.max", "1000000\n");
  put("fs/a/b/memory.max", "max\n");
  EXPECT_EQ(cgroup_memory_limit(files()).value(), 1000000u);
}

TEST_F(Cgroup, Version1FindsJoinedControllers) {
  put("self", "5:memory:/job\n4:cpu,cpuacct:/job\n0::/\n");
  put("fs/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
  put("fs/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(cgroup_cpu_limit(files()));
  put("fs/cpu,cpuacct/job/cpu.cfs_quota_us", "250000\n");
  EXPECT_DOUBLE_EQ(cgroup_cpu_limit(files()).value(), 2.5);
  put("fs/memory/memory.limit_in_bytes", "4096\n");
  EXPECT_EQ(cgroup_memory_limit(files()).value(), 4096u);
}

TEST_F(Cgroup, OddFilesMeanNoLimit) {
  put("self", "garbage\n::::\n0::relative\n\n");
  put("fs/cpu.max", "lots of it\n");
  EXPECT_FALSE(cgroup_cpu_limit(files()));
  EXPECT_FALSE(cgroup_memory_limit(files()));
  EXPECT_FALSE(cgroup_cpu_limit({folder_ / "none", folder_ / "none"}));
}

}  // namespace
}  // namespace gradc::runtime::threads_test
