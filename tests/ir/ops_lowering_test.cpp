// The loop IR of the primitives (scalar lowerings, positions of indexing operators, decompositions) against
// their reference evaluation, by a small evaluator of loop IR expressions in double precision.
#include <bit>
#include <cmath>

#include "support/philox.h"
#include "tests/ir/ops_tools.h"

namespace gradc::test::ops_lowering_test {
namespace {

using loop::BinaryOp;
using loop::CompareOp;
using loop::Expr;
using loop::ExprKind;
using loop::Scalar;
using loop::UnaryOp;
using V = std::vector<double>;  // a value a lane; integers exact

double as_i32(double v) { return static_cast<int32_t>(static_cast<uint32_t>(static_cast<int64_t>(v))); }
uint32_t word(double v) { return static_cast<uint32_t>(static_cast<int64_t>(v)); }

class Evaluator {
 public:
  std::map<const loop::VariableData*, V> variables;

  void run(const std::vector<loop::Stmt>& body) {
    for (const auto& s : body) {
      ASSERT_EQ(s->kind, loop::StmtKind::let);
      if (!variables.count(s->variable.get())) variables[s->variable.get()] = value(s->value);
    }
  }

  V value(const Expr& e) {
    std::vector<V> a;
    for (const Expr& arg : e->args) a.push_back(value(arg));
    V out(e->type.lanes);
    for (size_t i = 0; i < out.size(); ++i) {
      const auto lane = [&](size_t k) { return a[k].size() == 1 ? a[k][0] : a[k].at(i); };
      switch (e->kind) {
        case ExprKind::constant:
          out[i] = e->type.is_float() ? e->number : static_cast<double>(e->integer);
          break;
        case ExprKind::variable:
          out[i] = variables.at(e->variable.get()).at(variables.at(e->variable.get()).size() == 1 ? 0 : i);
          break;
        case ExprKind::broadcast: out[i] = a[0].at(0); break;
        case ExprKind::ramp: out[i] = a[0].at(0) + e->number * static_cast<double>(i); break;
        case ExprKind::unary: out[i] = unary(e->unary, lane(0)); break;
        case ExprKind::binary: out[i] = binary(e->binary, e->type.scalar, lane(0), lane(1)); break;
        case ExprKind::compare: out[i] = holds(e->compare, lane(0), lane(1)); break;
        case ExprKind::select: out[i] = lane(0) != 0 ? lane(1) : lane(2); break;
        case ExprKind::fma: out[i] = lane(0) * lane(1) + lane(2); break;
        case ExprKind::cast:
          out[i] = e->type.is_float()              ? lane(0)
                   : e->type.scalar == Scalar::i32 ? as_i32(std::trunc(lane(0)))
                                                   : std::trunc(lane(0));
          break;
        case ExprKind::concat: out[i] = i < a[0].size() ? a[0][i] : a[1].at(i - a[0].size()); break;
        case ExprKind::philox: {
          const PhiloxWords w = philox4x32_10({word(lane(0)), word(lane(1)), word(lane(2)), word(lane(3))},
                                              word(lane(4)), word(lane(5)));
          out[i] = static_cast<int32_t>(w[static_cast<size_t>(e->number)]);
          break;
        }
        default: ADD_FAILURE() << "unexpected kind of expression"; out[i] = 0;
      }
    }
    return out;
  }

 private:
  static double unary(UnaryOp op, double x) {
    switch (op) {
      case UnaryOp::neg: return -x;
      case UnaryOp::abs: return std::abs(x);
      case UnaryOp::sqrt: return std::sqrt(x);
      case UnaryOp::rsqrt: return 1 / std::sqrt(x);
      case UnaryOp::floor: return std::floor(x);
      case UnaryOp::round: return std::nearbyint(x);
      case UnaryOp::exp: return std::exp(x);
      case UnaryOp::expm1: return std::expm1(x);
      case UnaryOp::log: return std::log(x);
      case UnaryOp::log1p: return std::log1p(x);
      case UnaryOp::tanh: return std::tanh(x);
      case UnaryOp::sigmoid: return 1 / (1 + std::exp(-x));
      case UnaryOp::softplus: return std::log1p(std::exp(x));
      case UnaryOp::erf: return std::erf(x);
      case UnaryOp::sin: return std::sin(x);
      case UnaryOp::cos: return std::cos(x);
      case UnaryOp::logical_not: return x == 0;
      case UnaryOp::is_finite: return std::isfinite(x);
    }
    return 0;
  }
  static double binary(BinaryOp op, Scalar s, double x, double y) {
    const bool real = s == Scalar::f32 || s == Scalar::f64;
    const auto a = real ? 0 : static_cast<int64_t>(x), b = real ? 0 : static_cast<int64_t>(y);
    const auto fit = [&](int64_t v) {
      return s == Scalar::i32 ? as_i32(static_cast<double>(static_cast<int32_t>(v))) : static_cast<double>(v);
    };
    const uint64_t logical = s == Scalar::i32 ? static_cast<uint32_t>(a) : static_cast<uint64_t>(a);
    switch (op) {
      case BinaryOp::add: return real ? x + y : fit(a + b);
      case BinaryOp::sub: return real ? x - y : fit(a - b);
      case BinaryOp::mul:
        return real ? x * y : fit(static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)));
      case BinaryOp::div: EXPECT_TRUE(real || (a >= 0 && b > 0)); return real ? x / y : fit(a / b);
      case BinaryOp::rem: EXPECT_TRUE(a >= 0 && b > 0); return fit(a % b);
      case BinaryOp::min: return std::min(x, y);
      case BinaryOp::max: return std::max(x, y);
      case BinaryOp::pow: return std::pow(x, y);
      case BinaryOp::bit_and: return fit(a & b);
      case BinaryOp::bit_or: return fit(a | b);
      case BinaryOp::bit_xor: return fit(a ^ b);
      case BinaryOp::shift_left: return fit(static_cast<int64_t>(logical << b));
      case BinaryOp::shift_right: return fit(static_cast<int64_t>(logical >> b));
    }
    return 0;
  }
};

