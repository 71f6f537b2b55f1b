"""Expected ranges are validated strictly, and a number outside its range is explained."""

import argparse
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from fixtures.plugin import arguments
from fixtures.plugin.expected import ExpectedError, Range, entry, load_expected
from fixtures.stats.accuracy import Accuracy
from fixtures.storage.files import ROOT

RANGE = Range(0.46, 0.56, (312,), (0, 1, 2), "seeds 0-2")


def test_every_range_belongs_to_a_test():
    """A misspelt or outdated entry would never be compared with anything."""
    command = [sys.executable, "-m", "pytest", "bench", "--collect-only", "-q", "-p", "no:cacheprovider"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # set by -n
    listed = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    tests = {line.partition("::")[2] for line in listed.splitlines()}
    ranges = load_expected()
    assert ranges
    assert {name for entries in ranges.values() for name in entries} <= tests


def test_only_an_accuracy_with_the_same_n_can_be_in_range():
    assert Accuracy(160, 312) in RANGE
    assert Accuracy(129, 312) not in RANGE
    assert Accuracy(16, 31) not in RANGE
    assert 0.5 not in RANGE


def test_for_a_part_of_the_items_the_interval_has_to_overlap_the_range():
    part = replace(RANGE, part=True)
    assert Accuracy(6, 20) in part  # [14.5 %, 51.9 %]
    assert Accuracy(2, 20) not in part  # [2.8 %, 30.1 %]
    assert Accuracy(160, 313) not in part
    assert "its interval misses [0.46, 0.56]" in part.explain(Accuracy(2, 20), "test_x[sft]")[0]


def test_the_explanation_has_the_number_its_n_and_what_to_do():
    text = "\n".join(RANGE.explain(Accuracy(129, 312), "test_x[sft]"))
    assert "41.3% (129/312)" in text
    assert "[0.46, 0.56]" in text
    assert "edit test_x[sft] in bench/expected.toml" in text


def test_all_bad_entries_are_reported_at_once(tmp_path):
    path = tmp_path / "expected.toml"
    path.write_text('["m"."a"]\nlow = 0.1\n["m"."b"]\nlow = 0.9\nhigh = 0.1\nn = 5\nseeds = [0]\nwhy = ""\n')
    with pytest.raises(ExpectedError, match=r"m a: needs low, high.*m b: needs 0 <= low <= high"):
        load_expected(path)


@pytest.mark.parametrize("test", ["test_x[sft-seen_tools]", "test_x[s2-sft-seen_tools]", "test_x[sft-s10-seen_tools]"])
def test_a_range_is_the_same_for_every_seed(test):
    assert entry(test) == "test_x[sft-seen_tools]"


def test_an_entry_without_axes_has_no_brackets():
    assert entry("test_x") == entry("test_x[s1]") == "test_x"


def test_a_range_over_folds_has_the_items_of_each():
    over_folds = Range(0.4, 0.6, (132, 130), (0, 1), "folds 0, 1")
    assert Accuracy(66, 132) in over_folds
    assert Accuracy(65, 130) in over_folds
    assert Accuracy(65, 131) not in over_folds
    assert "the range was set on 132 or 130" in over_folds.explain(Accuracy(65, 131), "x")[0]


def test_what_is_appended_may_go_to_a_device_and_what_is_replaced_may_not():
    assert str(arguments.appended("/dev/null")) == "/dev/null"
    with pytest.raises(argparse.ArgumentTypeError, match="needs the name of a file"):
        arguments.file("/dev/null")
