// Training through the library's public headers: the bits of the tool, several sessions, callbacks,
// cancelling.
#include <atomic>
#include <csignal>
#include <cstring>
#include <fstream>
#include <thread>

#include "tests/capi/helpers.h"

namespace gradc::test::embed_train_test {
namespace {

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
    EXPECT_EQ(result.split("test").loss, tool.at("test_loss"));
    EXPECT_EQ(result.split("test").metric("accuracy"), tool.at("test_accuracy"));
    EXPECT_EQ(result.split("train").loss, tool.at("train_loss"));
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
    const TrainResult result = session.train({.steps = 3, .splits = {e.split()}});
    EXPECT_EQ(result.steps, 3);
    EXPECT_EQ(session.batch(), 4096);  // pieces are not the caller's
    return std::pair(has_gradient_sums(session), result.split("train").loss);
  };
  const auto [whole_adds_up, loss] = train(0);
  const auto [pieces_add_up, same] = train(700000);
  EXPECT_FALSE(whole_adds_up);
  EXPECT_TRUE(pieces_add_up);
  EXPECT_NEAR(same, loss, 1e-6);  // dropout draws what it draws for the whole batch
  refuses(GRADC_USAGE, {"10.0 kB", "the least found"},
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
  const TrainResult result = session.train({.splits = {e.split()}});
  EXPECT_EQ(result.weights_sha256, last_event(tool).at("weights_sha256"));
  EXPECT_EQ(result.split("val").loss, last_event(tool).at("metrics").at("val_loss"));
  // A split that is given is not cut from another.
  const Examples val(40);
  const TrainResult given = session.train({.splits = {e.split(), val.split("val"), val.split("test")}});
  EXPECT_EQ(given.split("val").loss, given.split("test").loss);
  EXPECT_NE(given.split("val").loss, result.split("val").loss);
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
          .train({.splits = {{"train", {View("x", View(bytes.data(), {64, 2})), View("label", label)}}}})
          .weights_sha256;
  EXPECT_EQ(a, Session(model).train({.splits = {{"train", {floats, label}}}}).weights_sha256);
}

// What `normalize` was fitted to in training prepares what is predicted on, also after saving and loading.
TEST(EmbedTrain, PreparesAsItWasTrained) {
  std::string text = product_model();
  text.replace(text.find("}\nmodel"), 1, "    normalize x by channel\n}");
  Examples e(128);
  for (float& value : e.x) value = 5 + 3 * value;
  const Model model = Model::from_string(text);
  Session session(model), other(model);
  refuses(GRADC_DATA_ERROR, {"x.channel", "the session's parameters: nothing is known there", "train first"},
          [&] { session.prepare("x", e.x); });
  const TrainResult result = session.train({.splits = {e.split(), e.split("test")}});
  const std::vector<float> x = session.prepare("x", e.x);
  ASSERT_EQ(x.size(), e.x.size());
  double sum = 0, squares = 0;
  for (size_t i = 0; i < x.size(); i += 2) sum += x[i], squares += x[i] * x[i];
  EXPECT_NEAR(sum / 128, 0, 1e-5);
  EXPECT_NEAR(squares / 128, 1, 1e-2);
  EXPECT_EQ(session.evaluate({x, e.label}).loss, result.split("test").loss);
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
  file.train({.epochs = 2, .shuffle = false, .splits = {e.split()}});
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
        .train({.seed = seed, .splits = {e.split()}})
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
  a.train({.splits = {e.split()}});
  EXPECT_NE(all_parameters(a), all_parameters(b));
  model.reset();  // sessions keep what they need
  EXPECT_EQ(b.train({.splits = {e.split()}}).steps, 8);
  EXPECT_EQ(all_parameters(a), all_parameters(b));
}

// ---- Callbacks and cancelling

TEST(EmbedCallbacks, TellWhatHappens) {
  const Examples e(96);
  Session session(Model::from_string(product_model()));
  std::vector<int64_t> steps, epochs;
  double last = 0, predicted = 0;
  const TrainResult result =
      session.train({.splits = {e.split(), e.split("val")},
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
                           EXPECT_EQ(event.splits.size(), 2u);
                           EXPECT_EQ(event.splits[1].split, "val");
                           // Within a callback the session may be asked.
                           EXPECT_EQ(session.evaluate({e.x, e.label}).loss, event.splits[1].loss);
                           predicted = session.predict({e.x})[0];
                           return true;
                         }});
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
  EXPECT_EQ(epochs, (std::vector<int64_t>{1, 2, 3, 4}));
  EXPECT_GT(last, 0);
  EXPECT_EQ(predicted, session.predict({e.x})[0]);
  EXPECT_EQ(result.split("val").metrics.size(), 1u);
  // They change nothing.
  Session quiet(Model::from_string(product_model()));
  EXPECT_EQ(quiet.train({.splits = {e.split(), e.split("val")}}).weights_sha256, result.weights_sha256);
}

