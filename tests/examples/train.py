#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""train_llama from outside: it learns, every mesh resumes what another saved, signals save, mistakes are named.

Usage: train.py <train_llama> <text file>.
"""
import os
import re
import signal
import subprocess
import sys
import tempfile
import xml.dom.minidom

PROGRAM, TEXT = sys.argv[1:3]
SMALL = ["--layers", "2", "--hidden", "48", "--heads", "4", "--kv-heads", "2", "--ffn", "80", "--seq", "32", "--batch", "6", "--warmup", "5", "--lr", "0.01"]
failures = []


def check(claim, holds, seen=""):
    if not holds:
        failures.append(f"{claim}\n    {seen}")


def train(*words, code=0):
    done = subprocess.run([PROGRAM, "--data", TEXT, *words], capture_output=True, text=True, timeout=120)
    check(f"{' '.join(words)} exits {code}", done.returncode == code, f"code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def loss(output):
    found = re.findall(r"^validation loss (\d+\.\d{6})$", output, re.M)
    check("the validation loss is printed once, with six decimals", len(found) == 1, output)
    return float(found[0]) if found else float("nan")


def meshes(folder):
    saved = os.path.join(folder, "saved")
    output = train("--ranks", "4", "--mesh", "dp=2,tp=2", *SMALL, "--steps", "30", "--save", saved, "--save-every", "20")
    before = loss(output)
    check("30 steps bring the loss from about 5.5 to below 4", before < 4, output)
    with open(saved + ".svg", encoding="utf-8") as file:
        check("the loss curve is an SVG", xml.dom.minidom.parse(file).documentElement.tagName == "svg")
    for ranks, mesh in (("1", "dp=1"), ("2", "tp=2"), ("3", "dp=3"), ("4", "1x4")):
        after = loss(train("--ranks", ranks, "--mesh", mesh, "--resume", saved, "--eval-only"))
        check(f"{mesh} has the loss of dp=2,tp=2", abs(before - after) < 2e-5, f"{before} and {after}")
    one = train("--ranks", "1", "--resume", saved, "--eval-only", "--sample", "30", "--temperature", "0")
    two = train("--ranks", "2", "--mesh", "tp=2", "--resume", saved, "--eval-only", "--sample", "30", "--temperature", "0")
    check("the sample is the same on 1 and 2 ranks", one.split("--- sample ---")[-1] == two.split("--- sample ---")[-1], one + two)
    more = train("--ranks", "2", "--mesh", "dp=1,tp=2", "--sequence-parallel", "--resume", saved, "--steps", "32")
    check("a resumed run goes on where it was", "resumed at step 30" in more and "trained to step 32" in more, more)
    halves = train("--ranks", "2", "--mesh", "dp=2", "--precision", "bf16", *SMALL, "--steps", "30")
    check("bf16 learns too", loss(halves) < 4.2, halves)


def same_curve():
    """Batches, first weights and sums do not depend on the mesh: neither do the losses."""
    curves = []
    for ranks, mesh in (("1", "dp=1"), ("4", "dp=4"), ("3", "tp=3")):
        output = train("--ranks", ranks, "--mesh", mesh, *SMALL, "--steps", "8")
        curves.append([float(x) for x in re.findall(r" loss (\d+\.\d{4})", output)] + [loss(output)])
    for curve in curves[1:]:
        check("every mesh has the same losses", len(curve) > 5 and all(abs(a - b) < 2e-3 for a, b in zip(curves[0], curve)) and len(curve) == len(curves[0]), curves)


def stop(folder):
    for number in (signal.SIGTERM, signal.SIGINT):
        saved = os.path.join(folder, f"stopped{int(number)}")
        with subprocess.Popen([PROGRAM, "--data", TEXT, "--ranks", "2", "--mesh", "dp=2", *SMALL, "--steps", "100000", "--save", saved], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) as run:
            while run.stdout.readline().startswith("step ") is False and run.poll() is None:
                pass
            run.send_signal(number)
            output = run.stdout.read()
            check("a signal ends the run with 0", run.wait(60) == 0 and "stopped after step" in output and "saved " in output, output)
        check("what it saved can be resumed", "resumed at step" in train("--ranks", "1", "--resume", saved, "--eval-only"))


def mistakes(folder):
    help_text = train("--help")
    check("the help has examples", "Examples:" in help_text and help_text.count("train_llama") > 2, help_text)
    for words, says in ((["--mesh", "dp=x"], "'dp=x'"), (["--frob"], "--frob"), (["--hidden", "30", "--heads", "4"], "multiple"), (["--eval-only"], "--resume"),
                        (["--precision", "f8"], "f8")):
        output = train(*words, code=2)
        check(f"{words} is named in one line", says in output and output.count("\n") == 1 and output.startswith("train_llama: "), output)
    for words, says in ((["--ranks", "2", "--mesh", "dp=3"], "3"), (["--resume", os.path.join(folder, "nothing")], "nothing"),
                        (["--seq", "100000"], "too few")):
        output = train(*words, code=1)
        check(f"{words} is named", says in output and "terminate" not in output, output)


with tempfile.TemporaryDirectory() as temporary:
    meshes(temporary)
    same_curve()
    stop(temporary)
    mistakes(temporary)
print("\n".join(failures))
sys.exit(1 if failures else 0)
