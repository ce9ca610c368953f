// Print, parse, print is the identity; unreadable text gives an error with its location and never a crash.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <limits>
#include <random>

#include "ir/tensor/module.h"
#include "ir/tensor/op_def.h"

namespace gradc::module_text_test {
namespace {

constexpr const char* kStep = R"(module "mlp.nn"
param @dense_1.weight : f32[10,4]
param @dense_1.bias : f32[10]
state @mean : f32[10]
slot @dense_1.bias.m : f32[10]

func @train_step(%image: f32[n,4], %label: i32[n], %step: f64) {
  %1 = einsum %image, @dense_1.weight {spec="nk,ok->no"} : f32[n,10]
  %2 = add %1, @dense_1.bias : f32[n,10] kernel(3)
  %3 = log_softmax %2 {axis=0} : f32[n,10]
  %4 = pick %3, %label : f32[n]
  %5 = neg %4 : f32[n]
  %6 = reduce_sum %5 {axes=[], batch=true, keep=false} : f32
  %7 = constant {dtype="f32", value=1e-05} : f32
  %8 = mul @dense_1.bias, %7 : f32[10]
  update @dense_1.bias = %8
  update @mean = @dense_1.bias
  guard loss
  return loss=%6, logits=%2, given=%image
}

func @init() {
}
)";

ModuleParseResult parsed(const std::string& text) {
  ModuleParseResult r = parse_module(text);
  EXPECT_EQ(r.error.empty(), r.module != nullptr);
  return r;
}

void expect_identity(const std::string& text, PrintOptions options = {}) {
  const ModuleParseResult r = parsed(text);
  ASSERT_EQ(r.error, "") << text;
  EXPECT_EQ(print(*r.module, options), text);
}

TEST(IrText, a_whole_module) {
  expect_identity(kStep);
  const ModuleParseResult r = parsed(kStep);
  EXPECT_EQ(verify(*r.module), std::vector<std::string>{});
  const Function& f = *r.module->function("train_step");
  EXPECT_EQ(f.guard_output, 0);
  EXPECT_EQ(f.ops()[1]->kernel, 3);
  EXPECT_EQ(f.ops()[0]->kernel, -1);
  EXPECT_EQ(f.symbols.size(), 2u);
  EXPECT_EQ(f.ops()[0]->id, 1);
  EXPECT_EQ(r.module->symbol("mean")->kind, SymbolKind::state);
  EXPECT_EQ(r.module->symbol("dense_1.bias.m")->kind, SymbolKind::slot);
}

TEST(IrText, empty_modules) {
  expect_identity("");
  expect_identity("module \"\xC3\xA9 \\\" \\\\ \\n\"\n");
  Module m;
  EXPECT_EQ(print(m), "");
  EXPECT_EQ(print(*parsed(print(m)).module), "");
  m.add_symbol({"w", {DType::f32, false, {}}});
  EXPECT_EQ(print(m), "param @w : f32\n");
}

// The example that docs/ir.md begins with: its first indented block.
TEST(IrText, the_documentations_example) {
  std::ifstream file(std::string(GRADC_SOURCE_DIR) + "/docs/ir.md");
  std::string text;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("    ", 0) == 0) {
      text += line.substr(4) + "\n";
    } else if (line.empty() && !text.empty()) {
      text += "\n";
    } else if (!text.empty()) {
      break;
    }
  }
  while (text.size() > 1 && text[text.size() - 2] == '\n') text.pop_back();
  ASSERT_NE(text.find("func @eval"), text.npos) << text;
  expect_identity(text);
  EXPECT_EQ(verify(*parsed(text).module), std::vector<std::string>{});
}

TEST(IrText, one_function_alone) {
  const ModuleParseResult r = parsed(kStep);
  const std::string text = print(*r.module->function("init"));
  EXPECT_EQ(text, "func @init() {\n}\n");
}

TEST(IrText, locations) {
  expect_identity(
      "param @w : f32 loc(a.nn:1:2)\n"
      "\n"
      "func @f(%x: f32 loc(\"my model.nn\":7:1), %y: f32) {\n"
      "  %1 = neg %x : f32 kernel(0) loc(a.nn:3:4, prelude/layers.nn:5:6)\n"
      "  %2 = neg %1 : f32\n"
      "  update @w = %2 loc(\"a:b.nn\":1:0)\n"
      "}\n",
      {.locations = true});
  const ModuleParseResult r = parsed(
      "func @f(%x: f32) {\n%1 = neg %x : f32 loc(a.nn:3:4, b.nn:5:6)\n%2 = neg %x : f32 loc(a.nn:9:9)\n}");
  const auto ops = r.module->functions[0]->ops();
  ASSERT_EQ(ops[0]->locations.size(), 2u);
  EXPECT_EQ(to_string(ops[0]->locations[1]), "b.nn:5:6");
  EXPECT_EQ(ops[0]->locations[0].file, ops[1]->locations[0].file) << "operations of one file share its name";
  EXPECT_EQ(print(*r.module).find("loc"), std::string::npos) << "they print on request";
}

