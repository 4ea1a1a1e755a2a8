#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `dtensor info` says in a build with CUDA on a machine without a device: what is built, which versions are found, why there is no device.
info_test.py PROGRAM CUDA_VERSION NCCL_VERSION OLD_DRIVER_FOLDER; NCCL_VERSION: of the header, empty in a build without NCCL
"""
import os
import re
import subprocess
import sys

program, cuda_version, nccl_version, old_driver = sys.argv[1:]
cuda_version = ".".join(cuda_version.split(".")[:2])
wrong = []


def info(**environment):
    done = subprocess.run([program, "info"], capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode != 0 or done.stderr:
        wrong.append(f"info ends with {done.returncode} and says: {done.stderr}")
    return dict(re.split(r"\s{2,}|(?<=^cuda:\d)\s+", line, maxsplit=1) for line in done.stdout.splitlines())


def expect(what, found, pattern):
    if found is None or not re.fullmatch(pattern, found):
        wrong.append(f"{what}: expected {pattern}, found {found}")


here = info()
if "cuda:0" in here:
    print("SKIPPED: there is a device")
    sys.exit(0)
expect("backends", here.get("backends"), "threads nccl cuda" if nccl_version else "threads cuda")
expect("not built", here.get("not built"), "mpi" if nccl_version else "mpi nccl")
expect("cuda", here.get("cuda"), re.escape(f"runtime {cuda_version}, ") + r"(no driver|driver for \d+\.\d+)")
reason = "there is no driver" if "no driver" in here.get("cuda", "") else "(?!there is no driver).+"
expect("devices", here.get("devices"), f"none: {reason}; tensors live on the CPU")
expect("cudnn", here.get("cudnn"), r"\d+\.\d+\.\d+|none: .+")

found = here.get("nccl")
if nccl_version:
    headers = f"headers {re.escape(nccl_version)}, "
    expect("nccl", found, headers + r"(found \d+\.\d+\.\d+ \(/.+\)|none: libnccl\.so\.2 cannot be loaded \(.+\); install NCCL .+)")
    library = re.search(r"found \S+ \((.+)\)$", found or "")
    if library and not os.path.exists(library[1]):
        wrong.append(f"nccl: there is no {library[1]}")
    absent = info(DTENSOR_NCCL_LIBRARY="/nowhere/libnccl.so.2").get("nccl")
    expect("nccl, absent", absent, headers + r"none: /nowhere/libnccl\.so\.2 cannot be loaded \(.+\); install NCCL 2\.20 or newer, or set DTENSOR_NCCL_LIBRARY")
elif found is not None:
    wrong.append(f"nccl: not built, and it says {found}")

old = info(LD_LIBRARY_PATH=old_driver + ":" + os.environ.get("LD_LIBRARY_PATH", ""))
expect("cuda, old driver", old.get("cuda"), re.escape(f"runtime {cuda_version}, driver for 11.4"))
expect("devices, old driver", old.get("devices"), re.escape(f"none: the driver is for CUDA 11.4, older than {cuda_version}: update it; tensors live on the CPU"))

print("\n".join(wrong) or "\n".join(f"{name}: {text}" for name, text in here.items()))
sys.exit(1 if wrong else 0)
