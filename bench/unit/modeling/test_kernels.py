"""The fast CPU kernels agree with MLX's own, forward and backward."""

import io
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import pytest

from fixtures.modeling.cpu import kernels, native, rows, tracing
from fixtures.modeling.kv_cache import Window
from fixtures.storage import assets


def close(a, b, tolerance=1e-5):
    return mx.abs(a - b).max().item() <= tolerance * (mx.abs(b).max().item() + 1)


@pytest.fixture(autouse=True, params=["compiled", "extension"])
def functions(request, monkeypatch):
    """The functions of rows: as MLX compiles them, or those of the extension."""
    mx.random.seed(0)
    found = native.load(assets.cache_root() / "blas")
    if request.param == "extension" and found.reason:
        pytest.skip(found.reason)
    monkeypatch.setattr(rows, "functions", found.module if request.param == "extension" else None)
    return request.param


def test_exp_is_accurate_to_float32_rounding():
    x = mx.random.uniform(-80, 80, (1000, 7))
    assert mx.abs(kernels.fast_exp(x) / mx.exp(x) - 1).max().item() < 2e-5
    small = mx.random.uniform(-5, 5, (1000,))
    assert mx.abs(kernels.fast_exp(small) / mx.exp(small) - 1).max().item() < 4e-6


def test_exp_of_a_masked_score_is_almost_zero():
    assert kernels.fast_exp(mx.array([kernels.MASKED, -200.0])).max().item() < 1e-37


@pytest.mark.parametrize("shape", [(3, 5, 16), (7,), (130, 1031)])
def test_swiglu_and_its_gradients(shape):
    gate, x, weight = (mx.random.normal(shape) * 3 for _ in range(3))
    fast = mx.value_and_grad(lambda g, x: (kernels.swiglu(g, x) * weight).sum(), argnums=(0, 1))(gate, x)
    stock = mx.value_and_grad(lambda g, x: (nn.silu(g) * x * weight).sum(), argnums=(0, 1))(gate, x)
    assert close(fast[0], stock[0])
    assert all(map(close, fast[1], stock[1]))


@pytest.mark.parametrize("gate", [-1e4, -267.0, -200.0, -178.0, -100.0, -90.0, -89.1, -87.5, 87.5, 89.1, 100.0, 1e4])
def test_swiglu_at_the_ends_of_float32(gate):
    """Past bug: e^90 was about -1e-38, so that a gate of -90 let everything through, and its gradient."""
    arguments = mx.array([gate]), mx.array([2.0])
    fast = mx.value_and_grad(lambda g, x: kernels.swiglu(g, x).sum(), argnums=(0, 1))(*arguments)
    stock = mx.value_and_grad(lambda g, x: (nn.silu(g) * x).sum(), argnums=(0, 1))(*arguments)
    assert close(fast[0], stock[0])
    assert all(map(close, fast[1], stock[1]))


@pytest.mark.parametrize("shape", [(2, 5, 16), (3, 7), (1, 1, 1), (2, 70, 1031)])
def test_norm_and_its_gradient(shape):
    layer, x, weight = nn.RMSNorm(shape[-1], eps=1e-5), mx.random.normal(shape) * 3, mx.random.normal(shape)
    layer.weight = mx.random.normal(layer.weight.shape)
    layer.freeze()

    def value(norm):
        return lambda x: (norm(x) * weight).sum()

    fast = mx.value_and_grad(value(lambda x: rows.rms_norm(layer, x)))(x)
    stock = mx.value_and_grad(value(lambda x: mx.fast.rms_norm(x, layer.weight, 1e-5)))(x)
    assert close(fast[0], stock[0])
    assert close(fast[1], stock[1])


