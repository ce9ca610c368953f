// The checker of plans: sound programs of every kind of kernel pass (all tests that lower run it), and each
// fault that is put into one is found, with the kernels, buffers and addresses it concerns.
#include "ir/loop/check_plan.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "passes/tensor/passes.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::check_plan_test {
namespace {

using loop::Program;

constexpr int64_t kRows = 40;  // two panels, of which one is not full

struct Sample {
  const char* name;
  const char* text;
  Type input;
};

void PrintTo(const Sample& s, std::ostream* out) { *out << s.name; }

const Sample kSamples[] = {
    {"dense_and_its_gradient",
     R"(param @w : f32[70,67]
func @f(%x: f32[n,67]) {
  %1 = einsum %x, @w {spec="nk,ok->no"} : f32[n,70]
  %2 = exp %1 : f32[n,70]
  %3 = einsum %2, @w {spec="no,ok->nk"} : f32[n,67]
  %4 = einsum %2, %x {spec="no,nk->ok"} : f32[70,67]
  %5 = exp %4 : f32[70,67]
  %6 = transpose %5 {permutation=[1,0]} : f32[67,70]
  return y=%3, w=%6
})",
     {DType::f32, true, {67}}},
    {"first_axis_exchanged",
     R"(func @f(%x: f32[n,70,70]) {
  %1 = exp %x : f32[n,70,70]
  %2 = transpose %1 {permutation=[1,0]} : f32[n,70,70]
  %3 = exp %2 : f32[n,70,70]
  %4 = transpose %3 {permutation=[1,0]} : f32[n,70,70]
  return y=%4
})",
     {DType::f32, true, {70, 70}}},
    {"sums_over_the_batch",
     R"(func @f(%x: f32[n,2,6,6]) {
  %1 = max_pool2d %x {padding=[0,0], stride=[2,2], window=[2,2]} : f32[n,2,3,3]
  %2 = max_pool2d_grad %1, %x {padding=[0,0], stride=[2,2], window=[2,2]} : f32[n,2,6,6]
  %3 = relu_grad %2, %x : f32[n,2,6,6]
  %4 = reduce_sum %3 {axes=[1,2], batch=true, keep=true} : f32[2,1,1]
  %5 = mul %3, %4 : f32[n,2,6,6]
  return y=%5
})",
     {DType::f32, true, {2, 6, 6}}},
    {"convolutions",
     R"(param @v : f32[16,16,3,3]
param @w : f32[5,16,3,3]
func @f(%x: f32[n,16,8,6]) {
  %1 = conv2d %x, @v {dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]} : f32[n,16,8,6]
  %2 = conv2d %1, @w {dilation=[1,1], groups=1, padding=[1,1], stride=[2,2]} : f32[n,5,4,3]
  %3 = conv2d_weight_grad %2, %1 {dilation=[1,1], groups=1, kernel=[3,3], padding=[1,1], stride=[2,2]} : f32[5,16,3,3]
  return y=%2, dw=%3
})",
     {DType::f32, true, {16, 8, 6}}},
    // A root and a quotient: a tile is updated between the sums of the next. 108 columns are no whole
    // vectors.
    {"updates_between_tiles",
     R"(param @w : f32[28,108]
param @s : f32[28,108]
func @f(%x: f32[n,108]) {
  %1 = einsum %x, @w {spec="nk,ok->no"} : f32[n,28]
  %2 = exp %1 : f32[n,28]
  %3 = einsum %2, %x {spec="no,nk->ok"} : f32[28,108]
  %4 = mul %3, %3 : f32[28,108]
  %5 = add @s, %4 : f32[28,108]
  %6 = sqrt %5 : f32[28,108]
  %7 = div %3, %6 : f32[28,108]
  %8 = sub @w, %7 : f32[28,108]
  return w=%8
  update @s = %5
})",
     {DType::f32, true, {108}}},
    {"strided_backward",
     R"(param @v : f32[3,4,3,3]
func @f(%x: f32[n,3,6,4]) {
  %1 = exp %x : f32[n,3,6,4]
  %2 = conv2d_input_grad %1, @v {dilation=[1,1], groups=1, input=[4,12,8], padding=[1,1], stride=[2,2]} : f32[n,4,12,8]
  %3 = avg_pool2d %2 {padding=[0,0], stride=[3,3], window=[3,3]} : f32[n,4,4,2]
  return y=%3
})",
     {DType::f32, true, {3, 6, 4}}},
    // A row of the gradient is half of an even number below 4: at most 1, not 1.5.
    {"dilated_backward",
     R"(param @v : f32[4,2,2,2]
func @f(%x: f32[n,4,2,2]) {
  %1 = exp %x : f32[n,4,2,2]
  %2 = conv2d_input_grad %1, @v {dilation=[2,2], groups=1, input=[2,4,5], padding=[1,0], stride=[2,2]} : f32[n,2,4,5]
  %3 = exp %2 : f32[n,2,4,5]
  return y=%3
})",
     {DType::f32, true, {4, 2, 2}}},
};

