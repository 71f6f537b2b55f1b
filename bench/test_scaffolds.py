"""Do inference-time scaffolds help, with or without training? (the study's scaffolding)"""

import pytest

SCAFFOLDS = {
    "base": ["plain", "repair", "constrained", "few_shot", "few_shot_b", "brief_reasoning"],
    "sft": ["plain", "repair", "constrained", "best_of_8", "best_of_4", "best_of_2"],
}
SPLITS = ["seen_tools", "unseen_tools", "unseen_patterns"]
CELLS = [
    (method, scaffold, split)
    for method, scaffolds in SCAFFOLDS.items()
    for scaffold in scaffolds
    for split in SPLITS
    if not (scaffold.startswith("few_shot") and split == "unseen_patterns")  # one of the examples shows that pattern
]


@pytest.fixture(autouse=True)
def one_prompt_per_item(bench, scaffold, split):
    """Each fold has its own shots; its unseen tools are seen ones of another fold, whose answers they would replace."""
    if bench.scale.folds and scaffold.startswith("few_shot") and split != "seen_tools":
        pytest.skip(f"over folds {scaffold} is measured on seen_tools only")


@pytest.mark.parametrize(("method", "scaffold", "split"), CELLS)
def test_scaffolds(method, scaffold, split, accuracy, expected):
    """Plain; JSON repair; constrained to the tools' schemas; two sets of four shots; a sentence or two of reasoning;
    majority of 2, 4 or 8 samples."""
    assert accuracy in expected
