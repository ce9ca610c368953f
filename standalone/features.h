// Optional features of an executable, for models that can use them. The linker takes each when the compiler requires
// its symbol (cli/link.h, `need`); main.cpp has weak references, and offers the linked ones.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/data/dataset.h"
#include "runtime/execution/predict.h"
#include "runtime/execution/session.h"

namespace CLI {
class App;
}

namespace gradc::standalone {

// For programs that predict from images: options of `eval` and `predict`, and the evaluation with them.
struct ViewOptions {
  bool ten_crop = false;
  std::vector<int64_t> scales;
  bool any() const { return ten_crop || !scales.empty(); }
};

// For models of characters: the command `sample`.
class SampleCommand {
 public:
  virtual ~SampleCommand() = default;
  virtual void run(runtime::Session& session, bool json) = 0;
};

}  // namespace gradc::standalone

extern "C" {
void gradc_feature_view_options(CLI::App* app, gradc::standalone::ViewOptions* options);
void gradc_feature_view_eval(gradc::runtime::Session* session, const gradc::runtime::Split* split,
                             const gradc::standalone::ViewOptions* options, bool json);
// Adds the command's own options; the caller owns the result.
gradc::standalone::SampleCommand* gradc_feature_sample(CLI::App* command);
}