TEST(IrText, names_that_need_quotes) {
  expect_identity(
      "state @\"a b\" : f32\n"
      "state @\".dot\" : f32\n"
      "state @stage2.0.x-y : f32\n"
      "\n"
      "func @\"f\\\"\"(%\"7\": f32, %\"\\x00\": f32) {\n"
      "  %1 = add %\"7\", @\"a b\" : f32\n"
      "  update @\".dot\" = %\"\\x00\"\n"
      "  guard \"the loss\"\n"
      "  return \"the loss\"=%1\n"
      "}\n");
}

// Spaces, comments, other numbers and left-out defaults are read; what comes out is the one form there is.
TEST(IrText, loose_text_becomes_the_one_form) {
  const ModuleParseResult r = parsed(
      "# a comment\nfunc @f(%x : f32[n, 3]){%20=reduce_sum %x{keep=false,batch=false,axes=[ -1 ]}:f32[n] # "
      "here\n"
      "%7 = constant {value=2} : f32\n return y = %20 , z=%7\n}");
  ASSERT_EQ(r.error, "");
  EXPECT_EQ(print(*r.module),
            "func @f(%x: f32[n,3]) {\n"
            "  %1 = reduce_sum %x {axes=[0], batch=false, keep=false} : f32[n]\n"
            "  %2 = constant {dtype=\"f32\", value=2.0} : f32\n"
            "  return y=%1, z=%2\n"
            "}\n");
}

