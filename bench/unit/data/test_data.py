"""The real BFCL items and the tracked splits: held-out items and tools do not appear in training."""

import math
from collections import Counter
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.support.match_answer import match_answer
from fixtures.data import folds, regimes, splits
from fixtures.data.bfcl import CATEGORIES, DatasetError, gold_calls
from fixtures.formats import render_calls
from fixtures.prompts import render_prompts, render_question
from fixtures.scoring.parse import parse_calls


@pytest.fixture(scope="session")
def partition(bench):
    return bench.items.partition


def test_four_categories_with_a_thousand_items(examples):
    assert Counter(e.category for e in examples.values()) == dict(zip(CATEGORIES, (400, 200, 200, 200), strict=True))


def test_every_gold_answer_is_correct_after_rendering_and_parsing(examples):
    wrong = {
        i: verdict
        for i, e in examples.items()
        if not (verdict := match_answer(parse_calls(render_calls(gold_calls(e))), e)).correct
    }
    assert wrong == {}


def test_every_gold_answer_in_reverse_order_is_correct(examples):
    assert all(match_answer(gold_calls(e)[::-1], e).correct for e in examples.values())


def test_an_answer_that_lacks_a_gold_call_is_wrong(examples):
    assert not any(match_answer(gold_calls(e)[1:], e).correct for e in examples.values())


def test_the_tracked_splits_are_reproducible(examples, partition):
    assert splits.make_partition(examples, splits.SEED) == partition


def test_parts_do_not_overlap(examples, partition):
    parts = [set(ids or ()) for ids in asdict(partition).values()]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert set().union(*parts) <= examples.keys()


def test_unseen_tools_share_no_tool_or_question_with_the_other_parts(examples, partition):
    known = [examples[i] for part in (partition.train, partition.dev, partition.seen_tools) for i in part]
    offered = {tool["name"] for e in known for tool in e.tools}
    fingerprints = {f for e in known for f in splits.fingerprints(e)}
    words = [splits.word_set(e.question) for e in known]
    for e in (examples[i] for i in partition.unseen_tools):
        assert not e.gold_names & offered
        assert not splits.fingerprints(e) & fingerprints
        assert not any(splits.near_duplicates(splits.word_set(e.question), w) for w in words)
    counts = {name: len(ids or ()) for name, ids in asdict(partition).items()}
    print(counts, "unseen gold tools:", len({n for i in partition.unseen_tools for n in examples[i].gold_names}))
    assert counts["unseen_tools"] == 200


@pytest.mark.parametrize("part", ["seen_tools", "dev"])
def test_held_out_questions_are_not_in_training(examples, partition, part):
    words = [splits.word_set(examples[i].question) for i in partition.train]
    for i in getattr(partition, part):
        assert not any(splits.near_duplicates(splits.word_set(examples[i].question), w) for w in words)


def test_seen_tools_are_all_gold_in_training(examples, partition):
    trained = {name for i in partition.train for name in examples[i].gold_names}
    assert all(examples[i].gold_names <= trained for i in partition.seen_tools)


def test_unseen_patterns_are_never_trained_on(examples, partition):
    split = regimes.SPLITS["unseen_patterns"]
    trained = regimes.REGIMES[split.regime](partition, examples)
    tested = split.select(partition, examples)
    assert {examples[i].category for i in tested} == {"parallel_multiple"}
    assert "parallel_multiple" not in {examples[i].category for i in trained}
    assert not set(trained) & set(tested)


@given(n=st.integers(1, 80), more=st.integers(0, 40), seed=st.integers(0, 3))
def test_subsets_are_nested(examples, partition, n, more, seed):
    small = regimes.subset(partition.unseen_tools, n, seed, examples)
    large = regimes.subset(partition.unseen_tools, n + more, seed, examples)
    assert small == large[:n]
    assert len(small) == n


def test_subsets_keep_the_category_proportions(examples, partition):
    sample = regimes.subset(partition.unseen_tools, 40, 0, examples)
    assert Counter(examples[i].category for i in sample) == dict.fromkeys(CATEGORIES, 10)


