"""The study's folds: what is held out is nowhere in training, whatever the case and punctuation of names."""

import json
import re
from collections import Counter

import pytest

from fixtures.data import folds, splits
from fixtures.data.bfcl import CATEGORIES, DatasetError

FOLDS = folds.load_folds()


def spelt(text):
    return re.sub(r"[\W_]+", "", text.casefold())


@pytest.fixture(params=range(folds.FOLDS))
def fold(request):
    return FOLDS[request.param]


def test_the_tracked_folds_are_reproducible(examples):
    assert folds.make_folds(examples) == FOLDS


def test_every_item_is_once_among_the_unseen_tools(examples):
    assert Counter(i for fold in FOLDS for i in fold.unseen_tools) == Counter(dict.fromkeys(examples, 1))


def test_a_question_about_seen_tools_is_in_one_fold_only():
    seen = Counter(i for fold in FOLDS for i in fold.seen_tools)
    assert set(seen.values()) == {1}
    assert len(seen) == 653


def test_parts_of_a_fold_do_not_overlap(fold):
    parts = [fold.train, fold.dev, fold.seen_tools, fold.unseen_tools]
    assert len(set().union(*parts)) == sum(map(len, parts))


def test_an_unseen_tool_is_nowhere_in_training(examples, fold):
    """Neither called nor offered, in training and development."""
    unseen = {spelt(name) for i in fold.unseen_tools for name in examples[i].gold_names}
    offered = {spelt(tool["name"]) for i in (*fold.train, *fold.dev) for tool in examples[i].tools}
    assert not unseen & offered


@pytest.mark.parametrize("part", ["unseen_tools", "seen_tools", "dev"])
def test_no_held_out_question_is_in_training_in_equal_or_similar_words(examples, fold, part):
    trained = [splits.word_set(examples[i].question) for i in fold.train]
    spellings = {spelt(examples[i].question) for i in fold.train}
    held_out = {i: splits.word_set(examples[i].question) for i in getattr(fold, part)}
    assert not [i for i in held_out if spelt(examples[i].question) in spellings]
    assert not [i for i, words in held_out.items() if any(splits.near_duplicates(words, known) for known in trained)]


def test_seen_tools_are_called_by_the_examples_that_training_draws(examples, fold):
    drawn = {name for i in fold.train[: folds.DRAWN] for name in folds.gold_tools(examples[i])}
    assert all(folds.gold_tools(examples[i]) <= drawn for i in fold.seen_tools)


def test_training_draws_equally_from_all_categories_as_far_as_they_reach(examples, fold):
    available = Counter(examples[i].category for i in fold.train)
    for n in (100, 200, folds.DRAWN):
        drawn = Counter(examples[i].category for i in fold.train[:n])
        assert all(drawn[c] >= min(n // len(CATEGORIES), available[c]) for c in CATEGORIES)


def test_dev_has_each_category(examples, fold):
    assert Counter(examples[i].category for i in fold.dev) == dict.fromkeys(CATEGORIES, folds.DEV_PER_CATEGORY)


def test_names_are_compared_without_case_and_punctuation():
    assert folds.normalized("weather.forecast") == folds.normalized("Weather_Forecast") == "weatherforecast"


@pytest.mark.parametrize("content", ["", "{}", json.dumps({"folds": [{"train": []}]})])
def test_the_error_for_unreadable_folds_says_what_to_do(tmp_path, content):
    (tmp_path / "folds.json").write_text(content)
    with pytest.raises(DatasetError, match=r"python -m fixtures\.data\.folds"):
        folds.load_folds(tmp_path / "folds.json")
