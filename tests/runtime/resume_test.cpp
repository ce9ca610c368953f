// Runs that stop and go on, rules that end a run, save it or slow it down, and files that cannot be gone on
// from.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "runtime/execution/checkpoint.h"
#include "runtime/execution/safetensors.h"
#include "runtime/files.h"
#include "runtime/training/train_state.h"
#include "support/diagnostic.h"
#include "tests/runtime/fake_program.h"
#include "tests/runtime/helpers.h"
#include "tests/runtime/training.h"

namespace gradc::runtime::resume_test {
namespace {

using nlohmann::json;
using test::Bench;
using test::expect_error;
using test::FakeOptions;
using test::seen;
using test::TemporaryFolder;

// 100 examples, 4 batches an epoch, 12 updates.
FakeOptions small(const std::string& rules = "", int64_t epochs = 3) {
  FakeOptions fake =
      test::with_data(R"("train":140,"test":20)", R"(,"splits":[{"name":"val","count":40,"from":"train"}])");
  fake.rules = rules;
  fake.epochs = epochs;
  return fake;
}

std::vector<json> without_times(std::vector<json> events) {
  std::erase_if(events,
                [](const json& e) { return e.at("event") == "resume" || e.at("event") == "checkpoint"; });
  for (json& e : events)
    for (const char* key : {"seconds", "examples_per_second", "data_wait_seconds"}) e.erase(key);
  return events;
}

std::string at(const TemporaryFolder& folder, const std::string& name) { return folder.path() + "/" + name; }

class Interrupted : public testing::TestWithParam<int> {};

// The rest of the run says and leaves the same as in a run that never stopped: in the middle of an epoch, at
// its end, at the very end.
TEST_P(Interrupted, GoesOnAsIfItHadNeverStopped) {
  TemporaryFolder folder;
  const std::string file = at(folder, "w.safetensors");
  const std::string rules =
      R"("plateau":{"patience":0,"cooldown":1,"factor":0.5,"threshold":0.5,)"
      R"("monitor":{"split":"val","metric":"loss","greater":false}},)"
      R"("stop":{"patience":5,"monitor":{"split":"val","metric":"accuracy","greater":true}})";
  TrainResult whole;
  std::vector<json> expected;
  {
    Bench bench(small(rules));
    whole = bench.run({.log_every = 1, .json = true});
    expected = without_times(bench.out.events());
  }
  std::vector<json> got;
  {
    Bench bench(small(rules));
    seen().interrupt_at = GetParam();
    const TrainResult half = bench.run({.log_every = 1, .save = file, .json = true});
    EXPECT_TRUE(half.interrupted);
    EXPECT_EQ(half.steps, GetParam());
    got = without_times(bench.out.events());
    got.pop_back();  // its own end
  }
  Bench bench(small(rules));
  const TrainResult rest = bench.run({.log_every = 1, .resume = file, .json = true});
  EXPECT_EQ(rest.weights_sha256, whole.weights_sha256);
  EXPECT_EQ(rest.steps, whole.steps);
  const std::vector<json> later = without_times(bench.out.events());
  got.insert(got.end(), later.begin(), later.end());
  EXPECT_EQ(got, expected);
}
INSTANTIATE_TEST_SUITE_P(Steps, Interrupted, testing::Values(1, 2, 4, 5, 8, 11, 12));

TEST(Resume, FromAFileOfACheckpointRule) {
  TemporaryFolder folder;
  const std::string rule =
      R"("checkpoint":{"every":3,"steps":true,"keep":2,"best":{"split":"","metric":"","greater":false}})";
  Bench whole(small(rule));
  const TrainResult result = whole.run({.checkpoints = at(folder, "c")});
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(at(folder, "c")))
    files.push_back(entry.path().filename());
  std::sort(files.begin(), files.end());
  EXPECT_EQ(files, (std::vector<std::string>{"step-00000009.safetensors", "step-00000012.safetensors"}));
  // As after a kill that left nothing but the file.
  Bench rest(small(rule));
  EXPECT_EQ(rest.run({.resume = at(folder, "c/step-00000009.safetensors"), .checkpoints = at(folder, "c")})
                .weights_sha256,
            result.weights_sha256);
  EXPECT_EQ(seen().calls, 3);
}

TEST(Resume, LengthensARun) {
  TemporaryFolder folder;
  const std::string file = at(folder, "w.safetensors");
  Bench first(small("", 2));
  first.run({.save = file, .save_state = true});
  Bench more(small("", 2));
  const TrainResult result = more.run({.epochs = 5, .resume = file});
  EXPECT_EQ(result.epochs, 5);
  EXPECT_EQ(seen().calls, 12);
  EXPECT_EQ(seen().total, 20);
  Bench nothing(small("", 2));
  EXPECT_EQ(nothing.run({.resume = file}).weights_sha256, weights_sha256(first.session));
  EXPECT_EQ(seen().calls, 0);
}

// The state of a file, changed by `edit`, in another file.
template <class Edit>
void rewrite_state(const std::string& from, const std::string& to, Edit&& edit) {
  const TensorFile file = read_safetensors(from);
  auto metadata = file.metadata;
  json state = json::parse(metadata.at("training"));
  edit(state);
  metadata["training"] = state.dump();
  write_safetensors(to, file.tensors, metadata);
}

// More epochs in the model file than when the run was saved: they are trained, and schedules count them.
TEST(Resume, TrainsEpochsThatTheFileHasGot) {
  TemporaryFolder folder;
  const std::string file = at(folder, "w.safetensors");
  Bench first(small("", 2));
  first.run({.save = file, .save_state = true});
  Bench more(small("", 5));
  const TrainResult result = more.run({.resume = file, .progress = ProgressMode::lines});
  EXPECT_EQ(result.epochs, 5);
  EXPECT_EQ(seen().calls, 12);
  EXPECT_EQ(seen().total, 20);
  EXPECT_NE(more.log.text().find("epochs are 5 now, 2 when "), std::string::npos) << more.log.text();
  EXPECT_NE(more.log.text().find("20 updates in all instead of 8"), std::string::npos) << more.log.text();
  // --epochs overrides the file, and options of the command line belong to the run.
  Bench asked(small("", 5));
  EXPECT_EQ(asked.run({.epochs = 3, .resume = file}).epochs, 3);
  Bench shorter(small("", 5));
  shorter.run({.epochs = 2, .save = file, .save_state = true});
  Bench same(small("", 5));
  EXPECT_EQ(same.run({.resume = file, .progress = ProgressMode::lines}).steps, 8);
  EXPECT_NE(same.log.text().find("this run is complete, its 8 updates are done"), std::string::npos);
  // Files of earlier versions do not say what the model file said.
  rewrite_state(file, at(folder, "old.safetensors"), [](json& state) {
    state.erase("epochs");
    state.erase("dropped");
    for (json& m : state["totals"]["metrics"]) m.erase("examples");
  });
  Bench old(small("", 7));
  EXPECT_EQ(old.run({.resume = at(folder, "old.safetensors")}).steps, 8);
}

// Metrics go on by their names: others that the file has are forgotten, new ones begin here.
TEST(Resume, MatchesMetricsByName) {
  TemporaryFolder folder;
  const std::string half = at(folder, "half.safetensors"), other = at(folder, "other.safetensors");
  json expected;
  {
    Bench whole(small());
    whole.run({.json = true});
    expected = whole.out.events().at(0);
  }
  {
    Bench bench(small());
    seen().interrupt_at = 2;
    bench.run({.save = half, .json = true});
  }
  const auto first_epoch = [&](const std::string& file) {
    Bench bench(small());
    bench.run({.resume = file, .json = true});
    return bench.out.events().at(1);
  };
  rewrite_state(half, other, [](json& state) {
    json& metrics = state["totals"]["metrics"];
    ASSERT_EQ(metrics.size(), 1u);
    const json own = metrics[0];
    metrics = json::array();
    for (const char* name : {"top_k", "error"}) metrics.push_back({{"name", name}, {"sum", 1e9}});
    metrics.insert(metrics.begin() + 1, own);
  });
  const json matched = first_epoch(other);
  EXPECT_EQ(matched.at("event"), "epoch");
  EXPECT_EQ(matched.at("train_accuracy"), expected.at("train_accuracy"));
  EXPECT_EQ(matched.at("train_loss"), expected.at("train_loss"));
  for (const char* gone : {"train_top_k", "train_error"}) EXPECT_FALSE(matched.contains(gone));

  // What the rest of the epoch made alone, as a mean over its 36 examples.
  rewrite_state(half, other, [](json& state) { state["totals"]["metrics"] = json::array(); });
  const json begun = first_epoch(other);
  EXPECT_EQ(begun.at("train_loss"), expected.at("train_loss"));
  const json state = json::parse(read_safetensors(half).metadata.at("training"));
  const double before = state["totals"]["metrics"][0]["sum"], all = expected.at("train_accuracy");
  EXPECT_NEAR(begun.at("train_accuracy").get<double>(), (all * 100 - before) / 36, 1e-12);

  // At an epoch's end, when its evaluation is still to come, there is no number.
  {
    Bench bench(small());
    seen().interrupt_at = 4;
    bench.run({.save = half});
  }
  rewrite_state(half, other, [](json& state) { state["totals"]["metrics"] = json::array(); });
  EXPECT_TRUE(first_epoch(other).at("train_accuracy").is_null());
}

// Names in a file are no paths: only files that a run can have written are removed.
TEST(Resume, RefusesToRemoveWhatIsNoCheckpoint) {
  TemporaryFolder folder;
  const std::string rule =
      R"("checkpoint":{"every":1,"steps":true,"keep":1,"best":{"split":"","metric":"","greater":false}})";
  const std::string files = at(folder, "c"), state = at(folder, "c/step-00000002.safetensors"),
                    hostile = at(folder, "h.safetensors");
  Bench(small(rule)).run({.steps = 2, .checkpoints = files});
  for (const std::string name :
       {"../victim.safetensors", "victim.txt", "../c/../victim.safetensors", "/etc/passwd", "", ".", "..",
        "last", "last.safetensors/", "epoch-.safetensors", "epoch-1.safetensors/../../victim.safetensors",
        "step-1x.safetensors", "Epoch-1.safetensors", "epoch--1.safetensors", "epoch-1.safetensors\n"})
    for (const char* list : {"kept", "dropped"}) {
      const std::string victim = at(folder, "victim.safetensors");
      test::write_bytes(victim, {'v'});
      rewrite_state(state, hostile, [&](json& s) {
        s["kept"] = json::array();
        if (std::string(list) == "kept")
          s["kept"].push_back({{"name", name}, {"value", nullptr}});
        else
          s["dropped"].push_back(name);
      });
      Bench bench(small(rule));
      expect_error(kExitDataError, {"h.safetensors", "among the files of its checkpoints"},
                   [&] { bench.run({.resume = hostile, .checkpoints = files}); });
      EXPECT_TRUE(std::filesystem::exists(victim)) << name;
    }
}

TEST(Resume, RefusesStatesThatNoRunWrites) {
  TemporaryFolder folder;
  const std::string state = at(folder, "s.safetensors"), hostile = at(folder, "h.safetensors");
  Bench(small()).run({.steps = 2, .save = state, .save_state = true});
  for (const char* place : {"/step", "/micro_step", "/epoch", "/update", "/total", "/batch", "/accumulate",
                            "/examples", "/totals/examples", "/stop/epoch", "/stop/bad", "/plateau/bad",
                            "/plateau/cooldown", "/epochs", "/totals/metrics/0/examples"})
    for (const json& value : {json(-1), json(1e300), json(0.5), json(UINT64_MAX), json("1"), json(nullptr)}) {
      rewrite_state(state, hostile, [&](json& s) { s[json::json_pointer(place)] = value; });
      Bench bench(small());
      expect_error(kExitDataError, {"h.safetensors"}, [&] { bench.run({.resume = hostile}); });
      EXPECT_EQ(seen().calls, 0) << place << " " << value;
    }
}

// A kill after the new file is there and before the old one is gone: the run that goes on removes it.
TEST(Resume, RemovesWhatAKilledRunDidNotComeTo) {
  TemporaryFolder folder;
  const std::string rule =
      R"("checkpoint":{"every":1,"steps":true,"keep":2,"best":{"split":"","metric":"","greater":false}})";
  const std::string files = at(folder, "c");
  const auto file = [&](int step) { return "step-0000000" + std::to_string(step) + ".safetensors"; };
  const auto there = [&] {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(files))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  };
  Bench(small(rule)).run({.steps = 3, .checkpoints = files});
  EXPECT_EQ(there(), (std::vector<std::string>{file(2), file(3)}));
  const std::string kept = at(folder, "kept");
  std::filesystem::copy(at(folder, "c/" + file(2)), kept);
  Bench(small(rule)).run({.steps = 4, .resume = at(folder, "c/" + file(3)), .checkpoints = files});
  EXPECT_EQ(there(), (std::vector<std::string>{file(3), file(4)}));
  std::filesystem::copy(kept, at(folder, "c/" + file(2)));  // as if step 4's file had just been renamed
  test::write_bytes(at(folder, "c/" + file(5) + ".tmp-3fffffff-0"), {'h'});
  const auto go_on = [&](const FakeOptions& fake) {
    Bench bench(fake);
    return bench.run({.steps = 4, .resume = at(folder, "c/" + file(4)), .checkpoints = files});
  };
  go_on(small(rule));
  EXPECT_EQ(there(), (std::vector<std::string>{file(3), file(4)}));