Scalar scalar_of(DType t) {
  return t == DType::f32   ? Scalar::f32
         : t == DType::f64 ? Scalar::f64
         : t == DType::i32 ? Scalar::i32
                           : Scalar::i1;
}

std::vector<int64_t> position_of(int64_t flat, const Shape& shape) {
  std::vector<int64_t> position(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    position[i] = flat % shape[i];
    flat /= shape[i];
  }
  return position;
}

// A tensor's element for a position of a broadcast result.
double element(const Tensor& t, int64_t row, const std::vector<int64_t>& position) {
  int64_t index = t.type.batched ? row : 0;
  const size_t skip = position.size() - t.type.shape.size();
  for (size_t i = 0; i < t.type.shape.size(); ++i)
    index = index * t.type.shape[i] + (t.type.shape[i] == 1 ? 0 : position[skip + i]);
  return begin(t)[index];
}

class OpsLowering : public testing::TestWithParam<SampleCase> {
 protected:
  OpsLowering()
      : one(GetParam().def->name, GetParam().sample().operands, GetParam().sample().attributes,
            GetParam().sample().rows) {
    one.randomize(GetParam().sample(), 41);
  }
  const OpDef& def() const { return *GetParam().def; }
  OneOp one;
};

// One evaluation of `scalar` for `lanes` positions from (row, flat): consecutive rows when batched, else
// consecutive elements.
void check_scalar(OneOp& one, const Tensor& wanted, int64_t row, int64_t flat, int lanes,
                  bool aligned = false) {
  const Op& op = *one.op;
  loop::Kernel kernel = loop::make_kernel("test");
  loop::Builder b(kernel);
  Evaluator evaluator;
  const auto variable = [&](const char* name, loop::Type type, V v) {
    auto data = std::make_shared<const loop::VariableData>(loop::VariableData{name, type, false});
    evaluator.variables[data.get()] = std::move(v);
    return loop::ref(data);
  };
  const auto& context = one.run_input.context;
  const auto& p = kernel.predefined;
  const auto part = [](uint64_t v, int shift) {
    return V{static_cast<double>(static_cast<int32_t>(static_cast<uint32_t>(v >> shift)))};
  };
  evaluator.variables[p.rows.get()] = {static_cast<double>(context.rows)};
  evaluator.variables[p.row_offset.get()] = {static_cast<double>(context.row_offset)};
  evaluator.variables[p.seed_lo.get()] = part(context.seed, 0);
  evaluator.variables[p.seed_hi.get()] = part(context.seed, 32);
  evaluator.variables[p.step_lo.get()] = part(context.micro_step, 0);
  evaluator.variables[p.step_hi.get()] = part(context.micro_step, 32);
  const auto at = [&](int lane) {
    return std::pair{op.type.batched ? row + lane : row, op.type.batched ? flat : flat + lane};
  };
  std::vector<Expr> args;
  for (const Op* in : op.operands) {
    const Tensor& t = one.run_input.inputs.at(in->symbol());
    const bool wide = op.type.batched ? t.type.batched : t.type.elements() > 1;
    V v;
    for (int l = 0; l < (wide ? lanes : 1); ++l)
      v.push_back(element(t, at(l).first, position_of(at(l).second, op.type.shape)));
    const loop::Type type{scalar_of(t.type.dtype), static_cast<uint16_t>(v.size())};
    args.push_back(variable(in->symbol().c_str(), type, std::move(v)));
  }
  const loop::Type type{scalar_of(op.type.dtype), static_cast<uint16_t>(lanes)};
  ScalarContext c{b,
                  type,
                  variable("row", {Scalar::i64, 1}, {static_cast<double>(row)}),
                  variable("element", {Scalar::i64, 1}, {static_cast<double>(flat)}),
                  op.type.batched,
                  {},
                  context.row_offset == 0,
                  aligned};
  for (size_t axis = 0; axis < op.type.shape.size(); ++axis) {
    const bool wide = !op.type.batched && axis + 1 == op.type.shape.size() && lanes > 1;
    V v;
    for (int l = 0; l < (wide ? lanes : 1); ++l)
      v.push_back(static_cast<double>(position_of(at(l).second, op.type.shape)[axis]));
    c.axis_indices.push_back(variable("axis", {Scalar::i64, static_cast<uint16_t>(v.size())}, v));
  }
  const Expr result = op.def->scalar(op, args, c);
  ASSERT_EQ(result->type, type) << to_string(result->type);
  evaluator.run(kernel.body);
  const V got = evaluator.value(result);
  for (int l = 0; l < lanes; ++l) {
    const auto [r, f] = at(l);
    const double want = begin(wanted)[(op.type.batched ? r : 0) * op.type.elements() + f];
    ASSERT_NEAR(got[static_cast<size_t>(l)], want, 1e-6 * std::max(1.0, std::abs(want)))
        << "row " << r << ", element " << f << ", lanes " << lanes;
  }
}

