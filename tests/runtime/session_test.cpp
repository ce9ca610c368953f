// A session on a program written by hand without training: checkpoints, hashes, evaluation, prediction.
#include "runtime/training/train.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/data/npy.h"
#include "runtime/execution/checkpoint.h"
#include "runtime/execution/predict.h"
#include "runtime/execution/safetensors.h"
#include "runtime/files.h"
#include "runtime/sha256.h"
#include "support/diagnostic.h"
#include "tests/runtime/fake_program.h"
#include "tests/runtime/helpers.h"
#include "tests/runtime/training.h"

namespace gradc::runtime::session_test {
namespace {

using nlohmann::json;
using test::expect_error;
using test::fake_program;
using test::FakeOptions;
using test::seen;
using test::TemporaryFolder;

using test::Bench;
using test::Stream;
using test::with_data;

TEST(Checkpoint, ListsWhatDoesNotFit) {
  TemporaryFolder folder;
  Bench bench;
  bench.session.initialize(1);
  save_checkpoint(bench.session, folder / "w", {.slots = true});
  TensorFile file = read_safetensors(folder / "w");
  EXPECT_EQ(file.tensors.size(), 5u);
  load_checkpoint(bench.session, folder / "w");
  const std::string before = weights_sha256(bench.session);
  auto tensors = file.tensors;
  tensors["dense1.weight"] = tensors["dense_1.weight"];
  tensors.erase("dense_1.weight");
  tensors["dense_1.bias"].shape = {2, 5};
  tensors["dense_1.bias"].data = file.tensors["dense_1.weight"].data;
  tensors["seen"].dtype = "I32";
  tensors.erase("dense_1.weight.v");
  write_safetensors(folder / "wrong", tensors, {});
  expect_error(kExitDataError,
               {"softmax.nn", "dense_1.weight: missing; expected F32[10, 784] (the file has `dense1.weight`)",
                "dense_1.bias: expected F32[10], found F32[2, 5]", "seen: expected F32[], found I32[]",
                "dense1.weight: the model has no such parameter; did you mean `dense_1.weight`?"},
               [&] { load_checkpoint(bench.session, folder / "wrong"); });
  EXPECT_EQ(weights_sha256(bench.session), before);
  tensors = file.tensors;
  for (int i = 0; i < 30; ++i) tensors["more" + std::to_string(i)] = tensors["seen"];
  write_safetensors(folder / "more", tensors, {});
  expect_error(kExitDataError, {"and 20 more"}, [&] { load_checkpoint(bench.session, folder / "more"); });
}

TEST(Checkpoint, HashCoversNamesShapesAndBytes) {
  Bench bench;
  bench.session.initialize(1);
  const std::string first = weights_sha256(bench.session);
  // As the header defines it, piece by piece.
  Sha256 expected;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
    expected.add(name.c_str(), name.size() + 1);
    const auto rank = static_cast<int64_t>(shape.size());
    expected.add(&rank, 8);
    int64_t bytes = 4;
    for (int64_t extent : shape) {
      expected.add(&extent, 8);
      bytes *= extent;
    }
    expected.add(bench.session.data(*bench.session.find(name)), static_cast<size_t>(bytes));
  };
  add("dense_1.bias", {10});
  add("dense_1.weight", {10, 784});
  add("seen", {});
  EXPECT_EQ(first, expected.hex());
  uint8_t* byte = bench.session.data(*bench.session.find("seen"));
  byte[0] ^= 1;
  EXPECT_NE(weights_sha256(bench.session), first);
  byte[0] ^= 1;
  EXPECT_EQ(weights_sha256(bench.session), first);
  bench.session.data(*bench.session.find("dense_1.weight.v"))[0] ^= 1;  // a slot is no weight
  EXPECT_EQ(weights_sha256(bench.session), first);
}

TEST(Session, RefusesAnotherInterface) {
  gradc_program program = fake_program();
  program.abi_version = 99;
  expect_error(kExitRunFailed, {"version 99", "compile it again"}, [&] { Session session(program, 1); });
}

TEST(Session, SaysThatMemoryIsShort) {
  gradc_program program = fake_program();
  program.train_step.arena_bytes = int64_t{1} << 45;
  expect_error(kExitRunFailed, {"not enough memory for the activations"},
               [&] { Session session(program, 1); });
}

TEST(Eval, AgreesForAnyBatchAndThreads) {
  double losses[3];
  int i = 0;
  for (const auto& [batch, threads] : {std::pair{32, 1}, std::pair{7, 2}, std::pair{1000, 3}}) {
    Bench bench(with_data(R"("train":100,"test":45)", "", batch), threads);
    bench.session.initialize(5);
    const EvalResult result = bench.session.evaluate(bench.data.split("test"));
    EXPECT_EQ(result.examples, 45);
    losses[i++] = result.loss;
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-6);
  EXPECT_NEAR(losses[0], losses[2], 1e-6);
}

TEST(Eval, WritesItsResult) {
  Bench bench(with_data(R"("train":100,"test":45)"));
  bench.session.initialize(5);
  const Split& split = split_to_use(bench.data, "");
  EXPECT_EQ(split.name, "test");
  const EvalResult result = run_eval(bench.session, split, true, bench.out);
  const json event = bench.out.events().at(0);
  EXPECT_EQ(event.at("event"), "eval");
  EXPECT_EQ(event.at("split"), "test");
  EXPECT_EQ(event.at("examples"), 45);
  EXPECT_EQ(event.at("loss").get<double>(), result.loss);
  EXPECT_EQ(event.at("accuracy").get<double>(), metric_of(result.metrics, "accuracy"));
  Stream text;
  run_eval(bench.session, split, false, text);
  EXPECT_NE(text.text().find("test accuracy"), std::string::npos);
}

TEST(Eval, WritesValidJsonForWhatIsNotFinite) {
  Bench bench(with_data(R"("train":100,"test":45)"));
  bench.session.initialize(5);
  const float nan = NAN;
  std::memcpy(bench.session.data(*bench.session.find("dense_1.bias")), &nan, 4);
  expect_error(kExitCheckFailed, {"`test`", "not finite"},
               [&] { run_eval(bench.session, bench.data.split("test"), true, bench.out); });
  EXPECT_TRUE(bench.out.events().at(0).at("loss").is_null()) << bench.out.text();
}

TEST(Predict, WritesNpyAndCsv) {
  TemporaryFolder folder;
  Bench bench(with_data(R"("train":100,"test":45)"), 2);
  bench.run({.epochs = 1});
  const Split& split = bench.data.split("test");
  EXPECT_EQ(run_predict(bench.session, {.split = &split, .output = folder / "p.npy"}), 45);
  EXPECT_EQ(run_predict(bench.session, {.split = &split, .output = folder / "p.csv"}), 45);
  const NpyArray array = read_npy(folder / "p.npy");
  EXPECT_EQ(array.shape, (std::vector<int64_t>{45, 10}));
  std::vector<float> values(450);
  std::memcpy(values.data(), array.bytes.data(), 1800);
  std::istringstream csv(test::read_text(folder / "p.csv"));
  std::string line;
  std::getline(csv, line);
  EXPECT_EQ(
      line,
      "predict_0,predict_1,predict_2,predict_3,predict_4,predict_5,predict_6,predict_7,predict_8,predict_9");
  int hits = 0;
  for (size_t row = 0; row < 45; ++row) {
    ASSERT_TRUE(std::getline(csv, line));
    std::istringstream cells(line);
    float total = 0;
    size_t best = 0;
    for (size_t column = 0; column < 10; ++column) {
      std::string cell;
      std::getline(cells, cell, ',');
      EXPECT_EQ(std::stof(cell), values[row * 10 + column]);
      total += values[row * 10 + column];
      if (values[row * 10 + column] > values[row * 10 + best]) best = column;
    }
    EXPECT_NEAR(total, 1, 1e-5);
    hits += static_cast<int32_t>(best) == split.table->fields[1].integers[row];
  }
  EXPECT_FALSE(std::getline(csv, line));
  EXPECT_NEAR(hits / 45.0, metric_of(bench.session.evaluate(split).metrics, "accuracy"), 1e-6);
}

TEST(Predict, ReadsNpy) {
  TemporaryFolder folder;
  Bench bench(with_data(R"("train":100,"test":45)"));
  bench.session.initialize(3);
  const Split& split = bench.data.split("test");
  run_predict(bench.session, {.split = &split, .output = folder / "expected.npy"});
  const auto& pixels = split.table->fields[0].bytes;
  const auto write = [&](const std::string& name, const std::string& header, const void* data, size_t size) {
    OutputFile file(folder / name, "input");
    file.write(header);
    file.write(data, size);
    file.commit();
  };
  write("u8.npy", npy_header("|u1", {45, 1, 28, 28}), pixels.data(), pixels.size());
  write("flat.npy", npy_header("|u1", {45, 784}), pixels.data(), pixels.size());
  std::vector<float> floats;
  for (uint8_t pixel : pixels) floats.push_back(static_cast<float>(pixel) / 255.0f);
  write("f32.npy", npy_header("<f4", {45, 28, 28}), floats.data(), floats.size() * 4);
  for (const char* name : {"u8.npy", "flat.npy", "f32.npy"}) {
    EXPECT_EQ(run_predict(bench.session, {.inputs = {{"", folder / name}}, .output = folder / "found.npy"}),
              45);
    EXPECT_EQ(test::read_bytes(folder / "found.npy"), test::read_bytes(folder / "expected.npy")) << name;
  }
  const auto predict = [&](const std::string& input, const std::string& name) {
    run_predict(bench.session, {.inputs = {{name, folder / input}}, .output = folder / "never.npy"});
  };
  write("wide.npy", npy_header("<f4", {45, 785}), nullptr, 0);
  expect_error(kExitDataError, {"wide.npy", "0 follow"}, [&] { predict("wide.npy", ""); });
  const std::vector<float> zeros(785 * 2);
  write("wide.npy", npy_header("<f4", {2, 785}), zeros.data(), zeros.size() * 4);
  expect_error(kExitDataError, {"f32[1, 28, 28]", "f32[785]"}, [&] { predict("wide.npy", ""); });
  write("empty.npy", npy_header("<f4", {0, 784}), nullptr, 0);
  expect_error(kExitDataError, {"no examples"}, [&] { predict("empty.npy", ""); });
  write("hollow.npy", npy_header("<f4", {3, 0}), nullptr, 0);
  expect_error(kExitDataError, {"no numbers"}, [&] { predict("hollow.npy", ""); });
  write("int.npy", npy_header("<i4", {1, 784}), zeros.data(), 784 * 4);
  expect_error(kExitDataError, {"'<i4'", "f32[1, 28, 28]", "'|u1'"}, [&] { predict("int.npy", ""); });
  expect_error(kExitUsage, {"no input `digits.imag`", "did you mean `digits.image`"},
               [&] { predict("u8.npy", "digits.imag"); });
  expect_error(kExitUsage, {".npy or .csv"},
               [&] { run_predict(bench.session, {.split = &split, .output = folder / "p.txt"}); });
  expect_error(kExitRunFailed, {"No such file"},
               [&] { run_predict(bench.session, {.split = &split, .output = folder / "none/p.npy"}); });
  EXPECT_FALSE(std::filesystem::exists(folder / "never.npy"));
}

TEST(Predict, NeedsAPrediction) {
  FakeOptions fake;
  fake.predict = false;
  Bench bench(fake);
  bench.session.initialize(3);
  expect_error(kExitModelError, {"softmax.nn", "predict softmax(logits)"},
               [&] { run_predict(bench.session, {.split = &bench.data.split("test"), .output = "x.npy"}); });
}

}  // namespace
}  // namespace gradc::runtime::session_test
