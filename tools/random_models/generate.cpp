// Data source, network and training of a random model; tries again where a choice does not fit.
#include "tools/random_models/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "compiler/evaluate_ops.h"
#include "ir/interpreter/interpreter.h"
#include "passes/pipeline.h"
#include "support/check.h"
#include "support/shape_text.h"
#include "tools/random_models/catalogue.h"
#include "tools/random_models/exclusions.h"
#include "tools/random_models/network.h"
#include "tools/random_models/vary.h"

namespace gradc::random_models {

using compiler::CompileRequest;
using compiler::LoadedModel;

namespace {

constexpr uint64_t kRoundingRuns = 2;
constexpr double kMostSpread = 1e-3;    // of an output or gradient, relative to its size
constexpr double kZeroSquare = 1e-12;   // sum of squares below which a value counts as zero
constexpr double kMostParameter = 1e3;  // after some steps: training does not diverge

int64_t random_batch(Draw& draw) {
  if (draw.chance(0.12)) return 1;
  if (draw.chance(0.08)) return draw.of({97, 130});
  return draw.of({2, 3, 5, 7, 13, 31, 32, 33, 37, 41, 64, 67});
}

Source random_source(Draw& draw, bool& runs_alone) {
  Source s;
  s.batch = random_batch(draw);
  s.classes = draw.between(2, 10);
  const int64_t train = 2 * s.batch + 1 + static_cast<int64_t>(draw.index(5));
  Shape shape;
  const int rank = draw.of({1, 1, 2, 3, 3, 3});
  for (int i = 0; i < rank; ++i)
    shape.push_back(rank == 1   ? draw.between(1, 24)
                    : rank == 2 ? draw.between(2, 8)
                    : i == 0    ? draw.between(1, 5)
                                : draw.between(3, 9));
  const Type image{DType::f32, true, shape}, label{DType::i32, true, {}};
  const double kind = draw.share();
  runs_alone = kind < 0.75;
  if (kind < 0.6) {
    s.declaration = fmt::format("data d = random(shape={}, classes={}, train={}, test={}, batch={}, seed={})",
                                shape_text(shape), s.classes, train, s.batch, s.batch, draw.between(1, 99));
    s.fields = {{"image", image}};
    if (draw.chance(0.25)) s.fields.push_back({"label", label});
    s.label = "d.label";
  } else if (kind < 0.75) {
    const int64_t length = draw.between(2, 9);
    s.classes = draw.between(4, 12);
    s.declaration =
        fmt::format("data d = text(length={}, vocabulary={}, characters={}, batch={}, seed={})", length,
                    s.classes, std::max<int64_t>(train * length * 2, 400), s.batch, draw.between(1, 99));
    s.fields = {{"tokens", {DType::i32, true, {length}}}};
    s.label = "d.next[0]";
  } else {
    s.fields = {{"image", image}};
    if (draw.chance(0.5)) s.fields.push_back({"extra", {DType::f32, true, {draw.between(1, 12)}}});
    if (draw.chance(0.5)) s.fields.push_back({"ids", {DType::i32, true, {draw.between(1, 5)}}});
    if (draw.chance(0.4)) s.fields.push_back({"label", label});
    s.declaration = fmt::format("data d = arrays(classes={}, batch={}) {{\n", s.classes, s.batch);
    for (const Source::Field& f : s.fields)
      if (f.name != "label")
        s.declaration +=
            fmt::format("    field {}: {}{}\n", f.name, name(f.type.dtype), shape_text(f.type.shape));
    s.declaration += "    field label: i32\n}";
    s.label = "d.label";
  }
  return s;
}

// Statements of `train`, each taken if the file compiles with it.
class Training {
 public:
  Training(Draw& draw, const Network& network, bool sequence)
      : draw_(draw), network_(network), sequence_(sequence) {}

  // Empty: no loss and optimizer were found.
  std::string text() {
    lines_ = {"logits = " + network_.call()};
    const std::string sgd = "optimizer sgd(lr=0.05)";
    if (!any_of([&] { return loss(); }, sgd)) return "";
    if (draw_.chance(0.2)) any_of([&] { return loss(); }, sgd);
    if (draw_.chance(0.4)) any_of([&] { return statement("metric"); }, sgd);
    if (draw_.chance(0.7)) any_of([&] { return "predict " + prediction(); }, sgd);
    if (draw_.chance(0.3)) any_of([&] { return statement("penalty"); }, sgd);
    if (!any_of([&] { return statement("optimizer"); }, "")) return "";
    if (draw_.chance(0.35)) any_of([&] { return statement("schedule"); }, "");
    if (draw_.chance(0.12)) any_of([&] { return statement("project"); }, "");
    for (const auto& [probability, line] : extras())
      if (draw_.chance(probability)) any_of([&, l = line] { return l; }, "");
    lines_.push_back(fmt::format("seed {}", draw_.between(1, 9)));
    return file("");
  }

