"""Outcomes of claims on hand-made results, and validation of claims.toml, which is edited by hand."""

from dataclasses import replace

import numpy as np
import pytest

from fixtures.arms import ArmName
from fixtures.data.regimes import REGIMES, SPLITS
from fixtures.generation.scaffolds import SCAFFOLDS
from fixtures.modeling.registry import MODELS
from fixtures.runs.registered import ClaimError, load_claims
from fixtures.stats.claims import Claim, Measured, decide
from fixtures.stats.contrast import Contrast
from fixtures.stats.power import power_over_folds
from fixtures.training.methods import METHODS

CLAIM = Claim("dpo_helps", "", "", "dpo", "sft", "seen_tools", "accuracy", "more", "study", "2026-11-25")


def measured(fixed, broken, items, correct=100):
    values = np.zeros((1, items))
    values[0, :fixed], values[0, fixed : fixed + broken] = 1, -1
    return Measured(Contrast(values, range(items)), [0], (correct + fixed - broken, correct))


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
        ("same", 9, 0, 300, "UNRESOLVED"),  # the arms differ, but perhaps by less than the margin
    ],
)
def test_the_outcome_of_one_claim(says, fixed, broken, items, outcome):
    claim = replace(CLAIM, says=says)
    assert decide([claim], {claim.id: measured(fixed, broken, items)})[claim.id].outcome == outcome


def test_an_unresolved_claim_is_reported_with_the_studys_numbers():
    text = str(decide([CLAIM], {CLAIM.id: measured(13, 11, 300)})[CLAIM.id])
    assert "dpo - sft on seen_tools = +0.7 pts [-2.6, +3.9], b=13 c=11, n=300, 1 seed" in text
    assert "McNemar 0.84" in text
    assert "MDE 4.7" in text
    assert "1 seed (the interval excludes the variance between trainings)" in text
    assert "UNRESOLVED (a difference of 2 pts needs about 1,6" in text  # for the registered effect, not for +0.7


def test_unmeasured_claims_count_in_the_correction_of_their_family():
    others = [replace(CLAIM, id=f"other_{k}") for k in range(7)]
    alone = decide([CLAIM], {CLAIM.id: measured(16, 5, 300)})[CLAIM.id]
    together = decide([CLAIM, *others], {CLAIM.id: measured(16, 5, 300)})[CLAIM.id]
    assert alone.outcome == "SUPPORTED"
    assert together.adjusted == pytest.approx(8 * alone.adjusted)
    assert together.outcome == "UNRESOLVED"


@pytest.mark.parametrize("says", ["more", "same"])
def test_a_claim_about_two_arms_at_the_floor_is_unresolved(says):
    """More seeds do not change this. Past bug: 2, 2 and 1 correct answers counted as 5."""
    claim = replace(CLAIM, says=says)
    one_seed = measured(4, 0, 20_000, correct=0)
    differences = np.repeat(one_seed.contrast.differences, 3, axis=0)
    three_seeds = Measured(Contrast(differences, range(20_000)), [0, 1, 2], (12, 0))
    for each in (one_seed, three_seeds):
        finding = decide([claim], {claim.id: each})[claim.id]
        assert finding.outcome == "UNRESOLVED"
        assert "graded metric" in str(finding)


def test_a_claim_of_equivalence_is_corrected_for_multiple_tests():
    """Past bug: a claim that was not significant after Holm's correction was called EQUIVALENT by its uncorrected p."""
    same, others = replace(CLAIM, says="same"), [replace(CLAIM, id=f"other_{k}") for k in range(40)]
    assert decide([same], {same.id: measured(10, 11, 600)})[same.id].outcome == "SUPPORTED"
    assert decide([same, *others], {same.id: measured(10, 11, 600)})[same.id].outcome == "UNRESOLVED"


