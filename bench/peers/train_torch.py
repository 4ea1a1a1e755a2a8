# SPDX-License-Identifier: Apache-2.0
"""One training step of bench/train's Llama in PyTorch: one process, or two over gloo (DDP, FSDP, tensor parallel); run by bench/compare_train.py."""
import argparse
import os
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
import torch.nn.functional as F

class Attention(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.width = hidden // heads
        self.q, self.k, self.v, self.o = (nn.Linear(hidden, hidden, bias=False) for _ in range(4))

    def forward(self, x, cos, sin):
        def heads(y):
            return y.view(y.shape[0], y.shape[1], -1, self.width).transpose(1, 2)

        def rotate(y):
            a, b = y.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

        q, k, v = rotate(heads(self.q(x))), rotate(heads(self.k(x))), heads(self.v(x))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(out.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1))


class Mlp(nn.Module):
    def __init__(self, hidden, ffn):
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(hidden, ffn, bias=False), nn.Linear(hidden, ffn, bias=False), nn.Linear(ffn, hidden, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, hidden, ffn, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(hidden, 1e-5), nn.RMSNorm(hidden, 1e-5)
        self.attention, self.mlp = Attention(hidden, heads), Mlp(hidden, ffn)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class Llama(nn.Module):
    def __init__(self, options):
        super().__init__()
        self.embed = nn.Embedding(options.vocab, options.hidden)
        self.blocks = nn.ModuleList(Block(options.hidden, options.ffn, options.heads) for _ in range(options.layers))
        self.norm, self.head = nn.RMSNorm(options.hidden, 1e-5), nn.Linear(options.hidden, options.vocab, bias=False)
        width = options.hidden // options.heads
        angles = torch.outer(torch.arange(options.length).float(), 10000 ** (-torch.arange(0, width, 2).float() / width))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x))


def shard(model, mode):
    if mode == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    from torch.distributed.tensor import Replicate, init_device_mesh

    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("x",))
    if mode == "fsdp":
        from torch.distributed.fsdp import fully_shard

        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    elif mode == "tp":
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        plan = {f"attention.{n}": ColwiseParallel() for n in "qkv"} | {"attention.o": RowwiseParallel()}
        plan |= {"mlp.gate": ColwiseParallel(), "mlp.up": ColwiseParallel(), "mlp.down": RowwiseParallel()}
        for block in model.blocks:
            parallelize_module(block, mesh, plan)
        parallelize_module(model, mesh, {"head": ColwiseParallel(output_layouts=Replicate())})
    return model


class SavedBytes:
    """Bytes that autograd keeps for backward, each storage once, parameters left out."""

    def __init__(self, model):
        self.known = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.total = 0

    def pack(self, tensor):
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in self.known:
            self.known.add(pointer)
            self.total += tensor.untyped_storage().nbytes()
        return tensor


def train(rank, mode, options):
    ranks = 1 if mode == "one" else 2
    threads = options.threads or 2 // ranks
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if ranks > 1:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533"}
        dist.init_process_group("gloo", rank=rank, world_size=ranks)
    plain = Llama(options).to(options.device)
    if options.bf16:
        plain = plain.bfloat16()
    model = shard(plain, mode) if ranks > 1 else plain
    if options.compile:
        model = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, foreach=None if mode == "tp" else True)
    tokens = torch.randint(0, options.vocab, (options.batch, options.length + 1), generator=torch.Generator().manual_seed(1))
    if mode in ("ddp", "fsdp"):
        tokens = tokens.chunk(ranks)[rank]
    inputs, targets = (t.to(options.device) for t in (tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)))
    times = []
    for _ in range(options.steps):
        if ranks > 1:
            dist.barrier()
        start = time.perf_counter()
        loss = F.cross_entropy(model(inputs).reshape(-1, options.vocab), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if options.device != "cpu":
            torch.cuda.synchronize()
        if ranks > 1:
            dist.barrier()
        times.append((time.perf_counter() - start) * 1e3)
    text = ""
    if mode == "one":
        saved = SavedBytes(model)
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda t: t):
            F.cross_entropy(model(inputs).reshape(-1, options.vocab), targets)
        text = f"  saved for backward {saved.total / 1e6:.1f} MB"
    times.sort()
    if rank == 0:
        print(f"{mode:5} ranks {ranks} threads {threads}  min {times[0]:.1f} median {times[len(times) // 2]:.1f} ms{text}  loss {loss.item():.4f}", flush=True)
    if ranks > 1:
        dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("modes", nargs="*", default=["one", "ddp", "fsdp", "tp"])
    for name, value in {"threads": 0, "steps": 12, "hidden": 256, "layers": 4, "ffn": 768, "heads": 8, "vocab": 256, "length": 256, "batch": 8, "bf16": 0, "compile": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu", help="of mode one")
    options = parser.parse_args()
    for mode in options.modes:
        if mode == "one":
            train(0, mode, options)
        else:
            mp.spawn(train, args=(mode, options), nprocs=2)


if __name__ == "__main__":
    main()
