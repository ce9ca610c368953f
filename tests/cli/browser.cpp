// Chromium without a window: the page gets a reader's script, and the document that comes of it is read.
#include "tests/cli/browser.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/cli/tool.h"

namespace gradc::test {

namespace {

std::string unescaped(std::string text) {
  for (const auto& [from, to] :
       {std::pair{"&lt;", "<"}, {"&gt;", ">"}, {"&nbsp;", "\xc2\xa0"}, {"&amp;", "&"}})
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += std::string(to).size())
      text.replace(at, std::string(from).size(), to);
  return text;
}

}  // namespace

std::string browser() {
  for (const char* path : {"/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"})
    if (std::filesystem::exists(path)) return path;
  return "";
}

nlohmann::json read_page(const std::string& folder, const std::string& page, const std::string& script) {
  std::string text = read_text(folder + "/" + page);
  const std::string head = "<head>", end = "</body>";
  text.replace(text.rfind(end), end.size(), R"JS(<script>
window.ready.then(async () => {
  const got = {};
  const frame = () => new Promise((done) => setTimeout(done, 0));
  const text = (selector) => { const e = document.querySelector(selector); return e ? e.textContent : null; };
  got.scripts = document.querySelectorAll('[src], link[href]').length;
)JS" + script + R"JS(
  got.errors = window.errors;
  const out = document.createElement('pre');
  out.textContent = 'RESULTS' + JSON.stringify(got) + 'END';
  document.body.append(out);
}).catch((e) => document.body.append('FAILED ' + e.stack));
</script></body>)JS");
  text.insert(text.find(head) + head.size(),
              "<script>window.errors = []; onerror = (m) => errors.push(m); onunhandledrejection = (e) => "
              "errors.push(String(e.reason)); console.error = (...m) => errors.push(m.join(' '));</script>");
  std::ofstream(folder + "/read.html", std::ios::binary) << text;
  const ToolResult r =
      run_bare({browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
                "--virtual-time-budget=20000", "--window-size=1400,900", "--enable-logging=stderr",
                "--user-data-dir=" + folder + "/profile", "file://" + folder + "/read.html"},
               {}, {{"HOME", folder}, {"PATH", "/usr/bin:/bin"}}, 120);
  EXPECT_EQ(r.err.find("CONSOLE"), std::string::npos) << r.err;
  const size_t begin = r.out.rfind("RESULTS{"), stop = r.out.rfind("}END");
  if (begin == std::string::npos || stop == std::string::npos) {
    ADD_FAILURE() << r.err << r.out.substr(r.out.size() > 3000 ? r.out.size() - 3000 : 0);
    return {};
  }
  return nlohmann::json::parse(unescaped(r.out.substr(begin + 7, stop + 1 - begin - 7)));
}

}  // namespace gradc::test
