"""The fault suite's own parts: which moments it chooses, and what it makes of the outcomes."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.faults.run import moments, tabulate


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(1, 50), st.integers(0, 9))
def test_every_place_is_disturbed_before_any_other_a_second_time(places, times, seed):
    chosen = moments(places, times, random.Random(seed))
    assert len(chosen) == len(set(chosen)) == min(times, len(places))
    counts = Counter(places[at - 1] for at in chosen)
    for place, available in Counter(places).items():
        assert counts[place] == available or counts[place] >= max(counts.values()) - 1


def test_a_lost_result_is_never_counted_as_survived():
    outcomes = [("kill", "1 (page)", "page", "", True), ("kill", "2 (page)", "page", "different: x", True)]
    row = tabulate([*outcomes, ("kill", "3 (cache)", "cache", "", False)])["kill"]
    assert (row["injected"], row["survived"], row["lost"]) == (3, 2, ["2 (page): different: x"])
    assert row["without a message"] == ["3 (cache)"]
    assert row["places"] == {"page": 2, "cache": 1}


def test_nothing_injected_is_no_row():
    assert tabulate([]) == {}
    with pytest.raises(KeyError):
        tabulate([("nonsense", "1", "page", "", True)])
