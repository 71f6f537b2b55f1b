"""Comparisons of two arms: against tables worked by hand, statsmodels, and simulated runs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.stats.accuracy import Paired
from fixtures.stats.contrast import Contrast, holm, mean_of
from fixtures.stats.power import detectable, detectable_here, detectable_with, items_for, seeds_for


def table(fixed, broken, items):
    """One seed, no two items alike."""
    values = np.zeros((1, items))
    values[0, :fixed], values[0, fixed : fixed + broken] = 1, -1
    return Contrast(values, range(items))


def test_the_studys_difference_of_two_items_is_within_noise():
    """Of 300 items 13 fixed and 11 broken: 4.6 points could be seen, and it would take some 12,000 items."""
    found = table(13, 11, 300)
    assert 100 * found.difference == pytest.approx(0.667, abs=1e-3)
    assert found.discordant == (13, 11)
    assert found.p_exact == pytest.approx(0.8388, abs=1e-4)
    assert 100 * detectable_here(found) == pytest.approx(4.6, abs=0.1)
    assert 11_000 < items_for(found, found.difference) < 15_000


@pytest.mark.parametrize(("discordance", "points"), [(0.04, 3.2), (0.08, 4.6), (0.15, 6.2)])
def test_the_smallest_difference_that_300_items_can_show(discordance, points):
    assert 100 * detectable(300, discordance) == pytest.approx(points, abs=0.1)


@pytest.mark.parametrize(
    ("fixed", "broken", "items"), [(13, 11, 300), (46, 0, 193), (1, 0, 94), (0, 0, 94), (9, 30, 120)]
)
def test_without_clusters_the_interval_is_that_of_agresti_and_min(fixed, broken, items):
    """But for t in place of z, and the mean squared deviation over n - 1."""
    mine, theirs = table(fixed, broken, items).interval(), Paired(fixed, broken, items).interval()
    assert mine == pytest.approx(theirs, rel=0.03, abs=0.001)


def test_no_discordant_pair_is_no_proof_of_equality():
    """Nothing in 94 pairs still leaves room for 2 points and more, as an exact test says, too: 0.98 ** 94 is 15 %."""
    low, high = table(0, 0, 94).interval()
    assert low < -0.02 < 0.02 < high
    assert table(0, 0, 94).p_within(0.02) == pytest.approx(0.98**94)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("broken", [0.0, 0.01, 0.02, 0.04, 0.08])
def test_a_difference_of_the_margin_is_seldom_called_within_it(broken, alike):
    """Found: where 2 % are fixed and none broken, 10 % of runs had one discordant pair or none and p < 0.025."""
    rng = np.random.default_rng(0)

    def run():
        draws = rng.random((1 if alike else 3, 193))
        values = (draws < broken + 0.02).astype(float) - (draws > 1 - broken)
        return Contrast(np.repeat(values, 3, axis=0) if alike else values, range(193))

    assert np.mean([run().p_within(0.02) < 0.025 for _ in range(1000)]) <= 0.03


def test_accuracies_cannot_differ_by_more_than_all():
    found = Contrast(np.array([[1.0, 0.0], [0.0, -1.0]]), [0, 1])
    assert found.interval() == (-1, 1)


def test_mcnemars_exact_p_is_statsmodels():
    from statsmodels.stats.contingency_tables import mcnemar

    for fixed, broken in [(13, 11), (0, 6), (40, 20), (1, 0)]:
        theirs = mcnemar([[10, fixed], [broken, 50]], exact=True).pvalue
        assert table(fixed, broken, 100).p_exact == pytest.approx(theirs)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_statsmodels(values):
    from statsmodels.stats.multitest import multipletests

    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_clusters_of_equal_items_count_once():
    """Ten copies of each of 30 items tell no more than the 30 items, but for the half pair."""
    once = np.random.default_rng(0).normal(size=(1, 30))
    single = Contrast(once, range(30), binary=False)
    copied = Contrast(np.repeat(once, 10, axis=1), [k // 10 for k in range(300)], binary=False)
    assert copied.interval() == pytest.approx(single.interval())


@given(st.integers(1, 4), st.integers(0, 99))
def test_a_run_of_the_same_size_detects_the_same(seeds, state):
    rng = np.random.default_rng(state)
    easy = rng.random(60) - 0.2
    found = Contrast((rng.random((seeds, 60)) < easy).astype(float), range(60))
    same = detectable_with(found, 60, seeds)
    assert same >= detectable_here(found) * (1 - 1e-9)
    if seeds == 1 or found._of_items() >= found._chance() / seeds:  # else a part is estimated below nothing
        assert same == pytest.approx(detectable_here(found))
    assert detectable_with(found, 240, seeds) <= same <= detectable_with(found, 15, seeds)
    assert detectable_with(found, 60, seeds + 5) <= same


def test_more_items_do_not_help_where_seeds_differ():
    """Found: a difference that no number of items would have resolved was said to need 86."""
    found = Contrast(np.repeat([[1.0], [0.0], [1.0]], 12, axis=1), range(12), binary=False)
    assert detectable_with(found, 1200, 3) == pytest.approx(detectable_here(found))
    assert items_for(found, found.difference) == math.inf
    seeds = seeds_for(found, found.difference)
    assert 3 < seeds < 12
    assert detectable_with(found, 12, seeds) <= found.difference < detectable_with(found, 12, seeds - 1)


def test_seeds_never_count_for_less_than_themselves():
    """Found: 1.7 degrees of freedom of three seeds, and an interval wider than that of their three means."""
    rng = np.random.default_rng(0)
    for seeds in (2, 3, 4):
        runs = [simulated(rng, seeds, -1.2, 0.0, 0.2) for _ in range(50)]
        assert min(run.error[1] for run in runs) >= seeds - 1


def test_one_seed_that_differs_widens_the_interval():
    rng = np.random.default_rng(0)
    alike = (rng.random((3, 200)) < 0.3).astype(float)
    shifted = alike.copy()
    shifted[2] = rng.random(200) < 0.6
    narrow, wide = (Contrast(values, range(200)).interval() for values in (alike, shifted))
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_the_normal_means_interval_is_the_t_interval():
    from scipy import stats

    values = np.random.default_rng(1).normal(0.3, size=(1, 25))
    found = Contrast(values, range(25), binary=False)
    expected = stats.ttest_1samp(values[0], 0)
    low, high = expected.confidence_interval(0.95)
    assert found.interval() == pytest.approx((low, high))
    assert found.p == pytest.approx(expected.pvalue)
    assert found.p_above(0.1) + found.p_below(0.1) == pytest.approx(1)
    assert found.p_within(5) < 0.001 < found.p_within(0.2)


def test_a_means_interval_counts_clusters():
    """By hand: ten values of two clusters are two values, 0 and 1: 0.5 with a standard error of 0.5 and t = 12.7."""
    values = {str(i): float(i % 2) for i in range(10)}
    found = mean_of(values, {i: int(v) for i, v in values.items()})
    assert (found.value, found.n) == (0.5, 10)
    assert (found.low, found.high) == pytest.approx((0.5 - 12.706 * 0.5, 0.5 + 12.706 * 0.5), rel=1e-4)
    alone = mean_of(values, {i: int(i) for i in values})
    assert 0.1 < alone.low < alone.high < 0.9


def test_one_cluster_tells_nothing_of_others():
    for binary in (True, False):
        found = Contrast(np.ones((1, 3)), [0, 0, 0], binary)
        assert found.p > 0.9
        assert items_for(found, 1.0) == math.inf
    assert mean_of({"a": -1.0}, {"a": 0}).low == -math.inf


@pytest.mark.parametrize("shape", [(0, 3), (1, 2)])
def test_a_contrast_needs_its_items(shape):
    with pytest.raises(ValueError, match="as many clusters"):
        Contrast(np.zeros(shape), range(3))


def simulated(rng, seeds, base, gain, between):
    """Answers of two arms to about 190 items in clusters, each arm's adapters a little better or worse (in logits)."""
    sizes = rng.choice([1, 1, 1, 1, 2, 2, 3, 5, 8], 72)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    skill = base + rng.normal(0, 1, len(sizes))[clusters] + rng.normal(0, 1.5, len(clusters))

    def arm(added):
        chance = 1 / (1 + np.exp(-(skill + added + rng.normal(0, between, (seeds, 1)))))
        return (rng.random(chance.shape) < chance).astype(float)

    return Contrast(arm(gain) - arm(0.0), clusters.tolist())


