// Batchnorm of dense layers has no variance to take of a last batch of one row.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "tests/cli/tool.h"

namespace gradc::test::one_row_test {
namespace {

using Json = nlohmann::json;

// The running statistics are those of the batches that have two rows or more. The rate is 0, so that nothing
// else moves.
TEST(OneRow, LeavesRunningStatisticsAlone) {
  const TemporaryFolder folder;
  std::string table = "x,z,y\n";
  for (int i = 0; i < 33; ++i) table += std::to_string(i * i % 17) + "," + std::to_string(i % 5) + ",1\n";
  folder.write("t.csv", table);
  for (const std::string layer : {"batchnorm", "batchrenorm"}) {
    std::map<std::string, std::string> said;
    const auto weights = [&](const std::string& last) {
      folder.write("m.nn", "data d = csv(\"t.csv\", batch=16, last=" + last +
                               ") {\n    field v: f32[2] = [\"x\", \"z\"]\n    field y: f32[1] = "
                               "[\"y\"]\n}\nmodel net(v: f32[2]) = v |> " +
                               layer +
                               " |> dense(1)\ntrain {\n    loss mse(net(d.v), d.y)\n    optimizer "
                               "sgd(lr=0)\n    epochs 3\n}\n");
      const ToolResult r = run_tool({"train", "m.nn", "--json"}, folder.path());
      EXPECT_EQ(r.exit_code, 0) << r.err;
      said[last] = run_tool({"train", "m.nn"}, folder.path()).err;
      return r.exit_code ? Json() : Json::parse(lines(r.out).back());
    };
    const Json all = weights("keep"), whole = weights("drop");
    ASSERT_FALSE(all.is_null() || whole.is_null());
    EXPECT_EQ(all.at("steps"), 9) << layer;
    EXPECT_EQ(whole.at("steps"), 6) << layer;
    EXPECT_NE(said["keep"].find("the last 1 of 33 examples in batches of 16 is too few for the variance"),
              std::string::npos)
        << said["keep"];
    EXPECT_EQ(said["drop"].find("variance"), std::string::npos) << said["drop"];
    // The order of the rows differs by nothing: the epoch's shuffle is of all rows in both.
    EXPECT_EQ(all.at("weights_sha256"), whole.at("weights_sha256")) << layer;
  }
}

}  // namespace
}  // namespace gradc::test::one_row_test
