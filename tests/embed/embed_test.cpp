// The library through its public headers, as a program that embeds it: compiling, sessions, training,
// callbacks, cancelling, mistakes.
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <clocale>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>
#include <xtensor/xview.hpp>

#include "gradc/gradc.hpp"
#include "gradc/xtensor.hpp"
#include "tests/driver/tool.h"

namespace gradc::test {
namespace {

using Json = nlohmann::json;

// Two classes told apart by the sign of the product of two numbers; dropout makes it one with random numbers.
std::string product_model(const std::string& source = "arrays(batch=32, classes=2)",
                          const std::string& from_x = "", const std::string& from_label = "",
                          const std::string& extra = "") {
  return "set width = 16\n"
         "data d = " +
         source +
         " {\n"
         "    field x: f32[2]" +
         from_x +
         "\n"
         "    field label: i32" +
         from_label +
         "\n"
         "}\n"
         "model net(x: f32[2]) = x |> dense(width) |> tanh |> dropout(0.1) |> dense(2)\n"
         "train {\n"
         "    logits    = net(d.x)\n"
         "    loss      cross_entropy(logits, d.label)\n"
         "    metric    accuracy(logits, d.label)\n"
         "    predict   softmax(logits)\n"
         "    optimizer adam(lr=0.02)\n"
         "    schedule  cosine\n"
         "    epochs    4\n"
         "    seed      3\n" +
         extra + "}\n";
}

struct Examples {
  explicit Examples(int rows) {
    for (int i = 0; i < rows; ++i) {
      x.push_back(std::sin(1.7f * static_cast<float>(i)));
      x.push_back(std::cos(0.9f * static_cast<float>(i)));
      label.push_back(x[x.size() - 2] * x.back() > 0 ? 1 : 0);
    }
  }
  Part part(const std::string& name = "train") const { return {name, {View("x", x), View("label", label)}}; }
  std::vector<float> x;
  std::vector<int32_t> label;
};

// What `call` throws: its status, and all texts in its message.
template <class F>
void refuses(gradc_status status, const std::vector<std::string>& texts, F&& call) {
  try {
    call();
    FAIL() << "nothing was refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), status) << error.what();
    for (const std::string& text : texts)
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << text << "\n" << error.what();
  }
}

std::vector<float> all_parameters(Session& session) {
  std::vector<float> all;
  for (const Array& a : session.tensors())
    if (a.kind == GRADC_KIND_PARAMETER)
      for (const float value : session.tensor(a.name)) all.push_back(value);
  return all;
}

Json last_event(const ToolResult& r) {
  EXPECT_EQ(r.exit_code, 0) << r.err;
  const auto all = lines(r.out);
  return all.empty() ? Json() : Json::parse(all.back());
}

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
    EXPECT_EQ(d.place.file, "shop.nn");
    EXPECT_EQ(d.place.line, 16);
    EXPECT_EQ(d.place.column, 21);
    EXPECT_EQ(d.place.end_line, 16);
    EXPECT_EQ(d.place.end_column, 26);
    EXPECT_NE(d.message.find("`logit`"), std::string::npos) << d.message;
    ASSERT_FALSE(d.helps.empty());
    EXPECT_NE(d.helps[0].find("`logits`"), std::string::npos) << d.helps[0];
    EXPECT_EQ(error.diagnostics()[1].place.line, 17);
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
    EXPECT_EQ(d.place.file, "model.nn");
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
    EXPECT_EQ(error.diagnostics()[0].place.file, "");
    EXPECT_EQ(error.diagnostics()[0].place.line, 0);
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
}

TEST(EmbedCompile, Version) {
  EXPECT_STREQ(gradc_version(), GRADC_VERSION);
  EXPECT_EQ(gradc_version_number(), GRADC_VERSION_NUMBER);
  EXPECT_EQ(run_tool({"--version"}).out, std::string("gradc ") + GRADC_VERSION + "\n");
}

// ---- The bits of the tool

TEST(EmbedTrain, TheBitsOfTheTool) {
  TemporaryFolder folder;
  std::string text = small_model("adam(lr=0.01)");
  text.replace(text.find("flatten |>"), 10,
               "flatten |> dense(width) |> batchnorm |> relu |> dropout(0.2) |>");
  text = "set width = 8\n" + text;
  folder.write("m.nn", text);
  const Json tool = last_event(
      run_tool({"train", "m.nn", "--json", "--set", "width=24", "--target", "x86-64-v2", "--epochs", "3"},
               folder.path()));
  for (const int threads : {1, 2}) {
    Session session(Model::from_string(text, "m.nn", {.settings = {{"width", "24"}}, .target = "x86-64-v2"}),
                    threads);
    const TrainResult result = session.train({.epochs = 3});
    EXPECT_EQ(result.weights_sha256, tool.at("weights_sha256"));
    EXPECT_EQ(result.part("test").loss, tool.at("test_loss"));
    EXPECT_EQ(result.part("test").metric("accuracy"), tool.at("test_accuracy"));
    EXPECT_EQ(result.part("train").loss, tool.at("train_loss"));
    EXPECT_EQ(result.steps, tool.at("steps"));
    EXPECT_FALSE(result.cancelled);
    EXPECT_EQ(session.steps(), result.steps);
  }
}

TEST(EmbedTrain, StrictMathIsTheToolsToo) {
  TemporaryFolder folder;
  std::string text = small_model();
  text.replace(text.find("image |> flatten"), 5, "image |> conv2d(8, 3) |> relu");
  folder.write("m.nn", text);
  const std::vector<std::string> command = {"train", "m.nn", "--json", "--steps", "4"};
  std::vector<std::string> strict = command;
  strict.emplace_back("--strict-math");
  const auto own = [&](bool on) {
    return Session(Model::from_string(text, "m.nn", {.strict_math = on})).train({.steps = 4}).weights_sha256;
  };
  EXPECT_EQ(own(true), last_event(run_tool(strict, folder.path())).at("weights_sha256"));
  EXPECT_EQ(own(false), last_event(run_tool(command, folder.path())).at("weights_sha256"));
}

TEST(EmbedTrain, AMemoryLimitIsKeptOrExplained) {
  const std::string model = product_model("arrays(batch=4096, classes=2)");
  const Examples e(4096);
  const auto train = [&](int64_t limit) {
    Session session(Model::from_string(model, "m.nn", {.memory_limit = limit, .limit_threads = 1}), 1);
    const TrainResult result = session.train({.steps = 3, .parts = {e.part()}});
    EXPECT_EQ(result.steps, 3);
    return std::pair(session.batch(), result.part("train").loss);
  };
  const auto [whole, loss] = train(0);
  const auto [piece, same] = train(700000);
  EXPECT_EQ(whole, 4096);
  EXPECT_LT(piece, whole);
  EXPECT_NEAR(same, loss, 0.02);  // dropout draws anew for each piece
  refuses(GRADC_USAGE, {"0.01 MB", "the least found"},
          [&] { Model::from_string(small_model(), "m.nn", {.memory_limit = 10000, .limit_threads = 1}); });
}

TEST(EmbedTrain, ArraysGiveTheBitsOfFiles) {
  const Examples e(200);
  TemporaryFolder folder;
  const auto npy = [&](const std::string& name, const std::string& type, const std::string& shape,
                       const void* data, size_t bytes) {
    std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }";
    header.resize(117, ' ');
    folder.write(name, std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + '\n' +
                           std::string(static_cast<const char*>(data), bytes));
  };
  npy("x.npy", "<f4", "(200, 2)", e.x.data(), 1600);
  npy("label.npy", "<i4", "(200,)", e.label.data(), 800);
  const auto with_split = [](std::string text) {
    text.replace(text.find("}\nmodel"), 1, "    split val = 40 of train\n    normalize x by channel\n}");
    return text;
  };
  folder.write("m.nn",
               with_split(product_model("npy(batch=32, classes=2)", " = \"x.npy\"", " = \"label.npy\"", "")));
  const ToolResult tool = run_tool({"train", "m.nn", "--json"}, folder.path());
  ASSERT_EQ(tool.exit_code, 0) << tool.err;
  Session session(Model::from_string(with_split(product_model())));
  const TrainResult result = session.train({.parts = {e.part()}});
  EXPECT_EQ(result.weights_sha256, last_event(tool).at("weights_sha256"));
  EXPECT_EQ(result.part("val").loss, last_event(tool).at("metrics").at("val_loss"));
  // A part that is given is not cut from another.
  const Examples val(40);
  const TrainResult given = session.train({.parts = {e.part(), val.part("val"), val.part("test")}});
  EXPECT_EQ(given.part("val").loss, given.part("test").loss);
  EXPECT_NE(given.part("val").loss, result.part("val").loss);
}

