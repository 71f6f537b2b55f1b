"""Products in bf16: rounded factors, float32 sums, and gradients of the product rather than of the rounding."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from fixtures.config import Hyper
from fixtures.modeling import forward, loading, lora
from fixtures.modeling.cpu import bf16, blas, blocks
from fixtures.runs.inference import Adapter
from fixtures.training import trainer


def rounded(x):
    """To nearest, ties to even, by integer arithmetic on the bits: the upper half of a float32 is a bf16 number."""
    bits = np.asarray(x, dtype=np.float32).view(np.uint32)
    upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return upper.view(np.float32)


def normal(*shape):
    return mx.random.normal(shape)


def linear(inputs=64, outputs=32, *, bias=False):
    return bf16.Bf16Linear(nn.Linear(inputs, outputs, bias=bias), blocks.by_columns)


def loaded_as(module, precision):
    if precision == "bf16":
        bf16.use_bf16_products(module, blocks.by_columns)
    return module


def logits(module, tokens=((5, 6, 7, 9),)):
    return np.array(forward.project(module, forward.hidden_states(module, mx.array(tokens))))


@given(st.lists(st.floats(width=32, allow_nan=False, max_value=2.0**126, min_value=-(2.0**126)), min_size=1))
def test_rounding_is_to_the_nearest_bf16_number(values):
    assert np.array_equal(np.array(bf16.rounded(mx.array(values))), rounded(values))


def test_ties_are_rounded_to_even():
    ties = mx.array([1 + 1 / 256, 1 + 3 / 256, -1 - 1 / 256, 1 + 1 / 128])
    assert bf16.rounded(ties).tolist() == [1, 1 + 4 / 256, -1, 1 + 1 / 128]


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_multiplies_rounded_factors_in_float32(bias):
    layer = nn.Linear(64, 32, bias=bias)
    x = normal(2, 5, 64)
    expected = rounded(x).astype(np.float64) @ rounded(layer.weight).astype(np.float64).T
    expected = expected + np.array(layer.bias) if bias else expected
    found = np.array(bf16.Bf16Linear(layer, blocks.by_columns)(x))
    assert np.allclose(found, expected, atol=1e-5)
    assert not np.allclose(found, np.array(layer(x)), atol=1e-4)  # it would notice if nothing were rounded


def test_the_gradient_is_that_of_the_product():
    """dx = rounded(dy) @ W, not zero, which is the derivative of rounding; with numbers that a hand can check."""
    weight = mx.array([[1.0, 2.0], [3.0, -1.0]])
    dy = mx.array([[1 + 1 / 256, 0.5]])  # the first rounds to 1
    dx = mx.vjp(lambda x: bf16.product(x, weight), [mx.array([[0.25, 4.0]])], [dy])[1][0]
    assert dx.tolist() == [[1 * 1 + 0.5 * 3, 1 * 2 - 0.5 * 1]]


def test_an_adapter_on_it_is_trained_in_float32():
    """Its forward pass and gradients are those of a float32 LoRA beside a bf16 product."""
    from mlx_lm.tuner.lora import LoRALinear

    layer = LoRALinear.from_base(linear(), r=4, scale=2.0)
    a, b, x, dy = normal(64, 4), normal(4, 32), normal(3, 64), normal(3, 32)

    def output(a, b):
        layer.lora_a, layer.lora_b = a, b
        return layer(x)

    y, (da, db) = mx.vjp(output, [a, b], [dy])
    assert mx.allclose(y[0], bf16.product(x, layer.linear.weight) + 2 * (x @ a) @ b, 1e-5, 1e-5)
    assert mx.allclose(da, 2 * x.T @ (dy @ b.T), 1e-4, 1e-4)
    assert mx.allclose(db, 2 * (x @ a).T @ dy, 1e-4, 1e-4)


@pytest.mark.parametrize("small_kernels", [False, True])
def test_a_merged_adapter_keeps_changes_that_are_smaller_than_a_rounding_step(small_kernels, monkeypatch):
    """On average: each weight is off by up to half a step, but their sum has the change, as it was before rounding."""
    from mlx_lm.tuner.lora import LoRALinear

    monkeypatch.setattr(blas, "has_small_kernels", lambda: small_kernels)
    base = nn.Linear(4096, 32, bias=False)
    layer = LoRALinear.from_base(bf16.Bf16Linear(base, blocks.by_columns), r=1, scale=1.0)
    step = float(np.median(np.abs(np.array(base.weight)))) / 256  # of a typical weight
    layer.lora_a, layer.lora_b = mx.ones((4096, 1)), mx.full((1, 32), step / 8)
    x = mx.ones((1, 4096))
    gained = np.array(blocks.merged(layer)(x) - layer.linear(x)) / (4096 * step / 8)
    assert gained.mean() == pytest.approx(1, abs=0.15)
    lost = np.array(x @ bf16.rounded(layer.linear.weight + step / 8).T - layer.linear(x)) / (4096 * step / 8)
    assert lost.mean() < 0.6  # what merging into the rounded weight would keep


def test_a_model_with_an_adapter_decodes_as_it_was_trained(module):
    """Merged and rounded, it differs from the trained layers by about a rounding step, and detaching restores them."""
    loaded_as(module, "bf16")
    plain, layers = logits(module), dict(module.named_modules())
    lora.attach(module, Hyper())
    lora.set_trainable(module, 0.02 * mx.random.normal(lora.flatten(module.trainable_parameters()).shape))
    trained = logits(module)
    lora.merge(module)
    merged = logits(module)
    assert 0 < np.abs(merged - trained).max() < 0.1 * np.abs(trained - plain).max()
    lora.detach(module)
    assert all(layer is layers[name] for name, layer in module.named_modules())
    assert np.array_equal(logits(module), plain)


def test_every_product_with_a_weight_of_the_model_is_rounded(tiny_qwen):
    exact = loading.load(str(tiny_qwen)).module
    coarse = loading.load(str(tiny_qwen), precision="bf16").module
    kinds = {type(layer) for _, layer in coarse.named_modules() if isinstance(layer, nn.Linear | nn.Embedding)}
    assert kinds == {bf16.Bf16Linear, bf16.Bf16Embedding}
    error = np.abs(logits(coarse) - logits(exact)).max() / np.abs(logits(exact)).max()
    assert 1e-5 < error < 0.02
    names = [name for name, _ in tree_flatten(coarse.parameters())]
    assert names == [name for name, _ in tree_flatten(exact.parameters())]  # adapters fit both
    assert not tree_flatten(coarse.trainable_parameters())


def test_precision_is_part_of_what_an_arm_is():
    identities = [Adapter(None, {"model": "m"} | trainer.numerics(p)).key for p in ("float32", "bf16")]
    assert identities[0] != identities[1]


def test_a_models_layers_are_replaced_one_at_a_time():
    """Past bug: the old weights of all layers stayed alive until the last one was replaced."""
    size = 512
    module = nn.Sequential(*(nn.Linear(size, size, bias=False) for _ in range(12)))
    mx.eval(module.parameters())
    layer = 4 * size * size
    mx.clear_cache()
    before = mx.get_active_memory() - 12 * layer
    mx.reset_peak_memory()
    bf16.use_bf16_products(module, lambda weight: weight)
    added = 12 * layer * 3 / 2  # float32 weights, and bf16 rests
    assert mx.get_peak_memory() - before < added + 4 * layer
