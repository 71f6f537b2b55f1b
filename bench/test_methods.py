"""What does each training method add, category by category? (the study's experiment 1)"""

import pytest

METHODS = ["base", "sft"]


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
    base = bench.live.gold_log_likelihood(bench.arm("base", split), ids)
    trained = bench.live.gold_log_likelihood(bench.arm(method, split), ids)
    assert sum(trained.values()) > 0.5 * sum(base.values())
