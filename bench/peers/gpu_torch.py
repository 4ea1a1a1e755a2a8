#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rows of bench/gpu.cpp that PyTorch has, on the same device. gpu_torch.py [--device cuda:0|cpu] [--rows add,...] [--seconds 0.3] [--small] [--compile]"""
import argparse
import json
import time

import torch
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--device", default="cuda:0")
parser.add_argument("--rows", default="")
parser.add_argument("--seconds", type=float, default=0.3)
parser.add_argument("--small", action="store_true")
parser.add_argument("--compile", action="store_true", help="rows through torch.compile")
o = parser.parse_args()
device = torch.device(o.device)
torch.manual_seed(1)


def wait():
    if device.type == "cuda":
        torch.cuda.synchronize()


def stretch(calls, f):
    begin = time.perf_counter()
    for _ in range(calls):
        f()
    wait()
    return time.perf_counter() - begin


def row(name, bytes_, flops, f):
    if o.rows and name.split(" ")[0] not in o.rows.split(","):
        return
    if o.compile:
        f = torch.compile(f)
    f()
    wait()
    calls, took = 1, 0.0
    while took < o.seconds / 5 and calls < 1 << 22:
        took = stretch(calls, f)
        calls *= 2
    calls = max(1, calls // 2)
    least = min(stretch(calls, f) / calls for _ in range(5))
    print(json.dumps({"name": name, "us": round(least * 1e6, 3), "bytes": bytes_, "flops": flops}), flush=True)


def rand(*sizes, dtype=torch.float32):
    return torch.randn(*sizes, device=device).to(dtype)


def size(t):
    return t.numel() * t.element_size()


with torch.no_grad():
    x, y = rand(8, 8), rand(8, 8)
    row("dispatch add 8x8 f32", 0, 0, lambda: x + y)
    row("dispatch matmul 8x8 f32", 0, 0, lambda: x @ y)
    row("dispatch softmax 8x8 f32", 0, 0, lambda: torch.softmax(x, 1))
    n = 1 << 16 if o.small else 1 << 28
    a, b = rand(n), rand(n)
    row("copy clone f32", 2 * size(a), 0, lambda: a.clone())
    row("pointwise add f32", 3 * size(a), 0, lambda: a + b)
    row("pointwise gelu f32", 2 * size(a), 0, lambda: F.gelu(a))
    a16, b16 = a.bfloat16(), b.bfloat16()
    row("pointwise add bf16", 3 * size(a16), 0, lambda: a16 + b16)
    row("pointwise silu bf16", 2 * size(a16), 0, lambda: F.silu(a16))
    del a, b, a16, b16
    for dtype, name in ((torch.bfloat16, "bf16"), (torch.float32, "f32")):
        n = 64 if o.small else 512
        while n <= (128 if o.small else 8192):
            p, q = rand(n, n, dtype=dtype), rand(n, n, dtype=dtype)
            row(f"matmul {n} {name}", 3 * size(p), 2.0 * n**3, lambda: p @ q)
            n *= 2
    rows = 64 if o.small else 16384
    for width in (1024, 8192):
        m, w = rand(rows, width, dtype=torch.bfloat16), rand(width, dtype=torch.bfloat16)
        tail = f" {rows}x{width} bf16"
        row("softmax" + tail, 2 * size(m), 0, lambda: torch.softmax(m, 1))
        row("rms_norm" + tail, 2 * size(m), 0, lambda: F.rms_norm(m, (width,), w))
        row("layer_norm" + tail, 2 * size(m), 0, lambda: F.layer_norm(m, (width,), w, w))
        row("sum" + tail, size(m), 0, lambda: m.sum(1))
    tokens, classes = (32, 512) if o.small else (8192, 32768)
    logits, target = rand(tokens, classes, dtype=torch.bfloat16), torch.randint(0, classes, (tokens,), device=device)
    row(f"cross_entropy {tokens}x{classes} bf16", size(logits), 0, lambda: F.cross_entropy(logits, target))
    heads, batch = (2, 1) if o.small else (16, 4)
    for length in (512, 4096):
        if o.small and length > 512:
            continue
        qkv = rand(batch, heads, length, 128, dtype=torch.bfloat16)
        row(f"attention causal {length} bf16", 4 * size(qkv), 2.0 * batch * heads * length * length * 128,
            lambda: F.scaled_dot_product_attention(qkv, qkv, qkv, is_causal=True))
    length = 512 if o.small else 16384
    q, kv = rand(1, 2 * heads, 1, 128, dtype=torch.bfloat16), rand(1, heads // 2, length, 128, dtype=torch.bfloat16)
    row(f"attention decode {length} bf16", 2 * size(kv), 4.0 * 2 * heads * length * 128,
        lambda: F.scaled_dot_product_attention(q, kv, kv, enable_gqa=True))
    width, inner, layers = (64, 128, 2) if o.small else (768, 2048, 12)
    layer = [(width, width)] * 4 + [(inner, width)] * 2 + [(width, inner), (width,), (width,)]
    shapes = [(256 if o.small else 32000, width), (width,)] + layer * layers
    for dtype, name in ((torch.float32, "f32"), (torch.bfloat16, "bf16")):
        parameters = [torch.nn.Parameter(rand(*s, dtype=dtype)) for s in shapes]
        for each in parameters:
            each.grad = rand(*each.shape, dtype=dtype)
        bytes_ = sum(size(each) for each in parameters)
        fused = device.type == "cuda"
        adamw = torch.optim.AdamW(parameters, fused=fused)
        capturable = torch.optim.AdamW(parameters, fused=fused, capturable=fused)
        sgd = torch.optim.SGD(parameters, momentum=0.9, fused=fused)
        row(f"adamw 125M {name}", 7 * bytes_, 0, adamw.step)
        row(f"adamw capturable 125M {name}", 7 * bytes_, 0, capturable.step)
        row(f"sgd momentum 125M {name}", 5 * bytes_, 0, sgd.step)
        row(f"clip 125M {name}", 3 * bytes_, 0, lambda: torch.nn.utils.clip_grad_norm_(parameters, 1.0))
