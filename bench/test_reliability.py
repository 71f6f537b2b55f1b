"""How reliable is a model over repeats of the same question? (with --repeats K, at --temperature T)

The summary has pass@k (one of k answers is correct), pass^k (all k are) and the share of items that flip.
"""

import pytest

pytestmark = [pytest.mark.repeats, pytest.mark.axes(scaffold="repeats")]
METHODS = ["base", "sft"]
OWN_ROWS = pytest.param("all_rows", marks=pytest.mark.own_rows)


@pytest.mark.parametrize("split", ["seen_tools", "unseen_tools", OWN_ROWS])
@pytest.mark.parametrize("method", METHODS)
def test_reliability(method, split, accuracy, expected):
    """Accuracy of the first of the repeated answers; the summary compares them."""
    assert accuracy in expected
