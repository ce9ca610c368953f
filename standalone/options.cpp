// Options with CLI11, and the process around a command.
#include "standalone/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <exception>
#include <new>
#include <string_view>
#include <system_error>

#include "support/check.h"
#include "support/diagnostic.h"
#include "support/environment.h"

namespace gradc::standalone {

CLI::Option* add_list(CLI::App* app, const std::string& name, std::vector<std::string>& values,
                      const std::string& doc) {
  return app->add_option(name, values, doc)->allow_extra_args(false);
}

namespace {

// Digits with an optional sign. Empty: no whole number; else its value, clamped to the range of int64_t.
std::optional<int64_t> whole_number(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || text.find_first_not_of("0123456789") != text.npos) return {};
  if (text.size() > 1 && text[0] == '0') return {};  // CLI11 would read it as octal
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return negative ? INT64_MIN : INT64_MAX;
  return negative ? -value : value;
}

// Parses `text` into `value`; returns why it is no finite number, or an empty text.
std::string parse_number(std::string_view text, double& value) {
  std::string_view digits = text;
  if (digits.starts_with('+')) digits.remove_prefix(1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (end != digits.data() + digits.size() || error == std::errc::invalid_argument)
    return fmt::format("'{}' is not a number", text);
  if (error == std::errc::result_out_of_range)
    return fmt::format("'{}' is beyond the numbers that a double holds", text);
  return std::isfinite(value) ? "" : fmt::format("'{}' is not a finite number", text);
}

}  // namespace

CLI::Validator from_to(int64_t low, int64_t high) {
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        const std::optional<int64_t> value = whole_number(text);
        if (!value) return fmt::format("'{}' is not a whole number", text);
        if (*value >= low && *value <= high) return "";
        if (high < kMany) return fmt::format("{} is not in {}..{}", text, low, high);
        return *value < low ? fmt::format("{} is less than {}", text, low)
                            : fmt::format("{} is more than {}", text, high);
      },
      "");
}

CLI::Validator number_from_to(double low, double high) {
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        double value = 0;
        if (std::string why = parse_number(text, value); !why.empty()) return why;
        if (value >= low && value <= high) return "";
        return std::isfinite(high) ? fmt::format("{} is not in {:g}..{:g}", text, low, high)
                                   : fmt::format("{} is less than {:g}", text, low);
      },
      "");
}

CLI::Validator size_in_bytes() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        const auto fail = [&](const std::string& why) {
          return fmt::format("'{}' {}; expected a number of bytes, as 500MB, 2GiB or 1000000", text, why);
        };
        std::string unit = text.substr(std::min(text.find_last_of("0123456789.") + 1, text.size()));
        double value = 0;
        if (!parse_number(std::string_view(text).substr(0, text.size() - unit.size()), value).empty())
          return fail("is not a size");
        unit.erase(0, std::min(unit.find_first_not_of(' '), unit.size()));
        std::transform(unit.begin(), unit.end(), unit.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        const std::string letters = "kmgt";
        const size_t power = unit.empty() ? std::string::npos : letters.find(unit[0]);
        const bool binary = power != std::string::npos && unit.substr(1) == "ib";
        if (!(unit.empty() || unit == "b" || binary ||
              (power != std::string::npos && (unit.size() == 1 || unit.substr(1) == "b"))))
          return fail("has no known unit");
        if (power != std::string::npos)
          value *= std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(power + 1));
        if (value < 1) return fail("is less than one byte");
        if (value > static_cast<double>(kMany)) return fail("is more than any machine has");
        text = std::to_string(static_cast<int64_t>(value));
        return "";
      },
      "");
}

void add_thread_option(CLI::App* app, int& threads) {
  app->add_option("--threads", threads,
                  "threads to use; never changes a result (default: the processors there are)")
      ->check(from_to(1, 1024))
      ->type_name("N");
}

