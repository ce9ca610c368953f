// gradc_session_sample: text of a model of characters in an embedding program.
#include <fmt/format.h>

#include <cmath>

#include "capi/session.h"
#include "runtime/execution/sample.h"
#include "support/check.h"
#include "support/diagnostic.h"

using namespace gradc;

extern "C" gradc_status gradc_session_sample(gradc_session* session, const gradc_sample_options* given,
                                             const char** text) {
  if (text) *text = nullptr;
  return capi::guarded([&] {
    const capi::Use use(session, "gradc_session_sample", true);
    if (!text) throw RunError(kExitUsage, "gradc_session_sample: `text` is null");
    gradc_sample_options defaults;
    gradc_sample_options_init(&defaults);
    const gradc_sample_options options = capi::known_options(given, defaults, "gradc_sample");
    if (options.length < 0 || !(options.temperature >= 0) || std::isinf(options.temperature) ||
        !options.prompt)
      throw RunError(
          kExitUsage,
          fmt::format("gradc_session_sample: {} characters at temperature {}; expected numbers from 0, and a "
                      "prompt",
                      options.length, options.temperature));
    runtime::SampleOptions run;
    run.prompt = options.prompt;
    run.length = options.length;
    run.temperature = options.temperature;
    run.seed = options.seed;
    run.out = nullptr;
    run.cancelled = [session] { return session->cancelled.load(); };
    capi::check_weights(*session);
    session->sampled = runtime::run_sample(*session->runs, run);
    *text = session->sampled.c_str();
  });
}