 private:
  std::string file(const std::string& more) const {
    std::string text = network_.source().declaration + "\n\n" + network_.text() + "\ntrain {\n";
    for (const std::string& line : lines_) text += "    " + line + "\n";
    if (!more.empty()) text += "    " + more + "\n";
    return text + "}\n";
  }

  // Tries several times to add a statement; `completed` are the other statements that a whole file needs.
  template <typename Make>
  bool any_of(Make&& make, const std::string& completed) {
    for (int i = 0; i < 6; ++i) {
      lines_.push_back(make());
      CompileRequest request;
      request.file = "candidate.nn";
      request.text = file(completed);
      try {
        const std::unique_ptr<LoadedModel> loaded = compiler::load_model(request);
        if (ordinary(*loaded->model.module, network_.source().classes, kMostParameter)) return true;
      } catch (const compiler::ModelError&) {
      }
      lines_.pop_back();
    }
    return false;
  }

  Variation variation() {
    Variation v;
    const bool soft = draw_.chance(0.5);
    v.name = [this, soft](const std::string& name) -> std::string {
      if (name == "label") return sequence_ ? "d.next" : network_.source().label;
      if (name == "x" || name == "image" || name == "tokens") return soft ? "tanh(logits)" : "logits";
      return "";
    };
    v.extents[10] = network_.source().classes;
    for (const int64_t steps : {500, 1000, 2000, 4000}) v.extents[steps] = draw_.between(2, 9);
    return v;
  }

  // An example of a statement with its first expression varied.
  std::string statement(const std::string& word) {
    const std::string& example = draw_.of(catalogue().with_word(word))->example;
    const size_t begin = word.size() + 1;
    // The text after the expression (`on "*.weight"`, `then cosine`, a further statement) is kept.
    size_t end = example.size();
    for (const char* next : {" on ", " then ", " no_decay ", " weight ", ";"})
      end = std::min(end, example.find(next, begin));
    const std::string varied = vary(example.substr(begin, end - begin), variation(), draw_);
    return word + " " + varied + example.substr(end);
  }

  std::string loss() {
    std::string name;
    if (lines_.size() > 1 || draw_.chance(0.1)) name = fmt::format("part{} = ", lines_.size());
    std::string text = statement("loss").substr(5);
    if (const size_t at = text.find(" weight "); at != std::string::npos) {
      std::vector<std::string> weights;
      for (int64_t i = 0; i < network_.source().classes; ++i)
        weights.push_back(number_text(0.2 + 2 * draw_.share()));
      text = text.substr(0, at) +
             fmt::format(" weight class_weight({}, [{}])", network_.source().label, fmt::join(weights, ", "));
      if (sequence_) text = text.substr(0, text.find(" weight "));
    } else if (draw_.chance(0.25)) {
      text += fmt::format(" weight {}", number_text(0.2 + draw_.share()));
    }
    if (sequence_) {
      const size_t at = text.find(" weight ");
      text = "mean(" + text.substr(0, at) + ")" + (at == std::string::npos ? "" : text.substr(at));
    }
    return "loss " + name + text;
  }

  std::string prediction() { return draw_.chance(0.6) ? "softmax(logits)" : "logits"; }

  // Statements of an update besides its optimizer, which have no definition in the prelude.
  std::vector<std::pair<double, std::string>> extras() {
    return {{0.15, fmt::format("clip norm {}", number_text(0.1 + 2 * draw_.share()))},
            {0.10, fmt::format("clip value {}", number_text(0.01 + draw_.share()))},
            {0.08, fmt::format("noise {}", number_text(0.01 * draw_.share()))},
            {0.15, fmt::format("ema {}", number_text(0.9 + 0.09 * draw_.share()))},
            {0.15, fmt::format("accumulate {}", draw_.between(2, 3))},
            {0.06, "lr_mult 0.3 on \"*.weight\""},
            {0.06, "decay_mult 0.5 on \"*.bias\""},
            {0.06, "freeze \"*.bias\""}};
  }

