// What `gradc recipe` concludes from trials: each verdict and each remark on curves, from trials made up so
// that they show one thing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "cli/recipe/recipe.h"

namespace gradc::cli::recipe_verdicts_test {
namespace {

RecipeModel model() {
  RecipeModel m;
  m.losses = {{"", 1, std::log(10.0)}};
  m.metrics = {{"accuracy", true}};
  m.optimizer = "sgd";
  m.lr = 0.1;
  return m;
}

const Monitor kAccuracy = {"val", "accuracy", true};

// A trial of 10 epochs of 20 updates; `loss` of an update's share of the run, `train` and `val` accuracy and
// val loss of an epoch.
struct Curves {
  std::function<double(double)> loss = [](double at) { return 2.3 * std::exp(-3 * at); };
  std::function<double(int)> train = [](int epoch) { return 0.5 + 0.04 * epoch; };
  std::function<double(int)> val = [](int epoch) { return epoch < 6 ? 0.5 + 0.07 * epoch : 0.87; };
  std::function<double(int)> val_loss = [](int epoch) { return 2 - 0.1 * epoch; };
};

Trial trial(const Curves& c = {}, int step = kCoarse, double lr = 0.1) {
  Trial t;
  t.config = {.step = step, .lr = lr, .weight_decay = 1e-4, .epochs = 10, .updates = 200, .target = 1};
  for (int i = 0; i < 200; ++i) t.losses.emplace_back(i + 1, c.loss(i / 200.0));
  for (int epoch = 1; epoch <= 10; ++epoch)
    t.epochs.push_back({epoch,
                        20 * epoch,
                        {{"train", c.loss(epoch / 10.0), {{"accuracy", c.train(epoch)}}},
                         {"val", c.val_loss(epoch), {{"accuracy", c.val(epoch)}}}}});
  t.updates = 200;
  t.id = std::to_string(lr);
  return t;
}

Trial lost(double lr, int step = kRates) {
  Trial t;
  t.config = {.step = step, .lr = lr, .updates = 100};
  t.losses = {{1, 2.3}, {2, 40}};
  t.failed_update = 3;
  return t;
}

Trial rate(double lr, double end) {
  Trial t;
  t.config = {.step = kRates, .lr = lr, .updates = 100};
  for (int i = 0; i < 100; ++i) t.losses.emplace_back(i + 1, i < 90 ? 2.3 : end);
  return t;
}

bool says(const std::vector<std::string>& list, const std::string& part) {
  return std::any_of(list.begin(), list.end(),
                     [&](const std::string& s) { return s.find(part) != std::string::npos; });
}

std::string text_of(const Verdict& v) {
  std::string text = v.text;
  for (const std::string& hint : v.hints) text += "\n" + hint;
  return text;
}

TEST(RecipeVerdicts, ExpectedLossesAreSumsOfWhatIsKnown) {
  RecipeModel m = model();
  EXPECT_DOUBLE_EQ(*expected_loss(m).value, std::log(10.0));
  EXPECT_EQ(expected_loss(m).text, "log(10)");
  m.losses.push_back({"odd", 0.3, std::log(2.0)});
  m.losses.push_back({"margin", 1, 9.0});
  EXPECT_DOUBLE_EQ(*expected_loss(m).value, std::log(10.0) + 0.3 * std::log(2.0) + 9);
  EXPECT_EQ(expected_loss(m).text, "log(10) + 0.3 log(2) + 9");
  m.losses.push_back({"own", 1, std::nullopt});
  EXPECT_FALSE(expected_loss(m).value);
  EXPECT_NE(expected_loss(m).text.find("`own`"), std::string::npos);
}

TEST(RecipeVerdicts, InitialLossHasATenthOfRoom) {
  const auto of = [](double loss) { return judge_initial_loss(model(), {loss, std::nullopt, 640, ""}); };
  EXPECT_EQ(of(2.3026).status, Status::pass);
  EXPECT_EQ(of(2.3026 * 1.09).status, Status::pass);
  EXPECT_EQ(of(2.3026 * 1.11).status, Status::fail);
  EXPECT_NE(of(2.3026 * 1.11).text.find("too high"), std::string::npos);
  EXPECT_EQ(of(2.3026 * 0.89).status, Status::fail);
  EXPECT_NE(of(2.3026 * 0.89).text.find("too low"), std::string::npos);
  EXPECT_EQ(of(std::nan("")).status, Status::fail);
  EXPECT_EQ(judge_initial_loss(model(), {2.3, 2.5, 640, ""}).status, Status::pass);
  EXPECT_NE(judge_initial_loss(model(), {2.3, 2.5, 640, ""}).text.find("penalties add 0.2"),
            std::string::npos);
  EXPECT_EQ(judge_initial_loss(model(), {2.3, 2.2, 640, ""}).status, Status::fail);
}

TEST(RecipeVerdicts, OverfittingIsEveryAccuracyAtItsGoal) {
  Trial t = trial({.train = [](int epoch) { return epoch == 10 ? 1.0 : 0.9; }}, kOverfit);
  EXPECT_TRUE(overfitted(model(), t));
  RecipeModel two = model();
  two.metrics.push_back({"error", true, true});
  two.metrics.push_back({"norm"});
  EXPECT_TRUE(overfitted(two, t)) << "neither is to become 1";
  two.metrics.push_back({"odd_accuracy", true});
  for (TrialEpoch& e : t.epochs) e.splits[0].metrics.emplace_back("odd_accuracy", 0.99);
  EXPECT_FALSE(overfitted(two, t));
  t.config.target = 0.99;
  EXPECT_TRUE(overfitted(two, t));
  RecipeModel none = model();
  none.metrics.clear();
  EXPECT_TRUE(overfitted(none, trial()));  // 2.3 e^-3 is less than a tenth
  EXPECT_FALSE(overfitted(none, trial({.loss = [](double at) { return 2.3 - at; }})));
}

TEST(RecipeVerdicts, OverfittingAtAnotherRateNamesTheFilesMistake) {
  const Curves good = {.train = [](int) { return 1.0; }};
  EXPECT_EQ(judge_overfit(model(), {trial(good, kOverfit)}, 640).status, Status::pass);
  const Verdict high = judge_overfit(model(), {lost(0.1, kOverfit), trial(good, kOverfit, 0.01)}, 640);
  EXPECT_EQ(high.status, Status::warn);
  EXPECT_TRUE(says(high.hints, "too high")) << text_of(high);
  EXPECT_NE(high.text.find("not finite in update 3"), std::string::npos);
  const Verdict low = judge_overfit(model(), {trial({}, kOverfit), trial(good, kOverfit, 1)}, 640);
  EXPECT_TRUE(says(low.hints, "too low")) << text_of(low);
  const Verdict never = judge_overfit(model(), {trial({}, kOverfit), lost(1, kOverfit)}, 640);
  EXPECT_EQ(never.status, Status::fail);
  EXPECT_NE(never.text.find("cannot overfit 640 examples"), std::string::npos);
  EXPECT_NE(never.text.find("accuracy 90.00%"), std::string::npos) << never.text;
}

TEST(RecipeVerdicts, RatesFallStandOrExplode) {
  RecipeModel m = model();
  const Verdict good = judge_rates(m, {lost(1), rate(0.1, 0.5), rate(0.01, 1.5), rate(1e-4, 2.29)});
  EXPECT_EQ(good.status, Status::pass);
  EXPECT_NE(good.text.find("falls with 0.1 (2.3 to 0.5), 0.01 (2.3 to 1.5); fastest with 0.1"),
            std::string::npos)
      << good.text;
  EXPECT_NE(good.text.find("does not with 0.0001"), std::string::npos) << good.text;
  EXPECT_NE(good.text.find("too high: 1 (not finite in update 3)"), std::string::npos) << good.text;
  m.lr = 1;
  EXPECT_TRUE(says(judge_rates(m, {lost(1), rate(0.1, 0.5)}).hints, "lr 1 is too high; 0.1"));
  m.lr = 1e-4;
  EXPECT_TRUE(says(judge_rates(m, {rate(0.1, 0.5), rate(1e-4, 2.29)}).hints, "lr 0.0001 is too low; 0.1"));
  EXPECT_EQ(judge_rates(m, {lost(1), rate(1e-4, 2.29)}).status, Status::fail);
}

TEST(RecipeVerdicts, PromisingRatesAreThoseThatFellHalfAsFarAsTheBest) {
  // Falls of 1.8, 0.8 (less than half of it) and 1.2.
  const auto range = promising_rates({rate(0.1, 0.5), rate(0.01, 1.1), rate(0.001, 1.5), lost(1)});
  ASSERT_TRUE(range);
  EXPECT_NEAR(range->first, 0.01 / std::sqrt(10.0), 1e-12);
  EXPECT_NEAR(range->second, 0.1 * std::sqrt(10.0), 1e-12);
  EXPECT_FALSE(promising_rates({rate(0.1, 2.25), lost(1)}));
}

TEST(RecipeVerdicts, TheBestTrialIsByTheObjectiveThenByTheLoss) {
  const Trial a = trial({}, kCoarse, 0.1);
  const Trial b = trial({.val_loss = [](int epoch) { return 1 - 0.05 * epoch; }}, kCoarse, 0.2);
  const Trial c = trial({.val = [](int) { return 0.8; }, .val_loss = [](int) { return 0.1; }}, kRefine, 0.3);
  const std::vector<Trial> all = {a, b, c, lost(1, kCoarse)};
  EXPECT_EQ(best_trial(all, kAccuracy, {kCoarse, kRefine})->config.lr, 0.2);
  EXPECT_EQ(best_trial(all, kAccuracy, {kRefine})->config.lr, 0.3);
  EXPECT_EQ(best_trial(all, {"val", "loss", false}, {kCoarse, kRefine})->config.lr, 0.3);
  EXPECT_EQ(best_trial(all, kAccuracy, {kRepeat}), nullptr);
  EXPECT_EQ(best_value(a, kAccuracy)->epoch, 6) << "the first of equal epochs";
}

TEST(RecipeVerdicts, ASearchWhoseBestIsAtTheEdgeSaysSo) {
  const std::vector<Trial> trials = {trial({.val = [](int) { return 0.5; }}, kCoarse, 0.01),
                                     trial({.val = [](int) { return 0.5; }}, kCoarse, 0.03), trial()};
  EXPECT_EQ(judge_search(model(), kCoarse, trials, kAccuracy, {0.001, 10}).status, Status::pass);
  const Verdict edge = judge_search(model(), kCoarse, trials, kAccuracy, {0.001, 0.12});
  EXPECT_EQ(edge.status, Status::warn);
  EXPECT_TRUE(says(edge.hints, "upper end")) << text_of(edge);
  EXPECT_TRUE(says(edge.hints, "`optimizer sgd(lr=0.1, weight_decay=0.0001)`")) << text_of(edge);
  EXPECT_EQ(judge_search(model(), kCoarse, {lost(1, kCoarse)}, kAccuracy, {0.1, 10}).status, Status::fail);
}

TEST(RecipeVerdicts, CurvesShow) {
  const auto see = [](const Curves& c) { return look_at_curves(model(), trial(c), kAccuracy); };
  EXPECT_TRUE(see({}).empty()) << see({}).front();
  EXPECT_TRUE(says(look_at_curves(model(), lost(1, kCoarse), kAccuracy), "not finite in update 3"));
  EXPECT_TRUE(says(see({.loss = [](double) { return 2.3; }}), "hardly moves"));
  EXPECT_TRUE(says(see({.loss = [](double at) { return 2.3 + 5 * at; }}), "rises"));
  EXPECT_TRUE(says(see({.loss = [](double at) { return at < 0.4 ? 2.3 : 2.3 - 2 * (at - 0.4); }}),
                   "does not fall at first"));
  EXPECT_TRUE(says(see({.loss =
                            [](double at) {
                              return 2.3 * std::exp(-3 * at) + 2 * (static_cast<int>(200 * at + 0.5) % 2);
                            }}),
                   "strays"));
  EXPECT_TRUE(says(see({.train = [](int) { return 0.99; }, .val = [](int) { return 0.9; }}), "overfitting"));
  EXPECT_TRUE(says(see({.train = [](int) { return 0.8; }, .val = [](int e) { return e < 5 ? 0.7 : 0.8; }}),
                   "no worse than train"));
  EXPECT_TRUE(says(see({.val_loss = [](int e) { return 1 + 0.1 * std::abs(e - 4); }}), "least in epoch 4"));
  EXPECT_TRUE(says(see({.val = [](int epoch) { return 0.5 + 0.04 * epoch; }}), "train longer"));
  const auto noise = [](double at) { return 0.1 * (static_cast<int>(200 * at + 0.5) % 2); };
  EXPECT_TRUE(says(see({.loss = [&](double at) { return noise(at) + (at < 0.5 ? 2.3 - 4 * at : 0.3); }}),
                   "stopped falling"));
  EXPECT_FALSE(says(see({.loss = [&](double at) { return noise(at) + 2.3 - 2 * at; }}), "stopped falling"));
}

}  // namespace
}  // namespace gradc::cli::recipe_verdicts_test