TEST(EmbedTrain, BytesAreScaled) {
  const std::string text = product_model("arrays(batch=16, classes=2)");
  std::vector<uint8_t> bytes;
  std::vector<float> floats;
  std::vector<int32_t> label;
  for (int i = 0; i < 64; ++i) {
    label.push_back(i % 2);
    for (const int value : {i * 3 % 256, 255 - i}) {
      bytes.push_back(static_cast<uint8_t>(value));
      floats.push_back(static_cast<float>(value) / 255.0f);
    }
  }
  const Model model = Model::from_string(text);
  const std::string a =
      Session(model)
          .train({.parts = {{"train", {View("x", View(bytes.data(), {64, 2})), View("label", label)}}}})
          .weights_sha256;
  EXPECT_EQ(a, Session(model).train({.parts = {{"train", {floats, label}}}}).weights_sha256);
}

// What `normalize` was fitted to in training prepares what is predicted on, also after saving and loading.
TEST(EmbedTrain, PreparesAsItWasTrained) {
  std::string text = product_model();
  text.replace(text.find("}\nmodel"), 1, "    normalize x by channel\n}");
  Examples e(128);
  for (float& value : e.x) value = 5 + 3 * value;
  const Model model = Model::from_string(text);
  Session session(model), other(model);
  refuses(GRADC_DATA_ERROR, {"x.channel", "the session's parameters"}, [&] { session.prepare("x", e.x); });
  const TrainResult result = session.train({.parts = {e.part(), e.part("test")}});
  const std::vector<float> x = session.prepare("x", e.x);
  ASSERT_EQ(x.size(), e.x.size());
  double sum = 0, squares = 0;
  for (size_t i = 0; i < x.size(); i += 2) sum += x[i], squares += x[i] * x[i];
  EXPECT_NEAR(sum / 128, 0, 1e-5);
  EXPECT_NEAR(squares / 128, 1, 1e-2);
  EXPECT_EQ(session.evaluate({x, e.label}).loss, result.part("test").loss);
  TemporaryFolder folder;
  session.save(folder.path("w.safetensors"));
  other.load(folder.path("w.safetensors"));
  EXPECT_EQ(other.prepare("x", View(e.x.data(), {128, 2})), x);
  refuses(GRADC_USAGE, {"`y`"}, [&] { session.prepare("y", e.x); });
  refuses(GRADC_USAGE, {"whole numbers"}, [&] { session.prepare("label", e.label); });
  EXPECT_EQ(Session(Model::from_string(product_model())).prepare("x", e.x), e.x);
}

