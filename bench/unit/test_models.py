"""Model folders: the hub's Qwen path, proven with a tiny random 4-bit Qwen2 in the same layout."""

import json

import pytest

from fixtures import generate, models, prompts, train
from fixtures.arms import Decoding, Hyper
from fixtures.batches import singly
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
    train.train(
        team, sft.METHOD.objective, singly(rows), hyper, 0, tmp_path / "c", lambda step: losses.append(step.loss)
    )
    assert losses[-1] < 0.1 * losses[0]
    (answer,) = generate.complete(model, rows[:1], Decoding(max_new_tokens=80))
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
    source = models.HubRepository("callbench/absent", "main", "callbench/absent")
    with pytest.raises(models.ModelError, match=r"callbench/absent at main.*pass its path as --model"):
        models._from_hub(source, offline=True)
