// Names of passes as options take them. What passes make of IR is tested by tests/cli/opt_test.cpp.
#include <gtest/gtest.h>

#include "ir/tensor/module.h"
#include "passes/pipeline.h"
#include "support/check.h"

namespace gradc::text_test {
namespace {

TEST(PassNames, UnknownOnesAreUsageErrors) {
  Module module;
  passes::PipelineOptions options;
  options.print_after = {"fuse_dropuot"};
  try {
    passes::run_tensor_passes(module, options);
    FAIL();
  } catch (const RunError& e) {
    EXPECT_EQ(e.exit_code, 2);
    EXPECT_NE(std::string(e.what()).find("did you mean fuse_dropout?"), std::string::npos) << e.what();
  }
  options.print_after = {};
  options.disable = {"decompose"};
  EXPECT_THROW(passes::run_tensor_passes(module, options), RunError);
}

}  // namespace
}  // namespace gradc::text_test
