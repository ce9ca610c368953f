// Runs native code of a model as training does, for several numbers of rows and of threads, and compares it with the
// interpreter on the model as written.
#pragma once
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cli/check/check.h"
#include "compiler/compile.h"

namespace gradc::random_models {

using compiler::CompileRequest;
using compiler::Tensors;

// A difference: its kind, which a reduced model must show too ("bits", "gradient"), and a description.
struct Finding {
  std::string kind, what;
};

// The interpreter on the model as written, differentiated and not optimised.
class Reference {
 public:
  explicit Reference(const CompileRequest& request);
  const Module& module() const { return *loaded_->model.module; }
  interpreter::RunInput input(const std::string& program, const cli::CallRequest& call,
                              const Tensors& symbols) const;
  // Whether some value is so large or small that single precision may lose it.
  bool leaves_range(const std::string& program, const interpreter::RunInput& input) const;
  // Compares outputs and new values of symbols with those of the interpreter; differences that
  // single-precision rounding of the written model makes as well are none.
  std::optional<Finding> compare(const std::string& program, const interpreter::RunInput& input,
                                 const Tensors& outputs, const Tensors& symbols) const;

 private:
  bool is_gradient_sum(const std::string& symbol) const;
  bool rounding_explains(const Function& f, const interpreter::RunInput& input, const Op* op,
                         const interpreter::Tensor& native, const interpreter::Tensor& reference) const;
  std::unique_ptr<compiler::LoadedModel> loaded_;
};

struct RunPlan {
  std::set<int64_t> rows;             // of partial batches, besides the whole one; larger ones are left out
  std::vector<int> threads = {2, 5};  // besides one
  std::vector<std::string> without_training = {"eval", "predict"};  // other programs to compile and run
  int64_t row_offset = 0;                                           // of those
};

// Compiles as the request says and runs every program; empty: all agree.
std::optional<Finding> run_native(const CompileRequest& request, const RunPlan& plan);

// One update from a batch in `pieces`, whose gradients add up, against the interpreter on the whole batch.
std::optional<Finding> run_pieces(const CompileRequest& request, int64_t pieces);

// Whether a batch can be taken in so many pieces.
bool can_take_pieces(const CompileRequest& request, int64_t pieces);

}  // namespace gradc::random_models
