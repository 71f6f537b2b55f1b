"""Does training on tool calls destroy abstention where no tool fits?"""

import pytest

pytestmark = pytest.mark.axes(split="irrelevance")
METHODS = ["base", "sft"]


@pytest.mark.parametrize("method", METHODS)
def test_irrelevance(method, accuracy, expected):
    """The share of abstentions: answers in words or with an empty list. A broken call is not an abstention."""
    assert accuracy in expected
