// The origin of an operation: a line of a model file and the trail of layer calls that led there.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

namespace gradc {

// One layer or function call on the way to an operation, innermost first through `parent`.
struct CallSite {
  std::string callee;    // "residual"
  std::string instance;  // "stage2.0.residual_1"; empty for functions
  std::string file;
  uint32_t line = 0;
  std::string details;  // "with channels=32, stride=2"
  std::shared_ptr<const CallSite> parent;
};

// A location in a source file (prelude files are named "prelude/NAME.nn"); line 0 means "nowhere".
struct Location {
  std::shared_ptr<const std::string> file;
  uint32_t line = 0;
  uint32_t column = 0;
  std::shared_ptr<const CallSite> call;  // null at the top level
  bool valid() const { return line != 0; }
};

// "mlp.nn:12:5", or "?" when invalid. For an operation written in the prelude, user_location() gives the innermost
// location in the user's file on its trail.
std::string to_string(const Location& l);
std::string user_location(const Location& l);

}  // namespace gradc
