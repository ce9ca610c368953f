// Online learning in a service: requests are lines on standard input, answers lines on standard output.
//   learn X1 X2 X3 X4 Y      one step on this example and the last ones seen; answers with the loss
//   predict X1 X2 X3 X4      the price
//   rate FACTOR              changes the learning rate
//   save FILE, load FILE     weights, with the optimizer's state
// A request that makes no sense is answered with an error; the service goes on.
//
// usage: online MODEL.nn
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "gradc/gradc.hpp"

namespace {

constexpr size_t kInputs = 4;

// The last examples, the oldest of which gives way to the next: a step on some more than the newest one moves
// the parameters more steadily.
class Memory {
 public:
  explicit Memory(int64_t rows) : rows_(static_cast<size_t>(rows)) {}
  void add(const std::vector<float>& x, float y) {
    if (y_.size() < rows_) {
      x_.insert(x_.end(), x.begin(), x.end());
      y_.push_back(y);
    } else {
      std::copy(x.begin(), x.end(), x_.begin() + static_cast<std::ptrdiff_t>(next_ * kInputs));
      y_[next_] = y;
    }
    next_ = (next_ + 1) % rows_;
  }
  const std::vector<float>& x() const { return x_; }
  const std::vector<float>& y() const { return y_; }

 private:
  size_t rows_, next_ = 0;
  std::vector<float> x_, y_;
};

std::vector<float> numbers(std::istream& in, size_t count) {
  std::vector<float> values(count);
  for (float& value : values)
    if (!(in >> value)) throw std::invalid_argument("expected " + std::to_string(count) + " numbers");
  return values;
}

std::string answer(gradc::Session& session, Memory& memory, const std::string& line) {
  std::istringstream in(line);
  std::ostringstream out;
  std::string what, file;
  in >> what;
  if (what == "learn") {
    std::vector<float> values = numbers(in, kInputs + 1);
    const float y = values.back();
    values.pop_back();
    memory.add(values, y);
    out << "loss " << session.step({memory.x(), memory.y()}).loss;
  } else if (what == "predict") {
    out << "price " << session.predict({numbers(in, kInputs)})[0];
  } else if (what == "rate") {
    session.set_lr_factor(numbers(in, 1)[0]);
    out << "ok";
  } else if (what == "save" && in >> file) {
    session.save_all(file);
    out << "ok";
  } else if (what == "load" && in >> file) {
    session.load(file);
    out << "ok";
  } else {
    throw std::invalid_argument("requests are learn, predict, rate, save FILE and load FILE");
  }
  return out.str();
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: online MODEL.nn\n";
    return 2;
  }
  gradc::Session session(gradc::Model::from_file(argv[1]), /*threads=*/1);
  Memory memory(session.batch());
  for (std::string line; std::getline(std::cin, line);) {
    try {
      std::cout << answer(session, memory, line) << std::endl;
    } catch (const std::exception& error) {  // gradc::Error too
      std::cout << "error " << error.what() << std::endl;
    }
  }
  return 0;
} catch (const gradc::Error& error) {
  std::cerr << error.what() << '\n';
  return error.status();
}
