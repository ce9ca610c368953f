// The verifier finds each kind of damage.
#include <gtest/gtest.h>

#include <functional>

#include "samples.h"

namespace gradc::loop::verify_test {
namespace {

using testing::every_construct;

// Some error of the program contains the text.
::testing::AssertionResult reports(const Program& p, const std::string& text) {
  const std::vector<std::string> errors = verify(p);
  for (const std::string& e : errors)
    if (e.find(text) != std::string::npos) return ::testing::AssertionSuccess();
  auto failure = ::testing::AssertionFailure()
                 << "no error says \"" << text << "\"; there are " << errors.size();
  for (const std::string& e : errors) failure << "\n  " << e;
  return failure;
}

struct Damage {
  const char* error;
  std::function<void(Program&)> harm;
};

TEST(LoopVerify, FindsDamageToPrograms) {
  const Damage cases[] = {
      {"a panel of 0", [](Program& p) { p.panel = 0; }},
      {"0 rows of an example", [](Program& p) { p.kernels[1].rows = 0; }},
      {"a partition of 1 rows an example; kernel `rows` has 3",
       [](Program& p) { p.calls[0].partition.rows = 1; }},
      {"a partition of 3 rows an example; kernel `all \"kinds\"` has 1",
       [](Program& p) { p.calls[1].partition.rows = 3; }},
      {"call 2 is not split over panels",
       [](Program& p) { p.calls[2].kernel = 1, p.calls[2].partition.rows = 3; }},
      {"segment 0: calls 2 to 5 of 4", [](Program& p) { p.segments[0].last = 5; }},
      {"segment 0: calls 2 to 3 of 4", [](Program& p) { p.segments[0].last = 3; }},
      {"segment 0: calls 2147483647 to 4 of 4", [](Program& p) { p.segments[0].first = INT32_MAX; }},
      {"segment 1: calls 2 to 4 of 4", [](Program& p) { p.segments.push_back(p.segments[0]); }},
      {"no bands", [](Program& p) { p.segments[0].bands.clear(); }},
      {"a band of 1 calls, not 2", [](Program& p) { p.segments[0].bands[1].pop_back(); }},
      {"part 2 is undone", [](Program& p) { p.segments[0].bands[1][0] = 2; }},
      {"1 of 2 parts are made", [](Program& p) { p.segments[0].bands[1][1] = 1; }},
      {"call 2 is not split over panels", [](Program& p) { p.calls[2].partition.unit = 2; }},
      {"allocation 1 is accessed by `axis0`, and the call is split over panels",
       [](Program& p) { p.calls[0].buffers[1].scope = AccessScope::own_axis0; }},
      {"allocation 1 is accessed by `panel`, and the call is split over an axis",
       [](Program& p) { p.calls[1].buffers[1].scope = AccessScope::panel; }},
      {"rows of allocation 8 for 1 chunks of a panel, which has 2",
       [](Program& p) { p.calls[3].buffers[1].rows.pop_back(); }},
      {"rows of allocation 8 for 2 chunks of a panel, which has 0",
       [](Program& p) { p.calls[3].buffers[1].scope = AccessScope::anything; }},
      {"rows 2 to 1",
       [](Program& p) { p.calls[3].buffers[1].rows[1].begin = 2, p.calls[3].buffers[1].rows[1].end = 1; }},
      {"flop or bytes below 0", [](Program& p) { p.calls[0].bytes = -1; }},
      {"a guard inside", [](Program& p) { p.calls[3].guard_before = true; }},
      {"kernel 7 is none", [](Program& p) { p.calls[0].kernel = 7; }},
      {"takes 5 buffers, not 4", [](Program& p) { p.calls[0].buffers.pop_back(); }},
      {"allocation 99 is none", [](Program& p) { p.calls[0].buffers[1] = 99; }},
      {"is i8, not f32", [](Program& p) { p.calls[0].buffers[1] = 2; }},
      {"is written, but may only be read", [](Program& p) { p.calls[0].buffers[1] = 0; }},
      {"is not known to be aligned to 64", [](Program& p) { p.calls[0].buffers[0] = 0; }},
      {"is not known to be aligned to 64", [](Program& p) { p.allocations[6].offset = 4; }},
      {"ends beyond the arena's", [](Program& p) { p.arena_bytes = 4096; }},
      {"ends beyond the local memory's", [](Program& p) { p.local_bytes = 4160; }},
      {"2048 elements for 3 panels", [](Program& p) { p.panels = 3; }},
      {"a batch of 0 panels", [](Program& p) { p.panels = 0; }},
      {"2048 elements for 0 panels", [](Program& p) { p.panels = 0; }},
      {"call 1 is not of the segment that it is local to", [](Program& p) { p.calls[1].buffers[1] = 8; }},
      {"no multiple of 4", [](Program& p) { p.allocations[1].offset = 2; }},
      {"offset -64", [](Program& p) { p.allocations[1].offset = -64; }},
      {"a partition unit of 0", [](Program& p) { p.calls[0].partition.unit = 0; }},
      {"the guard is allocation 50", [](Program& p) { p.guard = 50; }},
      {"the guard is not f32", [](Program& p) { p.guard = 2; }},
      {"the program names none", [](Program& p) { p.guard = -1; }},
      {"the scalars are f64", [](Program& p) { p.allocations[4].scalar = Scalar::f32; }},
      {"a predefined variable is missing", [](Program& p) { p.kernels[0].predefined.rows = nullptr; }},
  };
  for (const Damage& d : cases) {
    Program p = every_construct();
    d.harm(p);
    EXPECT_TRUE(reports(p, d.error));
  }
}

// Statements are shared by pointer, so that harming them in place is enough.
StmtData& find(std::vector<Stmt>& body, StmtKind kind) {
  for (const Stmt& s : body) {
    if (s->kind == kind) return *s;
    for (auto* inner : {&s->body, &s->other})
      for (const Stmt& t : *inner) {
        std::vector<Stmt> one = {t};
        if (t->kind == kind) return *t;
        for (auto* deeper : {&t->body, &t->other})
          for (const Stmt& u : *deeper)
            if (u->kind == kind) return *u;
      }
  }
  throw std::runtime_error("no such statement");
}

TEST(LoopVerify, FindsDamageToKernels) {
  const auto variable = [](const char* n, Type t, bool m) {
    return std::make_shared<const VariableData>(VariableData{n, t, m});
  };
  const Type i64{Scalar::i64, 1}, f32{Scalar::f32, 1};
  const auto raw = [](ExprData e) { return std::make_shared<const ExprData>(std::move(e)); };
  const Damage cases[] = {
      {"is not visible here",
       [&](Program& p) {
         find(p.kernels[0].body, StmtKind::store).index = ref(variable("stray", i64, false));
       }},
      {"is not visible here",
       [&](Program& p) {
         find(p.kernels[0].body, StmtKind::assign).variable = variable("stray", f32, true);
       }},
      {"is not mutable",
       [&](Program& p) { find(p.kernels[0].body, StmtKind::assign).variable = p.kernels[0].predefined.lo; }},
      {"is none of the kernel's", [](Program& p) { p.kernels[0].buffers.pop_back(); }},
      {"names two things", [](Program& p) { p.kernels[0].buffers.push_back(p.kernels[0].buffers[0]); }},
      {"which is only read",
       [](Program& p) { find(p.kernels[0].body, StmtKind::store).buffer = p.kernels[0].buffers[0]; }},
      {"a loop's step is 0", [](Program& p) { find(p.kernels[0].body, StmtKind::for_loop).step = 0; }},
      {"a loop's end is f32, not i64",
       [&](Program& p) { find(p.kernels[0].body, StmtKind::for_loop).end = constant(f32, 1); }},
      {"a condition is missing",
       [](Program& p) { find(p.kernels[0].body, StmtKind::if_then).condition = nullptr; }},
      {"a condition is i64, not i1",
       [](Program& p) { find(p.kernels[0].body, StmtKind::if_then).condition = index(1); }},
      {"a store's value is missing",
       [](Program& p) { find(p.kernels[0].body, StmtKind::store).value = nullptr; }},
      {"a statement is missing", [](Program& p) { p.kernels[0].body.push_back(nullptr); }},
      {"operands of types",
       [&](Program& p) {
         find(p.kernels[0].body, StmtKind::let).value =
             raw({.kind = ExprKind::binary, .type = f32, .args = {constant(f32, 1), index(1)}});
       }},
      {"2 operands",
       [&](Program& p) {
         find(p.kernels[0].body, StmtKind::let).value =
             raw({.kind = ExprKind::fma, .type = f32, .args = {constant(f32, 1), constant(f32, 1)}});
       }},
      {"an operand is missing",
       [&](Program& p) {
         find(p.kernels[0].body, StmtKind::let).value =
             raw({.kind = ExprKind::unary, .type = f32, .args = {nullptr}});
       }},
      {"the type is f64 where f32 was expected",
       [&](Program& p) {
         find(p.kernels[0].body, StmtKind::let).value =
             raw({.kind = ExprKind::unary, .type = {Scalar::f64, 1}, .args = {constant(f32, 1)}});
       }},
      {"(mlp.nn:12:5)", [](Program& p) { find(p.kernels[0].body, StmtKind::store).value = nullptr; }},
  };
  for (const Damage& d : cases) {
    Program p = every_construct();
    d.harm(p);
    EXPECT_TRUE(reports(p, d.error));
  }
}

TEST(LoopVerify, ScopesEndWithTheirBlock) {
  const ParseResult r = parse(
      "program \"p\" panel 32 vector 16 arena 0 { kernel \"k\" (write y: i64 align 8) { if lo < hi { var a = "
      "1 } y[0] = 1 } }");
  ASSERT_EQ(r.error, "");
  Program p = r.program;
  EXPECT_TRUE(verify(p).empty());
  p.kernels[0].body[1]->value = ref(p.kernels[0].body[0]->body[0]->variable);
  EXPECT_TRUE(reports(p, "`a` is not visible here"));
}

TEST(LoopVerify, LoadsNeedReadAccess) {
  Program p;
  p.name = "p";
  Kernel k = make_kernel("k");
  Builder b(k);
  const Buffer y = b.buffer("y", Scalar::f32, Access::write);
  b.store(y, index(0), load(y, index(1)));
  p.kernels.push_back(std::move(k));
  EXPECT_TRUE(reports(p, "load from `y`, which is only written"));
}

}  // namespace
}  // namespace gradc::loop::verify_test