def test_a_claim_that_no_number_of_items_can_resolve_needs_seeds():
    """Past bug: for seeds that disagree more than they agree, the outcome said that 85,357 items were needed."""
    rng = np.random.default_rng(0)
    values = (rng.random((3, 200)) < np.array([[0.05], [0.15], [0.1]])).astype(float) - (rng.random((3, 200)) < 0.05)
    text = str(decide([CLAIM], {CLAIM.id: Measured(Contrast(values, range(200)), [0, 1, 2], (100, 100))})[CLAIM.id])
    assert "UNRESOLVED (a difference of 2 pts needs more items and more seeds)" in text


def test_every_registered_claim_names_arms_and_models_that_exist():
    for claim in load_claims().values():
        assert claim.split in SPLITS
        assert claim.model in ("", *MODELS)
        for arm in claim.arms:
            assert arm.method in METHODS
            assert arm.regime in ("", *REGIMES)
            assert arm.scaffold in SCAFFOLDS


OVER_FOLDS = [claim for claim in load_claims().values() if claim.folds]
ITEMS = {"seen_tools": 653, "unseen_tools": 1000}  # over all folds


@pytest.mark.parametrize("claim", [c for c in OVER_FOLDS if c.says == "same"], ids=lambda claim: claim.id)
def test_a_claim_of_equivalence_over_folds_has_the_smallest_margin_with_power(claim):
    """In steps of half a point, at no difference, from the discordance and adapters' SD that were recorded before."""
    power = [
        power_over_folds(ITEMS[claim.split], claim.folds, claim.discordance, claim.adapter_sd, margin / claim.unit)
        for margin in (claim.margin, claim.margin - 0.5)
    ]
    assert power[0] >= 0.8 > power[1]


def test_families_are_about_runs_with_folds_or_without():
    families = {}
    for claim in load_claims().values():
        families.setdefault(claim.family, set()).add(bool(claim.folds))
    assert all(len(kinds) == 1 for kinds in families.values())


def test_equivalence_over_folds_needs_what_its_power_rests_on(tmp_path):
    path = tmp_path / "claims.toml"
    path.write_text('[a]\ntext=""\nsource=""\nwith="dpo"\nwithout="sft"\nsplit="seen_tools"\nfamily="f"\nfolds=5\n'
                    'registered=2026-11-28\nmetric="accuracy"\nsays="same"\n')  # fmt: skip
    with pytest.raises(ClaimError, match="needs the discordance and adapter_sd"):
        load_claims(path)


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
    good = 'text=""\nsource=""\nwith="a"\nwithout="b"\nsplit="seen_tools"\nfamily="f"\nregistered=2026-11-25\n'
    texts = [
        f'[a]\n{good}metric="speed"\nsays="more"', f'[b]\n{good}metric="accuracy"', '[c.found.run]\noutcome="YES"',
        f'[d]\n{good}metric="nats"\nsays="more"',
        f'[e]\n{good}metric="accuracy"\nsays="more"'.replace("seen_tools", "seen_tool"),
        f'[f]\n{good}metric="accuracy"\nsays="more"'.replace('"a"', '"a@four+repair"'),
        f'[g]\n{good}metric="accuracy"\nsays="more"'.replace('"b"', '"b+fix"'),
        f'[h]\n{good}metric="accuracy"\nsays="same"\nmargin="2 points"',
        f'[i]\n{good}metric="accuracy"\nsays="same"\nmargin=-2',
        f'[j]\n{good}metric="accuracy"\nsays="same"\nmargin=nan',
        f'[k]\n{good}metric="accuracy"\nsays="more"'.replace('"a"', "5"),
    ]  # fmt: skip
    path.write_text("\n".join(texts))
    pattern = (
        r"a: metric is 'speed', expected one of accuracy, f1, nats; b: .*says.*; c: .*; d: .*needs a margin in nats.*"
    )
    pattern += "e: split is 'seen_tool', expected one of seen_tools, .*f: regime is 'four', .*g: scaffold is 'fix', .*"
    pattern += "h: margin is '2 points', expected a number above 0; i: margin is -2, .*; j: margin is nan, .*; k: "
    with pytest.raises(ClaimError, match=pattern):
        load_claims(path)
