// Random choices that are the same on every machine; knows nothing of models.
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace gradc::random_models {

class Draw {
 public:
  // Numbers of one seed are independent sequences: SplitMix64 (Steele et al. 2014) from a mixed start.
  Draw(uint64_t seed, uint64_t number) : state_(seed * 0x9E3779B97F4A7C15u) {
    state_ = word() ^ (number * 0xD1B54A32D192ED03u);
    word();
  }

  uint64_t word() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // [0, 1)
  double share() { return static_cast<double>(word() >> 11) * 0x1p-53; }
  bool chance(double probability) { return share() < probability; }
  // From low to high, both possible.
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(word() % static_cast<uint64_t>(high - low + 1));
  }
  size_t index(size_t count) { return static_cast<size_t>(word() % count); }
  template <typename T>
  const T& of(const std::vector<T>& list) {
    return list[index(list.size())];
  }
  template <typename T>
  T of(std::initializer_list<T> list) {
    return list.begin()[index(list.size())];
  }

 private:
  uint64_t state_;
};

}  // namespace gradc::random_models
