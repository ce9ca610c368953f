// The command `gradc reduce`: runs a program, or gradc itself, to decide whether each candidate is still interesting.
#include "cli/reduce/reduce.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

#include "cli/command.h"
#include "cli/link.h"
#include "cli/output.h"
#include "frontend/error_codes.h"
#include "ir/tensor/module.h"
#include "runtime/files.h"
#include "support/diagnostic.h"

namespace gradc::cli {

namespace {

struct ReduceOptions {
  std::string file;                  // a model file or IR
  std::vector<std::string> command;  // exit code 0: still interesting
  bool check = false, crash = false;
  std::string error;              // a code
  std::vector<std::string> with;  // further arguments of the gradc command that these three options run
  std::string output;             // empty: in the file's folder
  double seconds = 60;            // for one run of the command
  bool json = false;
};

constexpr int kTimedOut = -1;

// The exit code of a command, 128 + n where signal n ended it, kTimedOut past its time; its output goes to the file
// `said`.
int run_command(const std::vector<std::string>& command, const std::string& said, double seconds) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, said.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP);  // so that its child processes can be ended with it
  std::vector<std::string> arguments = command;
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failed)
    throw RunError(kExitUsage, fmt::format("reduce: cannot run '{}': {}", command[0], std::strerror(failed)));
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  int status = 0;
  for (;;) {
    const pid_t done = waitpid(child, &status, WNOHANG);
    if (done == child) break;
    if (done < 0 && errno != EINTR) throw RunError(kExitRunFailed, "reduce: the command was lost");
    if (std::chrono::steady_clock::now() > end) {
      kill(-child, SIGKILL);
      waitpid(child, &status, 0);
      return kTimedOut;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool is_ir(const std::string& file, const std::string& text) {
  const std::string extension = std::filesystem::path(file).extension();
  if (extension == ".nn" || extension == ".ir") return extension == ".ir";
  return text.find("func @") != std::string::npos;
}

std::string own_path() {
  std::error_code error;
  const std::filesystem::path tool = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) throw RunError(kExitRunFailed, "reduce: /proc/self/exe cannot be read");
  return tool.string();
}

// The command to run on a candidate, and the test of its result.
struct Question {
  std::vector<std::string> command;  // "{}" is the candidate
  std::function<bool(int code, const std::string& said)> wanted;
  std::string words;  // what is looked for
};

// The codes of "error[E0203]" and the like in gradc's output.
std::set<std::string> codes_in(const std::string& said) {
  const std::string mark = "error[";
  std::set<std::string> codes;
  for (size_t at = 0; (at = said.find(mark, at)) != std::string::npos;) {
    at += mark.size();
    codes.insert(said.substr(at, said.find(']', at) - at));
  }
  return codes;
}

// A text without its numbers, which change when shapes shrink and layers are renumbered.
std::string without_numbers(const std::string& text) {
  std::string result;
  for (const char c : text)
    if (!std::isdigit(static_cast<unsigned char>(c)))
      result += c;
    else if (result.empty() || result.back() != '#')
      result += '#';
  return result;
}

// The wording of a message: without its numbers and what it quotes, names and types.
std::string wording_of(const std::string& message) {
  std::string result;
  bool quoted = false;
  for (const char c : message) {
    if (c == '`') quoted = !quoted;
    if (!quoted) result += c;
  }
  static const std::regex types(R"((f32|f64|i32|bool)?\[[^\]]*\]|\b(f32|f64|i32|bool)\b)");
  return without_numbers(std::regex_replace(result, types, "type"));
}

// The first failing section of a check's report (--json), with the parameters or operations that fail there.
struct CheckFailure {
  std::string section;
  std::set<std::string> names;
};
std::vector<CheckFailure> failures_in(const std::string& said) {
  std::vector<CheckFailure> failures;
  std::istringstream in(said);
  for (std::string line; std::getline(in, line);) {
    const auto event = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!event.is_object() || event.value("event", "") != "comparison" || event.value("pass", true)) continue;
    const std::string section = event.value("kind", "");
    auto at =
        std::find_if(failures.begin(), failures.end(), [&](const auto& f) { return f.section == section; });
    if (at == failures.end()) at = failures.insert(failures.end(), {section, {}});
    at->names.insert(without_numbers(event.value("name", "")));
  }
  return failures;
}

