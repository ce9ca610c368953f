// The feature `sample` of executables: a command (features.h).
#include "runtime/execution/sample.h"

#include "standalone/features.h"
#include "standalone/options.h"

namespace gradc::standalone {
namespace {

class Sample final : public SampleCommand {
 public:
  explicit Sample(CLI::App* command) { add_sample_options(command, options_); }
  void run(runtime::Session& session, bool json) override {
    options_.json = json;
    runtime::run_sample(session, options_);
  }

 private:
  runtime::SampleOptions options_;
};

}  // namespace
}  // namespace gradc::standalone

extern "C" gradc::standalone::SampleCommand* gradc_feature_sample(CLI::App* command) {
  return new gradc::standalone::Sample(command);
}
