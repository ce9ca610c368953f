// `gradc cache`: the folder of compiled objects, its contents, and their removal. Knows nothing of the files' format.
#include "cli/cache.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "compiler/object_cache.h"
#include "runtime/execution/report.h"
#include "runtime/progress.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/environment.h"

namespace gradc::cli {

namespace {

struct CacheOptions {
  bool clear = false;
  bool json = false;
};

const char* variable(const char* name) {
  const char* text = environment(name);
  return text && *text ? text : nullptr;
}

}  // namespace

std::string default_cache_folder() {
  if (const char* folder = variable("GRADC_CACHE_DIR")) return folder;
  // The XDG specification says to ignore a path that is not absolute.
  if (const char* caches = variable("XDG_CACHE_HOME"); caches && *caches == '/')
    return fmt::format("{}/gradc", caches);
  if (const char* home = variable("HOME")) return fmt::format("{}/.cache/gradc", home);
  return "";
}

bool cache_is_on() { return environment_switch("GRADC_CACHE").value_or(true); }

namespace {

int run_cache(const CacheOptions& options) {
  const bool on = cache_is_on();
  const std::string folder = default_cache_folder();
  CacheUsage removed;
  if (options.clear && !folder.empty()) removed = clear_cache(folder);
  const CacheUsage usage = folder.empty() ? CacheUsage{} : cache_usage(folder);
  const std::string problem =
      folder.empty() ? "no folder is known: set GRADC_CACHE_DIR or HOME" : cache_problem(folder);
  if (options.json) {
    nlohmann::ordered_json event = {
        {"event", "cache"},         {"folder", folder},     {"on", on},
        {"entries", usage.entries}, {"bytes", usage.bytes}, {"limit", DiskObjectCache::kDefaultLimit},
        {"problem", problem}};
    if (options.clear) {
      event["removed_entries"] = removed.entries;
      event["removed_bytes"] = removed.bytes;
    }
    runtime::write_event(stdout, event);
    return kExitOk;
  }
  using runtime::count_text;
  if (!folder.empty()) fmt::print("folder   {}\n", folder);
  if (options.clear)
    fmt::print("removed  {} entries, {} bytes\n", count_text(removed.entries), count_text(removed.bytes));
  fmt::print("entries  {}\n", count_text(usage.entries));
  fmt::print("bytes    {} of at most {}\n", count_text(usage.bytes),
             count_text(static_cast<int64_t>(DiskObjectCache::kDefaultLimit)));
  if (!on) fmt::print(stderr, "gradc: the cache is not used: GRADC_CACHE is off\n");
  if (!problem.empty()) fmt::print(stderr, "gradc: nothing can be kept: {}\n", problem);
  return kExitOk;
}

}  // namespace

Command add_cache(CLI::App& app) {
  const auto o = std::make_shared<CacheOptions>();
  CLI::App* c = app.add_subcommand("cache", "say where compiled objects are kept, how many and how large");
  c->add_flag("--clear", o->clear, "remove them");
  c->add_flag("--json", o->json, "as JSON, one object a line");
  return {c, [o] { return run_cache(*o); }};
}

}  // namespace gradc::cli