// The program's own loop makes the same steps as the model file's.
TEST(EmbedTrain, AnOwnLoopIsTheSame) {
  const Examples e(96);
  const Model model = Model::from_string(product_model());
  Session own(model), file(model);
  file.train({.epochs = 2, .shuffle = false, .parts = {e.part()}});
  for (int step = 0; step < 6; ++step) {
    own.set_progress(step, step / 3, 6);
    const size_t first = static_cast<size_t>(step % 3) * 32;
    own.step({View(e.x.data() + 2 * first, {32, 2}), View(e.label.data() + first, {32})});
  }
  EXPECT_EQ(all_parameters(own), all_parameters(file));
}

TEST(EmbedTrain, SeveralSessionsAtOnceAreAsAlone) {
  const Examples e(300);
  const auto train = [&](int threads, int64_t seed) {
    return Session(Model::from_string(product_model()), threads)
        .train({.seed = seed, .parts = {e.part()}})
        .weights_sha256;
  };
  const std::vector<std::string> alone = {train(1, 1), train(1, 2), train(1, 3), train(1, 4)};
  EXPECT_NE(alone[0], alone[1]);
  std::vector<std::string> together(4);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&, i] { together[static_cast<size_t>(i)] = train(1 + i % 2, i + 1); });
  }
  EXPECT_EQ(together, alone);
}

TEST(EmbedTrain, OneModelManySessions) {
  const Examples e(64);
  auto model = std::make_unique<Model>(Model::from_string(product_model()));
  Session a(*model), b(*model);
  a.train({.parts = {e.part()}});
  EXPECT_NE(all_parameters(a), all_parameters(b));
  model.reset();  // sessions keep what they need
  EXPECT_EQ(b.train({.parts = {e.part()}}).steps, 8);
  EXPECT_EQ(all_parameters(a), all_parameters(b));
}

// ---- Callbacks and cancelling