def coverage(seeds, base, gain, between, runs):
    """How often the interval has the true difference, and how often equality is rejected at 5 %."""
    rng = np.random.default_rng(0)
    truth = np.mean([simulated(rng, 50, base, gain, between).difference for _ in range(400)]) if gain else 0.0
    found = [simulated(rng, seeds, base, gain, between) for _ in range(runs)]
    inside = [low <= truth <= high for low, high in (one.interval() for one in found)]
    return np.mean(inside), np.mean([one.p < 0.05 for one in found])


@pytest.mark.parametrize(("base", "gain"), [(-1.2, 0.0), (-1.2, 0.5), (-3.0, 1.5)])
def test_one_seeds_intervals_cover_19_of_20_simulated_runs(base, gain):
    covered, rejected = coverage(1, base, gain, 0.0, 2000)
    print(f"1 seed, {base} {gain}: covered {covered:.3f}, rejected {rejected:.3f}")
    assert 0.93 <= covered <= 0.97
    assert gain or rejected <= 0.06


@pytest.mark.parametrize(("base", "gain", "between"), [(-1.2, 0.0, 0.0), (-1.2, 0.0, 0.2), (-1.2, 0.5, 0.15)])
def test_three_seeds_intervals_are_rather_too_wide_than_too_narrow(base, gain, between):
    """Of three adapters one can hardly tell how much adapters differ."""
    covered, rejected = coverage(3, base, gain, between, 2000)
    print(f"3 seeds, {base} {gain} {between}: covered {covered:.3f}, rejected {rejected:.3f}")
    assert 0.93 <= covered <= 0.99
    assert gain or rejected <= 0.06


