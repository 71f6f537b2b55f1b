"""The workload of all peers: the same weights, tokens and initial adapter, written once into a folder.

model/          the model as Hugging Face's, in float32 (its RoPE is not interleaved)
lora_a.npz      the initial LoRA A of each linear layer (R, I); LoRA B starts at zero
work.json       training batches by length, prompts, hyper-parameters, the path of the GGUF
"""

import json
import sys
from pathlib import Path

from bench.support.rows import training_rows
from fixtures.modeling.cpu import blas
from fixtures.storage import assets

blas.preload_blas(assets.cache_root() / "blas")

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402

from fixtures.config import Hyper  # noqa: E402
from fixtures.modeling import loading, registry  # noqa: E402

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
LENGTHS = (160, 416)  # tokens per training row
BATCH, COMPLETION, STEPS = 4, 40, 4
ROWS, PREFILLED, NEW_TOKENS = 64, 20, 32


def main(folder, name):
    model = loading.load(name)
    rows = training_rows(model)
    stream = [token for row in rows for token in row.tokens + row.completion]
    hyper = Hyper()
    work = {
        "training": {str(n): [stream[i * n : (i + 1) * n] for i in range(BATCH * STEPS)] for n in LENGTHS},
        "batch": BATCH,
        "completion": COMPLETION,
        "prefilled": [list(row.tokens) for row in rows[:PREFILLED]],
        "prompts": sorted((list(row.tokens) for row in rows), key=len)[:ROWS],  # decoded: short, so that it takes less
        "new_tokens": NEW_TOKENS,
        "rank": hyper.rank,
        "alpha": hyper.alpha,
        "lr": 1e-4,
        "max_grad_norm": hyper.max_grad_norm,
        "model": name,
        "mlx": str(registry.locate(name)),
        "gguf": str(gguf_of(registry.MODELS[name])),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_model(model, registry.locate(name), folder / "model")
    write_lora(model, hyper.rank, folder / "lora_a.npz")
    (folder / "work.json").write_text(json.dumps(work))


def gguf_of(source):
    if isinstance(source, registry.SplitGguf):
        return assets.fetch_joined(source.asset)
    return assets.fetch(source.asset) / source.member


def write_model(model, mlx, folder):
    folder.mkdir(exist_ok=True)
    config = json.loads((mlx / "config.json").read_text())
    weights = dict(tree_flatten(model.module.parameters()))
    for name, value in weights.items() if config.get("rope_traditional") else ():
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if part in name:
                weights[name] = halves(value, config[heads])
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "pt"})
    plain = {k: v for k, v in config.items() if k not in ("quantization", "rope_traditional")}
    plain["architectures"] = [ARCHITECTURES[config["model_type"]]]
    (folder / "config.json").write_text(json.dumps(plain))


def halves(weight, heads):
    """Undo llama.cpp's interleaving: pairs (2i, 2i + 1) of a head become (i, i + half)."""
    rows, width = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def write_lora(model, rank, path):
    rng = np.random.default_rng(0)
    layers = [(name, layer) for name, layer in model.module.named_modules() if name.endswith("_proj")]
    scale = {name: 1 / layer.weight.shape[1] ** 0.5 for name, layer in layers}
    arrays = {
        name: rng.uniform(-scale[name], scale[name], (rank, layer.weight.shape[1])).astype(np.float32)
        for name, layer in layers
    }
    np.savez(path, **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
