"""Does training a model to call tools destroy its abstention, where no tool fits?"""

import pytest

METHODS = ["base", "sft"]


@pytest.fixture
def split():
    """Questions that the offered tool does not fit."""
    return "irrelevance"


@pytest.mark.parametrize("method", METHODS)
def test_irrelevance(method, accuracy, expected):
    """Share of answers in words or with an empty list; a broken call is no abstention."""
    assert accuracy in expected
