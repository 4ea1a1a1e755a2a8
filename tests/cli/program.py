#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The dtensor program from outside: texts, files, exit codes, bad input. Usage: program.py <dtensor>."""
import json
import os
import struct
import subprocess
import sys
import tempfile
import xml.dom.minidom

PROGRAM = sys.argv[1]
failures = []


def dtensor(*words):
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def check(claim, holds, seen=""):
    if not holds:
        failures.append(f"{claim}\n    {seen}")


def works(*words, says=()):
    code, out, err = dtensor(*words)
    check(f"{' '.join(words)} exits 0 and complains of nothing", code == 0 and err == "", f"code {code}, stderr {err!r}")
    for text in says:
        check(f"{' '.join(words)} says {text!r}", text in out, out)
    return out


def refused(code, *words, says=()):
    """One line on stderr that starts with the program's name; nothing on stdout."""
    got, out, err = dtensor(*words)
    check(f"{' '.join(words)} exits {code}", got == code, f"code {got}, stderr {err!r}")
    check(f"{' '.join(words)} gives one line", err.startswith("dtensor: ") and err.count("\n") == 1 and out == "", f"{out!r} {err!r}")
    for text in says:
        check(f"{' '.join(words)} says {text!r}", text in err, err)


def svg(path):
    with open(path, encoding="utf-8") as file:
        document = xml.dom.minidom.parse(file)
    check(f"{path} is an SVG", document.documentElement.tagName == "svg")


def help_texts():
    out = works("--help", says=["plan", "shards", "ops", "ckpt", "info", "Examples:"])
    check("the program's help is no page long", len(out.splitlines()) < 30, out)
    for command in (["info"], ["plan"], ["shards"], ["ops"], ["ckpt"], ["ckpt", "list"], ["ckpt", "verify"], ["ckpt", "reshard"]):
        works(*command, "--help", says=["Example", "dtensor " + " ".join(command)])
    works("info", says=["backends    threads", "not built   mpi nccl cuda"])
    refused(2, says=["--help"])
    refused(2, "frobnicate")
    refused(2, "plan", says=["required"])
    refused(2, "ckpt")


def plan(folder):
    words = ["plan", "--mesh", "dp=2,tp=4", "f32[4096, 8192]{dp: S(0), tp: P(sum)}", "{dp: S(0), tp: S(1)}"]
    # A rank of tp holds summands of 2048 x 8192 elements and receives those of its 2048 x 2048 from 3 others: 48 MiB.
    works(*words, says=["reduce_scatter[tp] 48 MiB", "1 launch", "384 MiB on all"])
    described = json.loads(works(*words, "--json"))
    move = described["moves"][0]
    check("the JSON tells the same", move["kind"] == "reduce_scatter" and move["axes"] == ["tp"] and move["bytes_received"] == 3 * 2048 * 2048 * 4 and move["launches"] == 1,
          described)
    check("the worst and the sum", described["bytes_received"] == {"max": 48 << 20, "total": 384 << 20} == described["lower_bound"], described)
    check("times and memory are there", described["predicted_us"] > 0 and described["planning_us"] > 0 and described["peak_bytes"] == 80 << 20, described)
    works("plan", "--mesh", "4", "f32[8]{0: S(0)}", "{0: S(0)}", says=["nothing to do"])
    works("plan", "--mesh", "dp=32,cp=64,tp=8", "f32[4096, 8192, 64, 128]{dp: S(0), cp: S(1), tp: P(sum)}", "{dp: S(1), cp: R, tp: S(2)}", says=["predicted"])
    path = os.path.join(folder, "plan.svg")
    works(*words, "--svg", path)
    svg(path)
    refused(1, *words, "--memory-limit", "1KiB", says=["83886080"])
    refused(1, *words, "--svg", os.path.join(folder, "no", "such", "plan.svg"), says=["cannot write"])
    refused(1, "plan", "--mesh", "2", "f32[8]{0: S(1)}", "{0: R}", says=["dim 1"])
    refused(1, "plan", "--mesh", "2x2", "f32[8]{dp: S(0)}", "{0: R}", says=["dp"])
    refused(2, "plan", "--mesh", "2y", "f32[8]", "{0: R}", says=["'2y'", "dp=2,tp=4"])
    refused(2, "plan", "--mesh", "0", "f32[8]", "{0: R}", says=["at least 1"])
    refused(2, "plan", "--mesh", "2", "f33[8]", "{0: R}", says=["f33"])
    refused(2, "plan", "--mesh", "2", "f32[8]{0: X(0)}", "{0: R}", says=["column"])
    refused(2, "plan", "--mesh", "2", "f32[8]{0: R}", "{0: R}", "--frob", says=["--frob"])


