// Several views of each image, in executables (features.h).
#include "runtime/execution/ensemble.h"
#include "standalone/features.h"
#include "standalone/options.h"

extern "C" void gradc_feature_view_options(CLI::App* app, gradc::standalone::ViewOptions* options) {
  gradc::standalone::add_view_options(app, options->ten_crop, options->scales);
}

extern "C" void gradc_feature_view_eval(gradc::runtime::Session* session, const gradc::runtime::Split* split,
                                        const gradc::standalone::ViewOptions* options, bool json) {
  gradc::runtime::EnsembleOptions members;
  members.ten_crop = options->ten_crop;
  members.scales = options->scales;
  gradc::runtime::run_ensemble_eval(*session, *split, members, json);
}
