"""Does training generalise to tools and call patterns outside the training data? (the study's experiment 2)"""

import pytest

METHODS = ["base", "sft"]


@pytest.mark.parametrize("split", ["seen_tools", "unseen_tools", "unseen_patterns"])
@pytest.mark.parametrize("method", METHODS)
def test_generalization(method, split, accuracy, expected):
    """Accuracy on held-out questions about seen tools, on unseen tools, and on an unseen call pattern."""
    assert accuracy in expected
