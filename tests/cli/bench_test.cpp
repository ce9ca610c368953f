// `gradc bench` through the real tool: what it reports is there and fits together. How fast anything is, no
// test asks.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::bench_test {
namespace {

using Json = nlohmann::json;

// bench of a model in `folder`, with more arguments.
ToolResult bench(const TemporaryFolder& folder, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"bench", "m.nn"});
  return run_tool(arguments, folder.path());
}

std::vector<std::string> optional_passes() {
  std::vector<std::string> names;
  for (const std::string& line : lines(run_tool({"passes", "--json"}).out)) {
    const Json pass = Json::parse(line);
    if (pass.at("optional")) names.push_back(pass.at("name"));
  }
  return names;
}

TEST(Bench, JsonFieldsFitTogether) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("adam(lr=0.01)"));
  const ToolResult r = bench(folder, {"--json", "--seconds", "0.05", "--threads", "2"});
  ASSERT_EQ(r.exit_code, kExitOk) << r.err;
  ASSERT_EQ(lines(r.out).size(), 1u) << r.out;
  const Json e = Json::parse(r.out);
  EXPECT_EQ(e.at("event"), "bench");
  EXPECT_EQ(e.at("model"), "m.nn");
  EXPECT_EQ(e.at("batch"), 32);
  EXPECT_FALSE(e.at("target").get<std::string>().empty());
  EXPECT_FALSE(e.at("cpu").get<std::string>().empty());
  EXPECT_GE(e.at("threads"), 1);
  EXPECT_LE(e.at("threads"), 2);
  EXPECT_GE(e.at("steps"), 5);
  EXPECT_GT(e.at("step_ms_best"), 0.0);
  EXPECT_LE(e.at("step_ms_best"), e.at("step_ms_p10"));
  EXPECT_LE(e.at("step_ms_p10"), e.at("step_ms_median"));
  EXPECT_LE(e.at("step_ms_median"), e.at("step_ms_p90"));
  for (const char* above_zero :
       {"first_step_ms", "peak_rss_mb", "arena_bytes", "peak_gflops", "triad_gb_per_s"})
    EXPECT_GT(e.at(above_zero), 0) << above_zero;
  // Weights and biases, each with two slots of Adam's.
  EXPECT_GE(e.at("parameter_bytes"), 3 * 4 * (784 * 10 + 10));
  EXPECT_GE(e.at("peak_rss_mb").get<double>() * (1 << 20), e.at("parameter_bytes").get<double>());
  // The product and the weights' gradient, two FLOP a multiply-add.
  EXPECT_GE(e.at("flop"), 2.0 * 2 * 32 * 784 * 10);

  double kernel_ms = 0, flop = 0, step_ms = 0, peak = e.at("peak_gflops"), triad = e.at("triad_gb_per_s");
  bool has_location = false;
  ASSERT_FALSE(e.at("kernels").empty());
  for (const Json& k : e.at("kernels")) {
    EXPECT_FALSE(k.at("name").get<std::string>().empty()) << k;
    EXPECT_TRUE(k.at("what").is_string() && k.at("barrier_before").is_boolean()) << k;
    has_location |= k.at("location").get<std::string>().rfind("m.nn:", 0) == 0;
    const double ms = k.at("ms");
    for (const char* field :
         {"ms", "share", "flop", "bytes", "gflops", "percent_of_peak", "gb_per_s", "percent_of_triad"})
      EXPECT_GE(k.at(field), 0.0) << field << " of " << k;
    EXPECT_NEAR(k.at("gflops").get<double>() * ms * 1e6, ms > 0 ? k.at("flop").get<double>() : 0, 1) << k;
    EXPECT_NEAR(k.at("gb_per_s").get<double>() * ms * 1e6, ms > 0 ? k.at("bytes").get<double>() : 0, 1) << k;
    EXPECT_NEAR(k.at("percent_of_peak").get<double>() * peak, 100 * k.at("gflops").get<double>(), 1e-3) << k;
    EXPECT_NEAR(k.at("percent_of_triad").get<double>() * triad, 100 * k.at("gb_per_s").get<double>(), 1e-3)
        << k;
    if (ms > 0) step_ms = ms / k.at("share").get<double>();
    kernel_ms += ms;
    flop += k.at("flop").get<double>();
  }
  EXPECT_TRUE(has_location) << e.at("kernels");
  // A small model's data stay in the caches: what is beyond a limit is explained.
  const auto beyond = [&](const char* percent) {
    return std::any_of(e.at("kernels").begin(), e.at("kernels").end(),
                       [&](const Json& k) { return k.at(percent).get<double>() > 100; });
  };
  const std::string notes = e.at("notes").dump();
  EXPECT_EQ(beyond("percent_of_triad"),
            notes.find("of the triad: their data stay in the caches") != std::string::npos)
      << notes;
  EXPECT_EQ(beyond("percent_of_peak"), notes.find("of the peak: ") != std::string::npos) << notes;
  EXPECT_DOUBLE_EQ(flop, e.at("flop").get<double>());
  // Whatever of the profiled step is in no kernel is elsewhere.
  EXPECT_GT(step_ms, 0);
  EXPECT_NEAR(kernel_ms + e.at("elsewhere_ms").get<double>(), step_ms, 1e-6 * (kernel_ms + step_ms));
}

