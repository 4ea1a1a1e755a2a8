#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads every #include line and fails on one that goes against the order of the folders.

A folder may include itself and what stands before it in FOLDERS. A public header ranks with the folder of its concept (HEADERS).
Usage: include_order.py <repository>; first it proves on planted files that it finds violations.
"""
import os
import re
import sys
import tempfile

FOLDERS = ["base", "mesh", "placements", "redistribute/plan", "propagate", "local", "comm", "world", "redistribute", "tensor", "ops",
           "autograd", "nn", "optim", "parallel", "checkpoint", "graph", "debug", "umbrella", "cli", "interop"]
TOP_LEVEL = {"mesh", "placements", "ops"}

# Public header -> folder of its concept; ops/*, nn/* and interop/* go by their folder.
HEADERS = {
    "export.h": "base", "version.h": "base", "error.h": "base", "values.h": "base", "text.h": "base", "half.h": "base",
    "mesh.h": "mesh",
    "placement.h": "placements",
    "plan.h": "redistribute/plan", "topology.h": "redistribute/plan",
    "tensor.h": "local", "device.h": "local", "cuda.h": "local", "cuda_graph.h": "local", "allocator.h": "local", "generator.h": "local",
    "comm.h": "comm", "nccl.h": "comm",
    "adopt.h": "world", "world.h": "world",
    "distributed_tensor.h": "tensor", "op.h": "tensor",
    "ops.h": "ops",
    "autograd.h": "autograd",
    "nn.h": "nn",
    "optim.h": "optim",
    "parallel.h": "parallel",
    "checkpoint.h": "checkpoint",
    "graph.h": "graph",
    "debug.h": "debug", "verify.h": "debug", "cases.h": "debug", "op_table.h": "debug",
    "dtensor.h": "umbrella",
}
# Users of the public API: they see public headers and their own folder only.
PUBLIC_USERS = {"parallel", "cli"}
# Integer algebra: no clock, no thread, no chance.
PURE = {"mesh", "placements", "redistribute/plan", "propagate"}
NOT_PURE = {"chrono", "thread", "future", "condition_variable", "random"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def folder_of_public(name):
    """Of `name`, a path below include/dtensor; None when the table lacks it."""
    first, _, rest = name.partition("/")
    if rest:
        return first if first in FOLDERS else None
    return HEADERS.get(name)


def folder_of_file(path):
    """Of a path below the repository; None for a file that has no rank."""
    if path.startswith("include/dtensor/"):
        return folder_of_public(path[len("include/dtensor/"):])
    if path.startswith("src/redistribute/plan/"):
        return "redistribute/plan"
    parts = path.split("/")
    name = parts[1] if parts[0] == "src" and len(parts) > 2 else parts[0]
    return name if name in FOLDERS and (name in TOP_LEVEL) == (parts[0] != "src") else None


def folder_of_include(name):
    if name.startswith("dtensor/"):
        return folder_of_public(name[len("dtensor/"):])
    if name.startswith("redistribute/plan/"):
        return "redistribute/plan"
    first = name.split("/")[0]
    return first if "/" in name and first in FOLDERS else None


def complaint(folder, public, name):
    """What is wrong with including "name" in a file of `folder`; None when nothing is."""
    target = folder_of_include(name)
    if target is None and name.startswith("dtensor/"):
        return f'public header "{name}" has no folder: add it to HEADERS in tests/layering/include_order.py'
    if target is None:
        return f'"{name}" is not spelled from the root of a folder ("{folder}/{os.path.basename(name)}"?)'
    if public and not name.startswith("dtensor/"):
        return f'a public header includes the private "{name}"'
    if FOLDERS.index(target) > FOLDERS.index(folder):
        return f'{folder} includes "{name}" of {target}, which stands after it'
    if folder in PUBLIC_USERS and target != folder and not name.startswith("dtensor/"):
        return f'{folder} uses the public API only, but includes "{name}"'
    return None


def check_file(root, path):
    folder = folder_of_file(path)
    if folder is None:
        return [f"{path}: belongs to no folder: add it to the tables in tests/layering/include_order.py"]
    public = path.startswith("include/")
    errors, own, seen = [], None, []
    base = os.path.splitext(path)[0]
    with open(os.path.join(root, path), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            bracket, name = match.groups()
            seen.append(name)
            if bracket == "<" and not name.startswith("dtensor/"):
                problem = f"{folder} is pure, but includes <{name}>" if folder in PURE and name in NOT_PURE else None
            else:
                problem = complaint(folder, public, name)
            if problem:
                errors.append(f"{path}:{number}: {problem}")
            if path.endswith(".cpp") and name in (re.sub("^src/", "", base) + ".h", "dtensor/" + os.path.basename(base) + ".h"):
                own = own or name
    if own and seen[0] != own:
        errors.append(f'{path}: its own header "{own}" does not come first')
    return errors


def sources(root):
    for top in ["include", "mesh", "placements", "ops", "src"]:
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".h", ".cpp", ".cu", ".cuh", ".hpp", ".cc")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def check(root):
    files = list(sources(root))
    return files, [error for path in files for error in check_file(root, path)]


PLANTED = [  # file, its text, what the complaint says (None: no complaint)
    ("mesh/ok.cpp", '#include "mesh/ok.h"\n#include <vector>\n#include "dtensor/mesh.h"\n#include "base/shape.h"\n', None),
    ("mesh/up.cpp", '#include "placements/layout.h"\n', "mesh includes \"placements/layout.h\" of placements"),
    ("src/local/a.cpp", '#  include <dtensor/distributed_tensor.h>\n', "of tensor, which stands after it"),
    ("src/redistribute/plan/b.h", '#include "redistribute/moves/slice.h"\n', "of redistribute, which stands after it"),
    ("src/redistribute/c.cpp", '#include "redistribute/plan/plan.h"\n#include "comm/communicator.h"\n', None),
    ("src/tensor/d.cpp", '#include "ops/pointwise.h"\n', "of ops, which stands after it"),
    ("src/parallel/e.cpp", '#include "tensor/call.h"\n', "uses the public API only"),
    ("src/comm/f.h", '#include "g.h"\n', "is not spelled from the root"),
    ("src/comm/g.h", '#include "dtensor/unheard_of.h"\n', "has no folder"),
    ("include/dtensor/tensor.h", '#include "local/storage.h"\n', "includes the private"),
    ("include/dtensor/new_idea.h", '', "belongs to no folder"),
    ("src/propagate/h.cpp", '#include <chrono>\n', "is pure, but includes <chrono>"),
    ("src/comm/i.cpp", '#include <vector>\n#include "comm/i.h"\n', "does not come first"),
    ("src/ops/j.cpp", '', "belongs to no folder"),
]


def prove():
    """The checker finds each planted violation, and nothing else."""
    with tempfile.TemporaryDirectory() as root:
        for path, text, _ in PLANTED:
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        for path, _, expected in PLANTED:
            found = check_file(root, path)
            right = not found if expected is None else len(found) == 1 and expected in found[0]
            if not right:
                sys.exit(f"self-check: {path}: expected {expected!r}, found {found}")
        if len(check(root)[0]) != len(PLANTED):
            sys.exit("self-check: the walk misses files")


def main():
    prove()
    files, errors = check(sys.argv[1])
    print("\n".join(errors))
    print(f"{len(files)} files, {len(errors)} violations; {len(PLANTED)} planted files judged right")
    sys.exit(1 if errors or not files else 0)


if __name__ == "__main__":
    main()
