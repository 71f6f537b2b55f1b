"""Conformance of the training loop and the SFT loss, on a tiny random model."""

import math
from dataclasses import replace
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from fixtures.config import Hyper
from fixtures.modeling import batching, lora
from fixtures.modeling.batching import Group, single_rows
from fixtures.modeling.forward import hidden_states
from fixtures.modeling.worker_pool import WorkerPool
from fixtures.prompts import Prompt
from fixtures.storage.cache import CacheWarning
from fixtures.training import trainer
from fixtures.training.methods import dpo, grpo, sft

HYPER = Hyper(rank=2, alpha=4, lr=1e-2, final_lr=1e-3, warmup_steps=1, epochs=2, batch_size=2)


def rows(count=5, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        tokens = rng.integers(2, 64, 6 + 9 * i).tolist()
        made.append(Prompt(str(i), tuple(tokens[:4]), (*tokens[4:], 1)))
    return made


def alone(module):
    """A worker pool that consists of this process only."""
    return WorkerPool(SimpleNamespace(module=module), "", 1)


def log_probabilities(module, row):
    """(N,) nats of the completion tokens, directly from the logits of the whole sequence."""
    tokens = row.tokens + row.completion
    logits = module(mx.array([tokens[:-1]]))[0]
    chosen = nn.log_softmax(logits, axis=-1)[mx.arange(len(tokens) - 1), mx.array(tokens[1:])]
    return chosen[len(row.tokens) - 1 :]


def flat_gradient(module, batch, loss):
    _, gradient = nn.value_and_grad(module, lambda b: loss(module, b))(batch)
    return mx.concatenate([value.reshape(-1) for _, value in tree_flatten(gradient)])


def with_token_inputs(size, columns):
    """Five groups of `size` rows; their token inputs have the size of real advantages and log-probabilities."""
    rng = np.random.default_rng(size)
    groups = [Group(tuple(rows(size, seed))) for seed in range(5)]
    return [Group(group.rows, rng.normal((0, -4, -4)[-columns:], 1, (group.targets, columns))) for group in groups]


WORK = {
    "sft": (sft.METHOD.objective, single_rows(rows())),
    "dpo": (dpo.METHOD.objective, with_token_inputs(2, 1)),
    "grpo": (grpo.METHOD.objective, with_token_inputs(3, 3)),
}
every_loss = pytest.mark.parametrize(("objective", "groups"), WORK.values(), ids=WORK)


def test_loss_is_the_summed_nll_of_the_completion_tokens(module):
    row = rows()[3]
    expected = -log_probabilities(module, row).sum().item()
    assert sft.loss(module, batching.collate(single_rows([row]))).item() == pytest.approx(expected, rel=1e-5)


def test_loss_of_a_uniform_model_is_log_vocabulary(module):
    module.model.embed_tokens.weight = mx.zeros_like(module.model.embed_tokens.weight)
    row = rows()[2]
    expected = len(row.completion) * math.log(64)
    assert sft.loss(module, batching.collate(single_rows([row]))).item() == pytest.approx(expected, rel=1e-6)


def test_batching_does_not_change_the_loss(module):
    together = sft.loss(module, batching.collate(single_rows(rows()))).item()
    one_by_one = sum(sft.loss(module, batching.collate(single_rows([row]))).item() for row in rows())
    assert together == pytest.approx(one_by_one, rel=1e-5)


@every_loss
def test_pad_tokens_do_not_change_the_gradient(module, objective, groups):
    lora.attach(module, HYPER, seed=1)
    batch = batching.collate(groups[:2])
    noise = mx.array(np.where(np.array(batch.tokens) == 0, 7, np.array(batch.tokens)))
    changed = batch._replace(tokens=noise)  # pad tokens are 0, which no row holds
    assert not mx.array_equal(noise, batch.tokens)
    before, after = (flat_gradient(module, each, objective.loss) for each in (batch, changed))
    assert mx.allclose(before, after, rtol=0, atol=1e-6)


@every_loss
def test_only_states_that_predict_completion_tokens_have_a_gradient(module, objective, groups, monkeypatch):
    batch = batching.collate(groups[:2])
    states = hidden_states(module, batch.tokens)

    def loss(offset):
        monkeypatch.setattr(batching, "hidden_states", lambda *_: states + offset)
        return objective.loss(module, batch)

    gradient = np.array(mx.grad(loss)(mx.zeros_like(states)))  # (B, T, D)
    nonzero = np.flatnonzero(np.abs(gradient).reshape(-1, gradient.shape[-1]).sum(axis=1))
    assert nonzero.tolist() == sorted(batch.positions.tolist())


def test_targets_follow_their_positions():
    batch = batching.collate(single_rows(rows()))
    flat = np.array(batch.tokens).reshape(-1)
    last = {row.completion[-1] for row in rows()}
    for position, target in zip(batch.positions.tolist(), batch.targets.tolist(), strict=True):
        assert flat[position + 1 : position + 2].tolist() in ([target], [0], []) or target in last
    assert batch.targets.size == sum(len(row.completion) for row in rows())


def test_a_fresh_adapter_changes_nothing(module):
    tokens = mx.array([rows()[4].tokens])
    before = module(tokens)
    lora.attach(module, HYPER, seed=3)
    assert mx.allclose(module(tokens), before, atol=1e-5)  # some cores sum a merged weight's product in another order
    lora.detach(module)
    assert mx.array_equal(module(tokens), before)


def test_training_lowers_the_loss_and_touches_only_the_adapter(module, tmp_path):
    base = {name: np.array(value) for name, value in tree_flatten(module.parameters())}
    losses = []
    trainer.train(
        alone(module),
        sft.METHOD.objective,
        single_rows(rows()),
        HYPER,
        0,
        tmp_path / "c",
        lambda step: losses.append(step.loss),
    )
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    lora.detach(module)
    for name, value in tree_flatten(module.parameters()):
        assert np.array_equal(np.array(value), base[name])


def same(a, b):
    return a.keys() == b.keys() and all(mx.array_equal(a[name], b[name]) for name in a)


def trained(module, objective, groups, folder, seed=0):
    weights = trainer.train(alone(module), objective, groups, HYPER, seed, folder)
    return {name: mx.array(value) for name, value in weights.items()}


@every_loss
def test_training_is_deterministic_for_a_seed_and_differs_between_seeds(module, tmp_path, objective, groups):
    first, again = (trained(module, objective, groups, tmp_path / name) for name in "ab")
    assert same(first, again)
    assert not same(first, trained(module, objective, groups, tmp_path / "c", seed=1))


def interrupted(module, objective, groups, folder, stop_at):
    def interrupt(step):
        if step.step == stop_at + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.train(alone(module), objective, groups, HYPER, 0, folder, interrupt)


@every_loss
@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_interrupted_training_resumes_to_identical_weights(module, tmp_path, monkeypatch, stop_at, objective, groups):
    uninterrupted = trained(module, objective, groups, tmp_path / "a")
    monkeypatch.setattr(trainer, "CHECKPOINT_EVERY_S", 0.0)
    interrupted(module, objective, groups, tmp_path / "b", stop_at)
    steps = []
    resumed = trainer.train(alone(module), objective, groups, HYPER, 0, tmp_path / "b", steps.append)
    assert steps[0].step == stop_at + 1
    assert same(uninterrupted, resumed)


def test_a_damaged_checkpoint_is_set_aside_and_training_restarts(module, tmp_path, monkeypatch):
    """Past bug: a half-written checkpoint made every later run fail with a read error."""
    monkeypatch.setattr(trainer, "CHECKPOINT_EVERY_S", 0.0)
    groups, folder, steps = single_rows(rows()), tmp_path / "b", []
    interrupted(module, sft.METHOD.objective, groups, folder, 3)
    (weights,) = folder.glob("*/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.warns(CacheWarning) as warned:
        trainer.train(alone(module), sft.METHOD.objective, groups, HYPER, 0, folder, steps.append)
    assert any("making it again" in str(warning.message) for warning in warned)
    assert steps[0].step == 1


def test_the_checkpoint_before_is_kept_until_the_next_is_complete(module, tmp_path, monkeypatch):
    """Past bug: a kill while a checkpoint was being written lost all progress."""
    monkeypatch.setattr(trainer, "CHECKPOINT_EVERY_S", 0.0)
    groups, folder, steps, real = single_rows(rows()), tmp_path / "b", [], trainer.mx.save_safetensors

    def killed(path, arrays):
        if list(folder.glob("0*")):
            raise KeyboardInterrupt
        real(path, arrays)

    monkeypatch.setattr(trainer.mx, "save_safetensors", killed)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(alone(module), sft.METHOD.objective, groups, HYPER, 0, folder)
    monkeypatch.setattr(trainer.mx, "save_safetensors", real)
    trainer.train(alone(module), sft.METHOD.objective, groups, HYPER, 0, folder, steps.append)
    assert steps[0].step == 2


def test_a_training_goes_on_without_a_checkpoint_that_cannot_be_written(module, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_EVERY_S", 0.0)
    groups, steps = single_rows(rows()), []

    def full(path, arrays):
        raise RuntimeError("[save_safetensors] Unable to write 759 bytes to file.")

    monkeypatch.setattr(trainer.mx, "save_safetensors", full)
    with pytest.warns(CacheWarning, match=r"no checkpoint of step 1 \(.*b/000001: .*Unable to write.*GB are free"):
        trainer.train(alone(module), sft.METHOD.objective, groups, HYPER, 0, tmp_path / "b", steps.append)
    assert steps[-1].step == steps[-1].steps


def test_a_checkpoint_of_older_code_says_so(module, tmp_path, monkeypatch):
    """Its files lay in the folder itself."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "weights.safetensors").write_bytes(b"")
    with pytest.warns(CacheWarning, match="no checkpoint that this version of callbench can read"):
        trainer.train(alone(module), sft.METHOD.objective, single_rows(rows()), HYPER, 0, tmp_path / "b")


def test_micro_batches_do_not_change_the_step(module, monkeypatch):
    def updated(limit):
        monkeypatch.setattr(batching, "micro_batch_tokens", lambda: limit)
        lora.attach(module, HYPER, seed=2)
        loss = trainer.update(alone(module), sft.METHOD.objective, optim.SGD(0.1), single_rows(rows()), HYPER)
        return loss, lora.trainable_weights(module)

    (whole, a), (parts, b) = updated(100_000), updated(1)
    assert whole == pytest.approx(parts, rel=1e-5)
    for name in a:
        assert mx.allclose(a[name], b[name], rtol=1e-4, atol=1e-6)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(1, 4))
def test_micro_batches_give_every_process_work(lengths, size):
    made = [Prompt(str(i), (7,) * n, (1,)) for i, n in enumerate(lengths)]
    parts = list(batching.micro_batches(single_rows(made), size))
    assert sorted(row.id for part in parts for group in part for row in group.rows) == sorted(row.id for row in made)
    assert len(parts) == math.ceil(len(made) / math.ceil(len(made) / size))


@given(st.lists(st.integers(1, 900), min_size=1, max_size=40), st.integers(1, 7), st.integers(1, 3), st.integers(0, 5))
def test_every_epoch_visits_every_row_once(lengths, batch_size, epochs, seed):
    hyper, n = Hyper(batch_size=batch_size, epochs=epochs), len(lengths)
    order = batching.batch_order(lengths, hyper, seed)
    assert len(order) == epochs * math.ceil(n / batch_size)
    for epoch in range(epochs):
        part = order[epoch * len(order) // epochs : (epoch + 1) * len(order) // epochs]
        assert sorted(i for batch in part for i in batch) == list(range(n))
    assert max(map(len, order)) <= batch_size


def test_the_rows_of_a_batch_have_similar_lengths():
    lengths = np.random.default_rng(0).integers(100, 900, 400).tolist()
    order = batching.batch_order(lengths, Hyper(batch_size=2), seed=0)
    spread = np.mean([abs(lengths[a] - lengths[b]) for a, b in order])
    assert spread < np.mean(np.abs(np.diff(lengths))) / 4
    firsts = [lengths[batch[0]] for batch in order]
    assert abs(np.corrcoef(firsts[:-1], firsts[1:])[0, 1]) < 0.2  # long and short batches come in random order


def test_learning_rate_warms_up_and_decays():
    hyper = Hyper(lr=1.0, final_lr=0.1, warmup_steps=4)
    rates = [trainer.learning_rate(step, 20, hyper) for step in range(20)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[-1] == pytest.approx(0.1)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_divergence_stops_with_advice(module, tmp_path):
    def broken(model, batch):
        return sft.loss(model, batch) * math.nan

    with pytest.raises(trainer.TrainingError, match=r"diverged at step 1.*Lower `lr`"):
        trainer.train(alone(module), trainer.Objective(broken), single_rows(rows()), HYPER, 0, tmp_path / "c")


def test_a_saved_adapter_gives_the_same_logits_when_loaded_and_when_merged(module, tmp_path):
    trainer.train(alone(module), sft.METHOD.objective, single_rows(rows()), HYPER, 0, tmp_path / "c")
    lora.save(module, HYPER, tmp_path)
    tokens = mx.array([rows()[4].tokens])
    expected = module(tokens)
    lora.detach(module)
    base = module(tokens)
    lora.load(module, tmp_path)
    assert mx.array_equal(module(tokens), expected)
    lora.merge(module)
    assert mx.allclose(module(tokens), expected, atol=1e-5)
    assert not mx.allclose(module(tokens), base, atol=1e-3)
    lora.detach(module)
    assert mx.array_equal(module(tokens), base)


def test_an_adapter_is_applied_with_the_lora_scale_it_was_trained_with(module, tmp_path):
    """Past bug: an adapter trained with another alpha than the run's would have been applied with the run's alpha."""
    trainer.train(alone(module), sft.METHOD.objective, single_rows(rows()), replace(HYPER, alpha=32), 0, tmp_path / "c")
    tokens = mx.array([rows()[4].tokens])
    expected = module(tokens)
    lora.save(module, replace(HYPER, alpha=32), tmp_path)
    lora.activate(module, tmp_path)
    assert mx.allclose(module(tokens), expected, atol=1e-4)
    with pytest.raises(trainer.TrainingError, match=r"trained with .*'scale': 16.0.* further with .*'scale': 2.0"):
        trainer.train(
            alone(module), sft.METHOD.objective, single_rows(rows()), HYPER, 0, tmp_path / "d", start=tmp_path
        )
