#!/usr/bin/env python3
"""Tests tools/bench_peers.py with a gradc and peers that only say what they took, and compares the networks of
bench/peer_step.py with bench/workloads/*.nn. Times nothing and needs no framework.

usage: bench_peers_test.py ROOT
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(sys.argv.pop(1)) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tools")]
sys.dont_write_bytecode = True
import bench_peers  # noqa: E402
import peer_step  # noqa: E402

FAKE_GRADC = """\
#!%(python)s
import json, os, pathlib, sys
if "--version" in sys.argv:
    print("gradc 0.0")
    sys.exit()
log, workload = pathlib.Path(%(log)r), pathlib.Path(sys.argv[2]).stem
with log.open("a") as file:
    file.write("gradc " + workload + "\\n")
if workload == os.environ.get("FAIL_GRADC"):
    sys.exit("gradc: it broke")
count = log.read_text().count("gradc " + workload + "\\n")
print(json.dumps(dict(event="bench", step_ms_median=[3.0, 1.0, 2.0][(count - 1) %% 3], step_ms_best=0.5,
                      first_step_ms=100.0, peak_rss_mb=50.0, parameter_bytes=2 ** 20, threads=2, peak_gflops=400.0,
                      triad_gb_per_s=40.0, target="x86-64-v4")))
"""

FAKE_PEER = """\
import json, os, sys
channels_last = "--channels-last" in sys.argv
with open(%(log)r, "a") as file:
    file.write(" ".join(sys.argv[1:3]) + channels_last * " channels-last" + "\\n")
if sys.argv[1] == "torch_compile" and sys.argv[2] == "vgg":
    sys.exit("Traceback\\n  something\\npeer_step: RuntimeError: no compiler here\\n")
