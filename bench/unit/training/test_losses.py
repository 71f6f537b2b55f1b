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
from fixtures.prompts import Prompt
from fixtures.scoring.parse import ParseError, parse_calls
from fixtures.scoring.reward import reward
from fixtures.scoring.scorer import prepare_scorer
from fixtures.training.methods import dpo, grpo


@pytest.fixture
def trained(module):
    """With an adapter that does something."""
    lora.attach(module, Hyper(rank=2, alpha=4), seed=1)
    mx.random.seed(2)
    lora.set_trainable(module, 0.1 * mx.random.normal(lora.flatten(module.trainable_parameters()).shape))
    return module


def rows(*lengths, prompt=9):
    """Answers to one prompt."""
    rng = np.random.default_rng(len(lengths))
    question = tuple(rng.integers(2, 64, prompt).tolist())
    return tuple(Prompt(str(n), question, tuple(rng.integers(2, 64, n).tolist())) for n in lengths)


def now(module, group):
    """(N,) log-probabilities of a group's targets."""
    return -np.array(target_losses(module, collate([group])))


def gradient(module, loss, batch):
    value, found = nn.value_and_grad(module, lambda b: loss(module, b))(batch)
    return value.item(), mx.concatenate([v.reshape(-1) for _, v in tree_flatten(found)])


def test_dpo_starts_at_ln_2_with_zero_margin(trained):
    pair = Group(rows(5, 8))
    batch = collate([Group(pair.rows, now(trained, pair)[:, None])])
    assert dpo.margins(trained, batch).tolist() == [pytest.approx(0, abs=1e-5)]
    assert dpo.loss(trained, batch).item() == pytest.approx(math.log(2), abs=1e-6)


def test_dpo_is_the_log_sigmoid_of_the_margin(trained):
    """References that leave the chosen answer 3 nats better than before and the rejected one 2 nats worse: margin 5."""
    chosen, rejected = rows(5, 8)
    inputs = now(trained, Group((chosen, rejected)))
    inputs[0] -= 3
    inputs[5 + 7] += 2
    batch = collate([Group((chosen, rejected), inputs[:, None])])
    assert dpo.margins(trained, batch).tolist() == [pytest.approx(5, abs=1e-4)]
    assert dpo.loss(trained, batch).item() == pytest.approx(0.474077, abs=1e-5)  # ln(1 + e^-0.5)
    swapped = np.concatenate([inputs[5:], inputs[:5]])[:, None]
    assert dpo.loss(trained, collate([Group((rejected, chosen), swapped)])).item() == pytest.approx(0.974077, abs=1e-5)


def test_dpo_pushes_the_chosen_answer_up_and_the_rejected_one_down(trained):
    pair = Group(rows(5, 8))
    batch = collate([Group(pair.rows, now(trained, pair)[:, None])])
    _, slope = gradient(trained, dpo.loss, batch)
    weights = lora.flatten(trained.trainable_parameters())
    lora.set_trainable(trained, weights - 0.01 * slope)
    assert dpo.margins(trained, batch).item() > 0


@pytest.mark.parametrize("loss", [dpo.loss, grpo.loss], ids=["dpo", "grpo"])
def test_a_prompt_read_once_changes_nothing(trained, loss, monkeypatch):
    group = Group(rows(5, 8, 3, 6, prompt=150))
    level = now(trained, group).mean()
    inputs = np.random.default_rng(0).normal((0, level, level), size=(22, 3))
    found = []
    for worth in (128, 10**9):
        monkeypatch.setattr(batching, "MIN_SHARED", worth)
        batch = collate([Group(group.rows, inputs)])
        assert (batch.shared.size > 0) == (worth == 128)
        found.append(gradient(trained, loss, batch))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert mx.abs(found[0][1]).max().item() > 1e-3
    assert mx.allclose(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)