  // A file of that name that another run wrote stays: here one with another seed.
  Bench(small(rule)).run({.steps = 2, .seed = 9, .checkpoints = at(folder, "d")});
  std::filesystem::copy(at(folder, "d/" + file(2)), at(folder, "c/" + file(2)));
  go_on(small(rule));
  EXPECT_EQ(there(), (std::vector<std::string>{file(2), file(3), file(4)}));
  test::write_bytes(at(folder, "c/" + file(2)), {'?'});
  go_on(small(rule));
  EXPECT_EQ(there(), (std::vector<std::string>{file(2), file(3), file(4)}));
}

// Missing folders of checkpoints and of --save are created.
TEST(Rules, FoldersThatAreMovedAwayAreMadeAgain) {
  TemporaryFolder folder;
  const std::string rule =
      R"("checkpoint":{"every":1,"steps":false,"keep":0,"best":{"split":"","metric":"","greater":false}})";
  std::filesystem::create_directory(at(folder, "s"));
  struct Observer final : TrainObserver {
    explicit Observer(std::string f) : folder(std::move(f)) {}
    bool cancelled() override { return false; }
    void step_done(const StepReport& report) override {
      if (report.step != 6) return;
      std::filesystem::rename(folder + "/c", folder + "/away");
      std::filesystem::rename(folder + "/s", folder + "/gone");
    }
    void epoch_done(const EpochReport&) override {}
    std::optional<double> new_lr_factor() override { return std::nullopt; }
    std::string folder;
  } observer(folder.path());
  Bench bench(small(rule));
  const TrainResult result = bench.run(
      {.save = at(folder, "s/w.safetensors"), .checkpoints = at(folder, "c"), .observer = &observer});
  EXPECT_EQ(result.epochs, 3);
  for (const char* file : {"away/epoch-0001.safetensors", "c/epoch-0002.safetensors",
                           "c/epoch-0003.safetensors", "s/w.safetensors"})
    EXPECT_TRUE(std::filesystem::exists(at(folder, file))) << file;
}

