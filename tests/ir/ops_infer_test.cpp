// What a user reads when a primitive is used wrongly: pinned texts. Every message names what was found and
// what is wanted.
#include "tests/ir/ops_tools.h"

namespace gradc::test::ops_infer_test {
namespace {

std::string error(const char* name, const std::vector<Type>& operands, Attributes attributes = {}) {
  return infer(*find_op(name), operands, attributes).error;
}
std::string type(const char* name, const std::vector<Type>& operands, Attributes attributes = {}) {
  const InferResult r = infer(*find_op(name), operands, attributes);
  return r.error.empty() ? to_string(r.type) : r.error;
}

TEST(OpsInfer, BroadcastTypes) {
  EXPECT_EQ(type("add", {batched({3, 1}), plain({4})}), "f32[n,3,4]");
  EXPECT_EQ(type("add", {plain({2, 3}), batched({})}), "f32[n,2,3]");
  EXPECT_EQ(type("lt", {batched({3}), plain({})}), "bool[n,3]");
  EXPECT_EQ(type("reduce_sum", {batched({3, 4})}, {{"axes", ints({-1})}, {"batch", true}}), "f32[3]");
  EXPECT_EQ(type("reduce_max", {batched({3, 4})}, {{"axes", ints({0})}, {"keep", true}}), "f32[n,1,4]");
  EXPECT_EQ(type("einsum", {batched({7}), plain({5, 7})}, {{"spec", text("nk,ok->no")}}), "f32[n,5]");
  EXPECT_EQ(type("conv2d", {batched({3, 32, 32}), plain({16, 3, 3, 3})},
                 {{"padding", ints({1, 1})}, {"stride", ints({2, 2})}}),
            "f32[n,16,16,16]");
  EXPECT_EQ(type("batch_mean", {batched({3, 4, 5})}, {{"axes", ints({1, 2})}}), "f32[3,1,1]");
}

// Positions of a sequence that are rows of their example.
TEST(OpsInfer, RowsOfAnExample) {
  const Type x = {DType::f32, true, {4}, 7};
  EXPECT_EQ(type("fold_rows", {batched({7, 4})}), "f32[n*7,4]");
  EXPECT_EQ(type("unfold_rows", {x}), "f32[n,7,4]");
  EXPECT_EQ(type("add", {x, plain({4})}), "f32[n*7,4]");
  EXPECT_EQ(type("einsum", {x, plain({5, 4})}, {{"spec", text("nk,ok->no")}}), "f32[n*7,5]");
  EXPECT_EQ(type("einsum", {x, x}, {{"spec", text("no,nk->ok")}}), "f32[4,4]");
  EXPECT_EQ(type("reduce_sum", {x}, {{"axes", ints({0})}, {"batch", false}}), "f32[n*7]");
  EXPECT_EQ(type("reduce_sum", {x}, {{"axes", ints({})}, {"batch", true}}), "f32[4]");
  EXPECT_EQ(type("reshape", {x}, {{"shape", ints({2, 2})}}), "f32[n*7,2,2]");
  const Attributes settings{{"scale", 0.5}, {"causal", true}};
  const Type q = {DType::f32, true, {2, 3}, 7}, k = {DType::f32, true, {2, 3}, 9},
             v = {DType::f32, true, {2, 5}, 9};
  EXPECT_EQ(type("attention", {q, k, v}, settings), "f32[n*7,2,5]");
  EXPECT_EQ(type("attention_log_sum", {q, k}, settings), "f32[n*7,2]");

  EXPECT_EQ(error("add", {x, batched({4})}), "an example has 1 rows in f32[n,4], and 7 in another operand");
  EXPECT_EQ(error("fold_rows", {x}), "f32[n*7,4] has no batch of one row an example");
  EXPECT_EQ(error("fold_rows", {batched({})}), "f32[n] has no first axis of an extent above 1");
  EXPECT_EQ(error("unfold_rows", {batched({7, 4})}), "f32[n,7,4] has no rows to unfold");
  EXPECT_EQ(error("attention", {q, v, v}, settings),
            "f32[n*7,2,3] and f32[n*9,2,5] differ in more than the rows of an example");
  EXPECT_EQ(error("attention", {q, k, q}, settings),
            "v is f32[n*7,2,3], which has not the rows and heads of f32[n*9,2,3]");
}

TEST(OpsInfer, DefaultsAndAxesAreFilledIn) {
  Attributes a{{"axes", ints({-1, 0})}};
  const std::vector<Type> x = {batched({3, 4, 5})};
  EXPECT_EQ(infer(*find_op("reduce_sum"), x, a).error, "");
  EXPECT_EQ(a.integers("axes"), (std::vector<int64_t>{0, 2}));
  EXPECT_FALSE(a.boolean("keep"));
  Attributes eps{{"eps", integer(1)}, {"training", true}};
  EXPECT_EQ(infer(*find_op("batch_norm"), std::vector<Type>(5, plain({3})), eps).error,
            "f32[3] has no batch to take statistics over while training");
  EXPECT_TRUE(std::holds_alternative<double>(*eps.find("eps")));
}

TEST(OpsInfer, OperandsAndAttributes) {
  EXPECT_EQ(error("add", {plain({})}), "2 operands wanted, 1 given");
  EXPECT_EQ(error("concat", {}, {{"axis", integer(0)}}), "at least 1 operand wanted, 0 given");
  EXPECT_EQ(error("tanh", {plain({})}, {{"slope", 1.0}}),
            "there is no attribute `slope`; this operation has none");
  EXPECT_EQ(error("dropout", {plain({})}, {{"keep", 0.5}, {"strem", integer(1)}}),
            "there is no attribute `strem`; there are: keep, stream");
  EXPECT_EQ(error("dropout", {plain({})}, {{"keep", 0.5}}),
            "the attribute `stream` is missing: which sequence of random words, 0 to 2^31 - 1; equal streams "
            "give equal numbers");
  EXPECT_EQ(error("one_hot", {plain({}, DType::i32)}, {{"depth", 2.5}}),
            "the attribute `depth` must be an integer, not 2.5");
}

TEST(OpsInfer, Elementwise) {
  EXPECT_EQ(error("add", {batched({16}), batched({32})}),
            "f32[n,16] and f32[n,32] do not fit together: on the last axis the extents 16 and 32 differ");
  EXPECT_EQ(error("mul", {plain({3, 4}), plain({2, 4})}),
            "f32[3,4] and f32[2,4] do not fit together: on axis 2 from the right the extents 3 and 2 differ");
  EXPECT_EQ(error("add", {plain({}), plain({}, DType::i32)}),
            "f32 and i32 have different element types; convert one with cast");
  EXPECT_EQ(error("exp", {batched({}, DType::i32)}),
            "the operand is i32[n], but only f32 and f64 work here; convert it with cast");
  EXPECT_EQ(error("add", {plain({}, DType::boolean), plain({}, DType::boolean)}),
            "the operand is bool, but only numbers work here; convert it with cast");
  EXPECT_EQ(error("select", {plain({}), plain({}), plain({})}),
            "the condition is f32, not bool; compare it with something first");
  EXPECT_EQ(error("logical_not", {plain({})}),
            "the operand is f32, but only bool works here; compare it with something first");
  EXPECT_EQ(error("cast", {plain({})}, {{"to", text("f16")}}),
            "there is no element type \"f16\"; there are f32, f64, i32 and bool");
  EXPECT_EQ(error("broadcast", {plain({3})}, {{"shape", ints({4})}, {"batched", false}}),
            "f32[3] does not repeat to f32[4]");
  EXPECT_EQ(error("batch_norm", {batched({3, 4, 4}), plain({3}), plain({3}), plain({3}), plain({3})},
                  {{"eps", 1e-5}, {"training", true}}),
            "statistics, gamma and beta of f32[n,3,4,4] must be unbatched f32 of one shape that repeats to "
            "[3, 4, 4], but one is f32[3]");
}

TEST(OpsInfer, Ranges) {
  EXPECT_EQ(error("dropout", {plain({})}, {{"keep", 0.0}, {"stream", integer(0)}}),
            "`keep` must lie in (0, 1], not 0");
  EXPECT_EQ(error("dropout", {plain({})}, {{"keep", 1.5}, {"stream", integer(0)}}),
            "`keep` must lie in (0, 1], not 1.5");
  EXPECT_EQ(error("dropout", {plain({})}, {{"keep", 0.5}, {"stream", integer(-1)}}),
            "`stream` is -1; it must lie between 0 and 2^31 - 1");
  EXPECT_EQ(
      error("normal", {}, {{"std", -1.0}, {"stream", integer(0)}, {"shape", ints({3})}, {"batched", false}}),
      "`std` must be finite and at least 0, not -1");
  EXPECT_EQ(
      error("uniform", {},
            {{"low", 2.0}, {"high", 1.0}, {"stream", integer(0)}, {"shape", ints({3})}, {"batched", false}}),
      "`high` must be finite and at least 2, not 1");
  EXPECT_EQ(error("constant", {}, {{"value", 0.5}, {"dtype", text("i32")}}),
            "0.5 is not a whole number within i32");
  EXPECT_EQ(error("iota", {}, {{"shape", ints({3})}, {"axis", integer(1)}}),
            "`axis` is 1, but i32[3] has the axes 0 to 0 (the batch is not counted)");
  EXPECT_EQ(error("log_softmax", {batched({})}), "f32[n] has no axis (only one number for each example)");
  EXPECT_EQ(error("reduce_sum", {batched({3})}, {{"axes", ints({1})}}),
            "there is no axis 1 in f32[n,3], which has 1 (the batch is not counted)");
  EXPECT_EQ(error("reduce_sum", {plain({3})}, {{"batch", true}}), "f32[3] has no batch to reduce");
}

TEST(OpsInfer, SizesDoNotOverflow) {
  EXPECT_EQ(error("broadcast", {plain({})}, {{"shape", ints({1 << 20, 1 << 20})}, {"batched", false}}),
            "`shape` is [1048576, 1048576], more than the 2147483648 elements that are possible");
  EXPECT_EQ(error("einsum", {plain({1 << 20}), plain({1 << 20})}, {{"spec", text("i,j->ij")}}),
            "the result's shape [1048576, 1048576] has more than the 2147483648 elements that are possible");
  EXPECT_EQ(error("pad", {plain({3})}, {{"low", ints({int64_t{1} << 62})}, {"high", ints({0})}}),
            "`low` has 4611686018427387904; entries must lie between 0 and 2147483648");
  EXPECT_EQ(
      error("conv2d", {batched({1, 5, 5}), plain({1, 1, 3, 3})}, {{"padding", ints({int64_t{1} << 62, 0})}}),
      "`padding` has 4611686018427387904; entries must lie between 0 and 16777216");
  EXPECT_EQ(error("reshape", {plain({3})}, {{"shape", ints({0})}}),
            "`shape` is [0]; every extent must be at least 1");
}

TEST(OpsInfer, Contractions) {
  const auto einsum = [](const char* spec, Type a, Type b) {
    return error("einsum", {std::move(a), std::move(b)}, {{"spec", text(spec)}});
  };
  EXPECT_EQ(einsum("nk,ok->no", batched({784}), plain({512, 700})),
            "f32[n,784] and f32[512,700]: k stands for 784 in one operand and for 700 in the other");
  EXPECT_EQ(einsum("nk,ok->no", plain({5, 784}), plain({512, 784})),
            "f32[5,784] and f32[512,784]: the first operand is f32[5,784], without a batch, but its letters "
            "are \"nk\"");
  EXPECT_EQ(einsum("nk", batched({3}), batched({3})), "the spec \"nk\" does not have the form \"nk,ok->no\"");
  EXPECT_EQ(einsum("nka,ok->no", batched({3, 2}), plain({5, 3})),
            "in the spec \"nka,ok->no\", a appears nowhere else; sum that axis first");
  EXPECT_EQ(einsum("nkk,ok->no", batched({3, 3}), plain({5, 3})),
            "in the spec \"nkk,ok->no\", k appears twice in \"nkk\"");
  const Type image = batched({3, 8, 8});
  EXPECT_EQ(error("conv2d", {image, plain({16, 4, 3, 3})}),
            "the input has 3 channels, but the kernel [16, 4, 3, 3] is for 4");
  EXPECT_EQ(error("conv2d", {image, plain({16, 3, 9, 9})}),
            "a window of 9 x 9 with dilation 1 x 1 does not fit an input of 8 x 8 with padding 0 x 0");
  EXPECT_EQ(error("conv2d", {image, plain({16, 3, 3, 3})}, {{"stride", ints({0, 1})}}),
            "`stride` has 0; entries must lie between 1 and 16777216");
  EXPECT_EQ(error("conv2d", {image, plain({16, 3, 3, 3})}, {{"groups", integer(2)}}),
            "`groups` 2 does not divide both the 3 input and the 16 output channels");
  EXPECT_EQ(error("conv2d", {batched({8, 8}), plain({16, 3, 3, 3})}),
            "the input is f32[n,8,8]; it must have the 3 axes [channels, height, width]");
  EXPECT_EQ(error("max_pool2d", {image},
                  {{"window", ints({2, 2})}, {"stride", ints({2, 2})}, {"padding", ints({2, 2})}}),
            "`padding` 2 is more than half of the window's 2: some windows would be empty");
  EXPECT_EQ(error("avg_pool2d", {image}, {{"window", ints({9, 9})}, {"stride", ints({1, 1})}}),
            "a window of 9 x 9 with dilation 1 x 1 does not fit an input of 8 x 8 with padding 0 x 0");
}

TEST(OpsInfer, Indexing) {
  EXPECT_EQ(
      error("transpose", {batched({2, 3})}, {{"permutation", ints({0, 0})}}),
      "`permutation` [0, 0] does not name each of the 2 axes of f32[n,2,3] once (the batch is not counted)");
  EXPECT_EQ(error("slice", {plain({5})}, {{"begin", ints({3})}, {"end", ints({7})}}),
            "3 to 7 is no part of axis 0 of f32[5], which has the extent 5");
  EXPECT_EQ(error("concat", {plain({2, 3}), plain({3, 3})}, {{"axis", integer(1)}}),
            "f32[2,3] and f32[3,3] differ in more than axis 1");
  EXPECT_EQ(error("reshape", {batched({3, 4})}, {{"shape", ints({10})}}),
            "f32[n,3,4] has 12 elements for each example, but the shape [10] has 10");
  EXPECT_EQ(error("pick", {batched({10}), batched({10}, DType::i32)}),
            "f32[n,10] needs an index of shape [] (its own without the last axis), not i32[n,10]");
  EXPECT_EQ(error("input", {}, {{"name", text("x")}}),
            "the type of an input or symbol is declared, not inferred");
}

// Whatever types and attributes come, inference answers; it neither crashes nor lets an impossible type
// through.
TEST(OpsInfer, AnyOperandsGetAnAnswer) {
  std::mt19937 random(1);
  const auto below = [&](int n) { return std::uniform_int_distribution<int>(0, n - 1)(random); };
  const auto wild = [&]() -> int64_t {
    const int64_t choices[] = {0, 1, 2, 3, -1, 7, int64_t{1} << 31, int64_t{1} << 62, -(int64_t{1} << 62)};
    return choices[below(9)];
  };
  int fine = 0;
  for (const OpDef& def : op_defs()) {
    for (int round = 0; round < 400; ++round) {
      std::vector<Type> types;
      for (size_t i = 0; i < def.operands.size(); ++i) {
        Type t{static_cast<DType>(below(4)), below(2) == 0, {}};
        for (int axis = below(5); axis > 0; --axis) t.shape.push_back(1 + below(4));
        types.push_back(t);
      }
      const bool from_sample = below(2) == 0 && !def.samples.empty();
      if (from_sample && below(2) == 0) types = def.samples[0].operands;
      Attributes a = from_sample ? def.samples[0].attributes : Attributes{};
      for (const AttributeSpec& spec : def.attributes) {
        if (from_sample && below(2) == 0) continue;
        if (spec.kind == AttributeKind::boolean) a.set(spec.name, below(2) == 0);
        if (spec.kind == AttributeKind::integer) a.set(spec.name, wild());
        if (spec.kind == AttributeKind::number)
          a.set(spec.name, below(3) == 0 ? std::nan("") : static_cast<double>(wild()));
        if (spec.kind == AttributeKind::text) a.set(spec.name, text(below(2) == 0 ? "" : "n,->"));
        if (spec.kind == AttributeKind::integers) {
          std::vector<int64_t> list;
          for (int n = below(5); n > 0; --n) list.push_back(wild());
          a.set(spec.name, list);
        }
      }
      const InferResult r = infer(def, types, a);
      if (!r.error.empty()) continue;
      ++fine;
      ASSERT_GE(r.type.elements(), 1) << def.name;
      ASSERT_LE(r.type.elements(), kMaxElements) << def.name;
      ASSERT_LE(r.type.rank(), kMaxRank) << def.name;
    }
  }
  EXPECT_GT(fine, 1000);
}

}  // namespace
}  // namespace gradc::test::ops_infer_test
