// `gradc bench`: the time of a training step on one batch in memory, its distribution over kernels, and how near they
// are to the machine's limits. Knows no operator.
#include <fmt/format.h>
#include <sys/resource.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "cli/check/batch.h"
#include "cli/command.h"
#include "cli/machine_limits.h"
#include "runtime/execution/session.h"
#include "runtime/files.h"
#include "support/check.h"
#include "support/json_line.h"

namespace gradc::cli {

namespace {

struct BenchOptions {
  ModelOptions model;
  double seconds = 2;  // of measuring, and half as long again for the kernels
  int64_t steps = 0;   // measured; 0: as many as the seconds allow
  std::string trace;   // file for a Chrome trace of some steps
  bool ablate = false;
  bool all = false;  // every kernel, in full
};

using Clock = std::chrono::steady_clock;
using nlohmann::ordered_json;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// The counter that profiled code reads.
uint64_t cycle_counter() {
#if defined(__x86_64__)
  return __rdtsc();
#else
  uint64_t ticks;
  asm volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#endif
}

double quantile(std::vector<double> values, double q) {
  GRADC_CHECK(!values.empty(), "a quantile of nothing");
  const auto at = static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5);
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return values[at];
}

// A compiled model with one synthetic batch that it is trained on repeatedly. Where --mem-limit splits the batch into
// pieces, a step is all of them and the update.
class Subject {
 public:
  Subject(const CompileRequest& request, int threads)
      : compiled_(request),
        session_((require_code(), compiled_.program()), threads),
        inputs_(compiled_.program().train_step, rows()) {
    const gradc_entry_info& entry = compiled_.program().train_step;
    const Tensors batch = made_up_batch(compiled_, rows());
    for (int i = 0; i < entry.input_count; ++i) {
      const interpreter::Tensor& t = batch.at(entry.inputs[i].name);
      to_memory(t.data.data(), t.type.dtype, t.type.elements() * rows(),
                inputs_.data(static_cast<size_t>(i)));
    }
    if (request.profile) {
      size_t calls = 0;  // of any program, since initialisation records times too
      for (const auto& [name, lowered] : compiled_.lowered().programs)
        calls = std::max(calls, lowered.program.calls.size());
      times_.resize(2 * calls * static_cast<size_t>(session_.threads()));
      session_.set_profile(times_.data(), [this](const gradc_entry_info& entry) {
        if (noted_) noted_(program_name(entry), times_);
        std::fill(times_.begin(), times_.end(), 0);
      });
    }
    session_.initialize(1);
  }

  // Calls `noted` for each program call of a step, with its times in the form of gradc_step_args.profile; the request
  // must enable profiling.
  using Noted = std::function<void(const std::string& program, const std::vector<uint64_t>& times)>;
  void note_times(Noted noted) { noted_ = std::move(noted); }

  const CompiledModel& compiled() const { return compiled_; }
  runtime::Session& session() { return session_; }
  // The threads that a step uses.
  int threads() const {
    return std::clamp(static_cast<int>(compiled_.program().train_step.max_threads), 1, session_.threads());
  }
  int64_t pieces() const { return session_.pieces(); }
  int64_t rows() const { return compiled_.program().batch * pieces(); }  // of a step

  // Seconds of one step.
  double step() {
    runtime::StepScalars scalars;
    scalars.step = steps_;
    scalars.total = 1 << 30;
    const auto begin = Clock::now();
    const runtime::StepResult result = session_.step({inputs_.pointers(), rows()}, scalars, 1);
    const double seconds = seconds_since(begin);
    ++steps_;
    if (!result.finite)
      throw RunError(
          kExitCheckFailed,
          fmt::format("bench: the loss was not finite at step {}, and a step that stops there says "
                      "nothing; the model is trained on one made-up batch: lower its learning rate",
                      steps_));
    return seconds;
  }

  // Seconds of each step, for `seconds` or `steps`.
  std::vector<double> measure(double seconds, int64_t steps) {
    std::vector<double> times;
    const auto begin = Clock::now();
    while (steps ? static_cast<int64_t>(times.size()) < steps
                 : times.size() < 5 || seconds_since(begin) < seconds)
      times.push_back(step());
    return times;
  }

  void warm_up(double seconds) {
    const auto begin = Clock::now();
    for (int i = 0; i < 8 || (i < 1000 && seconds_since(begin) < seconds / 10); ++i) step();
  }

