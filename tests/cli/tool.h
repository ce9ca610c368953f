// Runs the real gradc as a user would and catches what it says. Knows nothing of what is tested.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace gradc::test {

struct ToolResult {
  int exit_code = -1;  // 128 + n when signal n ended it
  std::string out, err;
};

// GRADC_TOOL with these arguments, in `folder` (empty: here); `out_path` takes stdout instead of catching it.
// Ends it after `seconds`. Without the cache of compiled objects unless `variables` (of the environment) say
// otherwise.
ToolResult run_tool(const std::vector<std::string>& arguments, const std::string& folder = {},
                    const std::string& out_path = {}, int seconds = 120,
                    const std::map<std::string, std::string>& variables = {});

// Any program, by its path, with nothing in its environment but `variables`.
ToolResult run_bare(const std::vector<std::string>& command, const std::string& folder = {},
                    const std::map<std::string, std::string>& variables = {}, int seconds = 120);

// A fresh directory, removed with everything in it at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  std::string path(const std::string& name = {}) const { return name.empty() ? path_ : path_ + "/" + name; }
  // Writes a file and returns its path.
  std::string write(const std::string& name, const std::string& content) const;
  // Names of the files there.
  std::vector<std::string> files() const;

 private:
  std::string path_;
};

std::string read_text(const std::string& path);
std::vector<std::string> lines(const std::string& text);

// A small model on the embedded digits: softmax regression on 256 examples, batches of 32. `extra` goes into
// train { }.
std::string small_model(const std::string& optimizer = "sgd(lr=0.1)", const std::string& extra = "");

// The mean loss of the last epoch of `gradc train FILE` in a folder, with these options; a run that fails is a failure.
double last_training_loss(const std::string& folder, const std::string& file,
                          const std::vector<std::string>& options);

}  // namespace gradc::test
