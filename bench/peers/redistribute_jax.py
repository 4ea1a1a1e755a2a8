# SPDX-License-Identifier: Apache-2.0
"""Resharding in JAX on virtual CPU devices of one process, the faster of jit and device_put; run by bench/compare_redistribute.py."""
import argparse
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("--ranks", type=int, required=True)
ranks = parser.parse_args().ranks
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={ranks}"

import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

EVEN = [(16, 16), (512, 512), (4096, 4096)]


def microseconds(call, calls):
    for _ in range(max(3, calls // 10)):
        call().block_until_ready()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            call().block_until_ready()
        best = min(best, (time.perf_counter() - start) / calls)
    return best * 1e6


def measure(mesh, name, source, target):
    source, target = NamedSharding(mesh, PartitionSpec(*source)), NamedSharding(mesh, PartitionSpec(*target))
    move = jax.jit(lambda a: a, out_shardings=target)
    for shape in EVEN:
        x = jax.device_put(jax.random.normal(jax.random.PRNGKey(0), shape), source)
        calls = 300 if shape[0] <= 16 else 60 if shape[0] <= 512 else 3
        best = min(microseconds(lambda: move(x), calls), microseconds(lambda: jax.device_put(x, target), calls))
        print(f"{ranks} ranks  {name} {shape[0]}x{shape[1]} {best:.2f} us", flush=True)


line = Mesh(np.array(jax.devices()[:ranks]), ("x",))
measure(line, "S0->R", ("x",), ())
measure(line, "R->S0", (), ("x",))
measure(line, "S0->S1", ("x",), (None, "x"))
if ranks == 4:
    square = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("x", "y"))
    measure(square, "S0,S1->S1,S0", ("x", "y"), ("y", "x"))