 private:
  void require_code() const {
    if (!compiled_.complete()) throw RunError(kExitUsage, "bench needs the whole pipeline: no --stop-after");
  }
  std::string program_name(const gradc_entry_info& entry) const {
    return &entry == &compiled_.program().update ? "update" : "train_step";
  }
  CompiledModel compiled_;
  runtime::Session session_;
  runtime::InputBuffers inputs_;
  std::vector<uint64_t> times_;
  Noted noted_;
  int64_t steps_ = 0;
};

// One kernel call of the step's programs, over all profiled steps; of a batch in pieces the sum over these.
struct CallProfile {
  std::string name, what, location;
  double ms = 0;  // median over steps of the time of the thread that was slowest in it, or in its segment
  double flop = 0, bytes = 0;
  bool barrier = false;
};

struct Profile {
  std::vector<CallProfile> calls;
  double step_ms = 0;
  double elsewhere_ms = 0;  // of the step outside kernels: barriers, waiting, entry and exit
  nlohmann::json trace = nlohmann::json::array();  // Chrome trace events
};

// The calls of one program of a step, and the index of the first of them among those of the whole step.
struct ProfiledProgram {
  const passes::LoweredProgram& lowered;
  size_t first;
  int64_t times;             // calls of it in a step
  std::vector<size_t> ends;  // after each call, or after its segment
  size_t calls() const { return lowered.program.calls.size(); }
};

ProfiledProgram profiled(const passes::LoweredProgram& lowered, size_t first, int64_t times) {
  ProfiledProgram p{lowered, first, times, std::vector<size_t>(lowered.program.calls.size())};
  for (size_t c = 0; c < p.calls(); ++c) p.ends[c] = c + 1;
  for (const loop::Segment& s : lowered.program.segments)
    p.ends[static_cast<size_t>(s.first)] = static_cast<size_t>(s.last);
  return p;
}

// Adds the ticks of each of its calls, as recorded by `threads` threads: threads do not synchronise within a segment,
// so the slowest one counts.
void add_ticks(const ProfiledProgram& p, const std::vector<uint64_t>& noted, size_t threads,
               std::vector<uint64_t>& ticks) {
  const auto taken = [&](size_t t, size_t call) {
    return noted[2 * (t * p.calls() + call) + 1] - noted[2 * (t * p.calls() + call)];
  };
  for (size_t c = 0, end = 0; c < p.calls(); c = end) {
    end = p.ends[c];
    size_t slowest = 0;
    uint64_t longest = 0;
    for (size_t t = 0; t < threads; ++t) {
      uint64_t all = 0;
      for (size_t call = c; call < end; ++call) all += taken(t, call);
      if (all > longest) longest = all, slowest = t;
    }
    for (size_t call = c; call < end; ++call) ticks[p.first + call] += taken(slowest, call);
  }
}

Profile profile(CompileRequest request, int threads, double seconds) {
  request.profile = true;
  Subject subject(request, threads);
  const auto& lowered = subject.compiled().lowered().programs;
  std::map<std::string, ProfiledProgram> programs;
  const ProfiledProgram& step =
      programs.emplace("train_step", profiled(lowered.at("train_step"), 0, subject.pieces())).first->second;
  size_t calls = step.calls();
  if (subject.session().accumulates()) {
    const ProfiledProgram& update =
        programs.emplace("update", profiled(lowered.at("update"), calls, 1)).first->second;
    calls += update.calls();
  }
  const auto count = static_cast<size_t>(subject.session().threads());
  subject.warm_up(seconds);

  Profile result;
  std::vector<std::vector<double>> ticks(calls);  // by call, of each step
  std::vector<double> step_seconds;
  constexpr size_t kTraced = 10;  // steps
  std::vector<std::pair<const ProfiledProgram*, std::vector<uint64_t>>> traced;
  std::vector<uint64_t> of_step(calls);
  subject.note_times([&](const std::string& program, const std::vector<uint64_t>& times) {
    const ProfiledProgram& p = programs.at(program);
    add_ticks(p, times, count, of_step);
    if (step_seconds.size() < kTraced) traced.emplace_back(&p, times);
  });
  const uint64_t first_tick = cycle_counter();
  const auto first_time = Clock::now();
  while (step_seconds.size() < 5 || seconds_since(first_time) < seconds) {
    std::fill(of_step.begin(), of_step.end(), 0);
    step_seconds.push_back(subject.step());
    for (size_t c = 0; c < calls; ++c) ticks[c].push_back(static_cast<double>(of_step[c]));
  }
  const double ms_per_tick =
      1e3 * seconds_since(first_time) / static_cast<double>(cycle_counter() - first_tick);

  result.step_ms = 1e3 * quantile(step_seconds, 0.5);
  result.elsewhere_ms = result.step_ms;
  result.calls.resize(calls);
  for (const auto& [name, p] : programs)
    for (size_t c = 0; c < p.calls(); ++c) {
      const loop::Call& call = p.lowered.program.calls[c];
      const loop::Kernel& kernel = p.lowered.program.kernels[static_cast<size_t>(call.kernel)];
      CallProfile& made = result.calls[p.first + c];
      made.name = name == "train_step" ? kernel.name : fmt::format("{}.{}", name, kernel.name);
      made.what = kernel.summary;
      made.flop = static_cast<double>(p.times * p.lowered.program.calls[c].flop);
      made.bytes = static_cast<double>(p.times * p.lowered.program.calls[c].bytes);
      made.barrier = call.barrier_before || call.guard_before;
      made.ms = quantile(ticks[p.first + c], 0.5) * ms_per_tick;
      if (!kernel.locations.empty()) made.location = user_location(kernel.locations.front());
      result.elsewhere_ms -= made.ms;
    }
  for (const auto& [p, times] : traced)
    for (size_t t = 0; t < count; ++t)
      for (size_t c = 0; c < p->calls(); ++c) {
        const uint64_t begin = times[2 * (t * p->calls() + c)], end = times[2 * (t * p->calls() + c) + 1];
        if (end == 0) continue;
        const auto us = [&](uint64_t tick) {
          return 1e3 * ms_per_tick * static_cast<double>(tick - first_tick);
        };
        const CallProfile& call = result.calls[p->first + c];
        result.trace.push_back({{"name", call.name},
                                {"cat", "kernel"},
                                {"ph", "X"},
                                {"pid", 1},
                                {"tid", t},
                                {"ts", us(begin)},
                                {"dur", us(end) - us(begin)},
                                {"args", {{"what", call.what}, {"location", call.location}}}});
      }
  return result;
}

double percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

void print_kernels(const Profile& p, const MachineLimits& machine, bool all) {
  std::vector<const CallProfile*> order;
  for (const CallProfile& c : p.calls) order.push_back(&c);
  std::stable_sort(order.begin(), order.end(),
                   [](const CallProfile* a, const CallProfile* b) { return a->ms > b->ms; });
  fmt::print("\n{:>9} {:>6} {:>8} {:>6} {:>7} {:>6}  {:<26} {}\n", "ms", "share", "GFLOP/s", "peak", "GB/s",
             "triad", "kernel", "where, what");
  constexpr size_t kShown = 25, kWhat = 70;
  double rest = 0;
  size_t hidden = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const CallProfile& c = *order[i];
    if (!all && i >= kShown) {
      rest += c.ms;
      ++hidden;
      continue;
    }
    const double gflops = c.ms > 0 ? c.flop / c.ms * 1e-6 : 0, rate = c.ms > 0 ? c.bytes / c.ms * 1e-6 : 0;
    std::string what = c.what;
    if (!all && what.size() > kWhat) what = what.substr(0, kWhat - 3) + "...";
    fmt::print("{:9.4f} {:5.1f}% {:8.1f} {:5.1f}% {:7.2f} {:5.1f}%  {:<26} {}{}{}\n", c.ms,
               percent(c.ms, p.step_ms), gflops, percent(gflops, machine.gflops), rate,
               percent(rate, machine.gb_per_s), c.name, c.location, c.location.empty() ? "" : "  ", what);
  }
  if (hidden)
    fmt::print("{:9.4f} {:5.1f}%  in {} more kernels (--all shows them)\n", rest, percent(rest, p.step_ms),
               hidden);
  fmt::print(
      "{:9.4f} {:5.1f}%  in no kernel: barriers, waiting for the slowest thread, entering and leaving\n",
      p.elsewhere_ms, percent(p.elsewhere_ms, p.step_ms));
}

