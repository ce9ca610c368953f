// What becomes NaN or infinite in a run ends it with exit code 5, and the operation is named; nothing takes
// the place of good files.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::finite_test {
namespace {

using Json = nlohmann::json;

void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << "no \"" << part << "\" in: " << text;
}

// A .npy file of float32, rows x 3.
std::string npy(const std::vector<float>& values) {
  std::string header =
      "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(values.size() / 3) + ", 3), }";
  header.resize(117, ' ');
  header += '\n';
  std::string text = std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header;
  text.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return text;
}

std::string zeros(const std::string& loss, const std::string& more = "", const std::string& from = "x.npy") {
  return "data d = npy(batch=1) {\n    field x: f32[3] = \"" + from +
         "\"\n}\n"
         "model net(x: f32[3]) = dense(x, 2, bias=false) as o\n"
         "train {\n"
         "    y = net(d.x)\n"
         "    loss " +
         loss + "\n    optimizer sgd(lr=0.1)\n" + more + "}\n";
}

// The gradient of a norm at 0 is 0, and the weights stay what they are.
TEST(NotFinite, NormOfZeroTrains) {
  TemporaryFolder folder;
  folder.write("x.npy", npy(std::vector<float>(6, 0)));
  folder.write("m.nn", zeros("norm(y)"));
  const ToolResult r =
      run_tool({"train", "m.nn", "--epochs", "2", "--json", "--log-every", "1", "--save", "w.safetensors"},
               folder.path());
  ASSERT_EQ(r.exit_code, kExitOk) << r.err;
  const ToolResult eval = run_tool({"eval", "m.nn", "--weights", "w.safetensors"}, folder.path());
  EXPECT_EQ(eval.exit_code, kExitOk) << eval.err;
  expect_parts(eval.out, {"train loss 0.0000"});
}

// A finite loss whose update is not: in the last step, in a logged one, and in an epoch's last; what adds up
// gradients of several batches finds the batch.
TEST(NotFinite, UpdatesNameTheirOperation) {
  TemporaryFolder folder;
  std::vector<float> rows(12, 1);
  for (size_t i = 6; i < 9; ++i) rows[i] = 0;  // the third of four examples
  folder.write("x.npy", npy(rows));
  const std::string pole = "sum(sqrt(abs(y)))";
  for (const std::string more : {"", "    accumulate 2\n", "    accumulate 4\n"}) {
    folder.write("m.nn", zeros(pole, more));
    folder.write("w.safetensors", "good");
    const ToolResult r = run_tool({"train", "m.nn", "--epochs", "1", "--no-shuffle", "--json", "--log-every",
                                   "1", "--save", "w.safetensors"},
                                  folder.path());
    ASSERT_EQ(r.exit_code, kExitCheckFailed) << more << r.err;
    const int step = more.empty() ? 3 : more.find('2') != std::string::npos ? 2 : 1;
    const Json event = Json::parse(lines(r.out).back());
    EXPECT_EQ(event.at("event"), "not_finite");
    EXPECT_EQ(event.at("value"), "update");
    EXPECT_EQ(event.at("step"), step);
    EXPECT_EQ(event.at("batch"), 3) << more;
    EXPECT_EQ(event.at("operation"), "div");
    EXPECT_EQ(event.at("file"), "m.nn");
    EXPECT_EQ(event.at("line"), 7);
    expect_parts(
        r.err, {"step " + std::to_string(step) + " (epoch 1, batch ", "made 6 of 6 elements of the parameter",
                "o.weight NaN or infinite", "w.safetensors was not written", "`div`", pole});
    EXPECT_EQ(read_text(folder.path("w.safetensors")), "good");
  }
}

