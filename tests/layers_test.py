#!/usr/bin/env python3
"""Checks that each folder includes only what the table of layers below allows; knows include lines, nothing else.

usage: layers_test.py ROOT
"""
import re
import sys
import tempfile
from pathlib import Path

# Room (a folder; of nested ones the innermost counts) -> the rooms and libraries its files may include besides their own. A file name instead
# of a room allows that file alone. A room named with its subfolders ("passes/") allows those too.
# `support` depends on std and small libraries only, so the runtime, which must stay free of the compiler, may use it too (the random generator
# and the error types are defined once).
ALLOWED = {
    "support": {"std", "fmt", "nlohmann"},  # JSON diagnostics
    # An operator's record, ir/tensor/op_def.h, holds its lowering and its evaluation.
    "ir/tensor": {"std", "fmt", "support", "ir/loop/loop_ir.h", "ir/interpreter"},
    "ir/interpreter": {"std", "support", "xtensor", "ir/tensor"},
    "ir/ops": {"std", "fmt", "support", "xtensor", "ir/tensor", "ir/interpreter", "ir/loop"},
    "ir/loop": {"std", "fmt", "support", "runtime/panels.h"},  # loop IR shares panels and sizes memory as the runtime does
    "frontend": {"std", "fmt", "support", "ir/tensor", "ir/interpreter", "ir/ops"},  # static numbers, initial losses
    "passes/tensor": {"std", "fmt", "support", "ir/"},
    "passes/kernels": {"std", "fmt", "support", "ir/", "passes/tensor", "passes/loop", "passes/options.h", "passes/lowered.h",
                       "runtime/abi.h"},  # lowering numbers the step's scalars as the ABI does
    "passes/loop": {"std", "fmt", "support", "ir/", "passes/options.h", "passes/lowered.h"},
    "passes": {"std", "fmt", "support", "ir/", "passes/"},
    "codegen": {"std", "fmt", "support", "ir/loop", "llvm", "runtime/abi.h", "runtime/panels.h"},
    "compiler": {"std", "fmt", "support", "ir/", "frontend", "passes", "codegen", "runtime/", "nlohmann", "posix", "include"},
    # The runtime: what all need; examples on their way into a step; the step and what it is used for; training.
    "runtime": {"std", "fmt", "support", "posix", "nettle", "intrinsics"},
    "runtime/data": {"std", "fmt", "support", "posix", "zlib", "nlohmann", "eigen", "libpng", "libjpeg", "runtime"},
    "runtime/execution": {"std", "fmt", "support", "posix", "nlohmann", "intrinsics", "runtime", "runtime/data"},
    "runtime/training": {"std", "fmt", "support", "posix", "nlohmann", "eigen", "runtime/"},
    "capi": {"std", "fmt", "support", "runtime/", "include"},  # never the compiler
    "capi/compile": {"std", "fmt", "support", "runtime/", "compiler", "capi", "nlohmann", "posix", "include"},
    "standalone": {"std", "fmt", "support", "runtime/", "capi", "nlohmann", "cli11"},  # never the compiler
    "include": {"std", "gradc", "xtensor"},  # public headers know each other alone, as they are installed: "gradc/session.h"
}
ANYTHING = {"cli", "tests", "bench", "examples", "tools"}
LIBRARIES = {"fmt": "fmt", "xtensor": "xtensor", "xtl": "xtensor", "llvm": "llvm", "llvm-c": "llvm", "nettle": "nettle",
             "nlohmann": "nlohmann", "Eigen": "eigen", "CLI": "cli11", "gtest": "gtest", "benchmark": "benchmark", "sys": "posix", "linux": "posix"}
