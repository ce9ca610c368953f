// safetensors, .npy and SHA-256: what is written reads back, what is damaged is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include <cstring>

#include "runtime/data/npy.h"
#include "runtime/execution/safetensors.h"
#include "runtime/sha256.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/experiment.h"
#include "tests/runtime/helpers.h"

namespace gradc::runtime::formats_test {
namespace {

using test::Bytes;
using test::expect_error;
using test::TemporaryFolder;

TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(Sha256().hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 hash;
  hash.add("a", 1);
  hash.add("bc", 2);
  EXPECT_EQ(hash.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

Bytes tensors_file(std::string header, size_t data_bytes) {
  Bytes bytes;
  for (int shift = 0; shift < 64; shift += 8)
    bytes.push_back(static_cast<uint8_t>(uint64_t{header.size()} >> shift));
  for (char c : header) bytes.push_back(static_cast<uint8_t>(c));
  for (size_t i = 0; i < data_bytes; ++i) bytes.push_back(static_cast<uint8_t>(i));
  return bytes;
}

TEST(Safetensors, WritesAndReads) {
  TemporaryFolder folder;
  const float a[6] = {1, 2, 3, 4, 5, 6}, b[1] = {-0.0f};
  const auto bytes = [](const float* values) { return reinterpret_cast<const uint8_t*>(values); };
  write_safetensors(folder / "w",
                    {{"b", {"F32", {}, bytes(b), 4}},
                     {"a", {"F32", {2, 3}, bytes(a), 24}},
                     {"none", {"F32", {0, 4}, bytes(a), 0}}},
                    {{"source", "line 1\nline \"2\" \xc3\xa4"}});
  const TensorFile file = read_safetensors(folder / "w");
  ASSERT_EQ(file.tensors.size(), 3u);
  EXPECT_EQ(file.tensors.at("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(file.tensors.at("a").data, a, 24), 0);
  EXPECT_EQ(std::memcmp(file.tensors.at("b").data, b, 4), 0);
  EXPECT_EQ(file.tensors.at("none").bytes, 0u);
  EXPECT_EQ(file.metadata.at("source"), "line 1\nline \"2\" \xc3\xa4");
  // The form that other readers expect: length, then JSON, the data aligned to 8.
  const Bytes raw = test::read_bytes(folder / "w");
  uint64_t length = 0;
  std::memcpy(&length, raw.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(raw.size(), 8 + length + 28);
  EXPECT_EQ(raw[8], '{');
}

TEST(Safetensors, RefusesWrongFiles) {
  const auto fails = [](const Bytes& bytes, const std::vector<std::string>& pieces) {
    std::vector<std::string> all = {"the-file"};
    all.insert(all.end(), pieces.begin(), pieces.end());
    expect_error(kExitDataError, all, [&] { parse_safetensors("the-file", bytes); });
  };
  const auto one = [](const std::string& entry, size_t data) {
    return tensors_file("{\"a\":" + entry + "}", data);
  };
  EXPECT_EQ(
      parse_safetensors("f", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 8)).tensors.size(),
      1u);
  fails({}, {"0 bytes"});
  fails({1, 2, 3}, {"3 bytes"});
  fails(Bytes(8, 0xFF), {"header of 18446744073709551615"});
  fails(Bytes(8, 0), {"does not begin with {"});
  Bytes cut = one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 8);
  fails(Bytes(cut.begin(), cut.begin() + 20), {"truncated"});
  fails(Bytes(cut.begin(), cut.end() - 1), {"`a`", "truncated"});
  fails(tensors_file("{\"a\":", 0), {"not JSON"});
  fails(tensors_file("{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}", 0), {"nests"});
  fails(tensors_file("{" + std::string(100000, '['), 0), {"not JSON"});
  fails(tensors_file("{\"a\":" + std::string(100000, '['), 0), {"nests"});
  fails(one("3", 0), {"`a`", "exactly"});
  fails(one(R"({"dtype":"F32","shape":[2]})", 8), {"exactly"});
  fails(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1})", 8), {"exactly"});
  fails(one(R"({"dtype":"F33","shape":[2],"data_offsets":[0,8]})", 8), {"dtype \"F33\" is unknown"});
  fails(one(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})", 8), {"-2 is no size"});
  fails(one(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})", 8), {"2.0 is no size"});
  fails(one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})", 8), {"too large"});
  fails(one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})", 8), {"bytes 8 to 0"});
  fails(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]})", 8), {"`a` is at"});
  fails(one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})", 8), {"needs 12 bytes", "8 are set aside"});
  fails(one(R"({"dtype":"F32","shape":[2],"data_offsets":[4,12]})", 12), {"begins at byte 4", "expected 0"});
  fails(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 12), {"4 bytes follow"});
  fails(
      tensors_file(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
          12),
      {"`b` begins at byte 4", "overlap"});
  fails(
      tensors_file(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          8),
      {"names `a` twice"});
  fails(tensors_file(R"({"__metadata__":{"a":1}})", 0), {"__metadata__", "no string"});
  fails(tensors_file(R"({"__metadata__":[]})", 0), {"__metadata__ is no object"});
  fails(tensors_file(R"({"__metadata__":3})", 0), {"__metadata__ is no object"});
  fails(tensors_file(R"({"__metadata__":{"a":{}}})", 0), {"__metadata__ `a` is no string"});
  fails(tensors_file(R"({"__metadata__":{"a":"x","a":"y"}})", 0), {"names `a` twice"});
  fails(tensors_file(R"({"__metadata__":{},"__metadata__":{}})", 0), {"names `__metadata__` twice"});
  fails(one(R"({"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]})", 8), {"names `dtype` twice"});
  fails(one(R"({"dtype":["F32"],"shape":[2],"data_offsets":[0,8]})", 8), {"dtype [..] is unknown"});
  fails(one(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})", 8), {"shape is no list"});
  fails(one(R"({"dtype":"F32","shape":[[2]],"data_offsets":[0,8]})", 8), {"[..] is no size"});
  fails(one(R"({"dtype":"F32","shape":[2],"data_offsets":{"a":0}})", 8), {"must be two numbers"});
  fails(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4,8]})", 8), {"must be two numbers"});
  fails(one("[]", 0), {"`a` must have exactly"});
}