def test_equal_rewards_are_no_advantage():
    assert grpo.advantages([0.5] * 8).tolist() == [0] * 8
    assert grpo.advantages([1.0, 0.0, 0.0, 0.0]).tolist() == pytest.approx([3**0.5, *[-(3**-0.5)] * 3])


def inputs_of(advantages, lengths, sampled, reference):
    return np.column_stack([np.repeat(advantages, lengths), sampled, reference])


def test_grpo_at_the_sampling_model_is_minus_the_mean_advantage(trained):
    """There each ratio is 1 and nothing has diverged; and the slope is that of the policy gradient."""
    lengths, advantage = (5, 8, 3), np.array([1.5, -1.0, 0.25])
    group = Group(rows(*lengths))
    values = now(trained, group)
    batch = collate([Group(group.rows, inputs_of(advantage, lengths, values, values))])
    value, slope = gradient(trained, grpo.loss, batch)
    assert value == pytest.approx(-advantage.sum() / grpo.SAMPLES, abs=1e-5)

    def policy_gradient(module, batch):
        tokens = np.repeat(advantage / np.array(lengths), lengths) / grpo.SAMPLES
        return (target_losses(module, batch) * mx.array(tokens.astype(np.float32))).sum()

    assert mx.allclose(slope, gradient(trained, policy_gradient, batch)[1], rtol=1e-3, atol=1e-6)


def test_grpo_clips_ratios_and_charges_divergence(trained):
    """One answer of one token each: by hand with ratios 1.5 and 0.5, a reference 0.3 nats above."""
    group = Group(rows(1, 1))
    values = now(trained, group)
    sampled = values - np.log([1.5, 0.5])
    batch = collate([Group(group.rows, inputs_of([1.0, -1.0], (1, 1), sampled, values + 0.3))])
    divergence = math.exp(0.3) - 0.3 - 1  # 0.0498588
    gains = [1.2 - grpo.BETA * divergence, -0.8 - grpo.BETA * divergence]
    assert grpo.loss(trained, batch).item() == pytest.approx(-sum(gains) / grpo.SAMPLES, abs=1e-5)


def test_a_ratio_beyond_the_clip_has_no_slope(trained):
    group = Group(rows(1))
    values = now(trained, group)
    batch = collate([Group(group.rows, inputs_of([1.0], (1,), values - np.log(1.5), values))])
    assert mx.abs(gradient(trained, grpo.loss, batch)[1]).max().item() < 1e-6


def test_only_a_right_answer_has_the_whole_reward(with_gold):
    """Gold answers, in any order, and wrong ones made on purpose."""
    for example in list(with_gold.values())[::40]:
        scorer = prepare_scorer(example)
        gold = gold_calls(example)
        right = scorer.judge(gold).primary.correct
        assert (reward(scorer, gold) == 1) == right
        assert reward(scorer, gold[::-1]) == pytest.approx(reward(scorer, gold))
        assert reward(scorer, [*gold, gold[0]]) < 1
        assert reward(scorer, gold[1:]) < 1


def test_the_reward_is_the_share_that_is_right(example):
    scorer = prepare_scorer(example)

    def of(text):
        return reward(scorer, parse_calls(text))

    assert of('[{"name":"area.of","arguments":{"width":2.5,"unit":"cm"}}]') == 1
    assert of('[{"name":"area.of","arguments":{"width":2.5,"unit":"inch"}}]') == pytest.approx(2 / 3)
    assert of('[{"name":"area.of","arguments":{"unit":"cm"}}]') == pytest.approx(2 / 3)
    assert of('[{"name":"area.of","arguments":{"width":2.5,"depth":1}}]') == pytest.approx(2 / 3)
    assert of('[{"name":"other","arguments":{"width":2.5}}]') == 0
    assert of('[{"name":"area.of","arguments":{"width":2.5}},{"name":"other","arguments":{}}]') == pytest.approx(1 / 2)
    assert of("no idea") == of("[]") == of("[{") == 0
    assert isinstance(parse_calls("[{"), ParseError)
