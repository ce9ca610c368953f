#!/usr/bin/env python3
"""Checks that each folder includes only what the table of layers below allows; knows include lines, nothing else.

usage: layers_test.py ROOT
"""
import re
import sys
import tempfile
from pathlib import Path

# Folder -> the folders and libraries its files may include besides its own. A file name instead of a folder allows that file alone.
# `support` depends on std and small libraries only, so the runtime, which must stay free of the compiler, may use it too (the random generator
# and the error types are defined once).
ALLOWED = {
    "support": {"std", "fmt", "nlohmann"},  # JSON diagnostics
    "ir": {"std", "fmt", "support", "xtensor", "runtime/abi.h"},  # loop IR sizes a program's memory as the ABI does
    "frontend": {"std", "fmt", "support", "ir"},
    "passes": {"std", "fmt", "support", "ir", "runtime/abi.h"},  # lowering numbers the step's scalars as the ABI does
    "codegen": {"std", "fmt", "support", "ir", "llvm", "runtime/abi.h"},
    "runtime": {"std", "fmt", "support", "xtensor", "posix", "zlib", "nettle", "nlohmann", "intrinsics", "eigen", "libpng", "libjpeg"},
    "compiler": {"std", "fmt", "support", "ir", "frontend", "passes", "codegen", "runtime", "nlohmann", "posix", "include"},
    "embed": {"std", "fmt", "support", "runtime", "compiler", "standalone", "nlohmann", "posix", "include"},
    "standalone": {"std", "fmt", "support", "runtime", "nlohmann", "cli11", "include"},  # never the compiler
    "include": {"std", "gradc", "xtensor"},  # public headers know each other alone, as they are installed: "gradc/session.h"
}
ANYTHING = {"driver", "tests", "bench", "examples", "tools"}
LIBRARIES = {"fmt": "fmt", "xtensor": "xtensor", "xtl": "xtensor", "llvm": "llvm", "llvm-c": "llvm", "nettle": "nettle",
             "nlohmann": "nlohmann", "Eigen": "eigen", "CLI": "cli11", "gtest": "gtest", "benchmark": "benchmark", "sys": "posix", "linux": "posix"}
C_HEADERS = {"stdint.h", "stddef.h", "stdbool.h", "math.h", "string.h", "stdio.h", "stdlib.h", "float.h", "limits.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def owner(quote, name, own_folder):
    """What an included name belongs to: a folder of ours, a library, std, or posix."""
    first = name.split("/")[0]
    if quote == '"':
        return first if "/" in name else own_folder
    if "/" in name:
        return LIBRARIES.get(first, "std" if first == "experimental" else first)
    if name in ("zlib.h", "zconf.h"):
        return "zlib"
    if name in ("png.h", "jpeglib.h"):
        return {"png.h": "libpng", "jpeglib.h": "libjpeg"}[name]
    if name.endswith("intrin.h"):
        return "intrinsics"
    return "std" if not name.endswith(".h") or name in C_HEADERS else "posix"


def violations(root):
    found, files = [], 0
    for folder, allowed in ALLOWED.items():
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".h", ".hpp", ".cpp") or not path.is_file():
                continue
            files += 1
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                to = owner(match[1], match[2], folder)
                if to == folder or to in allowed or match[2] in allowed:
                    continue
                found.append(f"{path.relative_to(root)}:{number}: {folder}/ may not include {match[2]} ({to}); it may include "
                             + ", ".join(sorted(allowed)))
    return found, files


JSON_DUMP = re.compile(r"\.\s*dump\(")


def raw_json(root):
    """Calls of nlohmann's dump(), which throws for names of files that are not UTF-8: support/json_line.h is what calls it."""
    found = []
    for folder in [*ALLOWED, "driver"]:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".h", ".cpp") or not path.is_file() or path.name == "json_line.h":
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if JSON_DUMP.search(line):
                    found.append(f"{path.relative_to(root)}:{number}: JSON is written by json_line() of support/json_line.h")
    return found


def check_the_checker():
    """A tree with one wrong include of each kind, which must all be found, and right ones, which must not."""
    wrong = {"support/a.h": '"ir/module.h"', "ir/ops/b.cpp": '"passes/pipeline.h"', "passes/c.cpp": "<llvm/IR/Module.h>",
             "codegen/d.cpp": '"runtime/trainer.h"', "runtime/e.cpp": '"ir/module.h"', "frontend/f.cpp": '"driver/compile.h"',
             "ir/g.h": "<unistd.h>", "runtime/h.cpp": "<CLI/CLI.hpp>"}
    right = {"codegen/i.cpp": '"runtime/abi.h"', "runtime/j.cpp": "<zlib.h>", "ir/k.cpp": "<xtensor/xarray.hpp>",
             "runtime/l.cpp": "<unistd.h>", "passes/m.cpp": '"passes.h"', "support/n.cpp": "<vector>"}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, header in {**wrong, **right}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"#include {header}\n")
        found, files = violations(root)
        named = {line.split(":")[0] for line in found}
        assert named == set(wrong) and files == len(wrong) + len(right), found
        (root / "driver").mkdir(exist_ok=True)
        (root / "driver/o.cpp").write_text("text = value\n    .dump();\n")
        assert len(raw_json(root)) == 1


def main():
    check_the_checker()
    root = Path(sys.argv[1])
    found, files = violations(root)
    if files == 0:
        sys.exit(f"no source files under {root}")
    unknown = [d.name for d in root.iterdir() if d.is_dir() and any(d.glob("*.h")) and d.name not in ALLOWED and d.name not in ANYTHING
               and not d.name.startswith(("build", "."))]
    found += [f"{name}/ is in no row of the table of layers" for name in unknown]
    wrong_json = raw_json(root)
    for line in found + wrong_json:
        print(line)
    print(f"layers: {files} files, {len(found)} wrong includes")
    sys.exit(1 if found or wrong_json else 0)


if __name__ == "__main__":
    main()