// Explanations of figures beyond the machine's limits, if there are any.
std::vector<std::string> limit_notes(const Profile& p, const MachineLimits& machine) {
  size_t arithmetic = 0, memory = 0;
  for (const CallProfile& c : p.calls) {
    if (c.ms <= 0) continue;
    arithmetic += c.flop / c.ms * 1e-6 > machine.gflops ? 1 : 0;
    memory += c.bytes / c.ms * 1e-6 > machine.gb_per_s ? 1 : 0;
  }
  const auto kernels = [](size_t n) { return fmt::format("{} kernel{}", n, n == 1 ? "" : "s"); };
  std::vector<std::string> notes;
  if (arithmetic)
    notes.push_back(fmt::format(
        "{} above 100% of the peak: a convolution by Winograd's transforms does fewer multiply-adds than its "
        "definition, which is counted; any other kernel there means that the machine was slower while its "
        "peak was measured",
        kernels(arithmetic)));
  if (memory)
    notes.push_back(fmt::format(
        "{} above 100% of the triad: their data stay in the caches, the triad's come from main memory",
        kernels(memory)));
  return notes;
}

ordered_json kernels_json(const Profile& p, const MachineLimits& machine) {
  ordered_json list = ordered_json::array();
  for (const CallProfile& c : p.calls) {
    const double gflops = c.ms > 0 ? c.flop / c.ms * 1e-6 : 0, rate = c.ms > 0 ? c.bytes / c.ms * 1e-6 : 0;
    list.push_back({{"name", c.name},
                    {"what", c.what},
                    {"location", c.location},
                    {"ms", c.ms},
                    {"share", p.step_ms > 0 ? c.ms / p.step_ms : 0},
                    {"flop", c.flop},
                    {"bytes", c.bytes},
                    {"gflops", gflops},
                    {"percent_of_peak", percent(gflops, machine.gflops)},
                    {"gb_per_s", rate},
                    {"percent_of_triad", percent(rate, machine.gb_per_s)},
                    {"barrier_before", c.barrier}});
  }
  return list;
}

