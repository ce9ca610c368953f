#!/usr/bin/env python3
"""Times training steps of gradc, PyTorch and JAX in one interleaved run; uses them only as programs.

In each round every workload of bench/workloads/ is timed by gradc and then by each peer, always in the same order, so
that a slow minute of the machine affects all of them. A figure is the median over the rounds of each run's median.

docs/benchmarks.md is written only when all workloads ran against all three peers; otherwise it is left alone.

usage: bench_peers.py [WORKLOAD...] [--seconds S] [--rounds N] [--threads N] [--impl torch,torch_compile,jax]
                      [--no-write]

Exits with 0 when gradc ran on every workload, with any ratios; with 1 when not; with 2 for a wrong command line.
"""
import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Dict, NamedTuple, Optional

ROOT = Path(__file__).resolve().parent.parent
RUN_LIMIT_S = 900  # besides the measurement: a longer compilation counts as failed
QUIET_LOAD = 0.5  # 1-minute load average of an idle machine, at most


class Goal(NamedTuple):
    ratio: float  # our median / the best peer's
    start_ms: Optional[float] = None  # from the source to the end of the first step
    memory: Optional[float] = None  # our peak memory / PyTorch's
    own_memory: Optional[float] = None  # our peak memory / parameters and optimizer state


# The goals, by workload in the order of the tables: results of prototypes written by hand.
GOALS: Dict[str, Goal] = {
    "mlp": Goal(0.42, start_ms=300, memory=0.25),
    "tanh10": Goal(0.80),
    "lenet": Goal(0.25, start_ms=300, memory=0.25),
    "resnet20": Goal(0.33, start_ms=1500, memory=0.25),
    "plain20": Goal(0.35),
    "vgg": Goal(0.33),
    "wide": Goal(0.45, own_memory=1.15),
    "tiny": Goal(0.06),
    "resnet20_b1": Goal(0.35),
    "resnet20_b8": Goal(0.50),
    "gpt": Goal(0.60, start_ms=1500),
    "gpt_b4": Goal(0.60),
    "lstm": Goal(0.45),
    "mobile": Goal(0.50),
}
IMAGES = ("lenet", "resnet20", "plain20", "vgg", "resnet20_b1", "resnet20_b8", "mobile")  # PyTorch is timed in both layouts; the better one counts


class Peer(NamedTuple):
    title: str
    package: str
    layouts: bool


PEERS = {"torch": Peer("PyTorch", "torch", True), "torch_compile": Peer("torch.compile", "torch", True),
         "jax": Peer("JAX jit", "jax", False)}


class Variant(NamedTuple):
    """One way to run a workload: gradc, or a peer in one layout."""
    implementation: str
    channels_last: bool = False

    def __str__(self):
        return self.implementation + (" channels-last" if self.channels_last else "")


GRADC = Variant("gradc")


def say(text):
    print(text, file=sys.stderr, flush=True)


# --- Running

class Failure(Exception):
    pass


def first_error_line(code, stderr):
    if code < 0:
        return f"ended by {signal.Signals(-code).name}" + (", out of memory?" if -code == signal.SIGKILL else "")
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("peer_step: ", "gradc: "))]
    return re.sub(r"^(peer_step|gradc): ", "", (told or lines[-1:] or [f"exit code {code}"])[0])