ms = dict(torch=20.0, torch_compile=10.0, jax=40.0)[sys.argv[1]] / (2 if channels_last else 1)
print(json.dumps(dict(ms=ms, best_ms=ms / 2, start_ms=5000.0, peak_rss_mb=400.0)))
"""


class BenchPeers(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)
        self.log = self.folder / "log"
        names = {"python": sys.executable, "log": str(self.log)}
        (self.folder / "gradc").write_text(FAKE_GRADC % names)
        (self.folder / "gradc").chmod(0o755)
        (self.folder / "peer.py").write_text(FAKE_PEER % names)
        # Empty packages: the tool asks whether torch and jax are there, never for what is in them.
        for package in ("torch", "jax"):
            (self.folder / "with" / package).mkdir(parents=True)
            (self.folder / "with" / package / "__init__.py").touch()

    def run_tool(self, *arguments, packages=True, **variables):
        # -S: no packages but those of the folder.
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "with") if packages else "", **variables}
        command = [sys.executable, "-S", ROOT / "tools" / "bench_peers.py", "--tool", self.folder / "gradc",
                   "--peer-script", self.folder / "peer.py", "--output", self.folder / "out.md", *arguments]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=300)

    def row(self, text, workload):
        return next(line for line in text.splitlines() if re.match(rf"\|? ?{workload}\b", line))

    def test_rounds_are_interleaved_and_medians_are_of_all(self):
        done = self.run_tool("mlp", "lenet", "--rounds", "3")
        self.assertEqual(done.returncode, 0, done.stderr)
        one_round = ["gradc mlp", "torch mlp", "torch_compile mlp", "jax mlp",
                     "gradc lenet", "torch lenet", "torch lenet channels-last", "torch_compile lenet",
                     "torch_compile lenet channels-last", "jax lenet"]
        self.assertEqual(self.log.read_text().splitlines(), 3 * one_round)
        self.assertRegex(self.row(done.stdout, "mlp"), r"mlp +2\.00 \(0\.500\) +20\.0 \(10\.0\) +10\.0 \(5\.00\)"
                         r" +40\.0 \(20\.0\) +0\.200 +<= 0\.42 +met$")
        self.assertRegex(self.row(done.stdout, "lenet"), r"10\.0 \(5\.00\) channels-last +5\.00 \(2\.50\) channels-last"
                         r" .*0\.400 +<= 0\.25 +not met$")
        self.assertIn("is left alone", done.stderr)
        self.assertFalse((self.folder / "out.md").exists())

    def test_the_file_is_written_when_all_ran(self):
        done = self.run_tool("--rounds", "1", "--seconds", "0.5", "--threads", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        text = (self.folder / "out.md").read_text()
        for part in ("./dev bench peers --seconds 0.5 --rounds 1 --threads 2", "400 GFLOP/s", "40.0 GB/s triad",
                     "x86-64-v4", "- vgg, torch_compile: RuntimeError: no compiler here"):
            self.assertIn(part, text)
        for workload in bench_peers.GOALS:
            self.assertEqual(text.count(f"\n| {workload} |"), 3)
        self.assertIn("failed: RuntimeError: no compiler here", self.row(text, "vgg"))
        self.assertIn("failed: vgg, torch_compile channels-last", done.stderr)
        self.assertIn("| mlp | 0.10 | <= 0.3 met | 0.14 | 5.0 |", text)
        self.assertIn("| mlp | 50 | 1.0 | 400 | 0.12 | <= 0.25 of PyTorch's, met |", text)
        self.assertEqual([p.name for p in self.folder.glob("out*")], ["out.md"])

    def test_sections_of_other_instruction_sets_stay(self):
        old = bench_peers.INTRODUCTION + "\n## AVX2\n\nold\n\n### Memory\n\nmuch\n\n## NEON\n\nother\n"
        new = bench_peers.document(old, "## AVX2\n\nnew\n")
        self.assertEqual(new, bench_peers.INTRODUCTION + "\n## AVX2\n\nnew\n\n## NEON\n\nother\n")
        both = bench_peers.document(new, "## AVX-512\n\nwide\n")
        self.assertEqual(both, new.replace("\n## AVX2", "\n## AVX-512\n\nwide\n\n## AVX2"))
        self.assertEqual(bench_peers.document("", "## AVX2\n\nnew\n"),
                         bench_peers.INTRODUCTION + "\n## AVX2\n\nnew\n")

    def test_no_write(self):
        self.assertEqual(self.run_tool("--rounds", "1", "--no-write").returncode, 0)
        self.assertFalse((self.folder / "out.md").exists())

    def test_peers_that_are_not_installed_are_named(self):
        done = self.run_tool("mlp", "--rounds", "1", packages=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("not installed: torch, torch_compile, jax", done.stderr)
        self.assertIn("-m pip install torch jax", done.stderr)
        self.assertRegex(self.row(done.stdout, "mlp"), r"mlp +3\.00 \(0\.500\) +- +<= 0\.42 +-$")

    def test_a_failing_gradc_fails_the_run_and_leaves_the_file(self):
        done = self.run_tool("--rounds", "1", FAIL_GRADC="tiny")
        self.assertEqual(done.returncode, 1)
        self.assertIn("failed: tiny, gradc: it broke", done.stderr)
        self.assertFalse((self.folder / "out.md").exists())

    def test_wrong_command_lines(self):
        for arguments, part in ((["lnet"], "there is no workload 'lnet'"),
                                (["--impl", "torch,jx"], "there is no peer 'jx'"), (["--rounds", "0"], "--rounds"),
                                (["--seconds", "x"], "--seconds"),
                                (["--output", "/no/such/folder/x.md"], "cannot write to /no/such/folder")):
            done = self.run_tool(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(part, done.stderr)
        self.assertFalse(self.log.exists())

    def test_digits(self):
        for value, text in ((0.012345, "0.0123"), (0.5, "0.500"), (5.9, "5.90"), (43.21, "43.2"), (155.4, "155"),
                            (1234.0, "1234")):
            self.assertEqual(bench_peers.digits(value), text)


class Workloads(unittest.TestCase):
    """bench/peer_step.py against the model files, as far as their text shows it."""

    def test_names(self):
        files = {path.stem for path in (ROOT / "bench" / "workloads").glob("*.nn")}
        self.assertEqual(files, set(peer_step.WORKLOADS))
        self.assertEqual(files, set(bench_peers.GOALS))
        self.assertEqual({n for n, w in peer_step.WORKLOADS.items() if len(w.shape) == 3}, set(bench_peers.IMAGES))

    def test_batch_shape_and_optimizer(self):
        for name, workload in peer_step.WORKLOADS.items():
            text = (ROOT / "bench" / "workloads" / f"{name}.nn").read_text()
            # Settings by their values.
            for setting, value in re.findall(r"^set (\w+) += (\d+)", text, re.MULTILINE):
                text = re.sub(rf"(?<![\w.]){setting}\b(?!\s*=)", value, text)
            self.assertEqual(int(re.search(r"batch=(\d+)", text)[1]), workload.batch, name)
            shape = re.search(r"shape=\[([\d, ]+)\]|length=(\d+), vocabulary=(\d+)", text)
            numbers = tuple(int(n) for n in (shape[1] or shape[2]).split(","))
            self.assertEqual(numbers, workload.shape, name)
            self.assertEqual(int(shape[3] or 0), workload.tokens, name)
            optimizer, arguments = re.search(r"optimizer (\w+)\(([^)]*)\)", text).groups()
            self.assertEqual(optimizer, workload.optimizer, name)
            values = {k: float(v) for k, v in re.findall(r"(\w+)=([\d.e-]+)", arguments)}
            self.assertEqual(values.pop("lr"), workload.lr, name)
            self.assertEqual(values.pop("weight_decay", 0), workload.weight_decay, name)
            self.assertEqual(values.pop("momentum", peer_step.MOMENTUM), peer_step.MOMENTUM, name)
            self.assertEqual(values, {}, name)

    def test_shapes(self):
        for name, workload in peer_step.WORKLOADS.items():
            shape = workload.shape
            for layer in workload.layers:
                if isinstance(layer, peer_step.Dense) and not workload.tokens:
                    self.assertEqual(len(shape), 1, name)
                shape = peer_step.shape_behind(layer, shape)
            outputs = (128, 256) if workload.tokens else (1000,) if name == "wide" else (10,)
            self.assertEqual(shape, outputs, name)


if __name__ == "__main__":
    unittest.main()