TEST(NotFinite, UpdatesThatOverflow) {
  TemporaryFolder folder;
  folder.write("x.npy", npy(std::vector<float>(12, 1)));
  for (const std::string more : {"", "    accumulate 2\n"}) {
    std::string text = zeros("sum(y * 1e30) * 0.5", more);
    text.replace(text.find("lr=0.1"), 6, "lr=1e20");
    folder.write("m.nn", text);
    const ToolResult r =
        run_tool({"train", "m.nn", "--steps", "1", "--save", "w.safetensors"}, folder.path());
    ASSERT_EQ(r.exit_code, kExitCheckFailed) << more << r.err << r.out;
    expect_parts(r.err, {"step 1 (epoch 1, batch 1) made 6 of 6 elements", "m.nn:8", "optimizer sgd(lr=1e20)",
                         "The first value that is not finite is the result of `mul`"});
    EXPECT_EQ(r.out.find("saved"), std::string::npos) << r.out;
    EXPECT_FALSE(std::filesystem::exists(folder.path("w.safetensors")));
  }
  // Within a limit on memory that leaves no room for a copy, the parameter is named, and what was good stays.
  folder.write("w.safetensors", "good");
  const ToolResult plan = run_tool({"plan", "m.nn", "--json"}, folder.path());
  ASSERT_EQ(plan.exit_code, kExitOk) << plan.err;
  const int64_t peak = Json::parse(plan.out).at("peak_bytes");
  const auto within = [&](int64_t bytes) {
    return run_tool(
        {"train", "m.nn", "--steps", "1", "--save", "w.safetensors", "--mem-limit", std::to_string(bytes)},
        folder.path());
  };
  const ToolResult tight = within(peak), wide = within(2 * peak);
  EXPECT_EQ(tight.exit_code, kExitCheckFailed) << tight.err;
  expect_parts(tight.err, {"6 of 6 elements of the parameter o.weight are NaN or infinite after step 1; "
                           "w.safetensors was not written"});
  EXPECT_EQ(tight.err.find("result of"), std::string::npos) << tight.err;
  EXPECT_EQ(wide.exit_code, kExitCheckFailed) << wide.err;
  expect_parts(wide.err, {"made 6 of 6 elements", "`mul`"});
  EXPECT_EQ(read_text(folder.path("w.safetensors")), "good");
}

// The loss of another part than the one that is trained on.
TEST(NotFinite, EvaluationsNameTheirOperation) {
  TemporaryFolder folder;
  folder.write("x.npy", npy(std::vector<float>(12, 1)));
  std::vector<float> test(12, 1);
  test[7] = 1e30F;
  folder.write("t.npy", npy(test));
  folder.write("m.nn", zeros("sum(y * y)", "", "x.npy\" test \"t.npy"));
  const ToolResult r = run_tool({"train", "m.nn", "--epochs", "1", "--save", "w.safetensors"}, folder.path());
  EXPECT_EQ(r.exit_code, kExitCheckFailed) << r.err;
  expect_parts(r.out, {"test loss not finite", "weights saved to w.safetensors"});
  EXPECT_EQ(r.out.find("nan"), std::string::npos) << r.out;
  expect_parts(r.err, {"the loss on `test` is not finite", "batch 3", "`mul`", "m.nn:7:"});
  const ToolResult eval = run_tool({"eval", "m.nn", "--weights", "w.safetensors", "--json"}, folder.path());
  EXPECT_EQ(eval.exit_code, kExitCheckFailed);
  expect_parts(eval.err, {"the loss on `test` is not finite", "batch 3", "`mul`", "m.nn:7:"});
  const std::vector<std::string> events = lines(eval.out);
  ASSERT_EQ(events.size(), 2u) << eval.out;
  EXPECT_TRUE(Json::parse(events[0]).at("loss").is_null());
  EXPECT_EQ(Json::parse(events[1]).at("value"), "evaluation");
  EXPECT_EQ(Json::parse(events[1]).at("split"), "test");
  EXPECT_EQ(
      run_tool({"eval", "m.nn", "--weights", "w.safetensors", "--split", "train"}, folder.path()).exit_code,
      kExitOk);
}

}  // namespace
}  // namespace gradc::test::finite_test
