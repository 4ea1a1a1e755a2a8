#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""For which devices kernels are compiled: what CMAKE_CUDA_ARCHITECTURES says, in this build and in projects that have the sources inside, however they say
it; without it 8.0 and 9.0, with PTX of 9.0. Configures only. architectures_test.py SOURCE BUILD WORK CXX NVCC
"""
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

source, build, work = (pathlib.Path(p) for p in sys.argv[1:4])
cxx, nvcc = sys.argv[4:]


def codes(architectures):
    """What nvcc makes for a list of CMake's."""
    all_of = set()
    for a in architectures.split(";"):
        number, _, kind = a.partition("-")
        all_of |= {f"sm_{number}"} if kind == "real" else {f"compute_{number}"} if kind == "virtual" else {f"sm_{number}", f"compute_{number}"}
    return all_of


def compiled(folder):
    """The same of every kernel in a build tree: the sets that there are."""
    found = set()
    for entry in json.loads((folder / "compile_commands.json").read_text()):
        if entry["file"].endswith(".cu") and nvcc in entry["command"]:
            lists = re.findall(r",code=\[?([\w,]+)\]?", entry["command"])
            found.add(frozenset(code for one in lists for code in one.split(",")))
    return found


def configured(name, before="", **environment):
    """The build tree of a project around the sources."""
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(parent LANGUAGES CXX)\nset(CMAKE_EXPORT_COMPILE_COMMANDS ON)\nset(DTENSOR_CUDA ON)\n"
        f"{before}\nadd_subdirectory({source} dtensor)\n")
    inherited = {k: v for k, v in os.environ.items() if k != "CUDAARCHS"}
    done = subprocess.run(["cmake", "-S", folder, "-B", folder / "build", "-G", "Ninja", f"-DCMAKE_CXX_COMPILER={cxx}", f"-DCMAKE_CUDA_COMPILER={nvcc}"],
                          capture_output=True, text=True, env={**inherited, **environment})
    if done.returncode != 0:
        sys.exit(f"{name} is not configured:\n{done.stdout}{done.stderr}")
    return folder / "build"


with concurrent.futures.ThreadPoolExecutor(2) as pool:
    trees = {
        "80-real;90": pool.submit(configured, "default"),
        "75-real;86-virtual": pool.submit(configured, "parent", before="set(CMAKE_CUDA_ARCHITECTURES 75-real 86-virtual)"),
        "100-real": pool.submit(configured, "environment", CUDAARCHS="100-real"),
    }
    found = {wanted: compiled(tree.result()) for wanted, tree in trees.items()}
cache = re.search(r"^CMAKE_CUDA_ARCHITECTURES:\w+=(.*)$", (build / "CMakeCache.txt").read_text(), re.M)
here = cache[1] if cache else os.environ.get("CUDAARCHS") or "80-real;90"
wrong = [f"{wanted}: {sorted(map(sorted, sets))}" for wanted, sets in [*found.items(), (here, compiled(build))] if sets != {frozenset(codes(wanted))}]
print("\n".join(wrong) or f"this build is for {here}; {len(found)} projects are compiled for what they ask")
sys.exit(1 if wrong else 0)
