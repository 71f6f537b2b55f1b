"""The diff lists the verdicts that changed between two arms, folders or commits."""

import json

import pytest

from fixtures.arms import Completion, Recording
from fixtures.runs import flips, ledger
from fixtures.scoring.verdict import OK, Judgement, Verdict, unanimous
from fixtures.storage.files import ROOT

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


def test_what_only_one_side_has_is_listed(tmp_path):
    """Past bug: a diff of two folders kept silent about items and arms that one of them lacks."""
    for name, arms in {"a": {"base": ["x", "y"], "sft": ["x"]}, "b": {"base": ["y", "z"], "rft": ["x"]}}.items():
        for arm, ids in arms.items():
            record(tmp_path / name, arm, dict.fromkeys(ids, unanimous(OK)))
    lines = flips.between(str(tmp_path / "a"), str(tmp_path / "b"), "run").splitlines()
    assert lines == [
        "base: no flips", f"  only in {tmp_path / 'a'} (1): x", f"  only in {tmp_path / 'b'} (1): z",
        f"only in {tmp_path / 'a'}: sft", f"only in {tmp_path / 'b'}: rft",
    ]  # fmt: skip


def test_control_characters_of_a_ledger_are_shown_as_escapes(tmp_path):
    """Past bug: escape sequences in a recorded reason, or in an item's id, reached the terminal raw."""
    for name in "ab":
        (tmp_path / name).mkdir()
        row = {
            "id": "i\x1b[2J",
            "prompt": "p",
            "text": "",
            "tokens": 1,
            "finish": "stop",
            "strict": f"{name}\x1b]0;x\x07",
        }
        (tmp_path / name / "base.jsonl").write_text(json.dumps(row) + "\n")
    text = flips.between(str(tmp_path / "a"), str(tmp_path / "b"), "run")
    assert "strict: a\\x1b]0;x\\x07 → b\\x1b]0;x\\x07 (1): i\\x1b[2J" in text
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("option", ["--output=stolen", "-o", "--remote=x"])
def test_a_name_that_begins_with_a_dash_is_no_option_of_git(option, tmp_path):
    """Past bug: `report diff -- --output=FILE HEAD` wrote a file."""
    with pytest.raises(ledger.RecordingError, match="no commit with that run"):
        flips.between(option, "HEAD", "smollm2_135m-smoke")
    assert not (ROOT / "stolen").exists()


def test_the_error_for_an_unknown_name_lists_what_it_could_be(tmp_path):
    with pytest.raises(ledger.RecordingError, match="'nothing' is no arm recorded in results/run/, no folder"):
        flips.between("nothing", str(tmp_path), "run")
