"""Unmodified mlx and mlx-lm wheels, with MLX's own BLAS and kernels: slow on Linux CPUs, so they get less work.

Like the other peers, it skips the vocabulary projection where no logits are needed.
"""

import json
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_unflatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import dequantize_model, load_model
from protocol import serve, timed

FOLDER = Path(sys.argv[1])
WORK = json.loads((FOLDER / "work.json").read_text())
PROMPTS, NEW_TOKENS = 2, 8


def load():
    module, _ = load_model(Path(WORK["mlx"]))
    module = dequantize_model(module)
    module.set_dtype(mx.float32)
    module.freeze()
    mx.eval(module.parameters())
    return module


def logits(module, hidden):
    """Projected to the vocabulary."""
    return module.lm_head(hidden) if "lm_head" in module else module.model.embed_tokens.as_linear(hidden)


def train(length):
    """One step, without a warm-up step."""
    module = load()
    rank = WORK["rank"]
    linear_to_lora_layers(module, len(module.layers), {"rank": rank, "scale": WORK["alpha"] / rank, "dropout": 0.0})
    lora_a = np.load(FOLDER / "lora_a.npz")
    module.update(tree_unflatten([(f"{name}.lora_a", mx.array(lora_a[name].T)) for name in lora_a.files]))
    optimizer = optim.Adam(WORK["lr"], bias_correction=True)
    rows = mx.array(WORK["training"][str(length)][: WORK["batch"]])

    def loss(rows):
        hidden = module.model(rows[:, :-1])[:, -WORK["completion"] :]
        return nn.losses.cross_entropy(logits(module, hidden), rows[:, -WORK["completion"] :], reduction="mean")

    def step():
        value, gradient = nn.value_and_grad(module, loss)(rows)
        optimizer.update(module, gradient)
        mx.eval(value, module.trainable_parameters(), optimizer.state)
        return value.item()

    seconds, value = timed(step)
    return {"seconds": seconds, "tokens": rows.size, "losses": [value]}


def prefill():
    module = load()
    prompts = WORK["prefilled"][:PROMPTS]

    def run():
        for tokens in prompts:
            hidden = module.model(mx.array([tokens]), make_prompt_cache(module))[:, -1]
            mx.eval(logits(module, hidden))

    seconds, _ = timed(run)
    return {"seconds": seconds, "tokens": sum(map(len, prompts))}


def decode(rows):
    module = load()
    prompt = mx.array([WORK["prompts"][0]] * rows)
    cache = make_prompt_cache(module)
    first_token = mx.argmax(module(prompt, cache=cache)[:, -1:], axis=-1)
    mx.eval(first_token)

    def generate():
        token = first_token
        for _ in range(NEW_TOKENS):
            token = mx.argmax(module(token, cache=cache)[:, -1:], axis=-1)
            mx.eval(token)

    seconds, _ = timed(generate)
    return {"seconds": seconds, "tokens": rows * NEW_TOKENS}


serve({"train": train, "prefill": prefill, "decode": decode})