@pytest.mark.parametrize(
    ("shape", "dims", "offset"),
    [((2, 3, 5, 64), 64, 0), ((1, 2, 70, 80), 32, 7), ((3, 2, 1, 64), 64, [0, 900, 33]), ((2, 2, 9, 6), 2, [-4, 0])],
)
def test_rotations_and_their_gradient(shape, dims, offset):
    """Also of a part of the columns, one token of each row, and of padding before a row's first token."""
    layer, x, weight = nn.RoPE(dims, base=1e6, scale=0.5), mx.random.normal(shape), mx.random.normal(shape)
    offset = mx.array(offset) if isinstance(offset, list) else offset
    fast = mx.value_and_grad(lambda x: (rows.rope(layer, x, offset) * weight).sum())(x)
    stock = mx.value_and_grad(
        lambda x: (mx.fast.rope(x, dims, traditional=False, base=1e6, scale=0.5, offset=offset) * weight).sum()
    )(x)
    assert close(
        rows.rope(layer, x, offset), mx.fast.rope(x, dims, traditional=False, base=1e6, scale=0.5, offset=offset), 1e-4
    )
    assert close(fast[0], stock[0], 1e-4)
    assert close(fast[1], stock[1], 1e-4)


def test_a_norm_that_is_trained_has_the_gradient_of_its_weight():
    layer, x = nn.RMSNorm(6), mx.random.normal((3, 6))
    _, gradient = tracing.value_and_grad(layer, lambda x: (rows.rms_norm(layer, x) * x).sum())(x)
    assert mx.abs(gradient["weight"]).min().item() > 0


def test_what_is_not_a_number_stays_one():
    """A training that diverges has to notice."""
    values, mask = mx.array([[1.0, mx.nan, 2.0, mx.inf - mx.inf]]), mx.zeros((1, 4))
    assert mx.isnan(kernels.swiglu(values, mx.ones((1, 4)))).tolist() == [[False, True, False, True]]
    assert mx.isnan(kernels._softmax(values[None, None], mask)[1]).item()
    assert mx.isnan(rows.rms_norm(nn.RMSNorm(4), values)).all().item()


