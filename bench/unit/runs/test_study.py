"""`make study`: what it does in which order, and when it refuses to go on."""

from dataclasses import replace

import pytest

from fixtures import study
from fixtures.arms import Arm
from fixtures.runs.session import Requirement


def test_the_queue_begins_with_whole_methods():
    claims = study.claims_of(study.STUDY)
    ids = study.in_turn(claims)
    assert sorted(ids) == sorted(claims)
    methods = list(dict.fromkeys(str(arm) for name in ids for arm in claims[name].arms))
    assert set(methods[:2]) == {"base", "sft"}
    assert methods[2 : len(study.FIRST)] == list(study.FIRST[2:])


@pytest.fixture
def parts(monkeypatch):
    """Three parts; those that were made, and the commit, which a test may change in between."""
    state = {"commit": "a", "changed": [], "made": []}
    monkeypatch.setattr(study.provenance, "uncommitted", lambda _: state["changed"])
    monkeypatch.setattr(study.provenance, "git", lambda *_: state["commit"])
    monkeypatch.setattr(study.blas, "preload_for_command", lambda _: None)
    monkeypatch.setattr(study, "_results", lambda one, bench: state["made"].append(one.fold))
    return state


LEFT = [Requirement(Arm("base"), "seen_tools", "plain", fold) for fold in range(3)]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("commit", "b", "the commit has changed"), ("changed", ["fixtures/x.py"], r"commit or remove fixtures/x\.py")],
)
def test_results_never_come_from_other_code_than_their_provenance_says(parts, monkeypatch, name, value, message):
    """Past bug: the checkout was looked at once, at the start of many hours."""

    def make(one, bench):
        parts["made"].append(one.fold)
        parts[name] = value

    monkeypatch.setattr(study, "_results", make)
    with pytest.raises(SystemExit, match=message):
        study.run(LEFT, study.STUDY, None)
    assert parts["made"] == [0]


def test_all_parts_are_made_in_turn(parts):
    study.run(LEFT, study.STUDY, None)
    assert parts["made"] == [0, 1, 2]


def test_methods_without_a_searched_rate_are_named():
    needed = study.queue(study.claims_of(study.STUDY).values())
    untuned = study.untuned_methods(needed, study.STUDY)
    assert "sft" not in untuned
    assert set(untuned) | {"sft"} >= {"dpo", "rft", "grpo"} - set(study.scale_of(study.STUDY).tuned)
    assert study.untuned_methods(needed, replace(study.STUDY, model="smollm2_135m")) == []
