"""Partial credit against hand-computed numbers, and its order on real items."""

import pytest

from fixtures.data.bfcl import Answer, Call, Example, gold_calls
from fixtures.scoring.parse import ParseError
from fixtures.scoring.partial import f1
from fixtures.scoring.scorer import prepare_scorer

TOOL = {
    "name": "trip", "description": "A trip.",
    "parameters": {
        "type": "dict", "required": ["to", "days"],
        "properties": {
            "to": {"type": "string"}, "days": {"type": "integer"}, "by": {"type": "string"},
        },
    },
}  # fmt: skip
OTHER = TOOL | {"name": "other"}


def credit(calls, *gold):
    answers = tuple(Answer("trip", arguments) for arguments in gold)
    example = Example("simple_python_0", "simple", ({"role": "user", "content": "?"},), (TOOL, OTHER), answers)
    scorer = prepare_scorer(example)
    predicted = calls if isinstance(calls, ParseError) else [Call(name, arguments) for name, arguments in calls]
    return f1(scorer, predicted, scorer.judge(predicted))


GOLD = {"to": ["Rome"], "days": [3], "by": ["train", ""]}
RIGHT = {"to": "Rome", "days": 3}


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([("trip", RIGHT)], 1.0),
        ([("trip", RIGHT | {"by": "train"})], 1.0),
        ([("trip", {"to": "Rome", "days": 4})], 2 * 2 / (3 + 3)),
        ([("trip", {"to": "Rome"})], 2 * 2 / (2 + 3)),
        ([("trip", {"to": "Rome", "days": 4, "by": "train"})], 2 * 3 / (4 + 4)),  # a correct optional one is gold, too
        ([("trip", RIGHT | {"by": "ship"})], 2 * 3 / (4 + 3)),
        ([("trip", RIGHT | {"new": 1})], 2 * 3 / (4 + 3)),
        ([("trip", {})], 2 * 1 / (1 + 3)),
        ([("other", RIGHT)], 0.0),
        ([("trip", RIGHT), ("trip", RIGHT)], 2 * 3 / (6 + 3)),
        ([], 0.0),
        (ParseError("no JSON"), 0.0),
    ],
)
def test_one_gold_call_by_hand(calls, expected):
    """The gold call has three required parts: the name, `to` and `days`."""
    assert credit(calls, GOLD) == pytest.approx(expected)


def test_calls_are_assigned_to_the_gold_calls_that_give_most():
    """Two gold calls of three parts; the second predicted call fits the first, the first one half of the second."""
    second = {"to": ["Oslo"], "days": [5]}
    assert credit([("trip", {"to": "Oslo", "days": 1}), ("trip", RIGHT)], GOLD, second) == pytest.approx(
        2 * 5 / (6 + 6)
    )
    assert credit([("trip", RIGHT)], GOLD, second) == pytest.approx(2 * 3 / (3 + 6))


def test_credit_is_whole_exactly_for_correct_answers(with_gold, scorers):
    """On every real item: gold has 1, and less without its last call or argument."""
    for item, example in with_gold.items():
        gold, scorer = gold_calls(example), scorers[item]
        judgement = scorer.judge(gold)
        assert (f1(scorer, gold, judgement) == 1) == judgement.primary.correct
        fewer = gold[:-1]
        assert f1(scorer, fewer, scorer.judge(fewer)) < 1
        assert 0 <= f1(scorer, gold * 2, scorer.judge(gold * 2)) < 1


def test_without_a_fitting_tool_only_an_abstention_has_credit(single_turn, scorers):
    item = next(i for i, example in single_turn.items() if example.category == "irrelevance")
    call = [Call(single_turn[item].tools[0]["name"], {})]
    assert [f1(scorers[item], calls, scorers[item].judge(calls)) for calls in ([], call)] == [1.0, 0.0]