std::vector<std::string> check(const Program& p) { return loop::check_plan(p, {.batch = kRows}); }

std::string all(const std::vector<std::string>& errors) {
  std::string text;
  for (const std::string& e : errors) text += e + "\n";
  return text;
}

class CheckPlan : public ::testing::TestWithParam<Sample> {
 protected:
  void SetUp() override {
    module_ = fused_module(GetParam().text);
    options_.batch = kRows;
    options_.machine.l2 = 6 << 10;
    program_ = lowered();
  }
  Program lowered() { return std::move(passes::lower(*module_, options_).programs.at("f").program); }

  // Whether the interpreter, which runs threads one after the other in two orders, sees another result than
  // that of one thread; it also throws on accesses out of bounds.
  bool shows(const std::function<void(Program&)>& fault) const {
    const interpreter::RunInput input = uniform_input(*module_, "x", GetParam().input, kRows, 3);
    RunnerOptions run{.engine = Engine::loops, .batch = kRows, .l2 = options_.machine.l2};
    const auto expected = run_lowered(*module_, "f", input, run).outputs;
    run.tamper = [&](const passes::PassInfo& pass, Program& p) {
      if (pass.name == passes::pass_list().back().name) fault(p);
    };
    for (const int threads : {2, 3})
      for (const bool reversed : {false, true}) {
        run.threads = threads;
        run.reversed = reversed;
        const auto got = run_lowered(*module_, "f", input, run).outputs;
        for (const auto& [name, value] : expected)
          if (!(got.at(name).data == value.data)) return true;
      }
    return false;
  }

  std::unique_ptr<Module> module_;
  passes::PipelineOptions options_;
  Program program_;
};

TEST_P(CheckPlan, ProvesSoundPrograms) {
  for (const int64_t batch : {int64_t{1}, int64_t{31}, int64_t{32}, kRows, int64_t{200}})
    for (const int width : {4, 8, 16}) {
      options_.batch = batch;
      options_.machine.lanes = width;
      options_.machine.registers = width == 8 ? 16 : 32;
      EXPECT_EQ(all(loop::check_plan(lowered(), {.batch = batch})), "") << batch << " rows, " << width;
    }
}

// A barrier whose removal changes a result is one whose removal is found.
TEST_P(CheckPlan, FindsARemovedBarrier) {
  int found = 0, wrong = 0;
  for (size_t c = 0; c < program_.calls.size(); ++c) {
    if (!program_.calls[c].barrier_before) continue;
    const auto remove = [&](Program& p) { p.calls[c].barrier_before = false; };
    Program p = program_;
    remove(p);
    const std::vector<std::string> errors = check(p);
    found += !errors.empty();
    if (!shows(remove)) continue;
    ++wrong;
    ASSERT_FALSE(errors.empty()) << "call " << c << "\n" << loop::print(p);
    EXPECT_TRUE(errors.front().find("one thread in call ") != std::string::npos ||
                errors.front().find("which share memory") != std::string::npos)
        << errors.front();
    EXPECT_NE(errors.front().find("barrier is before"), std::string::npos) << errors.front();
  }
  EXPECT_GT(wrong, 0);
  EXPECT_GE(found, wrong);
}

