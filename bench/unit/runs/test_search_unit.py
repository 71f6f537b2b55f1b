"""Which candidate for a method's hyper-parameters won."""

import pytest

from fixtures.arms import Arm
from fixtures.runs import search


def candidate(lr, **seeds):
    """What it reached: right answers and mean reward by seed."""
    return {
        seed.removeprefix("s"): {"right": right, "mean_reward": mean, "training": {"hyper": {"lr": lr}}}
        for seed, (right, mean) in seeds.items()
    }


SEARCHED = [candidate(1, s0=(13, 0.4)), candidate(2, s0=(15, 0.5), s1=(3, 0.1)), candidate(3, s1=(12, 0.4))]


@pytest.mark.parametrize(("lr", "won"), [(3, True), (2, False), (1, False), (4, False)])
def test_a_winner_of_a_later_seed_beats_those_that_the_earlier_winner_beat(lr, won):
    assert search.won(SEARCHED, {"lr": lr}) == won


def test_a_seed_that_one_candidate_alone_has_decides_nothing():
    """Found: it would have won by being tried once more."""
    again = [SEARCHED[0] | candidate(1, s7=(72, 1.0)), *SEARCHED[1:]]
    assert search.won(again, {"lr": 3})
    assert not search.won(again, {"lr": 1})


def test_of_equally_many_right_answers_the_mean_reward_decides():
    close = [candidate(1, s0=(13, 0.4)), candidate(2, s0=(13, 0.5))]
    assert [search.won(close, {"lr": lr}) for lr in (1, 2)] == [False, True]


def test_what_a_candidate_reached_is_kept_by_method_change_and_seed(tmp_path):
    for seed in (0, 1):
        search.record(tmp_path, Arm("dpo", "all_patterns", seed), {"lr": 1e-5}, {"right": seed})
    found = search.recorded(tmp_path)["dpo"]['{"lr": 1e-05}']
    assert {seed: one["right"] for seed, one in found.items()} == {"0": 0, "1": 1}
    assert "commit" in found["0"]["provenance"]
