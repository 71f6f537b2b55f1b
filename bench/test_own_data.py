"""How well does a model call your own tools? (with --data FILE)

`-k generalization --data FILE` then answers whether training on your rows would help.
"""

import pytest

pytestmark = [pytest.mark.own_rows, pytest.mark.axes(split="all_rows")]
METHODS = ["base"]


@pytest.mark.parametrize("method", METHODS)
def test_own_data(method, accuracy, expected):
    """Accuracy on every row, where an abstention is correct if the row has no call: nothing is trained or held out."""
    assert accuracy in expected