TEST(IrText, every_double_survives) {
  std::vector<double> values = {0.0,
                                -0.0,
                                1.0,
                                0.1,
                                1e-05,
                                1.0 / 3,
                                5e-324,
                                -2.2250738585072014e-308,
                                1.7976931348623157e308,
                                1e15,
                                1e16,
                                1e22,
                                123456789.0,
                                std::numeric_limits<double>::infinity(),
                                -std::numeric_limits<double>::infinity()};
  std::mt19937_64 random(7);
  while (values.size() < 2000) {
    const double v = std::bit_cast<double>(random());
    if (!std::isnan(v)) values.push_back(v);
  }
  Module m;
  Builder b(m.add_function("f"));
  for (const double v : values) b.constant(v, DType::f64);
  b.function().outputs.push_back({"y", b.constant(std::nan(""), DType::f64)});
  const std::string text = print(m);
  const ModuleParseResult r = parsed(text);
  ASSERT_EQ(r.error, "");
  EXPECT_EQ(print(*r.module), text);
  const auto ops = r.module->functions[0]->ops();
  ASSERT_EQ(ops.size(), values.size() + 1);
  for (size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(std::bit_cast<uint64_t>(ops[i]->attributes.number("value")), std::bit_cast<uint64_t>(values[i]))
        << values[i];
  EXPECT_TRUE(std::isnan(ops.back()->attributes.number("value")));
}

TEST(IrText, unsound_functions_print) {
  Module m;
  Function& f = m.add_function("f");
  Op* x = f.add_input("x", {DType::f32, false, {}});
  Builder b(f);
  Op* y = b.add(x, x);
  Op stranger;
  y->operands = {nullptr, &stranger};
  f.guard_output = 4;
  f.outputs.push_back({"y", nullptr});
  EXPECT_EQ(print(m),
            "func @f(%x: f32) {\n"
            "  %1 = add %?, %? : f32\n"
            "  guard ?\n"
            "  return y=%?\n"
            "}\n");
}

struct Mistake {
  const char* text;
  const char* error;
};

TEST(IrText, errors_name_the_place) {
  const Mistake mistakes[] = {
      {"hello",
       "line 1, column 1: expected `param`, `state`, `slot`, `average`, `gradient`, `weights` or `func`"},
      {"module mlp", "line 1, column 8: expected a quoted text, found `m`"},
      {"module \"mlp", "line 1, column 8: this text has no closing quote"},
      {"module \"a\\q\"", "line 1, column 11: an unknown escape; there are \\\", \\\\, \\n and \\xHH"},
      {"module \"a\\xg0\"", "line 1, column 11: \\x wants two hexadecimal digits"},
      {"param w : f32", "line 1, column 7: expected `@` and a name, found `w`"},
      {"param @w f32", "line 1, column 10: expected `:` and a type, found `f`"},
      {"param @w : f32[0]",
       "line 1, column 12: expected a type, for example f32[n,3,32,32], with extents of at least 1 within "
       "the limits"},
      {"param @w : f32[n,3]", "line 1, column 12: a symbol's type has no batch"},
      {"param @w : f32\nparam @w : f32", "line 2, column 7: @w is declared twice"},
      {"func @f() {", "line 1, column 12: expected an operation, `update`, `guard`, `return` or `}`"},
      {"func @f() {}\nfunc @f() {}", "line 2, column 6: there are two functions @f"},
      {"func @f(%x: f32, %x: f32) {}", "line 1, column 18: there are two inputs %x"},
      {"func @f(%1: f32) {}",
       "line 1, column 10: expected an input's name; one that begins with a digit is quoted, found `1`"},
      {"func @f() {\n  %1 = nag %x : f32\n}",
       "line 2, column 8: there is no operation `nag`; did you mean `neg`?"},
      {"func @f() {\n  %1 = input {name=\"x\"} : f32\n}", "line 2, column 8: there is no operation `input`"},
      {"func @f() {\n  %1 = neg %x : f32\n}", "line 2, column 12: @f has no input %x"},
      {"func @f() {\n  %1 = neg @x : f32\n}", "line 2, column 12: @x is not declared"},
      {"func @f() {\n  %1 = neg %1 : f32\n}", "line 2, column 12: %1 is not defined before its use"},
      {"func @f(%x: f32) {\n  %1 = neg %x : f32\n  %1 = neg %x : f32\n}",
       "line 3, column 3: %1 is there twice"},
      {"func @f(%x: f32) {\n  %1 = neg %x : f64\n}", "line 2, column 17: %1 has type f32, not f64"},
      {"func @f(%x: f32) {\n  %1 = neg %x, %x : f32\n}", "line 2, column 8: neg: 1 operand wanted, 2 given"},
      {"func @f() {\n  %1 = constant {value=1.0, value=2.0} : f32\n}",
       "line 2, column 29: the attribute `value` is there twice"},
      {"func @f() {\n  %1 = constant {value=1e999} : f32\n}",
       "line 2, column 24: this number does not fit a double"},
      {"func @f() {\n  %1 = constant {value=99999999999999999999} : f32\n}",
       "line 2, column 24: this integer does not fit 64 bits"},
      {"func @f() {\n  %1 = constant {value=maybe} : f32\n}",
       "line 2, column 24: expected a value: true, false, a number, a quoted text or a list"},
      {"func @f() {\n  %1 = constant {value=} : f32\n}", "line 2, column 24: expected an integer, found `}`"},
      {"func @f() {\n  %99999999999 = constant {value=1.0} : f32\n}",
       "line 2, column 4: a value's number is out of range"},
      {"func @f() {\n  %1x = constant {value=1.0} : f32\n}",
       "line 2, column 5: expected the end of a value's number, found `x`"},
      {"func @f(%x: f32) {\n  %1 = neg %x : f32 kernel(x)\n}",
       "line 2, column 28: expected a kernel's number, found `x`"},
      {"func @f(%x: f32) {\n  %1 = neg %x : f32 loc(a.nn)\n}",
       "line 2, column 29: expected `:` and a line, found `)`"},
      {"func @f(%x: f32) {\n  %1 = neg %x : f32 loc(a.nn:0:1)\n}",
       "line 2, column 30: a line's number is out of range"},
      {"func @f(%x: f32) {\n  update @w = %x\n}", "line 2, column 10: @w is not declared"},
      {"func @f(%x: f32) {\n  guard loss\n  return y=%x\n}", "line 2, column 9: @f has no output loss"},
      {"func @f(%x: f32) {\n  return y=%x, y=%x\n}", "line 2, column 16: there are two outputs y"},
      {"func @f(%x: f32) {\n  return y=%x\n  return z=%x\n}", "line 3, column 3: @f has a second `return`"},
      {"func @f(\xff", "line 1, column 9: expected `%` and an input's name, found the byte 0xff"},
  };
  for (const Mistake& m : mistakes) {
    const ModuleParseResult r = parsed(m.text);
    EXPECT_EQ(r.error, m.error) << m.text;
    EXPECT_EQ(r.module, nullptr) << m.text;
  }
}

// One small function for each sample of each operation, so that a mutation often still reads as an operation
// and reaches inference.
std::vector<std::string> corpus() {
  std::vector<std::string> texts = {kStep};
  for (const OpDef& def : op_defs()) {
    for (const OpSample& sample : def.samples) {
      Module m;
      Function& f = m.add_function("f");
      std::vector<Op*> inputs;
      for (size_t i = 0; i < sample.operands.size(); ++i)
        inputs.push_back(f.add_input("x" + std::to_string(i), sample.operands[i]));
      f.outputs.push_back({"y", Builder(f).create(def.name, inputs, sample.attributes)});
      texts.push_back(print(m));
    }
  }
  return texts;
}

std::string mutated(std::string text, const std::vector<std::string>& texts, std::mt19937_64& random) {
  static const std::vector<std::string> kTokens = {"0",
                                                   "1",
                                                   "-1",
                                                   "2",
                                                   "7",
                                                   "2147483647",
                                                   "2147483648",
                                                   "9223372036854775807",
                                                   "-9223372036854775808",
                                                   "1e308",
                                                   "nan",
                                                   "-inf",
                                                   "[]",
                                                   "[0]",
                                                   "[-1]",
                                                   "[1,1]",
                                                   "[9223372036854775807,9223372036854775807]",
                                                   "true",
                                                   "\"\"",
                                                   "\"i32\"",
                                                   "f64",
                                                   "i32",
                                                   "bool",
                                                   "[n]",
                                                   "n,",
                                                   "%x0",
                                                   "%1",
                                                   "@f",
                                                   "{",
                                                   "}",
                                                   "(",
                                                   ")",
                                                   ",",
                                                   "=",
                                                   ":",
                                                   "\"",
                                                   "\\",
                                                   "->",
                                                   "nk,ok->no",
                                                   "kernel(0)",
                                                   "loc(a:1:1)",
                                                   "#",
                                                   "\n",
                                                   std::string(1, '\0'),
                                                   "\xff",
                                                   "return ",
                                                   "update ",
                                                   "guard "};
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  // One edit as a rule: each more makes it likelier that the text stops reading at the first of them.
  for (size_t edits = below(4) == 0 ? 3 : 1; edits > 0; --edits) {
    const size_t at = below(text.size() + 1);
    const size_t length = std::min(below(8) + 1, text.size() - at);
    switch (below(8)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(random());
        break;
      case 1: text.erase(at, length); break;
      case 2: text.insert(at, kTokens[below(kTokens.size())]); break;
      case 3: text.insert(at, text.substr(at, length)); break;
      case 4: {  // a piece of another text
        const std::string& other = texts[below(texts.size())];
        const size_t from = below(other.size() + 1);
        text.replace(at, length, other.substr(from, below(40)));
        break;
      }
      default: {  // a number becomes another
        const size_t digit = text.find_first_of("0123456789", at);
        if (digit == text.npos) break;
        const size_t end = text.find_first_not_of("0123456789", digit);
        text.replace(digit, end == text.npos ? end : end - digit, kTokens[below(9)]);
        break;
      }
    }
  }
  return text;
}

TEST(IrText, mutated_text_never_crashes) {
  const std::vector<std::string> texts = corpus();
  ASSERT_GT(texts.size(), 100u);
  std::mt19937_64 random(20240229);
  int sound = 0, broken = 0;
  for (int round = 0; round < 150000; ++round) {
    const std::string text = mutated(texts[static_cast<size_t>(random() % texts.size())], texts, random);
    ModuleParseResult r;
    try {
      r = parse_module(text);
    } catch (const std::exception& e) {
      FAIL() << e.what() << "\nfor the text (round " << round << "):\n" << text;
    }
    if (!r.module) {
      ++broken;
      ASSERT_EQ(r.error.rfind("line ", 0), 0u) << r.error;
      continue;
    }
    ++sound;
    const std::string once = print(*r.module, {.locations = true});
    const ModuleParseResult again = parse_module(once);
    ASSERT_EQ(again.error, "") << once;
    ASSERT_EQ(print(*again.module, {.locations = true}), once);
    for (const std::string& e : verify(*r.module)) {
      // What only the verifier looks at; types and attributes were settled when parsing.
      const bool expected = e.find("update") != e.npos || e.find("guard") != e.npos ||
                            e.find("slot") != e.npos || e.find("kernel") != e.npos ||
                            e.find("without a name") != e.npos || e.find("has no name") != e.npos;
      ASSERT_TRUE(expected) << e << "\n" << text;
    }
  }
  EXPECT_GT(sound, 5000);
  EXPECT_GT(broken, 5000);
}

}  // namespace
}  // namespace gradc::module_text_test
