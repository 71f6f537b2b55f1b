"""Runs over folds (scale study): each fold has its own items, and a claim is decided over all of them together."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fixtures.arms import Arm
from fixtures.config import Options
from fixtures.data.folds import FOLDS, load_folds
from fixtures.runs import evidence
from fixtures.runs.ledger import NotRecordedError, RecordingError
from fixtures.runs.registered import load_claims
from fixtures.runs.session import Bench, Requirement
from fixtures.storage.files import ROOT


@pytest.fixture
def study():
    return Bench(Options(scale="study", seeds=tuple(range(FOLDS)), replay=True))


def test_each_fold_has_its_own_items_and_shares_the_examples(study, examples):
    study.items.__dict__["examples"] = examples
    folds = [study.fold(f) for f in range(FOLDS)]
    assert folds[0] is study
    assert study.fold(3) is folds[3]
    unseen = [i for fold in folds for i in fold.items.test_ids("unseen_tools")]
    assert sorted(unseen) == sorted(examples)
    for number, (fold, partition) in enumerate(zip(folds, load_folds(), strict=True)):
        assert fold.seed == number
        assert fold.items.examples is examples
        assert fold.items.training_ids("all_patterns") == partition.train[:400]
        assert not {i for i in fold.items.training_ids("no_parallel_multiple") if i.startswith("parallel_multiple")}
        assert set(fold.items.test_ids("unseen_patterns")) == {
            i for i in (*partition.seen_tools, *partition.unseen_tools) if i.startswith("parallel_multiple")
        }


def test_smaller_training_sets_are_nested(study, examples):
    study.items.__dict__["examples"] = examples
    sizes = []
    for n in (100, 200, 400):
        study.items.scale = replace(study.scale, train_examples=n)
        sizes.append(study.items.training_ids("all_patterns"))
    assert [len(ids) for ids in sizes] == [100, 200, 400]
    assert sizes[2][:200] == sizes[1]
    assert sizes[1][:100] == sizes[0]


@pytest.fixture
def scored(study, examples, monkeypatch):
    """Arms whose answers are known: SFT fixes each second item, and in fold 4 each first one."""
    study.items.__dict__["examples"] = examples

    def scores(bench, claim, name, fold):
        if fold in absent:
            raise NotRecordedError(f"fold {fold}")
        ids = bench.items.test_ids(claim.split)
        every = 1 if fold == 4 else 2
        return {i: float(name.method == "sft" and k % every == 0) for k, i in enumerate(ids)}

    absent = set()
    monkeypatch.setattr(evidence, "_scores", scores)
    return absent


def test_a_claim_is_measured_over_all_items_of_all_folds(study, scored):
    claim = load_claims()["folds_sft_reaches_unseen_tools"]
    measured = evidence.measure(study, claim)
    contrast = measured.contrast
    assert (contrast.items, contrast.trainings, measured.seeds) == (1000, 5, [0, 1, 2, 3, 4])
    assert contrast.difference == pytest.approx(0.6)
    assert measured.correct == (600, 0)
    assert np.bincount(contrast.folds).tolist() == [200] * 5
    assert contrast.error[0] > 0.05  # the folds differ
    ((finding),) = evidence.findings(study, [claim]).values()
    assert "n=1000, 5 folds" in str(finding)


def test_a_claim_is_not_looked_at_before_all_its_folds_are_there(study, scored):
    scored.add(3)
    with pytest.raises(NotRecordedError, match="fold 3"):
        evidence.measure(study, load_claims()["folds_sft_reaches_unseen_tools"])
    assert evidence.findings(study, [load_claims()["folds_sft_reaches_unseen_tools"]]) == {}
    three = replace(load_claims()["folds_sft_reaches_unseen_tools"], folds=3)
    assert evidence.measure(study, three).contrast.items == 600


def test_a_session_measures_the_claims_about_its_model(study):
    claims = list(load_claims().values())
    about = {model: evidence.about(replace(study.scale, model=model), claims) for model in (study.scale.model, "mine")}
    assert about["mine"] == about[study.scale.model]
    assert not any(claim.model for claim in about["mine"])
    assert all(claim.folds for claim in about["mine"])
    small = evidence.about(replace(study.scale, model="smollm2_135m"), claims)
    assert {claim.model for claim in small} == {"smollm2_135m"}
    assert not any(claim.folds for claim in evidence.about(replace(study.scale, folds=False), claims))
    assert evidence.measurable(study, claims) == about["mine"]
    live = Bench(replace(study.options, replay=False))
    assert {live.run in claim.found for claim in evidence.measurable(live, claims)} == {True}


def test_log_probabilities_of_another_adapter_are_refused_before_they_are_computed(study, examples, monkeypatch):
    """Past bug: only completions were compared, and a replay noticed after hours."""
    study.items.__dict__["examples"] = examples
    study.options = replace(study.options, record=True)
    asked = []

    def refuse(arm, name, labels):
        asked.append((name, len(labels)))
        raise RecordingError("another adapter")

    monkeypatch.setattr(study, "_refuse_mixing", refuse)
    with pytest.raises(RecordingError, match="another adapter"):
        study.gold_logprobs(Arm("sft", "no_parallel_multiple", 0), "unseen_patterns")
    assert asked == [("graded/sft-no_parallel_multiple-s0", len(study.items.test_ids("unseen_patterns")))]


@pytest.mark.parametrize("recorded", ["dpo-all_patterns-s0", "graded/sft-all_patterns-s0", "sft-all_patterns-s0"])
def test_another_adapter_is_refused_before_anything_is_generated(study, examples, tmp_path, monkeypatch, recorded):
    """Past bug: only the arm's own file was looked at, and a replay noticed after hours of sampling."""
    study.items.__dict__["examples"] = examples
    study.recorded.folder = tmp_path
    training = {"model": "m", "weights": {"sft-all_patterns-s0": "lost", "dpo-all_patterns-s0": "other"}}
    (tmp_path / "run.json").write_text(json.dumps({recorded: {"training": training}}))
    (tmp_path / f"{recorded}.jsonl").parent.mkdir(exist_ok=True)
    (tmp_path / f"{recorded}.jsonl").write_text("")
    sft, weights = Arm("sft", "all_patterns", 0), {"sft-all_patterns-s0": "lost"}
    live = SimpleNamespace(identity=lambda arm: {"model": "m", "weights": weights})
    monkeypatch.setattr(Bench, "live", property(lambda bench: live))
    study._refuse_mixing(sft, str(sft), ["item"])
    weights["sft-all_patterns-s0"] = "trained again"
    with pytest.raises(RecordingError, match=f"another adapter behind sft-all_patterns-s0: {recorded}"):
        study._refuse_mixing(sft, str(sft), ["item"])


def test_requirements_of_the_base_model_differ_by_fold():
    assert Requirement(Arm("base"), "seen_tools", "plain", 0) != Requirement(Arm("base"), "seen_tools", "plain", 1)


def callbench(*arguments):
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_the_base_model_is_tested_in_each_fold():
    run = callbench("--scale", "study", "--fold", "0,1", "-k", "generalization", "--collect-only", "-q")
    assert run.stdout.count("-base-") == run.stdout.count("-sft-") == 6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--scale", "study", "--seed", "1"), "the folds are the seeds"),
        (("--fold", "1"), "--fold needs a scale with folds"),
        (("--scale", "study", "--fold", "5"), "needs folds from 0 to 4"),
        (("--scale", "study", "--data", str(ROOT / "data" / "office.jsonl")), "--data needs a scale without folds"),
    ],
)
def test_bad_options_are_refused(given, message):
    run = callbench(*given)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in run.stderr
