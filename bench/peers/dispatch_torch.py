# SPDX-License-Identifier: Apache-2.0
"""The calls of bench/dispatch in PyTorch at 8 x 8 f32, in nanoseconds: plain tensors with gradients off and on, and DTensor on a mesh of one rank; run by
bench/compare_dispatch.py."""
import os
import tempfile
import time

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, Replicate, Shard, init_device_mesh


def nanoseconds(call, batches=15, calls=2000):
    for _ in range(200):
        call()
    times = []
    for _ in range(batches):
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        times.append((time.perf_counter_ns() - start) / calls)
    return sorted(times)[batches // 2]


OPS = {
    "add": lambda a, b: a + b,
    "mul by a scalar": lambda a, b: a * 1.5,
    "matmul": torch.matmul,
    "layer_norm": lambda a, b: torch.layer_norm(a, [8]),
    "slice": lambda a, b: a[:, 2:6],
    "softmax": lambda a, b: torch.softmax(a, 1),
}


def main():
    torch.set_num_threads(1)
    os.environ.update(RANK="0", WORLD_SIZE="1")
    dist.init_process_group("gloo", init_method="file://" + tempfile.mktemp(), rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
    a, b, leaf = torch.ones(8, 8), torch.ones(8, 8), torch.ones(8, 8, requires_grad=True)
    sharded = [DTensor.from_local(t, mesh, [Replicate()], run_check=False) for t in (a, b)]
    for name, op in OPS.items():
        with torch.no_grad():
            off, cached = nanoseconds(lambda: op(a, b)), nanoseconds(lambda: op(*sharded), calls=300)
        recording = nanoseconds(lambda: op(leaf, b))
        print(f"{name}: {off:.0f} {recording:.0f} {cached:.0f}", flush=True)
    with torch.no_grad():
        print(f"from_local: {nanoseconds(lambda: DTensor.from_local(a, mesh, [Shard(0)], run_check=False), calls=300):.0f}")
        print(f"to_local: {nanoseconds(lambda: sharded[0].to_local(), calls=300):.0f}")
    dist.destroy_process_group()


main()