// A check that fails as the original's does, which is run first: in the same section, for a parameter or operation that
// failed there. Other failures are other faults.
Question question_of_check(const std::string& tool) {
  const auto original = std::make_shared<CheckFailure>();
  return {{tool, "check", "{}", "--json"},
          [original](int code, const std::string& said) {
            if (code != kExitCheckFailed) return false;
            const std::vector<CheckFailure> found = failures_in(said);
            if (original->section.empty() && !found.empty()) *original = found.front();
            return std::any_of(found.begin(), found.end(), [&](const CheckFailure& f) {
              return f.section == original->section &&
                     std::any_of(f.names.begin(), f.names.end(),
                                 [&](const std::string& name) { return original->names.count(name); });
            });
          },
          "a check that fails"};
}

// The wordings of messages "error[E0203]: ..." of one code.
std::set<std::string> wordings_in(const std::string& said, const std::string& code) {
  const std::string mark = "error[" + code + "]: ";
  std::set<std::string> wordings;
  for (size_t at = 0; (at = said.find(mark, at)) != std::string::npos;) {
    at += mark.size();
    wordings.insert(wording_of(said.substr(at, said.find('\n', at) - at)));
  }
  return wordings;
}

// Errors of that code with the original's wording; other errors do not count.
Question question_of_error(const std::string& tool, const std::string& code) {
  struct Original {
    std::set<std::string> codes, wordings;
  };
  const auto original = std::make_shared<Original>();
  return {{tool, "dump", "{}", "--stage", "ir"},
          [original, code](int exit_code, const std::string& said) {
            const std::set<std::string> codes = codes_in(said), wordings = wordings_in(said, code);
            if (exit_code != kExitModelError || !codes.count(code)) return false;
            if (original->codes.empty()) *original = {codes, wordings};
            return std::includes(original->codes.begin(), original->codes.end(), codes.begin(),
                                 codes.end()) &&
                   std::any_of(wordings.begin(), wordings.end(),
                               [&](const std::string& w) { return original->wordings.count(w); });
          },
          fmt::format("error[{}]", code)};
}

Question question_without_options(const ReduceOptions& o, bool ir) {
  const int kinds = !o.command.empty() + o.check + o.crash + !o.error.empty();
  if (kinds != 1)
    throw RunError(kExitUsage,
                   fmt::format("reduce: {} to look for: a command after --, --check, --crash or --error CODE",
                               kinds == 0 ? "say what there is" : "one thing is"));
  if (!o.command.empty()) {
    Question q{o.command, [](int code, const std::string&) { return code == 0; },
               "exit code 0 of the command"};
    if (std::none_of(q.command.begin(), q.command.end(),
                     [](const auto& a) { return a.find("{}") != a.npos; }))
      q.command.emplace_back("{}");
    return q;
  }
  const std::string tool = own_path();
  if (o.crash) {
    std::vector<std::string> command =
        ir ? std::vector<std::string>{tool, "opt", "{}", "--pass", "plan_memory"}
           : std::vector<std::string>{tool, "dump", "{}", "--stage", "asm"};
    return {std::move(command),
            [](int code, const std::string&) { return code == kExitInternal || code > 128; },
            "an internal error or a crash"};
  }
  if (ir)
    throw RunError(kExitUsage,
                   "reduce: --check and --error look at model files; for IR give a command or --crash");
  if (o.check) return question_of_check(tool);
  std::vector<std::string> codes;
  for (const frontend::ErrorCode& e : frontend::error_codes()) codes.push_back(e.code);
  if (std::find(codes.begin(), codes.end(), o.error) == codes.end()) {
    const std::string nearest = nearest_name(o.error, codes);
    throw RunError(kExitUsage,
                   fmt::format("reduce: there is no error code '{}'{}", o.error,
                               nearest.empty() ? "" : fmt::format(", did you mean {}?", nearest)));
  }
  return question_of_error(tool, o.error);
}

Question question_of(const ReduceOptions& o, bool ir) {
  Question question = question_without_options(o, ir);
  if (!o.with.empty() && !o.command.empty())
    throw RunError(kExitUsage,
                   "reduce: --with is for --check, --crash and --error; a command has its own arguments");
  question.command.insert(question.command.end(), o.with.begin(), o.with.end());
  return question;
}

