// What the system gives and refuses: file names that are not UTF-8, and too little memory. Through the real
// tool.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "runtime/data/npy.h"
#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::limits_test {
namespace {

using Json = nlohmann::json;

const std::string kLatin = "caf\xE9";  // as ISO 8859-1 has it: no UTF-8

std::string model(const std::string& statements = "") {
  return "set data = \"" + kLatin + R"(/t.csv"
data points = csv(data, classes=2, batch=8) {
    field x: f32[2] = ["x", "y"]
    field label: i32 = ")" +
         kLatin + "\"\n" + statements + R"(}
model net(x: f32[2]) = x |> dense(2) as head
train {
    logits    = net(points.x)
    loss      cross_entropy(logits, points.label)
    predict   logits
    optimizer sgd(lr=0.1)
}
)";
}

std::string table() {
  std::string text = "x,y," + kLatin + "\n";
  for (int i = 0; i < 24; ++i)
    text += std::to_string(i % 5) + "," + std::to_string(i % 7) + "," + std::to_string(i % 2) + "\n";
  return text;
}

TEST(Bytes, PathsNeedNotBeUtf8) {
  TemporaryFolder folder;
  std::filesystem::create_directories(folder.path(kLatin));
  folder.write(kLatin + "/t.csv", table());
  const std::string file = "m" + kLatin + ".nn", weights = kLatin + ".safetensors";
  folder.write(file, model());
  const std::vector<std::vector<std::string>> commands = {
      {"train", file, "--json", "--save", weights},
      {"train", file, "--json", "--set", "data=" + kLatin + "/t.csv"},
      {"train", file, "--json", "--init-from", weights},
      {"eval", file, "--json", "--weights", weights},
      {"predict", file, "--json", "--weights", weights, "-o", kLatin + ".npy"},
      {"check", file, "--json"},
      {"plan", file, "--json"},
      {"bench", file, "--json", "--seconds", "0.01", "--trace", kLatin + ".json"},
      {"lsuv", file, "--json", "--save", kLatin + "2.safetensors"},
      {"stats", file, "--json", "--weights", weights, "-o", kLatin + ".svg"},
      {"dump", file, "--stage", "opt", "--format", "json"},
      {"dump", file, "--format", "html", "-o", kLatin + ".html"},
      {"compile", file, "--json", "--emit", "obj", "--target", "x86-64-v3", "-o", kLatin + ".o"},
      {"average", weights, weights, "-o", kLatin + "3.safetensors"},
  };
  for (const auto& command : commands) {
    SCOPED_TRACE(command[0] + " " + command.back());
    const ToolResult r = run_tool(command, folder.path());
    EXPECT_EQ(r.exit_code, 0) << r.err;
    if (command.end() == std::find(command.begin(), command.end(), "--json")) continue;
    for (const std::string& line : lines(r.out)) EXPECT_TRUE(Json::accept(line)) << line;
  }
  // A recipe knows its own folder again; what it says of the model is not of interest here.
  for (int run = 0; run < 2; ++run) {
    const ToolResult r = run_tool({"recipe", file, "--steps", "1", "--json"}, folder.path());
    EXPECT_TRUE(r.exit_code == 0 || r.exit_code == kExitCheckFailed) << r.exit_code << r.err;
  }
  // Pages are UTF-8 for any input.
  for (const char* page : {".html", ".svg"}) {
    const std::string text = read_text(folder.path(kLatin + page));
    EXPECT_NE(text, "");
    EXPECT_EQ(text.find('\xE9'), std::string::npos) << page;
  }
  // Messages say the name, and JSON is JSON.
  const ToolResult missing = run_tool({"train", file, "--json", "--set", "data=none\xFF"}, folder.path());
  EXPECT_EQ(missing.exit_code, kExitDataError) << missing.err;
  EXPECT_NE(missing.err.find("none\xFF"), std::string::npos) << missing.err;
  folder.write("bad\xFF.nn", "model m(x: f32[2]) { return relo(x) }\n");
  const ToolResult bad = run_tool({"train", "bad\xFF.nn", "--json"}, folder.path());
  EXPECT_EQ(bad.exit_code, kExitModelError) << bad.err;
  for (const std::string& line : lines(bad.out)) EXPECT_TRUE(Json::accept(line)) << line;
}

TEST(Csv, TheFirstLineIsNotLost) {
  TemporaryFolder folder;
  folder.write("t.csv", "1,2,0\n3,4,1\n");
  const auto text = [](const std::string& header) {
    return "data d = csv(\"t.csv\", batch=2" + header + R"() {
    field x: f32[2] = [0, 1]
    field label: i32 = 2
}
model net(x: f32[2]) = x |> dense(2)
train {
    logits = net(d.x)
    loss cross_entropy(logits, d.label)
    optimizer sgd(lr=0)
}
)";
  };
  folder.write("m.nn", text(""));
  const ToolResult doubtful = run_tool({"train", "m.nn"}, folder.path());
  EXPECT_EQ(doubtful.exit_code, kExitDataError) << doubtful.out << doubtful.err;
  for (const char* piece : {"t.csv:1:", "is the number 1", "`header=false`", "`header=true`"})
    EXPECT_NE(doubtful.err.find(piece), std::string::npos) << doubtful.err;
  folder.write("m.nn", text(", header=false"));
  const ToolResult all = run_tool({"train", "m.nn", "--json"}, folder.path());
  EXPECT_EQ(all.exit_code, 0) << all.err;
}