void add_train_options(CLI::App* app, runtime::TrainOptions& o) {
  app->add_option("--epochs", o.epochs, "rounds through the training data (default: the model file's)")
      ->check(from_to(0, kMany))
      ->type_name("N");
  app->add_option("--steps", o.steps, "stop after so many updates")->check(from_to(0, kMany))->type_name("N");
  app->add_option("--seed", o.seed, "of every random number (default: the model file's)")
      ->check(from_to(0, kMany))
      ->type_name("N");
  app->add_flag_callback(
      "--no-shuffle", [&o] { o.shuffle = false; }, "take the training examples in their own order");
  app->add_option("--init-from", o.init_from, "start from these parameters")->type_name("W.safetensors");
  app->add_option("--resume", o.resume,
                  "go on with an interrupted run, bit for bit as if it had never stopped")
      ->type_name("W.safetensors");
  app->add_option("--save", o.save, "write the trained parameters here")->type_name("W.safetensors");
  app->add_flag("--save-state", o.save_state,
                "with --save: also what --resume needs (always when interrupted)");
  app->add_option("--checkpoints", o.checkpoints,
                  "the folder for the file's `checkpoint` rule (default: MODEL.checkpoints)")
      ->type_name("DIR");
  app->add_option("--log-every", o.log_every, "report the loss every so many steps")
      ->check(from_to(1, kMany))
      ->type_name("N");
  app->add_option("--lr-factor", o.lr_factor, "multiply every learning rate by this")
      ->check(number_from_to(0, HUGE_VAL))
      ->type_name("X");
}

void add_split_option(CLI::App* app, std::string& split) {
  app->add_option("--split", split, "which split of the data (default: test, else val, else train)")
      ->type_name("NAME");
}

void add_predict_options(CLI::App* app, runtime::PredictOptions& o) {
  app->add_option("--output,-o", o.output, "write NAME.npy or NAME.csv instead of lines on stdout")
      ->type_name("FILE");
  app->add_option("--rows", o.rows, "the first so many examples only")
      ->check(from_to(1, kMany))
      ->type_name("N");
}

void add_view_options(CLI::App* app, bool& ten_crop, std::vector<int64_t>& scales) {
  app->add_flag("--ten-crop", ten_crop,
                "the mean over ten crops of each image: its corners, its middle, and their mirror images");
  app->add_option("--scales", scales,
                  "the mean over images whose shorter side has these numbers of pixels, by commas")
      ->delimiter(',')
      ->check(from_to(1, 1 << 16))
      ->type_name("N,N,...");
}

void add_sample_options(CLI::App* app, runtime::SampleOptions& o) {
  app->add_option("--prompt", o.prompt, "what the text goes on from (default: a new line)")
      ->type_name("TEXT");
  app->add_option("--length", o.length, "characters to make")
      ->check(from_to(0, 1 << 28))
      ->capture_default_str()
      ->type_name("N");
  app->add_option("--temperature", o.temperature,
                  "below 1 likely characters become likelier, above 1 less so; 0: always the likeliest")
      ->check(number_from_to(0, 1000))
      ->capture_default_str()
      ->type_name("T");
  app->add_option("--seed", o.seed, "of the text")
      ->check(from_to(0, kMany))
      ->capture_default_str()
      ->type_name("N");
}

std::map<std::string, std::string> input_files(const std::vector<std::string>& given) {
  std::map<std::string, std::string> files;
  for (const std::string& input : given) {
    const size_t equals = input.find('=');
    const std::string name = equals == std::string::npos ? "" : input.substr(0, equals);
    if (!files.emplace(name, input.substr(equals == std::string::npos ? 0 : equals + 1)).second)
      throw RunError(kExitUsage,
                     fmt::format("predict: two files for {}",
                                 name.empty() ? "one input" : fmt::format("the input `{}`", name)));
  }
  return files;
}

