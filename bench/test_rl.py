"""Does reinforcement learning carry over to new tools and call patterns better than SFT? (the study's experiment 3)"""

import pytest

METHODS = ["sft", "second_epoch", "rft", "grpo"]


@pytest.mark.parametrize("split", ["unseen_tools", "unseen_patterns"])
@pytest.mark.parametrize("method", METHODS)
def test_rl(method, split, accuracy, expected):
    """SFT, more SFT, and two kinds of reinforcement learning, on what is new."""
    assert accuracy in expected