TEST(Resume, RefusesWhatIsNotItsRun) {
  TemporaryFolder folder;
  const std::string weights = at(folder, "w.safetensors"), state = at(folder, "s.safetensors");
  {
    Bench bench(small());
    bench.run({.steps = 3, .save = weights});
    Bench again(small());
    again.run({.steps = 3, .save = state, .save_state = true});
  }
  const auto refuses = [&](int code, const std::vector<std::string>& parts, TrainOptions options,
                           const FakeOptions& fake) {
    Bench bench(fake);
    expect_error(code, parts, [&] { bench.run(options); });
  };
  refuses(kExitDataError, {"w.safetensors", "weights alone", "--save-state", "--init-from"},
          {.resume = weights}, small());
  refuses(kExitUsage, {"seed 7", "--seed says 8"}, {.seed = 8, .resume = state}, small());
  refuses(kExitUsage, {"--no-shuffle"}, {.shuffle = false, .resume = state}, small());
  refuses(kExitUsage, {"--resume and --init-from"}, {.init_from = weights, .resume = state}, small());
  refuses(kExitUsage, {"--save-state", "--save FILE"}, {.save_state = true}, small());
  refuses(kExitUsage, {"--checkpoints", "no rule"}, {.checkpoints = at(folder, "c")}, small());
  refuses(kExitDataError, {"100 training examples", "there are 1000"}, {.resume = state}, FakeOptions());
  FakeOptions other = small();
  other.batch = 16;
  other.data.replace(other.data.find("\"batch\":32"), 10, "\"batch\":16");
  refuses(kExitDataError, {"batches of 32", "of 16"}, {.resume = state}, other);
  refuses(kExitDataError, {"no split `holdout`", "stop"}, {},
          small(R"("stop":{"patience":1,"monitor":{"split":"holdout","metric":"loss","greater":false}})"));

  // Cut short, altered, of another version, without a slot.
  const std::vector<uint8_t> bytes = read_file(state, "weights file");
  const auto write = [&](const std::string& name, const std::vector<uint8_t>& content) {
    OutputFile out(at(folder, name), "test");
    out.write(content.data(), content.size());
    out.commit();
    return at(folder, name);
  };
  refuses(kExitDataError, {"cut.safetensors"},
          {.resume = write("cut.safetensors", {bytes.begin(), bytes.end() - 100})}, small());
  refuses(kExitDataError, {"empty.safetensors"}, {.resume = write("empty.safetensors", {})}, small());
  const TensorFile file = read_safetensors(state);
  const auto with = [&](const std::string& training) {
    auto metadata = file.metadata;
    metadata["training"] = training;
    write_safetensors(at(folder, "m.safetensors"), file.tensors, metadata);
    return at(folder, "m.safetensors");
  };
  refuses(kExitDataError, {"m.safetensors", "does not read"}, {.resume = with("{")}, small());
  refuses(kExitDataError, {"m.safetensors", "does not read"}, {.resume = with("{\"version\":1}")}, small());
  refuses(kExitDataError, {"version 99"}, {.resume = with("{\"version\":99}")}, small());
  auto tensors = file.tensors;
  tensors.erase("dense_1.weight.v");
  write_safetensors(at(folder, "slot.safetensors"), tensors, file.metadata);
  refuses(kExitDataError, {"dense_1.weight.v: missing"}, {.resume = at(folder, "slot.safetensors")}, small());
}

