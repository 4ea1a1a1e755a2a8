#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a call costs at 8 x 8 f32, beside PyTorch's plain tensors and its DTensor, in one run on this machine. Nanoseconds.

  bench/compare_dispatch.py BUILD/bench/dispatch [--python VENV/bin/python] [--rounds 3]

The sides alternate; each figure is the least of all rounds. The budgets: a cached call at most 250 ns (recording: 400) above the bare kernel and below
PyTorch's plain op; from_local and to_local 300; new sizes 3,000; the first call 20,000.
"""
import re
import subprocess
import sys

from sides import PEERS, arguments

COLD = re.compile(r"^cold code\s+(\S.*?)\s\s+([\d.]+)$")
ROW = re.compile(r"^(\d+ ranks, \d+ ax[ie]s)\s+(\S.*?)\s\s+([\d. -]+)$")


def output(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout.splitlines()


def keep(table, key, figures):
    old = table.get(key, figures)
    table[key] = [min(a, b) for a, b in zip(figures, old)]


def main():
    options = arguments(__doc__, rounds=3).parse_args()
    ours, cold, peer = {}, {}, {}
    for _ in range(options.rounds):
        lines = output([options.program])
        for match in filter(None, map(ROW.match, lines)):
            keep(ours, (match[1], match[2]), [float(word) for word in match[3].split()])
        for match in filter(None, map(COLD.match, lines)):
            keep(cold, match[1], [float(match[2])])
        for line in output([options.python, PEERS / "dispatch_torch.py"]):
            name, _, figures = line.partition(": ")
            keep(peer, name, [float(word) for word in figures.split()])
    print("| mesh | call | bare | cached | recording | new sizes | first | torch plain | torch recording | torch DTensor | cached / plain |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for (where, name), figures in ours.items():
        theirs = peer.get(name, [])
        if len(figures) == 1:
            figures = ["", *figures, "", "", ""]
            theirs = ["", "", *theirs]
        ratio = f"{figures[1] / theirs[0]:.2f}" if theirs and theirs[0] != "" else ""
        cells = [x if x == "" else f"{x:.0f}" for x in [*figures, *theirs]]
        print(f"| {where} | {name} | " + " | ".join(cells) + f" | {ratio} |")
    print("\nFirst calls of a process, before its code is mapped: " + ", ".join(f"{name} {x[0]:.0f}" for name, x in cold.items()))


if __name__ == "__main__":
    main()
