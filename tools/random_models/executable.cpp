// Runs `gradc compile`, `gradc train` and the compiled executable, and compares the last event of both trainings.
#include "tools/random_models/executable.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/link.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::random_models {

namespace {

struct Said {
  int code = -1;
  std::string text;
};

// Through a shell: every path is generated here.
Said run(const std::string& command) {
  Said said;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) throw RunError(kExitRunFailed, "random_models: no process can be started");
  char block[4096];
  for (size_t n; (n = fread(block, 1, sizeof block, pipe)) > 0;) said.text.append(block, n);
  const int status = pclose(pipe);
  said.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return said;
}

nlohmann::json last_event(const std::string& text) {
  const size_t at = text.find("{\"event\":\"end\"");
  if (at == std::string::npos) return nullptr;
  return nlohmann::json::parse(text.substr(at, text.find('\n', at) - at), nullptr, false);
}

}  // namespace

std::optional<Finding> compare_executable(const std::string& text) {
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  const std::string tool = (self.parent_path() / "gradc").string();
  if (!std::filesystem::exists(tool))
    throw RunError(kExitRunFailed, fmt::format("random_models: '{}' is not there; build gradc", tool));
  const cli::TemporaryDirectory folder;
  const std::string model = folder.write("model.nn", text), program = folder.path("model");
  const Said compiled = run(fmt::format("'{}' compile '{}' -o '{}' --target native", tool, model, program));
  if (compiled.code != 0) return Finding{"compile", compiled.text};
  const std::string options = "train --json --threads 2";
  const Said alone = run(fmt::format("'{}' {}", program, options));
  const Said inside = run(fmt::format("'{}' train '{}' --json --threads 2", tool, model));
  if (alone.code != inside.code)
    return Finding{"exit code", fmt::format("the executable ends with {} and the tool with {}:\n{}\n{}",
                                            alone.code, inside.code, alone.text, inside.text)};
  if (alone.code != 0) return std::nullopt;  // both diverge
  const nlohmann::json a = last_event(alone.text), b = last_event(inside.text);
  for (const char* what : {"weights_sha256", "train_loss", "test_loss"})
    if (a.value(what, nlohmann::json()) != b.value(what, nlohmann::json()))
      return Finding{"bits", fmt::format("{} is {} in the executable and {} in the tool", what,
                                         a.value(what, nlohmann::json()).dump(),
                                         b.value(what, nlohmann::json()).dump())};
  if (a.is_null()) return Finding{"no end", "no end event:\n" + alone.text};
  return std::nullopt;
}

}  // namespace gradc::random_models
