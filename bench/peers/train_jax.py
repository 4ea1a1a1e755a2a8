# SPDX-License-Identifier: Apache-2.0
"""One training step of bench/train's Llama in JAX under jit: one device, or two virtual ones (data or tensor parallel); run by bench/compare_train.py."""
import argparse
import os
import time

parser = argparse.ArgumentParser()
parser.add_argument("mode", choices=["one", "tp", "dp"])
for name, value in {"threads": 0, "steps": 12, "hidden": 256, "layers": 4, "ffn": 768, "length": 256, "batch": 8}.items():
    parser.add_argument(f"--{name}", type=int, default=value)
options = parser.parse_args()
DEVICES = 1 if options.mode == "one" else 2
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

VOCABULARY, HEADS = 256, 8
HIDDEN, FFN, LENGTH = options.hidden, options.ffn, options.length
WIDTH = HIDDEN // HEADS
mesh = Mesh(np.array(jax.devices()[:DEVICES]), ("x",))


def placed(*axes):
    return NamedSharding(mesh, PartitionSpec(*axes))


column, row = (placed(None, "x"), placed("x", None)) if options.mode == "tp" else (placed(), placed())
random = np.random.default_rng(0)
SHAPES = {n: ((HIDDEN, HIDDEN), column) for n in ("q", "k", "v")} | {"o": ((HIDDEN, HIDDEN), row)}
SHAPES |= {"gate": ((HIDDEN, FFN), column), "up": ((HIDDEN, FFN), column), "down": ((FFN, HIDDEN), row)}
SHAPES |= {"norm1": ((HIDDEN,), placed()), "norm2": ((HIDDEN,), placed())}


def parameter(shape, sharding):
    value = np.ones(shape) if len(shape) == 1 else random.standard_normal(shape) * 0.02
    return jax.device_put(jnp.asarray(value, jnp.float32), sharding)


parameters = {
    "embed": parameter((VOCABULARY, HIDDEN), placed()),
    "head": parameter((HIDDEN, VOCABULARY), column),
    "norm": parameter((HIDDEN,), placed()),
    "blocks": [{n: parameter(*s) for n, s in SHAPES.items()} for _ in range(options.layers)],
}
angles = np.outer(np.arange(LENGTH), 10000 ** (-np.arange(0, WIDTH, 2) / WIDTH))
COS, SIN = jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)


def norm(x, weight):
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight


def rotate(x):
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate((a * COS - b * SIN, b * COS + a * SIN), -1)


def loss_of(p, tokens, targets):
    x = p["embed"][tokens]
    mask = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
    for b in p["blocks"]:
        h = norm(x, b["norm1"])
        q, k, v = ((h @ b[n]).reshape(*h.shape[:2], HEADS, WIDTH).transpose(0, 2, 1, 3) for n in "qkv")
        scores = jnp.where(mask, rotate(q) @ rotate(k).transpose(0, 1, 3, 2) / np.sqrt(WIDTH).astype(np.float32), -1e30)
        x = x + (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(x.shape) @ b["o"]
        h = norm(x, b["norm2"])
        x = x + (jax.nn.silu(h @ b["gate"]) * (h @ b["up"])) @ b["down"]
    logits = jax.nn.log_softmax(norm(x, p["norm"]) @ p["head"])
    return -jnp.take_along_axis(logits, targets[..., None], -1).mean()


def step(p, m, v, t, tokens, targets):
    loss, g = jax.value_and_grad(loss_of)(p, tokens, targets)
    m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
    v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
    p = jax.tree.map(lambda w, a, b: w * (1 - 3e-6) - 3e-4 * (a / (1 - 0.9**t)) / (jnp.sqrt(b / (1 - 0.999**t)) + 1e-8), p, m, v)
    return p, m, v, loss


m, v = jax.tree.map(jnp.zeros_like, parameters), jax.tree.map(jnp.zeros_like, parameters)
tokens = np.random.default_rng(1).integers(0, VOCABULARY, (options.batch, LENGTH + 1))
sharding = placed("x", None) if options.mode == "dp" else placed()
inputs, targets = jax.device_put(tokens[:, :-1], sharding), jax.device_put(tokens[:, 1:], sharding)
compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(parameters, m, v, 1.0, inputs, targets).compile()
times = []
for n in range(options.steps):
    start = time.perf_counter()
    parameters, m, v, loss = compiled(parameters, m, v, n + 1.0, inputs, targets)
    loss.block_until_ready()
    times.append((time.perf_counter() - start) * 1e3)
times.sort()
print(f"{options.mode:5} ranks {DEVICES}  min {times[0]:.1f} median {times[len(times) // 2]:.1f} ms  loss {float(loss):.4f}")
