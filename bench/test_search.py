"""Which hyper-parameters? A small search on the development split, with the same budget for every method.

`pytest bench --search sft` trains each candidate and writes results/<run>/search.json. The winner is then entered by
hand. At the scale `study` (`--fold 0,1`) it has the highest mean F1 over these folds, and is entered in STUDY_TUNED
(fixtures/config.py). At other scales it has the most correct answers, ties broken by the mean reward, and is entered in
HYPERS for sft, otherwise in the method's `change`; if it has fewer with another seed than the adapter it is initialised
from, a lower learning rate is tried with that seed.
"""

from dataclasses import asdict
from statistics import fmean

import pytest

from fixtures.arms import Arm, Draw, arm_of
from fixtures.runs import search
from fixtures.stats.contrast import mean_of


def rate(lr, share=0.1):
    """A candidate: a learning rate that falls to a share of itself."""
    return {"lr": lr, "final_lr": round(lr * share, 12)}


def rates(*lrs, share=0.1):
    return [rate(lr, share) for lr in lrs]


# By model and method. Each names every field of Hyper that it changes, so its record stays valid when a winner is
# entered.
CANDIDATES = {
    "smollm2_135m": {
        "sft": [{}, {"epochs": 2, "batch_size": 4}, rate(1e-3)],
        "second_epoch": rates(1e-3, 5e-4, 2e-3),
        "rft": rates(1e-3, 5e-4, 2e-3),
        "dpo": rates(2e-4, 5e-5, 5e-4, 1e-5),
        "grpo": [rate(2e-4, 0.5), *rates(5e-5, 5e-4, share=1)],
    },
    "qwen2_5_coder_0_5b": {
        "sft": rates(3e-4, 1.5e-4, 6e-4),
        "second_epoch": rates(3e-4, 1.5e-4, 6e-4),
        "rft": rates(3e-4, 1.5e-4, 6e-4),
        "dpo": rates(6e-6, 1.5e-6, 2.4e-5),
        "grpo": rates(3e-5, 7.5e-6, 1.2e-4, share=1),
        "grpo_exact": rates(3e-5, 7.5e-6, 1.2e-4, share=1),
    },
}


@pytest.mark.search
@pytest.mark.live
@pytest.mark.parametrize("candidate", range(4))
def test_search(candidate, seed, bench, pytestconfig, record_property):
    """One candidate, trained on the whole training split and evaluated on the development split."""
    from fixtures.training.methods import METHODS  # imports MLX

    method, model = pytestconfig.getoption("--search"), bench.scale.model
    candidates = CANDIDATES.get(model, {}).get(method)
    assert candidates, f"no candidates for {method!r} and {model!r}: add some to CANDIDATES in {__file__}"
    if candidate >= len(candidates):
        pytest.skip(f"{method} has {len(candidates)} candidates")
    change, bench = candidates[candidate], bench.fold(seed)
    arm, ids = Arm(method, "all_patterns", seed), bench.items.dev_ids()
    runner = bench.runner_with({method: change})
    completions = {i: one for i, (one,) in runner.complete(arm, ids, Draw()).items()}
    judgements = {i: bench.items.judge(completion) for i, completion in completions.items()}
    before = runner.complete(arm_of(METHODS[method].start or "base", arm.regime, seed), ids, Draw())
    result = {
        "right": sum(judgement.primary.correct for judgement in judgements.values()),
        "n": len(ids),
        "mean_reward": fmean(bench.items.score(completion)[1] for completion in completions.values()),
        "f1": asdict(
            mean_of({i: one.f1 for i, one in judgements.items()}, bench.items.clusters_of(ids, "dev"), bounded=True)
        ),
        "changed": sum(completions[i].text != one.text for i, (one,) in before.items()),
    }
    for name, value in result.items():
        record_property(name, value)
    print(method, change, result)
    search.record(bench.recorded.folder, arm, change, result | {"training": runner.describe(arm, Draw())})


@pytest.mark.replay
@pytest.mark.parametrize("method", CANDIDATES["qwen2_5_coder_0_5b"])
def test_search_winner_is_entered(method, bench):
    """SFT of the first study is exempt: it has the cheapest, not the best."""
    from fixtures.training.methods import METHODS  # imports MLX

    candidates = search.recorded(bench.recorded.folder).get(method)
    if candidates is None:
        pytest.skip(f"no search is recorded for {method}: pytest bench --search {method}")
    entered = asdict(METHODS[method].hyper_at(bench.scale, method))
    if not bench.scale.folds:
        if method == "sft":
            pytest.skip("the first study's SFT has the cheapest candidate")
        assert search.won(candidates.values(), entered)
        return
    expected = [search.name_of(change) for change in CANDIDATES[bench.scale.model][method]]
    if missing := search.missing(candidates, expected):
        pytest.skip(f"the search is not finished: {', '.join(missing)}")
    assert candidates[search.best(candidates)]["0"]["training"]["hyper"] == entered
