"""Which hyper-parameters? A small search on the development split, with the same budget for every method.

`pytest bench --search sft` trains each candidate and writes results/<run>/search.json. The winner is the one with
the most right answers, ties broken by the mean reward; it is then entered by hand: for sft in Hyper (fixtures/arms.py),
otherwise in the method's `change`. A winner that with another seed has fewer right answers than the adapter it starts
from is tried there against a rate beyond it.
"""

from dataclasses import asdict
from statistics import fmean

import pytest

from fixtures.arms import Arm, Draw
from fixtures.runs import search


def rate(lr, final_lr):
    return {"lr": lr, "final_lr": final_lr}


ON_TOP = [rate(1e-3, 1e-4), rate(5e-4, 5e-5), rate(2e-3, 2e-4)]
CANDIDATES = {  # each says all that it changes of Hyper, so that its record keeps its meaning when a winner is entered
    "sft": [{}, {"epochs": 2, "batch_size": 4}, rate(1e-3, 1e-4)],
    "second_epoch": ON_TOP,
    "rft": ON_TOP,
    "dpo": [rate(2e-4, 2e-5), rate(5e-5, 5e-6), rate(5e-4, 5e-5), rate(1e-5, 1e-6)],
    "grpo": [rate(2e-4, 1e-4), rate(5e-5, 5e-5), rate(5e-4, 5e-4)],
}


@pytest.mark.search
@pytest.mark.live
@pytest.mark.parametrize("candidate", range(max(map(len, CANDIDATES.values()))))
def test_search(candidate, bench, pytestconfig, record_property):
    """One candidate, trained on the whole training split and asked the development questions."""
    method = pytestconfig.getoption("--search")
    assert method in CANDIDATES, f"no candidates for {method!r}; there are some for {', '.join(CANDIDATES)}"
    if candidate >= len(CANDIDATES[method]):
        pytest.skip(f"{method} has {len(CANDIDATES[method])} candidates")
    change = CANDIDATES[method][candidate]
    arms = bench.live_with({method: change})
    arm, ids = Arm(method, "all_patterns", bench.seed), bench.dev_ids()
    grades = [bench.grade(i, answer.text) for i, (answer,) in arms.complete(arm, ids, Draw()).items()]
    found = {
        "right": sum(right for right, _ in grades),
        "n": len(grades),
        "mean_reward": fmean(reward for _, reward in grades),
        "gold_nats_per_token": fmean(grade.nats_per_token for grade in arms.graded(arm, ids).values()),
        "training": arms.describe(arm, Draw()),
    }
    for name in ("right", "n", "mean_reward", "gold_nats_per_token"):
        record_property(name, found[name])
    print(method, change, {name: found[name] for name in found if name != "training"})
    search.record(bench.recorded.folder, arm, change, found)


@pytest.mark.replay
@pytest.mark.parametrize("method", [method for method in CANDIDATES if method != "sft"])
def test_what_is_entered_won(method, bench):
    """Of two candidates the last seed that both have decides. SFT has the cheapest candidate, not the best."""
    from fixtures.training.methods import METHODS

    searched = search.recorded(bench.recorded.folder).get(method)
    if searched is None:
        pytest.skip(f"no search is recorded for {method}: pytest bench --search {method}")
    assert search.won(searched.values(), asdict(METHODS[method].hyper(bench.scale.hyper)))