// Two values in use at once at one place.
TEST_P(CheckPlan, FindsOverlappingAllocations) {
  std::map<int, std::pair<size_t, size_t>> uses;
  for (size_t c = 0; c < program_.calls.size(); ++c)
    for (const loop::CallBuffer& b : program_.calls[c].buffers) {
      const int a = b.allocation;
      const auto [it, fresh] = uses.try_emplace(a, c, c);
      it->second.second = c;
    }
  int tried = 0;
  for (const auto& [a, life] : uses)
    for (const auto& [b, other] : uses) {
      const loop::Space space = program_.allocations[static_cast<size_t>(a)].space;
      if (a >= b || space != program_.allocations[static_cast<size_t>(b)].space ||
          (space != loop::Space::arena && space != loop::Space::local) || life.first > other.second ||
          other.first > life.second)
        continue;
      Program p = program_;
      loop::Allocation &x = p.allocations[static_cast<size_t>(a)], &y = p.allocations[static_cast<size_t>(b)];
      y.offset = x.offset;
      const int64_t end = y.offset + y.elements * loop::bytes(y.scalar);
      p.arena_bytes = std::max(p.arena_bytes, end);
      p.local_bytes = std::max(p.local_bytes, end);
      const std::string text = all(check(p));
      ++tried;
      EXPECT_NE(text.find(x.name), std::string::npos) << text;
      EXPECT_NE(text.find("which share"), std::string::npos) << text;
    }
  EXPECT_TRUE(tried > 0 || uses.size() < 2);
}

TEST_P(CheckPlan, FindsAnAllocationThatIsTooSmall) {
  int tried = 0;
  for (size_t a = 0; a < program_.allocations.size(); ++a) {
    Program p = program_;
    loop::Allocation& x = p.allocations[a];
    if (x.space != loop::Space::scratch && x.space != loop::Space::output) continue;
    x.elements = x.elements / 2;
    ++tried;
    const std::string text = all(check(p));
    EXPECT_NE(text.find(x.name), std::string::npos) << x.name << "\n" << text;
    EXPECT_NE(text.find("which has"), std::string::npos) << text;
  }
  EXPECT_GT(tried, 0);
}

// A band that runs a call before the parts that it reads are made.
TEST_P(CheckPlan, FindsAWrongSegmentTable) {
  if (program_.segments.empty()) GTEST_SKIP() << "no segment";
  int found = 0, wrong = 0;
  for (size_t s = 0; s < program_.segments.size(); ++s) {
    const size_t calls = program_.segments[s].bands.front().size();
    if (program_.segments[s].bands.size() < 2) continue;
    for (size_t c = 0; c < calls; ++c) {
      const auto early = [&](Program& p) {
        const int64_t parts = p.calls[static_cast<size_t>(p.segments[s].first) + c].partition.extent;
        for (std::vector<int64_t>& band : p.segments[s].bands) band[c] = parts;
      };
      Program p = program_;
      early(p);
      const std::string text = all(check(p));
      found += !text.empty();
      if (!shows(early)) continue;
      ++wrong;
      EXPECT_NE(text.find("in band 0 of the segment of calls"), std::string::npos)
          << "call " << c << " of segment " << s << ": " << text << loop::print(p);
    }
  }
  EXPECT_GE(found, wrong);
}

INSTANTIATE_TEST_SUITE_P(Plans, CheckPlan, ::testing::ValuesIn(kSamples),
                         [](const auto& info) { return std::string(info.param.name); });

// Loop IR of a table to which rows are added, as it was when the loop over a row's columns took the thread's
// part of the table's rows: `columns` is that loop.
std::string table(int64_t rows, int64_t columns, const std::string& loop) {
  return fmt::format(R"(program "f" panel 32 vector 16 arena {4} {{
  allocation 0 "input x" f32 {3} input 0
  allocation 1 "input index" i32 64 input 1
  allocation 2 "%table" f32 {2} arena 0

  kernel "k0_scatter_add" (read x: f32 align 4, read index: i32 align 4, read_write table: f32 align 64) {{
    let end = hi * {1}
    for z = lo * {1} to end step 16 {{
      table[z] = 0:f32x16 where ramp(z, 1, 16) < broadcast(end, 16)
    }}
    for m = 0 to rows step 1 {{
      let named = i64(index[m])
      let valid = (named >= lo) & (named < hi)
      let place = select(valid, named, 0)
      if valid {{
        for a = {5} step 1 {{
          table[(place * {1}) + a] = table[(place * {1}) + a] + x[(m * {1}) + a]
        }}
      }}
    }}
  }}

  call 0 (0, 1, 2) over {0} unit 1
}}
)",
                     rows, columns, rows * columns, 64 * columns, (rows * columns * 4 + 63) / 64 * 64, loop);
}

