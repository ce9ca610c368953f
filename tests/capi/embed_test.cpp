// The library through its public headers, as a program that embeds it: compiling, parameters, files, data
// that do not fit. Training is in embed_train_test.cpp.
#include <pthread.h>

#include <array>
#include <clocale>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <span>
#include <thread>
#include <xtensor/xview.hpp>

#include "gradc/xtensor.hpp"
#include "tests/capi/helpers.h"

namespace gradc::test::embed_test {
namespace {

// ---- Compiling

TEST(EmbedCompile, MistakesAreData) {
  const std::string text =
      product_model("arrays(batch=32)", "", "",
                    "    metric accuracy(logit, d.label)\n    metric accuracy(logits, lable)\n");
  try {
    Model::from_string(text, "shop.nn");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), GRADC_MODEL_ERROR);
    ASSERT_EQ(error.diagnostics().size(), 2u) << error.what();
    const Diagnostic& d = error.diagnostics()[0];
    EXPECT_EQ(d.severity, GRADC_SEVERITY_ERROR);
    EXPECT_EQ(d.code, "E0201");
    EXPECT_EQ(d.location.file, "shop.nn");
    EXPECT_EQ(d.location.line, 16);
    EXPECT_EQ(d.location.column, 21);
    EXPECT_EQ(d.location.end_line, 16);
    EXPECT_EQ(d.location.end_column, 26);
    EXPECT_NE(d.message.find("`logit`"), std::string::npos) << d.message;
    ASSERT_FALSE(d.helps.empty());
    EXPECT_NE(d.helps[0].find("`logits`"), std::string::npos) << d.helps[0];
    EXPECT_EQ(d.found, "logit");
    EXPECT_EQ(d.suggestion, "logits");
    EXPECT_EQ(error.diagnostics()[1].location.line, 17);
    EXPECT_NE(std::string(error.what()).find("shop.nn:16:21"), std::string::npos) << error.what();
  }
  // Shapes: the places of both, and the trail.
  std::string shapes = product_model();
  shapes.replace(shapes.find("x |> dense(width)"), 1, "(x + concat([x, x], 0))");
  try {
    Model::from_string(shapes);
    FAIL();
  } catch (const Error& error) {
    ASSERT_GE(error.diagnostics().size(), 1u);
    const Diagnostic& d = error.diagnostics()[0];
    EXPECT_FALSE(d.notes.empty()) << error.what();
    EXPECT_EQ(d.location.file, "model.nn");
    EXPECT_EQ(d.expected, "f32[2]");
    EXPECT_EQ(d.found, "f32[4]");
    EXPECT_EQ(d.suggestion, "");
  }
}

TEST(EmbedCompile, TheWordsOfTheTool) {
  TemporaryFolder folder;
  folder.write("m.nn", product_model("arrays(batch=32)", "", "", "    metric accuracy(logit, d.label)\n"));
  const ToolResult tool = run_tool({"train", "m.nn"}, folder.path());
  EXPECT_EQ(tool.exit_code, GRADC_MODEL_ERROR);
  const std::string own = folder.path("m.nn");
  refuses(GRADC_MODEL_ERROR, {"E0201", "logit", own}, [&] { Model::from_file(own); });
}

TEST(EmbedCompile, OtherMistakes) {
  refuses(GRADC_USAGE, {"no model file 'none.nn'"}, [] { Model::from_file("none.nn"); });
  refuses(GRADC_USAGE, {"x86-64-v9", "x86-64-v3"},
          [] { Model::from_string(product_model(), "m.nn", {.target = "x86-64-v9"}); });
  refuses(GRADC_MODEL_ERROR, {"widht", "did you mean `width`"},
          [] { Model::from_string(product_model(), "m.nn", {.settings = {{"widht", "3"}}}); });
  refuses(GRADC_USAGE, {"batch"}, [] { Model::from_string(product_model(), "m.nn", {.batch = -1}); });
  refuses(GRADC_MODEL_ERROR, {}, [] { Model::from_string(""); });
  refuses(GRADC_MODEL_ERROR, {}, [] { Model::from_string(std::string("data \xff\xfe = \x01")); });
  try {
    Model::from_file("none.nn");
  } catch (const Error& error) {
    ASSERT_EQ(error.diagnostics().size(), 1u);
    EXPECT_EQ(error.diagnostics()[0].location.file, "");
    EXPECT_EQ(error.diagnostics()[0].location.line, 0);
    EXPECT_EQ(error.diagnostics()[0].message, error.what());
  }
}

