"""Does anything done around a trained model help? (the study's scaffolding)"""

import pytest

METHODS = ["base", "sft"]


@pytest.fixture
def split():
    """New questions for tools that training has seen."""
    return "seen_tools"


@pytest.mark.parametrize("scaffold", ["plain", "repair"])  # best_of_8 and constrained: not recorded yet
@pytest.mark.parametrize("method", METHODS)
def test_scaffolds(method, scaffold, accuracy, expected):
    """As it is; mended by json-repair; the majority of eight samples; kept to the tools' schemas all along."""
    assert accuracy in expected
