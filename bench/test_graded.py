"""How likely is the gold answer, and is the right tool preferred? A signal where accuracy is at its floor."""

import pytest

from fixtures.generation.forced_choice import forced

METHODS = ["base", "sft"]


@pytest.fixture
def accuracy(grades):
    """Forced choice, on items that offer one: which tool's call is the likeliest to begin the answer."""
    return forced(grades) or pytest.skip(f"none of the {len(grades)} items offers a choice")


@pytest.mark.parametrize("split", ["seen_tools", "unseen_tools", "unseen_patterns"])
@pytest.mark.parametrize("method", METHODS)
def test_graded(method, split, accuracy, expected):
    """The share of items whose likeliest first tool is a gold one."""
    assert accuracy in expected