TEST(EmbedCompile, CNullPointersAndOptionsNotInitialised) {
  gradc_model* model = nullptr;
  EXPECT_EQ(gradc_model_compile_file(nullptr, nullptr, &model, nullptr), GRADC_USAGE);
  EXPECT_EQ(gradc_model_compile_string("", "m", nullptr, nullptr, nullptr), GRADC_USAGE);
  EXPECT_EQ(gradc_model_compile_string(nullptr, "m", nullptr, &model, nullptr), GRADC_USAGE);
  gradc_compile_options options{};
  EXPECT_EQ(gradc_model_compile_string("x", "m", &options, &model, nullptr), GRADC_USAGE);
  EXPECT_NE(std::string(gradc_last_error()).find("_init()"), std::string::npos) << gradc_last_error();
  options.size = 100000;
  EXPECT_EQ(gradc_model_compile_string("x", "m", &options, &model, nullptr), GRADC_USAGE);
  EXPECT_EQ(model, nullptr);
  EXPECT_EQ(gradc_diagnostics_count(nullptr), 0);
  gradc_diagnostic d;
  gradc_diagnostic_init(&d);
  EXPECT_EQ(gradc_diagnostics_get(nullptr, 0, &d), GRADC_USAGE);
  gradc_diagnostics_free(nullptr);
  gradc_model_free(nullptr);
  gradc_session* session = nullptr;
  EXPECT_EQ(gradc_session_create_from_model(nullptr, 1, &session), GRADC_USAGE);
  EXPECT_EQ(gradc_session_create(nullptr, 1, &session), GRADC_USAGE);
  EXPECT_EQ(gradc_session_train(nullptr, nullptr, nullptr), GRADC_USAGE);
  gradc_session_close(nullptr);
  gradc_session_cancel(nullptr);
  gradc_session_destroy(nullptr);
}

// A program that was compiled with less in the struct gets what it knows of, and nothing after it is
// written.
TEST(EmbedCompile, CDiagnosticsOfAnEarlierProgram) {
  gradc_model* model = nullptr;
  gradc_diagnostics* diagnostics = nullptr;
  ASSERT_EQ(
      gradc_model_compile_string("model m(x: f32[2]) = dens(x, 2)", "m.nn", nullptr, &model, &diagnostics),
      GRADC_MODEL_ERROR);
  gradc_diagnostic d;
  EXPECT_EQ((d.size = 0, gradc_diagnostics_get(diagnostics, 0, &d)), GRADC_USAGE);
  EXPECT_NE(std::string(gradc_last_error()).find("gradc_diagnostic_init()"), std::string::npos);
  gradc_diagnostic_init(&d);
  EXPECT_EQ(gradc_diagnostics_get(diagnostics, 0, &d), GRADC_OK);
  EXPECT_STREQ(d.suggestion, "dense");
  EXPECT_EQ(d.size, sizeof d);
  const char* const untouched = "untouched";
  d.expected = d.found = d.suggestion = untouched;
  d.size = offsetof(gradc_diagnostic, expected);
  EXPECT_EQ(gradc_diagnostics_get(diagnostics, 0, &d), GRADC_OK);
  EXPECT_STREQ(d.code, "E0201");
  EXPECT_EQ(d.suggestion, untouched);
  EXPECT_EQ(d.size, offsetof(gradc_diagnostic, expected));
  gradc_diagnostics_free(diagnostics);
}