  Draw& draw_;
  const Network& network_;
  const bool sequence_;
  std::vector<std::string> lines_;
};

// Whether single-precision rounding changes the outputs and gradients of a step only a little. Otherwise, as after a
// division by almost 0, native code cannot be compared.
bool well_conditioned(const Function& step, const interpreter::RunInput& input) {
  const interpreter::RunResult exact = interpreter::run(step, input);
  std::map<const Op*, const interpreter::Tensor*> outputs;
  for (const Output& o : step.outputs) outputs[o.value] = &exact.outputs.at(o.name);
  bool well = true;
  for (uint64_t run = 1; run <= kRoundingRuns; ++run)
    compiler::rounding_run(step, input, run, [&](const Op& op, const interpreter::Tensor& moved) {
      const auto it = outputs.find(&op);
      if (it == outputs.end()) return;
      double square = 0, difference = 0;
      for (size_t i = 0; i < moved.data.size(); ++i) {
        const double value = it->second->data.data()[i], other = moved.data.data()[i];
        if (!std::isfinite(other)) well = false;
        square += value * value;
        difference += (value - other) * (value - other);
      }
      // Gradients that are zero mathematically are only rounding.
      if (square > kZeroSquare && difference > kMostSpread * kMostSpread * square) well = false;
    });
  return well;
}

// Whether some training steps in the interpreter give ordinary numbers and gradients that are not zero.
bool trains(const std::string& text, int64_t classes) {
  CompileRequest request;
  request.file = "candidate.nn";
  request.text = text;
  const std::unique_ptr<LoadedModel> loaded = compiler::load_model(request);
  Module& module = *loaded->model.module;
  passes::make_train_step(module, /*gradient_outputs=*/true);
  interpreter::RunInput input;
  for (const Symbol& s : module.symbols) input.symbols[s.name] = interpreter::make_tensor(s.type, 1);
  input.context.rows = 6;
  input.context.seed = 1;
  const auto run = [&](const char* name) {
    const Function* f = module.function(name);
    if (!f) return true;
    input.inputs = made_up_inputs(*f, input.context.rows, classes);
    interpreter::RunResult result = interpreter::run(*f, input);
    double largest = 0;
    bool gradients = false;
    for (const auto& [output, value] : result.outputs) {
      for (const double v : value.data) {
        if (!std::isfinite(v)) return false;
        if (output.rfind("grad.", 0) == 0) largest = std::max(largest, std::fabs(v));
      }
      gradients |= output.rfind("grad.", 0) == 0;
    }
    for (auto& [symbol, value] : result.updates) {
      const bool parameter = module.symbol(symbol)->kind == SymbolKind::parameter;
      for (const double v : value.data)
        if (!std::isfinite(v) || std::fabs(v) > (parameter ? kMostParameter : 1e6)) return false;
      input.symbols[symbol] = std::move(value);
    }
    return !gradients || (largest > 1e-4 && largest < kMostParameter);
  };
  if (!run("init")) return false;
  for (uint64_t step = 0; step < 3; ++step) {
    input.context.micro_step = step;
    if (!run("train_step") || !run("update")) return false;
  }
  const Function& step = *module.function("train_step");
  input.inputs = made_up_inputs(step, input.context.rows, classes);
  return well_conditioned(step, input);
}

std::optional<RandomModel> attempt(Draw& draw, bool unmended) {
  RandomModel model;
  const Source source = random_source(draw, model.runs_alone);
  Network network(draw, source);
  const int64_t statements = draw.between(1, 6);
  int64_t taken = 0;
  for (int tries = 0; taken < statements && tries < 30; ++tries) taken += add_statement(network);
  const bool sequence = source.label == "d.next[0]" && draw.chance(0.5);
  const bool finished = network.finish(sequence ? source.fields.front().type.shape[0] : 0);
  if (!finished) return std::nullopt;
  model.text = Training(draw, network, sequence).text();
  if (model.text.empty() || excluded_model(model.text) || !trains(model.text, source.classes))
    return std::nullopt;
  return model;
}

}  // namespace

RandomModel random_model(uint64_t seed, uint64_t number, bool unmended) {
  Draw draw(seed, number);
  for (int tries = 0; tries < 100; ++tries)
    if (std::optional<RandomModel> model = attempt(draw, unmended)) return *model;
  GRADC_CHECK(false, "no model came of seed {}, number {}", seed, number);
}

}  // namespace gradc::random_models
