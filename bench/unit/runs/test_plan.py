"""What --plan and --budget print: the work that is due, how long it takes, and the effects it could detect."""

import argparse
from dataclasses import replace

import numpy as np
import pytest

from fixtures.arms import Arm, Completion, Recording
from fixtures.config import Options
from fixtures.modeling.cpu import blas
from fixtures.plugin import arguments
from fixtures.runs import budget, ledger, plan
from fixtures.runs.inference import NotCachedError
from fixtures.runs.session import Bench, Requirement
from fixtures.scoring.verdict import OK, unanimous
from fixtures.stats.contrast import Contrast
from fixtures.storage import timings

SFT = Arm("sft", "all_patterns")
GENERATING = timings.generating("sft", "", 100)  # the smoke scale's token limit
REQUIRED = {Requirement(arm, "seen_tools", "plain"): None for arm in (Arm("base"), SFT)}


class OnlyBaseCached:
    """A fake ArmRunner: only the base model's completions are cached."""

    def adapter(self, arm):
        raise NotCachedError(str(arm))

    def complete(self, arm, ids, draw):
        if arm.method != "base":
            raise NotCachedError(str(arm))


class OnlyItemsCached:
    """A fake ArmRunner: only these items' completions are cached."""

    def __init__(self, ids=()):
        self.ids = set(ids)

    def complete(self, arm, ids, draw):
        if not self.ids.issuperset(ids):
            raise NotCachedError(str(arm))


