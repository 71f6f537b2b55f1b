"""The data that each method draws, from answers whose verdicts are known."""

import math

import mlx.core as mx
import numpy as np
import pytest

from fixtures.config import SCALES, Hyper
from fixtures.modeling import lora
from fixtures.modeling.batching import Group, collate, target_losses
from fixtures.prompts import Prompt
from fixtures.training.method import ScoredSample
from fixtures.training.methods import METHODS, dpo, grpo, rft, second_epoch, sft

GOLD = [Prompt(f"q{k}", (2, 3, 4 + k), (10 + k, 1)) for k in range(6)]
SAMPLES = {  # question → completion and reward of each sample; 1 is correct
    "q0": [((20, 21, 1), 0.0), ((10, 22, 1), 1.0), ((10, 1), 1.0), ((10, 22, 1), 1.0)],
    "q1": [((11, 1), 1.0)] * 4,
    "q2": [((23, 1), 0.5), ((24, 25, 1), 0.0), ((23, 1), 0.5), ((26,), 0.0)],
    "q3": [((27, 1), 0.5)] * 4,
    "q4": [((14, 1), 1.0), ((28, 1), 0.25), ((14, 1), 1.0), ((14, 1), 1.0)],
    "q5": [((29, 1), 0.0)] * 4,
}


class FakeRound:
    """A round whose newest adapter generates SAMPLES; a log-probability identifies the adapter and the token."""

    def __init__(self, number=0, questions=None, seed=0):
        self.rows, self.number, self.questions, self.seed = GOLD, number, questions, seed
        self.asked = []

    def sample(self, rows, samples, temperature):
        self.asked.append(([row.id for row in rows], samples, temperature))
        return [[self._scored(row, *sample) for sample in SAMPLES[row.id]] for row in rows]

    def _scored(self, row, completion, reward):
        return ScoredSample(Prompt(row.id, row.tokens, completion), reward == 1.0, reward)

    def log_probabilities(self, groups, *, newest):
        return [
            np.array([-(token + (100 if newest else 0)) for row in group.rows for token in row.completion], np.float32)
            for group in groups
        ]


def test_a_method_on_top_of_sft_has_no_higher_rate_at_any_scale():
    """Found: at the full scale a second epoch trained at five times the rate of the first."""
    for scale in SCALES.values():
        for name in ("second_epoch", "rft", "dpo", "grpo"):
            assert METHODS[name].hyper(scale.hyper).lr <= scale.hyper.lr
    assert METHODS["dpo"].hyper(Hyper(lr=2e-3, final_lr=2e-4), epochs=3) == Hyper(
        lr=1e-5, final_lr=1e-6, batch_size=4, epochs=3
    )


def completions(groups):
    return [[(row.id, row.completion) for row in group.rows] for group in groups]


def test_sft_and_a_second_epoch_train_on_every_gold_answer():
    for method in (sft.METHOD, second_epoch.METHOD):
        assert completions(method.groups(FakeRound())) == [[(row.id, row.completion)] for row in GOLD]


def test_rft_keeps_each_different_right_answer_once():
    fake = FakeRound()
    assert completions(rft.METHOD.groups(fake)) == [
        [("q0", (10, 22, 1))], [("q0", (10, 1))], [("q1", (11, 1))], [("q4", (14, 1))],
    ]  # fmt: skip
    assert fake.asked == [([row.id for row in GOLD], 4, 0.8)]
    assert completions(rft.METHOD.groups(FakeRound(questions=1))) == [[("q0", (10, 22, 1))], [("q0", (10, 1))]]


def test_a_dpo_pair_is_a_right_answer_or_else_the_gold_one_before_a_wrong_one():
    assert completions(dpo.METHOD.groups(FakeRound())) == [
        [("q0", (10, 22, 1)), ("q0", (20, 21, 1))],
        [("q2", (12, 1)), ("q2", (23, 1))],
        [("q3", (13, 1)), ("q3", (27, 1))],
        [("q4", (14, 1)), ("q4", (28, 1))],
        [("q5", (15, 1)), ("q5", (29, 1))],
    ]


def test_dpos_reference_is_what_training_started_from():
    pairs = dpo.METHOD.groups(FakeRound())[:1]
    (known,) = dpo.METHOD.annotate(FakeRound(), pairs)
    assert known.rows == pairs[0].rows
    assert known.token_inputs.tolist() == [[-10], [-22], [-1], [-20], [-21], [-1]]


def test_dpo_with_its_own_reference_starts_at_ln_2(module):
    lora.attach(module, Hyper(rank=2, alpha=4), seed=1)
    weights = lora.flatten(module.trainable_parameters())
    lora.set_trainable(module, weights + 0.1 * mx.random.normal(weights.shape))

    class Real(FakeRound):
        def log_probabilities(self, groups, *, newest):
            assert not newest
            return [-np.array(target_losses(module, collate([group]))) for group in groups]

    pairs = dpo.METHOD.annotate(Real(), dpo.METHOD.groups(Real()))
    for pair in pairs:
        assert dpo.loss(module, collate([pair])).item() == pytest.approx(math.log(2), abs=1e-5)


def test_a_grpo_group_is_all_samples_of_a_question_that_does_better_and_worse():
    """q0 has rewards 0, 1, 1, 1; q2 0.5, 0, 0.5, 0; q4 1, 0.25, 1, 1; the others are all alike."""
    groups = grpo.METHOD.groups(FakeRound())
    assert [group.rows[0].id for group in groups] == ["q0", "q2", "q4"]
    assert completions(groups) == [[(i, completion) for completion, _ in SAMPLES[i]] for i in ("q0", "q2", "q4")]
    high, low = 3**-0.5, -(3**0.5)
    assert groups[0].token_inputs[:, 0] == pytest.approx([low] * 3 + [high] * 8)
    assert groups[1].token_inputs[:, 0] == pytest.approx([1, 1, -1, -1, -1, 1, 1, -1])
    assert groups[2].token_inputs[:, 0] == pytest.approx([high] * 2 + [low] * 2 + [high] * 4)


def test_grpo_knows_what_sampled_each_token_and_what_training_started_from():
    group = Group(GOLD[:2], np.array([[0.5], [0.5], [-0.5], [-0.5]]))
    (known,) = grpo.METHOD.annotate(FakeRound(), [group])
    assert known.token_inputs.tolist() == [[0.5, -110, -10], [0.5, -101, -1], [-0.5, -111, -11], [-0.5, -101, -1]]


def test_grpos_rounds_go_through_the_questions_in_an_order_of_the_seed(monkeypatch):
    monkeypatch.setattr(grpo, "QUESTIONS", 2)

    def asked(number, seed=0):
        fake = FakeRound(number, seed=seed)
        grpo.METHOD.groups(fake)
        ((ids, samples, temperature),) = fake.asked
        assert (samples, temperature) == (8, 1.0)
        return ids

    rounds = [asked(number) for number in range(4)]
    assert sorted(i for ids in rounds[:3] for i in ids) == [row.id for row in GOLD]
    assert rounds[3] == rounds[0]  # six questions, so that it begins anew
    assert len({tuple(asked(0, seed)) for seed in range(5)}) > 2