// `predict --input` refused the float64 that the source takes.
TEST(Predict, TakesTheNumbersThatTheSourceTakes) {
  TemporaryFolder folder;
  std::string rows;
  for (int i = 0; i < 61; ++i) rows += std::to_string(1700000000 + i) + ",0,0\n";
  std::filesystem::create_directories(folder.path(kLatin));
  folder.write(kLatin + "/t.csv", "x,y," + kLatin + "\n" + rows);
  std::string text = model("    normalize x by channel\n");  // predicts what it reads
  text.replace(text.find("predict   logits"), 16, "predict   points.x");
  folder.write("m.nn", text);
  ASSERT_EQ(run_tool({"train", "m.nn", "--steps", "1", "--save", "w"}, folder.path()).exit_code, 0);
  const auto write = [&](const std::string& dtype, const std::vector<double>& values) {
    std::string file = runtime::npy_header(dtype, {static_cast<int64_t>(values.size()) / 2, 2});
    for (const double v : values) {
      const auto single = static_cast<float>(v);
      dtype == "<f8" ? file.append(reinterpret_cast<const char*>(&v), 8)
                     : file.append(reinterpret_cast<const char*>(&single), 4);
    }
    folder.write("x.npy", file);
  };
  const auto predicted = [&] {
    const ToolResult r =
        run_tool({"predict", "m.nn", "--json", "--weights", "w", "--input", "x.npy"}, folder.path());
    EXPECT_EQ(r.exit_code, 0) << r.err;
    std::vector<double> first;
    for (const std::string& line : lines(r.out))
      if (const Json event = Json::parse(line); event.contains("predict"))
        first.push_back(event["predict"][0]);
    return first;
  };
  write("<f8", {1.7e9, 0, 1.7e9 + 30, 0, 1.7e9 + 60, 0});
  const std::vector<double> exact = predicted();
  ASSERT_EQ(exact.size(), 3u);
  const double end = 30 / std::sqrt((61.0 * 61 - 1) / 12);  // of 0..60, in deviations
  EXPECT_NEAR(exact[0], -end, 1e-6);
  EXPECT_NEAR(exact[1], 0, 1e-6);
  EXPECT_NEAR(exact[2], end, 1e-6);
  write("<f4", {1.7e9, 0, 1.7e9 + 30, 0});  // floats have no 1.7e9 + 30
  EXPECT_NEAR(predicted()[1], -end, 1e-6);
}

// A file of 25 MB without any data; 20,000 arrays took 13 s, quadratically: these would take an hour.
TEST(Weights, ManyArraysAreRefusedSoon) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  std::string header = "{";
  for (int i = 0; i < 400'000; ++i)
    header += (i ? ",\"dense_1.weight_" : "\"dense_1.weight_") + std::to_string(i) +
              "\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}";
  header += "}";
  std::string size;
  for (int shift = 0; shift < 64; shift += 8)
    size += static_cast<char>(static_cast<uint64_t>(header.size()) >> shift);
  folder.write("w", size + header);
  const ToolResult r = run_tool({"eval", "m.nn", "--weights", "w"}, folder.path(), {}, 60);
  EXPECT_EQ(r.exit_code, kExitDataError) << r.err;
  EXPECT_NE(r.err.find("the weights do not fit"), std::string::npos) << r.err;
  EXPECT_NE(r.err.find("more"), std::string::npos) << r.err;
  EXPECT_LT(r.err.size(), 5000u);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which reserve terabytes
TEST(Memory, TooLittleIsSaid) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  int failed = 0;
  for (int megabytes = 48; megabytes <= 112; megabytes += megabytes < 80 ? 1 : 4) {
    const auto within = [&](const std::string& arguments) {
      const std::string command =
          "ulimit -v " + std::to_string(megabytes << 10) + "; exec " GRADC_TOOL " " + arguments;
      return run_bare({"/bin/sh", "-c", command}, folder.path(), {{"GRADC_CACHE", "off"}});
    };
    if (within("--version").exit_code != 0) continue;  // the program is not even loaded
    const ToolResult r = within("train m.nn --steps 1 --threads 2");
    SCOPED_TRACE(std::to_string(megabytes) + " MB: " + r.err);
    if (r.exit_code == 0) continue;
    ++failed;
    EXPECT_EQ(r.exit_code, kExitRunFailed);
    EXPECT_TRUE(r.err.find("memory") != std::string::npos || r.err.find("thread") != std::string::npos);
    EXPECT_EQ(r.err.find("internal error"), std::string::npos);
  }
  EXPECT_GT(failed, 0);
}

TEST(Memory, TheProcessLimitIsKnown) {
  TemporaryFolder folder;
  folder.write("large.nn", R"(data d = random(shape=[4], classes=2, train=64, test=8, batch=8)
model net(image: f32[4]) = image |> dense(40000) |> dense(8000) |> dense(2)
train {
    logits = net(d.image)
    loss cross_entropy(logits, d.label)
    optimizer sgd(lr=0.1)
}
)");
  const ToolResult r = run_bare(
      {"/bin/sh", "-c", "ulimit -v 1000000; exec " GRADC_TOOL " train large.nn --steps 1 --threads 1"},
      folder.path(), {{"GRADC_CACHE", "off"}});
  EXPECT_EQ(r.exit_code, kExitRunFailed) << r.out << r.err;
  EXPECT_NE(r.err.find("not enough memory for the parameters"), std::string::npos) << r.err;
  // It said that as much was available as the machine has.
  EXPECT_NE(r.err.find(" MiB are available"), std::string::npos) << r.err;
  EXPECT_NE(r.err.find("ulimit -v"), std::string::npos) << r.err;
}
#endif

}  // namespace
}  // namespace gradc::test::limits_test
