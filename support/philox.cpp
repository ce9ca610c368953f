#include "support/philox.h"

namespace gradc {

PhiloxWords philox4x32_10(const PhiloxWords& counter, uint32_t key0, uint32_t key1) {
  PhiloxWords x = counter;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * x[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * x[2];
    x = {static_cast<uint32_t>(p1 >> 32) ^ x[1] ^ key0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ x[3] ^ key1, static_cast<uint32_t>(p0)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return x;
}

uint32_t random_word(uint64_t seed, uint64_t micro_step, uint32_t stream, uint64_t row, uint64_t element) {
  const PhiloxWords counter = {static_cast<uint32_t>(row / 32 * 8 + row % 8), static_cast<uint32_t>(element),
                               stream, static_cast<uint32_t>(micro_step >> 32)};
  const uint32_t key0 = static_cast<uint32_t>(seed) ^ static_cast<uint32_t>(seed >> 32) * 0x9E3779B9u;
  return philox4x32_10(counter, key0, static_cast<uint32_t>(micro_step))[row / 8 % 4];
}

}  // namespace gradc
