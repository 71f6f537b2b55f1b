"""Does training carry over to tools and call patterns that it never showed? (the study's experiment 2)"""

import pytest

METHODS = ["base", "sft"]


@pytest.mark.parametrize("split", ["seen_tools", "unseen_tools", "unseen_patterns"])
@pytest.mark.parametrize("method", METHODS)
def test_generalization(method, split, accuracy, expected):
    """Accuracy on new questions for known tools, on unknown tools, and on an unknown call pattern."""
    assert accuracy in expected
