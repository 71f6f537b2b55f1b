"""Which hyper-parameters? A small search on the development split, with the same budget for every method.

`pytest bench --search sft` trains each candidate and writes results/<run>/search.json. The winner has the most correct
answers, ties broken by the mean reward; it is then entered by hand: for sft in Hyper (fixtures/config.py), otherwise in
the method's `change`. If the winner has fewer correct answers with another seed than the adapter it is initialised
from, a lower learning rate is tried with that seed.
"""

from dataclasses import asdict
from statistics import fmean

import pytest

from fixtures.arms import Arm, Draw
from fixtures.runs import search


def rate(lr, final_lr):
    return {"lr": lr, "final_lr": final_lr}


ON_TOP = [rate(1e-3, 1e-4), rate(5e-4, 5e-5), rate(2e-3, 2e-4)]
CANDIDATES = {  # each names every field of Hyper that it changes, so its record stays valid when a winner is entered
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
    """One candidate, trained on the whole training split and evaluated on the development split."""
    method = pytestconfig.getoption("--search")
    assert method in CANDIDATES, f"no candidates for {method!r}; expected one of {', '.join(CANDIDATES)}"
    if candidate >= len(CANDIDATES[method]):
        pytest.skip(f"{method} has {len(CANDIDATES[method])} candidates")
    change = CANDIDATES[method][candidate]
    runner = bench.runner_with({method: change})
    arm, ids = Arm(method, "all_patterns", bench.seed), bench.items.dev_ids()
    scores = [bench.items.score(completion) for (completion,) in runner.complete(arm, ids, Draw()).values()]
    result = {
        "right": sum(correct for correct, _ in scores),
        "n": len(scores),
        "mean_reward": fmean(reward for _, reward in scores),
        "gold_nats_per_token": fmean(one.nats_per_token for one in runner.gold_logprobs(arm, ids).values()),
        "training": runner.describe(arm, Draw()),
    }
    for name in ("right", "n", "mean_reward", "gold_nats_per_token"):
        record_property(name, result[name])
    print(method, change, {name: result[name] for name in result if name != "training"})
    search.record(bench.recorded.folder, arm, change, result)


@pytest.mark.replay
@pytest.mark.parametrize("method", [method for method in CANDIDATES if method != "sft"])
def test_search_winner_is_entered(method, bench):
    """Two candidates are compared on the last seed that both have. SFT is exempt: it has the cheapest, not the best."""
    from fixtures.training.methods import METHODS  # imports MLX

    candidates = search.recorded(bench.recorded.folder).get(method)
    if candidates is None:
        pytest.skip(f"no search is recorded for {method}: pytest bench --search {method}")
    assert search.won(candidates.values(), asdict(METHODS[method].hyper(bench.scale.hyper)))