// The effect of each optional pass: the step without it against the step with all, measured in turns.
void ablate(const CompileRequest& request, const BenchOptions& options, Subject& whole) {
  if (!options.model.json)
    fmt::print("\n{:<22} {:>10} {:>8}  {}\n", "without", "ms a step", "ratio", "what it does");
  for (const passes::PassInfo& pass : passes::pass_list()) {
    const auto& disabled = request.passes.disable;
    if (!pass.optional || std::find(disabled.begin(), disabled.end(), pass.name) != disabled.end()) continue;
    CompileRequest without = request;
    without.passes.disable.push_back(pass.name);
    Subject other(without, options.model.threads);
    other.warm_up(options.seconds);
    std::vector<double> with, lacking;
    constexpr int kRounds = 5;
    for (int round = 0; round < kRounds; ++round) {
      const auto a = whole.measure(options.seconds / (2 * kRounds), 0);
      const auto b = other.measure(options.seconds / (2 * kRounds), 0);
      with.insert(with.end(), a.begin(), a.end());
      lacking.insert(lacking.end(), b.begin(), b.end());
    }
    const double a = 1e3 * quantile(with, 0.5), b = 1e3 * quantile(lacking, 0.5);
    if (options.model.json)
      fmt::print("{}\n", json_line(ordered_json{{"event", "ablation"},
                                                {"pass", pass.name},
                                                {"step_ms_median", b},
                                                {"with_all_ms_median", a},
                                                {"ratio", b / a}}));
    else
      fmt::print("{:<22} {:10.4f} {:8.3f}  {}\n", pass.name, b, b / a, pass.doc);
    std::fflush(stdout);
  }
}

// What was measured of a program's training step.
struct Measured {
  std::vector<double> seconds;  // of each step
  double first_step_ms = 0;     // from the source file on
  double peak_rss_mb = 0;
  Profile kernels;
  MachineLimits machine;

  double ms(double share) const { return 1e3 * quantile(seconds, share); }
  double flop() const {
    double sum = 0;
    for (const CallProfile& c : kernels.calls) sum += c.flop;
    return sum;
  }
};

ordered_json bench_json(const Subject& subject, const Measured& m) {
  const gradc_program& program = subject.compiled().program();
  const codegen::Target& target = subject.compiled().target();
  return {{"event", "bench"},
          {"model", program.name},
          {"target", target.name},
          {"cpu", target.cpu},
          {"batch", subject.rows()},
          {"pieces", subject.pieces()},
          {"threads", subject.threads()},
          {"steps", m.seconds.size()},
          {"step_ms_median", m.ms(0.5)},
          {"step_ms_best", m.ms(0)},
          {"step_ms_p10", m.ms(0.1)},
          {"step_ms_p90", m.ms(0.9)},
          {"first_step_ms", m.first_step_ms},
          {"peak_rss_mb", m.peak_rss_mb},
          {"parameter_bytes", program.parameter_bytes},
          {"arena_bytes", program.train_step.arena_bytes},
          {"flop", m.flop()},
          {"peak_gflops", m.machine.gflops},
          {"triad_gb_per_s", m.machine.gb_per_s},
          {"elsewhere_ms", m.kernels.elsewhere_ms},
          {"notes", limit_notes(m.kernels, m.machine)},
          {"kernels", kernels_json(m.kernels, m.machine)}};
}

