"""The `bfcl` scorer agrees with upstream's checker: on real gold answers, on their mutants and on generated items."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.support import official
from bench.support.mutations import MUTATIONS, mutants
from bench.support.strategies import VALUES, examples, near_calls
from fixtures.data.bfcl import Answer, Call, Example, gold_calls
from fixtures.scoring.scorer import prepare_scorer
from fixtures.scoring.verdict import REASONS
from fixtures.storage import assets, pinned

CRASHES: Counter[str] = Counter()  # upstream's exceptions since the last clear(), by type
UPSTREAM_CRASHES = {"KeyError", "TypeError", "AttributeError", "IndexError", "OverflowError", "ValueError"}


@pytest.fixture(scope="session")
def upstream(bench):
    return official.load(assets.fetch(pinned.BFCL, offline=bench.options.offline))


def disagreement(upstream, calls, example, scorer=None):
    """Both verdicts if they differ, else None; where upstream crashes, any verdict of ours is accepted."""
    theirs = upstream(calls, example)
    ours = (scorer or prepare_scorer(example)).judge(calls).bfcl
    assert ours.reason in REASONS
    if isinstance(theirs, str):
        CRASHES[theirs] += 1
        assert theirs in UPSTREAM_CRASHES
        return None
    return None if theirs == ours.correct else (theirs, ours, calls, example.answers)


def test_parity_on_gold_answers_and_all_their_mutants(upstream, with_gold, scorers, deep, record_property):
    """Every item, every mutation class: at least 35,000 comparisons, and 100,000 in the deep profile."""
    differences, compared = [], 0
    CRASHES.clear()
    for seed in range(3 if deep else 1):
        mutated = [mutants(list(with_gold.values()), name, seed) for name in MUTATIONS]
        for answers in [{i: gold_calls(example) for i, example in with_gold.items()}, *mutated]:
            compared += len(answers)
            results = (disagreement(upstream, calls, with_gold[i], scorers[i]) for i, calls in answers.items())
            differences += [result for result in results if result]
    record_property("comparisons", compared)
    crashed = CRASHES.total()
    print(f"{compared} comparisons with upstream's checker, {len(differences)} differences, {crashed} upstream crashes")
    assert compared >= (100_000 if deep else 35_000)
    assert differences == []
    assert crashed == 0


@given(st.data(), st.sampled_from(["simple", "multiple", "parallel", "parallel_multiple"]), st.booleans())
def test_parity_on_generated_schemas_and_calls(upstream, data, category, odd):
    example = data.draw(examples(odd=odd, category=category))
    for _ in range(5):
        assert disagreement(upstream, data.draw(near_calls(example)), example) is None


KINDS = {
    "simple_java": [
        "integer", "long", "float", "double", "boolean", "char", "String", "any", "Array", "ArrayList", "HashMap",
    ],
    "simple_javascript": ["String", "integer", "Bigint", "float", "Boolean", "dict", "array", "any"],
}  # fmt: skip
LITERALS = st.sampled_from([
    "1", "-1", "1L", "1.5f", "1.5", "1e3", "true", "'a'", '"a"', "a", "5n", "", "{}", "[]", "[1, 2]", "['a', 'b']",
    "[[1, 2], [3]]", "new Array(1, 2)", "{'a': 1, 'b': [1, 2]}", "{a: {b: 1}}", "new int[]{1, 2}", "x new int[] {1}",
    "new ArrayList<>(Arrays.asList(1, 2))", 'new ArrayList<String>() {{ add("a"); add("b"); }}', "new ArrayList<>()",
    'new HashMap<String, Object>() {{ put("a", 1); put("b", true); }}', "new HashMap<>()", "1\n",
]) | st.text("[]{}()<>'\":,; 1aLn.-\n", max_size=12) | st.text("[], 1\n", max_size=20).map("[[{}".format)  # fmt: skip


@given(st.data(), st.sampled_from(sorted(KINDS)))
def test_parity_on_java_and_javascript_literals(upstream, data, category):
    kind, nested = data.draw(st.sampled_from(KINDS[category])), data.draw(st.sampled_from(KINDS[category]))
    tool = {"name": "f", "parameters": {"properties": {"x": {"type": kind, "items": {"type": nested}}}, "required": []}}
    accepted = data.draw(st.lists(VALUES | LITERALS, min_size=1, max_size=3))
    example = Example("made_0", category, (), (tool,), (Answer("f", {"x": accepted}),))
    for value in data.draw(st.lists(LITERALS | VALUES, min_size=1, max_size=5)):
        assert disagreement(upstream, [Call("f", {"x": value})], example) is None


def item(schema, accepted, **parameters):
    tool = {"name": "f", "parameters": {"properties": {"x": schema}, "required": [], **parameters}}
    if "required" in parameters and parameters["required"] is None:
        del tool["parameters"]["required"]
    return Example("made_0", "simple", (), (tool,), (Answer("f", {"x": accepted}),))


@pytest.mark.parametrize(
    ("example", "value", "crash", "ours"),
    [
        (item({"type": "integer"}, [1], required=None), 1, "KeyError", "ok"),
        (item({"type": "number"}, [1]), 1, "KeyError", "argument_type"),
        (item({"type": "array"}, [[1]]), [1], "KeyError", "ok"),
        (item({"type": "float"}, [1.0]), 10**400, "OverflowError", "argument_type"),
        (item({"type": "dict"}, [{"a": 1}]), {"a": 1}, "TypeError", "argument_value"),
    ],
    ids=["no_required", "unknown_type", "no_item_type", "huge_integer", "gold_without_lists"],
)
def test_an_item_that_crashes_upstream_still_gets_a_verdict(upstream, example, value, crash, ours):
    calls = [Call("f", {"x": value})]
    assert upstream(calls, example) == crash
    assert prepare_scorer(example).judge(calls).bfcl.reason == ours


def test_a_large_integer_is_a_float_upstream(upstream):
    example = item({"type": "float"}, [1e308])
    assert upstream([Call("f", {"x": 10**308})], example) is True
    assert prepare_scorer(example).judge([Call("f", {"x": 10**308})]).bfcl.correct


def test_only_the_bfcl_scorer_keeps_upstreams_quirks(upstream):
    """Each is a wrong answer that upstream accepts."""
    quirks = [
        (item({"type": "string"}, ["3.5"]), "35"),
        (item({"type": "string"}, ["-5"]), "5"),
        (item({"type": "string"}, ["x**2"]), "x2"),
        (item({"type": "string"}, ["4/4"]), "44"),
        (item({"type": "dict"}, [{"a": [1]}]), {"a": True}),
        (item({"type": "string"}, ["a", ""]), ""),
    ]
    assert [upstream([Call("f", {"x": value})], example) for example, value in quirks] == [True] * len(quirks)
    judged = [prepare_scorer(example).judge([Call("f", {"x": value})]) for example, value in quirks]
    counts = Counter(scorer for judgement in judged for scorer, reason in judgement.reasons.items() if reason == "ok")
    assert counts == {"bfcl": len(quirks)}


def test_upstream_rejects_a_gold_call_of_a_tool_that_is_not_offered(upstream):
    """Even if the call has no arguments, so that nothing else can be wrong."""
    tool = {"name": "g", "parameters": {"properties": {}, "required": []}}
    example = Example("made_0", "simple", (), (tool,), (Answer("f", {}),))
    assert upstream([Call("f", {})], example) is False
    assert prepare_scorer(example).judge([Call("f", {})]).bfcl.reason == "function_name"
