#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Redistribution beside PyTorch DTensor (gloo, greedy and min-cost planner) and JAX, in one run on this machine.

  bench/compare_redistribute.py BUILD/bench/redistribute [--python VENV/bin/python] [--rounds 2]

The sides alternate; each row keeps the least time of all rounds. A peer that the interpreter lacks is left out, and the table says so.
"""
import re
import subprocess
import sys

from sides import PEERS, arguments

ROW = re.compile(r"^(\d+) ranks\s+(\S+)\s+(\d+x\d+)\s+([\d.]+) us(?:\s+bound\s+([\d.]+) us)?")


def read(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"left out: {' '.join(map(str, command))}\n{done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return {}, {}
    times, bounds = {}, {}
    for line in done.stdout.splitlines():
        if m := ROW.match(line):
            key = (int(m[1]), m[2], m[3])
            times[key] = float(m[4])
            if m[5]:
                bounds[key] = float(m[5])
    return times, bounds


def main():
    options = arguments(__doc__, rounds=2).parse_args()
    best, bounds = {}, {}
    for _ in range(options.rounds):
        for ranks in ("2", "4"):
            torch = [options.python, PEERS / "redistribute_torch.py", "--ranks", ranks]
            sides = {
                "dtensor": [options.program, "--ranks", ranks],
                "torch": torch,
                "torch min-cost": torch + ["--min-cost"],
                "jax": [options.python, PEERS / "redistribute_jax.py", "--ranks", ranks],
            }
            for side, command in sides.items():
                times, bound = read(command)
                for key, value in times.items():
                    best[side, key] = min(value, best.get((side, key), value))
                for key, value in bound.items():
                    bounds[key] = min(value, bounds.get(key, value))
    sides = ["dtensor", "torch", "torch min-cost", "jax"]
    print("| ranks | move | size | dtensor us | bound us | / bound | torch us | min-cost us | jax us | times faster |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for key in [k for s, k in best if s == "dtensor"]:
        values = [best.get((s, key)) for s in sides]
        peers = [v for v in values[1:] if v is not None]
        bound = bounds.get(key)
        cells = [str(key[0]), key[1], key[2], f"{values[0]:.2f}", f"{bound:.2f}" if bound else "0", f"{values[0] / bound:.2f}" if bound else ""]
        cells += ["" if v is None else f"{v:.1f}" for v in values[1:]]
        cells.append(f"{min(peers) / values[0]:.1f}" if peers else "")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
