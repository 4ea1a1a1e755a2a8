#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A training step of a small Llama beside PyTorch (one process, DDP, FSDP, tensor parallel over gloo) and JAX, in one run on this machine.

  bench/compare_train.py BUILD/bench/train [--python VENV/bin/python] [--rounds 2] [-- --hidden 64 --layers 2 ...]

The sides alternate; each row keeps the least time of all rounds. What follows "--" is handed to every side.
"""
import re
import subprocess
import sys

from sides import PEERS, arguments, parse_with_rest

ROW = re.compile(r"^(\w+) .*min ([\d.]+) median ([\d.]+) ms(.*)$")


def main():
    parser = arguments(__doc__, rounds=2)
    parser.add_argument("--modes", default="one,tp,fsdp", help="of dtensor; with 'one' alone the peers are PyTorch in one process, also compiled")
    options, sizes = parse_with_rest(parser)
    modes = options.modes.split(",")
    sides = [("dtensor", mode, [options.program, mode]) for mode in modes]
    if modes == ["one"]:
        torch = [options.python, PEERS / "train_torch.py", "one"]
        sides += [("torch", "one", torch), ("torch.compile", "one", [*torch, "--compile", "1"])]
    else:
        sides += [("torch", mode, [options.python, PEERS / "train_torch.py", mode]) for mode in ("one", "ddp", "fsdp", "tp")]
        sides += [("jax", mode, [options.python, PEERS / "train_jax.py", mode]) for mode in ("one", "dp", "tp")]
    best = {}
    for _ in range(options.rounds):
        for side, mode, command in sides:
            done = subprocess.run([*command, *sizes], capture_output=True, text=True)
            rows = [m for m in map(ROW.match, done.stdout.splitlines()) if m]
            if not rows:
                print(f"left out: {side} {mode}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            for m in rows:
                old = best.get((side, mode))
                if old is None or float(m[2]) < old[0]:
                    best[side, mode] = (float(m[2]), float(m[3]), m[4].strip())
    peers = [value[0] for (side, _), value in best.items() if side != "dtensor"]
    print("| side | mode | least ms | median ms | / best peer | |")
    print("|---|---|---|---|---|---|")
    for (side, mode), (least, median, note) in best.items():
        ratio = f"{least / min(peers):.2f}" if peers else ""
        print(f"| {side} | {mode} | {least:.1f} | {median:.1f} | {ratio} | {note} |")


if __name__ == "__main__":
    main()
