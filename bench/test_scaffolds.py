"""Does anything done around a model help, with or without training? (the study's scaffolding)"""

import pytest

SCAFFOLDS = {
    "base": ["plain", "repair", "constrained", "few_shot"],
    "sft": ["plain", "repair", "constrained", "best_of_8"],
}


@pytest.fixture
def split():
    """New questions for tools that training has seen."""
    return "seen_tools"


@pytest.mark.parametrize(("method", "scaffold"), [(m, s) for m, scaffolds in SCAFFOLDS.items() for s in scaffolds])
def test_scaffolds(method, scaffold, accuracy, expected):
    """As it is; JSON repaired; kept to the tools' schemas; after four examples; the majority of eight samples."""
    assert accuracy in expected
