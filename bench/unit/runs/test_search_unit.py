"""Hyper-parameter search: which candidate won, and how results are recorded."""

import pytest

from fixtures.arms import Arm
from fixtures.runs import search


def candidate(lr, **seeds):
    """A candidate's results by seed: the number of correct answers, and the mean reward."""
    return {
        seed.removeprefix("s"): {"right": correct, "mean_reward": mean, "training": {"hyper": {"lr": lr}}}
        for seed, (correct, mean) in seeds.items()
    }


SEARCHED = [candidate(1, s0=(13, 0.4)), candidate(2, s0=(15, 0.5), s1=(3, 0.1)), candidate(3, s1=(12, 0.4))]


@pytest.mark.parametrize(("lr", "won"), [(3, True), (2, False), (1, False), (4, False)])
def test_beating_the_earlier_winner_on_a_later_seed_beats_its_opponents_too(lr, won):
    assert search.won(SEARCHED, {"lr": lr}) == won


def test_a_seed_that_only_one_candidate_has_decides_nothing():
    """Past bug: the candidate would have won because it was tried with one more seed."""
    again = [SEARCHED[0] | candidate(1, s7=(72, 1.0)), *SEARCHED[1:]]
    assert search.won(again, {"lr": 3})
    assert not search.won(again, {"lr": 1})


def test_the_mean_reward_breaks_ties_in_correct_answers():
    close = [candidate(1, s0=(13, 0.4)), candidate(2, s0=(13, 0.5))]
    assert [search.won(close, {"lr": lr}) for lr in (1, 2)] == [False, True]


def test_results_are_recorded_by_method_candidate_and_seed(tmp_path):
    for seed in (0, 1):
        search.record(tmp_path, Arm("dpo", "all_patterns", seed), {"lr": 1e-5}, {"right": seed})
    results = search.recorded(tmp_path)["dpo"]['{"lr": 1e-05}']
    assert {seed: result["right"] for seed, result in results.items()} == {"0": 0, "1": 1}
    assert "commit" in results["0"]["provenance"]


def over_folds(*f1):
    return {fold: {"f1": {"value": value}} for fold, value in zip(search.FOLDS, f1, strict=False)}


def test_the_study_takes_the_highest_mean_f1_over_its_folds_not_that_of_one_of_them():
    candidates = {"low": over_folds(0.5, 0.6), "middle": over_folds(0.6, 0.61), "high": over_folds(0.3, 0.9)}
    assert search.best(candidates) == "middle"


def test_what_the_studys_search_lacks_is_named_by_candidate_and_fold():
    candidates = {"low": over_folds(0.5, 0.6), "high": over_folds(0.3)}
    assert search.missing(candidates, ["low", "high", "none"]) == ["high, fold 1", "none, fold 0", "none, fold 1"]
    assert not search.missing(candidates, ["low"])