TEST(Rules, StopPutsTheBestWeightsBack) {
  // The rate is so large that the loss soon stops falling.
  const std::string rule =
      R"("stop":{"patience":2,"monitor":{"split":"val","metric":"loss","greater":false}})";
  TemporaryFolder folder;
  Bench bench(small(rule, 200));
  const std::string file = at(folder, "w.safetensors");
  const TrainResult result = bench.run({.lr_factor = 40, .save = file, .save_state = true, .json = true});
  EXPECT_LT(result.epochs, 200);
  EXPECT_EQ(result.best_epoch, result.epochs - 2);
  double best = INFINITY, at_best = 0;
  for (const json& e : bench.out.events()) {
    if (e.at("event") != "epoch") continue;
    best = std::min(best, e.at("val_loss").get<double>());
    if (e.at("epoch") == result.best_epoch) at_best = e.at("val_loss");
  }
  EXPECT_EQ(best, at_best);
  EXPECT_EQ(bench.session.evaluate(bench.data.split("val")).loss, best);
  Bench again(small(rule, 200));
  expect_error(kExitDataError, {"has ended", "--init-from"}, [&] { again.run({.resume = file}); });
  // Patience of more epochs than there are: the best still.
  Bench all(small(R"("stop":{"patience":99,"monitor":{"split":"val","metric":"loss","greater":false}})", 4));
  EXPECT_GT(all.run({.lr_factor = 40}).best_epoch, 0);
}

