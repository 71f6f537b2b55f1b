"""Which training data: many examples of one kind, or of four? And how many? (the study's experiment 4)"""

import pytest

REGIMES = ["simple_320", "four_320", "four_160", "four_80", "all_patterns", "with_live"]


@pytest.fixture
def method():
    """What the data is trained with."""
    return "sft"


@pytest.fixture
def split():
    """New questions; of smaller regimes, also for tools that these do not show."""
    return "seen_tools"


@pytest.mark.parametrize("regime", REGIMES)
def test_diversity(regime, accuracy, expected):
    """320 single calls against 320 of four kinds; then 80, 160, 320 of four, all 525, and with real users' 781."""
    assert accuracy in expected
