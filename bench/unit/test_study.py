"""The study's queue: what the registered claims need, in their order, until everything is recorded."""

import time
from dataclasses import replace

import pytest

from fixtures import config, study
from fixtures.modeling.cpu import blas
from fixtures.runs import evidence, provenance
from fixtures.runs.ledger import NotRecordedError, RecordingError

REGISTERED = study.claims_of(study.STUDY)
CLAIMS = [REGISTERED[name] for name in study.in_turn(REGISTERED)]
QUEUE = study.queue(CLAIMS)


class Recordings:
    """A session that knows what was recorded, and records what it is asked for."""

    def __init__(self, error=NotRecordedError):
        self.known, self.error = set(), error
        self.at, self.recording = 0, False

    def fold(self, fold):
        self.at = fold
        return self

    def judgements(self, arm, split, scaffold):
        self._result((arm, split, scaffold, self.at))

    def gold_logprobs(self, arm, split):
        self._result((arm, split, None, self.at))

    def _result(self, key):
        if self.recording:
            self.known.add(key)
        elif key not in self.known:
            raise self.error("not recorded")


def test_the_queue_has_both_arms_of_each_claim_in_each_of_its_folds():
    assert len(QUEUE) == len(set(QUEUE))
    for claim in CLAIMS:
        for fold in range(claim.folds):
            arms = {one.arm for one in QUEUE if (one.split, one.fold) == (claim.split, fold)}
            assert arms >= {evidence.arm_in(claim, name, fold) for name in claim.arms}


def test_the_queue_begins_with_whole_methods():
    assert sorted(claim.id for claim in CLAIMS) == sorted(REGISTERED)
    names = list(dict.fromkeys(str(arm) for claim in CLAIMS for arm in claim.arms))
    assert set(names[:2]) == {"base", "sft"}
    assert names[2 : len(study.FIRST)] == list(study.FIRST[2:])


def test_the_first_claims_are_decided_first_and_an_arm_follows_the_one_that_it_is_compared_with():
    names = [(one.arm.method, one.split) for one in QUEUE]
    first = CLAIMS[0]
    assert names[0] == (first.arms[1].method, first.split)
    assert names.index(("dpo", "seen_tools")) > names.index(("sft", "unseen_patterns"))
    assert names.index(("sft", "seen_tools")) < names.index(("dpo", "seen_tools"))


def test_the_queue_of_chosen_claims_has_only_what_these_need_in_their_order():
    last, first = REGISTERED["folds_sft_raises_f1_on_unseen_patterns"], CLAIMS[0]
    expected = [(claim.split, fold) for claim in (last, first) for fold in range(claim.folds) for _ in claim.arms]
    assert [(one.split, one.fold) for one in study.queue([last, first])] == expected


def test_a_claim_that_is_not_over_folds_cannot_be_chosen(capsys):
    for ids in ("sft_helps", f"{CLAIMS[0].id},nonsense", ""):
        with pytest.raises(SystemExit):
            study.main(["--status", "--claims", ids])
        assert "expected of folds_sft_helps, " in capsys.readouterr().err


@pytest.mark.parametrize("error", [NotRecordedError, RecordingError])
def test_what_is_missing_or_incomplete_is_left(error):
    recordings = Recordings(error)
    assert study.missing(QUEUE, recordings) == QUEUE
    done = QUEUE[3]
    recordings.known.add(tuple(done))
    assert study.missing(QUEUE, recordings) == [one for one in QUEUE if one != done]


def test_a_stopped_study_continues_where_it_was(monkeypatch):
    recordings = Recordings()
    monkeypatch.setattr(study, "Bench", lambda options: recordings)
    monkeypatch.setattr(blas, "preload_for_command", lambda _: None)
    monkeypatch.setattr(provenance, "uncommitted", lambda _: [])
    recordings.recording = True
    study.run(QUEUE[:7], study.STUDY, None)
    study.run(QUEUE[7:9], study.STUDY, time.monotonic() - 1)  # the time is over
    recordings.recording = False
    assert study.missing(QUEUE, recordings) == QUEUE[7:]


def test_nothing_is_recorded_by_uncommitted_code(monkeypatch):
    monkeypatch.setattr(provenance, "uncommitted", lambda _: ["fixtures/arms.py"])
    monkeypatch.setattr(study, "recorded_study", lambda options: Recordings())
    with pytest.raises(SystemExit, match=r"commit or remove fixtures/arms\.py"):
        study.main([])


@pytest.mark.parametrize(("changed", "message"), [
    (("git", "b"), "the commit has changed"),
    (("uncommitted", ["fixtures/x.py"]), r"commit or remove fixtures/x\.py"),
])  # fmt: skip
def test_no_result_comes_from_other_code_than_its_provenance_says(monkeypatch, changed, message):
    """Past bug: the checkout was looked at once, at the start of many hours."""
    answers, made = {"git": "a", "uncommitted": []}, []

    def make(one, bench):
        made.append(one)
        answers.update([changed])

    monkeypatch.setattr(provenance, "uncommitted", lambda _: answers["uncommitted"])
    monkeypatch.setattr(provenance, "git", lambda *_: answers["git"])
    monkeypatch.setattr(blas, "preload_for_command", lambda _: None)
    monkeypatch.setattr(study, "_results", make)
    with pytest.raises(SystemExit, match=message):
        study.run(QUEUE[:3], study.STUDY, None)
    assert made == QUEUE[:1]


def test_a_deadline_is_refused_on_a_cluster_instead_of_being_ignored(capsys):
    with pytest.raises(SystemExit):
        study.main(["--hours", "2", "--cluster", "local:2"])
    assert "--hours and --cluster exclude each other" in capsys.readouterr().err


def test_methods_whose_rates_were_not_searched_are_left_out(monkeypatch, capsys):
    made = []
    monkeypatch.setattr(provenance, "uncommitted", lambda _: [])
    monkeypatch.setattr(study, "recorded_study", lambda options: Recordings())
    monkeypatch.setattr(study, "run", lambda left, options, deadline: made.extend(left))
    monkeypatch.setattr(study, "status", lambda needed, left, options: "")
    monkeypatch.setitem(config.SCALES, "study", replace(config.SCALES["study"], tuned={"sft": {}, "grpo": {}}))
    study.main([])
    assert {one.arm.method for one in made} == {"base", "sft", "grpo"}
    assert made == [one for one in QUEUE if one.arm.method in {"base", "sft", "grpo"}]
    assert "are searched: second_epoch, dpo, rft, grpo_exact. `pytest" in capsys.readouterr().out


def test_a_size_of_model_that_claims_name_has_a_queue_of_its_own(monkeypatch):
    small = replace(study.STUDY, model="smollm2_135m")
    named = study.claims_of(small)
    assert {claim.model for claim in named.values()} == {"smollm2_135m"}
    assert not named.keys() & study.claims_of(study.STUDY).keys()
    assert study.claims_of(replace(study.STUDY, model="a/users-own")).keys() == study.claims_of(study.STUDY).keys()
    queue = study.queue(named.values())
    assert study.untuned_methods(queue, small) == []  # the rate that was searched elsewhere is no other model's
    made = []
    monkeypatch.setattr(study, "recorded_study", lambda options: Recordings())
    monkeypatch.setattr(study, "status", lambda needed, left, options: made.extend((needed, options.model)))
    study.main(["--model", "smollm2_135m", "--status"])
    assert made == [queue, "smollm2_135m"]
