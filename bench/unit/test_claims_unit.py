"""Outcomes of claims: hand-made results, and the file that is edited by hand."""

from dataclasses import replace

import numpy as np
import pytest

from fixtures.claims import ArmName, Claim, ClaimError, Measured, decide, load_claims
from fixtures.contrast import Contrast
from fixtures.methods import METHODS
from fixtures.regimes import REGIMES, SPLITS
from fixtures.scaffolds import SCAFFOLDS

CLAIM = Claim("dpo_helps", "", "", "dpo", "sft", "seen_tools", "accuracy", "more", "study", "2026-11-25")


def measured(fixed, broken, items, right=100):
    values = np.zeros((1, items))
    values[0, :fixed], values[0, fixed : fixed + broken] = 1, -1
    return Measured(Contrast(values, range(items)), (right + fixed - broken, right))


@pytest.mark.parametrize(
    ("says", "fixed", "broken", "items", "outcome"),
    [
        ("more", 46, 0, 193, "SUPPORTED"),
        ("more", 0, 46, 193, "REFUTED"),
        ("less", 0, 46, 193, "SUPPORTED"),
        ("less", 46, 0, 193, "REFUTED"),
        ("more", 13, 11, 300, "UNRESOLVED"),
        ("more", 60, 62, 20_000, "EQUIVALENT"),
        ("same", 60, 62, 20_000, "SUPPORTED"),
        ("same", 46, 0, 193, "REFUTED"),
        ("same", 13, 11, 300, "UNRESOLVED"),
        ("same", 9, 0, 300, "UNRESOLVED"),  # there is a difference, perhaps within the margin
    ],
)
def test_the_outcome_of_one_claim(says, fixed, broken, items, outcome):
    claim = replace(CLAIM, says=says)
    assert decide([claim], {claim.id: measured(fixed, broken, items)})[claim.id].outcome == outcome


def test_an_unresolved_comparison_reads_like_the_studys():
    text = str(decide([CLAIM], {CLAIM.id: measured(13, 11, 300)})[CLAIM.id])
    assert "dpo - sft on seen_tools = +0.7 pts [-2.6, +3.9], b=13 c=11, n=300, 1 seed" in text
    assert "McNemar 0.84" in text
    assert "MDE 4.6" in text
    assert "UNRESOLVED (needs about 14," in text


def test_claims_that_were_not_measured_still_count_in_their_family():
    others = [replace(CLAIM, id=f"other_{k}") for k in range(7)]
    alone = decide([CLAIM], {CLAIM.id: measured(16, 5, 300)})[CLAIM.id]
    together = decide([CLAIM, *others], {CLAIM.id: measured(16, 5, 300)})[CLAIM.id]
    assert alone.outcome == "SUPPORTED"
    assert together.adjusted == pytest.approx(8 * alone.adjusted)
    assert together.outcome == "UNRESOLVED"


@pytest.mark.parametrize("says", ["more", "same"])
def test_two_arms_at_the_floor_decide_nothing(says):
    claim = replace(CLAIM, says=says)
    found = decide([claim], {claim.id: measured(4, 0, 20_000, right=0)})[claim.id]
    assert found.outcome == "UNRESOLVED"
    assert "graded metric" in str(found)


def test_every_registered_claim_names_arms_that_exist():
    for claim in load_claims().values():
        assert claim.split in SPLITS
        for arm in claim.arms:
            assert arm.method in METHODS
            assert arm.regime in ("", *REGIMES)
            assert arm.scaffold in SCAFFOLDS


@pytest.mark.parametrize(
    ("text", "arm"),
    [
        ("sft", ArmName("sft")),
        ("sft@four_320", ArmName("sft", "four_320")),
        ("base+few_shot", ArmName("base", "", "few_shot")),
        ("sft@four_320+repair", ArmName("sft", "four_320", "repair")),
    ],
)
def test_arms_are_named_by_method_regime_and_scaffold(text, arm):
    assert ArmName.parse(text) == arm


def test_all_bad_claims_are_reported_at_once(tmp_path):
    path = tmp_path / "claims.toml"
    good = 'text=""\nsource=""\nwith="a"\nwithout="b"\nsplit="s"\nfamily="f"\nregistered=2026-11-25\n'
    path.write_text(f'[a]\n{good}metric="speed"\nsays="more"\n[b]\n{good}metric="nats"\n[c.found.run]\noutcome="YES"\n')
    with pytest.raises(ClaimError, match=r"a: metric is 'speed', expected one of accuracy, nats; b: .*says.*; c: "):
        load_claims(path)
