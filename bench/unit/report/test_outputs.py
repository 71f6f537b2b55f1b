"""The files that a run writes with --json (for machines) and --markdown (for a CI's summary page)."""

import json

from fixtures.report import outputs, summary
from fixtures.scoring.verdict import SCORERS


def measured(arm, *reasons):
    by_item = {f"i{k}": dict.fromkeys(SCORERS, reason) | {"bfcl": "ok"} for k, reason in enumerate(reasons)}
    return {
        "where": "seen_tools",
        "arm": arm,
        "reasons": by_item,
        "tokens": 9,
        "thoughts": 0,
        "prompts": 4,
        "dropped": ["i"],
        "repeated": {},
        "reach": None,
        "f1": dict.fromkeys(by_item, 0.5),
        "clusters": {i: k for k, i in enumerate(by_item)},
    }


OUTCOME = outputs.Outcome(
    "m-smoke", [measured("sft", "ok", "call_count", "ok")], ["c: UNRESOLVED"], [], ["t::x[sft]"], False
)


def test_json_has_every_number_with_its_n_and_interval():
    document = json.loads(outputs.as_json(OUTCOME))
    (row,) = document["measured"]
    assert row["right"] == {"strict": 2, "bfcl": 3, "equivalent": 2}
    assert (row["n"], round(row["accuracy"], 3)) == (3, 0.667)
    assert 0 < row["low"] < row["accuracy"] < row["high"] < 1
    assert document["passed"] is False
    assert document["failed"] == ["t::x[sft]"]


def test_json_has_no_infinities():
    """Past bug: all items in one cluster have an interval without ends, and `-Infinity` is not JSON."""
    row = measured("sft", "ok", "call_count")
    one_cluster = OUTCOME._replace(measured=[row | {"clusters": dict.fromkeys(row["clusters"], 0)}])

    def refuse(constant):
        raise AssertionError(constant)

    document = json.loads(outputs.as_json(one_cluster), parse_constant=refuse)
    f1 = document["measured"][0]["f1"]
    assert None in f1.values()
    assert 0.5 in f1.values()


def test_markdown_has_a_table_and_what_failed():
    text = outputs.as_markdown(OUTCOME)
    assert text.startswith("## callbench ✗ m-smoke")
    assert "| seen_tools | sft | 2/3 | – | [20.8%, 93.9%] | 50.0% [0.0%, 100.0%] | 2/3 [20.8%, 93.9%] | 3 | 2 |" in text
    assert "### Failed\n\n```\nt::x[sft]\n```" in text
    assert "Changed verdicts" not in text
    assert outputs.as_markdown(OUTCOME._replace(failed=[], passed=True)).startswith("## callbench ✓")


def test_accuracy_is_also_computed_without_errata():
    """Of these three items one has gold that is known to be wrong; a run of only that one has no such accuracy."""
    items = measured("sft", "ok", "call_count", "argument_value")
    for values in (items["reasons"], items["f1"], items["clusters"]):
        values["parallel_164"] = values.pop("i2")
    only = items | {"where": "unseen_tools", "reasons": {"parallel_164": items["reasons"]["parallel_164"]}}
    outcome = OUTCOME._replace(measured=[only, items])
    sft, alone = outputs.numbers(outcome)
    assert (sft["n"], sft["without_errata"]["n"], sft["without_errata"]["right"]) == (3, 2, 1)
    assert alone["without_errata"] is None
    assert "| 1/2 [9.5%, 90.5%] |" in outputs.as_markdown(outcome)
    assert "without errata of BFCL's gold: sft 1/2" in summary.render(outcome.measured)


def test_the_same_cell_of_two_tests_is_reported_once():
    twice = OUTCOME._replace(measured=OUTCOME.measured * 2)
    assert outputs.numbers(twice) == outputs.numbers(OUTCOME)
