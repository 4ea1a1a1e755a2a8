#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The first C++ program in README.md is examples/readme.cpp (without its licence line), which is compiled and run as an example.

Usage: readme.py <repository>.
"""
import difflib
import os
import re
import sys


def main():
    root = sys.argv[1]
    with open(os.path.join(root, "README.md"), encoding="utf-8") as file:
        block = re.search(r"```cpp\n(.*?)```", file.read(), re.S)
    if not block:
        sys.exit("README.md shows no program")
    with open(os.path.join(root, "examples", "readme.cpp"), encoding="utf-8") as file:
        program = file.read().split("\n", 1)[1]
    difference = list(difflib.unified_diff(block.group(1).splitlines(), program.splitlines(), "README.md", "examples/readme.cpp", lineterm=""))
    print("\n".join(difference))
    sys.exit(1 if difference else 0)


if __name__ == "__main__":
    main()
