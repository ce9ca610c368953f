// `gradc reduce`: makes a model file or IR smaller while it still has an interesting property.
#pragma once
#include <functional>
#include <set>
#include <string>
#include <vector>

namespace gradc::cli {

// Whether a text still has the interesting property.
using Interesting = std::function<bool(const std::string& text)>;

struct Reduction {
  std::string text;
  int64_t tries = 0;
};

// Shared by both reductions: the smallest text so far, and the candidates that were tried.
class Shrinking {
 public:
  Shrinking(std::string text, const Interesting& interesting,
            const std::function<void(const std::string&)>& better)
      : interesting_(interesting), better_(better) {
    result_.text = std::move(text);
  }
  // Continues from the candidate if it is new and still interesting.
  bool take(const std::string& candidate) {
    if (candidate == result_.text || !tried_.insert(candidate).second) return false;
    ++result_.tries;
    if (!interesting_(candidate)) return false;
    result_.text = candidate;
    better_(candidate);
    return true;
  }

 protected:
  Reduction result_;

 private:
  const Interesting& interesting_;
  const std::function<void(const std::string&)>& better_;
  std::set<std::string> tried_;
};

// Each keeps `interesting(text)` true, which must hold at first; `better` is called with every text that is
// smaller. Both are deterministic: the same text and answers give the same result.
Reduction reduce_model(std::string text, const Interesting& interesting,
                       const std::function<void(const std::string&)>& better);
Reduction reduce_ir(std::string text, const Interesting& interesting,
                    const std::function<void(const std::string&)>& better);

}  // namespace gradc::cli
