"""Does anything done around a model help, with or without training? (the study's scaffolding)"""

import pytest

SCAFFOLDS = {
    "base": ["plain", "repair", "constrained", "few_shot"],
    "sft": ["plain", "repair", "constrained", "best_of_8", "best_of_4", "best_of_2"],
}


@pytest.mark.parametrize("split", ["seen_tools", "unseen_tools", "unseen_patterns"])
@pytest.mark.parametrize(("method", "scaffold"), [(m, s) for m, scaffolds in SCAFFOLDS.items() for s in scaffolds])
def test_scaffolds(method, scaffold, split, accuracy, expected):
    """As it is; JSON repaired; kept to the tools' schemas; after four examples; the majority of 2, 4, 8 samples."""
    assert accuracy in expected