def run_json(command, environment, seconds):
    """The last JSON object on stdout of a command. Throws Failure with the first line of what went wrong."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT_S + seconds, env=environment,
                              cwd=ROOT)
    except subprocess.TimeoutExpired:
        raise Failure(f"took longer than {RUN_LIMIT_S + seconds:.0f} s") from None
    except OSError as error:
        raise Failure(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise Failure(first_error_line(done.returncode, done.stderr))
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        raise Failure("no JSON on stdout") from None


def run_gradc(arguments, workload, environment):
    event = run_json([arguments.tool, "bench", f"bench/workloads/{workload}.nn", "--json", "--seconds",
                      str(arguments.seconds), "--threads", str(arguments.threads)], environment, 2 * arguments.seconds)
    return {**event, "ms": event["step_ms_median"], "best_ms": event["step_ms_best"],
            "start_ms": event["first_step_ms"]}


def run_peer(arguments, workload, variant, environment):
    command = [sys.executable, arguments.peer_script, variant.implementation, workload, "--threads",
               str(arguments.threads), "--seconds", str(arguments.seconds)]
    return run_json(command + ["--channels-last"] * variant.channels_last, environment, arguments.seconds)


class Measurements:
    """What each variant measured on each workload, one result a round, and why those failed that did."""

    def __init__(self):
        self.results = {}  # (workload, variant): list of results
        self.failures = {}  # (workload, variant): line

    def variants(self, workload, implementation):
        """Those of an implementation that ran, the quickest first."""
        found = [v for w, v in self.results if w == workload and v.implementation == implementation]
        return sorted(found, key=lambda v: self.median(workload, v))

    def of(self, workload, variant, field="ms"):
        return [result[field] for result in self.results[workload, variant]]

    def median(self, workload, variant, field="ms"):
        return median(self.of(workload, variant, field))

    def best(self, workload, variant):
        return min(self.of(workload, variant, "best_ms"))

    def first(self, workload, variant, field):
        return self.of(workload, variant, field)[0]

    def fastest(self, workload, implementation):
        return next(iter(self.variants(workload, implementation)), None)

    def failure(self, workload, implementation):
        for (w, v), line in self.failures.items():
            if w == workload and v.implementation == implementation:
                return line
        return None


def variants_of(workload, peers):
    layouts = [False, True] if workload in IMAGES else [False]
    return [GRADC] + [Variant(p, cl) for p in peers for cl in (layouts if PEERS[p].layouts else [False])]


def measure(arguments, peers):
    measured = Measurements()
    with tempfile.TemporaryDirectory() as cache:
        # torch.compile caches in a folder of this run: the first round starts with an empty cache.
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        for round_number in range(1, arguments.rounds + 1):
            for workload in arguments.workloads:
                for variant in variants_of(workload, peers):
                    key = (workload, variant)
                    if key in measured.failures:
                        continue
                    where = f"round {round_number}/{arguments.rounds}  {workload:11}  {variant}"
                    try:
                        if variant == GRADC:
                            result = run_gradc(arguments, workload, environment)
                        else:
                            result = run_peer(arguments, workload, variant, environment)
                    except Failure as failure:
                        measured.failures[key] = str(failure)
                        measured.results.pop(key, None)  # no results from a peer that fails at times
                        say(f"{where}  failed: {failure}")
                        continue
                    measured.results.setdefault(key, []).append(result)
                    say(f"{where}  {digits(result['ms'])} ms")
    return measured


# --- The machine and the versions

def read(path):
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def cpu_model():
    match = re.search(r"^model name\s*:\s*(.+)$", read("/proc/cpuinfo"), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def instruction_sets():
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", read("/proc/cpuinfo"), re.MULTILINE)
    flags = set(match[1].split()) if match else set()
    return [name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON"), ("sve", "SVE"))
            if flag in flags]


def caches():
    """As "L1 data 32K, L2 1024K, L3 32768K for 2", of the first processor."""
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level = read(index / "type"), read(index / "level")
        if kind == "Instruction" or not level:
            continue
        text = f"L{level}{' data' if kind == 'Data' else ''} {read(index / 'size')}"
        shared = read(index / "shared_cpu_map").replace(",", "")
        count = bin(int(shared, 16)).count("1") if shared else 1
        found.append(text + (f" for {count} processors" if count > 1 else ""))
    return ", ".join(found)


def memory_gib():
    match = re.search(r"^MemTotal:\s*(\d+) kB", read("/proc/meminfo"), re.MULTILINE)
    return f"{int(match[1]) / 2 ** 20:.1f} GiB" if match else "unknown"


def system():
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', read("/etc/os-release"), re.MULTILINE)
    return f"{match[1] if match else platform.system()}, Linux {platform.release()}"


def version_of(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def output_of(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def gradc_version(tool):
    text = output_of([tool, "--version"]) or "gradc"
    commit = output_of(["git", "rev-parse", "--short", "HEAD"])
    changed = output_of(["git", "status", "--porcelain", "--untracked-files=no"])
    return text + (f", commit {commit}" if commit else "") + (" with changes" if commit and changed else "")


# --- Tables

def digits(ms):
    """Three significant digits, and no fewer than those before the point."""
    if ms <= 0:
        return "0"
    return f"{ms:.{max(0, 2 - math.floor(math.log10(ms)))}f}"


def verdict(value, goal):
    return "met" if value <= goal else "not met"


class Row(NamedTuple):
    workload: str
    gradc: str
    peers: Dict[str, str]  # by implementation
    ratio: Optional[float]
    goal: float
    met: str


def cell(measured, workload, implementation):
    variant = measured.fastest(workload, implementation)
    if variant is None:
        failure = measured.failure(workload, implementation)
        return f"failed: {failure}" if failure else "-"
    text = f"{digits(measured.median(workload, variant))} ({digits(measured.best(workload, variant))})"
    return text + (" channels-last" if variant.channels_last else "")


def make_rows(measured, workloads, peers):
    rows = []
    for workload in workloads:
        medians = [measured.median(workload, v) for v in (measured.fastest(workload, p) for p in peers) if v]
        ratio = None
        if medians and measured.fastest(workload, "gradc"):
            ratio = measured.median(workload, GRADC) / min(medians)
        goal = GOALS[workload].ratio
        rows.append(Row(workload, cell(measured, workload, "gradc"),
                        {p: cell(measured, workload, p) for p in peers}, ratio, goal,
                        "-" if ratio is None else verdict(ratio, goal)))
    return rows


def ratio_table(rows, peers):
    heading = ["workload", "gradc", *(PEERS[p].title for p in peers), "gradc / best peer", "goal", ""]
    body = [[r.workload, r.gradc, *(r.peers[p] for p in peers), "-" if r.ratio is None else f"{r.ratio:.3f}",
             f"<= {r.goal:.2f}", r.met] for r in rows]
    return heading, body


def start_table(measured, workloads, peers):
    heading = ["workload", "gradc, first step", "goal", "gradc, 16 steps", *(PEERS[p].title for p in peers)]
    body = []
    for w in workloads:
        first, goal = measured.first(w, GRADC, "start_ms"), GOALS[w].start_ms
        cells = [w, f"{1e-3 * first:.2f}",
                 f"<= {1e-3 * goal:.1f} {verdict(first, goal)}" if goal else "",
                 f"{1e-3 * (first + 15 * measured.median(w, GRADC)):.2f}"]
        for p in peers:
            variant = measured.fastest(w, p)
            cells.append(f"{1e-3 * measured.first(w, variant, 'start_ms'):.1f}" if variant else "failed")
        body.append(cells)
    return heading, body


def memory_table(measured, workloads):
    heading = ["workload", "gradc", "parameters and state", "PyTorch", "gradc / PyTorch", "goal"]
    body = []
    for w in workloads:
        own, goal = measured.median(w, GRADC, "peak_rss_mb"), GOALS[w]
        state = measured.first(w, GRADC, "parameter_bytes") / 2 ** 20
        variant = measured.fastest(w, "torch")
        theirs = measured.median(w, variant, "peak_rss_mb") if variant else None
        goal_text = ""
        if goal.memory and theirs:
            goal_text = f"<= {goal.memory:.2f} of PyTorch's, {verdict(own / theirs, goal.memory)}"
        if goal.own_memory:
            goal_text = f"<= {goal.own_memory:.2f} of parameters and state, {verdict(own / state, goal.own_memory)}"
        body.append([w, f"{own:.0f}", f"{state:.1f}", f"{theirs:.0f}" if theirs else "failed",
                     f"{own / theirs:.2f}" if theirs else "-", goal_text])
    return heading, body


def as_text(heading, body):
    widths = [max(len(row[i]) for row in [heading, *body]) for i in range(len(heading))]
    lines = []
    for row in [heading, *body]:
        cells = [row[0].ljust(widths[0]), *(c.rjust(n) for c, n in zip(row[1:], widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_markdown(heading, body):
    def line(cells):
        return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"
    return "\n".join([line(heading), "|" + "---|" * len(heading), *map(line, body)])


def failure_list(measured):
    return [f"{workload}, {variant}: {line}" for (workload, variant), line in measured.failures.items()]


def limits(measured, threads):
    """The best FMA peak and triad that gradc measured, and with how many threads: all, unless no workload used all."""
    events = [e for (_, variant), results in measured.results.items() if variant == GRADC for e in results]
    used = min(threads, max(e["threads"] for e in events))
    events = [e for e in events if e["threads"] == used]
    return max(e["peak_gflops"] for e in events), max(e["triad_gb_per_s"] for e in events), used


def instruction_set():
    """The widest, whose section of the document these measurements are."""
    return (instruction_sets() or [platform.machine()])[0]


def section(arguments, measured, peers, load):
    workloads = arguments.workloads
    gflops, triad, limit_threads = limits(measured, arguments.threads)
    target = measured.first(workloads[0], GRADC, "target")
    # shlex: the command line can be pasted.
    command = shlex.join(["./dev", "bench", "peers", "--seconds", f"{arguments.seconds:g}", "--rounds",
                          str(arguments.rounds), "--threads", str(arguments.threads)])
    fewer = [f"{w} {n}" for w in workloads for n in [measured.first(w, GRADC, "threads")] if n < arguments.threads]
    facts = [
        ("date", datetime.date.today().isoformat()),
        ("processor", f"{cpu_model()}, {len(os.sched_getaffinity(0))} processors, {', '.join(instruction_sets())}"),
        ("caches", caches()),
        ("memory", memory_gib()),
        ("system", system()),
        ("versions", f"{gradc_version(arguments.tool)} (target {target}); "
                     + "; ".join(dict.fromkeys(f"{'PyTorch' if PEERS[p].package == 'torch' else 'JAX'} "
                                               f"{version_of(PEERS[p].package)}" for p in peers))
                     + f"; Python {platform.python_version()}"),
        ("threads", f"{arguments.threads}" + (f" (gradc used fewer on: {', '.join(fewer)})" if fewer else "")),
        ("measured limits", f"{gflops:.0f} GFLOP/s of multiply-adds on registers, {triad:.1f} GB/s triad, with "
                            f"{limit_threads} thread{'s' if limit_threads != 1 else ''} of generated code"),
        ("load average before the start", f"{load:.2f} over 1 minute"),
    ]
    failures = failure_list(measured)
    parts = [
        f"## {instruction_set()}",
        f"Measured by `{command}`.",
        as_markdown(["", ""], facts),
        "### A training step",
        "Milliseconds: the median over the rounds of each run's median, in parentheses the shortest step of all. The "
        "networks are those of `bench/workloads/`; the best peer is the one with the lowest median. Where PyTorch was "
        "quicker with channels-last images, that is the figure, and it says so.",
        as_markdown(*ratio_table(make_rows(measured, workloads, peers), peers)),
        "### From a start to results",
        "Seconds, in the first round. gradc: from the source file to the end of the first step, without the cache of "
        "compiled objects; 16 steps are that and 15 times the median step. Peers: from the start of the process to the "
        "end of 16 steps, imports and compilation included.",
        as_markdown(*start_table(measured, workloads, peers)),
        "### Memory",
        "MiB: the process's peak, compiler or framework included; median over the rounds.",
        as_markdown(*memory_table(measured, workloads)),
    ]
    if failures:
        parts += ["### Failures", "\n".join(f"- {line}" for line in failures)]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """# Benchmarks