// 20,000 arrays took 13 s, quadratically.
TEST(Safetensors, ManyArraysTakeLinearTime) {
  const auto file = [](int count) {
    std::string header = "{";
    for (int i = 0; i < count; ++i)
      header += std::string(i ? "," : "") + "\"t" + std::to_string(i) +
                "\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}";
    return tensors_file(header + "}", 0);
  };
  const auto seconds = [&](const Bytes& bytes, size_t count) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(parse_safetensors("f", bytes).tensors.size(), count);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const Bytes few = file(20'000), many = file(320'000);
  double least = 1e9;  // of several: other work on the machine only adds
  for (int i = 0; i < 3; ++i) least = std::min(least, seconds(few, 20'000));
  EXPECT_LT(seconds(many, 320'000), 160 * least);  // linear: 16 and a logarithm; quadratic: 256
  const auto peak = test::peak_memory([&] { parse_safetensors("f", many); });
  if (!peak) GTEST_SKIP() << "the peak of memory cannot be measured here";
  EXPECT_LT(*peak, static_cast<int64_t>(many.size()) * 8);  // a copy, and six times the header
}

TEST(Experiment, StringsAreBytes) {
  std::string all;
  for (int i = 1; i < 256; ++i) all += static_cast<char>(i);
  const std::string text = text_of_bytes(all);
  EXPECT_EQ(bytes_of_text(text), all);
  EXPECT_EQ(text_of_bytes("plain/path.csv"), "plain/path.csv");
  EXPECT_EQ(text_of_bytes("\xE9\xFF"), "\xC3\xA9\xC3\xBF");  // U+00E9, U+00FF
  EXPECT_THROW(bytes_of_text("\xC4\x80"), InternalError);
}

TEST(Safetensors, SurvivesDamage) {
  const Bytes good = tensors_file(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[],"data_offsets":[8,12]}})",
      12);
  test::Noise noise(7);
  int refused = 0;
  for (int round = 0; round < 5000; ++round) {
    try {
      parse_safetensors("fuzz", test::damaged(good, noise));
    } catch (const RunError& error) {
      ++refused;
      ASSERT_EQ(error.exit_code, kExitDataError);
    }
  }
  EXPECT_GT(refused, 3000);
}

Bytes npy_file(const std::string& header, size_t data) {
  Bytes bytes = {0x93,
                 'N',
                 'U',
                 'M',
                 'P',
                 'Y',
                 1,
                 0,
                 static_cast<uint8_t>(header.size()),
                 static_cast<uint8_t>(header.size() >> 8)};
  for (char c : header) bytes.push_back(static_cast<uint8_t>(c));
  bytes.resize(bytes.size() + data, 7);
  return bytes;
}

TEST(Npy, ReadsWhatItWrites) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{}, {3}, {2, 3}, {100000, 2, 1, 1}}) {
    const std::string header = npy_header("<f4", shape);
    EXPECT_EQ(header.size() % 64, 0u);
    Bytes bytes(header.begin(), header.end());
    size_t count = 4;
    for (int64_t extent : shape) count *= static_cast<size_t>(extent);
    bytes.resize(bytes.size() + count, 9);
    const NpyArray array = parse_npy("f", bytes);
    EXPECT_EQ(array.shape, shape);
    EXPECT_EQ(array.dtype, "<f4");
    EXPECT_EQ(array.bytes.size(), count);
  }
}

