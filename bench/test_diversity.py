"""Which training data: many examples of one kind, or of four? And how many? (the study's experiment 4)"""

import pytest

pytestmark = pytest.mark.axes(method="sft", split="seen_tools")
REGIMES = ["simple_320", "four_320", "four_160", "four_80", "all_patterns", "with_live"]


@pytest.mark.parametrize("regime", REGIMES)
def test_diversity(regime, accuracy, expected):
    """320 single calls against 320 of four kinds; then 80, 160, 320 of four, all 525, and 781 with real users'."""
    assert accuracy in expected
