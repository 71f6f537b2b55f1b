"""What a run measured: arms are compared on the same items, and no item is dropped in silence."""

import pytest

from fixtures.report.measured import Measured, paired
from fixtures.scoring.verdict import OK, unanimous


def arm(name, items):
    judgements = {i: unanimous(OK) for i in items}
    return Measured("seen_tools", name, judgements, {i: k for k, i in enumerate(items)}, 0, 0, 0, (), {}, None)


def test_two_arms_are_compared_on_the_same_items_only():
    assert "0 fixed, 0 broken of 2" in paired(arm("base", "ab"), arm("sft-all_patterns-s0", "ab"))
    for before, after in (("abc", "ab"), ("ab", "abc")):
        with pytest.raises(ValueError, match="needs the same items"):
            paired(arm("base", before), arm("sft-all_patterns-s0", after))