@pytest.mark.parametrize(
    ("t", "mask"), [(1, None), *((t, mask) for t in (1, 5, 128, 300) for mask in ("causal", "padded"))]
)
def test_attention_and_its_gradients(t, mask):
    q, k, v = mx.random.normal((2, 6, t, 8)), mx.random.normal((2, 3, t, 8)), mx.random.normal((2, 3, t, 8))
    weight = mx.random.normal(q.shape)
    if mask == "padded":
        keys = mx.arange(t)
        mask = (keys[None] <= keys[:, None])[None, None] & (keys >= mx.array([0, t // 3])[:, None, None, None])
        weight = weight * (keys[None, :, None] >= mx.array([0, t // 3])[:, None, None])[:, None]

    def value(attend):
        return lambda q, k, v: (attend(q, k, v, scale=0.3, mask=mask) * weight).sum()

    def stock(q, k, v, scale, mask):
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)

    def fast(q, k, v, scale, mask):
        return kernels.scaled_dot_product_attention(q, k, v, None, scale, mask)

    a = mx.value_and_grad(value(fast), argnums=(0, 1, 2))(q, k, v)
    b = mx.value_and_grad(value(stock), argnums=(0, 1, 2))(q, k, v)
    assert close(a[0], b[0], 1e-4)
    assert all(close(x, y, 2e-5) for x, y in zip(a[1], b[1], strict=True))


def test_attention_of_one_new_token_reads_the_whole_cache():
    q, k, v = mx.random.normal((2, 6, 1, 8)), mx.random.normal((2, 3, 40, 8)), mx.random.normal((2, 3, 40, 8))
    mask = mx.arange(40)[None, None, None] >= mx.array([0, 11])[:, None, None, None]
    output = kernels.scaled_dot_product_attention(q, k, v, object(), 0.3, mask)
    assert close(output, mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask=mask))


@pytest.mark.parametrize("t", [1, 3])
def test_attention_with_windows_skips_only_masked_slots(t):
    """Rows 0 to 2 see no slot before slot 5, and the other rows none before slot 34."""
    q, k, v = mx.random.normal((5, 6, t, 8)), mx.random.normal((5, 3, 64, 8)), mx.random.normal((5, 3, 64, 8))
    mask = mx.arange(64)[None, None, None] >= mx.array([5, 6, 30, 34, 60])[:, None, None, None]
    mask = mx.repeat(mask, t, axis=2)
    cache = SimpleNamespace(windows=[Window(slice(0, 3), 0), Window(slice(3, 6), 32)])
    output = kernels.scaled_dot_product_attention(q, k, v, cache, 0.3, mask)
    assert close(output, mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask=mask))
    k[3:, :, :32] = mx.nan  # never read
    assert mx.array_equal(kernels.scaled_dot_product_attention(q, k, v, cache, 0.3, mask), output)


@pytest.mark.parametrize("t", [3, 128, 300])
def test_attention_of_several_new_tokens_reads_the_cache_before_them(t):
    q, k, v = mx.random.normal((2, 6, t, 8)), mx.random.normal((2, 3, t + 40, 8)), mx.random.normal((2, 3, t + 40, 8))
    output = kernels.scaled_dot_product_attention(q, k, v, object(), 0.3, "causal")
    assert close(output, mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask="causal"))


def compiled_primitives(function, *arguments):
    """The number of fused kernels in the graph of a function's results."""
    text = io.StringIO()
    mx.export_to_dot(text, *function(*arguments))
    return text.getvalue().count("Compiled")


@pytest.mark.parametrize("functions", ["compiled"], indirect=True)
def test_kernels_stay_fused_in_a_gradient():
    """Within a gradient, MLX inlines what mx.compile made, without fusion: a training step took a fifth longer."""
    module, x = nn.Linear(8, 8, bias=False), mx.random.normal((3, 8))

    def loss(x):
        return kernels.swiglu(module(x), x).sum()

    def loss_and_gradient(value_and_grad):
        value, gradient = value_and_grad(module, loss)(x)
        return value, gradient["weight"]

    assert compiled_primitives(loss_and_gradient, nn.value_and_grad) == 0
    assert compiled_primitives(loss_and_gradient, tracing.value_and_grad) >= 2


def test_cross_entropy_and_its_gradient():
    logits, targets = mx.random.normal((7, 50)) * 5, mx.random.randint(0, 50, (7,))
    weight = mx.random.normal((7,))  # one weight per token
    fast = mx.value_and_grad(lambda z: (weight * kernels.token_losses(z, targets)).sum())(logits)
    stock = mx.value_and_grad(lambda z: (weight * nn.losses.cross_entropy(z, targets, reduction="none")).sum())(logits)
    assert close(fast[0], stock[0])
    assert close(fast[1], stock[1])


def test_cross_entropy_of_a_near_impossible_target_stays_finite():
    logits = mx.array([[0.0, 200.0]])
    value, gradient = mx.value_and_grad(lambda z: kernels.token_losses(z, mx.array([0])).sum())(logits)
    assert value.item() == pytest.approx(200)
    assert gradient.tolist() == [[pytest.approx(-1), pytest.approx(1)]]


@pytest.mark.parametrize("bias", [False, True])
def test_lora_as_one_matmul_and_its_gradients(bias):
    from mlx_lm.tuner.lora import LoRALinear

    layer = LoRALinear.from_base(nn.Linear(12, 20, bias=bias), r=4, scale=2.0)
    layer.lora_b = mx.random.normal(layer.lora_b.shape)
    x, weight = mx.random.normal((2, 5, 12)), mx.random.normal((2, 5, 20))

    def plain(a, b, x):
        return ((layer.linear(x) + layer.scale * (x @ a) @ b) * weight).sum()

    def merged(a, b, x):
        layer.lora_a, layer.lora_b = a, b
        return (kernels.lora_linear(layer, x) * weight).sum()

    arguments = (layer.lora_a, layer.lora_b, x)
    expected = mx.value_and_grad(plain, argnums=(0, 1, 2))(*arguments)
    actual = mx.value_and_grad(merged, argnums=(0, 1, 2))(*arguments)
    assert close(actual[0], expected[0], 1e-4)
    assert all(map(close, actual[1], expected[1]))
