"""Mutation tests of the scorers: which wrong answers each one accepts, and which correct ones it rejects."""

from collections import Counter
from itertools import permutations

import pytest

from bench.support.mutations import HARMFUL, HARMLESS, MUTATIONS, mutants
from fixtures.data.bfcl import Call, DatasetError, Example, gold_calls, plain_value
from fixtures.data.errata import load_errata
from fixtures.scoring.java_js import LANGUAGES
from fixtures.scoring.parse import parse_calls
from fixtures.scoring.schema import violation
from fixtures.scoring.scorer import prepare_scorer
from fixtures.scoring.values import misspelling
from fixtures.scoring.verdict import SCORERS

# By design: `strict` does not interpret an omitted argument, and compares text without Unicode normalisation.
FORGIVEN_BY_EQUIVALENT_ONLY = ("explicit_default", "decomposed_unicode")
# Leaving out an argument whose schema default is the gold value changes nothing for an executor.
MAY_BE_EQUIVALENT = ("drop_argument",)


@pytest.fixture(scope="session")
def unanswerable():
    return {item for item, erratum in load_errata().items() if erratum.kind == "unanswerable"}


@pytest.fixture(scope="session")
def rejected(with_gold, scorers):
    """For each mutation class: the number of mutants, and the items whose mutant each scorer rejects."""
    made = {name: mutants(list(with_gold.values()), name) for name in MUTATIONS}
    judged = {name: {i: scorers[i].judge(calls).reasons for i, calls in items.items()} for name, items in made.items()}
    return {
        name: (
            len(items),
            {scorer: {i for i, reasons in items.items() if reasons[scorer] != "ok"} for scorer in SCORERS},
        )
        for name, items in judged.items()
    }


def test_kill_table(rejected, snapshot):
    """A change to a scorer shows here as a changed count, to be reviewed like code."""
    head = f"{'class':20}{'mutants':>9}" + "".join(f"{scorer:>12}" for scorer in SCORERS)
    rows = [
        f"{name:20}{count:9}" + "".join(f"{len(items[scorer]):12}" for scorer in SCORERS)
        for name, (count, items) in rejected.items()
    ]
    table = "\n".join([head, *rows[: len(HARMFUL)], "harmless:", *rows[len(HARMFUL) :]])
    print(table)
    assert table == snapshot


@pytest.mark.parametrize("name", HARMFUL)
def test_every_harmful_mutant_is_rejected(name, rejected):
    count, items = rejected[name]
    assert len(items["strict"]) == count
    if name not in MAY_BE_EQUIVALENT:
        assert len(items["equivalent"]) == count


@pytest.fixture(scope="session")
def misspelt(with_gold):
    """For each mutation class: the items whose mutant is not spelt as the schema prescribes, though the gold is."""

    def breaks(example, calls):
        schemas = {tool["name"]: tool["parameters"]["properties"] for tool in reversed(example.tools)}
        return any(
            misspelling(value, schemas[call.name].get(name, {})) is not None
            for call in calls
            for name, value in call.arguments.items()
        )

    made = {name: mutants(list(with_gold.values()), name) for name in HARMLESS}
    return {name: {i for i, calls in items.items() if breaks(with_gold[i], calls)} for name, items in made.items()}


@pytest.mark.parametrize("name", HARMLESS)
def test_every_harmless_mutant_of_an_answerable_item_is_accepted(name, rejected, unanswerable, misspelt):
    """Unless it is misspelt: who was told `imax` or `YYYY-MM-DD` does not understand `IMAX` or `2023.04.14`."""
    _, items = rejected[name]
    assert items["equivalent"] <= unanswerable | misspelt[name]
    if name not in FORGIVEN_BY_EQUIVALENT_ONLY:
        assert items["strict"] <= unanswerable | misspelt[name]


def test_strict_rejects_the_lossy_edits_that_upstream_accepts(rejected):
    lossy = [items for name, (_, items) in rejected.items() if name.startswith("lossy_") or name == "swap_quotes"]
    assert all(items["bfcl"] <= items["strict"] for items in lossy)
    assert sum(len(items["strict"] - items["bfcl"]) for items in lossy) > 2000


def test_only_the_errata_are_unanswerable(with_gold, scorers, unanswerable):
    """Every gold answer passes `strict` and `equivalent` in any order, or its item is a listed erratum."""
    failed = set()
    for i, example in with_gold.items():
        calls = gold_calls(example)
        for answer in (calls, calls[::-1], calls[1:] + calls[:1]):
            judgement = scorers[i].judge(answer)
            if not (judgement.strict.correct and judgement.equivalent.correct):
                failed.add(i)
    assert failed == unanswerable


