// What losses and metrics are, found from their definitions by evaluating them with the interpreter; knows no
// loss, metric or operator by name.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ir/tensor/module.h"
#include "support/experiment.h"

namespace gradc::frontend {

// Tensors that a call in the model file was given, by the operation that it returned.
using CallArguments = std::map<const Op*, std::vector<const Op*>>;

// The tensors that a loss judges a model by: of the calls that make the loss, the outermost, those arguments
// that depend on symbols. Empty where a symbol reaches the loss past all such calls.
std::vector<const Op*> scores_of(const Function& f, const Op* loss, const CallArguments& calls);

// The loss of a model whose scores are all the same, as log(10) of cross_entropy: one number, whatever the
// labels are. None where labels make no difference to the loss, or where the number depends on them or on
// the level of the scores.
std::optional<double> loss_at_equal_scores(const Function& f, const Op* loss,
                                           const std::vector<const Op*>& scores, const DataRecord& data);

// Whether a metric is a share of truth values, as an accuracy is: an average of them.
bool is_share(const Function& f, const Op* metric);

// Whether a metric is greater where the loss is greater, as an error rate is. False where it does not depend
// on the scores of the loss, or on more than these.
bool grows_with_loss(const Function& f, const Op* metric, const Op* loss,
                     const std::vector<const Op*>& scores, const DataRecord& data);

}  // namespace gradc::frontend