std::string footer(const std::string& program, const std::vector<std::string>& variables) {
  std::string text = "\nEnvironment:\n";
  for (const EnvironmentVariable& v : environment_variables())
    if (variables.empty() || std::count(variables.begin(), variables.end(), v.name))
      text += fmt::format("  {:<26}{}\n", v.name, v.doc);
  text += fmt::format(
      "\nExit codes: 0 ok, 1 the run failed, 2 wrong command line, 3 the model file has errors, 4 the data "
      "has, 5 a check failed, or a\n"
      "loss or the weights were not finite, 70 internal error; 130, 143 and 129 ended by SIGINT, SIGTERM and "
      "SIGHUP.\n"
      "Results go to stdout, messages to stderr. `{} COMMAND --help` lists a command's options.",
      program);
  return text;
}

namespace {

// The name that was probably meant, as "; did you mean 'X'?", or nothing.
std::string suggestion(const std::string& name, const std::vector<std::string>& candidates) {
  const std::string nearest = nearest_name(name, candidates);
  return nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest);
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

// The error of the command line, in one sentence.
std::string explain(const CLI::App& app, const CLI::ParseError& error) {
  const auto chosen = app.get_subcommands();
  const CLI::App& command = chosen.empty() ? app : *chosen.front();
  const std::string who = chosen.empty() ? app.get_name() : app.get_name() + " " + command.get_name();
  if (dynamic_cast<const CLI::ExtrasError*>(&error)) {
    for (const std::string& extra : app.remaining(true)) {
      if (extra.rfind("-", 0) != 0 || extra == "-")
        return fmt::format("{}: one argument too many: '{}'", who, extra);
      const std::string name = extra.substr(0, extra.find('='));
      return fmt::format("{}: there is no option '{}'{}", who, name, suggestion(name, option_names(command)));
    }
  }
  return fmt::format("{}: {}", who, error.what());
}

}  // namespace

std::optional<int> parse(CLI::App& app, int argc, char** argv) {
  // CLI11 reports an unknown command only as an argument it did not expect.
  std::vector<std::string> commands;
  for (const CLI::App* command : app.get_subcommands({})) commands.push_back(command->get_name());
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("-", 0) == 0) continue;
    if (std::find(commands.begin(), commands.end(), word) == commands.end()) {
      const bool is_file = word.size() > 3 && word.substr(word.size() - 3) == ".nn";
      fmt::print(stderr, "{0}: there is no command '{1}'{2}\nThe commands are: {3}. See {0} --help.\n",
                 app.get_name(), word,
                 is_file ? fmt::format("; did you mean '{} train {}'?", app.get_name(), word)
                         : suggestion(word, commands),
                 fmt::join(commands, ", "));
      return kExitUsage;
    }
    break;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {  // --help and --version
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    if (argc <= 1) {
      fmt::print(stderr, "{}", app.help());
    } else {
      const auto chosen = app.get_subcommands();
      fmt::print(stderr, "{}\nSee {} {}--help.\n", explain(app, error), app.get_name(),
                 chosen.empty() ? "" : chosen.front()->get_name() + " ");
    }
    return kExitUsage;
  }
  return std::nullopt;
}

int run_process(const char* program, const std::function<int()>& run) {
  try {
    const int code = run();
    const bool failed = std::ferror(stdout) != 0;  // a full disk behind a redirection
    if ((std::fflush(stdout) != 0 || failed) && code == kExitOk) {
      std::perror(fmt::format("{}: cannot write to stdout", program).c_str());
      return kExitRunFailed;
    }
    return code;
  } catch (const RunError& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what());
    return error.exit_code;
  } catch (const InternalError& error) {
    fmt::print(stderr, "{}: internal error, please report: {}\n", program, error.what());
    return kExitInternal;
  } catch (const std::system_error& error) {
    const bool threads = error.code() == std::errc::resource_unavailable_try_again;
    fmt::print(
        stderr, "{}: the system refused a resource: {}{}\n", program, error.what(),
        threads ? "; raise the limit on threads, processes or memory (ulimit -u, -v), or run fewer" : "");
    return kExitRunFailed;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "{}: out of memory; a smaller batch or model needs less\n", program);
    return kExitRunFailed;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: internal error, please report: {}\n", program, error.what());
    return kExitInternal;
  }
}

}  // namespace gradc::standalone
