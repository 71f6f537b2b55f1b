"""The methods' losses against hand-computed numbers, on a tiny random model; and the reward of RL."""

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from fixtures.config import Hyper
from fixtures.data.bfcl import gold_calls
from fixtures.modeling import batching, lora
from fixtures.modeling.batching import Group, collate, target_losses
from fixtures.modeling.cpu.kernels import token_losses
from fixtures.prompts import Prompt
from fixtures.scoring.parse import ParseError, parse_calls
from fixtures.scoring.reward import reward
from fixtures.scoring.scorer import prepare_scorer
from fixtures.training.methods import dpo, grpo


@pytest.fixture
def trained(module):
    """A module with a random adapter that changes its outputs."""
    lora.attach(module, Hyper(rank=2, alpha=4), seed=1)
    mx.random.seed(2)
    lora.set_trainable(module, 0.1 * mx.random.normal(lora.flatten(module.trainable_parameters()).shape))
    return module


def rows(*lengths, prompt=9):
    """Completions of one prompt, with these lengths."""
    rng = np.random.default_rng(len(lengths))
    question = tuple(rng.integers(2, 64, prompt).tolist())
    return tuple(Prompt(str(n), question, tuple(rng.integers(2, 64, n).tolist())) for n in lengths)


def target_logprobs(module, group):
    """(N,) log-probabilities of a group's targets."""
    return -np.array(target_losses(module, collate([group])))


def gradient(module, loss, batch):
    value, grads = nn.value_and_grad(module, lambda b: loss(module, b))(batch)
    return value.item(), mx.concatenate([grad.reshape(-1) for _, grad in tree_flatten(grads)])


def test_dpo_starts_at_ln_2_with_zero_margin(trained):
    pair = Group(rows(5, 8))
    batch = collate([Group(pair.rows, target_logprobs(trained, pair)[:, None])])
    assert dpo.margins(trained, batch).tolist() == [pytest.approx(0, abs=1e-5)]
    assert dpo.loss(trained, batch).item() == pytest.approx(math.log(2), abs=1e-6)


def test_dpo_is_the_log_sigmoid_of_the_margin(trained):
    """The chosen answer has 3 nats more than under the reference and the rejected one 2 nats less: margin 5."""
    chosen, rejected = rows(5, 8)
    inputs = target_logprobs(trained, Group((chosen, rejected)))
    inputs[0] -= 3
    inputs[5 + 7] += 2
    batch = collate([Group((chosen, rejected), inputs[:, None])])
    assert dpo.margins(trained, batch).tolist() == [pytest.approx(5, abs=1e-4)]
    assert dpo.loss(trained, batch).item() == pytest.approx(0.474077, abs=1e-5)  # ln(1 + e^-0.5)
    swapped = np.concatenate([inputs[5:], inputs[:5]])[:, None]
    assert dpo.loss(trained, collate([Group((rejected, chosen), swapped)])).item() == pytest.approx(0.974077, abs=1e-5)


def test_dpo_pushes_the_chosen_answer_up_and_the_rejected_one_down(trained):
    pair = Group(rows(5, 8))
    batch = collate([Group(pair.rows, target_logprobs(trained, pair)[:, None])])
    _, grad = gradient(trained, dpo.loss, batch)
    weights = lora.flatten(trained.trainable_parameters())
    lora.set_trainable(trained, weights - 0.01 * grad)
    assert dpo.margins(trained, batch).item() > 0


@pytest.mark.parametrize("loss", [dpo.loss, grpo.loss], ids=["dpo", "grpo"])
def test_prefilling_a_shared_prompt_once_changes_nothing(trained, loss, monkeypatch):
    group = Group(rows(5, 8, 3, 6, prompt=150))
    level = target_logprobs(trained, group).mean()
    inputs = np.random.default_rng(0).normal((0, level, level), size=(22, 3))
    results = []
    for min_shared in (128, 10**9):
        monkeypatch.setattr(batching, "MIN_SHARED", min_shared)
        batch = collate([Group(group.rows, inputs)])
        assert (batch.shared.size > 0) == (min_shared == 128)
        results.append(gradient(trained, loss, batch))
    (shared_loss, shared_grad), (full_loss, full_grad) = results
    assert shared_loss == pytest.approx(full_loss, rel=1e-5)
    assert mx.abs(shared_grad).max().item() > 1e-3
    assert mx.allclose(shared_grad, full_grad, rtol=1e-3, atol=1e-5)


def test_equal_rewards_give_zero_advantages():
    assert grpo.advantages([0.5] * 8).tolist() == [0] * 8
    assert grpo.advantages([1.0, 0.0, 0.0, 0.0]).tolist() == pytest.approx([3**0.5, *[-(3**-0.5)] * 3])


