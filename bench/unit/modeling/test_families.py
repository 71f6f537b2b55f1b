"""Every architecture of mlx-lm that a few numbers build: it works all the way, or is refused before any training."""

from dataclasses import replace
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models import llama

from bench.support import families
from fixtures.arms import Draw
from fixtures.config import Decoding, Hyper
from fixtures.generation import decode
from fixtures.modeling import batching, checks, forward, lora, recompute
from fixtures.modeling.cpu import kernels
from fixtures.modeling.kv_cache import PrefixCache, Slots
from fixtures.modeling.loading import LanguageModel
from fixtures.modeling.worker_pool import WorkerPool
from fixtures.prompts import Prompt
from fixtures.training import trainer
from fixtures.training.methods import sft

# As loaded with mlx-lm 0.32.2; a family that is lost, or won, is a change to look at.
ACCEPTED = {
    "Klear", "afmoe", "apertus", "bailing_moe", "cohere", "cohere2", "deepseek", "deepseek_v2", "dots1", "ernie4_5",
    "ernie4_5_moe", "exaone", "gear", "gemma", "gemma3", "gemma3_text", "gemma3_text, tied", "glm", "glm4", "glm4_moe",
    "gpt2", "gpt_neox", "gpt_oss", "gptj", "helium", "hunyuan_v1_dense", "internlm2", "internlm3", "laguna", "llama",
    "llama without windows", "llama, tied", "mimo", "mistral3", "mixtral", "nanbeige", "nanochat", "nemotron", "olmo2",
    "olmo3", "olmoe", "phi", "phi3", "phi3 with long rope", "phimoe", "pixtral", "plamo3", "qwen2", "qwen2_moe",
    "qwen2_vl", "qwen3", "qwen3_moe", "qwen3_vl", "qwen3_vl_moe", "seed_oss", "smollm3", "stablelm", "starcoder2",
    "telechat3", "youtu_llm",
}  # fmt: skip
REFUSED = {
    "bailing_moe_v3": "KV caches", "deepseek_v3": "KV caches", "falcon_h1": "KV caches", "gpt_bigcode": "KV caches",
    "gemma2": "KV caches", "granite": "changes its logits", "granitemoe": "changes its logits", "mamba": "KV caches",
    "internlm2 with dynamic rope": "KV caches", "minicpm": "changes its logits", "qwen3_next": "KV caches",
    "talkie": "vocabulary projection",
}  # fmt: skip
ROWS = [Prompt("a", (5, 6, 7, 8, 9, 10, 11, 12, 13, 14), (20, 21)), Prompt("b", (30, 31, 32, 33, 34), (40, 41, 42))]
DENSE, SPARSE, WINDOWS = "qwen3", "qwen2_moe", "gemma3_text, tied"


class Codes:
    """A tokenizer whose text is the numbers of the tokens."""

    def decode(self, ids, *, skip_special_tokens=False):
        return " ".join(map(str, ids))

    def encode(self, text, *, add_special_tokens=False):
        return [int(part) for part in text.split()]


def made(name):
    module = families.tiny(name)
    if module is None:
        pytest.fail(f"mlx-lm no longer builds {name} from bench/support/families.py")
    kernels.use_fast_kernels(module)
    module.freeze()
    return module


def bits(module):
    return {name: np.array(value) for name, value in tree_flatten(module.parameters())}


