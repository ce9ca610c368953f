// Linking with the system's C++ compiler, or a cross compiler. Knows nothing of models.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "codegen/jit.h"

namespace gradc::cli {

enum class LinkKind { executable, shared, object };

struct LinkRequest {
  LinkKind kind = LinkKind::executable;
  codegen::Architecture architecture = codegen::Architecture::x86_64;
  std::vector<std::string> objects;  // files, libraries among them, in order
  std::vector<std::string> keep;     // shared: the exported symbols
  std::vector<std::string> need;     // symbols whose library members are linked in addition
  std::string output;
  bool fully_static = false;  // needs no shared library at all
  bool strip = false;
};

// Throws RunError (exit 1) when there is no linker, with what to install, or when it fails, with its output.
void link(const LinkRequest& request);

// The library that executables are linked with, libgradc_standalone.a, relative to this tool: in ../lib/gradc/
// for this machine's architecture, in ../lib/gradc/aarch64-linux-gnu/ or x86_64-linux-gnu/ for the other one.
// Throws RunError (exit 1) when it is missing, with how to build it.
std::string standalone_library(codegen::Architecture architecture);

// A folder of its own for intermediate files, removed at the end.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  // Writes a file there and returns its path.
  std::string write(const std::string& name, std::string_view content) const;
  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace gradc::cli
