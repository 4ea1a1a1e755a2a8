#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every public header compiles on its own with g++ and clang++ and pulls in nothing heavy; prints what <dtensor/dtensor.h> costs.

Usage: headers.py <repository> <c++ compiler> ...; a compiler that is not installed is reported and skipped.
"""
import concurrent.futures
import os
import re
import resource
import shutil
import subprocess
import sys

FLAGS = ["-std=c++20", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-x", "c++", "-"]
# Libraries by a part of the path, standard headers by their whole name. interop/ may include the libraries that it is for.
HEAVY = re.compile(r"/(eigen3|Eigen|xtensor|xtl|xsimd|dlpack|cuda\w*|cublas\w*|nccl\w*|openmpi|mpi|fmt|spdlog|nlohmann|CLI|Random123)[/.]"
                   r"|/c\+\+/[^/]*/?(v1/)?(iostream|regex|ranges|format)$")
BUDGET_S = 0.5  # user time of <dtensor/dtensor.h>
INTEROP_FOLDERS = []  # include folders of the libraries of interop/, from the command line
LIMIT_LINES = 70_000  # preprocessed; the time depends on the machine and what else it does, so only this can fail


def headers(root):
    found = []
    for folder, _, names in os.walk(os.path.join(root, "include", "dtensor")):
        found += [os.path.relpath(os.path.join(folder, name), os.path.join(root, "include")) for name in names if name.endswith(".h")]
    return sorted(found)


def run(root, compiler, source, *options):
    return subprocess.run([compiler, "-I", os.path.join(root, "include"), *options, *FLAGS],
                          input=source, capture_output=True, text=True, check=False)


def check_alone(root, compiler, header):
    # Only interop/ may ask for more than the standard library.
    libraries = [option for folder in INTEROP_FOLDERS for option in ("-isystem", folder)] if header.startswith("dtensor/interop/") else []
    done = run(root, compiler, f"#include <{header}>\n", "-fsyntax-only", *libraries)
    if libraries and re.search(r"(nccl|cuda_runtime)\.h.*(No such file|not found)", done.stderr):
        return None  # not on this machine
    return None if done.returncode == 0 else f"{header} does not compile alone with {compiler}:\n{done.stderr}"


def heavy(paths):
    return sorted({path for path in paths if HEAVY.search(path) and not path.startswith("/include/dtensor/")})


def check_light(root, compiler, header):
    done = run(root, compiler, f"#include <{header}>\n", "-M")
    if done.returncode != 0:
        return f"{header}: {done.stderr}"
    # The repository may lie anywhere.
    found = heavy(path.removeprefix(os.fspath(root)) for path in done.stdout.replace("\\\n", " ").split()[1:])
    return f"{header} pulls in {', '.join(found[:3])}" if found else None


def print_cost(root, compiler):
    """Lines and best user time of three of a program that includes <dtensor/dtensor.h> only."""
    source = "#include <dtensor/dtensor.h>\n"
    lines = run(root, compiler, source, "-E", "-P").stdout.count("\n")
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        run(root, compiler, source, "-fsyntax-only")
        times.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    print(f"<dtensor/dtensor.h> costs {min(times):.2f} s user and {lines} preprocessed lines with {compiler} (budget {BUDGET_S} s)")
    return f"<dtensor/dtensor.h> has {lines} lines with {compiler}, more than {LIMIT_LINES}" if lines > LIMIT_LINES else None


def prove():
    """The pattern knows what it is to refuse."""
    bad = ["/usr/include/eigen3/Eigen/Core", "/usr/include/fmt/core.h", "/usr/include/nccl.h", "/usr/include/c++/12/iostream",
           "/usr/include/Random123/philox.h", "/usr/local/cuda/include/cuda_runtime.h", "/usr/lib/x86_64-linux-gnu/openmpi/include/mpi.h"]
    good = ["include/dtensor/mesh.h", "/usr/include/c++/12/bits/ranges_base.h", "/usr/include/c++/12/iosfwd", "include/dtensor/ops/matmul.h"]
    if len(heavy(bad)) != len(bad) or heavy(good):
        sys.exit(f"self-check: finds {heavy(bad)} of {bad}, and {heavy(good)}")


def main():
    root = sys.argv[1]
    compilers = [word for word in sys.argv[2:] if not word.startswith("-I")]
    INTEROP_FOLDERS.extend(word[2:] for word in sys.argv[2:] if word.startswith("-I"))
    prove()
    found, errors = headers(root), []
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for index, compiler in enumerate(compilers):
            if not shutil.which(compiler):
                print(f"not checked with {compiler}: it is not installed")
                continue
            results = list(pool.map(lambda header: check_alone(root, compiler, header), found))
            if index == 0:
                own = [header for header in found if not header.startswith("dtensor/interop/")]
                results += pool.map(lambda header: check_light(root, compiler, header), own)
            errors += [error for error in results if error]
            print(f"{len(found)} public headers compiled alone with {compiler}")
            if "dtensor/dtensor.h" in found and not errors:
                cost = print_cost(root, compiler)
                errors += [cost] if cost else []
    print("\n".join(errors))
    sys.exit(1 if errors or not found else 0)


if __name__ == "__main__":
    main()
