// The long explanation of each error code, with an example and its correction: frontend/error_codes.md,
// embedded.
#pragma once
#include <map>
#include <string>
#include <vector>

namespace gradc::frontend {

struct Explanation {
  std::string code;
  std::string text;     // paragraphs
  std::string example;  // lines that begin with ' ', '-' (wrong) or '+' (mended); empty: none
  // The example as a whole model file, with its wrong or its mended lines.
  std::string wrong() const { return file('-'); }
  std::string mended() const { return file('+'); }

 private:
  std::string file(char sign) const;
};

// In the order of the codes.
const std::vector<Explanation>& explanations();

// Lines "# --set name=value" of a file are settings for it.
std::map<std::string, std::string> settings_in(const std::string& text);

extern const char* const kErrorCodesText;

}  // namespace gradc::frontend
