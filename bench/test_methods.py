"""What does each training method add, category by category? (the study's experiment 1)"""

from statistics import fmean

import pytest

METHODS = ["base", "sft", "second_epoch", "rft", "dpo", "grpo"]


@pytest.fixture
def split():
    """New questions for tools that training has seen."""
    return "seen_tools"


@pytest.mark.parametrize("category", ["simple", "multiple", "parallel", "parallel_multiple"])
@pytest.mark.parametrize("method", METHODS)
def test_methods(method, category, accuracy, expected):
    """Accuracy per BFCL category."""
    assert accuracy in expected


@pytest.mark.live
@pytest.mark.parametrize("method", ["sft"])
def test_training_makes_the_gold_answer_likelier(method, split, bench):
    """The live gate at every scale: mean log-probability per gold token, far above the base model's."""
    ids = bench.test_ids(split)[:12]
    base, trained = (bench.live.graded(bench.arm(m, split), ids).values() for m in ("base", method))
    assert fmean(g.nats_per_token for g in trained) > 0.5 * fmean(g.nats_per_token for g in base)