@pytest.mark.parametrize("name", sorted(ACCEPTED))
def test_a_family_works_all_the_way_and_is_itself_again(name):
    """Past bugs: experts kept their adapters, so that the next base answers were another model's."""
    module = made(name)
    weights = bits(module)
    checks.check(module, name, name)
    before = np.array(forward.project(module, forward.hidden_states(module, mx.array(families.TOKENS))))
    model = LanguageModel("tiny", module, Codes(), frozenset({1}), 1, "")
    pool = WorkerPool(model, "", 1)
    lora.attach(module, Hyper(rank=2, lr=1e-2))
    optimizer = trainer.adam(module, Hyper(rank=2, lr=1e-2))
    groups = batching.single_rows(ROWS)
    losses = [trainer.update(pool, sft.METHOD.objective, optimizer, groups, Hyper()) for _ in range(8)]
    assert losses[-1] < losses[0]
    lora.merge(module)
    decode.complete(model, ROWS, Decoding(max_new_tokens=4, batch_size=2, draw=Draw()))
    lora.detach(module)
    after = np.array(forward.project(module, forward.hidden_states(module, mx.array(families.TOKENS))))
    np.testing.assert_array_equal(after, before)
    kept = {key: value for key, value in bits(module).items() if key in weights}
    assert len(kept) >= len(weights) - 1  # GPT-NeoX's head has moved
    for key, value in kept.items():
        np.testing.assert_array_equal(value, weights[key])


@pytest.mark.parametrize("name", sorted(ACCEPTED))
def test_activations_that_are_computed_twice_give_the_same_gradient(name, monkeypatch):
    """Alone, and after a shared prefix, whose keys and values pass from one call of a layer to the next."""
    module = made(name)
    forward.separate_head(module)
    lora.attach(module, Hyper(rank=2), seed=1)
    module.update(tree_map(lambda w: w + 0.05, module.trainable_parameters()))
    monkeypatch.setattr(batching, "MIN_SHARED", 1)
    calls, checkpoint = [], mx.checkpoint
    monkeypatch.setattr(mx, "checkpoint", lambda function: calls.append(1) or checkpoint(function))
    together = batching.Group(tuple(replace(ROWS[0], completion=row.completion) for row in ROWS))
    for groups in (batching.single_rows(ROWS), [together]):
        shard = trainer.GradientShard([groups], 1, sft.METHOD.objective, None)
        gradients = []
        calls.clear()
        for share in (1, 0):
            monkeypatch.setattr(recompute, "SHARE", share)
            value, gradient = trainer.gradient(SimpleNamespace(module=module), shard, lambda _: None)
            gradients.append(np.append(np.array(gradient), value))
        np.testing.assert_array_equal(*gradients)
        assert np.abs(gradients[0]).max() > 0
        assert len(calls) >= len(module.layers)  # past bug: some models call their layers from another list


@pytest.mark.parametrize("quantized", [False, True])
def test_activations_that_are_computed_twice_take_no_memory(quantized, monkeypatch):
    """Sixteen layers and one batch of 600 tokens: without recomputing, all their activations are alive at once.

    Past bug: those of quantized layers were not counted.
    """
    module = llama.Model(llama.ModelArgs(
        "llama", hidden_size=128, num_hidden_layers=16, intermediate_size=512, num_attention_heads=4, vocab_size=64,
        rms_norm_eps=1e-5, num_key_value_heads=2,
    ))  # fmt: skip
    if quantized:
        nn.quantize(module, group_size=32, bits=4)
    module.freeze()
    lora.attach(module, Hyper(rank=2), seed=1)
    row = Prompt("x", tuple(k % 60 for k in range(600)), (1, 2, 3))
    shard = trainer.GradientShard([batching.single_rows([row])], 1, sft.METHOD.objective, None)
    peaks = []
    for share in (1, 0):
        monkeypatch.setattr(recompute, "SHARE", share)
        mx.reset_peak_memory()
        trainer.gradient(SimpleNamespace(module=module), shard, lambda _: None)
        peaks.append(mx.get_peak_memory())
    assert peaks[1] < peaks[0] / 2, peaks


@pytest.mark.parametrize("limit", ["max", "", None, "1000000"])
def test_the_memory_of_a_container_bounds_what_is_kept(limit, tmp_path):
    machine, file = recompute.memory(), tmp_path / "memory.max"
    if limit is not None:
        file.write_text(f"{limit}\n")
    assert recompute.memory(file) == (1e6 if limit == "1000000" else machine)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_family_that_would_fail_later_is_refused_at_once(name):
    with pytest.raises(forward.ModelError, match=REFUSED[name]):
        checks.check(made(name), name, name)