// Deeply nested text is an error as ever where the caller's stack is small.
TEST(EmbedCompile, OnASmallStack) {
  std::string nested = "data d = arrays() { field x: f32[2] }\nmodel m(x: f32[2]) = ";
  for (int i = 0; i < 100000; ++i) nested += '(';
  struct Call {
    const std::string& text;
    gradc_status bad = GRADC_OK, good = GRADC_INTERNAL;
  } call{nested};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, 128 << 10), 0);
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, &attributes,
                [](void* argument) -> void* {
                  auto& call = *static_cast<Call*>(argument);
                  gradc_model* model = nullptr;
                  call.bad = gradc_model_compile_string(call.text.c_str(), "m.nn", nullptr, &model, nullptr);
                  call.good =
                      gradc_model_compile_string(product_model().c_str(), "m.nn", nullptr, &model, nullptr);
                  gradc_model_free(model);
                  return nullptr;
                },
                &call),
            0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  EXPECT_EQ(call.bad, GRADC_MODEL_ERROR);
  EXPECT_EQ(call.good, GRADC_OK);
}

TEST(EmbedCompile, TheEnvironmentSaysNothing) {
  TemporaryFolder home;
  const char* const names[] = {"GRADC_THREADS", "OMP_NUM_THREADS", "GRADC_CACHE", "GRADC_CACHE_DIR"};
  for (const char* name : names) setenv(name, "nonsense", 1);
  setenv("HOME", home.path().c_str(), 1);
  const std::string cache = home.path("cache");
  {
    Session session(Model::from_string(product_model()));
    EXPECT_GE(session.threads(), 1);
    EXPECT_TRUE(home.files().empty());
    Model::from_string(product_model(), "m.nn", {.cache = cache});
    EXPECT_EQ(home.files(), std::vector<std::string>{"cache"});
  }
  for (const char* name : names) unsetenv(name);
  EXPECT_FALSE(std::filesystem::exists("nonsense"));
}

TEST(EmbedCompile, APointIsAPointInEveryLocale) {
  TemporaryFolder folder;
  const ToolResult made =
      run_bare({"/usr/bin/localedef", "-i", "de_DE", "-f", "UTF-8", folder.path("comma.UTF-8")});
  setenv("LOCPATH", folder.path().c_str(), 1);
  const bool found = std::setlocale(LC_ALL, "comma.UTF-8") != nullptr;
  unsetenv("LOCPATH");
  if (!found) GTEST_SKIP() << "no locale with a decimal comma can be made (package locales): " << made.err;
  EXPECT_STREQ(std::localeconv()->decimal_point, ",");
  Session session(Model::from_string(product_model()));
  const Examples e(32);
  const double rate = session.step({e.x, e.label}).lr;
  std::setlocale(LC_ALL, "C");
  EXPECT_EQ(rate, Session(Model::from_string(product_model())).step({e.x, e.label}).lr);
  // The arrays of a call may be chosen while the program runs: a vector, a span, an array of views.
  const std::vector<View> views = {{"label", e.label}, {"x", e.x}};
  const std::array<View, 2> in_order = {View(e.x), View(e.label)};
  Session listed(Model::from_string(product_model())), spanned(Model::from_string(product_model()));
  const double loss = Session(Model::from_string(product_model())).step({e.x, e.label}).loss;
  EXPECT_EQ(listed.step(views).loss, loss);
  EXPECT_EQ(spanned.step(std::span<const View>(in_order)).loss, loss);
}

TEST(EmbedCompile, Version) {
  EXPECT_STREQ(gradc_version(), GRADC_VERSION);
  EXPECT_EQ(gradc_version_number(), GRADC_VERSION_NUMBER);
  EXPECT_EQ(run_tool({"--version"}).out, std::string("gradc ") + GRADC_VERSION + "\n");
}

// ---- Parameters and files