// torch.optim.lr_scheduler.ReduceLROnPlateau, PyTorch 2.13: step(v) for each value, and the rate after it.
TEST(Rules, PlateauFollowsPyTorch) {
  const std::vector<double> values = {1.0,  0.9,  0.95, 0.95, 0.95, 0.94, 0.8999, 0.93, 0.92,
                                      0.91, 0.92, 0.95, 0.5,  0.51, 0.52, 0.53,   0.54, 0.55};
  const PlateauRule rule{2, 1, 0.5, 1e-3, {"val", "loss", false}};
  const std::vector<double> expected = {1.0,  1.0,  1.0,  1.0,  0.5,  0.5,  0.5,   0.5,   0.25,
                                        0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125};
  PlateauState state;
  std::vector<double> got;
  for (const double v : values) {
    state.add(v, rule);
    got.push_back(state.factor);
  }
  EXPECT_EQ(got, expected);
  PlateauState rising;
  EXPECT_TRUE(rising.add(NAN, {0, 0, 0.5, 0, {"val", "accuracy", true}}));
  EXPECT_EQ(rising.factor, 0.5);  // what is not a number is no progress
}

TEST(Rules, PlateauSlowsTheRun) {
  const std::string rule = R"("plateau":{"patience":0,"cooldown":0,"factor":0.5,"threshold":0.9,)"
                           R"("monitor":{"split":"train","metric":"loss","greater":false}})";
  Bench bench(small(rule, 4));
  bench.run({.lr_factor = 0.25, .json = true});
  EXPECT_EQ(seen().lr_factor, 0.25 * 0.25);  // after epochs 2 and 3
  int events = 0;
  for (const json& e : bench.out.events()) events += e.at("event") == "plateau";
  EXPECT_EQ(events, 3);
}

