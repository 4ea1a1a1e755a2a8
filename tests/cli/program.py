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
GOLDEN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden")
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
    out = works("--help", says=["plan", "measure", "shards", "ops", "ckpt", "cases", "verify", "info", "Examples:"])
    check("the program's help is no page long", len(out.splitlines()) < 30, out)
    for command in (["info"], ["plan"], ["measure"], ["shards"], ["ops"], ["ckpt"], ["cases"], ["verify"], ["ckpt", "list"], ["ckpt", "verify"], ["ckpt", "reshard"]):
        works(*command, "--help", says=["Example", "dtensor " + " ".join(command)])
    info = works("info", says=["backends    threads"])
    named = sorted(word for line in info.splitlines() if line.startswith(("backends", "not built")) for word in line[12:].split())
    check("info says of every backend whether it is built", named == ["cuda", "mpi", "nccl", "threads"], named)
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
    # Ranks 0 to 5 lack 9, 9, 12, 9, 18 and 12 elements of their parts.
    works("plan", "--mesh", "4", "--to-mesh", "dp=2,tp=3", "f32[12, 8]{0: S(0)}", "{dp: S(0), tp: S(1)}", says=["transfer 72 B", "276 B on all", "met"])
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


def large_plan(folder):
    """16,384 ranks in every form that a plan has."""
    words = ["plan", "--mesh", "dp=32,cp=64,tp=8", "f32[4096, 8192, 64, 128]{dp: S(0), cp: S(1), tp: P(sum)}", "{dp: S(1), cp: R, tp: S(2)}"]
    out = works(*words, says=["predicted", "lower bound"])
    described = json.loads(works(*words, "--json"))
    check("the keys of a plan are these", list(described) == ["moves", "bytes_received", "lower_bound", "predicted_us", "gap_us", "peak_bytes", "chunks", "planning_us"], described)
    for move in described["moves"]:
        check("the keys of a move are these", list(move) == ["kind", "axes", "bytes_received", "launches", "predicted_us"], move)
    for pair in ("bytes_received", "lower_bound"):
        check(f"{pair} is worst and sum", list(described[pair]) == ["max", "total"], described)
    met = described["bytes_received"] == described["lower_bound"]
    check("the text tells the gap to the bound", ("; met)" if met else "; gap ") in out, out)
    path = os.path.join(folder, "large.svg")
    works(*words, "--svg", path)
    svg(path)
    peak = described["peak_bytes"]
    works(*words, "--memory-limit", str(peak), says=["predicted"])
    code, _, err = dtensor(*words, "--memory-limit", "1KiB")
    least = int(err.rsplit("raise it to ", 1)[1]) if "raise it to " in err else 0
    check("a limit that is too small names the least", code == 1 and 0 < least <= peak, err)
    works(*words, "--memory-limit", str(least), says=["predicted"])
    check("one byte less than the least will not do", dtensor(*words, "--memory-limit", str(least - 1))[0] == 1)
    named = works("plan", "--mesh", "dp=2,tp=2", "f32[8, 8]{dp: S(0), tp: P(sum)}", "{dp: R, tp: S(1)}")
    numbered = works("plan", "--mesh", "2x2", "f32[8, 8]{0: S(0), 1: P(sum)}", "{0: R, 1: S(1)}")
    check("axes by name and by number give one plan", named.replace("dp", "0").replace("tp", "1") == numbered, named + numbered)
    works("plan", "--mesh", "2x2", "f32[8, 8]{S(0), P(sum)}", "{R, S(1)}", says=["predicted"])
    works("shards", "--mesh", "dp=2,tp=2", "f32[8, 8]{dp: S(0), tp: S(1)}")
    works("ops", "relu", "--mesh", "2x2", "--inputs", "f32[8, 8]{0: S(0)}")
    works("ops", "relu", "--mesh", "dp=2,tp=2", "--inputs", "f32[8, 8]{dp: S(0)}")


