// `gradc reduce`: makes a model file or IR that shows something smaller, as long as it still shows it.
#pragma once
#include <functional>
#include <string>
#include <vector>

namespace gradc::driver {

// Whether a text still shows what is looked for.
using Interesting = std::function<bool(const std::string& text)>;

struct Reduction {
  std::string text;
  int64_t tries = 0;
};

// Each keeps `interesting(text)` true, which must hold at first; `better` is called with every text that is
// smaller. Both are deterministic: the same text and answers give the same result.
Reduction reduce_model(std::string text, const Interesting& interesting,
                       const std::function<void(const std::string&)>& better);
Reduction reduce_ir(std::string text, const Interesting& interesting,
                    const std::function<void(const std::string&)>& better);

}  // namespace gradc::driver
