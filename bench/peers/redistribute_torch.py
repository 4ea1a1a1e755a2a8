# SPDX-License-Identifier: Apache-2.0
"""Redistribution of PyTorch DTensor over gloo, one process per rank; run by bench/compare_redistribute.py."""
import argparse
import os
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor, init_device_mesh

S0, S1, R, P = Shard(0), Shard(1), Replicate(), Partial()
EVEN = [(16, 16), (512, 512), (4096, 4096)]
LINE = [("S0->R", [S0], [R], EVEN), ("R->S0", [R], [S0], EVEN), ("S0->S1", [S0], [S1], EVEN + [(4097, 4095)]), ("P->R", [P], [R], EVEN), ("P->S0", [P], [S0], EVEN)]
SQUARE = [("S0,S1->S1,S0", [S0, S1], [S1, S0], EVEN)]


def microseconds(call, calls):
    for _ in range(max(2, calls // 10)):
        call()
    best = float("inf")
    for _ in range(5):
        dist.barrier()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        best = min(best, (time.perf_counter() - start) / calls)
    worst = torch.tensor(best)
    dist.all_reduce(worst, op=dist.ReduceOp.MAX)
    return worst.item() * 1e6


def rank_main(rank, ranks, min_cost):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks)
    if min_cost:
        from torch.distributed.tensor._redistribute import use_min_cost_redistribution_plan

        use_min_cost_redistribution_plan(True).__enter__()
    grids = [((ranks,), LINE)] + ([((2, 2), SQUARE)] if ranks == 4 else [])
    with torch.no_grad():
        for grid, rows in grids:
            mesh = init_device_mesh("cpu", grid)
            for name, source, target, shapes in rows:
                for shape in shapes:
                    x = torch.randn(shape)
                    partial = source[0].is_partial()
                    t = DTensor.from_local(x, mesh, source, run_check=False) if partial else distribute_tensor(x, mesh, source)
                    calls = 100 if shape[0] <= 16 else 30 if shape[0] <= 512 else 3
                    value = microseconds(lambda: t.redistribute(mesh, target).to_local(), calls)
                    if rank == 0:
                        print(f"{ranks} ranks  {name} {shape[0]}x{shape[1]} {value:.2f} us", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--min-cost", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29571")
    mp.spawn(rank_main, args=(options.ranks, options.min_cost), nprocs=options.ranks)