def shards(folder):
    out = works("shards", "--mesh", "2x2", "f32[5, 7]{0: S(0), 1: S(1)}")
    cells = [line for line in out.splitlines() if "| " in line]
    check("5 rows are cut 3 and 2, 7 columns 4 and 3", "0-3   4-6" in out and len(cells) == 2 and "0-2 | 0   | 1" in out and "3-4 | 2   | 3" in out, out)
    path = os.path.join(folder, "shards.svg")
    works("shards", "--mesh", "2x2", "f32[5, 7]{0: S(0), 1: S(1)}", "--svg", path)
    svg(path)
    refused(1, "shards", "--mesh", "4", "f32[8]{0: Ragged(0, 1 2 3 4)}", says=["10", "8"])
    refused(2, "shards", "--mesh", "4", "f32[8", says=["column"])


def ops():
    out = works("ops", says=["matmul", "softmax", "relu"])
    check("more than a hundred ops are listed", len(out.splitlines()) > 100, out)
    works("ops", "matmul", says=["matmul(input, other -> out)", "gradient  yes", "rule"])
    out = works("ops", "matmul", "--mesh", "tp=4", "--inputs", "f32[64, 128]{tp: S(1)}", "f32[128, 32]{tp: S(0)}", says=["k: reduce(sum)"])
    taken = [line for line in out.splitlines() if line.startswith("taken")]
    check("a split inner dimension costs nothing and gives summands", len(taken) == 1 and "0.0 us" in taken[0] and "f32[64, 32]{tp: P(sum)}" in taken[0], out)
    works("ops", "softmax", "--mesh", "tp=2", "--inputs", "f32[8, 16]{tp: S(0)}", "--attr", "dim=1", says=["{tp: S(0)} -> f32[8, 16]{tp: S(0)}"])
    refused(2, "ops", "matmull", says=["matmul"])
    refused(2, "ops", "--mesh", "2")
    refused(1, "ops", "matmul", "--mesh", "tp=4", "--inputs", "f32[64, 128]", "f32[100, 32]", says=["matmul: ", "128", "100"])
    refused(1, "ops", "softmax", "--mesh", "tp=4", "--inputs", "f32[64, 128]", "--attr", "axis=1", says=["'axis'"])
    refused(1, "ops", "softmax", "--mesh", "tp=4", "--inputs", "f32[64, 128]", says=["'dim'"])
    refused(1, "ops", "relu", "--mesh", "tp=4", "--inputs", "f32[4]", "f32[4]", says=["2 inputs"])
    refused(1, "ops", "redistribute", "--mesh", "tp=4", "--inputs", "f32[4]", says=["its own plan"])
    refused(2, "ops", "relu", "--inputs", "f32[4]", says=["--mesh"])
    refused(2, "ops", "softmax", "--mesh", "2", "--inputs", "f32[4]", "--attr", "dim", says=["name=value"])


def safetensors(path, tensors):
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def ckpt(folder):
    path = os.path.join(folder, "model.safetensors")
    safetensors(path, {"first.weight": ([2, 3], [1, 2, 3, 4, 5, 6]), "second": ([4], [7, 8, 9, 10])})
    works("ckpt", "list", path, says=["first.weight", "f32[2, 3]", "2 tensors, 40 B"])
    works("ckpt", "verify", path, says=["ok: 2 tensors, 40 B in 1 file"])
    to = os.path.join(folder, "exported")
    works("ckpt", "reshard", path, to, "--max-bytes", "24", says=["ok: 2 tensors, 40 B in 2 files"])
    names = {line.split()[0] for line in works("ckpt", "list", to).splitlines()[:-1]}
    check("resharding keeps the names", names == {"first.weight", "second"}, names)
    with open(path, "rb") as file:
        whole = file.read()
    broken = os.path.join(folder, "broken.safetensors")
    for damage, data in (("cut short", whole[:-4]), ("a header longer than the file", struct.pack("<Q", 1 << 40) + whole[8:]), ("empty", b"")):
        with open(broken, "wb") as file:
            file.write(data)
        refused(1, "ckpt", "verify", broken, says=["broken.safetensors"])
        check(f"a file that is {damage} is not listed", dtensor("ckpt", "list", broken)[0] == 1)
    refused(1, "ckpt", "list", os.path.join(folder, "nothing"), says=["does not exist"])
    refused(2, "ckpt", "reshard", path, to, "--max-bytes", "many")


with tempfile.TemporaryDirectory() as temporary:
    help_texts()
    plan(temporary)
    shards(temporary)
    ops()
    ckpt(temporary)
print("\n".join(failures))
sys.exit(1 if failures else 0)