std::string checked(const std::string& text) {
  const loop::ParseResult parsed = loop::parse(text);
  EXPECT_EQ(parsed.error, "");
  EXPECT_EQ(loop::verify(parsed.program), std::vector<std::string>());
  return all(loop::check_plan(parsed.program, {.batch = 64}));
}

TEST(CheckPlanText, FindsATableThatIsSplitByTheWrongAxis) {
  EXPECT_EQ(checked(table(10, 6, "0 to 6")), "");
  EXPECT_EQ(checked(table(3, 8, "0 to 8")), "");
  // Rows past the table's end, and other threads' rows.
  const std::string out = checked(table(10, 6, "lo to hi"));
  EXPECT_NE(
      out.find("call 0 `k0_scatter_add` writes `%table`[0 to 63], bytes 0 to 255 of the arena, which has "
               "60 elements"),
      std::string::npos)
      << out;
  EXPECT_NE(out.find("one thread in call 0 `k0_scatter_add` reads `%table`[0 to 63], bytes 0 to 255 of the "
                     "arena while another in the same call writes `%table`"),
            std::string::npos)
      << out;
  // Within its row, but not all of it: other columns in each number of threads.
  EXPECT_EQ(
      checked(table(3, 8, "lo to hi")),
      "kernel `k0_scatter_add`: a loop over the thread's chunk is inside another: what it computes depends "
      "on the number of threads\n");
}

// A kernel that adds a neighbour's element, in place.
TEST(CheckPlanText, FindsWhatACallDoesToItself) {
  const char* const text = R"(program "f" panel 32 vector 16 arena 512 {
  allocation 0 "%1" f32 112 arena 0

  kernel "k0_first" (write a: f32 align 64) {
    for i = lo to hi step 1 {
      a[i] = 0:f32
    }
  }

  kernel "k1_shift" (read_write a: f32 align 64) {
    for i = lo to hi step 1 {
      a[i] = a[i] + a[min(i + 1, 99)]
    }
  }

  call 0 (0) over 100 unit 16
  call 1 (0) over 100 unit 16
}
)";
  EXPECT_EQ(
      checked(text),
      "one thread in call 0 `k0_first` writes `%1`[0 to 99], bytes 0 to 399 of the arena while another in "
      "call 1 `k1_shift` reads `%1`[1 to 99], bytes 4 to 399 of the arena: no barrier is before them\n"
      "one thread in call 1 `k1_shift` reads `%1`[1 to 99], bytes 4 to 399 of the arena while another in "
      "the same call writes `%1`[0 to 99], bytes 0 to 399 of the arena: no barrier is before them\n");
}

TEST(CheckPlanText, FindsAGuardThatIsLookedAtTooLate) {
  const auto text = [](const char* first, const char* second) {
    return fmt::format(R"(program "f" panel 32 vector 16 arena 0 {{
  allocation 0 "output loss" f32 1 output 0
  allocation 1 "@w" f32 64 parameter 0
  guard 0

  kernel "k0_loss" (write loss: f32 align 4) {{
    if lo < hi {{
      loss[0] = 1:f32
    }}
  }}

  kernel "k1_update" (write w: f32 align 64) {{
    for i = lo to hi step 16 {{
      w[i] = 0:f32x16
    }}
  }}

  call 0 (0) over 1 unit 1
  call 1 (1) over 64 unit 16{}
  call 0 (0) over 1 unit 1{}
}}
)",
                       first, second);
  };
  EXPECT_EQ(checked(text("", " barrier guard")),
            "call 1 `k1_update` writes `@w` (bytes 0 to 255) before the guard `output loss` is looked at\n"
            "call 2 `k0_loss` writes the guard `output loss` after it was looked at\n");
}

}  // namespace
}  // namespace gradc::testing::check_plan_test
