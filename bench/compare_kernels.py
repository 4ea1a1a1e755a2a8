#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU kernels beside PyTorch with the same number of threads, in one run on this machine.

  bench/compare_kernels.py BUILD/bench/kernels [--python VENV/bin/python] [--threads 2] [--clock wall|cpu] [--rounds 2]
      [--seconds 0.2] [--only TEXT]

The sides alternate; each row keeps its fastest call of all rounds, each of `seconds` per row. A ratio below 1 means that dtensor is faster.
The clock "cpu" adds up what all threads used: with one thread it hardly minds what else the machine does.
"""
import re
import subprocess
import sys

from sides import PEERS, arguments

ROW = re.compile(r"^(\S.*?)\s+([\d.]+) us$")


def read(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return {m[1]: float(m[2]) for m in map(ROW.match, done.stdout.splitlines()) if m}


def main():
    parser = arguments(__doc__, rounds=2)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--seconds", default="0.2")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    chosen = ["--threads", options.threads, "--clock", options.clock, "--seconds", options.seconds, "--only", options.only]
    sides = {"dtensor": [options.program], "torch": [options.python, PEERS / "kernels_torch.py"]}
    best = {side: {} for side in sides}
    for _ in range(options.rounds):
        for side, command in sides.items():
            for name, value in read(command + chosen).items():
                best[side][name] = min(value, best[side].get(name, value))
    print("| kernel | dtensor us | torch us | ratio |")
    print("|---|---|---|---|")
    for name, ours in best["dtensor"].items():
        peer = best["torch"].get(name)
        print(f"| {name} | {ours:.1f} | " + (f"{peer:.1f} | {ours / peer:.2f} |" if peer else "| |"))


if __name__ == "__main__":
    main()