def test_only_the_greedy_checker_depends_on_the_order_of_calls(with_gold, scorers):
    """parallel_178: upstream rejects half of the orders of a correct answer."""
    judged = [scorers["parallel_178"].judge(calls) for calls in permutations(gold_calls(with_gold["parallel_178"]))]
    counts = Counter(scorer for judgement in judged for scorer, reason in judgement.reasons.items() if reason == "ok")
    assert counts == {"strict": 24, "equivalent": 24, "bfcl": 12}


def test_errata_name_real_items(single_turn):
    errata = load_errata()
    assert errata.keys() <= single_turn.keys()
    assert all(erratum.why and erratum.source for erratum in errata.values())


@pytest.mark.parametrize("text", ["[x]\nkind = 'odd'\nwhy = ''\nsource = ''", "[x]\nkind = 'wrong_gold'", "["])
def test_a_bad_errata_file_is_an_error_that_names_it(tmp_path, text):
    path = tmp_path / "errata.toml"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"errata\.toml"):
        load_errata(path)


def test_a_broken_call_is_not_an_abstention(single_turn, scorers):
    """Upstream credits whatever does not parse as an abstention (gorilla issue 1362)."""
    item = next(i for i, example in single_turn.items() if example.category == "irrelevance")
    tool = single_turn[item].tools[0]["name"]
    texts = {
        "words": "None of these tools can answer that.",
        "empty_list": "[]",
        "nothing": "  ",
        "broken": f'[{{"name":"{tool}","arguments":{{',
        "broken_in_words": f'Sure! {{"name":"{tool}","arguments":{{"a"}}}}',
        "call": f'[{{"name":"{tool}","arguments":{{}}}}]',
    }
    judged = {name: scorers[item].judge(parse_calls(text)) for name, text in texts.items()}
    assert {name: judgement.strict.reason for name, judgement in judged.items()} == {
        "words": "ok", "empty_list": "ok", "nothing": "parse_error", "broken": "parse_error",
        "broken_in_words": "parse_error", "call": "hallucinated_call",
    }  # fmt: skip
    assert [name for name, judgement in judged.items() if judgement.bfcl.reason != "ok"] == ["call"]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (Call("f", {"x": 1}), "ok"),
        (Call("f", {"x": 1, "y": "a"}), "ok"),
        (Call("g", {"x": 1}), "function_name"),
        (Call("f", {}), "missing_argument"),
        (Call("f", {"x": 1, "z": 1}), "unexpected_argument"),
        (Call("f", {"x": "1"}), "argument_type"),
    ],
)
def test_relevance_requires_a_call_that_fits_an_offered_tool(call, reason):
    """Relevance items have no gold; upstream accepts any call."""
    properties = {"x": {"type": "integer"}, "y": {"type": "string"}}
    tool = {"name": "f", "parameters": {"properties": properties, "required": ["x"]}}
    scorer = prepare_scorer(Example("live_relevance_0", "live_relevance", (), (tool,), ()))
    assert scorer.judge([call]).reasons == {"strict": reason, "bfcl": "ok", "equivalent": reason}
    assert scorer.judge([]).strict.reason == "abstained"


def test_gold_that_contradicts_its_own_schema_is_an_erratum(with_gold, unanswerable):
    """If no accepted value of an argument fits the schema, an answer that does is scored as wrong.

    Gold null stands for an optional argument that is not set, which is no contradiction.
    """

    def contradicts(name, accepted, properties):
        values = [value for value in accepted if value != ""]
        if name not in properties or None in values or not values:
            return name not in properties
        own = {"properties": {name: properties[name]}}
        return all(violation({name: plain_value(value)}, own) is not None for value in values)

    contradicting = set()
    for i, example in with_gold.items():
        if example.category in LANGUAGES:  # their arguments may be variables, which have no type
            continue
        schemas = {tool["name"]: tool["parameters"]["properties"] for tool in example.tools}
        for answer in example.answers:
            if any(contradicts(name, accepted, schemas[answer.name]) for name, accepted in answer.arguments.items()):
                contradicting.add(i)
    listed = {i for i, erratum in load_errata().items() if erratum.kind == "contradicts_schema"}
    assert contradicting - unanswerable == listed


@pytest.mark.parametrize(
    ("item", "argument"),
    [
        ("parallel_155", "standardize"), ("simple_python_67", "size"), ("simple_python_76", "model"),
        ("simple_python_119", "significance_level"), ("simple_python_376", "display_format"),
        ("parallel_89", "route_type"), ("parallel_164", "alpha"), ("parallel_165", "alpha"),
    ],
)  # fmt: skip
def test_a_default_that_stands_only_in_a_description_is_an_erratum(item, argument, with_gold, scorers):
    assert load_errata()[item].kind == "narrow_gold"
    whole = gold_calls(with_gold[item])
    assert scorers[item].judge(whole).strict.correct
    first = Call(whole[0].name, {name: value for name, value in whole[0].arguments.items() if name != argument})
    assert "ok" not in scorers[item].judge([first, *whole[1:]]).reasons.values()
