"""Numbers checked against hand-computed and published values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.scoring.verdict import Verdict
from fixtures.stats.accuracy import Accuracy, Mean, Paired, accuracy_of, balanced, compare, points_interval

counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_interval_contains_the_accuracy_and_stays_between_0_and_1(count):
    low, high = Accuracy(*count).interval()
    assert 0 <= low <= Accuracy(*count).value <= high <= 1


@pytest.mark.parametrize(
    ("abstains", "calls", "value"), [((50, 50), (30, 60), 0.75), ((100, 100), (0, 193), 0.5), ((0, 10), (10, 10), 0.5)]
)
def test_balanced_accuracy_is_the_mean_of_both_rates(abstains, calls, value):
    """An arm that always calls, or never, has one half, however many items either split has."""
    mean = balanced(Accuracy(*abstains), Accuracy(*calls))
    assert mean.value == value
    assert 0 <= mean.low < value < mean.high <= 1
    widest = max(high - low for low, high in (Accuracy(*abstains).interval(), Accuracy(*calls).interval()))
    assert mean.high - mean.low < widest


def test_the_interval_of_balanced_accuracy_covers():
    rng, rates = np.random.default_rng(0), ((100, 0.6), (193, 0.9))
    covered = []
    for _ in range(1500):
        mean = balanced(*(Accuracy(int(rng.binomial(n, p)), n) for n, p in rates))
        covered.append(mean.low <= 0.75 <= mean.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_wilson_interval_by_hand():
    # 10/20: centre (0.5 + 1.96²/40)/(1 + 1.96²/20) = 0.5, half-width 0.2007.
    assert Accuracy(10, 20).interval() == pytest.approx((0.2993, 0.7007), abs=1e-4)
    assert Accuracy(0, 10).interval() == pytest.approx((0.0, 0.2775), abs=1e-4)


@pytest.mark.parametrize(("correct", "total"), [(1, 0), (-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(correct, total):
    with pytest.raises(ValueError, match="accuracy needs"):
        Accuracy(correct, total)


def test_mcnemar_by_hand():
    # 6 one-sided flips: 2 * 0.5^6 = 0.03125, the smallest count that is significant at 5 %.
    assert Paired(6, 0, 300).p == pytest.approx(0.03125)
    assert Paired(5, 0, 300).p == pytest.approx(0.0625)
    assert Paired(0, 0, 300).p == 1.0


@given(st.integers(0, 50), st.integers(0, 50), st.integers(100, 400))
def test_swapping_the_arms_mirrors_the_comparison(b, c, n):
    forward, swapped = Paired(b, c, n), Paired(c, b, n)
    assert forward.p == pytest.approx(swapped.p)
    assert forward.interval() == pytest.approx(tuple(-x for x in reversed(swapped.interval())))
    assert forward.interval()[0] <= forward.difference <= forward.interval()[1]


def test_comparison_counts_flips_item_by_item():
    ok, wrong = Verdict("ok"), Verdict("call_count")
    first = {"a": ok, "b": wrong, "c": wrong, "d": ok}
    second = {"a": wrong, "b": ok, "c": ok, "d": ok}
    assert compare(first, second) == Paired(fixed=2, broken=1, total=4)
    assert accuracy_of(second) == Accuracy(3, 4)


def test_comparison_refuses_different_items():
    with pytest.raises(ValueError, match="same items"):
        compare({"a": Verdict("ok")}, {"b": Verdict("ok")})


def test_a_number_without_an_interval_says_why():
    """Past bug: with all items in one cluster, F1 was shown as `71.0 ± inf`."""
    mean = Mean(0.71, -math.inf, math.inf, 12)
    shown = [mean.plus_minus, mean.percent, points_interval(0.1, -math.inf, math.inf)]
    assert all("one cluster: no interval" in text and "inf" not in text for text in shown)
    assert Mean(0.71, 0.61, 0.81, 12).plus_minus == "71.0 ± 10.0"
    assert Mean(0.5, -2.0, 3.0, 2).plus_minus == "50.0 ± any"  # past bug: ± 250.0