TEST(EmbedCallbacks, TellWhatHappens) {
  const Examples e(96);
  Session session(Model::from_string(product_model()));
  std::vector<int64_t> steps, epochs;
  double last = 0, predicted = 0;
  const TrainResult result =
      session.train({.parts = {e.part(), e.part("val")},
                     .on_step =
                         [&](const StepEvent& event) {
                           steps.push_back(event.step);
                           EXPECT_EQ(session.steps(), event.step);
                           EXPECT_EQ(event.total, 12);
                           EXPECT_TRUE(std::isnan(event.grad_norm));
                           last = event.loss;
                           return true;
                         },
                     .on_epoch =
                         [&](const EpochEvent& event) {
                           epochs.push_back(event.epoch);
                           EXPECT_EQ(event.epochs, 4);
                           EXPECT_EQ(event.parts.size(), 2u);
                           EXPECT_EQ(event.parts[1].part, "val");
                           // Within a callback the session may be asked.
                           EXPECT_EQ(session.evaluate({e.x, e.label}).loss, event.parts[1].loss);
                           predicted = session.predict({e.x})[0];
                           return true;
                         }});
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  EXPECT_EQ(epochs, (std::vector<int64_t>{1, 2, 3, 4}));
  EXPECT_GT(last, 0);
  EXPECT_EQ(predicted, session.predict({e.x})[0]);
  EXPECT_EQ(result.part("val").metrics.size(), 1u);
  // They change nothing.
  Session quiet(Model::from_string(product_model()));
  EXPECT_EQ(quiet.train({.parts = {e.part(), e.part("val")}}).weights_sha256, result.weights_sha256);
}

TEST(EmbedCallbacks, EndChangeAndThrow) {
  const Examples e(96);
  Session session(Model::from_string(product_model()));
  const TrainResult ended =
      session.train({.parts = {e.part()}, .on_step = [](const StepEvent& s) { return s.step < 5; }});
  EXPECT_TRUE(ended.cancelled);
  EXPECT_EQ(ended.steps, 5);
  EXPECT_NO_THROW(session.evaluate({e.x, e.label}));
  // The learning rate from the third step on.
  std::vector<double> scheduled, halved;
  session.train({.parts = {e.part()}, .on_step = [&](const StepEvent& s) {
                   scheduled.push_back(s.lr);
                   return true;
                 }});
  session.train({.parts = {e.part()}, .on_step = [&](const StepEvent& s) {
                   halved.push_back(s.lr);
                   if (s.step == 2) session.set_lr_factor(0.5);
                   return true;
                 }});
  ASSERT_EQ(halved.size(), scheduled.size());
  EXPECT_EQ(halved[1], scheduled[1]);
  EXPECT_DOUBLE_EQ(halved[2], scheduled[2] / 2);
  session.set_lr_factor(1);
  EXPECT_THROW(
      session.train({.parts = {e.part()},
                     .on_epoch = [](const EpochEvent&) -> bool { throw std::length_error("mine"); }}),
      std::length_error);
  // What would pull the ground from under the training is refused.
  int refused = 0;
  session.train({.parts = {e.part()}, .on_step = [&](const StepEvent& s) {
                   if (s.step > 1) return true;
                   for (int what = 0; what < 4; ++what) try {
                       if (what == 0) session.step({View(e.x.data(), {32, 2}), View(e.label.data(), {32})});
                       if (what == 1) session.train({.parts = {e.part()}});
                       if (what == 2) session.initialize(1);
                       if (what == 3) session.load("none");
                     } catch (const Error& error) {
                       EXPECT_EQ(error.status(), GRADC_USAGE);
                       EXPECT_NE(std::string(error.what()).find("callback"), std::string::npos)
                           << error.what();
                       ++refused;
                     }
                   return true;
                 }});
  EXPECT_EQ(refused, 4);
}

// A callback in C++ that throws does so within the C interface: no exception leaves it.
TEST(EmbedCallbacks, NoExceptionCrossesC) {
  const Examples e(64);
  Session session(Model::from_string(product_model()));
  const int64_t rows[] = {64};
  const int64_t shape[] = {64, 2};
  const gradc_view fields[] = {{"x", e.x.data(), GRADC_ELEMENT_F32, 2, shape, nullptr},
                               {"label", e.label.data(), GRADC_ELEMENT_I32, 1, rows, nullptr}};
  const gradc_part part = {"train", fields, 2};
  gradc_train_options options;
  gradc_train_options_init(&options);
  options.parts = &part;
  options.part_count = 1;
  options.on_step = [](void*, const gradc_step_event*) -> int32_t { throw std::runtime_error("thrown"); };
  EXPECT_EQ(gradc_session_train(session.c(), &options, nullptr), GRADC_INTERNAL);
  EXPECT_STREQ(gradc_last_error(), "thrown");
  options.on_step = nullptr;
  EXPECT_EQ(gradc_session_train(session.c(), &options, nullptr), GRADC_OK) << gradc_last_error();
}

