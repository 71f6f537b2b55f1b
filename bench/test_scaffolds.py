"""Does anything done to an answer after it was generated help? (the study's scaffolding)"""

import pytest

METHODS = ["base", "sft"]


@pytest.fixture
def split():
    """New questions for tools that training has seen."""
    return "seen_tools"


@pytest.mark.parametrize("scaffold", ["plain", "repair"])
@pytest.mark.parametrize("method", METHODS)
def test_scaffolds(method, scaffold, accuracy, expected):
    """Accuracy of the same completions as they are, and after json-repair mended those that do not parse."""
    assert accuracy in expected
