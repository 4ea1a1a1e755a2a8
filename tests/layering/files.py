#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every source file names its licence and stays short. Usage: files.py <repository>."""
import os
import sys

SOFT_LINES, HARD_LINES = 500, 800
SUFFIXES = (".h", ".cpp", ".cu", ".cuh", ".py", ".sh", ".cmake", ".cmake.in", ".pc.in", ".clang-format", ".clang-tidy", ".gitignore", "CMakeLists.txt")
SCRIPTS = ("tools/", ".ci/")
NOT_OURS = {".git", "build", ".cache", "__pycache__"}


def sources(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in NOT_OURS]
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), root)
            if name.endswith(SUFFIXES) or path.startswith(SCRIPTS):
                yield path


def check(path, lines):
    errors, notes = [], []
    if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:2]):
        errors.append(f"{path}: no SPDX line at its top")
    if len(lines) > HARD_LINES:
        errors.append(f"{path}: {len(lines)} lines, more than {HARD_LINES}")
    elif len(lines) > SOFT_LINES:
        notes.append(f"warning: {path}: {len(lines)} lines, more than {SOFT_LINES}")
    return errors, notes


def prove():
    spdx = "// SPDX-License-Identifier: Apache-2.0"
    right = (check("a.h", [spdx]) == ([], []) and check("a.py", ["#!/usr/bin/env python3", spdx]) == ([], [])
             and len(check("a.h", ["#pragma once"])[0]) == 1 and len(check("a.h", [spdx] + [""] * HARD_LINES)[0]) == 1
             and len(check("a.h", [spdx] + [""] * SOFT_LINES)[1]) == 1)
    if not right:
        sys.exit("self-check: a planted file is judged wrong")


def main():
    prove()
    root, errors, total, lengths = sys.argv[1], [], 0, []
    for path in sources(root):
        with open(os.path.join(root, path), encoding="utf-8") as file:
            lines = file.read().splitlines()
        found, notes = check(path, lines)
        errors += found
        total += len(lines)
        lengths.append((len(lines), path))
        for note in notes:
            print(note)
    lengths.sort()
    print("\n".join(errors))
    print(f"{len(lengths)} files, {total} lines, median {lengths[len(lengths) // 2][0]}, longest {lengths[-1][1]} with {lengths[-1][0]}")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
