// include/gradc/gradc.h over the compiler: no exception leaves a function here.
#include "include/gradc/gradc.h"

#include <fmt/format.h>
#include <pthread.h>

#include <deque>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "capi/session.h"
#include "compiler/compile.h"
#include "compiler/memory.h"
#include "compiler/not_finite.h"
#include "runtime/threads.h"
#include "support/check.h"
#include "support/diagnostic.h"

using namespace gradc;

struct gradc_model {
  std::shared_ptr<const compiler::CompiledModel> compiled;
  std::shared_ptr<const compiler::CompileRequest> request;  // that it was compiled for
};

// Diagnostics with the storage of all their texts.
struct gradc_diagnostics {
  std::string text;
  std::deque<std::string> texts;
  std::deque<std::vector<gradc_location>> locations;
  std::deque<std::vector<const char*>> lists;
  std::vector<gradc_diagnostic> all;
};

namespace {

using Json = nlohmann::json;
using capi::guarded;

// The compiler limits nesting for a stack of this size; an embedding program's thread may have less.
constexpr size_t kStackBytes = size_t{16} << 20;

// Calls `body` on a stack of its own and passes on what it throws.
template <class F>
void on_large_stack(F&& body) {
  struct Call {
    F& body;
    std::exception_ptr failure;
  } call{body, nullptr};
  const auto run = [](void* argument) -> void* {
    auto& call = *static_cast<Call*>(argument);
    try {
      call.body();
    } catch (...) {
      call.failure = std::current_exception();
    }
    return nullptr;
  };
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread{};
  const int error = pthread_create(&thread, &attributes, run, &call);
  pthread_attr_destroy(&attributes);
  if (error != 0)
    throw RunError(kExitRunFailed, fmt::format("cannot start the thread that compiles: {}",
                                               std::generic_category().message(error)));
  pthread_join(thread, nullptr);
  if (call.failure) std::rethrow_exception(call.failure);
}

class Builder {
 public:
  explicit Builder(std::string text) { made_->text = std::move(text); }

  // A line as Diagnostics::render_json writes it.
  void add(const Json& line) {
    gradc_diagnostic d{};
    d.severity = GRADC_SEVERITY_ERROR;
    d.code = keep(line.at("code"));
    d.message = keep(line.at("message"));
    d.location = location(line);
    std::vector<gradc_location>& related = made_->locations.emplace_back();
    for (const Json& other : line.at("related")) related.push_back(location(other));
    d.related_count = static_cast<int32_t>(related.size());
    d.related = related.data();
    d.notes = keep_list(line.at("notes"), d.note_count);
    d.helps = keep_list(line.at("helps"), d.help_count);
    d.expected = keep(line.at("expected"));
    d.found = keep(line.at("found"));
    d.suggestion = keep(line.at("suggestion"));
    made_->all.push_back(d);
  }
  // An error without a location in the model file.
  void add(const std::string& message) {
    gradc_diagnostic d{};
    d.code = d.location.label = d.expected = d.found = d.suggestion = "";
    d.message = keep(message);
    made_->all.push_back(d);
  }
  gradc_diagnostics* release() { return made_.release(); }

 private:
  const char* keep(std::string text) { return made_->texts.emplace_back(std::move(text)).c_str(); }
  gradc_location location(const Json& at) {
    return {at.at("file").is_null() ? nullptr : keep(at.at("file")),
            at.at("line"),
            at.at("column"),
            at.at("end_line"),
            at.at("end_column"),
            keep(at.at("label"))};
  }
  const char* const* keep_list(const Json& texts, int32_t& count) {
    std::vector<const char*>& list = made_->lists.emplace_back();
    for (const Json& text : texts) list.push_back(keep(text));
    count = static_cast<int32_t>(list.size());
    return list.data();
  }

