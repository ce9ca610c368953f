// The folder of `gradc recipe`: finished trials and verdicts as JSON, so that nothing is run twice. Knows files, not
// the meaning of their contents.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/recipe/recipe.h"

namespace gradc::cli {

nlohmann::ordered_json json_of(const Trial& trial);
nlohmann::ordered_json json_of(const Verdict& verdict);

// The name of a trial: the first digits of its configuration's SHA-256.
std::string id_of(const TrialConfig& config);

// The model that a folder's trials belong to.
struct RecipeIdentity {
  std::string model;                            // the file's name without its folder
  std::string source_sha256;                    // of its text
  std::map<std::string, std::string> settings;  // --set
};

class RecipeFolder {
 public:
  // Creates the folder, or reads an earlier run's. Throws RunError: kExitUsage for the folder of
  // another model, or one that holds other files; kExitRunFailed where it cannot be written; kExitDataError
  // for a damaged file.
  RecipeFolder(std::string path, const RecipeIdentity& identity);

  const std::string& path() const { return path_; }
  std::string page() const { return path_ + "/index.html"; }
  const RecipeIdentity& identity() const { return identity_; }
  // In the order of steps, then of ids.
  const std::vector<Trial>& trials() const { return trials_; }
  // A finished trial of this configuration, or null.
  const Trial* find(const TrialConfig& config) const;
  // Writes it immediately. The reference is valid until the next add().
  const Trial& add(Trial trial);
  // The last verdict on each step.
  const std::map<int, Verdict>& verdicts() const { return verdicts_; }
  void set(const Verdict& verdict);

 private:
  void read();
  void write() const;

  std::string path_;
  RecipeIdentity identity_;
  std::vector<Trial> trials_;
  std::map<int, Verdict> verdicts_;
};

}  // namespace gradc::cli