TEST_P(OpsLowering, ScalarMatchesTheReference) {
  if (def().scalar == nullptr) return;
  const Tensor wanted = one.value();
  const Type& type = one.op->type;
  for (const int lanes : {1, 4, 16}) {
    if (type.batched) {
      for (int64_t row = 0; row + lanes <= wanted.rows; row += lanes) {
        for (int64_t flat = 0; flat < type.elements(); ++flat) check_scalar(one, wanted, row, flat, lanes);
      }
    } else {
      const int64_t run = type.shape.empty() ? 1 : type.shape.back();
      for (int64_t flat = 0; flat + lanes <= type.elements(); flat += lanes) {
        if (flat % run + lanes <= run) check_scalar(one, wanted, 0, flat, lanes);
      }
    }
    if (HasFatalFailure()) return;
  }
}

// Vectors of random numbers that begin at a multiple of their lanes come from fewer Philox counters, where
// rows are counted from 0; elsewhere a lane finds its own.
TEST(OpsRandomLowering, NumbersDoNotDependOnAlignment) {
  for (const int64_t offset : {0, 19}) {
    for (const bool batched : {true, false}) {
      Attributes attributes;
      attributes.set("shape", Shape{batched ? 3 : 96});
      attributes.set("batched", batched);
      attributes.set("stream", int64_t{6});
      OneOp one("uniform", {}, attributes, batched ? 96 : 1);
      one.run_input.context.row_offset = offset;
      const Tensor wanted = one.value();
      for (const int lanes : {4, 8, 16}) {
        for (int64_t position = 0; position < 96; position += lanes) {
          for (const bool aligned : {true, false}) {
            check_scalar(one, wanted, batched ? position : 0, batched ? position % 3 : position, lanes,
                         aligned);
            if (testing::Test::HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST_P(OpsLowering, PlacesMatchTheReference) {
  if (def().position == nullptr) return;
  const Tensor wanted = one.value();
  const Shape& shape = one.op->type.shape;
  for (int64_t flat = 0; flat < one.op->type.elements(); ++flat) {
    std::vector<Expr> position;
    for (const int64_t p : position_of(flat, shape)) position.push_back(loop::index(p));
    Evaluator evaluator;
    for (int64_t row = 0; row < (one.op->type.batched ? wanted.rows : 1); ++row) {
      double got = def().otherwise(*one.op);
      for (size_t k = 0; k < one.inputs.size(); ++k) {
        Expr condition;
        const auto from = def().position(*one.op, static_cast<int>(k), position, condition);
        ASSERT_TRUE(condition != nullptr);
        if (evaluator.value(condition)[0] == 0) continue;
        std::vector<int64_t> at;
        for (const Expr& e : from) at.push_back(static_cast<int64_t>(evaluator.value(e)[0]));
        for (size_t i = 0; i < at.size(); ++i)
          ASSERT_TRUE(at[i] >= 0 && at[i] < one.inputs[k]->type.shape[i]) << "axis " << i;
        got = element(one.operand(k), row, at);
        break;
      }
      ASSERT_EQ(got, begin(wanted)[row * one.op->type.elements() + flat]);
    }
  }
}

TEST_P(OpsLowering, DecompositionMatchesTheReference) {
  if (def().decompose == nullptr) return;
  Op* parts = def().decompose(one.builder, one.op);
  EXPECT_EQ(parts->type, one.op->type);
  one.function.outputs.push_back({"parts", parts});
  const auto result = one.run();
  const V wanted = values(result.outputs.at("y")), got = values(result.outputs.at("parts"));
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], wanted[i], 1e-12 * std::max(1.0, std::abs(wanted[i])));
}

INSTANTIATE_TEST_SUITE_P(Every, OpsLowering, testing::ValuesIn(all_samples()), case_name);

}  // namespace
}  // namespace gradc::test::ops_lowering_test