TEST(Bench, TextSaysTheSame) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const ToolResult r = bench(folder, {"--seconds", "0.05", "--all"});
  ASSERT_EQ(r.exit_code, kExitOk) << r.err;
  EXPECT_EQ(r.out.rfind("m.nn: training step of batch 32, ", 0), 0u) << r.out;
  for (const char* part : {"\nstep     median ", "\nstart    ", "\nmemory   peak ", "\nmachine  ",
                           "\ncompute  ", "GFLOP/s   peak    GB/s  triad  kernel", "in no kernel"})
    EXPECT_NE(r.out.find(part), std::string::npos) << part << "\n" << r.out;
}

TEST(Bench, StepsAreCounted) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const ToolResult r = bench(folder, {"--json", "--seconds", "0.05", "--steps", "7"});
  ASSERT_EQ(r.exit_code, kExitOk) << r.err;
  EXPECT_EQ(Json::parse(r.out).at("steps"), 7);
}

TEST(Bench, NeedsNoData) {
  TemporaryFolder folder;
  std::string text = small_model();
  const std::string source = "synthetic_digits(train=256, test=96, batch=32)";
  folder.write("m.nn", text.replace(text.find(source), source.size(), "mnist(\"nowhere\", batch=32)"));
  const ToolResult r = bench(folder, {"--json", "--seconds", "0.05"});
  ASSERT_EQ(r.exit_code, kExitOk) << r.err;
  EXPECT_EQ(Json::parse(r.out).at("batch"), 32);
}

TEST(BenchTrace, IsAChromeTraceOfTheKernels) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("adam(lr=0.01)"));
  const ToolResult r =
      bench(folder, {"--json", "--seconds", "0.05", "--threads", "2", "--trace", "trace.json"});
  ASSERT_EQ(r.exit_code, kExitOk) << r.err;
  const Json report = Json::parse(r.out);
  std::set<std::string> kernels, traced;
  for (const Json& k : report.at("kernels")) kernels.insert(k.at("name"));
  const Json trace = Json::parse(read_text(folder.path("trace.json")));
  const Json& events = trace.at("traceEvents");
  const size_t threads = report.at("threads"), calls = report.at("kernels").size();
  EXPECT_GE(events.size(), calls);
  EXPECT_LE(events.size(), 10 * calls * threads);  // of ten steps
  std::map<size_t, double> until;                  // by thread, in microseconds
  for (const Json& e : events) {
    EXPECT_EQ(e.at("ph"), "X") << e;
    EXPECT_TRUE(e.contains("pid") && e.at("args").contains("what") && e.at("args").contains("location")) << e;
    traced.insert(e.at("name"));
    const size_t thread = e.at("tid");
    EXPECT_LT(thread, threads) << e;
    const double ts = e.at("ts"), duration = e.at("dur");
    EXPECT_GE(duration, 0) << e;
    // A thread does one thing after the other; the slack is for a counter that is read out of order.
    if (until.count(thread)) {
      EXPECT_GE(ts, until[thread] - 1) << e;
    }
    until[thread] = ts + duration;
  }
  EXPECT_EQ(traced, kernels);
}