def test_every_family_is_accepted_or_refused_and_never_a_traceback(deep):
    """All that can be built, also those of neither list."""
    outcomes = {}
    for name in families.names() if deep else ["plamo2", "qwen3_5", "iquestloopcoder"]:
        if (module := families.tiny(name)) is None or name in ACCEPTED:
            continue
        kernels.use_fast_kernels(module)
        with pytest.raises(forward.ModelError):
            checks.check(module, name, name)
        outcomes[name] = "refused"
    assert outcomes


@pytest.mark.parametrize("name", [DENSE, SPARSE, WINDOWS])
def test_the_answers_of_a_batch_are_those_of_each_prompt_alone(name):
    """Windows of eight tokens and rows of different lengths, in the caches of continuous batching."""
    module = made(name)
    checks.check(module, name, name)
    model = LanguageModel("tiny", module, Codes(), frozenset({1}), 1, "")
    prompts = [Prompt(str(n), tuple(range(2, 2 + n)), ()) for n in (3, 7, 12, 30)]
    decoding = Decoding(max_new_tokens=20, batch_size=4)
    together = {c.id: c.text for c in decode.complete(model, prompts, decoding)}
    for prompt in prompts:
        tokens = list(prompt.tokens)
        for _ in range(20):
            logits = forward.project(module, forward.hidden_states(module, mx.array([tokens])))
            tokens.append(int(mx.argmax(logits[0, -1])))
            if tokens[-1] == 1:
                break
        expected = [t for t in tokens[len(prompt.tokens) :] if t != 1]
        assert Codes().encode(together[prompt.id]) == expected


@pytest.mark.parametrize("window", [1, 3, 8, 100])
def test_a_window_hides_all_but_the_latest_tokens(window):
    """Against the definition: key k is visible to query q if 0 <= q - k < window."""
    cache = PrefixCache(mx.zeros((1, 1, 5, 2)), mx.zeros((1, 1, 5, 2)))
    mask = cache.make_mask(4, window_size=window)
    if window < 9:
        assert np.array(mask).tolist() == [[0 <= 5 + q - k < window for k in range(9)] for q in range(4)]
    else:
        assert mask == "causal"
    slots = Slots(1)
    slots.resize([], 2, 20)
    slots.visible[0, :6] = [True, True, False, True, True, True]  # a rejected draft left a hole
    slots.visible[1, 3:6] = True
    slots.used = 6
    seen = np.array(slots.mask(2, window))[:, 0] > -1  # (B, n, S)
    positions = [[0, 1, None, 2, 3, 4, 5, 6], [None, None, None, 0, 1, 2, 3, 4]]
    for row, of_row in enumerate(positions):
        for q in range(2):
            query = of_row[6 + q]
            assert [bool(s) for s in seen[row, q, :8]] == [k is not None and 0 <= query - k < window for k in of_row]


def test_a_wrong_gradient_is_found(monkeypatch):
    """The check must be able to fail: a kernel whose gradient is twice too large."""
    module = made(DENSE)
    stock = checks.value_and_grad

    def doubled(module, loss):
        def call(*arguments):
            value, gradient = stock(module, loss)(*arguments)
            return value, checks.tree_map(lambda g: 2 * g, gradient)

        return call

    monkeypatch.setattr(checks, "value_and_grad", doubled)
    with pytest.raises(forward.ModelError, match="its gradient says"):
        checks.check(module, DENSE, DENSE)


def test_an_adapter_that_stays_is_found(monkeypatch):
    module = made(DENSE)
    monkeypatch.setattr(checks.lora, "detach", lambda module: None)
    with pytest.raises(forward.ModelError, match="another model after its adapter was removed"):
        checks.check(module, DENSE, DENSE)
