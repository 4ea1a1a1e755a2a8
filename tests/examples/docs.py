#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each C++ block in docs/ is made of consecutive lines of a program in examples/, and each link and header named there exists.
Programs in examples/ (but not what they share) stay below 150 lines.

Usage: docs.py <repository>.
"""
import os
import re
import sys

ROOT = sys.argv[1]


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def squeezed(text):
    """Lines without layout: clang-format may break them elsewhere than the page does."""
    return re.sub(r"\s+", "", text)


def programs():
    for folder, _, names in os.walk(os.path.join(ROOT, "examples")):
        for name in names:
            if name.endswith((".cpp", ".h")):
                yield squeezed(text_of(os.path.join(folder, name)))


def complaints(page, text, sources):
    for block in re.findall(r"```cpp\n(.*?)```", text, re.S):
        if not any(squeezed(block) in source for source in sources):
            yield f"{page}: this is in no program of examples/:\n{block}"
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if not os.path.exists(os.path.join(ROOT, "docs", link)):
            yield f"{page}: dead link {link}"
    for header in re.findall(r"`((?:ops/)?[a-z_]+\.h)`", text):
        if not os.path.exists(os.path.join(ROOT, "include", "dtensor", header)):
            yield f"{page}: there is no header {header}"


def main():
    sources = list(programs())
    planted = "```cpp\nint nowhere = 7;\n```\n[x](nothing.md) `nothing.h`"
    if len(list(complaints("planted", planted, sources))) != 3:
        sys.exit("self-check: planted mistakes are not found")
    pages = sorted(name for name in os.listdir(os.path.join(ROOT, "docs")) if name.endswith(".md"))
    errors = [error for page in pages for error in complaints(page, text_of(os.path.join(ROOT, "docs", page)), sources)]
    index = text_of(os.path.join(ROOT, "docs", "index.md"))
    errors += [f"index.md does not link {page}" for page in pages if page != "index.md" and f"]({page})" not in index]
    for name in sorted(os.listdir(os.path.join(ROOT, "examples"))):
        if name.endswith(".cpp") and text_of(os.path.join(ROOT, "examples", name)).count("\n") >= 150:
            errors.append(f"examples/{name} has 150 lines or more")
    print("\n".join(errors))
    sys.exit(1 if errors or not pages else 0)


if __name__ == "__main__":
    main()
