"""Masked items: other names everywhere, and nothing else changed."""

import pytest

from fixtures.data.bfcl import CATEGORIES
from fixtures.data.masking import LENGTH, MARK, WithMasked, masked, masked_id
from fixtures.data.regimes import REGIMES
from fixtures.prompts import gold_calls
from fixtures.scoring.scorer import prepare_scorer


def names(example):
    """The names of tools and top-level parameters."""
    properties = [name for tool in example.tools for name in tool["parameters"]["properties"]]
    return [tool["name"] for tool in example.tools], properties


def test_an_item_with_two_parameters(example):
    other = masked(example)
    (tool,), parameters = names(other)
    assert other.id == example.id + MARK
    assert len(tool) == LENGTH
    assert other.answers[0].name == tool
    assert set(other.answers[0].arguments) <= set(parameters)
    assert set(other.tools[0]["parameters"]["required"]) <= set(parameters)
    assert other.tools[0]["description"] == example.tools[0]["description"]


def test_every_item_keeps_all_but_its_names(with_gold):
    """All names differ from the old ones and from each other; types, values, order, and what may be omitted stay."""
    for example in with_gold.values():
        other = masked(example)
        for old, new in zip(names(example), names(other), strict=True):
            assert len(set(new)) >= len(set(old))
            assert set(new).isdisjoint(old)
        before, after = (
            [(list(t["parameters"]["properties"].values()), len(t["parameters"].get("required", ()))) for t in e.tools]
            for e in (example, other)
        )
        assert before == after
        assert [list(a.arguments.values()) for a in example.answers] == [
            list(a.arguments.values()) for a in other.answers
        ]


def test_the_gold_calls_of_a_masked_item_are_correct_for_it_and_wrong_for_the_original(with_gold):
    for example in list(with_gold.values())[:200]:
        other = masked(example)
        calls = gold_calls(other)
        assert prepare_scorer(other).judge(calls).primary == prepare_scorer(example).judge(gold_calls(example)).primary
        assert not prepare_scorer(example).judge(calls).primary.correct


def test_masked_items_are_found_and_not_counted(examples, bench):
    both = WithMasked(examples)
    first = next(iter(examples))
    assert both[masked_id(first)] == masked(examples[first])
    assert both[masked_id(first)] == WithMasked(examples)[masked_id(first)]  # the same in every process
    assert len(both) == len(examples)
    for unknown in ("none", masked_id("none")):
        with pytest.raises(KeyError):
            both[unknown]
    partition, everything = bench.items.partition, bench.items.examples
    trained = REGIMES["masked_names"](partition, everything)
    assert [i.removesuffix(MARK) for i in trained] == list(partition.train)
    assert {everything[i].category for i in trained} == set(CATEGORIES)
