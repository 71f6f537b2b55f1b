"""Decoding layers compute the same as the layers that they replace."""

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from fixtures.config import Hyper
from fixtures.modeling import forward, lora
from fixtures.modeling.cpu import blas, blocks


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Pretend that the BLAS has kernels for small products; the product of blocks is correct on any CPU."""
    monkeypatch.setattr(blas, "has_small_kernels", lambda: True)
    mx.random.seed(0)


def close(a, b):
    return a.shape == b.shape and mx.allclose(a, b, 1e-4, 1e-5).item()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (5, 3), (20, 1), (26, 2), (27, 2), (90, 1), (9,)], ids=str)
def test_a_linear_layer_on_few_and_on_many_rows(shape, bias):
    layer = nn.Linear(576, 96, bias=bias)
    x = mx.random.normal((*shape, 576))
    assert close(blocks.for_decoding(layer)(x), layer(x))


def test_the_weight_is_cut_into_blocks_for_few_rows_only():
    layer = blocks.for_decoding(nn.Linear(576, 96))
    assert layer.blocks.most == 54
    layer(mx.zeros((55, 576)))
    assert layer.blocks.cut is None
    layer(mx.zeros((54, 576)))
    assert layer.blocks.cut.shape == (3, 576, 32)


def test_an_embedding_as_the_vocabulary_projection():
    layer = nn.Embedding(64, 48)
    replacement, x = blocks.for_decoding(layer), mx.random.normal((3, 2, 48))
    assert close(replacement.as_linear(x), layer.as_linear(x))
    assert close(replacement(mx.array([[3, 63]])), layer(mx.array([[3, 63]])))


def test_a_layer_that_cannot_be_cut_into_blocks_is_not_replaced():
    assert blocks.for_decoding(nn.Linear(48, 40)) is None
    assert blocks.for_decoding(nn.QuantizedLinear(64, 64)) is None
    assert blocks.for_decoding(nn.Embedding(50, 48)) is None


def test_an_adapter_is_not_rounded_away():
    """Past bug: a small adapter merged into half-precision weights changed only a third of them, and those wrongly."""
    from mlx_lm.tuner.lora import LoRALinear

    layer = LoRALinear.from_base(nn.Linear(64, 64, bias=False), r=2)
    layer.lora_b = mx.random.normal((2, 64)) * 1e-3
    x = mx.random.normal((3, 64))
    assert close(blocks.merged(layer)(x), layer(x))
    layer.set_dtype(mx.bfloat16)
    assert blocks.merged(layer) is None


def test_no_layer_is_replaced_if_the_blas_has_no_small_kernels(module, monkeypatch):
    monkeypatch.setattr(blas, "has_small_kernels", lambda: False)
    lora.merge(module)
    assert {type(layer) for _, layer in module.named_modules()}.isdisjoint(
        {blocks.DecodingLinear, blocks.DecodingEmbedding}
    )


def test_a_model_prepared_for_decoding_has_the_same_logits(module):
    """With and without an adapter; detaching restores the original layer objects."""
    tokens = mx.array([[5, 6, 7]])
    before, layers = dict(tree_flatten(module.parameters())), dict(module.named_modules())
    plain = forward.project(module, forward.hidden_states(module, tokens))
    lora.merge(module)
    assert sum(isinstance(layer, blocks.DecodingLinear) for _, layer in module.named_modules()) == 6  # 3 of 7 per block
    assert close(forward.project(module, forward.hidden_states(module, tokens)), plain)
    lora.detach(module)
    assert dict(module.named_modules()).items() == layers.items()
    assert all(value is before[name] for name, value in tree_flatten(module.parameters()))

    lora.attach(module, Hyper(rank=4))
    for _, layer in module.named_modules():
        if "lora_b" in layer:
            layer.lora_b = mx.random.normal(layer.lora_b.shape) * 0.1
    adapted = forward.project(module, forward.hidden_states(module, tokens))
    assert not close(adapted, plain)
    lora.merge(module)
    assert close(forward.project(module, forward.hidden_states(module, tokens)), adapted)
    lora.detach(module)
    assert close(forward.project(module, forward.hidden_states(module, tokens)), plain)
