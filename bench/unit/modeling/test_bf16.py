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
from fixtures.modeling.cpu import bf16, native
from fixtures.modeling.cpu.tracing import value_and_grad
from fixtures.runs.inference import Adapter
from fixtures.storage import assets
from fixtures.training import trainer


def rounded(x):
    """To nearest, ties to even, by integer arithmetic on the bits: the upper half of a float32 is a bf16 number."""
    bits = np.asarray(x, dtype=np.float32).view(np.uint32)
    upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return upper.view(np.float32)


def normal(*shape):
    return mx.random.normal(shape)


@pytest.fixture(params=["software", "instructions"])
def way(request, monkeypatch):
    """Both ways to compute the same: with the CPU's bf16 instructions, where it has them, and in software."""
    if request.param == "software":
        monkeypatch.setattr(native, "load", lambda root: native.Native(reason="the test wants software"))
    elif reason := native.load(assets.cache_root() / "blas").reason:
        pytest.skip(reason)


def layer_of(base):
    return bf16.Bf16Linear(bf16.factor_of(base.weight), base.get("bias"), lambda: base.weight)


def loaded_as(module, precision):
    if precision == "bf16":
        exact = dict(tree_flatten(module.parameters()))
        bf16.use_bf16_products(module, exact.__getitem__)
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
@pytest.mark.parametrize("shape", [(2, 5, 64, 32), (1, 1, 1), (3, 7, 250), (70, 130, 9)], ids=str)
@pytest.mark.usefixtures("way")
def test_a_layer_multiplies_rounded_factors_in_float32(shape, bias):
    *rows, inputs, outputs = shape
    base, x = nn.Linear(inputs, outputs, bias=bias), normal(*rows, inputs)
    expected = rounded(x).astype(np.float64) @ rounded(base.weight).astype(np.float64).T
    expected = expected + np.array(base.bias) if bias else expected
    found = np.array(layer_of(base)(x))
    assert np.allclose(found, expected, atol=1e-5)
    unrounded = np.array(base(x), dtype=np.float64)  # it would notice if nothing were rounded
    assert expected.size < 10 or np.abs(unrounded - expected).max() > 10 * np.abs(found - expected).max()


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=1))
def test_both_ways_round_a_weight_alike(values):
    """Ties and all: the identity, as a float32 weight, gives the rounded x, and x = 1 the rounded weight."""
    if (extension := native.load(assets.cache_root() / "blas")).reason:
        pytest.skip(extension.reason)
    ties = [value * (1 + k / 256) for value in values for k in (0, 1, 3)]
    weight = mx.array(ties)[:, None]
    assert np.array_equal(np.array(bf16.Packed(weight, extension.module).weight), rounded(weight))
    assert np.array_equal(np.array(bf16.Packed(mx.eye(1), extension.module).forward(weight)), rounded(weight))


@pytest.mark.usefixtures("way")
def test_the_gradient_is_that_of_the_product():
    """dx = rounded(dy) @ W, not zero, which is the derivative of rounding; with numbers that a hand can check."""
    factor = bf16.factor_of(mx.array([[1.0, 2.0], [3.0, -1.0]]))
    dy = mx.array([[1 + 1 / 256, 0.5]])  # the first rounds to 1
    dx = mx.vjp(lambda x: bf16.product(factor, x), [mx.array([[0.25, 4.0]])], [dy])[1][0]
    assert dx.tolist() == [[1 * 1 + 0.5 * 3, 1 * 2 - 0.5 * 1]]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.usefixtures("way")
def test_an_adapter_on_it_is_trained_in_float32(bias):
    """Its forward pass and gradients are those of a float32 LoRA beside a bf16 product."""
    from mlx_lm.tuner.lora import LoRALinear

    layer = LoRALinear.from_base(layer_of(nn.Linear(64, 32, bias=bias)), r=4, scale=2.0)
    a, b, x, dy = normal(64, 4), normal(4, 32), normal(2, 3, 64), normal(2, 3, 32)

    def output(a, b, x):
        layer.lora_a, layer.lora_b = a, b
        return layer(x)

    y, (da, db, dx) = mx.vjp(output, [a, b, x], [dy])
    flat, d_flat, factor = x.reshape(6, 64), dy.reshape(6, 32), layer.linear.factor
    assert mx.allclose(y[0], layer.linear(x) + 2 * (x @ a) @ b, 1e-5, 1e-5)
    assert mx.allclose(da, 2 * flat.T @ (d_flat @ b.T), 1e-4, 1e-4)
    assert mx.allclose(db, 2 * (flat @ a).T @ d_flat, 1e-4, 1e-4)
    assert mx.allclose(dx, bf16.rounded(dy) @ factor.weight + 2 * (dy @ b.T) @ a.T, 1e-4, 1e-4)