@pytest.fixture
def bench(bench, tmp_path, monkeypatch):
    examples = bench.items.examples  # from the real cache
    monkeypatch.setenv("CALLBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(ledger, "RESULTS", tmp_path)
    made = Bench(Options(scale="smoke"), lambda: pytest.fail("a plan shows no progress"))
    made.__dict__["runner"] = OnlyBaseCached()
    made.items.__dict__["examples"] = examples
    return made


def test_a_step_that_was_never_done_has_no_time(bench):
    text = plan.Plan(bench, REQUIRED).render()
    assert "train sft-all_patterns-s0 on 48 examples: never done" in text
    assert "generate 12 completions with base (seen_tools): in the cache" in text
    assert "together 2 steps that were never done" in text
    assert plan.TO_MEASURE not in text  # the advice is to run this very scale
    bench.options = replace(bench.options, scale="default")
    assert plan.TO_MEASURE in plan.Plan(bench, REQUIRED).header()


def test_a_plan_uses_the_timings_of_this_machine(bench):
    for seconds in (48.0, 96.0, 480.0):  # the median is 2 s an example
        timings.record(bench.inference.root, "training sft", bench.scale.model, 48, seconds, "")
    timings.record(bench.inference.root, GENERATING, bench.scale.model, 100, 100.0, "")
    text = plan.Plan(bench, REQUIRED).render()
    assert "train sft-all_patterns-s0 on 48 examples: about 2 min" in text
    assert "generate 12 completions with sft-all_patterns-s0 (seen_tools): about 12 s" in text
    assert "together about 2 min\n" in text


def test_the_timings_of_another_precision_do_not_count(bench):
    """Past bug: a plan in bf16 took what float32 had taken."""
    slow = replace(bench.scale, precision="bf16").timed_as
    timings.record(bench.inference.root, "training sft", slow, 48, 4800.0, "")
    assert "train sft-all_patterns-s0 on 48 examples: never done" in plan.Plan(bench, REQUIRED).render()


def test_before_its_first_run_a_machine_uses_the_recorded_pace(bench, tmp_path, monkeypatch):
    """100 and 400 GFLOP per unit, at 50 GFLOP/s here: 48 examples take 96 s, and 12 completions also 96 s."""
    monkeypatch.setattr(blas, "gflops", lambda: 50.0)
    training = {"pace": {"training sft": 1.0, GENERATING: 4.0}, "gflops": 100.0}
    ledger.record_completions(tmp_path / bench.run, Recording(SFT), {}, {}, training)
    planned = plan.Plan(bench, REQUIRED)
    assert "train sft-all_patterns-s0 on 48 examples: about 2 min" in planned.render()
    assert planned.seconds == 96 + 96
    assert planned.header()[0] == "callbench: 1 adapter to train, 12 completions to generate: about 3 min"


def test_shared_completions_are_counted_once(bench):
    """Each split has 12 items, but unseen_patterns shares items with the other splits.

    repair uses the plain completions; best_of_2 and best_of_4 use the first samples of best_of_8.
    """
    bench.__dict__["runner"] = OnlyItemsCached()
    splits = bench.items.available_splits
    required = {Requirement(Arm("base"), split, s): None for split in splits for s in ("plain", "repair")}
    required |= {Requirement(SFT, "seen_tools", s): None for s in ("best_of_2", "best_of_8", "best_of_4")}
    base, sft = plan.Plan(bench, required).inferences()
    everything = {i for split in splits for i in bench.items.test_ids(split)}
    assert base.units == len(everything) < 12 * len(splits)
    assert sft.what == "12 completions 8 times with sft-all_patterns-s0+best_of_8 (seen_tools)"
    assert sft.units == 8 * 12


def test_items_that_are_cached_for_other_splits_are_not_due(bench):
    """Two of the three splits are cached."""
    ids = bench.items.test_ids("seen_tools") + bench.items.test_ids("unseen_patterns")
    bench.__dict__["runner"] = OnlyItemsCached(ids)
    required = {
        Requirement(Arm("base"), split, "plain"): None for split in ("unseen_tools", "seen_tools", "unseen_patterns")
    }
    cached, due = plan.Plan(bench, required).inferences()
    assert (cached.cached, cached.units) == (True, len(set(ids)))
    assert (due.cached, due.units) == (False, len(set(bench.items.test_ids("unseen_tools")) - set(ids)))


def test_planning_a_recording_writes_and_trains_nothing(bench, tmp_path):
    """The header reads the recorded run to estimate the spread of answers; it must not write to it."""
    bench.options = replace(bench.options, record=True)
    ids = bench.items.test_ids("seen_tools")
    for arm in (Arm("base"), SFT):
        answers = {i: Completion(i, "hash", "[]", 3, "stop") for i in ids}
        ledger.record_completions(tmp_path / bench.run, Recording(arm), answers, dict.fromkeys(ids, unanimous(OK)), {})
    before = {path: path.read_bytes() for path in (tmp_path / bench.run).iterdir()}
    assert "spread of the 1 recorded seed" in plan.Plan(bench, REQUIRED).header()[-1]
    assert {path: path.read_bytes() for path in (tmp_path / bench.run).iterdir()} == before


def test_a_plan_reports_that_everything_is_cached(bench):
    required = {Requirement(Arm("base"), "seen_tools", "plain"): None}
    assert plan.Plan(bench, required).header() == ["callbench: everything that these experiments need is in the cache"]


def test_a_plan_includes_the_adapter_that_a_method_is_initialised_from(bench):
    trained = [
        step.text.split()[1]
        for step in plan.Plan(bench, [Requirement(Arm("dpo", "all_patterns"), "", None)]).trainings()
    ]
    assert trained == ["sft-all_patterns-s0", "dpo-all_patterns-s0"]


def test_a_plan_has_the_detectable_effect_of_each_registered_comparison(bench):
    """(1.96 + 0.84) * sqrt(0.25 / 12) = 40.4 points."""
    (effect,) = plan.Plan(bench, REQUIRED).effects
    assert str(effect) == "sft - base on seen_tools, n = 12: 40.4 pts (if 25% of the answers differ)"


@pytest.fixture
def paced(bench):
    """A plan with timings: 1 s for each training example, and 10 s for each completion."""
    for kind, seconds in {"training sft": 1.0, GENERATING: 10.0}.items():
        timings.record(bench.inference.root, kind, bench.scale.model, 1, seconds, "")
    return plan.Plan(bench, REQUIRED)


def test_a_budget_buys_items_of_one_seed_while_the_variance_between_seeds_is_unknown(paced):
    """48 s to train, 10 s for each of at most 12 items; the base model's completions are cached."""
    choices = budget.choices(paced)
    assert {(choice.items, choice.seeds) for choice in choices} == {(n, s) for n in range(1, 13) for s in range(1, 6)}
    assert all(choice.seconds == choice.seeds * (48 + 10 * choice.items) for choice in choices)
    assert budget.best(choices, 100)[0][:3] == (5, 1, 98)
    assert budget.best(choices, 10_000)[0][:3] == (12, 1, 168)
    assert "in 80 s, --items 3 --seed 0 shows the most, in about 78 s:" in budget.render(paced, 80)
    assert "sft - base on seen_tools, n = 3: 80.9 pts" in budget.render(paced, 80)


def test_a_budget_buys_seeds_when_seeds_differ(paced):
    """All items of a seed agree: a second seed halves the variance, more items do not reduce it."""
    answers = np.repeat([[1.0], [0.0], [1.0]], 12, axis=1)
    paced.spreads["sft_helps"] = Contrast(answers, range(12), binary=False)
    assert budget.best(budget.choices(paced), 330)[0].seeds == 5


def test_over_folds_a_budget_buys_folds(bench):
    """Past bug: it named --seed, which is refused there; and looked for another fold's adapter in the cache."""
    study = Bench(Options(scale="study"))
    study.items.__dict__["examples"] = bench.items.examples
    study.__dict__["runner"] = bench.runner
    resized = plan.Plan(study, REQUIRED).resized(3, [1])
    assert "runner" not in resized.bench.__dict__
    assert [requirement.fold for requirement in resized.requirements] == [1, 1]
    assert str(budget.Choice(3, 2, 1.0, 0.1, "--fold")) == "--items 3 --fold 0,1"


def test_a_budget_that_is_too_small_reports_the_time_of_the_smallest_run(paced):
    text = budget.render(paced, 30)
    assert text.startswith("nothing fits into 30 s: the least, --items 1 --seed 0, takes about 58 s")


def test_a_budget_needs_timings(bench):
    assert "2 steps were never done" in budget.render(plan.Plan(bench, REQUIRED), 100)


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("1h30m", 5400), ("45s", 45), ("2h", 7200)])
def test_durations(text, seconds):
    assert arguments.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "30m1h", "-5m", "1.5h"])