TEST(EmbedCancel, FromAnotherThread) {
  const Examples e(96);
  TemporaryFolder folder;
  const Model model = Model::from_string(product_model());
  Session session(model);
  const std::string whole = Session(model).train({.epochs = 50, .parts = {e.part()}}).weights_sha256;
  std::atomic<bool> began = false;
  TrainResult cut;
  std::thread training([&] {
    cut = session.train({.epochs = 50,
                         .save = folder.path("c.safetensors"),
                         .parts = {e.part()},
                         .on_step = [&](const StepEvent& s) {
                           if (s.step == 7) began = true;
                           if (s.step >= 7) std::this_thread::sleep_for(std::chrono::milliseconds(2));
                           return true;
                         }});
  });
  while (!began) std::this_thread::yield();
  refuses(GRADC_USAGE, {"another thread is using this session"}, [&] { session.evaluate({e.x, e.label}); });
  session.cancel();
  training.join();
  EXPECT_TRUE(cut.cancelled);
  EXPECT_GE(cut.steps, 7);
  EXPECT_LT(cut.steps, 150);
  session.cancel();  // nothing is under way: nothing happens
  EXPECT_NO_THROW(session.evaluate({e.x, e.label}));
  // From the file it goes on to the same bits.
  EXPECT_EQ(session.train({.resume = folder.path("c.safetensors"), .parts = {e.part()}}).weights_sha256,
            whole);
}

TEST(EmbedCancel, CloseWaitsForTheCallUnderWay) {
  const Examples e(20000);
  for (const bool train : {true, false}) {
    Session session(Model::from_string(product_model("arrays(batch=8, classes=2)")));
    std::atomic<bool> began = false;
    std::atomic<int> status = -1;
    std::thread user([&] {
      try {
        if (train) {
          const bool cancelled = session
                                     .train({.epochs = 1000000,
                                             .parts = {e.part()},
                                             .on_step = [&](const StepEvent&) { return began = true, true; }})
                                     .cancelled;
          status = cancelled ? static_cast<int>(GRADC_CANCELLED) : 0;
        } else {
          for (;;) {
            session.evaluate({e.x, e.label});
            began = true;
          }
        }
      } catch (const Error& error) {
        status = error.status();
      }
    });
    while (!began) std::this_thread::yield();
    session.close();
    user.join();
    // Either the call was cancelled, or the next one found the session closed.
    if (train)
      EXPECT_EQ(status, GRADC_CANCELLED);
    else
      EXPECT_TRUE(status == GRADC_CANCELLED || status == GRADC_USAGE) << status;
    refuses(GRADC_USAGE, {"closed"}, [&] { session.evaluate({e.x, e.label}); });
    refuses(GRADC_USAGE, {"closed"}, [&] { session.train({.parts = {e.part()}}); });
    refuses(GRADC_USAGE, {"closed"}, [&] { session.tensor("dense_1.weight"); });
    refuses(GRADC_USAGE, {"closed"}, [&] { session.save("none"); });
    refuses(GRADC_USAGE, {"closed"}, [&] { session.set_lr_factor(1); });
    EXPECT_EQ(session.batch(), 8);  // what the model is can still be asked
    session.close();
  }
}

TEST(EmbedCancel, CloseAndDestroyInACallback) {
  const Examples e(96);
  Session session(Model::from_string(product_model()));
  EXPECT_TRUE(
      session.train({.parts = {e.part()}, .on_step = [&](const StepEvent&) { return session.close(), true; }})
          .cancelled);
  refuses(GRADC_USAGE, {"closed"}, [&] { session.evaluate({e.x, e.label}); });

  gradc_session* raw = nullptr;
  const Model model = Model::from_string(product_model());
  ASSERT_EQ(gradc_session_create_from_model(model.c(), 1, &raw), GRADC_OK);
  const int64_t rows[] = {96};
  const int64_t shape[] = {96, 2};
  const gradc_view fields[] = {{"x", e.x.data(), GRADC_ELEMENT_F32, 2, shape, nullptr},
                               {"label", e.label.data(), GRADC_ELEMENT_I32, 1, rows, nullptr}};
  const gradc_part part = {"train", fields, 2};
  gradc_train_options options;
  gradc_train_options_init(&options);
  options.parts = &part;
  options.part_count = 1;
  options.user = raw;
  options.on_step = [](void* user, const gradc_step_event*) -> int32_t {
    gradc_session_destroy(static_cast<gradc_session*>(user));
    return 0;
  };
  EXPECT_EQ(gradc_session_train(raw, &options, nullptr), GRADC_CANCELLED);
}

