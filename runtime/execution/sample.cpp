// Runs the predict program on the last characters, again for each new one.
#include "runtime/execution/sample.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/data/text.h"
#include "runtime/execution/report.h"
#include "runtime/interrupt.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/philox.h"

namespace gradc::runtime {
namespace {

// The random stream of samples, different from those of model files.
constexpr uint32_t kSampleStream = 0x53414D50;

class Sampler {
 public:
  Sampler(Session& session, const SampleOptions& options) : session_(session), options_(options) {
    const gradc_entry_info& entry = session.program().predict;
    const gradc_output& output = session.predict_output();
    const auto refuse = [&](const std::string& why) {
      throw RunError(
          kExitModelError,
          fmt::format(
              "{} cannot be sampled from: {}; a model of characters reads the field `tokens` of the data "
              "source `text` and predicts f32[length, vocabulary], as in `predict softmax(logits)`",
              session.program().name, why));
    };
    if (entry.input_count != 1 || entry.inputs[0].dtype != GRADC_I32 || entry.inputs[0].rank != 1)
      refuse("its prediction reads something else than one sequence of integers");
    length_ = entry.inputs[0].shape[0];
    if (output.dtype != GRADC_F32 || output.rank != 2 || output.shape[0] != length_)
      refuse(fmt::format("it predicts {} for {} characters",
                         type_text(output.dtype, output.rank, output.shape), length_));
    classes_ = output.shape[1];
    const auto kept = session.data_arrays.find(kVocabularyArray);
    if (kept == session.data_arrays.end()) refuse("its weights have no vocabulary");
    vocabulary_ = Vocabulary::restored(kept->second.values);
    if (vocabulary_.empty() || vocabulary_.size() > classes_)
      refuse(fmt::format("its weights have {} characters, and it tells {} apart", vocabulary_.size() - 1,
                         classes_));
    read_prompt();
  }

  std::string run() {
    std::optional<InterruptGuard> interrupt;
    if (!options_.cancelled) interrupt.emplace();
    look_ahead();
    std::string text = options_.prompt;
    show(text);
    for (int64_t i = 0; i < options_.length; ++i) {
      if (interrupt ? interrupt->interrupted() : options_.cancelled()) {
        show("\n");
        throw RunError(interrupt ? interrupt->exit_code() : kExitInterrupted, "interrupted");
      }
      const int64_t next = draw(probabilities(0), i);
      numbers_.push_back(static_cast<int32_t>(next));
      const std::string character = utf8(vocabulary_.character(next));
      text += character;
      show(character);
    }
    show("\n");
    if (options_.json && options_.out)
      write_event(options_.out, {{"event", "sample"},
                                 {"prompt", options_.prompt},
                                 {"text", text},
                                 {"characters", options_.length},
                                 {"temperature", options_.temperature},
                                 {"seed", options_.seed}});
    return text;
  }

 private:
  void read_prompt() {
    if (options_.prompt.empty())
      throw RunError(kExitUsage, "--prompt is empty: a text goes on from a character");
    for (const int32_t c : code_points(options_.prompt, "--prompt")) {
      numbers_.push_back(vocabulary_.number(c));
      if (numbers_.back() != 0) continue;
      std::string known;
      for (int64_t n = 1; n < vocabulary_.size(); ++n) {
        const int32_t character = vocabulary_.character(n);
        known += character == '\n' ? "\\n" : utf8(character);
      }
      throw RunError(kExitUsage,
                     fmt::format("--prompt: the model does not know the character `{}`; it knows {}",
                                 c == '\n' ? "\\n" : utf8(c), known));
    }
  }

  // The probability of each next character; `filling` pads the window after the last known one.
  const float* probabilities(int32_t filling) {
    const auto known = std::min<int64_t>(length_, static_cast<int64_t>(numbers_.size()));
    std::vector<int32_t> window(numbers_.end() - known, numbers_.end());
    window.resize(static_cast<size_t>(length_), filling);
    const void* input = window.data();
    const auto* all = static_cast<const float*>(session_.predict(Batch{&input, 1}));
    return all + (known - 1) * classes_;
  }

  // Checks that the probabilities at the last character do not depend on what follows it.
  void look_ahead() {
    if (static_cast<int64_t>(numbers_.size()) >= length_) return;
    const float* p = probabilities(0);
    const std::vector<float> first(p, p + classes_);
    p = probabilities(1);
    if (std::equal(first.begin(), first.end(), p)) return;
    throw RunError(kExitModelError,
                   fmt::format("{} looks at characters after the one it predicts from, which are not there "
                               "when a text is made: attention needs `causal=true`",
                               session_.program().name));
  }

  int64_t draw(const float* p, int64_t position) const {
    double total = 0, greatest = 0;
    for (int64_t c = 0; c < classes_; ++c) {
      if (!(p[c] >= 0)) throw_no_probabilities();
      total += p[c];
      if (c > 0 && c < vocabulary_.size()) greatest = std::max<double>(greatest, p[c]);
    }
    if (std::fabs(total - 1) > 1e-3) throw_no_probabilities();
    if (greatest == 0) greatest = 1;
    // Relative to the greatest, so that small temperatures do not give 0 / 0.
    std::vector<double> weights(static_cast<size_t>(vocabulary_.size()));
    double sum = 0;
    for (int64_t c = 1; c < vocabulary_.size(); ++c) {
      const double ratio = p[c] / greatest;
      sum += weights[static_cast<size_t>(c)] =
          options_.temperature > 0 ? std::pow(ratio, 1 / options_.temperature) : ratio == 1;
    }
    double left =
        uniform_from_word(random_word(options_.seed, 0, kSampleStream, static_cast<uint64_t>(position), 0)) *
        sum;
    for (int64_t c = 1; c < vocabulary_.size(); ++c) {
      left -= weights[static_cast<size_t>(c)];
      if (left < 0 && weights[static_cast<size_t>(c)] > 0) return c;
    }
    return std::max_element(weights.begin(), weights.end()) - weights.begin();
  }

  [[noreturn]] void throw_no_probabilities() const {
    throw RunError(
        kExitModelError,
        fmt::format("{} predicts numbers that are no probabilities; write `predict softmax(logits)`",
                    session_.program().name));
  }

  void show(const std::string& text) const {
    if (options_.json || !options_.out) return;
    if (std::fwrite(text.data(), 1, text.size(), options_.out) != text.size() ||
        ((isatty(fileno(options_.out)) || text == "\n") && std::fflush(options_.out) != 0))
      throw RunError(kExitRunFailed, "the text cannot be written");
  }

  Session& session_;
  const SampleOptions& options_;
  int64_t length_ = 0, classes_ = 0;
  Vocabulary vocabulary_;
  std::vector<int32_t> numbers_;  // of the prompt and the text after it
};

}  // namespace

std::string run_sample(Session& session, const SampleOptions& options) {
  return Sampler(session, options).run();
}

}  // namespace gradc::runtime