TEST(EmbedCallbacks, EndChangeAndThrow) {
  const Examples e(96);
  Session session(Model::from_string(product_model()));
  const TrainResult ended =
      session.train({.splits = {e.split()}, .on_step = [](const StepEvent& s) { return s.step < 5; }});
  EXPECT_TRUE(ended.cancelled);
  EXPECT_EQ(ended.steps, 5);
  EXPECT_NO_THROW(session.evaluate({e.x, e.label}));
  // The learning rate from the third step on.
  std::vector<double> scheduled, halved;
  session.train({.splits = {e.split()}, .on_step = [&](const StepEvent& s) {
                   scheduled.push_back(s.lr);
                   return true;
                 }});
  session.train({.splits = {e.split()}, .on_step = [&](const StepEvent& s) {
                   halved.push_back(s.lr);
                   if (s.step == 2) session.set_lr_factor(0.5);
                   return true;
                 }});
  ASSERT_EQ(halved.size(), scheduled.size());
  EXPECT_EQ(halved[1], scheduled[1]);
  EXPECT_DOUBLE_EQ(halved[2], scheduled[2] / 2);
  session.set_lr_factor(1);
  EXPECT_THROW(
      session.train({.splits = {e.split()},
                     .on_epoch = [](const EpochEvent&) -> bool { throw std::length_error("mine"); }}),
      std::length_error);
  // What would pull the ground from under the training is refused.
  int refused = 0;
  session.train({.splits = {e.split()}, .on_step = [&](const StepEvent& s) {
                   if (s.step > 1) return true;
                   for (int what = 0; what < 4; ++what) try {
                       if (what == 0) session.step({View(e.x.data(), {32, 2}), View(e.label.data(), {32})});
                       if (what == 1) session.train({.splits = {e.split()}});
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
  TrainOnC c(e);
  gradc_train_options& options = c.options;
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
  const std::string whole = Session(model).train({.epochs = 50, .splits = {e.split()}}).weights_sha256;
  std::atomic<bool> began = false;
  TrainResult cut;
  std::thread training([&] {
    cut = session.train({.epochs = 50,
                         .save = folder.path("c.safetensors"),
                         .splits = {e.split()},
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
  EXPECT_EQ(session.train({.resume = folder.path("c.safetensors"), .splits = {e.split()}}).weights_sha256,
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
                                             .splits = {e.split()},
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
    refuses(GRADC_USAGE, {"closed"}, [&] { session.train({.splits = {e.split()}}); });
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
      session
          .train({.splits = {e.split()}, .on_step = [&](const StepEvent&) { return session.close(), true; }})
          .cancelled);
  refuses(GRADC_USAGE, {"closed"}, [&] { session.evaluate({e.x, e.label}); });

  gradc_session* raw = nullptr;
  const Model model = Model::from_string(product_model());
  ASSERT_EQ(gradc_session_create_from_model(model.c(), 1, &raw), GRADC_OK);
  TrainOnC c(e);
  gradc_train_options& options = c.options;
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
      session.train({.splits = {e.split()}, .on_step = [](const StepEvent&) { return raise(SIGINT) == 0; }});
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

// ---- Models of characters

TEST(EmbedSample, SaysWhatTheToolSays) {
  const std::string text =
      "data d = text(length=16, vocabulary=40, batch=16, characters=2000)\n"
      "model net(tokens: i32[16]) {\n"
      "    x = embedding(tokens, 40, 16)\n"
      "    return dense(x + multi_head_attention(x, 2, causal=true), 40)\n}\n"
      "train {\n    logits = net(d.tokens)\n    loss mean(cross_entropy(logits, d.next))\n"
      "    predict softmax(logits)\n    optimizer adam(lr=1e-2)\n    epochs 1\n}\n";
  TemporaryFolder folder;
  folder.write("m.nn", text);
  Session s(Model::from_string(text));
  refuses(GRADC_MODEL_ERROR, {"no vocabulary"}, [&] { s.sample(); });
  s.train({.steps = 20, .save = folder.path("w.st")});
  const std::string made = s.sample({.prompt = "The ", .length = 40, .temperature = 0.8, .seed = 9});
  const ToolResult tool = run_tool({"sample", "m.nn", "--weights", "w.st", "--prompt", "The ", "--length",
                                    "40", "--temperature", "0.8", "--seed", "9"},
                                   folder.path());
  EXPECT_EQ(made + "\n", tool.out) << tool.err;
  EXPECT_EQ(s.sample({.prompt = "T", .length = 0}), "T");
  refuses(GRADC_USAGE, {"does not know the character `@`"}, [&] { s.sample({.prompt = "@"}); });
  refuses(GRADC_USAGE, {"temperature"}, [&] { s.sample({.prompt = "T", .temperature = -1}); });
  refuses(GRADC_MODEL_ERROR, {"cannot be sampled from"},
          [&] { Session(Model::from_string(product_model())).sample(); });
}

}  // namespace
}  // namespace gradc::test::embed_train_test