def topology(folder):
    words = ["plan", "--mesh", "dp=4,tp=8", "f32[16777216]{dp: P(sum), tp: P(sum)}", "{dp: R, tp: R}"]
    works(*words, says=["all_reduce[dp, tp]", "1 launch"])
    path = os.path.join(folder, "topology.json")

    def given(text, says):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text if isinstance(text, str) else json.dumps(text))
        refused(1, *words, "--topology", path, says=["topology: " + path, *says])

    slow = {"link": {"latency_us": 8, "bandwidth_gb_s": 400}, "hosts": {"ranks": 8, "count": 4, "link": {"latency_us": 20, "bandwidth_gb_s": 5}}}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(slow, file)
    works(*words, "--topology", path, says=["reduce_scatter[tp]", "all_reduce[dp]", "all_gather[tp]", "3 launches"])
    json.loads(works(*words, "--topology", path, "--json"))
    given("{", ["no JSON", "line 1, column 2"])
    given("", ["no JSON"])
    given({"links": 3}, ["links", "3", "copy_gb_s"])
    given({"axes": {"tp": {"bandwidth_gb_s": 0}}}, ["axes.tp.bandwidth_gb_s", "above 0 (0)"])
    given({"copy_gb_s": -4}, ["copy_gb_s", "(-4)"])
    given({"link": {"latency_us": "low"}}, ["link.latency_us", '"low"'])
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"hosts": {"ranks": 8, "count": 2}}, file)
    refused(1, *words, "--topology", path, says=["rank 31", "2 hosts of 8"])
    refused(2, *words, "--topology", os.path.join(folder, "nowhere.json"), says=["nowhere.json"])


def measure(folder):
    path = os.path.join(folder, "measured.json")
    code, out, err = dtensor("measure", "--ranks", "4", "--bytes", "64KiB", "--output", path)
    check("measure writes a file and says on stderr how it goes", code == 0 and out == "" and all(word in err for word in ("launch", "copies", "4 ranks", "shared")),
          f"{code} {out!r} {err!r}")
    with open(path, encoding="utf-8") as file:
        measured = json.load(file)
    check("figures are figures", measured["link"]["bandwidth_gb_s"] > 0 and measured["copy_gb_s"] > 0 and measured["launch_us"] >= 0, measured)
    works("plan", "--mesh", "3", "f32[300, 300]{0: S(0)}", "{0: S(1)}", "--topology", path, says=["all_to_all"])
    code, out, err = dtensor("measure", "--bytes", "4096")
    check("without a file the JSON goes to stdout", code == 0 and json.loads(out)["link"]["bandwidth_gb_s"] > 0, f"{code} {out!r} {err!r}")
    refused(2, "measure", "--ranks", "0", says=["--ranks"])
    refused(2, "measure", "--bytes", "some")
    refused(1, "measure", "--bytes", "12", says=["4096"])


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
    works("ops", "matmul", "f32[8, 4]{tp: S(0)}", "f32[4, 8]{tp: R}", says=["Mesh(tp=2)", "taken", "{tp: S(0)}, {tp: R} -> f32[8, 8]{tp: S(0)}"])
    out = works("ops", "relu", "--markdown", says=["## relu", "| inputs | results | bytes | gather |"])
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


def devices():
    works("verify", "--op", "sum", "--mesh", "2", "--sample", "2", "--device", "cpu", says=["0 wrong, 0 missing"])
    for command in (["verify", "--op", "sum"], ["cases", os.path.join(GOLDEN, "ops"), "--op", "softmax"]):
        refused(2, *command, "--device", "tpu", says=["--device takes cpu, cuda or cuda:N (got 'tpu'); for example --device cuda"])
        refused(1, *command, "--device", "cuda:99", says=["cuda:99"])


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
    large_plan(temporary)
    topology(temporary)
    measure(temporary)
    shards(temporary)
    ops()
    ckpt(temporary)
    devices()
print("\n".join(failures))
sys.exit(1 if failures else 0)
