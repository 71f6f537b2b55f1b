"""Model folders: the hub's Qwen path, proven with a tiny random 4-bit Qwen2 in the same layout."""

import json

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models import qwen2
from mlx_lm.utils import save_model
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import PreTrainedTokenizerFast

from fixtures import generate, models, prompts, train
from fixtures.arms import Decoding, Hyper
from fixtures.methods import sft

CONFIG = {
    "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128,
    "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "vocab_size": 260,
    "tie_word_embeddings": True, "rope_theta": 1e6, "max_position_embeddings": 4096, "eos_token_id": 257,
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A 4-bit Qwen2 of two layers with a byte-level tokenizer, as mlx_lm.convert would write it."""
    path = tmp_path_factory.mktemp("models") / "tiny-qwen2-4bit"
    path.mkdir()
    mx.random.seed(0)
    module = qwen2.Model(qwen2.ModelArgs.from_dict(CONFIG))
    nn.quantize(module, group_size=64, bits=4)
    save_model(path, module)
    quantization = {"group_size": 64, "bits": 4}
    (path / "config.json").write_text(json.dumps(CONFIG | {"quantization": quantization}))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, "<|im_start|>", "<|im_end|>"])}
    fast = Tokenizer(tokenizer_models.BPE(vocabulary, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="<|im_end|>")
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(path)
    return path


def test_a_quantized_qwen_trains_and_answers(folder, example, tmp_path):
    model = models.load(str(folder))
    assert model.id == "tiny-qwen2-4bit"
    assert model.stop_tokens == {257}
    rows = prompts.render_prompts([example], model.tokenizer, model.end_of_turn)
    hyper = Hyper(rank=16, alpha=32, lr=1e-2, final_lr=1e-3, warmup_steps=5, epochs=80, batch_size=1)
    losses = []
    train.train(model.module, sft.loss, rows, hyper, 0, tmp_path / "c", lambda step: losses.append(step.loss))
    assert losses[-1] < 0.1 * losses[0]
    (batch,) = generate.generate(model, rows[:1], Decoding(max_new_tokens=80))
    assert batch[0].text == '[{"name":"area.of","arguments":{"width":2.5}}]'
    assert batch[0].finish == "stop"


def test_the_fingerprint_follows_the_weights(folder, tmp_path):
    first = models.fingerprint(folder)
    assert first == models.fingerprint(folder)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert models.fingerprint(tmp_path) != first


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(models.ModelError, match=r"neither a known model \(smollm2_135m, qwen2_5_1_5b\) nor a folder"):
        models.load("gpt-7")


def test_an_unreachable_hub_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    source = models.HubRepository("callbench/absent", "main")
    with pytest.raises(models.ModelError, match=r"callbench/absent at main.*pass its path as --model"):
        models._from_hub(source, offline=True)


def rows_of(model, example, lengths):
    (prompt,) = prompts.render_prompts([example], model.tokenizer, model.end_of_turn)
    return [prompts.Prompt(str(n), prompt.tokens[-n:], prompt.completion) for n in lengths]


def test_left_padding_does_not_change_a_row(folder, example):
    model = models.load(str(folder))
    rows = rows_of(model, example, [5, 31, 32, 33, 64, 90, 150])
    decoding = Decoding(max_new_tokens=40, batch_size=7)
    together = {c.id: c for batch in generate.generate(model, rows, decoding) for c in batch}
    for row in rows:
        ((alone,),) = generate.generate(model, [row], decoding)
        assert alone == together[row.id]


def test_every_prompt_is_answered_once_whatever_the_batches(folder, example, monkeypatch):
    model = models.load(str(folder))
    rows = rows_of(model, example, range(20, 50))
    monkeypatch.setattr(generate, "PREFILL_TOKENS", 100)
    answers = [c for batch in generate.generate(model, rows, Decoding(3, batch_size=4)) for c in batch]
    assert sorted(c.id for c in answers) == sorted(row.id for row in rows)
    assert all(c.tokens == 3 or c.finish == "stop" for c in answers)
    assert {c.prompt for c in answers} == {row.sha256 for row in rows}


def test_gold_log_likelihood_is_the_loss_per_token(folder, example):
    model = models.load(str(folder))
    rows = rows_of(model, example, [40, 80])
    means = generate.gold_log_likelihood(model, rows)
    for row in rows:
        expected = -sft.loss(model.module, train.collate([row])).item() / len(row.completion)
        assert means[row.id] == pytest.approx(expected, rel=1e-4)
