// How runs begin, go on and end: options that the model file rules out, epochs that it has got since,
// signals.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::runs_test {
namespace {

void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << "no \"" << part << "\" in: " << text;
}

// What the model file's rules and the files' absence tell is told before anything is compiled.
TEST(EarlyErrors, ComeBeforeCompiling) {
  TemporaryFolder folder;
  folder.write("m.nn", small_model());
  for (const auto& [arguments, part] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"train", "m.nn", "--checkpoints", "c"}, "no rule"},
           {{"train", "m.nn", "--save-state"}, "--save FILE"},
           {{"train", "m.nn", "--resume", "none.st"}, "No such file"},
           {{"train", "m.nn", "--init-from", "none.st"}, "No such file"},
           {{"train", "m.nn", "--resume", "a", "--init-from", "b"}, "--resume and --init-from"},
           {{"eval", "m.nn", "--weights", "none.st"}, "No such file"},
           {{"predict", "m.nn", "--weights", "none.st"}, "No such file"}}) {
    std::vector<std::string> all = arguments;
    all.insert(all.end(), {"--print-after", "differentiate"});
    const ToolResult r = run_tool(all, folder.path());
    EXPECT_NE(r.exit_code, kExitOk);
    expect_parts(r.err, {part});
    EXPECT_EQ(r.err.find("func @"), std::string::npos) << "it was compiled: " << r.err;
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path("c")));
}

TEST(Resume, TrainsEpochsThatTheFileHasGot) {
  TemporaryFolder folder;
  const std::string model = small_model();
  const auto with = [&](const char* epochs) {
    std::string text = model;
    const size_t at = text.find("epochs");
    EXPECT_NE(at, std::string::npos);
    text.replace(at, text.find('\n', at) - at,
                 std::string("epochs ") + epochs + "\n    checkpoint every 1 epoch");
    folder.write("m.nn", text);
  };
  with("2");
  ASSERT_EQ(run_tool({"train", "m.nn", "--checkpoints", "c"}, folder.path()).exit_code, kExitOk);
  const std::vector<std::string> resume = {"train", "m.nn",     "--checkpoints",
                                           "c",     "--resume", "c/epoch-0002.safetensors"};
  const ToolResult complete = run_tool(resume, folder.path());
  EXPECT_EQ(complete.exit_code, kExitOk);
  expect_parts(complete.err, {"this run is complete, its 16 updates are done", "raise `epochs`", "--epochs"});
  with("3");
  const ToolResult more = run_tool(resume, folder.path());
  EXPECT_EQ(more.exit_code, kExitOk);
  expect_parts(more.err, {"epochs are 3 now, 2 when c/epoch-0002.safetensors was made", "epoch 3/3"});
  EXPECT_TRUE(std::filesystem::exists(folder.path("c/epoch-0003.safetensors")));
}

// What schedulers and closing terminals send: saved, with the signal in the exit code. The tool and a program
// that was compiled.
TEST(Signals, SaveAndExit) {
  TemporaryFolder folder;
  const std::string model = folder.write("m.nn", small_model()), program = folder.path("small");
  ASSERT_EQ(run_tool({"compile", "m.nn", "-o", "small", "--target", "x86-64-v2"}, folder.path()).exit_code,
            kExitOk);
  for (const std::string& command : {std::string(GRADC_TOOL), program})
    for (const int number : {SIGTERM, SIGHUP}) {
      const std::string weights = folder.path("w.safetensors"), log = folder.path("log");
      std::filesystem::remove(weights);
      std::filesystem::remove(log);
      const pid_t child = fork();
      if (child == 0) {
        for (const int n : {SIGINT, SIGTERM, SIGHUP}) std::signal(n, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr) || !freopen(log.c_str(), "w", stdout)) _exit(126);
        std::vector<std::string> words = {command, "train"};
        if (command != program) words.push_back(model);
        words.insert(words.end(), {"--epochs", "100000000", "--json", "--log-every", "1", "--save", weights});
        std::vector<char*> pointers;
        for (std::string& word : words) pointers.push_back(word.data());
        pointers.push_back(nullptr);
        execv(command.c_str(), pointers.data());
        _exit(127);
      }
      // Some steps are done, on a machine of any speed.
      for (int i = 0; i < 6000 && read_text(log).find("\"step\":2,") == std::string::npos; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      kill(child, number);
      int status = 0;
      waitpid(child, &status, 0);
      ASSERT_TRUE(WIFEXITED(status)) << command << " " << number;
      EXPECT_EQ(WEXITSTATUS(status), 128 + number) << command;
      EXPECT_EQ(run_tool({"eval", "m.nn", "--weights", "w.safetensors"}, folder.path()).exit_code, kExitOk);
    }
}

}  // namespace
}  // namespace gradc::test::runs_test
