"""How diverse should the training examples be, and how many are needed? (the study's experiment 4)"""

import pytest

pytestmark = [pytest.mark.bfcl, pytest.mark.axes(method="sft", split="seen_tools")]
REGIMES = ["simple_320", "four_320", "four_160", "four_80", "simple_240", "four_60", "all_patterns", "with_live"]
REGIMES += ["first_100", "first_200", "with_abstention", "masked_names"]


@pytest.mark.parametrize("regime", REGIMES)
def test_diversity(regime, accuracy, expected):
    """Single-call examples against as many of four categories (320; 240 without live ones); fewer, all, live ones."""
    assert accuracy in expected
