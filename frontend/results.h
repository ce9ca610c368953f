// Properties of losses and metrics, found by evaluating them with the interpreter; knows no loss, metric or
// operator by name.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/tensor/module.h"
#include "support/experiment.h"

namespace gradc::frontend {

// The tensor arguments of each function call of the model file, by the operation that it returned.
using CallArguments = std::map<const Op*, std::vector<const Op*>>;

// The scores that a loss is computed from: of the outermost calls that compute it, the arguments that depend
// on symbols. Empty where a symbol reaches the loss other than through such a call.
std::vector<const Op*> scores_of(const Function& f, const Op* loss, const CallArguments& calls);

// The loss where all scores are equal, such as log(10) for cross_entropy: one number for any labels. None
// where the loss does not depend on the labels, or where the number depends on them or on the scores' common
// value.
std::optional<double> loss_at_equal_scores(const Function& f, const Op* loss,
                                           const std::vector<const Op*>& scores, const DataRecord& data);

// Whether a metric is an average of booleans, as an accuracy is.
bool is_share(const Function& f, const Op* metric);

// Whether a metric grows with the loss, as an error rate does. False where it does not depend on the loss's
// scores, or depends on symbols other than through them.
bool grows_with_loss(const Function& f, const Op* metric, const Op* loss,
                     const std::vector<const Op*>& scores, const DataRecord& data);

}  // namespace gradc::frontend