void print_bench(const Subject& subject, const Measured& m, bool all) {
  const gradc_program& program = subject.compiled().program();
  const codegen::Target& target = subject.compiled().target();
  const double median = m.ms(0.5), gflops = 1e-6 * m.flop() / median;
  const std::string pieces =
      subject.pieces() == 1 ? "" : fmt::format(" in {} pieces of {}", subject.pieces(), program.batch);
  fmt::print("{}: training step of batch {}{}, {} thread{}, target {} ({})\n", program.name, subject.rows(),
             pieces, subject.threads(), subject.threads() == 1 ? "" : "s", target.name, target.cpu);
  fmt::print(
      "step     median {:.4f} ms, best {:.4f}, 10 % to 90 % {:.4f} to {:.4f}, of {} steps; {:.0f} "
      "examples/s\n",
      median, m.ms(0), m.ms(0.1), m.ms(0.9), m.seconds.size(),
      1e3 * static_cast<double>(subject.rows()) / median);
  fmt::print("start    {:.0f} ms from the source file to the end of the first step\n", m.first_step_ms);
  fmt::print("memory   peak {:.1f} MB; parameters and optimizer state {:.2f} MB, arena {:.2f} MB\n",
             m.peak_rss_mb, 1e-6 * static_cast<double>(program.parameter_bytes),
             1e-6 * static_cast<double>(program.train_step.arena_bytes));
  fmt::print("machine  {:.1f} GFLOP/s of multiply-adds, {:.1f} GB/s triad, with these threads\n",
             m.machine.gflops, m.machine.gb_per_s);
  fmt::print("compute  {:.4f} GFLOP a step, {:.1f} GFLOP/s, {:.1f}% of the peak\n", 1e-9 * m.flop(), gflops,
             percent(gflops, m.machine.gflops));
  print_kernels(m.kernels, m.machine, all);
  for (const std::string& note : limit_notes(m.kernels, m.machine)) fmt::print("note: {}\n", note);
}

int run_bench(const BenchOptions& options) {
  const auto start = Clock::now();
  if (!options.trace.empty()) runtime::check_output_path(options.trace, "trace");
  CompileRequest request = compile_request(options.model);
  request.object_cache.clear();  // a compilation without the cache is measured
  request.training_first = true;
  Subject subject(request, options.model.threads);
  subject.step();
  Measured m;
  m.first_step_ms = 1e3 * seconds_since(start);
  subject.warm_up(options.seconds);
  m.seconds = subject.measure(options.seconds, options.steps);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  m.peak_rss_mb = static_cast<double>(usage.ru_maxrss) / 1024;
  // Before and after the profile: on a shared machine the measured limits vary, and the higher ones count.
  m.machine = measure_machine(subject.compiled().target(), subject.threads());
  m.kernels = profile(request, options.model.threads, options.seconds / 2);
  m.machine.raise(measure_machine(subject.compiled().target(), subject.threads()));

  if (options.model.json)
    fmt::print("{}\n", json_line(bench_json(subject, m)));
  else
    print_bench(subject, m, options.all);
  if (!options.trace.empty()) {
    const nlohmann::json trace = {{"traceEvents", m.kernels.trace}, {"displayTimeUnit", "ns"}};
    runtime::OutputFile file(options.trace, "trace");
    file.write(json_line(trace));
    file.commit();
    if (!options.model.json)
      fmt::print(stderr, "gradc: the trace is in {}; chrome://tracing and ui.perfetto.dev show it\n",
                 options.trace);
  }
  if (options.ablate) ablate(request, options, subject);
  return kExitOk;
}

}  // namespace

Command add_bench(CLI::App& app) {
  const auto o = std::make_shared<BenchOptions>();
  CLI::App* c = app.add_subcommand(
      "bench",
      "time a training step on one made-up batch, kernel by kernel, against what the machine can do");
  add_model_options(c, o->model);
  c->add_option("--seconds", o->seconds, "how long to measure")
      ->check(number_from_to(0.01, 3600))
      ->capture_default_str()
      ->type_name("S");
  c->add_option("--steps", o->steps, "measure so many steps instead")
      ->check(from_to(1, kMany))
      ->type_name("N");
  c->add_option("--trace", o->trace, "write ten steps as a Chrome trace")->type_name("OUT.json");
  c->add_flag("--ablate", o->ablate, "then leave each optional pass out and compare");
  c->add_flag("--all", o->all, "show every kernel with all it computes");
  add_thread_option(c, o->model.threads);
  add_code_options(c, o->model);
  return {c, [o] { return run_bench(*o); }, &o->model.json};
}

}  // namespace gradc::cli