@pytest.mark.usefixtures("way")
def test_a_merged_adapter_keeps_changes_that_are_smaller_than_a_rounding_step():
    """On average: each weight is off by up to half a step, but their sum has the change, as it was before rounding."""
    base = nn.Linear(4096, 32, bias=False)
    layer = layer_of(base)
    step = float(np.median(np.abs(np.array(base.weight)))) / 256  # of a typical weight
    a, b, x = mx.ones((4096, 1)), mx.full((1, 32), step / 8), mx.ones((1, 4096))
    gained = np.array(layer.merged(a, b)(x) - layer(x)) / (4096 * step / 8)
    assert gained.mean() == pytest.approx(1, abs=0.15)
    lost = np.array(x @ bf16.rounded(layer.weight + step / 8).T - layer(x)) / (4096 * step / 8)
    assert lost.mean() < 0.6  # what merging into the rounded weight would keep


@pytest.mark.usefixtures("way")
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


@pytest.mark.usefixtures("way")
def test_every_product_with_a_weight_of_the_model_is_rounded(tiny_qwen):
    exact = loading.load(str(tiny_qwen)).module
    coarse = loading.load(str(tiny_qwen), precision="bf16").module
    kinds = {type(layer) for _, layer in coarse.named_modules() if isinstance(layer, nn.Linear | nn.Embedding)}
    assert kinds == {bf16.Bf16Linear, bf16.Bf16Embedding}
    error = np.abs(logits(coarse) - logits(exact)).max() / np.abs(logits(exact)).max()
    assert 1e-5 < error < 0.02
    assert not tree_flatten(coarse.trainable_parameters())
    for module in (exact, coarse):
        lora.attach(module, Hyper())
    shapes = [{name: w.shape for name, w in lora.trainable_weights(module).items()} for module in (exact, coarse)]
    assert shapes[0] == shapes[1]  # adapters fit both


def test_both_ways_train_alike(tiny_qwen, monkeypatch):
    """A LoRA gradient in software, with the CPU's instructions, and in float32.

    The first two sum otherwise, and their kernels for rows differ by 3e-6, so that some activations are rounded to the
    other neighbour.
    """
    if reason := native.load(assets.cache_root() / "blas").reason:
        pytest.skip(reason)

    def gradient(precision):
        module = loading.load(str(tiny_qwen), precision=precision).module
        lora.attach(module, Hyper())
        mx.random.seed(1)
        lora.set_trainable(module, 0.02 * mx.random.normal(lora.flatten(module.trainable_parameters()).shape))
        tokens = mx.array([[5, 6, 7, 9, 30, 31], [8, 8, 9, 4, 2, 1]])

        def loss(module):
            scores = forward.project(module, forward.hidden_states(module, tokens))
            return nn.losses.cross_entropy(scores[:, :-1], tokens[:, 1:], reduction="mean")

        return np.array(lora.flatten(value_and_grad(module, loss)(module)[1]))

    instructions, exact = gradient("bf16"), gradient("float32")
    monkeypatch.setattr(native, "load", lambda root: native.Native(reason="the test wants software"))
    software = gradient("bf16")
    off = [np.linalg.norm(other - instructions) / np.linalg.norm(instructions) for other in (software, exact)]
    assert off[0] < 0.5 * off[1]
    assert 1e-4 < off[1] < 0.03  # what bf16 rounding explains


def test_precision_is_part_of_what_an_arm_is():
    identities = [Adapter(None, {"model": "m"} | trainer.numerics(p)).key for p in ("float32", "bf16")]
    assert identities[0] != identities[1]


@pytest.mark.usefixtures("way")
def test_a_models_layers_are_replaced_one_at_a_time():
    """Past bug: the old weights of all layers stayed alive until the last one was replaced."""
    size, layers = 512, 12
    module = nn.Sequential(*(nn.Linear(size, size, bias=False) for _ in range(layers)))
    mx.eval(module.parameters())
    layer = 4 * size * size  # bytes
    mx.clear_cache()
    before = mx.get_active_memory() - layers * layer
    mx.reset_peak_memory()
    bf16.use_bf16_products(module, lambda name: mx.zeros((size, size)))
    assert mx.get_peak_memory() - before < (layers + 4) * layer


def test_weights_are_read_again_for_each_adapter(tiny_qwen):
    """As they were before they were rounded, whatever the adapters before; none of them stays in memory."""
    module = loading.load(str(tiny_qwen), precision="bf16").module
    layers = [layer for _, layer in module.named_modules() if isinstance(layer, bf16.Bf16Linear)]
    exact = loading.load(str(tiny_qwen)).module
    expected = [layer.weight for _, layer in exact.named_modules() if type(layer) is nn.Linear]
    assert len(layers) == len(expected)
    for _ in range(2):
        assert all(mx.array_equal(layer.exact(), weight) for layer, weight in zip(layers, expected, strict=True))
