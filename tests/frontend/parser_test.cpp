// The tree of a text, by its dump: precedence, newlines, every statement; and that the grammar's contextual
// words stay names.
#include "frontend/parser.h"
#include "tests/frontend/helpers.h"

namespace gradc::frontend_test::parser_test {
namespace {

std::string ast(const std::string& text) {
  SourceManager sources;
  Diagnostics diagnostics(sources);
  const std::string out = frontend::dump_ast(sources, sources.add("t.nn", text), diagnostics);
  return diagnostics.has_errors() ? diagnostics.render() : out;
}

// An expression on one line: operators in parentheses.
std::string one_line(const frontend::Expr& e) {
  using frontend::ExprKind;
  std::string out;
  const auto list = [&](const std::string& head) {
    out = "(" + head;
    for (const auto& o : e.operands) out += " " + one_line(*o);
    return out + ")";
  };
  switch (e.kind) {
    case ExprKind::integer:
    case ExprKind::number:
    case ExprKind::name: return e.text;
    case ExprKind::string: return "'" + e.text + "'";
    case ExprKind::boolean: return e.boolean ? "true" : "false";
    case ExprKind::list: return list("list");
    case ExprKind::unary:
    case ExprKind::binary: return list(e.text);
    case ExprKind::index: return list("index");
    case ExprKind::member: return list("." + e.text);
    case ExprKind::choice: return list("if");
    case ExprKind::call: {
      out = e.text + "(";
      for (size_t i = 0; i < e.arguments.size(); ++i)
        out += (i ? ", " : "") + (e.arguments[i].name.empty() ? "" : e.arguments[i].name + "=") +
               one_line(*e.arguments[i].value);
      return out + ")" + (e.instance.kind == frontend::Instance::Kind::none ? "" : "@" + e.instance.name);
    }
  }
  return "";
}

std::string parsed(const std::string& text) {
  SourceManager sources;
  Diagnostics diagnostics(sources);
  const frontend::ExprPtr e = frontend::parse_expression(sources, sources.add("t.nn", text), diagnostics);
  return e ? one_line(*e) : diagnostics.render();
}

TEST(Parser, Precedence) {
  EXPECT_EQ(parsed("1 + 2 * 3 - 4"), "(- (+ 1 (* 2 3)) 4)");
  EXPECT_EQ(parsed("-x^2"), "(- (^ x 2))");
  EXPECT_EQ(parsed("2^-3^2"), "(^ 2 (- (^ 3 2)))");
  EXPECT_EQ(parsed("2^3^2"), "(^ 2 (^ 3 2))");
  EXPECT_EQ(parsed("a @ b @ c * d"), "(* (@ (@ a b) c) d)");
  EXPECT_EQ(parsed("not a == b and c or d"), "(or (and (not (== a b)) c) d)");
  EXPECT_EQ(parsed("0..n + 1"), "(.. 0 (+ n 1))");
  EXPECT_EQ(parsed("a // b % c"), "(% (// a b) c)");
  EXPECT_EQ(parsed("-a * b"), "(* (- a) b)");
  EXPECT_EQ(parsed("a - -b"), "(- a (- b))");
}

TEST(Parser, PipesAreCalls) {
  EXPECT_EQ(parsed("x |> f |> g(1, k=2)"), "g(f(x), 1, k=2)");
  EXPECT_EQ(parsed("a + b |> relu"), "relu((+ a b))");
  EXPECT_EQ(parsed("x |> dense(10) as head |> relu"), "relu(dense(x, 10)@head)");
  EXPECT_EQ(parsed("f(x |> g)"), "f(g(x))");
}

TEST(Parser, PostfixAndChoice) {
  EXPECT_EQ(parsed("x.shape[-1]"), "(index (.shape x) (- 1))");
  EXPECT_EQ(parsed("x[0, 1..3]"), "(index x 0 (.. 1 3))");
  EXPECT_EQ(parsed("if a { 1 } else if b { 2 } else { 3 }"), "(if a 1 (if b 2 3))");
  EXPECT_EQ(parsed("primitive.relu(x)"), "relu(x)");
  EXPECT_EQ(parsed("dense(x, 3) reuse a"), "dense(x, 3)@a");
  EXPECT_EQ(parsed("[1, [2, 3], ]"), "(list 1 (list 2 3))");
}

TEST(Parser, NewlinesEndStatementsButNotBrackets) {
  EXPECT_EQ(ast("fn f(x) {\n  y = x\n  -x\n}\n").find("error[E0106]"), 0u);  // `-x` is no continuation
  EXPECT_EQ(ast("fn f(x) {\n  y = (x\n  - x)\n  return y\n}\n"),
            "fn f\n  parameter x\n  y =\n    -\n      x\n      x\n  return\n    y\n");
  EXPECT_EQ(ast("fn f(x) =\n  x\n  |> relu\n  |> relu\n"),
            "fn f\n  parameter x\n  return\n    call relu  (piped)\n      call relu  (piped)\n        x\n");
  EXPECT_EQ(ast("fn f(x) = g(\n  x,\n  2\n)\n"),
            "fn f\n  parameter x\n  return\n    call g\n      x\n      2\n");
  EXPECT_EQ(ast("fn f(x) { y = x; return y }\n"), "fn f\n  parameter x\n  y =\n    x\n  return\n    y\n");
  EXPECT_EQ(ast("fn f(x) {\n  y = x +\n    1\n  return y\n}\n"),
            "fn f\n  parameter x\n  y =\n    +\n      x\n      1\n  return\n    y\n");
}

TEST(Parser, ContextualWordsAreNames) {
  EXPECT_EQ(ast("layer dense(data, weight=1, init=loss) {\n  weight = param[data] ~ init\n  train = weight\n "
                " return train\n}\n"),
            "layer dense\n  parameter data\n  parameter weight\n    default\n      1\n  parameter init\n    "
            "default\n      loss\n"
            "  param weight\n    extent\n      data\n    first\n      init\n  train =\n    weight\n  "
            "return\n    train\n");
}

TEST(Parser, Train) {
  EXPECT_EQ(
      ast("train {\n  loss main = f(x) weight 0.3\n  optimizer adam(lr=1) on \"a*\", \"b\" no_decay \"c\"\n"
          "  schedule warmup(5) then cosine\n  freeze \"d\"\n  epochs 3\n}\n"),
      "train\n  loss main\n    call f\n      x\n    weight\n      0.3\n  optimizer\n    call adam\n      "
      "lr=\n        1\n    on \"a*\"\n"
      "    on \"b\"\n    no_decay \"c\"\n  schedule\n    phase\n      call warmup\n        5\n    phase\n    "
      "  cosine\n"
      "  freeze\n    on \"d\"\n  epochs\n    3\n");
}

TEST(Parser, LoopsStatesAndData) {
  EXPECT_EQ(ast("layer f(x) {\n  state[] n = 0\n  state m[3] = 1\n  for i in 0..n as part { x = x + i }\n  "
                "require n == 3, \"why\"\n"
                "  if a { x = b } else if c { x = d } else { x = e }\n  return x\n}\n"),
            "layer f\n  parameter x\n  state n\n    first\n      0\n  state m\n    extent\n      3\n    "
            "first\n      1\n  for i as part\n    ..\n"
            "      0\n      n\n    do\n      x =\n        +\n          x\n          i\n  require \"why\"\n   "
            " ==\n      n\n      3\n  if\n    a\n  then\n"
            "    x =\n      b\n  else\n    if\n      c\n    then\n      x =\n        d\n    else\n      x "
            "=\n        e\n  return\n    x\n");
  EXPECT_EQ(ast("data d = mnist(\"p\", batch=3) {\n  split val = 5 of train\n}\n"),
            "data d\n  call mnist\n    \"p\"\n    batch=\n      3\n  split val of train\n    5\n");
}

TEST(Parser, OneRunReportsSeveralErrorsInOrder) {
  SourceManager sources;
  Diagnostics diagnostics(sources);
  const uint32_t file = sources.add(
      "t.nn", "fn f(x) {\n  a = = 1\n  b = (2\n  c = 3 4\n  return )\n}\nfn g(x) = x\nfn h(x) = * x\n");
  frontend::parse(sources, file, diagnostics);
  std::vector<uint32_t> lines;
  for (const Diagnostic& d : diagnostics.all())
    lines.push_back(sources.line_column(d.span.file, d.span.begin).line);
  EXPECT_EQ(lines, (std::vector<uint32_t>{2, 3, 4, 5, 8}));
}

}  // namespace
}  // namespace gradc::frontend_test::parser_test
