"""How probable is the gold answer, and is the right tool preferred? The graded metric, for where accuracy is at 0."""

import pytest

from fixtures.generation.forced_choice import forced_choice

METHODS = ["base", "sft"]


@pytest.fixture
def accuracy(gold_logprobs):
    """Forced choice, on items that offer several tools: whose call is the most probable beginning of the answer?"""
    return forced_choice(gold_logprobs) or pytest.skip(f"none of the {len(gold_logprobs)} items offers a choice")


@pytest.mark.parametrize("split", ["seen_tools", "unseen_tools", "unseen_patterns"])
@pytest.mark.parametrize("method", METHODS)
def test_graded(method, split, accuracy, expected):
    """The share of items whose most probable first tool is a gold one."""
    assert accuracy in expected
