// The verifier: each way of breaking a sound function gives its own report, and nothing else.
#include <gtest/gtest.h>

#include <cmath>

#include "ir/tensor/module.h"
#include "ir/tensor/op_def.h"

namespace gradc::module_verify_test {
namespace {

struct Fixture {
  Module m;
  Function* f;
  Op *x, *w, *a, *b, *loss;

  Fixture() {
    m.add_symbol({"w", {DType::f32, false, {3}}});
    m.add_symbol({"w.m", {DType::f32, false, {3}}, SymbolKind::slot});
    f = &m.add_function("f");
    x = f->add_input("x", {DType::f32, true, {3}});
    w = f->read(m.symbols[0]);
    Builder builder(*f);
    builder.set_location({std::make_shared<const std::string>("a.nn"), 3, 4, nullptr});
    a = builder.add(x, w);
    b = builder.exp(a);
    loss = builder.reduce_sum(b, {0}, true);
    f->outputs.push_back({"loss", loss});
    f->updates.push_back({"w", builder.neg(w), {}});
    f->guard_output = 0;
    f->renumber();
  }
  std::vector<std::string> errors() const { return verify(m); }
  void expect(const std::vector<std::string>& expected) const { EXPECT_EQ(errors(), expected); }
};

using List = std::vector<std::string>;

TEST(Verify, a_sound_module) { Fixture().expect({}); }

TEST(Verify, order_and_ownership) {
  Fixture one;
  one.f->reorder({one.b, one.a, one.loss, one.f->ops()[3]});
  one.expect({"@f: %1 = exp: operand 1 is not defined before its use in this function (from a.nn:3:4)"});
  Fixture two;
  two.a->operands[1] = nullptr;
  two.expect({"@f: %1 = add: operand 2 is null (from a.nn:3:4)"});
  Fixture three, other;
  three.b->operands[0] = other.a;
  three.expect({"@f: %2 = exp: operand 1 is not defined before its use in this function (from a.nn:3:4)"});
}

TEST(Verify, types_and_attributes_are_as_inferred) {
  Fixture one;
  one.b->type.shape = {4};
  one.expect({"@f: %2 = exp: has type f32[n,4]; inferred is f32[n,3] (from a.nn:3:4)"});
  Fixture two;
  two.loss->attributes.set("axes", std::vector<int64_t>{7});
  const List errors = two.errors();
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].rfind("@f: %3 = reduce_sum: ", 0), 0u) << errors[0];
  Fixture three;
  three.loss->attributes.erase("keep");
  three.expect(
      {"@f: %3 = reduce_sum: has the attributes {axes=[0], batch=true}, which should be stored as {axes=[0], "
       "batch=true, keep=false} (from a.nn:3:4)"});
  Fixture four;
  four.a->def = find_op("input");
  four.expect({"@f: %1 = input: is not an operation of a body (from a.nn:3:4)"});
  Fixture five;
  five.a->def = nullptr;
  five.expect({"@f: %1 = ?: an operation without a definition (from a.nn:3:4)",
               "@f: %2 = exp: operand 1 is not defined before its use in this function (from a.nn:3:4)"});
}

TEST(Verify, a_nan_attribute_is_sound) {
  Module m;
  Builder builder(m.add_function("f"));
  builder.constant(std::nan(""));
  EXPECT_EQ(verify(m), List{});
}

TEST(Verify, inputs_and_symbols) {
  Fixture one;
  one.m.symbols[0].name = "v";
  one.expect({"the slot @w.m is not named after a parameter",
              "@f: reads @w, which the module does not declare",
              "@f: updates @w, which the module does not declare"});
  Fixture two;
  two.m.symbols[0].type.shape = {4};
  two.expect({"@f: reads @w as f32[3]; it is declared f32[4]",
              "@f: the update of @w has type f32[3]; it is declared f32[4]"});
  Fixture three;
  three.f->add_input("y", {DType::f32, false, {}})->attributes.set("name", std::string("x"));
  three.expect({"@f: the input x is there twice"});
  Fixture four;
  four.m.symbols.push_back(four.m.symbols[0]);
  four.expect({"@w is declared twice"});
  Fixture five;
  five.m.symbols.push_back({"s", {DType::f32, true, {0}}, SymbolKind::state});
  five.expect({"@s is batched", "@s has the shape [0]; extents are at least 1"});
  Fixture six;
  six.f->add_input("z", {DType::f32, false, {3, 0}});
  six.expect({"@f: the input z has the shape [3, 0]; extents are at least 1"});
}

