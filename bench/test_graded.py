"""Is a gold tool's call the most probable one? Forced choice, a graded metric that helps where accuracy is 0."""

import pytest

from fixtures.generation.forced_choice import forced_choice

METHODS = ["base", "sft"]


@pytest.fixture
def accuracy(gold_logprobs):
    """Forced choice on items that offer several tools: which tool's call is the most probable start of the answer?"""
    return forced_choice(gold_logprobs) or pytest.skip(f"none of the {len(gold_logprobs)} items offers several tools")


@pytest.mark.parametrize("split", ["seen_tools", "unseen_tools", "unseen_patterns"])
@pytest.mark.parametrize("method", METHODS)
def test_graded(method, split, accuracy, expected):
    """The share of items whose most probable first tool is a gold one."""
    assert accuracy in expected
