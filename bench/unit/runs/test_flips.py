"""The diff lists the verdicts that changed between two arms, folders or commits."""

import pytest

from fixtures.arms import Completion, Recording
from fixtures.runs import flips, ledger
from fixtures.scoring.verdict import OK, Judgement, Verdict, unanimous

WRONG = Verdict("argument_value", "x")
LATER = {"item_0": unanimous(OK), "item_1": Judgement(WRONG, OK, WRONG), "item_2": Judgement(WRONG, OK, OK)}


def record(folder, arm, judgements):
    answers = {i: Completion(i, "hash", "[]", 3, "stop") for i in judgements}
    ledger.record_completions(folder, Recording.parse(arm), answers, judgements, {})


def test_flips_are_reported_by_scorer_and_reason():
    before = {f"item_{i}": unanimous(OK).reasons for i in range(3)}
    after = {i: judgement.reasons for i, judgement in LATER.items()}
    first, *rest = flips.render("sft", before, after).splitlines()
    assert first.startswith("sft: 2 of 3 items flipped; strict: -66.7 pts")
    assert "0 fixed, 2 broken of 3" in first
    assert rest == [
        "  strict, equivalent: ok → argument_value (1): item_1",
        "  strict: ok → argument_value (1): item_2",
    ]
    assert flips.render("sft", before, before) == ""


def test_two_arms_of_a_run_are_compared_on_the_items_they_share(tmp_path, monkeypatch):
    monkeypatch.setattr(flips, "RESULTS", tmp_path)
    record(tmp_path / "run", "base", {i: unanimous(OK) for i in (*LATER, "other")})
    record(tmp_path / "run", "sft", LATER)
    assert "base → sft: 2 of 3 items flipped" in flips.between("base", "sft", "run")


def test_two_folders_are_compared_arm_by_arm(tmp_path):
    for name, judgements in {"a": dict.fromkeys(LATER, unanimous(OK)), "b": LATER}.items():
        record(tmp_path / name, "base", judgements)
        record(tmp_path / name, "sft", judgements if name == "a" else dict.fromkeys(LATER, unanimous(OK)))
    text = flips.between(str(tmp_path / "a"), str(tmp_path / "b"), "run")
    assert "base: 2 of 3 items flipped" in text
    assert text.splitlines()[-1] == "sft: no flips"


def test_a_commit_has_no_flips_against_itself():
    """Read with git, from a run that this repository has recorded for a long time."""
    text = flips.between("HEAD", "HEAD", "smollm2_135m-smoke")
    assert "base: no flips" in text.splitlines()


def test_the_error_for_an_unknown_name_lists_what_it_could_be(tmp_path):
    with pytest.raises(ledger.RecordingError, match="'nothing' is no arm recorded in results/run/, no folder"):
        flips.between("nothing", str(tmp_path), "run")