Written by `./dev bench peers`; do not edit. What is measured, and how: [bench.md](bench.md). A section for each instruction
set: a run replaces that of its machine's and keeps the others.
"""


def document(old, own):
    """The sections of an older document with that of the same instruction set replaced, in order of their names."""
    sections = {text.splitlines()[0]: text for text in re.split(r"^(?=## )", old, flags=re.MULTILINE)[1:]}
    sections[own.splitlines()[0]] = own
    return "\n".join([INTRODUCTION] + [sections[name].rstrip("\n") + "\n" for name in sorted(sections)])


def write_whole(path, text):
    """All of it or nothing."""
    temporary = Path(path).with_name(Path(path).name + ".tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


# --- The command line

def positive(kind):
    def parse(text):
        value = kind(text)
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value
    parse.__name__ = "number" if kind is float else "whole number"  # for argparse's messages
    return parse


def implementation_list(text):
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"there is no peer '{name}'; there are: {', '.join(PEERS)}")
    if not names:
        raise argparse.ArgumentTypeError(f"name some of {', '.join(PEERS)}")
    return [name for name in PEERS if name in names]


def workload_name(text):
    if text not in GOALS:
        raise argparse.ArgumentTypeError(f"there is no workload '{text}'; there are: {', '.join(GOALS)}")
    return text


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev bench peers", description=__doc__.split("\n\nusage")[0],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", type=workload_name, metavar="WORKLOAD",
                        help=f"of {', '.join(GOALS)} (default: all)")
    parser.add_argument("--seconds", type=positive(float), default=5, metavar="S",
                        help="how long each run measures (default: 5)")
    parser.add_argument("--rounds", type=positive(int), default=3, metavar="N", help="runs of each (default: 3)")
    parser.add_argument("--threads", type=positive(int), default=len(os.sched_getaffinity(0)), metavar="N",
                        help="for gradc and the peers (default: the processors there are)")
    parser.add_argument("--impl", type=implementation_list, default=list(PEERS), metavar="A,B",
                        help=f"the peers: {','.join(PEERS)} (default: all)")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md alone")
    parser.add_argument("--tool", default=str(ROOT / "build" / "bin" / "gradc"), metavar="GRADC",
                        help="the gradc to time (default: build/bin/gradc)")
    parser.add_argument("--peer-script", default=str(ROOT / "bench" / "peer_step.py"), metavar="FILE",
                        help="what times a peer (default: bench/peer_step.py)")
    parser.add_argument("--output", default=str(ROOT / "docs" / "benchmarks.md"), metavar="FILE",
                        help="written instead of docs/benchmarks.md")
    arguments = parser.parse_args()
    arguments.workloads = [w for w in GOALS if w in arguments.workloads] or list(GOALS)
    for name in ("tool", "peer_script", "output"):  # commands run in the repository's root
        setattr(arguments, name, os.path.abspath(getattr(arguments, name)))
    folder = os.path.dirname(arguments.output)
    if not arguments.no_write and not os.access(folder, os.W_OK | os.X_OK):
        parser.error(f"cannot write to {folder}; see --no-write")
    return arguments


def installed(names):
    peers, missing = [], []
    for name in names:
        if importlib.util.find_spec(PEERS[name].package):
            peers.append(name)
        else:
            missing.append(name)
    if missing:
        packages = " ".join(dict.fromkeys(PEERS[name].package for name in missing))
        say(f"bench peers: left out, not installed: {', '.join(missing)}. To have them: "
            f"{sys.executable} -m pip install {packages}")
    return peers


def main():
    arguments = parse_arguments()
    peers = installed(arguments.impl)
    load = os.getloadavg()[0]
    if load > QUIET_LOAD:
        say(f"bench peers: the load average is {load:.2f}: something else is running, or was a moment ago (a build?); "
            "expect figures that are too high")
    try:
        measured = measure(arguments, peers)
    except KeyboardInterrupt:
        say("bench peers: interrupted; nothing was written")
        sys.exit(130)
    print(as_text(*ratio_table(make_rows(measured, arguments.workloads, peers), peers)))
    print(f"ms a step: median of {arguments.rounds} round{'s' if arguments.rounds != 1 else ''} (shortest step), "
          f"{arguments.threads} thread{'s' if arguments.threads != 1 else ''}", flush=True)
    for line in failure_list(measured):
        say(f"failed: {line}")
    gradc_failed = any(variant == GRADC for _, variant in measured.failures)
    shown = os.path.relpath(arguments.output)
    if arguments.no_write:
        pass
    elif gradc_failed:
        say(f"bench peers: {shown} is left alone, since gradc failed")
    elif arguments.workloads != list(GOALS) or peers != list(PEERS):
        say(f"bench peers: {shown} is left alone: it is written when all {len(GOALS)} workloads ran against all "
            f"{len(PEERS)} peers")
    else:
        write_whole(arguments.output, document(read(arguments.output), section(arguments, measured, peers, load)))
        say(f"bench peers: wrote {shown}")
    sys.exit(1 if gradc_failed else 0)


if __name__ == "__main__":
    main()
