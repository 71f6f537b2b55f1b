"""What --plan prints: work that is due and its time, and what it could show."""

import pytest

from fixtures import pace, plan, results
from fixtures.arms import Arm
from fixtures.asking import NotMadeError
from fixtures.session import Bench, Options

SFT = Arm("sft", "all_patterns")
WISHES = {(arm, "seen_tools", "plain"): None for arm in (Arm("base"), SFT)}


class Cache:
    """In place of live.LiveArms: only the base model's answers are there."""

    def adapter(self, arm):
        raise NotMadeError(arm.id)

    def complete(self, arm, ids, draw):
        if arm.method != "base":
            raise NotMadeError(arm.id)


@pytest.fixture
def bench(bench, tmp_path, monkeypatch):
    examples = bench.examples  # from the real cache
    monkeypatch.setenv("CALLBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    made = Bench(Options(scale="smoke", plan=True), lambda: pytest.fail("a plan shows no progress"))
    made.__dict__ |= {"live": Cache(), "examples": examples}
    return made


def test_a_step_that_was_never_done_has_no_time(bench):
    text = plan.Plan(bench, WISHES).render()
    assert "train sft-all_patterns-s0 on 48 examples: never done here" in text
    assert "ask base 12 questions (seen_tools): in the cache" in text
    assert "together about 0 s, and 2 steps never done here" in text


def test_times_are_those_of_this_machine(bench):
    for seconds in (48.0, 96.0, 480.0):  # the median is 2 s an example
        pace.note(bench.asker.root, "training sft", bench.scale.model, 48, seconds, "")
    pace.note(bench.asker.root, "answering", bench.scale.model, 100, 100.0, "")
    text = plan.Plan(bench, WISHES).render()
    assert "train sft-all_patterns-s0 on 48 examples: about 2 min" in text
    assert "ask sft-all_patterns-s0 12 questions (seen_tools): about 12 s" in text
    assert "together about 2 min\n" in text


def test_a_method_needs_what_it_goes_on_from(bench):
    trained = [step.text.split()[1] for step in plan.Plan(bench, [(Arm("dpo", "all_patterns"), "", None)]).trainings()]
    assert trained == ["sft-all_patterns-s0", "dpo-all_patterns-s0"]


def test_what_could_be_seen_of_each_registered_comparison(bench):
    """(1.96 + 0.84) * sqrt(0.25 / 12) = 40.4 points."""
    effects = list(plan.Plan(bench, WISHES).effects())
    assert effects == ["  sft - base on seen_tools, n=12: 40.4 pts, if 25% of the answers differ"]


def test_a_pace_is_of_one_kind_and_model(tmp_path):
    pace.note(tmp_path, "answering", "a", 10, 20.0, "")
    assert pace.per_unit(tmp_path, "answering", "a") == 2.0
    assert pace.per_unit(tmp_path, "answering", "b") is None
    with pytest.raises(ZeroDivisionError), pace.timed(tmp_path, "answering", "b", 1, ""):
        raise ZeroDivisionError
    assert pace.per_unit(tmp_path, "answering", "b") is None