TEST(BenchTrace, FailuresLeaveNoFile) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  folder.write("folder/old.json", "old");
  for (const char* path : {"no/such/folder/trace.json", "folder", "m.nn/trace.json"}) {
    const ToolResult r = bench(folder, {"--seconds", "0.05", "--trace", path});
    EXPECT_EQ(r.exit_code, kExitRunFailed) << path;
    for (const char* part : {path, "the trace: "})
      EXPECT_NE(r.err.find(part), std::string::npos) << part << " in " << r.err;
    EXPECT_EQ(r.out, "") << path;  // before any measuring
  }
  EXPECT_NE(bench(folder, {"--trace", "no/such/trace.json"}).err.find("make the directory no/such first"),
            std::string::npos);
  // A model that cannot be measured leaves an older trace as it was.
  folder.write("m.nn", "model m(");
  EXPECT_EQ(bench(folder, {"--trace", "folder/old.json"}).exit_code, kExitModelError);
  EXPECT_EQ(read_text(folder.path("folder/old.json")), "old");
  EXPECT_EQ(folder.files().size(), 2u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path("folder")), {}), 1);
}

TEST(BenchAblate, PrintsALineForEachOptionalPass) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const ToolResult r = bench(folder, {"--seconds", "0.02", "--ablate"});
  ASSERT_EQ(r.exit_code, kExitOk) << r.err;
  const std::vector<std::string> all = lines(r.out);
  size_t at = 0;
  while (at < all.size() && all[at].rfind("without ", 0) != 0) ++at;
  ASSERT_LT(at, all.size()) << r.out;
  const std::vector<std::string> passes = optional_passes();
  ASSERT_EQ(all.size(), at + 1 + passes.size()) << r.out;
  for (const std::string& pass : passes) EXPECT_EQ(all[++at].rfind(pass + " ", 0), 0u) << all[at];
}

TEST(BenchAblate, JsonLeavesOutWhatIsDisabledAnyway) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const ToolResult r =
      bench(folder, {"--seconds", "0.02", "--ablate", "--json", "--disable-pass", "fuse_elementwise"});
  ASSERT_EQ(r.exit_code, kExitOk) << r.err;
  std::vector<std::string> expected = optional_passes(), found;
  EXPECT_EQ(std::erase(expected, "fuse_elementwise"), 1u);
  const std::vector<std::string> all = lines(r.out);
  ASSERT_FALSE(all.empty());
  for (size_t i = 1; i < all.size(); ++i) {
    const Json e = Json::parse(all[i]);
    EXPECT_EQ(e.at("event"), "ablation");
    found.push_back(e.at("pass"));
    EXPECT_GT(e.at("step_ms_median"), 0.0);
    EXPECT_GT(e.at("with_all_ms_median"), 0.0);
    EXPECT_DOUBLE_EQ(e.at("ratio").get<double>(),
                     e.at("step_ms_median").get<double>() / e.at("with_all_ms_median").get<double>());
  }
  EXPECT_EQ(found, expected);
}

struct WrongUse {
  std::string name;
  std::vector<std::string> arguments;
  std::string expected;  // part of stderr
};

class BenchUsageTest : public testing::TestWithParam<WrongUse> {};

TEST_P(BenchUsageTest, ExitsWithTwoAndSaysWhy) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  const ToolResult r = bench(folder, GetParam().arguments);
  EXPECT_EQ(r.exit_code, kExitUsage) << r.out << r.err;
  EXPECT_NE(r.err.find(GetParam().expected), std::string::npos) << r.err;
  EXPECT_EQ(r.out, "");
}

INSTANTIATE_TEST_SUITE_P(
    CommandLine, BenchUsageTest,
    testing::Values(WrongUse{"no_seconds", {"--seconds", "0"}, "--seconds"},
                    WrongUse{"negative_seconds", {"--seconds", "-1"}, "--seconds"},
                    WrongUse{"no_steps", {"--steps", "0"}, "0 is less than 1"},
                    WrongUse{"half_a_step", {"--steps", "0.5"}, "'0.5' is not a whole number"},
                    WrongUse{"stop_after", {"--stop-after", "cse"}, "no --stop-after"},
                    WrongUse{"unknown_pass", {"--disable-pass", "cs"}, "no such pass"}),
    [](const auto& info) { return info.param.name; });

TEST(Bench, ALossThatIsNotFiniteEndsItWithAdvice) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model("sgd(lr=1e38)"));
  const ToolResult r = bench(folder, {"--seconds", "0.05", "--trace", "trace.json"});
  EXPECT_EQ(r.exit_code, kExitCheckFailed) << r.out << r.err;
  for (const char* part : {"not finite at step ", "made-up batch", "lower its learning rate"})
    EXPECT_NE(r.err.find(part), std::string::npos) << part << " in " << r.err;
  EXPECT_EQ(r.out, "");
  EXPECT_EQ(folder.files(), std::vector<std::string>{"m.nn"});
}

}  // namespace
}  // namespace gradc::test::bench_test