TEST(EmbedParameters, AreReadAndWritten) {
  const Examples e(64);
  Session session(Model::from_string(product_model()));
  Array description;
  const std::span<float> bias = session.tensor("dense_2.bias", &description);
  EXPECT_EQ(description.shape, std::vector<int64_t>{2});
  EXPECT_EQ(description.kind, GRADC_KIND_PARAMETER);
  bias[1] = 100;
  EXPECT_EQ(session.predict({e.x})[1], 1);
  auto weight = xtensor(session, "dense_1.weight");
  EXPECT_EQ(weight.shape()[0], 16u);
  EXPECT_EQ(weight.shape()[1], 2u);
  weight.fill(0);
  EXPECT_EQ(session.tensor("dense_1.weight")[5], 0);
  refuses(GRADC_USAGE, {"dense_1.wieght", "did you mean `dense_1.weight`"},
          [&] { session.tensor("dense_1.wieght"); });
  refuses(GRADC_USAGE, {"elements of float"}, [&] { session.tensor<double>("dense_1.weight"); });
  bool adam = false;
  for (const Array& a : session.tensors()) adam |= a.kind == GRADC_KIND_SLOT;
  EXPECT_TRUE(adam);
}

TEST(EmbedParameters, SavedAllGoesOnBitForBit) {
  const Examples e(32);
  TemporaryFolder folder;
  const Model model = Model::from_string(product_model());
  Session a(model), b(model);
  for (Session* s : {&a, &b}) s->set_progress(0, 0, 100);
  for (int i = 0; i < 5; ++i) a.step({e.x, e.label});
  a.save_all(folder.path("all.safetensors"));
  b.load(folder.path("all.safetensors"));
  b.set_progress(a.steps(), 0, 100);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(a.step({e.x, e.label}).loss, b.step({e.x, e.label}).loss);
  EXPECT_EQ(all_parameters(a), all_parameters(b));
}

TEST(EmbedParameters, WrongFilesChangeNothing) {
  const Examples e(32);
  TemporaryFolder folder;
  Session session(Model::from_string(product_model()));
  session.save(folder.path("w.safetensors"));
  const std::string good = read_text(folder.path("w.safetensors"));
  const std::vector<float> before = all_parameters(session);
  const auto wrong = [&](const std::string& name, const std::string& content,
                         const std::vector<std::string>& texts) {
    folder.write(name, content);
    refuses(GRADC_DATA_ERROR, texts, [&] { session.load(folder.path(name)); });
    EXPECT_EQ(all_parameters(session), before);
  };
  wrong("cut.safetensors", good.substr(0, good.size() - 20), {"cut.safetensors"});
  wrong("short.safetensors", good.substr(0, 5), {"short.safetensors"});
  wrong("empty.safetensors", "", {"empty.safetensors"});
  wrong("text.safetensors", "these are no weights at all, only text", {"text.safetensors"});
  refuses(GRADC_DATA_ERROR, {"none.safetensors"}, [&] { session.load(folder.path("none.safetensors")); });
  // Weights of the same names and other shapes, and of another model.
  Session wide(Model::from_string(product_model(), "m.nn", {.settings = {{"width", "8"}}}));
  wide.save(folder.path("wide.safetensors"));
  refuses(GRADC_DATA_ERROR, {"dense_1.weight: expected F32[16, 2], found F32[8, 2]"},
          [&] { session.load(folder.path("wide.safetensors")); });
  Session other(Model::from_string(small_model()));
  other.save(folder.path("other.safetensors"));
  refuses(GRADC_DATA_ERROR, {"dense_2.weight"}, [&] { session.load(folder.path("other.safetensors")); });
  EXPECT_EQ(all_parameters(session), before);
  refuses(GRADC_RUN_FAILED, {"none/w.safetensors"}, [&] { session.save(folder.path("none/w.safetensors")); });
  EXPECT_NO_THROW(session.load(folder.path("w.safetensors")));
}