volatile std::sig_atomic_t interrupts = 0;

TEST(EmbedCancel, SignalsAreTheProgramsOwn) {
  const Examples e(96);
  struct sigaction mine{}, old{}, after{};
  mine.sa_handler = [](int) { interrupts = interrupts + 1; };
  sigaction(SIGINT, &mine, &old);
  Session session(Model::from_string(product_model()));
  const TrainResult result =
      session.train({.parts = {e.part()}, .on_step = [](const StepEvent&) { return raise(SIGINT) == 0; }});
  sigaction(SIGINT, &old, &after);
  EXPECT_EQ(interrupts, 12);
  EXPECT_FALSE(result.cancelled);
  EXPECT_EQ(after.sa_handler, mine.sa_handler);
  struct sigaction file_size{};
  sigaction(SIGXFSZ, nullptr, &file_size);
  TemporaryFolder folder;
  session.save(folder.path("w.safetensors"));
  struct sigaction then{};
  sigaction(SIGXFSZ, nullptr, &then);
  EXPECT_EQ(then.sa_handler, file_size.sa_handler);
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
  trained.train({.parts = {e.part()}});
  trained.save(folder.path("w.safetensors"));
  Session session(Model::from_string(product_model(), "m.nn", {.batch = 7, .infer = true}));
  EXPECT_EQ(session.batch(), 7);
  session.load(folder.path("w.safetensors"));
  EXPECT_EQ(session.predict({e.x}), trained.predict({e.x}));
  refuses(GRADC_USAGE, {"without training"}, [&] { session.train({.parts = {e.part()}}); });
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
  refuses(GRADC_USAGE, {"the part `train`", "`label`, which is not given"},
          [&] { s.train({.parts = {{"train", {View("x", e.x)}}}}); });
  refuses(GRADC_DATA_ERROR, {"the part `train`", "`label` has 63 rows"},
          [&] { s.train({.parts = {{"train", {e.x, few}}}}); });
  refuses(GRADC_DATA_ERROR, {"no split `train`", "test"}, [&] { s.train({.parts = {e.part("test")}}); });
  refuses(GRADC_USAGE, {"`train` is given twice"}, [&] { s.train({.parts = {e.part(), e.part()}}); });
  refuses(GRADC_USAGE, {"no name"}, [&] { s.train({.parts = {e.part("")}}); });
  refuses(GRADC_USAGE, {"epochs -7"}, [&] { s.train({.epochs = -7, .parts = {e.part()}}); });
  refuses(GRADC_DATA_ERROR, {"none.safetensors"},
          [&] { s.train({.init_from = "none.safetensors", .parts = {e.part()}}); });
  refuses(GRADC_USAGE, {"starts from one"},
          [&] { s.train({.keep_parameters = true, .resume = "a", .parts = {e.part()}}); });
  e.label[5] = 2;
  refuses(GRADC_DATA_ERROR, {"label 2 of row 5", "0 to 1"}, [&] { s.train({.parts = {e.part()}}); });
  e.label[5] = 1;
  EXPECT_EQ(s.train({.parts = {e.part()}}).steps, 8);
}

TEST(EmbedData, NotFiniteChangesNothing) {
  Examples e(64);
  e.x[40] = std::numeric_limits<float>::quiet_NaN();
  Session s(Model::from_string(product_model()));
  const std::vector<float> before = all_parameters(s);
  refuses(GRADC_NOT_FINITE, {"not finite"},
          [&] { s.step({View(e.x.data(), {32, 2}), View(e.label.data(), {32})}); });
  EXPECT_EQ(all_parameters(s), before);
  refuses(GRADC_NOT_FINITE, {"not finite"}, [&] { s.train({.keep_parameters = true, .parts = {e.part()}}); });
  EXPECT_TRUE(std::isnan(s.evaluate({e.x, e.label}).loss));
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
}  // namespace gradc::test
