// Pages of one file: a template, its style and script, and a compressed record.
#include "cli/page.h"

#include <nettle/base64.h>
#include <zlib.h>

#include <nlohmann/json.hpp>

#include "cli/page_text.h"
#include "support/check.h"
#include "support/json_line.h"
#include "support/source_view.h"

namespace gradc::cli {

namespace {

std::string gzip_base64(const std::string& text) {
  uLongf size = compressBound(text.size());
  std::string packed(size + 32, '\0');
  z_stream stream{};
  if (deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) != Z_OK)
    throw InternalError("zlib does not start");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  const int status = deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  if (status != Z_STREAM_END) throw InternalError("zlib does not end");
  std::string out(BASE64_ENCODE_RAW_LENGTH(packed.size()), '\0');
  base64_encode_raw(out.data(), packed.size(), reinterpret_cast<const uint8_t*>(packed.data()));
  return out;
}

// Every `word` replaced by `text`.
void fill(std::string& page, const std::string& word, const std::string& text) {
  size_t at = page.find(word);
  GRADC_CHECK(at != std::string::npos, "the page has no place for {}", word);
  for (; at != std::string::npos; at = page.find(word, at + text.size())) page.replace(at, word.size(), text);
}

}  // namespace

std::string escape_markup(const std::string& text) {
  std::string out;
  for (const char c : printable(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string fill_page(const char* page, const std::string& title, const char* style, const char* script,
                      const nlohmann::ordered_json& record) {
  std::string text = page;
  fill(text, "{{title}}", escape_markup(title));
  fill(text, "{{style}}", std::string(kCommonStyle) + style);
  fill(text, "{{data}}", gzip_base64(json_line(record)));
  fill(text, "{{script}}", std::string(kCommonScript) + script);
  return text;
}

}  // namespace gradc::cli
