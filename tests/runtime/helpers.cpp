#include "tests/runtime/helpers.h"

#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "support/check.h"

namespace gradc::runtime::test {

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "gradc-test-XXXXXX").string();
  if (!mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
  path_ = name;
}
TemporaryFolder::~TemporaryFolder() { std::filesystem::remove_all(path_); }

std::vector<std::string> TemporaryFolder::files() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void write_bytes(const std::string& path, const Bytes& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

Bytes read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

std::string read_text(const std::string& path) {
  const Bytes bytes = read_bytes(path);
  return std::string(bytes.begin(), bytes.end());
}

Bytes gzip(const Bytes& bytes) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  Bytes out(deflateBound(&stream, bytes.size()) + 32);
  stream.next_in = const_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = out.data();
  stream.avail_out = static_cast<uInt>(out.size());
  const int done = deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  if (done != Z_STREAM_END) throw std::runtime_error("deflate failed");
  return out;
}

Bytes idx_bytes(uint8_t type, const std::vector<uint32_t>& shape, const Bytes& data) {
  Bytes bytes = {0, 0, type, static_cast<uint8_t>(shape.size())};
  for (uint32_t extent : shape)
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(extent >> shift));
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

std::string expect_error(int exit_code, const std::vector<std::string>& pieces,
                         const std::function<void()>& run) {
  try {
    run();
  } catch (const RunError& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.exit_code, exit_code) << message;
    for (const std::string& piece : pieces)
      EXPECT_NE(message.find(piece), std::string::npos) << "no \"" << piece << "\" in: " << message;
    return message;
  }
  ADD_FAILURE() << "no error; expected one with \"" << (pieces.empty() ? "" : pieces[0]) << '"';
  return "";
}

std::optional<int64_t> peak_memory(const std::function<void()>& run) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  run();
  return {};
#else
  const auto bytes_of = [](const std::string& name) {
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);)
      if (line.starts_with(name + ":")) return std::stoll(line.substr(name.size() + 1)) * 1024;
    return 0ll;
  };
  std::ofstream reset("/proc/self/clear_refs");
  reset << "5" << std::flush;  // the peak becomes what is resident now
  const int64_t before = bytes_of("VmRSS");
  run();
  if (!reset || before == 0) return {};
  return bytes_of("VmHWM") - before;
#endif
}

Bytes damaged(const Bytes& original, Noise& noise) {
  Bytes bytes = original;
  const uint32_t times = 1 + noise(3);
  for (uint32_t i = 0; i < times && !bytes.empty(); ++i) {
    // Half of the damage goes to the first bytes, where headers are.
    const auto size = static_cast<uint32_t>(bytes.size());
    const uint32_t at = noise(2) ? noise(size) : noise(std::min(size, 24u));
    const auto place = bytes.begin() + at;
    static const uint8_t edges[] = {0, 1, 0x7F, 0x80, 0xFF};
    switch (noise(6)) {
      case 0: *place = static_cast<uint8_t>(noise(256)); break;
      case 1: *place = edges[noise(5)]; break;
      case 2: *place ^= static_cast<uint8_t>(1u << noise(8)); break;
      case 3: bytes.resize(at); break;
      case 4: bytes.insert(place, static_cast<uint8_t>(noise(256))); break;
      default: bytes.insert(bytes.end(), bytes.begin(), place); break;
    }
  }
  return bytes;
}

}  // namespace gradc::runtime::test
