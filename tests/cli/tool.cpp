// Runs the real gradc as a user would and catches what it says.
#include "tests/cli/tool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

namespace gradc::test {

namespace {

ToolResult run(const std::vector<std::string>& command, const std::string& folder,
               const std::string& out_path, int seconds, bool bare,
               const std::map<std::string, std::string>& variables) {
  int out[2], err[2];
  if (pipe(out) != 0 || pipe(err) != 0) throw std::runtime_error("pipe");
  const pid_t child = fork();
  if (child == 0) {
    if (!folder.empty() && chdir(folder.c_str()) != 0) _exit(127);
    const int to = out_path.empty() ? out[1] : open(out_path.c_str(), O_WRONLY | O_CREAT, 0644);
    dup2(to, STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    for (const int fd : {out[0], out[1], err[0], err[1]}) close(fd);
    if (bare) clearenv();
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> argv;
    for (const std::string& a : command) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(out[1]);
  close(err[1]);
  ToolResult result;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  pollfd fds[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
  std::string* texts[2] = {&result.out, &result.err};
  for (int open_pipes = 2; open_pipes > 0;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    if (left <= 0 || poll(fds, 2, static_cast<int>(left)) <= 0) {
      kill(child, SIGKILL);
      result.err += "\n[ended after " + std::to_string(seconds) + " s]";
      break;
    }
    for (int i = 0; i < 2; ++i) {
      if (!(fds[i].revents & (POLLIN | POLLHUP))) continue;
      char block[4096];
      const ssize_t n = read(fds[i].fd, block, sizeof block);
      if (n > 0) {
        texts[i]->append(block, static_cast<size_t>(n));
      } else {
        fds[i].fd = -1;
        --open_pipes;
      }
    }
  }
  close(out[0]);
  close(err[0]);
  int status = 0;
  waitpid(child, &status, 0);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace

ToolResult run_tool(const std::vector<std::string>& arguments, const std::string& folder,
                    const std::string& out_path, int seconds,
                    const std::map<std::string, std::string>& variables) {
  std::vector<std::string> command = {GRADC_TOOL};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::map<std::string, std::string> all = variables;
  all.emplace("GRADC_CACHE", "off");
  return run(command, folder, out_path, seconds, false, all);
}

ToolResult run_bare(const std::vector<std::string>& command, const std::string& folder,
                    const std::map<std::string, std::string>& variables, int seconds) {
  return run(command, folder, {}, seconds, true, variables);
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "gradc_test_XXXXXX").string();
  if (!mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::write(const std::string& name, const std::string& content) const {
  const std::filesystem::path file = path(name);
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << content;
  return file.string();
}

std::vector<std::string> TemporaryFolder::files() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_))
    names.push_back(entry.path().filename().string());
  return names;
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) result.push_back(line);
  return result;
}

std::string small_model(const std::string& optimizer, const std::string& extra) {
  return "data digits = synthetic_digits(train=256, test=96, batch=32)\n"
         "model small(image: f32[1, 28, 28]) {\n"
         "    return image |> flatten |> dense(10, init=normal(0, 0.01))\n"
         "}\n"
         "train {\n"
         "    logits    = small(digits.image)\n"
         "    loss      cross_entropy(logits, digits.label)\n"
         "    metric    accuracy(logits, digits.label)\n"
         "    predict   softmax(logits)\n"
         "    optimizer " +
         optimizer +
         "\n"
         "    epochs    2\n"
         "    seed      1\n" +
         extra + "}\n";
}

double last_training_loss(const std::string& folder, const std::string& file,
                          const std::vector<std::string>& options) {
  std::vector<std::string> arguments{"train", file, "--json"};
  arguments.insert(arguments.end(), options.begin(), options.end());
  const ToolResult r = run_tool(arguments, folder);
  EXPECT_EQ(r.exit_code, 0) << r.err;
  double loss = std::nan("");
  for (const std::string& line : lines(r.out))
    if (const auto event = nlohmann::json::parse(line); event.at("event") == "epoch")
      loss = event.at("train_loss");
  return loss;
}

}  // namespace gradc::test
