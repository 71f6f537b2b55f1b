"""Model folders: the hub's Qwen path, proven with a tiny random 4-bit Qwen2 in the same layout."""

import json

import pytest

from fixtures import generate, models, prompts, train
from fixtures.arms import Decoding, Hyper
from fixtures.methods import sft


def test_a_quantized_qwen_trains_and_answers(tiny_qwen, example, tmp_path):
    model = models.load(str(tiny_qwen))
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


def test_the_fingerprint_follows_the_weights(tiny_qwen, tmp_path):
    first = models.fingerprint(tiny_qwen)
    assert first == models.fingerprint(tiny_qwen)
    for file in tiny_qwen.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
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


def test_left_padding_does_not_change_a_row(tiny_qwen, example):
    model = models.load(str(tiny_qwen))
    rows = rows_of(model, example, [5, 31, 32, 33, 64, 90, 150])
    decoding = Decoding(max_new_tokens=40, batch_size=7)
    together = {c.id: c for batch in generate.generate(model, rows, decoding) for c in batch}
    for row in rows:
        ((alone,),) = generate.generate(model, [row], decoding)
        assert alone == together[row.id]


def test_every_prompt_is_answered_once_whatever_the_batches(tiny_qwen, example, monkeypatch):
    model = models.load(str(tiny_qwen))
    rows = rows_of(model, example, range(20, 50))
    monkeypatch.setattr(generate, "PREFILL_TOKENS", 100)
    answers = [c for batch in generate.generate(model, rows, Decoding(3, batch_size=4)) for c in batch]
    assert sorted(c.id for c in answers) == sorted(row.id for row in rows)
    assert all(c.tokens == 3 or c.finish == "stop" for c in answers)
    assert {c.prompt for c in answers} == {row.sha256 for row in rows}


def test_gold_log_likelihood_is_the_loss_per_token(tiny_qwen, example):
    model = models.load(str(tiny_qwen))
    rows = rows_of(model, example, [40, 80])
    means = generate.gold_log_likelihood(model, rows)
    for row in rows:
        expected = -sft.loss(model.module, train.collate([row])).item() / len(row.completion)
        assert means[row.id] == pytest.approx(expected, rel=1e-4)
