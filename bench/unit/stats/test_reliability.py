"""pass@k, pass^k and flips: by hand, by simulation, and their limits."""

from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.stats.reliability import Reliability, Repeated

ITEMS = st.lists(st.integers(0, 5), min_size=2, max_size=12)


def over(correct, total=5):
    items = {f"i{k}": Repeated(c, total, 2 if 0 < c < total else 1) for k, c in enumerate(correct)}
    return Reliability(items, {i: k for k, i in enumerate(items)})


def test_by_hand():
    """Of four answers each: all right, half right, none right."""
    three = over([4, 2, 0], total=4)
    assert three.pass_at(1).value == pytest.approx(0.5)
    assert three.pass_at(2).value == pytest.approx((1 + 5 / 6 + 0) / 3)  # 1 - C(2,2)/C(4,2)
    assert three.pass_all(2).value == pytest.approx((1 + 1 / 6 + 0) / 3)  # C(2,2)/C(4,2)
    assert three.pass_at(4).value == pytest.approx(2 / 3)
    assert three.pass_all(4).value == pytest.approx(1 / 3)
    assert three.flips().value == pytest.approx(1 / 3)
    assert three.unstable() == ["i1"]


@given(correct=ITEMS, k=st.integers(1, 5))
def test_estimates_are_the_means_over_all_choices_of_k_answers(correct, k):
    chosen = [list(combinations([True] * c + [False] * (5 - c), k)) for c in correct]
    assert over(correct).pass_at(k).value == pytest.approx(fmean(fmean(map(any, one)) for one in chosen))
    assert over(correct).pass_all(k).value == pytest.approx(fmean(fmean(map(all, one)) for one in chosen))


@given(correct=ITEMS)
def test_more_answers_help_pass_at_k_and_hurt_pass_all_k(correct):
    some = over(correct)
    for smaller, larger in ((1, 2), (2, 5)):
        assert some.pass_at(smaller).value <= some.pass_at(larger).value + 1e-9
        assert some.pass_all(smaller).value >= some.pass_all(larger).value - 1e-9
    assert some.pass_at(1).value == pytest.approx(some.pass_all(1).value)
    assert some.flips().value == pytest.approx(some.pass_at(5).value - some.pass_all(5).value)


@given(correct=ITEMS)
def test_intervals_are_inside_0_and_1_and_never_empty(correct):
    """Items that are all alike still leave the others uncertain."""
    for mean in (over(correct).pass_at(5), over(correct).pass_all(5), over(correct).flips()):
        assert 0 <= mean.low <= mean.value <= mean.high <= 1
        assert mean.high - mean.low > 0.05
        assert mean.n == len(correct)


def test_items_of_one_cluster_show_nothing_beyond_themselves():
    items = {"a": Repeated(1, 2, 2), "b": Repeated(1, 2, 2)}
    mean = Reliability(items, {"a": 0, "b": 0}).flips()
    assert (mean.low, mean.high) == (0.0, 1.0)


@pytest.mark.parametrize("numbers", [(3, 2, 1), (-1, 2, 1), (1, 2, 0), (1, 2, 3)])
def test_impossible_counts_are_refused(numbers):
    with pytest.raises(ValueError, match="needs 0 <= correct <= total"):
        Repeated(*numbers)
