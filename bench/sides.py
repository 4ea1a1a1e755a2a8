# SPDX-License-Identifier: Apache-2.0
"""What the programs that compare sides have in common."""
import argparse
import pathlib
import sys

PEERS = pathlib.Path(__file__).resolve().parent / "peers"


def arguments(text, rounds):
    """A parser of PROGRAM [--python ...] [--rounds ...]."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=rounds)
    return parser


def parse_with_rest(parser):
    """The options before "--", and the words behind it, which go to every side."""
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    return parser.parse_args(words[:end]), words[end + 1:]
