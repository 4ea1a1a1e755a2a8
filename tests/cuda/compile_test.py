#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""All sources of src/local/cuda compile: .cu with nvcc for a device, .cpp against the CUDA runtime. compile_test.py SOURCE_DIR CXX"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

root = pathlib.Path(sys.argv[1])
nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
if nvcc is None:
    print("SKIPPED: there is no nvcc on this machine")
    sys.exit(0)
includes = [f"-I{root / folder}" for folder in ("include", "src", ".")]
device = [nvcc, "-std=c++20", "-arch=sm_90", "--expt-relaxed-constexpr", "-Werror", "all-warnings", *includes]
toolkit = pathlib.Path(nvcc).resolve().parent.parent / "include"
host = [sys.argv[2], "-std=c++20", "-Wall", "-Wextra", "-Werror", "-DFMT_HEADER_ONLY=1", "-isystem", os.fspath(toolkit), *includes]
sources = sorted(p for p in (root / "src/local/cuda").rglob("*") if p.suffix in (".cpp", ".cu"))
failed = []
with tempfile.TemporaryDirectory() as folder:
    for source in sources:
        command = [*(device if source.suffix == ".cu" else host), "-c", os.fspath(source), "-o", os.path.join(folder, source.name + ".o")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            failed.append(source.name)
            print(done.stdout + done.stderr)
print(f"{len(sources) - len(failed)} of {len(sources)} sources compile" + (f"; not: {', '.join(failed)}" if failed else ""))
sys.exit(1 if failed or not sources else 0)