def inputs_of(advantages, lengths, sampled, reference):
    return np.column_stack([np.repeat(advantages, lengths), sampled, reference])


def test_grpo_loss_at_the_sampling_policy_is_minus_the_mean_advantage(trained):
    """There each ratio is 1 and the KL penalty is 0; the gradient is the policy gradient."""
    lengths, advantage = (5, 8, 3), np.array([1.5, -1.0, 0.25])
    group = Group(rows(*lengths))
    values = target_logprobs(trained, group)
    batch = collate([Group(group.rows, inputs_of(advantage, lengths, values, values))])
    value, grad = gradient(trained, grpo.loss, batch)
    assert value == pytest.approx(-advantage.sum() / grpo.SAMPLES, abs=1e-5)

    def policy_gradient(module, batch):
        tokens = np.repeat(advantage / np.array(lengths), lengths) / grpo.SAMPLES
        return (target_losses(module, batch) * mx.array(tokens.astype(np.float32))).sum()

    assert mx.allclose(grad, gradient(trained, policy_gradient, batch)[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("most", [1, 3, 7, 15])
def test_many_targets_are_projected_in_parts_with_the_same_losses_and_gradient(trained, monkeypatch, most):
    """Past bug: the logits of all targets of a GRPO group at once could take 10 GB."""
    batch = collate([Group(rows(5, 8, 3))])

    def total(module, batch):
        return (target_losses(module, batch) * mx.arange(16)).sum()

    expected = target_losses(trained, batch), gradient(trained, total, batch)[1]
    seen = []
    monkeypatch.setattr(batching, "MAX_TARGETS", most)
    monkeypatch.setattr(batching, "token_losses", lambda *given: seen.append(given[0].shape[0]) or token_losses(*given))
    found = target_losses(trained, batch), gradient(trained, total, batch)[1]
    assert max(seen) <= most
    for one, other in zip(found, expected, strict=True):
        assert mx.abs(one - other).max() < 1e-5 * mx.abs(other).max()


def test_grpo_clips_ratios_and_penalises_divergence(trained):
    """By hand: two answers of one token, ratios 1.5 and 0.5, the reference 0.3 nats higher."""
    group = Group(rows(1, 1))
    values = target_logprobs(trained, group)
    sampled = values - np.log([1.5, 0.5])
    batch = collate([Group(group.rows, inputs_of([1.0, -1.0], (1, 1), sampled, values + 0.3))])
    divergence = math.exp(0.3) - 0.3 - 1  # 0.0498588
    gains = [1.2 - grpo.BETA * divergence, -0.8 - grpo.BETA * divergence]
    assert grpo.loss(trained, batch).item() == pytest.approx(-sum(gains) / grpo.SAMPLES, abs=1e-5)


def test_a_ratio_beyond_the_clip_has_no_gradient(trained):
    group = Group(rows(1))
    values = target_logprobs(trained, group)
    batch = collate([Group(group.rows, inputs_of([1.0], (1,), values - np.log(1.5), values))])
    assert mx.abs(gradient(trained, grpo.loss, batch)[1]).max().item() < 1e-6


def test_only_a_correct_answer_gets_the_full_reward(with_gold):
    """Gold calls in both orders, and wrong answers with a call too many or too few."""
    for example in list(with_gold.values())[::40]:
        scorer = prepare_scorer(example)
        gold = gold_calls(example)
        correct = scorer.judge(gold).primary.correct
        assert (reward(scorer, gold) == 1) == correct
        assert reward(scorer, gold[::-1]) == pytest.approx(reward(scorer, gold))
        assert reward(scorer, [*gold, gold[0]]) < 1
        assert reward(scorer, gold[1:]) < 1


def test_a_wrong_answer_gets_partial_credit_for_correct_calls_and_arguments(example):
    scorer = prepare_scorer(example)

    def credit(text):
        return reward(scorer, parse_calls(text))

    assert credit('[{"name":"area.of","arguments":{"width":2.5,"unit":"cm"}}]') == 1
    assert credit('[{"name":"area.of","arguments":{"width":2.5,"unit":"inch"}}]') == pytest.approx(2 / 3)
    assert credit('[{"name":"area.of","arguments":{"unit":"cm"}}]') == pytest.approx(2 / 3)
    assert credit('[{"name":"area.of","arguments":{"width":2.5,"depth":1}}]') == pytest.approx(2 / 3)
    assert credit('[{"name":"other","arguments":{"width":2.5}}]') == 0
    two_calls = '[{"name":"area.of","arguments":{"width":2.5}},{"name":"other","arguments":{}}]'
    assert credit(two_calls) == pytest.approx(1 / 2)
    assert credit("no idea") == credit("[]") == credit("[{") == 0
    assert isinstance(parse_calls("[{"), ParseError)
