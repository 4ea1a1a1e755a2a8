#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What calls NCCL, and an application that gives its communicator to the library, compile against nccl.h. compile_test.py SOURCE_DIR CXX"""
import os
import pathlib
import subprocess
import sys

root = pathlib.Path(sys.argv[1])
folders = [pathlib.Path(p) for p in (os.environ.get("NCCL_ROOT", "/usr") + "/include", "/usr/local/cuda/include", "/usr/local/include", "/usr/include")]
found = next((f for f in folders if (f / "nccl.h").exists()), None)
if found is None or not any((f / "cuda_runtime.h").exists() for f in (found, pathlib.Path("/usr/local/cuda/include"))):
    print("SKIPPED: there is no nccl.h on this machine")
    sys.exit(0)
command = [sys.argv[2], "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-DFMT_HEADER_ONLY=1", "-isystem", os.fspath(found),
           "-isystem", "/usr/local/cuda/include", *(f"-I{root / f}" for f in ("include", "src", "."))]
failed = 0
sources = ("src/comm/nccl/api_nccl.cpp", "examples/14_inside_an_application.cpp")
for source in sources:
    done = subprocess.run([*command, os.fspath(root / source)], capture_output=True, text=True)
    if done.returncode != 0:
        failed += 1
        print(done.stdout + done.stderr)
print(f"{len(sources) - failed} of {len(sources)} sources compile")
sys.exit(1 if failed else 0)
