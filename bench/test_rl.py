"""Does reinforcement learning carry over where SFT does not: to tools and call patterns that training never showed?"""

import pytest

METHODS = ["sft", "second_epoch", "rft", "grpo"]


@pytest.mark.parametrize("split", ["unseen_tools", "unseen_patterns"])
@pytest.mark.parametrize("method", METHODS)
def test_rl(method, split, accuracy, expected):
    """SFT, SFT for longer, and both kinds of reinforcement learning, on what is new (the study's experiment 3)."""
    assert accuracy in expected