TEST(EmbedParameters, WithoutTraining) {
  const Examples e(40);
  TemporaryFolder folder;
  Session trained(Model::from_string(product_model()));
  trained.train({.splits = {e.split()}});
  trained.save(folder.path("w.safetensors"));
  Session session(Model::from_string(product_model(), "m.nn", {.batch = 7, .infer = true}));
  EXPECT_EQ(session.batch(), 7);
  session.load(folder.path("w.safetensors"));
  EXPECT_EQ(session.predict({e.x}), trained.predict({e.x}));
  refuses(GRADC_USAGE, {"without training"}, [&] { session.train({.splits = {e.split()}}); });
  refuses(GRADC_USAGE, {"without training"}, [&] { session.initialize(1); });
}

// ---- Data of the embedding program that do not fit

TEST(EmbedData, WhatDoesNotFitIsExplained) {
  const Examples e(32);
  Session s(Model::from_string(product_model()));
  const std::vector<float> odd(63), none;
  const std::vector<double> doubles(64);
  const std::vector<int32_t> few(31);
  refuses(GRADC_DATA_ERROR, {"step: `x`", "f32[63]", "rows x f32[2]", "no whole number of rows"},
          [&] { s.step({odd, e.label}); });
  refuses(GRADC_DATA_ERROR, {"f64[64]", "rows x f32[2]", "hold it as float"},
          [&] { s.evaluate({doubles, e.label}); });
  refuses(GRADC_DATA_ERROR, {"`label` has 31 rows, but `x` has 32"}, [&] { s.step({e.x, few}); });
  refuses(GRADC_DATA_ERROR, {"i32[32]", "rows x f32[2]"}, [&] { s.step({e.label, e.x}); });
  refuses(GRADC_DATA_ERROR, {"no rows"}, [&] { s.predict({none}); });
  refuses(GRADC_DATA_ERROR, {"f32[32, 1, 2]", "rows x f32[2]"},
          [&] { s.predict({View(e.x.data(), {32, 1, 2})}); });
  refuses(GRADC_USAGE, {"1 array; the model reads 2: x, label"}, [&] { s.step({e.x}); });
  refuses(GRADC_USAGE, {"no `lable`", "did you mean `label`"},
          [&] { s.step({View("x", e.x), View("lable", e.label)}); });
  refuses(GRADC_USAGE, {"`x` is given twice"}, [&] { s.step({View("x", e.x), View("x", e.x)}); });
  refuses(GRADC_USAGE, {"some arrays have names"}, [&] { s.step({View("x", e.x), e.label}); });
  refuses(GRADC_USAGE, {"reads `label`, which is not given"}, [&] { s.step({View("x", e.x)}); });
  refuses(GRADC_USAGE, {"null pointer"},
          [&] { s.predict({View(static_cast<const float*>(nullptr), {1, 2})}); });
  refuses(GRADC_USAGE, {"[-1, 2] makes no sense"}, [&] { s.predict({View(e.x.data(), {-1, 2})}); });
  const Examples many(33);
  refuses(GRADC_USAGE, {"33 rows", "at most 32"}, [&] { s.step({many.x, many.label}); });
  std::vector<float> out(63);
  refuses(GRADC_USAGE, {"252 bytes", "expected 256"}, [&] { s.predict({e.x}, std::span(out)); });
  std::vector<int32_t> integers(64);
  refuses(GRADC_USAGE, {"elements of float"}, [&] { s.predict({e.x}, std::span(integers)); });
  EXPECT_EQ(s.predict({e.x}).size(), 64u);
}