std::string read_text(const std::string& file) {
  try {
    const std::vector<uint8_t> bytes = runtime::read_file(file, "file to reduce", uint64_t{64} << 20);
    return {bytes.begin(), bytes.end()};
  } catch (const RunError& error) {
    throw RunError(kExitUsage, fmt::format("reduce: {}", error.what()));
  }
}

int run_reduce(const ReduceOptions& options) {
  const std::string original = read_text(options.file);
  const bool ir = is_ir(options.file, original);
  Question question = question_of(options, ir);
  std::string output = options.output;
  if (output.empty()) {
    std::filesystem::path path = options.file;
    output = path.replace_extension(ir ? ".reduced.ir" : ".reduced.nn").string();
  }
  std::error_code ignored;
  if (std::filesystem::equivalent(options.file, output, ignored))
    throw RunError(kExitUsage, "reduce: the original is kept: give another file as --output");
  runtime::check_output_path(output, "reduced file");
  if (ir) {
    const ModuleParseResult parsed = parse_module(original);
    if (!parsed.error.empty())
      throw RunError(kExitUsage, fmt::format("reduce: {}, {}", options.file, parsed.error));
  }

  const TemporaryDirectory folder;
  const std::string name = std::filesystem::path(options.file).filename().string(),
                    said = folder.path("said");
  const std::string candidate = folder.path(name == "said" ? "candidate" : name);
  for (std::string& a : question.command)
    for (size_t at = 0; (at = a.find("{}", at)) != std::string::npos; at += candidate.size())
      a.replace(at, 2, candidate);
  int code = 0;
  const auto interesting = [&](const std::string& text) {
    folder.write(std::filesystem::path(candidate).filename().string(), text);
    code = run_command(question.command, said, options.seconds);
    if (code == kTimedOut) return false;
    const std::vector<uint8_t> bytes = runtime::read_file(said, "what the command said");
    return question.wanted(code, {bytes.begin(), bytes.end()});
  };
  if (!interesting(original)) {
    const std::string how = code == kTimedOut ? fmt::format("it took longer than {} s", options.seconds)
                                              : fmt::format("the exit code is {}", code);
    throw RunError(kExitRunFailed, fmt::format("reduce: '{}' as it is does not show {}: {}", options.file,
                                               question.words, how));
  }
  const auto better = [&](const std::string& text) { write_result(text, output, "reduced file"); };
  better(original);
  const Reduction reduced =
      ir ? reduce_ir(original, interesting, better) : reduce_model(original, interesting, better);
  if (options.json)
    fmt::print("{}", json_text({{"event", "reduce"},
                                {"output", output},
                                {"bytes_before", original.size()},
                                {"bytes_after", reduced.text.size()},
                                {"tries", reduced.tries}}));
  else
    fmt::print("{}: {} bytes of {}, after {} tries\n", output, reduced.text.size(), original.size(),
               reduced.tries);
  return kExitOk;
}

}  // namespace

Command add_reduce(CLI::App& app) {
  const auto o = std::make_shared<ReduceOptions>();
  CLI::App* c = app.add_subcommand(
      "reduce", "make a model file or IR that shows a fault smaller, as long as it still shows it");
  c->add_option("FILE", o->file, "a model file or tensor IR; it is left as it is")->required()->type_name("");
  c->add_option("COMMAND", o->command,
                "after --: what is run on each candidate; {} is the candidate's file (else it comes last), "
                "exit code 0 means that it still shows the fault")
      ->type_name("");
  c->add_flag("--check", o->check, "instead of a command: gradc check fails");
  c->add_flag("--crash", o->crash, "instead: compiling ends with an internal error or a signal");
  c->add_option("--error", o->error, "instead: the file has this error, for example E0203")
      ->type_name("CODE");
  add_list(c, "--with", o->with,
           "a further argument of the gradc command that --check, --crash or --error runs, as "
           "--with=--target=x86-64-v2 (repeatable)")
      ->type_name("ARGUMENT");
  c->add_option("--output,-o", o->output, "the file to write (default: NAME.reduced.nn or .ir)")
      ->type_name("FILE");
  c->add_option("--timeout", o->seconds, "seconds one run may take; longer is not interesting")
      ->check(number_from_to(0.01, 86400))
      ->capture_default_str()
      ->type_name("S");
  c->add_flag("--json", o->json, "the result as one JSON object");
  return {c, [o] { return run_reduce(*o); }};
}

}  // namespace gradc::cli
