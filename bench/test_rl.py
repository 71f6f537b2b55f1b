"""Does RL generalise to unseen tools and call patterns better than SFT? (the study's experiment 3)"""

import pytest

METHODS = ["sft", "second_epoch", "rft", "grpo", "grpo_exact"]


@pytest.mark.parametrize("split", ["unseen_tools", "unseen_patterns"])
@pytest.mark.parametrize("method", METHODS)
def test_rl(method, split, accuracy, expected):
    """SFT, a second epoch of SFT, and three kinds of RL, on unseen tools and on an unseen call pattern."""
    assert accuracy in expected
