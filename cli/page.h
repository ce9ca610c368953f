// Shared by all pages: text as markup, and a record that a page's script shows. Knows no page.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace gradc::cli {

// Escapes text for use inside elements and attributes.
std::string escape_markup(const std::string& text);

// A page of HTML that needs no other file: `page` with its {{title}}, the style and the script of all pages
// (cli/page/common.*) before its own, and the record, gzipped and in base64, so that its contents cannot be parsed as
// markup.
std::string fill_page(const char* page, const std::string& title, const char* style, const char* script,
                      const nlohmann::ordered_json& record);

}  // namespace gradc::cli
