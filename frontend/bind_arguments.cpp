// Matches the arguments of a call to parameters.
#include <fmt/format.h>

#include <algorithm>

#include "frontend/calls.h"
#include "frontend/error_codes.h"

namespace gradc::frontend {

bool bind_arguments(CallStack& stack, const std::string& callee, const std::vector<std::string>& names,
                    const std::vector<bool>& required, const std::vector<BoundArgument>& arguments,
                    const std::map<std::string, Value>& given, Span span, std::vector<BoundArgument>& out) {
  out.assign(names.size(), {});
  for (BoundArgument& b : out) {
    b.value = Value::none();
    b.span = span;
  }
  std::vector<bool> filled(names.size(), false);
  bool fine = true;
  size_t next = 0;
  for (const BoundArgument& a : arguments) {
    size_t at = 0;
    if (a.name.empty()) {
      while (next < names.size() && given.count(names[next])) ++next;
      at = next++;
      if (at >= names.size()) {
        stack
            .error(codes::extra_argument, a.span,
                   fmt::format(
                       "`{}` takes {} positional argument{}", callee,
                       names.size() - std::count_if(names.begin(), names.end(),
                                                    [&](const std::string& n) { return given.count(n); }),
                       names.size() == 1 ? "" : "s"))
            .helps.push_back(fmt::format("its parameters are {}", fmt::join(names, ", ")));
        return false;
      }
    } else {
      at = static_cast<size_t>(std::find(names.begin(), names.end(), a.name) - names.begin());
      if (at == names.size()) {
        Diagnostic& d = stack.error(codes::unknown_argument, a.span,
                                    fmt::format("`{}` has no parameter `{}`", callee, a.name));
        d.expected = fmt::format("{}", fmt::join(names, ", "));
        if (!d.suggest(a.name, names) && !names.empty())
          d.helps.push_back(fmt::format("its parameters are {}", fmt::join(names, ", ")));
        fine = false;
        continue;
      }
    }
    if (filled[at]) {
      stack.error(codes::extra_argument, a.span, fmt::format("`{}` is given `{}` twice", callee, names[at]));
      fine = false;
      continue;
    }
    filled[at] = true;
    out[at] = a;
    out[at].name = names[at];
  }
  std::vector<std::string> missing;
  for (size_t i = 0; i < names.size(); ++i) {
    if (filled[i]) continue;
    out[i].name = names[i];
    if (const auto it = given.find(names[i]); it != given.end())
      out[i].value = it->second;
    else if (required[i])
      missing.push_back("`" + names[i] + "`");
  }
  if (missing.empty() || !fine) return fine;
  stack.error(codes::missing_argument, span,
              fmt::format("`{}` needs its argument{} {}", callee, missing.size() == 1 ? "" : "s",
                          fmt::join(missing, ", ")));
  return false;
}

}  // namespace gradc::frontend