def test_a_difference_of_nothing_needs_infinitely_many_items():
    assert items_for(table(5, 5, 100), 0.0) == math.inf


def test_more_tests_need_more_items_and_more_than_were_not_enough():
    """Found: 193 items did not resolve +6.6 points among 8 claims, and the line asked for 89."""
    found = table(59, 21, 579)
    assert found.p < 0.05
    assert items_for(found, found.difference) < items_for(found, found.difference, tests=8)
    few = Contrast(np.array([[1.0] * 8 + [-1.0] * 2 + [0.0] * 30, [0.0] * 40]), range(40))
    assert few.p > 0.05
    assert items_for(few, few.difference) > 40


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (2, 1), (4, 2), (13, 11)])
@pytest.mark.parametrize("tests", [1, 8])
def test_as_many_items_as_sameness_needs_do_find_it(fixed, broken, tests):
    """Found: 0 and 0 of 193 were said to need 166 items, and what a hundred seeds could not decide some 38 of them."""
    found, margin = table(fixed, broken, 193), 0.02
    needed = int(items_for(found, margin - abs(found.difference), tests, margin))
    times = -(-needed // 193)
    more = table(fixed * times, broken * times, 193 * times)
    assert 2 * tests * more.p_within(margin) < 0.05
    assert (needed > 193) == (2 * tests * found.p_within(margin) > 0.05)
    if not found._few_enough(193, margin, tests):
        assert seeds_for(found, margin, tests, margin) == math.inf
