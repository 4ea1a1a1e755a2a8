#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What calls NCCL, and what a program includes to adopt its communicator, compile against nccl.h. compile_test.py SOURCE_DIR CXX"""
import os
import pathlib
import subprocess
import sys
import tempfile

root = pathlib.Path(sys.argv[1])
folders = [pathlib.Path(p) for p in (os.environ.get("NCCL_ROOT", "/usr") + "/include", "/usr/local/cuda/include", "/usr/local/include", "/usr/include")]
found = next((f for f in folders if (f / "nccl.h").exists()), None)
if found is None or not any((f / "cuda_runtime.h").exists() for f in (found, pathlib.Path("/usr/local/cuda/include"))):
    print("SKIPPED: there is no nccl.h on this machine")
    sys.exit(0)
command = [sys.argv[2], "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-DFMT_HEADER_ONLY=1", "-isystem", os.fspath(found),
           "-isystem", "/usr/local/cuda/include", *(f"-I{root / f}" for f in ("include", "src", "."))]
program = """
#include <dtensor/interop/nccl.h>
dtensor::World over(ncclComm_t comm) { return dtensor::adopt(comm, {.device = dtensor::Device::cuda(0), .time_limit_s = 60}); }
"""
failed = 0
with tempfile.TemporaryDirectory() as folder:
    user = pathlib.Path(folder, "user.cpp")
    user.write_text(program)
    for source in (root / "src/comm/nccl/api_nccl.cpp", user):
        done = subprocess.run([*command, os.fspath(source)], capture_output=True, text=True)
        if done.returncode != 0:
            failed += 1
            print(done.stdout + done.stderr)
print(f"{2 - failed} of 2 sources compile")
sys.exit(1 if failed else 0)
