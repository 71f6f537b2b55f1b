"""The AST matcher: laws first, then one named example per known trap."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fixtures.dataset import Answer, Call, Example
from fixtures.match import fits, match_answer, match_call, normalise
from fixtures.parse import ParseError

names = st.from_regex(r"[a-z]{1,6}(\.[a-z]{1,4})?", fullmatch=True)
scalars = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(names, v, max_size=3), max_leaves=6)
calls = st.builds(Call, names, st.dictionaries(names, values, max_size=4))


def accepts(value):
    """The gold form that accepts exactly this value: a mapping's values are lists of accepted ones."""
    if isinstance(value, dict):
        return {key: [accepts(item)] for key, item in value.items()}
    return [accepts(item) for item in value] if isinstance(value, list) else value


def item(*gold: Call, **schemas) -> Example:
    tools = tuple(
        {"name": c.name, "parameters": {"properties": {a: schemas.get(a, {}) for c2 in gold for a in c2.arguments}}}
        for c in gold
    )
    answers = tuple(Answer(c.name, {k: [accepts(v)] for k, v in c.arguments.items()}) for c in gold)
    return Example("test_0", "parallel", (), tools, answers)


def differs(a, b) -> bool:
    """Two values that not even a lenient reader would take for the same."""
    if isinstance(a, str) and isinstance(b, str):
        return normalise(a) != normalise(b)
    return type(a) is not type(b) or (not isinstance(a, list | dict) and a != b)


def no_empty_string(call: Call) -> bool:
    # "" among the accepted values means that the argument may be left out.
    return "" not in call.arguments.values() and "''" not in repr(call.arguments)


good_calls = calls.filter(no_empty_string)


@given(st.lists(good_calls, min_size=1, max_size=5), st.randoms())
def test_matcher_accepts_gold_calls_in_any_order(gold, random):
    assert match_answer(random.sample(gold, len(gold)), item(*gold)).correct


@given(good_calls, names)
def test_matcher_rejects_a_different_function(call, other):
    verdict = match_answer([replace(call, name=other)], item(call))
    assert verdict.correct == (other == call.name)
    assert verdict.reason in ("ok", "function_name")


@given(good_calls, st.data())
def test_matcher_rejects_a_dropped_argument(call, data):
    if not call.arguments:
        return
    name = data.draw(st.sampled_from(sorted(call.arguments)))
    rest = {k: v for k, v in call.arguments.items() if k != name}
    assert match_answer([replace(call, arguments=rest)], item(call)).reason == "missing_argument"


@given(good_calls, names, values)
def test_matcher_rejects_an_added_argument(call, name, value):
    if name in call.arguments:
        return
    more = {**call.arguments, name: value}
    assert match_answer([replace(call, arguments=more)], item(call)).reason == "unexpected_argument"


@given(good_calls, values, st.data())
@example(Call("f", {"a": True}), 1, None)
@example(Call("f", {"a": "3.5"}), "35", None)
@example(Call("f", {"a": "-5"}), "5", None)
@example(Call("f", {"a": "x**2"}), "x2", None)
def test_matcher_rejects_a_changed_value(call, value, data):
    if not call.arguments:
        return
    name = data.draw(st.sampled_from(sorted(call.arguments))) if data else "a"
    if differs(value, call.arguments[name]):
        changed = replace(call, arguments={**call.arguments, name: value})
        verdict = match_answer([changed], item(call))
        assert verdict.correct == (not isinstance(value, bool | str) and value == call.arguments[name]
                                   and not isinstance(call.arguments[name], bool))  # fmt: skip


@given(st.lists(good_calls, min_size=1, max_size=4), good_calls)
def test_adding_a_call_never_helps(gold, extra):
    assert match_answer([*gold, extra], item(*gold)).reason == "call_count"


@given(st.text(max_size=20))
def test_normalising_twice_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("a", "b"),
    [("April 1,2024", "april 1, 2024"), ("New  York", "new york"), ("x^2 + 3*x", "x^2+3*x"), ("it's", 'it"s')],
)
def test_harmless_differences_are_forgiven(a, b):
    assert normalise(a) == normalise(b)


@pytest.mark.parametrize(("a", "b"), [("3.5", "35"), ("-5", "5"), ("4/4", "44"), ("x**2", "x2"), ("a b", "ab")])
def test_meaningful_differences_are_kept(a, b):
    assert normalise(a) != normalise(b)


def test_integers_fit_a_float_argument_but_not_the_other_way():
    gold = item(Call("f", {"x": [1.0, 2.0]}), x={"type": "array", "items": {"type": "float"}})
    assert match_answer([Call("f", {"x": [1, 2]})], gold).correct  # upstream rejects it: 22 items
    whole = item(Call("f", {"x": 5}), x={"type": "integer"})
    assert match_answer([Call("f", {"x": 5.0})], whole).reason == "argument_type"


def test_true_is_not_one_inside_a_dict():
    gold = item(Call("f", {"x": {"n": 1}}), x={"type": "dict"})
    assert not match_answer([Call("f", {"x": {"n": True}})], gold).correct  # upstream accepts it


def test_optional_arguments_may_be_left_out_unless_the_schema_requires_them():
    answer = Answer("f", {"x": ["", 3]})
    schema = {"properties": {"x": {"type": "integer"}}}
    assert match_call(Call("f", {}), answer, schema).correct
    assert match_call(Call("f", {"x": 3}), answer, schema).correct
    assert match_call(Call("f", {"x": None}), answer, schema).reason == "argument_type"
    assert match_call(Call("f", {}), answer, schema | {"required": ["x"]}).reason == "missing_argument"


def test_parallel_calls_are_assigned_exactly_not_greedily():
    # The first gold call accepts both values: a greedy matcher gives it the one the second needs.
    answers = (Answer("f", {"x": [1, 2]}), Answer("f", {"x": [1]}))
    tool = {"name": "f", "parameters": {"properties": {"x": {"type": "integer"}}}}
    parallel = Example("parallel_0", "parallel", (), (tool,), answers)
    assert match_answer([Call("f", {"x": 1}), Call("f", {"x": 2})], parallel).correct
    assert match_answer([Call("f", {"x": 2}), Call("f", {"x": 2})], parallel).reason == "argument_value"


def test_a_parse_error_is_wrong_and_keeps_its_detail():
    verdict = match_answer(ParseError("not JSON"), item(Call("f", {})))
    assert (verdict.correct, verdict.reason, verdict.detail) == (False, "parse_error", "not JSON")


@given(values)
def test_any_value_fits_an_unknown_type(value):
    assert fits(value, {"type": "any"})
    assert fits(value, {})