TEST(Rules, FilesKept) {
  const auto names = [](const std::vector<KeptFile>& files) {
    std::string text;
    for (const KeptFile& f : files) text += f.name;
    return text;
  };
  const CheckpointRule last{1, false, 2, {}}, best{1, false, 2, {"val", "accuracy", true}},
      all{1, false, 0, {}};
  std::vector<KeptFile> files;
  std::string kept;
  for (const auto& [name, value] : std::vector<std::pair<std::string, double>>{
           {"a", 0.5}, {"b", 0.9}, {"c", NAN}, {"d", 0.7}, {"e", 0.6}, {"f", 0.9}}) {
    files.push_back({name, value});
    drop_files(files, best);
    kept += names(files) + " ";
  }
  EXPECT_EQ(kept, "a ab abc bd bde bf ");
  files = {{"a", 1}, {"b", 2}, {"c", 3}};
  EXPECT_EQ(drop_files(files, last), (std::vector<std::string>{"a"}));
  EXPECT_EQ(names(files), "bc");
  EXPECT_TRUE(drop_files(files, all).empty());
}

TEST(Rules, BestFilesStayOnDisk) {
  TemporaryFolder folder;
  Bench bench(small(
      R"("checkpoint":{"every":1,"steps":false,"keep":1,"best":{"split":"val","metric":"loss","greater":true}})",
      4));
  bench.run({.checkpoints = at(folder, "c"), .json = true});
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(at(folder, "c")))
    files.push_back(entry.path().filename());
  std::sort(files.begin(), files.end());
  // The highest loss is the first epoch's; the newest always stays.
  EXPECT_EQ(files, (std::vector<std::string>{"epoch-0001.safetensors", "epoch-0004.safetensors"}));
  int events = 0;
  for (const json& e : bench.out.events()) events += e.at("event") == "checkpoint";
  EXPECT_EQ(events, 4);
}

TEST(TrainState, ReadsBackWhatItWrites) {
  TrainState s;
  s.seed = UINT64_MAX;
  s.total = 77;
  s.lr_factor = 0.1;
  s.step = 5;
  s.epochs = 11;
  s.totals.kept_examples = 64;
  s.totals.kept = {{"loss", 1.0 / 3, 64}, {"accuracy", 40, 64}, {"error", 3, 32}};
  s.stop = {NAN, 0, 2};
  s.plateau = {0.001, 0.1 + 0.2, 1, 2};
  s.kept = {{"epoch-0001.safetensors", NAN}, {"epoch-0002.safetensors", 0.5}};
  s.dropped = {"step-00000007.safetensors", "last.safetensors"};
  EXPECT_EQ(TrainState::parse(s.json(), "x").json(), s.json());
  EXPECT_EQ(TrainState::parse(s.json(), "x").plateau.best, 0.1 + 0.2);
}

}  // namespace
}  // namespace gradc::runtime::resume_test