def test_a_malformed_duration_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="needs a time such as 30m"):
        arguments.duration(text)


def test_negative_seeds_and_a_budget_of_zero_are_refused():
    """Past bug: `--budget 0m` ran everything, `--seed -1` failed in numpy."""
    with pytest.raises(argparse.ArgumentTypeError, match="a time above 0, found '0m'"):
        arguments.duration("0m")
    with pytest.raises(argparse.ArgumentTypeError, match=r"needs seeds from 0 to .* found 0,-1"):
        arguments.seeds("0,-1")


def test_timings_are_kept_by_kind_and_model(tmp_path):
    timings.record(tmp_path, "answering", "a", 10, 20.0, "")
    assert timings.per_unit(tmp_path, "answering", "a") == 2.0
    assert timings.per_unit(tmp_path, "answering", "b") is None
    short, long = (timings.generating("sft", "", limit) for limit in (100, 300))
    timings.record(tmp_path, short, "a", 1, 3.0, "")
    assert timings.per_unit(tmp_path, long, "a") == 3.0  # a fallback: the timing with another token limit
    timings.record(tmp_path, long, "a", 1, 7.0, "")
    assert [timings.per_unit(tmp_path, kind, "a") for kind in (short, long)] == [3.0, 7.0]
    with pytest.raises(ZeroDivisionError), timings.timed(tmp_path, "answering", "b", 1, ""):
        raise ZeroDivisionError
    assert timings.per_unit(tmp_path, "answering", "b") is None
