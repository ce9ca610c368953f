// Which objects a Jit looks up in a cache: equal programs find theirs and run the same code; whatever decides an
// object's bytes decides its key. Knows nothing of files.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include "harness.h"

namespace gradc::testing::object_cache_test {
namespace {

using loop::Access;
using loop::Buffer;
using loop::Builder;
using loop::Expr;
using loop::Kernel;
using loop::Program;
using loop::Scalar;

class MemoryCache final : public codegen::ObjectCache {
 public:
  std::optional<std::string> load(const std::string& key) noexcept override {
    const std::scoped_lock lock(mutex_);
    const auto it = objects.find(key);
    ++(it == objects.end() ? misses : hits);
    return it == objects.end() ? std::nullopt : std::optional(it->second);
  }
  void store(const std::string& key, std::string_view object) noexcept override {
    const std::scoped_lock lock(mutex_);
    objects[key] = object;
  }
  std::map<std::string, std::string> objects;
  size_t hits = 0, misses = 0;

 private:
  std::mutex mutex_;
};

const auto kFile = std::make_shared<const std::string>("model.nn");

Location line(uint32_t n) { return {kFile, n, 5, nullptr}; }

// y[i] = exp(x[i] * factor).
Kernel scale(double factor, const std::string& name = "scale", uint32_t at = 3) {
  Kernel k = loop::make_kernel(name);
  k.locations = {line(at)};
  Builder b(k);
  b.set_location(line(at));
  const Buffer x = b.buffer("x", Scalar::f32, Access::read), y = b.buffer("y", Scalar::f32, Access::write);
  b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1, [&](Expr i) {
    b.store(y, i,
            loop::unary(loop::UnaryOp::exp, loop::load(x, i) * loop::constant({Scalar::f32, 1}, factor)));
  });
  return k;
}

std::vector<float> run(const codegen::Jit& jit) {
  std::vector<float> x(16), y(16);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 0.37f * static_cast<float>(i) - 2;
  Arguments a;
  a.inputs = {x.data()};
  a.outputs = {y.data()};
  EXPECT_EQ(jit.entry("run")(a.get(), 0, 1), 0);
  return y;
}

TEST(ObjectCache, EqualProgramsRunTheStoredObject) {
  MemoryCache cache;
  const Program p = one_call(scale(0.7), 16), q = one_call(scale(0.7), 16);
  const codegen::Jit first({&p}, native(), {}, &cache);
  EXPECT_EQ(cache.hits, 0u);
  EXPECT_EQ(cache.misses, 2u);  // entries and kernels have objects of their own
  ASSERT_EQ(cache.objects.size(), 2u);
  const auto stored = cache.objects;
  const codegen::Jit second({&q}, native(), {}, &cache);
  EXPECT_EQ(cache.hits, 2u);
  EXPECT_EQ(cache.misses, 2u);
  EXPECT_EQ(cache.objects, stored);
  const codegen::Jit without({&q}, native());
  EXPECT_EQ(run(first), run(second));
  EXPECT_EQ(run(first), run(without));
}

// The stored object is what runs: that of another program under this one's key gives the other's results.
TEST(ObjectCache, NothingIsCompiledOnAHit) {
  MemoryCache one, other;
  const Program p = one_call(scale(0.7), 16), q = one_call(scale(0.2), 16);
  const codegen::Jit a({&p}, native(), {}, &one);
  const codegen::Jit b({&q}, native(), {}, &other);
  // The programs' entries are equal; what is under the other key is the kernel.
  const auto kernel = [](MemoryCache& of, const MemoryCache& than) -> std::string& {
    return std::find_if(of.objects.begin(), of.objects.end(),
                        [&](const auto& object) { return !than.objects.count(object.first); })
        ->second;
  };
  kernel(one, other) = kernel(other, one);
  EXPECT_EQ(run(codegen::Jit({&p}, native(), {}, &one)), run(b));
}

TEST(ObjectCache, AnyChangeOfWhatDecidesTheObjectMisses) {
  const auto changed = [](auto&& change) {
    Program p = one_call(scale(0.7), 16);
    change(p);
    return p;
  };
  std::map<std::string, Program> variants;
  variants["as it was"] = changed([](Program&) {});
  variants["constant"] = one_call(scale(0.7000001), 16);
  variants["name"] = one_call(scale(0.7, "scales"), 16);
  variants["place"] = one_call(scale(0.7, "scale", 4), 16);
  variants["place of a statement"] =
      changed([](Program& p) { p.kernels[0].body[0]->body[0]->location = line(9); });
  variants["column"] = changed([](Program& p) { p.kernels[0].body[0]->body[0]->location.column = 6; });
  variants["file"] = changed(
      [](Program& p) { p.kernels[0].locations[0].file = std::make_shared<const std::string>("other.nn"); });
  variants["no place"] = changed([](Program& p) { p.kernels[0].locations.clear(); });
  variants["unrolled"] = changed([](Program& p) { p.kernels[0].body[0]->unroll = true; });
  variants["extent"] = one_call(scale(0.7), 15);
  variants["unit"] = one_call(scale(0.7), 16, 4);
  variants["panels"] =
      changed([](Program& p) { p.calls[0].partition.kind = loop::Partition::Extent::panels; });
  variants["width of a panel"] = changed([](Program& p) { p.panel = 16; });
  variants["name of the program"] = changed([](Program& p) { p.name = "runs"; });
  variants["place of an input"] = changed([](Program& p) { p.allocations[0].offset = 1; });
  variants["space of an input"] = changed([](Program& p) {
    p.allocations[0].space = loop::Space::arena;
    p.allocations[0].elements = 16;
    p.arena_bytes = 64;
  });
  variants["two calls"] = changed([](Program& p) { p.calls.push_back(p.calls[0]); });
  variants["two calls with a barrier"] = changed([](Program& p) {
    p.calls.push_back(p.calls[0]);
    p.calls[1].barrier_before = true;
  });

  MemoryCache cache;
  for (const auto& [what, p] : variants) {
    const size_t before = cache.misses;
    const codegen::Jit jit({&p}, native(), {}, &cache);
    EXPECT_GT(cache.misses, before) << what;
  }
  const size_t misses = cache.misses;
  for (const auto& [what, p] : variants) const codegen::Jit jit({&p}, native(), {}, &cache);
  EXPECT_EQ(cache.misses, misses);
}

TEST(ObjectCache, TargetAndOptionsMiss) {
  const Program p = one_call(scale(0.7), 16);
  MemoryCache cache;
  std::vector<codegen::Target> targets = runnable_targets();
  codegen::Target changed = native();
  changed.features += ",-sse4a";
  targets.push_back(changed);
  for (const codegen::Target& target : targets) {
    const codegen::Jit jit({&p}, target, {}, &cache);
    codegen::CodegenOptions plain;
    plain.debug_info = false;
    const codegen::Jit other({&p}, target, plain, &cache);
  }
  EXPECT_EQ(cache.hits, 0u);
  EXPECT_EQ(cache.objects.size(), 2 * 2 * targets.size());  // kernels and entries
}

TEST(ObjectCache, WithoutDebugInfoPlacesDoNotCount) {
  const Program p = one_call(scale(0.7), 16), q = one_call(scale(0.7, "scale", 99), 16);
  codegen::CodegenOptions plain;
  plain.debug_info = false;
  MemoryCache cache;
  const codegen::Jit first({&p}, native(), plain, &cache);
  const codegen::Jit second({&q}, native(), plain, &cache);
  EXPECT_EQ(cache.hits, 2u);  // kernels and entries
}

// x doubled and exponentiated by each of many kernels, one output a kernel.
Program many_kernels(int count, double last) {
  Program p;
  p.name = "run";
  p.allocations.push_back({"x", Scalar::f32, 16, loop::Space::input, 0});
  for (int i = 0; i < count; ++i) {
    p.kernels.push_back(scale(i + 1 < count ? 0.01 * i : last, "k" + std::to_string(i)));
    p.allocations.push_back({"y" + std::to_string(i), Scalar::f32, 16, loop::Space::output, i});
    p.calls.push_back({i, {0, i + 1}, {}, false, false});
    p.calls.back().partition.extent = 16;
  }
  return p;
}

TEST(ObjectCache, AModuleThatDidNotChangeIsFoundThoughOthersDid) {
  constexpr int count = 40;
  const Program p = many_kernels(count, 0.5), q = many_kernels(count, 0.75);
  MemoryCache cache;
  const codegen::Jit first({&p}, native(), {}, &cache);
  EXPECT_EQ(cache.objects.size(), 11u);  // for any number of processors; one holds the entries
  const codegen::Jit second({&q}, native(), {}, &cache);
  EXPECT_EQ(cache.misses, 12u);
  EXPECT_EQ(cache.hits, 10u);
  std::vector<float> x(16, 1.0f);
  std::vector<std::vector<float>> y(count, std::vector<float>(16));
  Arguments a;
  a.inputs = {x.data()};
  for (auto& each : y) a.outputs.push_back(each.data());
  EXPECT_EQ(second.entry("run")(a.get(), 0, 1), 0);
  for (int i = 0; i < count; ++i)
    EXPECT_NEAR(y[static_cast<size_t>(i)][7], std::exp(i + 1 < count ? 0.01 * i : 0.75), 1e-6) << i;
}

}  // namespace
}  // namespace gradc::testing::object_cache_test