C_HEADERS = {"stdint.h", "stddef.h", "stdbool.h", "math.h", "string.h", "stdio.h", "stdlib.h", "float.h", "limits.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def room_of(path):
    """The innermost row of the table that a file of ours is in; its top folder where there is none."""
    folder = str(Path(path).parent)
    while folder != "." and folder not in ALLOWED:
        folder = str(Path(folder).parent)
    return path.split("/")[0] if folder == "." else folder


def owner(quote, name, own_room):
    """What an included name belongs to: a room of ours, a library, std, or posix."""
    first = name.split("/")[0]
    if quote == '"':
        return room_of(name) if "/" in name else own_room
    if "/" in name:
        return LIBRARIES.get(first, "std" if first == "experimental" else first)
    if name in ("zlib.h", "zconf.h"):
        return "zlib"
    if name in ("png.h", "jpeglib.h"):
        return {"png.h": "libpng", "jpeglib.h": "libjpeg"}[name]
    if name.endswith("intrin.h"):
        return "intrinsics"
    return "std" if not name.endswith(".h") or name in C_HEADERS else "posix"


def may_include(allowed, to, name):
    return to in allowed or name in allowed or any(a.endswith("/") and (to + "/").startswith(a) for a in allowed)


def violations(root):
    found, files = [], 0
    for top in sorted({room.split("/")[0] for room in ALLOWED}):
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in (".h", ".hpp", ".cpp") or not path.is_file():
                continue
            name = path.relative_to(root).as_posix()
            room = room_of(name)
            files += 1
            if room not in ALLOWED:
                found.append(f"{name}: {path.parent.relative_to(root)}/ is in no row of the table of layers")
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                to = owner(match[1], match[2], room)
                if to == room or may_include(ALLOWED[room], to, match[2]):
                    continue
                found.append(f"{name}:{number}: {room}/ may not include {match[2]} ({to}); it may include "
                             + ", ".join(sorted(ALLOWED[room])))
    return found, files


JSON_DUMP = re.compile(r"\.\s*dump\(")


def raw_json(root):
    """Calls of nlohmann's dump(), which throws for names of files that are not UTF-8: support/json_line.h is what calls it."""
    found = []
    for folder in sorted({room.split("/")[0] for room in ALLOWED} | {"cli"}):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".h", ".cpp") or not path.is_file() or path.name == "json_line.h":
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if JSON_DUMP.search(line):
                    found.append(f"{path.relative_to(root)}:{number}: JSON is written by json_line() of support/json_line.h")
    return found


def check_the_checker():
    """A tree with one wrong include of each kind, which must all be found, and right ones, which must not."""
    wrong = {"support/a.h": '"ir/tensor/module.h"', "ir/ops/b.cpp": '"passes/pipeline.h"', "passes/c.cpp": "<llvm/IR/Module.h>",
             "codegen/d.cpp": '"runtime/training/train.h"', "runtime/data/e.cpp": '"ir/tensor/module.h"', "frontend/f.cpp": '"cli/check/check.h"',
             "ir/loop/g.h": "<unistd.h>", "runtime/h.cpp": "<CLI/CLI.hpp>", "runtime/data/o.h": '"runtime/training/train.h"',
             "ir/p.h": "<vector>", "passes/tensor/q.cpp": '"passes/kernels/tile.h"', "capi/r.cpp": '"compiler/compile.h"'}
    right = {"codegen/i.cpp": '"runtime/abi.h"', "runtime/data/j.cpp": "<zlib.h>", "ir/ops/k.cpp": "<xtensor/xarray.hpp>",
             "runtime/l.cpp": "<unistd.h>", "passes/m.cpp": '"passes/tensor/passes.h"', "support/n.cpp": "<vector>",
             "capi/compile/s.cpp": '"compiler/compile.h"', "runtime/training/t.cpp": '"runtime/data/dataset.h"'}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, header in {**wrong, **right}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"#include {header}\n")
        found, files = violations(root)
        named = {line.split(":")[0] for line in found}
        assert named == set(wrong) and files == len(wrong) + len(right), found
        (root / "cli").mkdir(exist_ok=True)
        (root / "cli/o.cpp").write_text("text = value\n    .dump();\n")
        assert len(raw_json(root)) == 1


def main():
    check_the_checker()
    root = Path(sys.argv[1])
    found, files = violations(root)
    if files == 0:
        sys.exit(f"no source files under {root}")
    tops = {room.split("/")[0] for room in ALLOWED} | ANYTHING
    unknown = [d.name for d in root.iterdir() if d.is_dir() and any(d.rglob("*.h")) and d.name not in tops
               and not d.name.startswith(("build", "."))]
    found += [f"{name}/ is in no row of the table of layers" for name in unknown]
    wrong_json = raw_json(root)
    for line in found + wrong_json:
        print(line)
    print(f"layers: {files} files, {len(found)} wrong includes")
    sys.exit(1 if found or wrong_json else 0)


if __name__ == "__main__":
    main()