def test_the_error_for_unreadable_splits_says_what_to_do(tmp_path):
    path = tmp_path / "splits.json"
    path.write_text('{"parts": {"train": []}}')
    with pytest.raises(DatasetError, match=r"python -m fixtures\.data\.splits"):
        splits.load_partition(path)


def test_rendered_question(example, tokenizer, snapshot):
    assert render_question(example, tokenizer) == snapshot


def test_rendered_completion_ends_with_the_end_of_turn(example, tokenizer):
    (prompt,) = render_prompts([example], tokenizer, end_of_turn=1)
    assert prompt.completion[-1] == 1
    assert prompt.completion[:-1] == tuple(tokenizer.encode('[{"name":"area.of","arguments":{"width":2.5}}]'))
    assert prompt.tokens == tuple(tokenizer.encode(render_question(example, tokenizer)))


@pytest.mark.parametrize("regime", regimes.REGIMES)
def test_no_regime_trains_on_held_out_items_or_tools(bench, partition, regime):
    examples = bench.items.examples
    trained = [examples[i] for i in regimes.REGIMES[regime](partition, examples)]
    assert {e.id for e in trained}.isdisjoint(partition.dev + partition.seen_tools + partition.unseen_tools)
    unseen = [examples[i] for i in partition.unseen_tools]
    names = {name for e in unseen for name in e.gold_names}
    assert names.isdisjoint(tool["name"] for e in trained for tool in e.tools)
    assert {t for e in unseen for t in splits.fingerprints(e)}.isdisjoint(
        t for e in trained for t in splits.fingerprints(e)
    )


def test_regimes_of_equal_size_differ_only_in_their_patterns(bench, partition):
    """The homogeneous regime contains the diverse one's simple items; the smaller diverse regimes are nested."""
    examples = bench.items.examples
    selected = {name: set(regimes.REGIMES[name](partition, examples)) for name in regimes.REGIMES}
    assert len(selected["simple_320"]) == len(selected["four_320"]) == 320
    assert selected["four_80"] < selected["four_160"] < selected["four_320"]
    counts = {name: Counter(examples[i].category.removeprefix("live_") for i in ids) for name, ids in selected.items()}
    assert counts["simple_320"] == {"simple": 320}
    assert counts["four_320"] == dict.fromkeys(CATEGORIES, 80)
    simple = {i for i in selected["four_320"] if examples[i].category.endswith("simple")}
    assert simple < selected["simple_320"]


def test_every_tenth_item_has_no_fitting_tool(bench, partition):
    """In any prefix, because a scale takes the first items; never a question of the test split."""
    examples, tested = bench.items.examples, regimes.SPLITS["irrelevance"].select(partition, bench.items.examples)
    ids = regimes.REGIMES["with_abstention"](partition, examples)
    without = [examples[i].category == "irrelevance" for i in ids]
    assert all(sum(without[:n]) == math.ceil(n / 10) for n in range(1, len(ids) + 1))
    asked = [splits.words_of(examples[i]) for i in (*tested, *partition.seen_tools, *partition.unseen_tools)]
    added = [splits.words_of(examples[i]) for i in ids if examples[i].category == "irrelevance"]
    assert not any(splits.near_duplicates(one, other) for one in added for other in asked)
    assert [i for i in ids if examples[i].category != "irrelevance"] == list(partition.train)


def test_the_learning_curve_is_nested(bench):
    examples = bench.items.examples
    for fold in folds.load_folds():
        first, second = (set(regimes.REGIMES[f"first_{n}"](fold, examples)) for n in (100, 200))
        assert first < second < set(fold.train[:400])
        assert (len(first), len(second)) == (100, 200)


def test_irrelevant_questions_have_no_gold_call(bench):
    items = regimes.SPLITS["irrelevance"].select(bench.items.partition, bench.items.examples)
    assert {bench.items.examples[i].category for i in items} == {"irrelevance"}
    assert len(items) == regimes.IRRELEVANT
