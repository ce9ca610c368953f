// Types, attributes, locations; functions and the builder: what each operation on them leaves.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ir/tensor/module.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"
#include "tests/ir/ops_tools.h"

namespace gradc::test::module_build_test {
namespace {

Type f32(Shape shape, bool batched = false) { return {DType::f32, batched, std::move(shape)}; }

TEST(Type, text_both_ways) {
  for (const char* text : {"f32", "f64[n]", "i32[512]", "bool[n,3,32,32]", "f32[n*128,64]", "i32[n*2]",
                           "f32[1,2,3,4,5,6,7,8]", "f32[2147483648]"}) {
    Type t;
    EXPECT_TRUE(parse_type(text, t)) << text;
    EXPECT_EQ(to_string(t), text);
  }
  Type t = f32({7});
  EXPECT_TRUE(parse_type("f32[n, 3, 4]", t));
  EXPECT_EQ(t, f32({3, 4}, true));
  for (const char* text : {"",
                           "f16",
                           "f32[",
                           "f32]",
                           "f32[]",
                           "f32[0]",
                           "f32[-1]",
                           "f32[3,n]",
                           "f32[n,n]",
                           "f32[n*]",
                           "f32[n*1,3]",
                           "f32[n*n]",
                           "f32[3,n*2]",
                           "f32[n2]",
                           "f32[n*65536,65536]",
                           "f32[3,]",
                           "f32[,3]",
                           "f32[3 4]",
                           "f32[3]x",
                           "f32[2147483649]",
                           "f32[65536,65536]",
                           "f32[99999999999999999999]",
                           "f32[1,1,1,1,1,1,1,1,1]",
                           "F32",
                           " f32",
                           "f32 "}) {
    EXPECT_FALSE(parse_type(text, t)) << text;
    EXPECT_EQ(t, f32({3, 4}, true)) << "an unreadable type leaves the result alone";
  }
  EXPECT_EQ(to_string(Shape{3, 32, 32}), "[3, 32, 32]");
  EXPECT_EQ(to_string(Shape{}), "[]");
  EXPECT_EQ(f32({3, 4}).elements(), 12);
  EXPECT_EQ(f32({}).elements(), 1);
}

TEST(Type, broadcasting) {
  const auto broadcast = [](Shape a, Shape b) {
    Shape out;
    return broadcast_shapes(a, b, out) ? to_string(out) : std::string("none");
  };
  EXPECT_EQ(broadcast({}, {3}), "[3]");
  EXPECT_EQ(broadcast({3, 1}, {4}), "[3, 4]");
  EXPECT_EQ(broadcast({1}, {5, 1, 2}), "[5, 1, 2]");
  EXPECT_EQ(broadcast({2, 3}, {2, 3}), "[2, 3]");
  EXPECT_EQ(broadcast({2, 3}, {3, 2}), "none");
  EXPECT_EQ(broadcast({2}, {3}), "none");
  EXPECT_EQ(broadcast({2}, {2, 1}), "[2, 2]");
}

TEST(Attributes, typed_access) {
  const Attributes a = {{"yes", true},
                        {"count", int64_t{3}},
                        {"eps", 0.5},
                        {"spec", std::string("nk")},
                        {"axes", std::vector<int64_t>{1, 2}}};
  EXPECT_TRUE(a.boolean("yes"));
  EXPECT_EQ(a.integer("count"), 3);
  EXPECT_EQ(a.number("count"), 3.0);
  EXPECT_EQ(a.number("eps"), 0.5);
  EXPECT_EQ(a.text("spec"), "nk");
  EXPECT_EQ(a.integers("axes"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(a.find("none"), nullptr);
  EXPECT_THROW(a.boolean("none"), InternalError);
  EXPECT_THROW(a.integer("eps"), InternalError);
  EXPECT_THROW(a.number("spec"), InternalError);
  EXPECT_THROW(a.text("axes"), InternalError);
}

TEST(Attributes, text) {
  EXPECT_EQ(to_string(Attribute(true)), "true");
  EXPECT_EQ(to_string(Attribute(int64_t{-3})), "-3");
  EXPECT_EQ(to_string(Attribute(3.0)), "3.0");
  EXPECT_EQ(to_string(Attribute(-0.0)), "-0.0");
  EXPECT_EQ(to_string(Attribute(0.1)), "0.1");
  EXPECT_EQ(to_string(Attribute(1e-05)), "1e-05");
  EXPECT_EQ(to_string(Attribute(1e300)), "1e+300");
  EXPECT_EQ(to_string(Attribute(std::numeric_limits<double>::infinity())), "inf");
  EXPECT_EQ(to_string(Attribute(std::string("a\"b\\c\n\x01"))), "\"a\\\"b\\\\c\\n\\x01\"");
  EXPECT_EQ(to_string(Attribute(std::vector<int64_t>{})), "[]");
  EXPECT_EQ(to_string(Attribute(std::vector<int64_t>{1, -1})), "[1,-1]");
}

TEST(Location, user_place_leaves_the_prelude) {
  const auto file = [](const char* name) { return std::make_shared<const std::string>(name); };
  EXPECT_EQ(to_string(Location{}), "?");
  const Location mine{file("mlp.nn"), 12, 5, nullptr};
  EXPECT_EQ(to_string(mine), "mlp.nn:12:5");
  EXPECT_EQ(user_location(mine), "mlp.nn:12:5");
  const auto model = std::make_shared<const CallSite>(CallSite{"mlp", "", "mlp.nn", 20, "", nullptr});
  const auto dense = std::make_shared<const CallSite>(CallSite{"dense", "dense_1", "mlp.nn", 14, "", model});
  const auto inner =
      std::make_shared<const CallSite>(CallSite{"helper", "", "prelude/layers.nn", 7, "", dense});
  const Location prelude{file("prelude/layers.nn"), 3, 1, inner};
  EXPECT_EQ(to_string(prelude), "prelude/layers.nn:3:1");
  EXPECT_EQ(user_location(prelude), "mlp.nn:14");
  EXPECT_EQ(user_location({file("prelude/layers.nn"), 3, 1, nullptr}), "prelude/layers.nn:3:1");
}

TEST(Function, inputs_and_reads) {
  Function f("f");
  Op* x = f.add_input("x", f32({3}, true));
  EXPECT_EQ(f.input("x"), x);
  EXPECT_EQ(f.input("y"), nullptr);
  EXPECT_EQ(x->symbol(), "x");
  EXPECT_THROW(f.add_input("x", f32({})), InternalError);
  const Symbol w{"w", f32({3})};
  Op* read = f.read(w);
  EXPECT_EQ(f.read(w), read);
  EXPECT_EQ(f.symbols.size(), 1u);
  EXPECT_EQ(read->type, w.type);
  EXPECT_TRUE(read->is("symbol"));
}

TEST(Function, uses_dead_code_and_order) {
  Function f("f");
  Op* x = f.add_input("x", f32({3}, true));
  Op* w = f.read({"w", f32({3})});
  f.read({"unused", f32({3})});
  Builder b(f);
  Op* a = b.exp(x);
  Op* dead = b.neg(a);
  b.neg(dead);
  Op* c = b.add(a, w);
  Op* d = b.mul(c, c);
  f.outputs.push_back({"y", d});
  f.updates.push_back({"w", w, {}});
  auto uses = f.use_counts();
  EXPECT_EQ(uses[c], 2);
  EXPECT_EQ(uses[a], 2);
  EXPECT_EQ(uses[w], 2);
  EXPECT_EQ(uses[d], 1);
  EXPECT_EQ(f.remove_dead(), 2);
  EXPECT_EQ(f.ops(), (std::vector<Op*>{a, c, d}));
  EXPECT_EQ(f.symbols.size(), 1u);
  EXPECT_EQ(f.remove_dead(), 0);

  b.insert_before(c);
  Op* n = b.neg(a);
  EXPECT_EQ(f.ops(), (std::vector<Op*>{a, n, c, d}));
  f.replace_uses(w, n);
  EXPECT_EQ(c->operands[1], n);
  EXPECT_EQ(f.updates[0].value, n);
  f.replace_uses(d, c);
  EXPECT_EQ(f.outputs[0].value, c);
  f.renumber();
  EXPECT_EQ(n->id, 2);
  EXPECT_EQ(d->id, 4);

  f.reorder({a, n, d, c});
  EXPECT_EQ(f.ops(), (std::vector<Op*>{a, n, d, c}));
  EXPECT_THROW(f.reorder({a, n, d}), InternalError);
}

TEST(Function, an_order_must_list_every_operation_once) {
  Function f("f");
  Builder b(f);
  Op* one = b.constant(1);
  b.constant(2);
  EXPECT_THROW(f.reorder({one, one}), InternalError);
}

TEST(Module, names_are_unique) {
  Module m;
  m.add_symbol({"w", f32({3})});
  EXPECT_THROW(m.add_symbol({"w", f32({4})}), InternalError);
  EXPECT_THROW(m.add_symbol({"x", f32({4}, true)}), InternalError);
  EXPECT_EQ(m.symbol("w")->type, f32({3}));
  EXPECT_EQ(m.symbol("v"), nullptr);
  Function& f = m.add_function("f");
  EXPECT_EQ(m.function("f"), &f);
  EXPECT_THROW(m.add_function("f"), InternalError);
  m.remove_function("f");
  EXPECT_EQ(m.function("f"), nullptr);
}

TEST(Builder, infers_and_refuses) {
  Function f("f");
  Op* x = f.add_input("x", f32({3}, true));
  Op* y = f.add_input("y", f32({4}));
  Builder b(f);
  const Location location{std::make_shared<const std::string>("a.nn"), 3, 4, nullptr};
  b.set_location(location);
  Op* c = b.mul(x, 2.0);
  EXPECT_EQ(c->type, x->type);
  ASSERT_EQ(c->locations.size(), 1u);
  EXPECT_EQ(to_string(c->locations[0]), "a.nn:3:4");
  EXPECT_EQ(c->operands[1]->attributes.number("value"), 2.0);
  EXPECT_THROW(b.add(x, y), InternalError);
  EXPECT_THROW(b.create("no_such_op", {x}), InternalError);
  EXPECT_THROW(b.create("add", {x}), InternalError);
  EXPECT_THROW(b.create("add", {x, nullptr}), InternalError);
  EXPECT_EQ(b.cast(x, DType::f32), x);
  EXPECT_EQ(b.cast(x, DType::f64)->type.dtype, DType::f64);
  EXPECT_EQ(b.reshape(x, {3}), x);
  EXPECT_EQ(b.reshape(x, {3, 1})->type, f32({3, 1}, true));
  EXPECT_EQ(b.reduce_sum(x, {0})->type, f32({}, true));
  EXPECT_EQ(b.reduce_sum(x, {0}, true, true)->type, f32({1}));
  EXPECT_THROW(b.insert_before(x), InternalError);
  EXPECT_EQ(f.ops().size(), 6u);
}

// sum_to against summing by hand: every element of the gradient lands where its operand's element was
// broadcast from.
TEST(Builder, sum_to_undoes_broadcasting) {
  const std::vector<std::pair<Type, Type>> cases = {
      {f32({2, 3}), f32({2, 3})},
      {f32({2, 3}), f32({3})},
      {f32({2, 3}), f32({1})},
      {f32({2, 3}), f32({})},
      {f32({2, 3}), f32({2, 1})},
      {f32({2, 3}), f32({1, 3})},
      {f32({2, 3}), f32({1, 1})},
      {f32({4, 2, 3}), f32({2, 1})},
      {f32({2, 3}, true), f32({2, 3})},
      {f32({3}, true), f32({})},
      {f32({2, 3}, true), f32({3})},
      {f32({2, 3}, true), f32({2, 1})},
      {f32({4, 2, 3}, true), f32({1, 3})},
      {f32({2, 3}, true), f32({2, 1}, true)},
      {f32({2, 3}, true), f32({}, true)},
  };
  const int64_t rows = 4;
  for (const auto& [from, to] : cases) {
    SCOPED_TRACE(to_string(from) + " to " + to_string(to));
    Function f("f");
    Op* g = f.add_input("g", from);
    Builder b(f);
    Op* summed = b.sum_to(g, to);
    EXPECT_EQ(summed->type, to);
    f.outputs.push_back({"y", summed});
    interpreter::RunInput input;
    input.context.rows = rows;
    Tensor t = interpreter::make_tensor(from, rows);
    for (int64_t i = 0; i < count(t); ++i) begin(t)[i] = static_cast<double>(i * i + 1);
    input.inputs.emplace("g", t);
    const Tensor got = interpreter::run(f, input).outputs.at("y");
    std::vector<double> expected(static_cast<size_t>(count(got)));
    const int64_t elements = from.elements();
    for (int64_t i = 0; i < count(t); ++i) {
      int64_t rest = i % elements, position = 0, step = 1;
      for (int axis = from.rank() - 1; axis >= 0; --axis) {
        const int64_t at = rest % from.shape[static_cast<size_t>(axis)];
        rest /= from.shape[static_cast<size_t>(axis)];
        const int own = axis - (from.rank() - to.rank());
        if (own < 0) continue;
        const int64_t extent = to.shape[static_cast<size_t>(own)];
        position += (extent == 1 ? 0 : at) * step;
        step *= extent;
      }
      if (to.batched) position += i / elements * to.elements();
      expected[static_cast<size_t>(position)] += begin(t)[i];
    }
    EXPECT_EQ(values(got), expected);
  }
}

TEST(Builder, sum_to_widens_a_gradient_that_is_the_same_everywhere) {
  Function f("f");
  Op* g = f.add_input("g", f32({1}));
  Builder b(f);
  EXPECT_EQ(b.sum_to(g, f32({2, 3}, true))->type, f32({2, 3}, true));
  EXPECT_EQ(b.sum_to(f.add_input("h", f32({1, 5})), f32({3, 1}))->type, f32({3, 1}));
  EXPECT_EQ(b.sum_to(f.add_input("i", f32({}, true)), f32({3}))->type, f32({3}));
  EXPECT_THROW(b.sum_to(g, {DType::f64, false, {1}}), InternalError);
}

TEST(Inline, copies_operations_and_maps_inputs_and_reads) {
  Module m;
  m.add_symbol({"w", f32({3})});
  Function& from = m.add_function("from");
  Op* x = from.add_input("x", f32({3}, true));
  Builder fb(from);
  const Location location{std::make_shared<const std::string>("a.nn"), 3, 4, nullptr};
  fb.set_location(location);
  Op* y = fb.add(x, from.read(*m.symbol("w")));
  y->kernel = 5;
  from.outputs.push_back({"y", y});
  from.updates.push_back({"w", fb.reduce_sum(y, {}, true), {}});

  Function& to = m.add_function("to");
  Builder b(to);
  Op* z = b.exp(to.add_input("z", f32({3}, true)));
  const auto image = inline_function(from, {{"x", z}}, m, b);
  EXPECT_EQ(image.at(x), z);
  EXPECT_EQ(image.at(from.symbols[0].get()), to.symbols.at(0).get());
  Op* copy = image.at(y);
  EXPECT_EQ(copy->operands, (std::vector<Op*>{z, to.symbols[0].get()}));
  EXPECT_EQ(copy->kernel, -1);
  EXPECT_EQ(to_string(copy->locations.at(0)), "a.nn:3:4");
  EXPECT_TRUE(to.outputs.empty());
  EXPECT_TRUE(to.updates.empty());
  EXPECT_EQ(to.body.size(), 3u);
  EXPECT_EQ(verify(m), std::vector<std::string>{});

  EXPECT_THROW(inline_function(from, {}, m, b), InternalError);
  EXPECT_THROW(inline_function(from, {{"x", b.reduce_sum(z, {0})}}, m, b), InternalError);
}

}  // namespace
}  // namespace gradc::test::module_build_test
