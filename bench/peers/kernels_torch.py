# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the rows of bench/kernels; run by bench/compare_kernels.py."""
import argparse
import time

import torch
import torch.nn.functional as F

TOKENS = 2048


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def microseconds(call, clock, seconds):
    call()
    best, total, calls = float("inf"), 0.0, 0
    while calls < 5 or total < seconds:
        start = clock()
        call()
        took = clock() - start
        best = min(best, took)
        total += max(took, 1e-6)
        calls += 1
    return best * 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    torch.set_num_threads(options.threads)
    torch.manual_seed(7)

    def row(name, call):
        if options.only in name:
            with torch.no_grad():
                print(f"{name:40} {microseconds(call, clock, options.seconds):12.1f} us", flush=True)

    def both(name, leaves, call):
        row(name, call)
        if options.only not in name + " + backward":
            return
        ones = torch.ones_like(call())

        def step():
            call().backward(ones)
            for leaf in leaves:
                leaf.grad = None

        print(f"{name + ' + backward':40} {microseconds(step, clock, options.seconds):12.1f} us", flush=True)

    def normal(*shape):
        return torch.randn(*shape, requires_grad=True)

    for width in (256, 1024, 4096):
        x, w = normal(TOKENS, width), normal(width, width)
        both(f"linear 2048x{width}", [x, w], lambda: F.linear(x, w))
        row(f"matmul 2048x{width}", lambda: x @ w)
    for width in (256, 1024, 4096):
        x, y, weight, bias = normal(TOKENS, width), normal(TOKENS, width), normal(width), normal(width)
        target = torch.randint(0, width, (TOKENS,))
        both(f"softmax 2048x{width}", [x], lambda: F.softmax(x, -1))
        both(f"layer_norm 2048x{width}", [x, weight, bias], lambda: F.layer_norm(x, (width,), weight, bias))
        both(f"rms_norm 2048x{width}", [x, weight], lambda: F.rms_norm(x, (width,), weight, 1e-5))
        both(f"gelu 2048x{width}", [x], lambda: F.gelu(x))
        both(f"swiglu 2048x{width}", [x, y], lambda: F.silu(x) * y)
        both(f"cross_entropy 2048x{width}", [x], lambda: F.cross_entropy(x, target))
        row(f"sum rows 2048x{width}", lambda: x.sum(1))
        row(f"sum columns 2048x{width}", lambda: x.sum(0))
        row(f"sum 2048x{width}", lambda: x.sum())
        row(f"transpose copy 2048x{width}", lambda: x.t().contiguous())
    for batch, heads, length, width in ((8, 8, 256, 32), (1, 16, 2048, 64)):
        q, k, v = (normal(batch, heads, length, width) for _ in range(3))
        both(f"attention {heads}x{length}x{width}", [q, k, v], lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
    for width in (256, 1024):
        table, tokens = normal(32000, width), torch.randint(0, 32000, (TOKENS,))
        both(f"embedding 2048x{width}", [table], lambda: F.embedding(tokens, table))
    for width in (256, 4096):
        param = normal(1024, width)
        param.grad = torch.randn(1024, width)
        optimizer = torch.optim.AdamW([param], fused=True)
        row(f"adamw 1024x{width}", optimizer.step)


if __name__ == "__main__":
    main()
