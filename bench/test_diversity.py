"""How diverse should the training examples be, and how many are needed? (the study's experiment 4)"""

import pytest

pytestmark = [pytest.mark.bfcl, pytest.mark.axes(method="sft", split="seen_tools")]
OF_THE_STUDY = ["simple_240", "four_60", "all_patterns", "first_100", "first_200", "with_abstention", "masked_names"]
LIVE = ["simple_320", "four_320", "four_160", "four_80", "with_live"]  # have live items, which folds do not train on


@pytest.fixture(autouse=True)
def without_live_items_over_folds(bench, regime):
    if bench.scale.folds and regime in LIVE:
        pytest.skip(f"no live item is in the training set of a fold; expected one of {', '.join(OF_THE_STUDY)}")


@pytest.mark.parametrize("regime", [*LIVE, *OF_THE_STUDY])
def test_diversity(regime, accuracy, expected):
    """Single-call examples against as many of four categories (320; 240 without live ones); fewer, all, live ones."""
    assert accuracy in expected


@pytest.mark.axes(method="sft", split="unseen_tools")
@pytest.mark.parametrize("regime", OF_THE_STUDY)
def test_diversity_on_unseen_tools(regime, accuracy, expected):
    """No regime has these tools: seen ones are all in `four_60`, but only a third of them in `simple_240`."""
    assert accuracy in expected
