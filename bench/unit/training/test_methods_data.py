"""The training data that each method builds from samples with known rewards."""

import math

import mlx.core as mx
import numpy as np
import pytest

from fixtures.config import HYPERS, Hyper
from fixtures.modeling import lora
from fixtures.modeling.batching import Group, collate, target_losses
from fixtures.prompts import Prompt
from fixtures.training.method import ScoredSample
from fixtures.training.methods import METHODS, dpo, grpo, grpo_exact, rft, second_epoch, sft

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
        self.requests = []

    def sample(self, rows, samples, temperature):
        self.requests.append(([row.id for row in rows], samples, temperature))
        return [[self._scored(row, *sample) for sample in SAMPLES[row.id]] for row in rows]

    def _scored(self, row, completion, reward):
        return ScoredSample(Prompt(row.id, row.tokens, completion), reward == 1.0, reward)

    def log_probabilities(self, groups, *, newest):
        return [
            np.array([-(token + (100 if newest else 0)) for row in group.rows for token in row.completion], np.float32)
            for group in groups
        ]


def test_no_method_on_top_of_sft_has_a_higher_learning_rate_than_sft():
    """At any scale. Past bug: at the full scale, a second epoch had five times the learning rate of the first."""
    for usual in (Hyper(), *HYPERS.values()):
        for name in ("second_epoch", "rft", "dpo", "grpo", "grpo_exact"):
            assert METHODS[name].hyper(usual).lr <= usual.lr
    assert METHODS["dpo"].hyper(Hyper(lr=2e-3, final_lr=2e-4), epochs=3) == Hyper(
        lr=1e-5, final_lr=1e-6, batch_size=4, epochs=3
    )


def completions(groups):
    return [[(row.id, row.completion) for row in group.rows] for group in groups]


def test_sft_and_a_second_epoch_train_on_every_gold_answer():
    for method in (sft.METHOD, second_epoch.METHOD):
        assert completions(method.groups(FakeRound())) == [[(row.id, row.completion)] for row in GOLD]


def test_rft_keeps_each_distinct_correct_answer_once():
    fake = FakeRound()
    assert completions(rft.METHOD.groups(fake)) == [
        [("q0", (10, 22, 1))], [("q0", (10, 1))], [("q1", (11, 1))], [("q4", (14, 1))],
    ]  # fmt: skip
    assert fake.requests == [([row.id for row in GOLD], 4, 0.8)]
    assert completions(rft.METHOD.groups(FakeRound(questions=1))) == [[("q0", (10, 22, 1))], [("q0", (10, 1))]]


def test_a_dpo_pair_prefers_a_correct_sample_or_else_the_gold_answer_to_a_wrong_sample():
    assert completions(dpo.METHOD.groups(FakeRound())) == [
        [("q0", (10, 22, 1)), ("q0", (20, 21, 1))],
        [("q2", (12, 1)), ("q2", (23, 1))],
        [("q3", (13, 1)), ("q3", (27, 1))],
        [("q4", (14, 1)), ("q4", (28, 1))],
        [("q5", (15, 1)), ("q5", (29, 1))],
    ]


def test_dpos_reference_is_the_initial_adapter():
    pairs = dpo.METHOD.groups(FakeRound())[:1]
    (annotated,) = dpo.METHOD.annotate(FakeRound(), pairs)
    assert annotated.rows == pairs[0].rows
    assert annotated.token_inputs.tolist() == [[-10], [-22], [-1], [-20], [-21], [-1]]


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


def test_a_grpo_group_is_all_samples_of_a_question_with_unequal_rewards():
    """q0 has rewards 0, 1, 1, 1; q2 0.5, 0, 0.5, 0; q4 1, 0.25, 1, 1; the others have equal rewards."""
    groups = grpo.METHOD.groups(FakeRound())
    assert [group.rows[0].id for group in groups] == ["q0", "q2", "q4"]
    assert completions(groups) == [[(i, completion) for completion, _ in SAMPLES[i]] for i in ("q0", "q2", "q4")]
    high, low = 3**-0.5, -(3**0.5)
    assert groups[0].token_inputs[:, 0] == pytest.approx([low] * 3 + [high] * 8)
    assert groups[1].token_inputs[:, 0] == pytest.approx([1, 1, -1, -1, -1, 1, 1, -1])
    assert groups[2].token_inputs[:, 0] == pytest.approx([high] * 2 + [low] * 2 + [high] * 4)


def test_an_exact_reward_sees_only_whether_an_answer_is_correct():
    """q2's samples differ in partial credit only: graded GRPO learns from them, exact GRPO does not."""
    graded, exact = ({group.rows[0].id for group in m.METHOD.groups(FakeRound())} for m in (grpo, grpo_exact))
    assert graded - exact == {"q2"}
    (first,) = (group for group in grpo_exact.METHOD.groups(FakeRound()) if group.rows[0].id == "q0")
    advantages = sorted({round(float(value), 6) for value in first.token_inputs[:, 0]})
    assert advantages == pytest.approx([-math.sqrt(3), 1 / math.sqrt(3)], abs=1e-5)  # one of four is wrong
    assert grpo_exact.METHOD.hyper(Hyper()) == grpo.METHOD.hyper(Hyper())


def test_grpo_adds_log_probabilities_under_the_sampling_and_the_initial_adapter():
    group = Group(GOLD[:2], np.array([[0.5], [0.5], [-0.5], [-0.5]]))
    (annotated,) = grpo.METHOD.annotate(FakeRound(), [group])
    assert annotated.token_inputs.tolist() == [[0.5, -110, -10], [0.5, -101, -1], [-0.5, -111, -11], [-0.5, -101, -1]]


def test_grpos_rounds_visit_the_questions_in_a_seeded_order(monkeypatch):
    monkeypatch.setattr(grpo, "QUESTIONS", 2)

    def sampled_ids(number, seed=0):
        fake = FakeRound(number, seed=seed)
        grpo.METHOD.groups(fake)
        ((ids, samples, temperature),) = fake.requests
        assert (samples, temperature) == (8, 1.0)
        return ids

    rounds = [sampled_ids(number) for number in range(4)]
    assert sorted(i for ids in rounds[:3] for i in ids) == [row.id for row in GOLD]
    assert rounds[3] == rounds[0]  # six questions, two per round: the fourth round starts over
    assert len({tuple(sampled_ids(0, seed)) for seed in range(5)}) > 2
