// Reads the embedded explanations of error codes. Knows nothing of when errors are raised.
#include "frontend/explanations.h"

#include <sstream>

namespace gradc::frontend {

namespace {

// Declarations that complete an example which does not contain them.
constexpr const char* kData = "data digits = synthetic_digits(batch=16)\n";
constexpr const char* kModel = "model net(image: f32[1, 28, 28]) = image |> flatten |> dense(10)\n";
constexpr const char* kTrain =
    "train {\n"
    "    loss      cross_entropy(net(digits.image), digits.label)\n"
    "    optimizer sgd(lr=0.1)\n"
    "}\n";

bool has_line(const std::string& text, const std::string& start) {
  return text.rfind(start, 0) == 0 || text.find("\n" + start) != std::string::npos;
}

void trim(std::string& text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
}

}  // namespace

std::string Explanation::file(char sign) const {
  if (example.empty()) return "";
  std::string shown;
  std::istringstream in(example);
  for (std::string line; std::getline(in, line);)
    if (line[0] == ' ' || line[0] == sign) shown += line.substr(1) + "\n";
  std::string whole = has_line(shown, "data ") ? "" : kData;
  const bool model = has_line(shown, "model "), train = has_line(shown, "train ");
  // A model comes before `train`.
  if (!model && train) whole += kModel;
  whole += shown;
  if (!model && !train) whole += kModel;
  if (!train) whole += kTrain;
  return whole;
}

const std::vector<Explanation>& explanations() {
  static const std::vector<Explanation> list = [] {
    std::vector<Explanation> result;
    std::istringstream in(kErrorCodesText);
    bool within = false;
    for (std::string line; std::getline(in, line);) {
      if (line.rfind("## ", 0) == 0) {
        result.emplace_back();
        result.back().code = line.substr(3);
      } else if (result.empty()) {
        continue;  // the introduction
      } else if (line == "```") {
        within = !within;
      } else if (within) {
        result.back().example += line + "\n";
      } else if (!line.empty() || !result.back().text.empty()) {
        result.back().text += line + "\n";
      }
    }
    for (Explanation& e : result) trim(e.text);
    return result;
  }();
  return list;
}

std::map<std::string, std::string> settings_in(const std::string& text) {
  std::map<std::string, std::string> result;
  std::istringstream lines(text);
  const std::string mark = "# --set ";
  for (std::string line; std::getline(lines, line);) {
    const size_t equals = line.find('=');
    if (line.compare(0, mark.size(), mark) == 0 && equals != std::string::npos)
      result[line.substr(mark.size(), equals - mark.size())] = line.substr(equals + 1);
  }
  return result;
}

}  // namespace gradc::frontend
