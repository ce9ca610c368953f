// What shows a compilation: `gradc dump` in its formats, after a pass and as a pass's difference.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/browser.h"
#include "tests/cli/tool.h"

namespace gradc::test::inspect_test {
namespace {

class Inspect : public testing::Test {
 protected:
  Inspect() { folder_.write("m.nn", small_model("momentum(lr=0.05)")); }

  ToolResult dump(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"dump", "m.nn"});
    return run_tool(arguments, folder_.path());
  }
  void expect_usage(const std::vector<std::string>& arguments, const std::string& part) const {
    const ToolResult r = dump(arguments);
    EXPECT_EQ(r.exit_code, kExitUsage) << part;
    EXPECT_NE(r.err.find(part), std::string::npos) << r.err;
    EXPECT_EQ(r.out, "");
  }
  TemporaryFolder folder_;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(Inspect, AfterAPassIsWhatThePassLeft) {
  const ToolResult cse = dump({"--after=cse"}), decompose = dump({"--after", "decompose"});
  EXPECT_EQ(cse.exit_code, 0) << cse.err;
  EXPECT_TRUE(contains(cse.out, "log_softmax")) << cse.out;
  EXPECT_FALSE(contains(decompose.out, "log_softmax")) << decompose.out;
  EXPECT_EQ(dump({"--after", "assign_kernels"}).out, dump({"--stage", "opt"}).out);
  EXPECT_EQ(dump({"--after", "plan_memory"}).out, dump({"--stage", "loops"}).out);
  const ToolResult one = dump({"--after", "partition", "--function", "eval"});
  EXPECT_EQ(one.out.rfind("program \"eval\"", 0), 0u) << one.out.substr(0, 100);
  EXPECT_FALSE(contains(one.out, "program \"train_step\""));
  // What the pass left is IR that can be read again.
  folder_.write("cse.ir", cse.out);
  EXPECT_EQ(run_tool({"opt", folder_.path("cse.ir")}).out, cse.out);
}

TEST_F(Inspect, TheDiffOfAPassIsWhatItChanged) {
  const ToolResult r = dump({"--diff", "decompose", "--function", "train_step"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  EXPECT_EQ(r.out.rfind("--- before decompose\n+++ after decompose\n@@ ", 0), 0u) << r.out;
  EXPECT_TRUE(contains(r.out, "\n-  %"));
  EXPECT_TRUE(contains(r.out, "\n+  %"));
  // Operations that stay keep their numbers, so that what follows the change is the same on both sides.
  bool removed = false, added = false;
  for (const std::string& line : lines(r.out)) {
    if (line[0] == '-') removed = removed || contains(line, "= log_softmax ");
    if (line[0] == '+') added = added || contains(line, "= reduce_max ");
    if (line[0] == '-' || line[0] == '+') {
      EXPECT_FALSE(contains(line, "einsum")) << line;
    }
  }
  EXPECT_TRUE(removed && added) << r.out;
  EXPECT_EQ(r.out.find('\x1b'), std::string::npos) << "no colour where stdout is no terminal";
  EXPECT_TRUE(contains(dump({"--diff", "decompose", "--color", "always"}).out, "\x1b[32m+  %"));
  EXPECT_TRUE(contains(dump({"--diff", "differentiate"}).out, "+func @train_step("));
  const ToolResult memory = dump({"--diff", "plan_memory"});
  EXPECT_TRUE(contains(memory.out, "\n-  allocation ") || contains(memory.out, "\n-program ")) << memory.out;
  EXPECT_EQ(dump({"--diff", "fuse_dropout"}).out, "# fuse_dropout changed nothing\n");
}

TEST_F(Inspect, JsonHasEveryOperationAsData) {
  const auto opt = nlohmann::json::parse(dump({"--stage", "opt", "--format", "json"}).out);
  EXPECT_EQ(opt.at("text"), dump({"--stage", "opt"}).out);
  ASSERT_EQ(opt.at("functions").size(), 4u);
  bool found = false;
  for (const auto& f : opt.at("functions"))
    for (const auto& op : f.at("ops")) {
      if (f.at("name") != "train_step" || op.at("op") != "einsum" || found) continue;
      found = true;
      EXPECT_EQ(op.at("attributes").at("spec"), "nk,ok->no");
      EXPECT_EQ(op.at("operands").at(1), "@dense_1.weight");
      EXPECT_EQ(op.at("type"), "f32[n,10]");
      EXPECT_EQ(op.at("locations").at(0).at("user_location"), "m.nn:3");
      EXPECT_TRUE(op.contains("kernel"));
    }
  EXPECT_TRUE(found);
  EXPECT_EQ(opt.at("symbols").at(0).at("kind"), "parameter");
  const auto loops = nlohmann::json::parse(dump({"--stage", "loops", "--json"}).out);
  for (const auto& p : loops.at("programs")) {
    EXPECT_GT(p.at("calls").size(), 0u);
    for (const auto& c : p.at("calls")) EXPECT_LT(c.at("kernel").get<size_t>(), p.at("kernels").size());
  }
  const auto diff = nlohmann::json::parse(dump({"--diff", "cse_late", "--json"}).out);
  EXPECT_EQ(diff.at("changed"), true);
}

TEST_F(Inspect, DotIsAGraphThatGraphvizReads) {
  for (const char* stage : {"ir", "grad", "opt", "loops"}) {
    const ToolResult r = dump({"--stage", stage, "--format", "dot", "-o", "graph.dot"});
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const std::string text = read_text(folder_.path("graph.dot"));
    EXPECT_EQ(text.rfind("digraph gradc {", 0), 0u);
    EXPECT_TRUE(contains(text, " -> ")) << stage;
    if (!std::filesystem::exists("/usr/bin/dot")) continue;  // Graphviz is not needed to build gradc
    const ToolResult svg = run_bare({"/usr/bin/dot", "-Tsvg", folder_.path("graph.dot")});
    EXPECT_EQ(svg.exit_code, 0) << svg.err;
    EXPECT_TRUE(contains(svg.out, "<svg"));
  }
}

TEST_F(Inspect, WhatCannotBeShownIsSaid) {
  expect_usage({"--after", "decompos"}, "did you mean decompose?");
  expect_usage({"--diff", "decompos"}, "did you mean decompose?");
  expect_usage({"--format", "jsn"}, "did you mean 'json'?");
  expect_usage({"--after", "cse", "--diff", "cse"}, "one of them");
  expect_usage({"--after", "cse", "--stage", "opt"}, "one of them");
  expect_usage({"--diff", "cse", "--stop-after", "dce"}, "no --stop-after");
  expect_usage({"--diff", "cse", "--format", "dot"}, "text or json");
  expect_usage({"--diff", "cse", "--disable-pass", "cse"}, "changes nothing");
  expect_usage({"--diff", "cse", "--function", "evall"}, "did you mean 'eval'?");
  expect_usage({"--stage", "asm", "--format", "dot"}, "is no graph");
  expect_usage({"--stage", "opt", "--format", "html"}, "every stage and pass");
  expect_usage({"--format", "html", "--json"}, "one of them");
  expect_usage({"--format", "html", "--function", "evl"}, "did you mean 'eval'?");
  expect_usage({"--color", "maybe"}, "maybe");
  EXPECT_EQ(dump({"--format", "html", "-o", "/nowhere/page.html"}).exit_code, kExitRunFailed);
}

// --- The page, in a browser

// What a reader does, and what the page then shows; the checks are in C++.
const char* const kReader = R"JS(
  const tab = async (name) => { document.querySelector(`nav [data-tab=${name}]`).click(); await frame(); };
  const rows = (box) => [...document.querySelectorAll(box + ' .row')];
  got.title = text('h1');
  for (const name of ['ast', 'ir', 'grad', 'opt', 'llvm', 'asm', 'programs']) {
    await tab(name);
    got['tab_' + name] = rows('#stage-body').map((r) => r.textContent).join('\n').slice(0, 4000);
  }
  await tab('ir');
  const find = (part) => rows('#ops').find((r) => r.textContent.includes(part));
  find('= einsum').click();
  await frame();
  got.origin = text('#origin');
  got.origin_line = text('#origin-line');
  got.became = text('#became');
  got.kernel = text('#kernel');
  got.cost = text('#cost');
  got.assembly = text('#assembly');
  got.source_mark = rows('#source').filter((r) => r.classList.contains('related')).map((r) => r.textContent).join('|');
  find('= log_softmax').click();
  await frame();
  got.replaced = text('#became');
  await tab('opt');
  got.selected = rows('#ops').filter((r) => r.classList.contains('selected') || r.classList.contains('related')).map((r) => r.textContent).join('|');
  await tab('passes');
  [...document.querySelectorAll('#pass-list tr')].find((r) => r.textContent.startsWith('decompose')).click();
  await frame();
  got.plus = document.querySelectorAll('#diff .plus').length;
  got.minus = rows('#diff').filter((r) => r.classList.contains('minus')).map((r) => r.textContent).join('|');
  await tab('memory');
  const blocks = [...document.querySelectorAll('#timeline rect.a')];
  got.blocks = blocks.length;
  got.areas = blocks.every((b) => +b.getAttribute('width') > 0 && +b.getAttribute('height') > 0);
  blocks[0].dispatchEvent(new MouseEvent('click', {bubbles: true}));
  await frame();
  got.allocation = text('#detail');
  got.values = text('#values');
  rows('#source').find((r) => r.textContent.includes('dense(10')).click();
  await frame();
  got.line = text('#detail');
  got.injected = window.injected === true;
)JS";

TEST_F(Inspect, ThePageShowsAndExplainsInABrowser) {
  if (browser().empty()) GTEST_SKIP() << "there is no Chromium here (Debian: chromium)";
  // A comment that would be markup, and a name that would end a script, if anything were not escaped.
  folder_.write("m.nn",
                "# </script><script>window.injected = true</script><b>\n" + small_model("momentum(lr=0.05)"));
  const ToolResult made = dump({"--format", "html", "-o", "page.html"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_LT(read_text(folder_.path("page.html")).size(), 1u << 20);
  const nlohmann::json got = read_page(folder_.path(), "page.html", kReader);
  ASSERT_FALSE(got.empty());
  const auto has = [&](const char* what, const std::string& part) {
    ASSERT_TRUE(got.at(what).is_string()) << what;
    EXPECT_TRUE(contains(got.at(what).get<std::string>(), part)) << what << ": " << got.at(what);
  };
  EXPECT_EQ(got.at("errors").size(), 0u) << got.at("errors");
  EXPECT_EQ(got.at("scripts"), 0) << "the page refers to other files";
  EXPECT_EQ(got.at("injected"), false);
  has("title", "m.nn");
  has("tab_ast", "dense");
  has("tab_ir", "func @train(");
  has("tab_grad", "func @train_step(");
  has("tab_opt", "kernel(");
  has("tab_llvm", "define");
  has("tab_asm", "pushq");
  has("tab_programs", "kernel \"");
  // The dense layer's product: where it is from, what became of it, what runs it.
  has("origin", "from m.nn:4");
  has("origin", "`dense`");
  has("origin_line", "dense(10");
  has("source_mark", "dense(10");
  has("became", "einsum");
  has("became", "@train_step");
  has("kernel", "_einsum");
  has("kernel", "call ");
  has("cost", "FLOP");
  has("assembly", ":\n");
  has("replaced", "replaced by the pass decompose");
  has("replaced", "reduce_max");
  has("selected", "reduce_max");
  EXPECT_GT(got.at("plus").get<int>(), 3);
  has("minus", "log_softmax");
  EXPECT_GT(got.at("blocks").get<int>(), 3);
  EXPECT_EQ(got.at("areas"), true);
  has("allocation", "alive");
  has("values", "dense_1.weight");
  has("values", "f32[n,10]");
  has("line", "In the IR");
}

// A reader of a model with layers of its own: lines that call them, functions in view, code that kernels
// share.
const char* const kLayersReader = R"JS(
  const tab = async (name) => { document.querySelector(`nav [data-tab=${name}]`).click(); await frame(); };
  const rows = (box) => [...document.querySelectorAll(box + ' .row')];
  const source = (part) => rows('#source').find((r) => r.textContent.includes(part));
  const viewed = () => { const s = document.querySelector('#stage-bar select'); return s.options[s.selectedIndex].text; };
  const bar = (part) => { const i = source(part).querySelector('.heat i'); return i ? parseFloat(i.style.width) : 0; };
  got.bar_call = bar('as first');
  got.bar_body = bar('dense(width)');
  got.bar_train = bar('logits = net');
  for (const stage of ['opt', 'ir']) {
    await tab(stage);
    source('as first').click();
    await frame();
    got['detail_' + stage] = text('#detail');
    got['viewed_' + stage] = viewed();
    got['marked_' + stage] = rows('#ops').filter((r) => r.classList.contains('related')).length;
  }
  await tab('opt');
  const choice = document.querySelector('#stage-bar select');
  choice.value = [...choice.options].findIndex((o) => o.text === 'eval');
  choice.dispatchEvent(new Event('change'));
  await frame();
  got.chosen = viewed();
  source('as first').click();
  await frame();
  got.viewed_in_eval = viewed();
  const op = rows('#ops').find((r) => r.classList.contains('related'));
  got.marked_in_eval = op ? op.textContent : null;
  for (const stage of ['llvm', 'asm']) {
    select({}, stage);
    await frame();
    got['code_' + stage] = viewed();
  }
  const shared = Object.entries(data.users).find(([, users]) => users.length > 1);
  const use = shared[1].find((u) => data.programs[u.p].name + '.' + data.programs[u.p].kernels[u.k].name !== shared[0]);
  select({kernel: use, program: use.p}, 'programs');
  await frame();
  got.shared_name = shared[0];
  got.shared = text('#code');
  select({code: shared[0]}, 'asm');
  await frame();
  got.users = text('#users');
)JS";

TEST_F(Inspect, ThePageCountsCallsOfLayersAndNamesWhatItShows) {
  if (browser().empty()) GTEST_SKIP() << "there is no Chromium here (Debian: chromium)";
  folder_.write("m.nn",
                "data digits = synthetic_digits(train=64, test=32, batch=32)\n"
                "layer block(x, width) {\n"
                "    h = x |> dense(width) |> relu\n"
                "    return h\n"
                "}\n"
                "model net(image: f32[1, 28, 28]) {\n"
                "    h = image |> flatten |> dense(32)\n"
                "    h = block(h, 32) as first\n"
                "    h = block(h, 32) as second\n"
                "    return dense(h, 10)\n"
                "}\n"
                "train {\n"
                "    logits = net(digits.image)\n"
                "    loss cross_entropy(logits, digits.label)\n"
                "    predict softmax(logits)\n"
                "    optimizer sgd(lr=0.1)\n"
                "}\n");
  ASSERT_EQ(dump({"--format", "html", "-o", "page.html"}).exit_code, 0);
  const nlohmann::json got = read_page(folder_.path(), "page.html", kLayersReader);
  ASSERT_FALSE(got.empty());
  EXPECT_EQ(got.at("errors").size(), 0u) << got.at("errors");
  // A call has the arithmetic of what it calls: the body's line that of both calls, the train block's nearly
  // all.
  EXPECT_GT(got.at("bar_call").get<double>(), 0) << got;
  EXPECT_GE(got.at("bar_body").get<double>(), got.at("bar_call").get<double>());
  EXPECT_GT(got.at("bar_train").get<double>(), 20) << "of 30";
  for (const std::string stage : {"opt", "ir"}) {
    EXPECT_FALSE(contains(got.at("detail_" + stage), "In the IR (0)")) << got.at("detail_" + stage);
    EXPECT_TRUE(contains(got.at("detail_" + stage), "einsum")) << got.at("detail_" + stage);
    EXPECT_EQ(got.at("viewed_" + stage), stage == "ir" ? "train" : "train_step");
    EXPECT_GT(got.at("marked_" + stage).get<int>(), 0);
  }
  EXPECT_EQ(got.at("chosen"), "eval");
  EXPECT_EQ(got.at("viewed_in_eval"), "eval");
  EXPECT_FALSE(got.at("marked_in_eval").is_null());
  EXPECT_EQ(got.at("code_llvm"), "train_step");
  EXPECT_EQ(got.at("code_asm"), "train_step");
  EXPECT_EQ(got.at("shared").get<std::string>().rfind(got.at("shared_name").get<std::string>(), 0), 0u);
  EXPECT_TRUE(contains(got.at("users"), "also the code of the equal kernels")) << got.at("users");
}

TEST_F(Inspect, ThePageOfOneProgramIsSmaller) {
  ASSERT_EQ(dump({"--format", "html", "-o", "all.html"}).exit_code, 0);
  ASSERT_EQ(dump({"--format", "html", "--function", "predict", "-o", "one.html"}).exit_code, 0);
  EXPECT_LT(read_text(folder_.path("one.html")).size(), read_text(folder_.path("all.html")).size());
  EXPECT_EQ(dump({"--format", "html"}).out, read_text(folder_.path("all.html")))
      << "the same input, the same page";
}

}  // namespace
}  // namespace gradc::test::inspect_test