TEST(Npy, ReadsOtherHeaders) {
  const NpyArray array =
      parse_npy("f", npy_file("{\"shape\":(2,),'fortran_order':False , 'descr':'|u1'}   \n", 2));
  EXPECT_EQ(array.shape, std::vector<int64_t>{2});
  EXPECT_EQ(array.bytes, (Bytes{7, 7}));
  Bytes two = npy_file("{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }\n", 2);
  two[6] = 2;
  two.insert(two.begin() + 10, {0, 0});
  EXPECT_EQ(parse_npy("f", two).shape, std::vector<int64_t>{2});
}

TEST(Npy, RefusesWrongFiles) {
  const auto fails = [](const Bytes& bytes, const std::vector<std::string>& pieces) {
    std::vector<std::string> all = {"the-file"};
    all.insert(all.end(), pieces.begin(), pieces.end());
    expect_error(kExitDataError, all, [&] { parse_npy("the-file", bytes); });
  };
  fails({}, {"magic"});
  fails({0x93, 'N', 'U', 'M', 'P', 'Y', 9, 0, 0, 0}, {"version 9"});
  fails({0x93, 'N', 'U', 'M', 'P', 'Y', 2, 0, 0, 0}, {"ends within"});
  fails({0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 90, 0}, {"header of 90 bytes", "truncated"});
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  EXPECT_EQ(parse_npy("f", npy_file(good, 24)).bytes.size(), 24u);
  fails(npy_file(good, 23), {"24 bytes", "23 follow"});
  fails(npy_file(good, 25), {"25 follow"});
  fails(npy_file("{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }", 8),
        {"Fortran", "ascontiguousarray"});
  fails(npy_file("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8), {"'>f4'", "astype"});
  fails(npy_file("{'descr': 'O', 'fortran_order': False, 'shape': (2,), }", 8), {"'O'"});
  fails(npy_file("{'descr': '<f4', 'fortran_order': False, 'shape': (9000000000000000000, 9), }", 8),
        {"too large"});
  for (const char* header :
       {"", "{}", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': Maybe, 'shape': ()}", "{'descr",
        "import os", "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (), } more",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}"})
    fails(npy_file(header, 4), {"header is not of the form"});
}

TEST(Npy, SurvivesDamage) {
  const Bytes good = npy_file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", 24);
  test::Noise noise(11);
  int refused = 0;
  for (int round = 0; round < 5000; ++round) {
    try {
      const NpyArray array = parse_npy("fuzz", test::damaged(good, noise));
      uint64_t expected = array.dtype.back() - '0';
      for (int64_t extent : array.shape) expected *= static_cast<uint64_t>(extent);
      ASSERT_EQ(array.bytes.size(), expected);
    } catch (const RunError& error) {
      ++refused;
      ASSERT_EQ(error.exit_code, kExitDataError);
    }
  }
  EXPECT_GT(refused, 3000);
}

}  // namespace
}  // namespace gradc::runtime::formats_test