  std::unique_ptr<gradc_diagnostics> made_ = std::make_unique<gradc_diagnostics>();
};

compiler::CompileRequest request_of(const gradc_compile_options& options) {
  if (options.setting_count < 0 || (options.setting_count > 0 && !options.settings))
    throw RunError(kExitUsage, "gradc_model_compile: `settings` is null");
  if (options.batch < 0)
    throw RunError(kExitUsage,
                   fmt::format("gradc_model_compile: a batch of {}; expected at least 1, or 0 for "
                               "the model file's",
                               options.batch));
  if (options.memory_limit < 0 || options.limit_threads < 0 || options.limit_threads > runtime::kMaxThreads)
    throw RunError(kExitUsage, fmt::format("gradc_model_compile: a memory limit of {} bytes for {} threads; "
                                           "expected numbers from 0",
                                           options.memory_limit, options.limit_threads));
  compiler::CompileRequest request;
  for (int32_t i = 0; i < options.setting_count; ++i) {
    const gradc_setting& setting = options.settings[i];
    if (!setting.name || !setting.value)
      throw RunError(kExitUsage, fmt::format("gradc_model_compile: setting {} has a null pointer", i));
    if (!request.settings.emplace(setting.name, setting.value).second)
      throw RunError(kExitUsage,
                     fmt::format("gradc_model_compile: the setting `{}` is given twice", setting.name));
  }
  if (options.target) request.target = options.target;
  request.batch = options.batch;
  request.passes.strict_math = options.strict_math != 0;
  request.infer = options.infer != 0;
  request.training_first = true;
  request.passes.verify = false;
  if (options.cache) request.object_cache = options.cache;
  return request;
}

gradc_status compile(const char* file, const char* text, const gradc_compile_options* options,
                     gradc_model** model, gradc_diagnostics** diagnostics) {
  if (model) *model = nullptr;
  if (diagnostics) *diagnostics = nullptr;
  gradc_status status = GRADC_OK;
  try {
    status = guarded([&] {
      if (!file || !model) throw RunError(kExitUsage, "gradc_model_compile: a null pointer");
      gradc_compile_options defaults;
      gradc_compile_options_init(&defaults);
      const gradc_compile_options known = capi::known_options(options, defaults, "gradc_compile");
      compiler::CompileRequest request = request_of(known);
      request.file = file;
      if (text) request.text = text;
      auto made = std::make_unique<gradc_model>();
      std::optional<compiler::ModelError> error;  // guarded() cannot pass on a ModelError
      on_large_stack([&] {
        try {
          if (known.memory_limit > 0)
            compiler::fit_memory(request,
                                 known.limit_threads > 0 ? known.limit_threads : runtime::usable_processors(),
                                 known.memory_limit);
          made->compiled = std::make_shared<const compiler::CompiledModel>(request);
          made->request = std::make_shared<const compiler::CompileRequest>(request);
        } catch (const compiler::ModelError& found) {
          error = found;
        }
      });
      if (!error) {
        *model = made.release();
        return;
      }
      if (diagnostics) {
        Builder builder(error->what());
        std::istringstream lines(error->json);
        for (std::string line; std::getline(lines, line);) builder.add(Json::parse(line));
        *diagnostics = builder.release();
      }
      throw RunError(kExitModelError, error->what());
    });
    if (status != GRADC_OK && diagnostics && !*diagnostics) {
      Builder builder(gradc_last_error());
      builder.add(std::string(gradc_last_error()));
      *diagnostics = builder.release();
    }
  } catch (...) {  // no memory for the diagnostics: the caller has the status and the message
  }
  return status;
}

}  // namespace

extern "C" {

const char* gradc_version(void) { return GRADC_VERSION; }
int32_t gradc_version_number(void) { return GRADC_VERSION_NUMBER; }

gradc_status gradc_model_compile_file(const char* path, const gradc_compile_options* options,
                                      gradc_model** model, gradc_diagnostics** diagnostics) {
  return compile(path, nullptr, options, model, diagnostics);
}

gradc_status gradc_model_compile_string(const char* text, const char* name,
                                        const gradc_compile_options* options, gradc_model** model,
                                        gradc_diagnostics** diagnostics) {
  return compile(text ? (name ? name : "model.nn") : nullptr, text, options, model, diagnostics);
}

void gradc_model_free(gradc_model* model) { delete model; }

const char* gradc_model_target(const gradc_model* model) {
  return model ? model->compiled->program().target : "";
}

gradc_status gradc_session_create_from_model(const gradc_model* model, int32_t threads,
                                             gradc_session** session) {
  if (session) *session = nullptr;
  return guarded([&] {
    if (!model || !session)
      throw RunError(kExitUsage, fmt::format("gradc_session_create_from_model: `{}` is null",
                                             model ? "session" : "model"));
    *session = capi::create_session(model->compiled->program(), model->compiled, nullptr, threads);
    (*session)->explain = [request = model->request](const runtime::Session& failed,
                                                     const runtime::NotFiniteError& error) {
      runtime::NotFiniteReport report;
      on_large_stack([&] { report = compiler::explain_not_finite(*request, failed, error); });
      return report;
    };
  });
}

int32_t gradc_diagnostics_count(const gradc_diagnostics* diagnostics) {
  return diagnostics ? static_cast<int32_t>(diagnostics->all.size()) : 0;
}

gradc_status gradc_diagnostics_get(const gradc_diagnostics* diagnostics, int32_t index,
                                   gradc_diagnostic* diagnostic) {
  return guarded([&] {
    if (!diagnostics || !diagnostic) throw RunError(kExitUsage, "gradc_diagnostics_get: a null pointer");
    if (index < 0 || static_cast<size_t>(index) >= diagnostics->all.size())
      throw RunError(kExitUsage, fmt::format("gradc_diagnostics_get: there is no diagnostic {}; there are {}",
                                             index, diagnostics->all.size()));
    capi::give_result(diagnostic, diagnostics->all[static_cast<size_t>(index)], "gradc_diagnostic_init");
  });
}

const char* gradc_diagnostics_text(const gradc_diagnostics* diagnostics) {
  return diagnostics ? diagnostics->text.c_str() : "";
}

void gradc_diagnostics_free(gradc_diagnostics* diagnostics) { delete diagnostics; }

}  // extern "C"
