"""The rulers are graded: which wrong answers each one lets through, and which right ones it turns away."""

from collections import Counter

import pytest

from fixtures.dataset import CATEGORIES, DatasetError, gold_calls
from fixtures.errata import load_errata
from fixtures.mutations import HARMFUL, HARMLESS, MUTATIONS, mutants
from fixtures.verdict import RULERS

# By design: `strict` has no opinion on what an omitted argument means, and takes text as it is encoded.
FORGIVEN_BY_EQUIVALENT_ONLY = ("explicit_default", "decomposed_unicode")
# Leaving out an argument whose schema default is the gold value changes nothing for an executor.
MAY_BE_EQUIVALENT = ("drop_argument",)


@pytest.fixture(scope="session")
def unanswerable():
    return {item for item, erratum in load_errata().items() if erratum.kind == "unanswerable"}


@pytest.fixture(scope="session")
def rejected(with_gold, scorers):
    """By class: how many mutants there are, and the items that each ruler rejects."""
    made = {name: mutants(list(with_gold.values()), name) for name in MUTATIONS}
    judged = {name: {i: scorers[i].judge(calls).reasons for i, calls in found.items()} for name, found in made.items()}
    return {
        name: (len(found), {ruler: {i for i, reasons in found.items() if reasons[ruler] != "ok"} for ruler in RULERS})
        for name, found in judged.items()
    }


def test_kill_table(rejected, snapshot):
    """A change to a ruler shows here as a changed count, to be reviewed like code."""
    head = f"{'class':20}{'mutants':>9}" + "".join(f"{ruler:>12}" for ruler in RULERS)
    rows = [
        f"{name:20}{count:9}" + "".join(f"{len(items[ruler]):12}" for ruler in RULERS)
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


@pytest.mark.parametrize("name", HARMLESS)
def test_every_harmless_mutant_of_an_answerable_item_is_accepted(name, rejected, unanswerable):
    _, items = rejected[name]
    assert items["equivalent"] <= unanswerable
    if name not in FORGIVEN_BY_EQUIVALENT_ONLY:
        assert items["strict"] <= unanswerable


def test_lossy_edits_that_upstream_lets_through_are_all_rejected(rejected):
    lossy = [items for name, (_, items) in rejected.items() if name.startswith("lossy_") or name == "swap_quotes"]
    let_through = Counter()
    for items in lossy:
        let_through["strict"] += len(items["bfcl"] ^ items["strict"])
        assert items["bfcl"] <= items["strict"]
    assert let_through["strict"] > 2000


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


def test_the_greedy_checker_depends_on_the_order_of_calls_and_ours_does_not(with_gold, scorers):
    """parallel_178: upstream fails half of the orders of a right answer."""
    from itertools import permutations

    judged = [scorers["parallel_178"].judge(calls) for calls in permutations(gold_calls(with_gold["parallel_178"]))]
    counts = Counter(ruler for judgement in judged for ruler, reason in judgement.reasons.items() if reason == "ok")
    assert counts == {"strict": 24, "equivalent": 24, "bfcl": 12}


def test_errata_name_real_items(single_turn):
    errata = load_errata()
    assert errata.keys() <= single_turn.keys()
    assert all(erratum.why and erratum.source for erratum in errata.values())
    print([item for item in errata if single_turn[item].category in CATEGORIES])


@pytest.mark.parametrize("text", ["[x]\nkind = 'odd'\nwhy = ''\nsource = ''", "[x]\nkind = 'wrong_gold'", "["])
def test_a_bad_errata_file_is_an_error_that_names_it(tmp_path, text):
    path = tmp_path / "errata.toml"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"errata\.toml"):
        load_errata(path)


def test_an_abstention_is_told_from_a_broken_call(single_turn, scorers):
    """Upstream credits whatever does not parse as an abstention (gorilla issue 1362)."""
    from fixtures.parse import parse_calls

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


def test_relevance_asks_for_a_fitting_call_of_an_offered_tool(single_turn, scorers):
    from fixtures.dataset import Call

    item, example = next((i, e) for i, e in single_turn.items() if e.category == "live_relevance")
    assert scorers[item].judge([]).strict.reason == "abstained"
    assert scorers[item].judge([Call("no_such_tool", {})]).reasons == {
        "strict": "function_name", "equivalent": "function_name", "bfcl": "ok",
    }  # fmt: skip
    assert example.tools
