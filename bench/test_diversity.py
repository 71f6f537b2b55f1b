"""How diverse should the training examples be, and how many are needed? (the study's experiment 4)"""

import pytest

pytestmark = [pytest.mark.bfcl, pytest.mark.axes(method="sft", split="seen_tools")]
REGIMES = ["simple_320", "four_320", "four_160", "four_80", "all_patterns", "with_live"]


@pytest.mark.parametrize("regime", REGIMES)
def test_diversity(regime, accuracy, expected):
    """320 single-call examples against 320 of four categories; 80, 160 and 320 of four; all 525; 781 with live ones."""
    assert accuracy in expected