TEST(EmbedData, PartsThatDoNotFitAreExplained) {
  Examples e(64);
  Session s(Model::from_string(product_model()));
  const std::vector<int32_t> few(63);
  refuses(GRADC_DATA_ERROR, {"arrays(...)", "none were given"}, [&] { s.train(); });
  refuses(GRADC_USAGE, {"the split `train`", "`label`, which is not given"},
          [&] { s.train({.splits = {{"train", {View("x", e.x)}}}}); });
  refuses(GRADC_DATA_ERROR, {"the split `train`", "`label` has 63 rows"},
          [&] { s.train({.splits = {{"train", {e.x, few}}}}); });
  refuses(GRADC_DATA_ERROR, {"no split `train`", "test"}, [&] { s.train({.splits = {e.split("test")}}); });
  refuses(GRADC_USAGE, {"`train` is given twice"}, [&] { s.train({.splits = {e.split(), e.split()}}); });
  refuses(GRADC_USAGE, {"no name"}, [&] { s.train({.splits = {e.split("")}}); });
  refuses(GRADC_USAGE, {"epochs -7"}, [&] { s.train({.epochs = -7, .splits = {e.split()}}); });
  refuses(GRADC_DATA_ERROR, {"none.safetensors"},
          [&] { s.train({.init_from = "none.safetensors", .splits = {e.split()}}); });
  refuses(GRADC_USAGE, {"starts from one"},
          [&] { s.train({.keep_parameters = true, .resume = "a", .splits = {e.split()}}); });
  e.label[5] = 2;
  refuses(GRADC_DATA_ERROR, {"label 2 of row 5", "0 to 1"}, [&] { s.train({.splits = {e.split()}}); });
  e.label[5] = 1;
  EXPECT_EQ(s.train({.splits = {e.split()}}).steps, 8);
}

TEST(EmbedData, NotFiniteChangesNothing) {
  Examples e(64);
  e.x[40] = std::numeric_limits<float>::quiet_NaN();
  Session s(Model::from_string(product_model()));
  const std::vector<float> before = all_parameters(s);
  refuses(GRADC_NOT_FINITE, {"not finite"},
          [&] { s.step({View(e.x.data(), {32, 2}), View(e.label.data(), {32})}); });
  EXPECT_EQ(all_parameters(s), before);
  refuses(GRADC_NOT_FINITE, {"not finite"},
          [&] { s.train({.keep_parameters = true, .splits = {e.split()}}); });
  EXPECT_TRUE(std::isnan(s.evaluate({e.x, e.label}).loss));
}

TEST(EmbedData, NotFiniteIsExplained) {
  std::string model = product_model();
  const std::string loss = "cross_entropy(logits, d.label)";
  model.replace(model.find(loss), loss.size(), "sum(log(logits - 100), 0)");
  const Examples e(64);
  Session s(Model::from_string(model, "shop.nn"));
  gradc_not_finite report;
  gradc_not_finite_init(&report);
  EXPECT_EQ(gradc_session_not_finite(s.c(), &report), GRADC_USAGE);
  const auto explained = [&](int64_t step, int64_t batch, int64_t rows, auto&& call) {
    try {
      call();
      FAIL();
    } catch (const NotFiniteError& error) {
      EXPECT_EQ(error.status(), GRADC_NOT_FINITE);
      const NotFinite& r = error.report();
      EXPECT_EQ(r.step, step);
      EXPECT_EQ(r.epoch, 1);
      EXPECT_EQ(r.batch, batch);
      EXPECT_EQ(r.operation, "log");
      EXPECT_EQ(r.name[0], '%');
      EXPECT_EQ(r.type, "f32[n,2]");
      EXPECT_EQ(r.location.file, "shop.nn");
      EXPECT_EQ(r.location.line, 9);
      EXPECT_EQ(r.location.column, 19);
      EXPECT_TRUE(std::isnan(r.result.low));
      EXPECT_EQ(r.result.elements, 2 * rows);
      EXPECT_EQ(r.result.nan, 2 * rows);
      ASSERT_EQ(r.operands.size(), 1u);
      EXPECT_NE(r.operands[0].name.find(" sub"), std::string::npos) << r.operands[0].name;
      EXPECT_LT(r.operands[0].high, -90);
      EXPECT_GE(r.operands[0].high, r.operands[0].low);
      EXPECT_EQ(r.operands[0].nan + r.operands[0].above + r.operands[0].below, 0);
      EXPECT_EQ(r.text, error.what());
      for (const char* split : {"shop.nn:9:19", "sum(log(logits - 100), 0)", "result: no finite value, "})
        EXPECT_NE(r.text.find(split), std::string::npos) << r.text;
    }
  };
  explained(1, 0, 20, [&] { s.step({View(e.x.data(), {20, 2}), View(e.label.data(), {20})}); });
  explained(1, 1, 32, [&] { s.train({.splits = {e.split()}}); });
  EXPECT_EQ(gradc_session_not_finite(s.c(), &report), GRADC_OK);
  EXPECT_STREQ(report.operation, "log");
  EXPECT_EQ(report.operand_count, 1);
  EXPECT_EQ((report.size = 0, gradc_session_not_finite(s.c(), &report)), GRADC_USAGE);
  EXPECT_EQ(gradc_session_not_finite(s.c(), nullptr), GRADC_USAGE);
}

