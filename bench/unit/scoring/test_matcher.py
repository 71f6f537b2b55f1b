"""The AST matcher: properties of generated (schema, gold, calls) first, then one named example per known pitfall."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.support.match_answer import match_answer
from bench.support.mutations import HARMFUL, mutate
from bench.support.strategies import HOSTILE_LITERALS, NAMES, VALUES, examples, near_calls, right_calls
from fixtures.data.bfcl import Answer, Call, Example
from fixtures.formats import render_calls
from fixtures.scoring import java_js
from fixtures.scoring.parse import ParseError, parse_calls
from fixtures.scoring.scorer import prepare_scorer
from fixtures.scoring.values import composed_key, text_key, type_mismatch
from fixtures.scoring.verdict import REASONS


@given(st.data(), examples())
def test_correct_calls_are_accepted_in_any_order(data, example):
    """Gold matches itself; the order of calls and arguments and the omission of optional arguments do not matter."""
    judgement = prepare_scorer(example).judge(data.draw(right_calls(example)))
    assert judgement.strict.correct
    assert judgement.equivalent.correct


@given(st.data(), examples(odd=True))
def test_equivalent_accepts_everything_that_strict_accepts(data, example):
    calls = data.draw(near_calls(example))
    judgement = prepare_scorer(example).judge(calls)
    assert judgement.equivalent.correct or not judgement.strict.correct
    assert all(verdict.reason in REASONS and isinstance(verdict.detail, str) for verdict in judgement.verdicts)


@given(st.data(), examples(odd=True))
def test_the_order_of_calls_never_changes_the_verdict(data, example):
    calls = data.draw(near_calls(example))
    first, second = (prepare_scorer(example).judge(order) for order in (calls, data.draw(st.permutations(calls))))
    assert first.strict.reason == second.strict.reason
    assert first.equivalent.reason == second.equivalent.reason


@given(st.data(), examples(odd=True))
def test_rendering_and_parsing_changes_no_verdict(data, example):
    calls = data.draw(near_calls(example))
    assert prepare_scorer(example).judge(parse_calls(render_calls(calls))) == prepare_scorer(example).judge(calls)


@given(examples(), st.sampled_from(sorted(set(HARMFUL) - {"drop_argument"})), st.integers(0, 3))
def test_no_harmful_mutation_of_gold_is_accepted(example, name, seed):
    calls = mutate(example, name, seed)
    if calls is not None:
        assert not prepare_scorer(example).judge(calls).strict.correct


@given(st.data(), examples(), NAMES, st.dictionaries(NAMES, VALUES, max_size=2))
def test_adding_a_wrong_call_never_helps(data, example, name, arguments):
    calls = data.draw(near_calls(example))
    offered = {tool["name"] for tool in example.tools}
    wrong = Call(name if name not in offered else f"{name}_2", arguments)
    for answer in ([*calls, wrong], [*calls[:-1], wrong], [wrong, *calls[1:]]):
        assert not any(verdict.correct for verdict in prepare_scorer(example).judge(answer).verdicts)


@given(st.text(max_size=20))
def test_surrounding_whitespace_is_ignored(text):
    if text.strip(" "):
        assert text_key(text) == text_key(f" {text}  ")
        assert composed_key(text) == composed_key(f" {text}  ")


@given(VALUES)
def test_any_value_matches_the_type_any_and_a_missing_type(value):
    assert type_mismatch(value, {"type": "any"}) is None
    assert type_mismatch(value, {}) is None


def item(schema, *accepted, required=(), category="simple"):
    """An example with one gold call f(x) for each list of accepted values."""
    tool = {"name": "f", "parameters": {"properties": {"x": schema}, "required": list(required)}}
    return Example("made_0", category, (), (tool,), tuple(Answer("f", {"x": list(values)}) for values in accepted))


def judge(example, *values):
    return prepare_scorer(example).judge([Call("f", {} if value is ... else {"x": value}) for value in values])


TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("predicted", "gold"),
    [
        ("April 1,2024", "april 1, 2024"), ("New  York", "new york"), (" Paris ", "Paris"), ("STRASSE", "straße"),
        ("2024/04/01", "2024-04-01"), ("April 1 2024", "April 1, 2024"),
    ],
)  # fmt: skip
def test_harmless_differences_are_ignored(predicted, gold):
    assert judge(item(TEXT, [gold]), predicted).strict.correct


@pytest.mark.parametrize(
    ("predicted", "gold"),
    [
        ("35", "3.5"), ("5", "-5"), ("44", "4/4"), ("x2", "x**2"), ("ab", "a b"), ('it"s', "it's"), ("a_b", "ab"),
        ("2024 04 01", "20240401"), ("1-2", "12"), ("3x+2", "3x + 2"), ("e\u0301", "é"), ("12/04", "12-04"),
    ],
)  # fmt: skip
def test_meaningful_differences_are_rejected(predicted, gold):
    assert judge(item(TEXT, [gold]), predicted).strict.reason == "argument_value"


def test_composed_and_decomposed_text_are_equivalent():
    assert judge(item(TEXT, ["é"]), "e\u0301").equivalent.correct
    assert judge(item(TEXT, ["\u037e"]), ";").equivalent.correct  # the Greek question mark: NFC makes it ASCII


def test_an_explicit_default_is_equivalent_to_an_omitted_argument():
    schema = {"type": "integer", "default": 3}
    omitted = item(schema, [""])
    assert judge(omitted, 3).reasons == {"strict": "unexpected_argument", "bfcl": "argument_value", "equivalent": "ok"}
    assert judge(omitted, 4).equivalent.reason == "unexpected_argument"
    explicit = item(schema, [3])
    assert judge(explicit, ...).reasons == {
        "strict": "missing_argument", "bfcl": "missing_argument", "equivalent": "ok",
    }  # fmt: skip
    assert judge(item(schema, [3], required=["x"]), ...).equivalent.reason == "missing_argument"


def test_an_integer_matches_a_float_argument_but_not_the_reverse():
    numbers = item({"type": "array", "items": {"type": "float"}}, [[1.0, 2.0]])
    assert judge(numbers, [1, 2]).reasons == {"strict": "ok", "bfcl": "argument_type", "equivalent": "ok"}  # 22 items
    assert judge(item({"type": "integer"}, [5]), 5.0).strict.reason == "argument_type"


def test_true_is_not_one_inside_a_dict():
    gold = item({"type": "dict"}, [{"n": [1]}])
    assert judge(gold, {"n": True}).reasons == {
        "strict": "argument_value",
        "bfcl": "ok",
        "equivalent": "argument_value",
    }


def test_optional_arguments_may_be_left_out_unless_the_schema_requires_them():
    assert judge(item({"type": "integer"}, ["", 3]), ...).strict.correct
    assert judge(item({"type": "integer"}, ["", 3]), 3).strict.correct
    assert judge(item({"type": "integer"}, ["", 3]), None).strict.reason == "argument_type"
    assert judge(item({"type": "integer"}, ["", 3]), "").strict.reason == "argument_type"
    assert judge(item({"type": "integer"}, ["", 3], required=["x"]), ...).strict.reason == "missing_argument"


def test_parallel_calls_are_assigned_exactly_not_greedily():
    # The first gold call accepts both values: a greedy matcher gives it the value that the second one needs.
    gold = item({"type": "integer"}, [1, 2], [1], category="parallel")
    assert judge(gold, 1, 2).reasons == {"strict": "ok", "bfcl": "argument_value", "equivalent": "ok"}
    assert judge(gold, 2, 2).strict.reason == "argument_value"


def test_an_empty_string_is_not_a_value_of_an_optional_key():
    gold = item({"type": "dict"}, [{"k": ["a", ""]}])
    assert judge(gold, {}).strict.correct
    assert judge(gold, {"k": ""}).reasons == {"strict": "argument_value", "bfcl": "ok", "equivalent": "argument_value"}


def test_a_float_does_not_match_an_integer_default():
    assert judge(item({"type": "integer", "default": 3}, [""]), 3.0).equivalent.reason == "unexpected_argument"


def test_a_string_cannot_imitate_the_date_marker():
    assert not judge(item(TEXT, ["2024-04-01"]), "\0" + "2024 04 01").strict.correct


def test_quotes_around_a_javascript_string_are_stripped_once():
    quoted = item({"type": "String"}, ["abc"], category="simple_javascript")
    assert judge(quoted, "'abc'").strict.correct
    assert not judge(quoted, "''abc''").strict.correct
    assert not judge(quoted, "'" * 1000).strict.correct


def test_the_detail_names_the_path_inside_a_nested_value():
    schema = {"type": "array", "items": {"type": "dict", "properties": {"city": {"type": "string"}}}}
    gold = item(schema, [[{"city": ["Rome"]}, {"city": ["Oslo"]}]])
    assert judge(gold, [{"city": "Rome"}, {"city": "Bonn"}]).strict.detail.startswith("f(x[1].city): expected")
    assert judge(gold, [{"city": "Rome"}, {"city": 3}]).strict.detail.startswith("f(x[1].city): expected 'array'")
    assert judge(gold, [{"city": "Rome"}]).strict.detail.startswith("f(x[1]): ")


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        (ParseError("not JSON"), "parse_error"),
        ([], "abstained"),
        ([Call("f", {"x": 1})] * 2, "call_count"),
        ([Call("g", {"x": 1})], "function_name"),
        ([Call("f", {})], "missing_argument"),
        ([Call("f", {"x": 1, "y": 2})], "unexpected_argument"),
        ([Call("f", {"x": "1"})], "argument_type"),
        ([Call("f", {"x": 2})], "argument_value"),
    ],
)
def test_each_kind_of_wrong_answer_has_its_reason(calls, reason):
    verdict = match_answer(calls, item({"type": "integer"}, [1]))
    assert (verdict.correct, verdict.reason) == (False, reason)
    assert verdict.detail


@pytest.mark.parametrize("predicted", ["3", 3], ids=["source_text", "number"])
def test_java_arguments_may_be_source_text_or_values(predicted):
    java = item({"type": "integer"}, [3], category="simple_java")
    assert judge(java, predicted).strict.correct
    assert judge(java, predicted).bfcl.correct == isinstance(predicted, str)
    long = item({"type": "long"}, [3], category="simple_java")
    assert judge(long, predicted).strict.correct  # 3 is accepted where a long is expected; upstream requires 3L


@pytest.mark.parametrize(("start", "piece"), HOSTILE_LITERALS, ids=repr)
@pytest.mark.parametrize(
    ("category", "kinds"),
    [("simple_java", ["HashMap", "Array", "ArrayList"]), ("simple_javascript", ["dict", "array"])],
)
def test_hostile_literals_get_a_verdict(category, kinds, start, piece):
    """`new HashMap<>(){` and whitespace once took minutes; upstream's time doubles with each further row of `], [`."""
    text = start + piece * ((java_js.MAX_CHARACTERS - len(start)) // len(piece))
    for kind in kinds:
        judgement = judge(item({"type": kind, "items": {"type": "any"}}, ["x"], category=category), text)
        assert not judgement.strict.correct
        assert not judgement.bfcl.correct


def test_many_parallel_calls_are_matched_in_polynomial_time():
    """64 gold calls that accept 1 to 64 values each: exact assignment; trying all orders would never finish."""
    gold = item({"type": "integer"}, *[range(i + 1) for i in range(64)], category="parallel")
    assert judge(gold, *range(64)).strict.correct
    assert judge(gold, *range(62), 63, 63).strict.reason == "argument_value"


@given(examples(), NAMES)
def test_a_different_function_is_wrong(example, other):
    calls = [Call(answer.name, {}) for answer in example.answers]
    renamed = [replace(calls[0], name=f"{other}_2"), *calls[1:]]
    assert not any(verdict.correct for verdict in prepare_scorer(example).judge(renamed).verdicts)
