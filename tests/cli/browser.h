// Opens a page that gradc wrote in Chromium, as a reader would. Knows nothing of what is tested.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace gradc::test {

// Chromium's path; empty where there is none: such tests are skipped.
std::string browser();

// Shows the page in `folder`/`page` once `window.ready` has come and `script` has run, statements that fill
// the object `got`, and returns that object. With them come `errors`, what the page's script threw or wrote
// to the console, and `scripts`, how many files the page refers to.
nlohmann::json read_page(const std::string& folder, const std::string& page, const std::string& script);

}  // namespace gradc::test
