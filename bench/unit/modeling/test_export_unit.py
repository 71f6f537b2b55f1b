"""An exported adapter has the same effect on the model that it was exported for."""

import json

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from fixtures.config import Hyper
from fixtures.modeling import export, lora

HYPER = Hyper(rank=2, alpha=6)
TOKENS = mx.array([[5, 9, 2, 40, 17]])


def model(rope_traditional):
    """A two-layer llama with grouped-query attention; every call has the same weights, whichever RoPE it uses."""
    from mlx_lm.models import llama  # late: it imports transformers, which is half of the collection time

    mx.random.seed(0)
    arguments = llama.ModelArgs("llama", 32, 2, 48, 4, 1e-5, 64, num_key_value_heads=2)
    arguments.rope_traditional = rope_traditional
    return llama.Model(arguments)


@pytest.fixture
def saved(tmp_path):
    """A model with interleaved RoPE (over neighbours), and a saved adapter for it that changes its output."""
    module = model(rope_traditional=True)
    lora.attach(module, HYPER, seed=1)
    weights = lora.trainable_weights(module)
    module.update(lora.tree_unflatten([(n, mx.random.normal(w.shape) * 0.1) for n, w in weights.items()]))
    lora.save(module, HYPER, tmp_path)
    return module, tmp_path


def test_peft_weights_have_the_original_order_of_rows(saved, tmp_path):
    """PEFT's weight update, computed by hand, in a model with half-split RoPE (over the halves of each head)."""
    module, folder = saved
    export.to_peft(folder, tmp_path / "peft", module, "someone/original")
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    arrays = lora.read_arrays(tmp_path / "peft" / "adapter_model.safetensors")
    original = model(rope_traditional=False)
    for layer in original.model.layers:
        for projection, heads in ((layer.self_attn.q_proj, 4), (layer.self_attn.k_proj, 2)):
            projection.weight = export.halves(projection.weight, heads)
    for name, weight in tree_flatten(original.parameters()):
        layer = name.removesuffix(".weight")
        a, b = (arrays.get(f"base_model.model.{layer}.lora_{which}.weight") for which in "AB")
        if a is not None:
            assert a.shape == (config["r"], weight.shape[1])
            weight = weight + config["lora_alpha"] / config["r"] * (b @ a)
            original.update(lora.tree_unflatten([(name, weight)]))
    assert mx.allclose(original(TOKENS), module(TOKENS), atol=1e-4)
    assert set(config["target_modules"]) == {name.split(".")[-3] for name in arrays}


def test_mlx_lm_loads_the_exported_adapter(saved, tmp_path):
    from mlx_lm.tuner.utils import load_adapters

    module, folder = saved
    for _ in range(2):  # a second export replaces the first
        export.to_mlx_lm(folder, tmp_path / "mlx_lm")
    assert mx.allclose(load_adapters(model(rope_traditional=True), str(tmp_path / "mlx_lm"))(TOKENS), module(TOKENS))
