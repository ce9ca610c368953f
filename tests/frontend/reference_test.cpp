// The reference is made of the definitions' own comments: each must say what is computed and from where, and
// its example must compile. docs/reference.md must be what the reference says.
#include "frontend/reference.h"

#include <regex>

#include "ir/ops/markdown.h"
#include "ir/tensor/op_def.h"
#include "tests/frontend/helpers.h"

namespace gradc::frontend_test::reference_test {
namespace {

using frontend::ReferenceEntry;

// Numbers of the entries that are written in .nn or built in.
std::vector<size_t> callable() {
  std::vector<size_t> numbers;
  for (size_t i = 0; i < frontend::reference().size(); ++i)
    if (frontend::reference()[i].kind != "primitive") numbers.push_back(i);
  return numbers;
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  const size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), by);
}

std::string example_file(const std::string& example) {
  std::string text = frontend::example_model();
  const bool statement = frontend::is_statement(example);
  if (example.rfind("optimizer ", 0) == 0) text = replaced(text, "optimizer sgd(lr=0.1)", "");
  text = replaced(text, "EXPRESSION", statement ? "x" : example);
  return replaced(text, "STATEMENT", statement ? example : "");
}

class Reference : public testing::TestWithParam<size_t> {
 protected:
  const ReferenceEntry& entry() const { return frontend::reference()[GetParam()]; }
};

TEST_P(Reference, SaysWhatItComputesAndFromWhere) {
  const ReferenceEntry& e = entry();
  ASSERT_GE(e.text.size(), 3u);
  EXPECT_TRUE(e.text.back() == '.' || e.text.back() == ')') << e.text;
  EXPECT_EQ(e.signature.rfind(e.name + "(", 0), 0u) << e.signature;
  if (e.location.empty()) return;
  EXPECT_TRUE(std::regex_search(e.text, std::regex("[-+*/^=|<>(,0-9]"))) << "no formula: " << e.text;
  EXPECT_EQ(e.source.find(e.kind == "function"      ? "fn "
                          : e.kind == "initialiser" ? "init "
                                                    : e.kind + " "),
            0u)
      << e.source;
  // What comes from a paper says which; PyTorch's own forms say so.
  const bool named = std::regex_search(e.text, std::regex("(19|20)[0-9][0-9]|PyTorch"));
  EXPECT_TRUE(named || (e.kind != "optimizer" && e.kind != "layer")) << "no source: " << e.text;
}

TEST_P(Reference, HasAnExampleThatCompiles) {
  const ReferenceEntry& e = entry();
  ASSERT_FALSE(e.example.empty());
  EXPECT_NE(e.example.find(e.name), std::string::npos) << e.example;
  const std::string text = example_file(e.example);
  const auto c = compile(text);
  EXPECT_TRUE(c->model) << c->diagnostics.render();
}

INSTANTIATE_TEST_SUITE_P(Frontend, Reference, testing::ValuesIn(callable()), [](const auto& info) {
  const ReferenceEntry& e = frontend::reference()[info.param];
  return std::regex_replace(e.kind + "_" + e.name, std::regex("[^A-Za-z0-9_]"), "_");
});

TEST(ReferenceText, PrimitivesHaveSignaturesAndExamples) {
  size_t count = 0;
  for (const ReferenceEntry& e : frontend::reference()) {
    if (e.kind != "primitive") continue;
    ++count;
    EXPECT_FALSE(e.text.empty()) << e.name;
    EXPECT_EQ(e.signature.rfind(e.name, 0), 0u) << e.name;
    // `input` and `symbol` stand for values from outside.
    if (e.name == "input" || e.name == "symbol") continue;
    EXPECT_NE(e.example.find(" = " + e.name + " "), std::string::npos) << e.example;
  }
  EXPECT_GE(count, 40u);
}

TEST(ReferenceText, PrimitivesCanBeCalledAsTheirPageSays) {
  size_t none = 0;
  for (const OpDef& def : op_defs()) {
    const auto known = [&](const std::string& name) {
      // Called without operands: an error, but another one than that there is no such name.
      return compile(example_file(name + "()"))->diagnostics.render().find("unknown name") ==
             std::string::npos;
    };
    const std::string said = op_call_form(def);
    const bool plain = said == "In a model file: `" + def.name + "(...)`.";
    const bool qualified = plain || said == "In a model file: `primitive." + def.name + "(...)`.";
    EXPECT_EQ(known("primitive." + def.name), qualified) << said;
    if (plain) {
      EXPECT_TRUE(known(def.name)) << said;
    }
    none += !qualified;
  }
  for (const char* made_by_passes : {"constant", "conv2d_input_grad", "batch_norm_relu", "relu_grad"})
    EXPECT_EQ(op_call_form(*find_op(made_by_passes)), "A model file cannot call it.");
  EXPECT_GE(none, 10u);
}

TEST(ReferenceText, DocumentationIsUpToDate) {
  const std::string path = std::string(GRADC_SOURCE_DIR) + "/docs/reference.md";
  if (std::getenv("GRADC_UPDATE_GOLDENS")) std::ofstream(path) << frontend::reference_markdown();
  EXPECT_TRUE(read_file(path) == frontend::reference_markdown())
      << "docs/reference.md differs from the definitions; run with GRADC_UPDATE_GOLDENS=1";
}

}  // namespace
}  // namespace gradc::frontend_test::reference_test
