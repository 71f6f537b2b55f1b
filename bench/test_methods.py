"""What does each training method add, category by category? (the study's experiment 1)"""

from statistics import fmean

import pytest

pytestmark = pytest.mark.axes(split="seen_tools")
METHODS = ["base", "sft", "second_epoch", "rft", "dpo", "grpo"]


@pytest.mark.parametrize("category", ["simple", "multiple", "parallel", "parallel_multiple"])
@pytest.mark.parametrize("method", METHODS)
def test_methods(method, category, accuracy, expected):
    """Accuracy per BFCL category."""
    assert accuracy in expected


@pytest.mark.live
@pytest.mark.parametrize("method", ["sft"])
def test_training_makes_the_gold_answer_more_probable(method, split, bench):
    """A live check at every scale: the mean log-probability per gold token is far above the base model's."""
    ids = bench.items.test_ids(split)[:12]
    base, trained = (bench.runner.gold_logprobs(bench.arm(m, split), ids).values() for m in ("base", method))
    assert fmean(one.nats_per_token for one in trained) > 0.5 * fmean(one.nats_per_token for one in base)