// An update that overflows: trained, it is undone and explained; of single steps, what would use the
// parameters says so, and nothing is written over good files.
TEST(EmbedData, UpdatesThatAreNotFinite) {
  TemporaryFolder folder;
  const std::string file = folder.path("w.safetensors");
  const Examples e(32);
  Session s(Model::from_string(product_model(), "shop.nn"));
  s.save(file);
  const std::string good = read_text(file);
  const std::vector<float> before = all_parameters(s);
  s.set_lr_factor(1e45);
  const auto report_of = [&](auto&& call) {
    try {
      call();
      ADD_FAILURE() << "no error";
    } catch (const NotFiniteError& error) {
      EXPECT_EQ(error.status(), GRADC_NOT_FINITE);
      return error.report();
    }
    return NotFinite();
  };
  const NotFinite update =
      report_of([&] { s.train({.epochs = 1, .keep_parameters = true, .splits = {e.split()}}); });
  EXPECT_EQ(update.step, 1);
  EXPECT_EQ(update.epoch, 1);
  EXPECT_EQ(update.batch, 1);
  EXPECT_FALSE(update.operation.empty());
  EXPECT_EQ(update.location.file, "shop.nn");
  EXPECT_EQ(update.location.line, 12) << update.text;  // of the optimizer
  EXPECT_NE(update.text.find("step 1 (epoch 1, batch 1) made "), std::string::npos) << update.text;
  EXPECT_EQ(all_parameters(s), before);

  s.step({e.x, e.label});
  const std::vector<std::function<void()>> uses = {[&] { s.save(file); }, [&] { s.save_all(file); },
                                                   [&] { s.predict({e.x}); },
                                                   [&] { s.evaluate({e.x, e.label}); }};
  for (const auto& use : uses) {
    const NotFinite weights = report_of(use);
    EXPECT_NE(weights.text.find("NaN or infinite after step "), std::string::npos) << weights.text;
    EXPECT_NE(weights.text.find("of the parameter "), std::string::npos) << weights.text;
  }
  EXPECT_EQ(read_text(file), good);
  EXPECT_EQ(report_of([&] { s.step({e.x, e.label}); }).operation, "parameter");
  s.initialize(1);
  EXPECT_TRUE(std::isfinite(s.evaluate({e.x, e.label}).loss));
}

// A value that comes in so, or that an earlier call put there, is named; a finite step leaves nothing to
// report.
TEST(EmbedData, NotFiniteFromOutside) {
  Examples e(32);
  Session s(Model::from_string(product_model()));
  const auto report_of = [&] {
    try {
      s.step({e.x, e.label});
      ADD_FAILURE();
    } catch (const NotFiniteError& error) {
      return error.report();
    }
    return NotFinite();
  };
  e.x[7] = std::numeric_limits<float>::quiet_NaN();
  const NotFinite input = report_of();
  EXPECT_EQ(input.operation, "input");
  EXPECT_EQ(input.name, "x");
  EXPECT_EQ(input.result.nan, 1);
  EXPECT_EQ(input.result.elements, 64);
  EXPECT_FALSE(input.helps.empty());
  e.x[7] = 0;
  s.step({e.x, e.label});
  gradc_not_finite none;
  gradc_not_finite_init(&none);
  EXPECT_EQ(gradc_session_not_finite(s.c(), &none), GRADC_USAGE);
  s.tensor("dense_2.bias")[1] = std::numeric_limits<float>::infinity();
  const NotFinite parameter = report_of();
  EXPECT_EQ(parameter.operation, "parameter");
  EXPECT_EQ(parameter.name, "dense_2.bias");
  EXPECT_EQ(parameter.result.above, 1);
  EXPECT_EQ(parameter.step, 2);
}

