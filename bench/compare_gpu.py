#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/gpu beside PyTorch on the same device in the same run.

  bench/compare_gpu.py BUILD/bench/gpu [--python VENV/bin/python] [--rounds 3] [-- --device cuda:0 --rows matmul,softmax]

The sides alternate; each row keeps the least time of all rounds. What follows "--" is handed to every side. Bandwidth counts the bytes that the row has to read
and write, and is put beside what a copy of the same run reaches.
"""
import json
import subprocess
import sys

from sides import PEERS, arguments, parse_with_rest


def rows_of(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"left out: {' '.join(map(str, command))}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}", file=sys.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main():
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    o, rest = parse_with_rest(parser)
    sides = {"dtensor": [o.program, *rest], "torch": [o.python, PEERS / "gpu_torch.py", *rest]}
    if o.compile:
        sides["torch.compile"] = [*sides["torch"], "--compile"]
    best, facts = {}, {}
    for _ in range(o.rounds):
        for side, command in sides.items():
            for row in rows_of(command):
                facts[row["name"]] = row
                old = best.get((row["name"], side))
                best[row["name"], side] = row["us"] if old is None else min(old, row["us"])
    copy = facts.get("copy clone f32")
    copy_rate = copy["bytes"] / min(best[copy["name"], s] for s in sides if (copy["name"], s) in best) if copy else None
    print("| row | " + " | ".join(f"{s} us" for s in sides) + " | dtensor / best peer | GB/s | / copy | TFLOP/s |")
    print("|" + "---|" * (len(sides) + 5))
    for name, row in facts.items():
        mine = best.get((name, "dtensor"))
        peers = [best[name, s] for s in sides if s != "dtensor" and (name, s) in best]
        cells = [f"{best[name, s]:.2f}" if (name, s) in best else "" for s in sides]
        cells.append(f"{mine / min(peers):.2f}" if mine and peers else "")
        cells.append(f"{row['bytes'] / mine / 1e3:.0f}" if mine and row["bytes"] else "")
        cells.append(f"{row['bytes'] / mine / copy_rate:.2f}" if mine and row["bytes"] and copy_rate else "")
        cells.append(f"{row['flops'] / mine / 1e6:.1f}" if mine and row["flops"] else "")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