TEST(Verify, outputs_guard_and_updates) {
  Fixture one;
  one.f->outputs.push_back({"loss", one.b});
  one.f->outputs.push_back({"", nullptr});
  one.expect({"@f: the output loss is there twice", "@f: an output without a name",
              "@f: the output  is not a value of this function"});
  Fixture two;
  two.f->guard_output = 2;
  two.expect({"@f: is guarded by output number 2 of 1"});
  Fixture three;
  three.f->outputs[0].value = three.b;
  three.expect({"@f: the guard loss has type f32[n,3]; it must be one unbatched floating-point number"});
  Fixture four;
  four.f->updates.push_back({"w", four.loss, {}});
  four.expect({"@f: @w is updated twice", "@f: the update of @w has type f32; it is declared f32[3]"});
  Fixture five;
  five.f->updates[0].value = nullptr;
  five.expect({"@f: the update of @w is not a value of this function"});
}

TEST(Verify, functions_have_names_of_their_own) {
  Fixture one;
  one.m.add_function("g").name = "f";
  one.expect({"there are two functions @f"});
}

TEST(Verify, kernels_do_not_wait_for_each_other) {
  Fixture one;
  one.a->kernel = one.b->kernel = 0;
  one.loss->kernel = 1;
  one.expect({});
  Fixture two;  // 0 makes a, 1 needs it and makes b, 0 needs that
  two.a->kernel = two.loss->kernel = 0;
  two.b->kernel = 1;
  two.expect({"@f: kernels need results of each other, or wait for such: 0, 1"});
  Fixture three;
  three.b->kernel = -7;
  three.expect({"@f: %2 = exp: kernel(-7) is no kernel (from a.nn:3:4)"});
}

TEST(Verify, cheap_operations_do_not_tie_kernels_together) {
  Module m;
  Function& f = m.add_function("f");
  Op* x = f.add_input("x", {DType::f32, true, {3}});
  Builder b(f);
  Op* c = b.constant(2);
  Op* a = b.mul(x, c);
  Op* e = b.exp(a);
  Op* d = b.mul(e, c);
  f.outputs.push_back({"y", d});
  c->kernel = d->kernel = 1;  // computed again where it is needed
  a->kernel = e->kernel = 0;
  EXPECT_EQ(verify(m), List{});
}

TEST(Verify, long_chains_of_cheap_operations) {
  constexpr int kLinks = 100'000;
  Module m;
  Function& f = m.add_function("f");
  Op* x = f.add_input("x", {DType::f32, true, {3}});
  Builder b(f);
  Op* first = b.exp(x);
  Op* link = first;
  std::vector<Op*> users;
  for (int i = 0; i < kLinks; ++i) {
    link = b.create("broadcast", {link}, {{"shape", std::vector<int64_t>{3}}, {"batched", true}});
    if (i % 2 == 0) users.push_back(b.exp(link));  // of every length of chain
  }
  Op* last = b.exp(link);
  f.outputs = {{"y", last}, {"z", users.back()}};
  first->kernel = 0;
  last->kernel = 1;
  EXPECT_EQ(verify(m), List{});
  // And back to the kernel that the chain begins in.
  Op* back = b.exp(last);
  back->kernel = 0;
  f.outputs.push_back({"back", back});
  const List errors = verify(m);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0], "@f: kernels need results of each other, or wait for such: 0, 1");
}

}  // namespace
}  // namespace gradc::module_verify_test