// As gradc_session_step() has it: what the caller writes or loads is looked at by save alone.
TEST(EmbedData, SavesNothingNotFinite) {
  TemporaryFolder folder;
  const std::string file = folder.path("w.safetensors");
  const Examples e(32);
  Session s(Model::from_string(product_model()));
  s.save(file);
  const std::string good = read_text(file);
  const auto refused = [&](const std::string& name) {
    for (const auto& save : {&Session::save, &Session::save_all})
      refuses(GRADC_NOT_FINITE, {"parameter " + name, "was not written"}, [&] { (s.*save)(file); });
    EXPECT_EQ(read_text(file), good);
  };
  s.evaluate({e.x, e.label});
  const float before = s.tensor("dense_2.bias")[1];
  s.tensor("dense_2.bias")[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(s.evaluate({e.x, e.label}).loss));
  refused("dense_2.bias");
  s.tensor("dense_2.bias")[1] = before;
  s.save(file);
  EXPECT_EQ(read_text(file), good);
  // The last of a file's values.
  std::string bad = good;
  bad.replace(bad.size() - 4, 4, std::string("\x00\x00\xC0\x7F", 4));
  const std::string other = folder.path("nan.safetensors");
  std::ofstream(other, std::ios::binary) << bad;
  s.load(other);
  EXPECT_TRUE(std::isnan(s.evaluate({e.x, e.label}).loss));
  refused("");
}

TEST(EmbedData, XtensorWithoutACopy) {
  const Examples e(32);
  Session s(Model::from_string(product_model()));
  const std::vector<float> expected = s.predict({e.x});
  xt::xtensor<float, 2> x = xt::adapt(e.x, std::vector<size_t>{32, 2});
  xt::xarray<int32_t> label = xt::adapt(e.label, std::vector<size_t>{32});
  EXPECT_EQ(s.predict({x}), expected);
  EXPECT_EQ(s.evaluate({x, label}).loss, s.evaluate({e.x, e.label}).loss);
  // Rows of a larger array are in one piece; columns are not.
  xt::xarray<float> wide = xt::zeros<float>({32, 3});
  xt::xarray<float> tall = xt::concatenate(xt::xtuple(x, x));
  const auto rows = xt::view(tall, xt::range(32, 64), xt::all());
  EXPECT_EQ(s.predict({rows}), expected);
  const xt::xarray<float> made = predict(s, {rows});
  EXPECT_EQ(made.shape()[0], 32u);
  EXPECT_EQ(made(3, 1), expected[7]);
  refuses(GRADC_USAGE, {"view with gaps or another order", "strides [3, 1]", "copy it"},
          [&] { s.predict({xt::view(wide, xt::all(), xt::range(0, 2))}); });
  const xt::xarray<float, xt::layout_type::column_major> columns = x;
  refuses(GRADC_USAGE, {"view with gaps or another order", "strides [1, 32]"}, [&] { s.predict({columns}); });
  refuses(GRADC_DATA_ERROR, {"f32[32, 3]", "rows x f32[2]"}, [&] { s.predict({wide}); });
  EXPECT_EQ(s.predict({xt::view(tall, xt::range(0, 1), xt::all())}).size(), 2u);
}

}  // namespace
}  // namespace gradc::test::embed_test
