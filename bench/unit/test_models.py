"""Model folders: the hub's Qwen path, proven with a tiny random 4-bit Qwen2 in the same layout."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fixtures import generate, models, prompts, train
from fixtures.arms import Decoding, Hyper
from fixtures.methods import sft
from fixtures.workers import Team


def test_a_quantized_qwen_trains_and_answers(tiny_qwen, example, tmp_path):
    model = models.load(str(tiny_qwen))
    assert model.id == "tiny-qwen2-4bit"
    assert model.stop_tokens == {257}
    rows = prompts.render_prompts([example], model.tokenizer, model.end_of_turn)
    hyper = Hyper(rank=16, alpha=32, lr=1e-2, final_lr=1e-3, warmup_steps=5, epochs=80, batch_size=1)
    losses = []
    team = Team(model, str(tiny_qwen), 1)
    train.train(team, sft.loss, rows, hyper, 0, tmp_path / "c", lambda step: losses.append(step.loss))
    assert losses[-1] < 0.1 * losses[0]
    (answer,) = generate.complete(model, rows[:1], Decoding(max_new_tokens=80)).values()
    assert answer.text == '[{"name":"area.of","arguments":{"width":2.5}}]'
    assert answer.finish == "stop"


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
    together = generate.complete(model, rows, decoding)
    for row in rows:
        assert generate.complete(model, [row], decoding) == {row.id: together[row.id]}


def test_a_place_given_to_the_next_prompt_does_not_change_a_row(lively_qwen, monkeypatch):
    """Rows end at different steps, so that places are dropped, refilled and realigned in the middle."""
    model, rng = models.load(str(lively_qwen)), np.random.default_rng(0)
    rows = [prompts.Prompt(str(n), tuple(rng.integers(2, 250, n).tolist()), ()) for n in range(10, 150, 6)]
    stopping = replace(model, stop_tokens=frozenset(range(0, 260, 12)))
    alone = generate.complete(stopping, rows, Decoding(40, batch_size=1))
    assert len({c.tokens for c in alone.values()}) > 5
    for batch_size in (2, 3, 8, 40):
        assert generate.complete(stopping, rows, Decoding(40, batch_size=batch_size)) == alone
    monkeypatch.setattr(generate, "CACHE_TOKENS", 600)  # three to twelve rows
    assert generate.complete(stopping, rows, Decoding(40, batch_size=40)) == alone


def test_every_prompt_is_answered_once_whatever_the_batches(tiny_qwen, example, monkeypatch):
    model = models.load(str(tiny_qwen))
    rows = rows_of(model, example, range(20, 50))
    monkeypatch.setattr(generate, "PREFILL_TOKENS", 100)
    told = []
    answers = generate.complete(model, rows, Decoding(3, batch_size=4), told.append)
    assert answers.keys() == {row.id for row in rows}
    assert all(c.tokens == 3 or c.finish == "stop" for c in answers.values())
    assert {c.prompt for c in answers.values()} == {row.sha256 for row in rows}
    assert sum(step.tokens for step in told) == sum(c.tokens for c in answers.values())


def test_gold_log_likelihood_is_the_loss_per_token(tiny_qwen, example):
    model = models.load(str(tiny_qwen))
    rows = rows_of(model, example, [40, 80])
    means = generate.gold_log_likelihood(model, rows)
    for row in rows:
        expected = -sft.loss(model.module, train.collate([row])).item() / len(row.completion)
        assert means[row.id] == pytest.approx(expected, rel=1e-4)
