"""Two runs made anywhere: what is read of each kind of file, and what is said about the difference."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.report import __main__ as command
from fixtures.report import compare
from fixtures.runs import outcomes
from fixtures.runs.outcomes import Outcomes
from fixtures.stats.accuracy import Paired
from fixtures.storage.files import FileError


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def bfcl(folder, category, total, wrong):
    summary = {"accuracy": (total - len(wrong)) / total, "correct_count": total - len(wrong), "total_count": total}
    (folder / f"BFCL_v4_{category}_score.json").write_text(
        lines([summary, *({"id": i, "valid": False} for i in wrong)])
    )


INSPECT = {
    "version": 2, "status": "success", "eval": {"task": "t"},
    "samples": [
        {"id": 1, "epoch": 1, "scores": {"match": {"value": "C"}}},
        {"id": 1, "epoch": 2, "scores": {"match": {"value": "I"}}},
        {"id": "x", "epoch": 1, "scores": {"match": {"value": 1.0}}},
        {"id": "y", "epoch": 1, "scores": {}},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "correct"),
    [
        (lines([{"id": "a", "correct": True}, {"id": "b", "correct": 0}]), {"a": True, "b": False}),
        (lines([{"id": 7, "correct": 1.0}]), {"7": True}),
        (lines([{"doc_id": 0, "metrics": ["acc"], "acc": 1.0}, {"doc_id": 1, "metrics": ["acc"], "acc": 0.0}]),
         {"0": True, "1": False}),
        (
            lines([{"doc_id": 0, "filter": name, "exact_match": float(name == "lax")} for name in ("strict", "lax")]),
            {"0": False},  # one item, by the first filter
        ),
        (lines([{"id": "i", "text": "", "strict": "ok"}, {"id": "i", "text": "", "strict": "truncated", "sample": 1}]),
         {"i": True, "i#1": False}),
        (json.dumps(INSPECT), {"1": True, "1#1": False, "x": True, "y": False}),
        (json.dumps(INSPECT, indent=2), {"1": True, "1#1": False, "x": True, "y": False}),
    ],
)  # fmt: skip
def test_each_kind_of_file_is_known_by_its_content(tmp_path, text, correct):
    (tmp_path / "run.jsonl").write_text(text)
    assert outcomes.read(tmp_path / "run.jsonl").correct == correct


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found a row with nothing"),
        ("not json\n", "line 1 is no JSON object"),
        ('{"score": 1}\n', "found a row with score; expected a callbench ledger"),
        (lines([{"id": "a", "correct": "yes"}, {"id": "b"}]), "line 1: .*'yes' is neither.*; line 2: KeyError"),
        (lines([{"id": "a", "correct": True}] * 2), "line 2: a is there twice"),
        (lines([{"doc_id": 0, "metrics": ["acc"], "acc": 1.0}, {"doc_id": 1}]), r"line 2: KeyError\('exact_match'\)"),
        (lines([{"id": "a", "correct": 7}]), "7 is neither true nor false"),
        (json.dumps({"samples": []}), "its list of samples is empty"),
        (json.dumps({"samples": [{"id": 1, "scores": {"m": {"value": "?"}}}]}), r"sample 1: KeyError\('\?'\)"),
    ],
)
def test_bad_files_are_refused_with_their_lines(tmp_path, text, message):
    (tmp_path / "run.jsonl").write_text(text)
    with pytest.raises(FileError, match=message):
        outcomes.read(tmp_path / "run.jsonl")


def test_a_folder_without_scores_names_its_ledgers(tmp_path):
    (tmp_path / "base.jsonl").write_text("")
    with pytest.raises(FileError, match=r"has no \*_score.json; name one of base.jsonl"):
        outcomes.read(tmp_path)


def run(name, wrong, total=10, **rest):
    return Outcomes(name, {f"i{k}": k not in wrong for k in range(total)}, **rest)


def test_the_comparison_is_paired_and_names_the_items():
    """By hand: 2 fixed, 1 broken of 10."""
    found = compare.compare(run("a", {0, 1, 2}), run("b", {2, 3}), {})
    assert (found.fixed, found.broken) == (["i0", "i1"], ["i3"])
    assert found.contrast.difference == pytest.approx(0.1)
    assert found.paired == Paired(2, 1, 10)
    assert found.line().startswith("b - a: +10.0 pts [")
    assert "2 fixed, 1 broken of 10, McNemar p=1, MDE" in found.line()
    assert "  fixed: i0, i1\n  broken: i3" in found.render()


def test_a_missing_item_is_wrong_and_named():
    second = Outcomes("b", {f"i{k}": True for k in range(9)})
    found = compare.compare(run("a", set()), second, {})
    assert found.broken == ["i9"]
    assert found.contrast.items == 10
    assert "not in b, counted as wrong (1): i9" in found.render()


def test_runs_of_other_items_are_refused_unless_only_common_ones_are_compared():
    first, second = run("a", {0}), Outcomes("b", {f"i{k}": True for k in range(3)} | {f"j{k}": True for k in range(9)})
    with pytest.raises(FileError, match=r"3 of 19 are in both\. With --common"):
        compare.compare(first, second, {})
    assert compare.compare(*outcomes.in_common(first, second), {}).fixed == ["i0"]


def test_dependent_items_widen_the_interval():
    clusters = {f"i{k}": str(k // 5) for k in range(10)}
    alone, together = (compare.compare(run("a", set()), run("b", {0, 1, 2, 3, 4}), c) for c in ({}, clusters))
    assert together.worse_by() > alone.worse_by()
    assert "in 2 clusters" in together.line()


@pytest.mark.parametrize(
    ("wrong", "margin", "passes"), [(set(), 2, True), ({0, 1, 2}, 1, False), ({0, 1, 2}, 50, True)]
)
def test_the_gate_needs_the_lower_bound_within_the_margin(wrong, margin, passes):
    found = compare.compare(run("a", set(), 400), run("b", wrong, 400), {})
    problem = compare.gate(found, margin)
    assert (problem is None) == passes
    if not passes:
        assert "b may be worse than a by" in problem
        assert "broken: i0, i1, i2" in problem


def test_items_that_the_reference_lacks_do_not_hide_broken_ones():
    """Past bug: 100 items that only B has made up for 40 broken ones."""
    first, second = run("a", set(), 400), run("b", set(range(40)), 500)
    assert "a lacks 100 items (i400, i401, i402, …)" in compare.gate(compare.compare(first, second, {}), 2)
    problem = compare.gate(compare.compare(*outcomes.in_common(first, second), {}), 2)
    assert "b may be worse than a by" in problem


def test_lists_of_wrong_items_are_compared_on_all_items_with_common_too():
    """Past bug: only items that both runs had wrong were left, and the gate was always green."""
    first, second = (
        Outcomes(name, {f"i{k}": False for k in wrong}, only_wrong={"simple": 400})
        for name, wrong in (("a", range(10)), ("b", range(5, 105)))
    )
    assert compare.gate(compare.compare(*outcomes.in_common(first, second), {}), 2)


def test_runs_with_the_same_file_name_are_told_apart():
    """Past bug: what A lacks was overwritten by what B lacks, so that runs without a common item were compared."""
    other = Outcomes("a", {f"j{k}": True for k in range(10)})
    with pytest.raises(FileError, match=r"a and a \(B\) are of different items: 0 of 20 are in both"):
        compare.compare(run("a", set()), other, {})
    lacking = compare.compare(run("a", set(), 9), Outcomes("a", {f"i{k}": True for k in range(1, 10)}), {})
    assert lacking.missing == {"a": ["i9"], "a (B)": ["i0"]}


def test_samples_for_one_item_are_one_cluster(tmp_path):
    for name, wrong in (("a", 1), ("b", 0)):
        rows = [
            {"id": f"own_{i}", "sample": k, "text": "", "strict": "call_count" if i < wrong else "ok"}
            for i in range(10) for k in range(8)
        ]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text(lines(rows))
    found = compare.compare(*(outcomes.read(tmp_path / f"{name}.jsonl") for name in "ab"), {})
    assert (len(found.fixed), found.contrast.items, len(set(found.contrast.clusters))) == (8, 80, 10)
    assert "8 fixed, 0 broken of 80 in 10 clusters, p=" in found.line()
    assert "McNemar" not in found.line()


@given(st.sets(st.integers(0, 39)), st.sets(st.integers(0, 39)))
def test_bfcls_lists_of_wrong_items_give_the_same_numbers_as_whole_lists(first, second):
    """BFCL's score files do not name correct items."""
    whole = compare.compare(run("a", first, 40), run("b", second, 40), {})
    partial = [Outcomes(name, {f"i{k}": False for k in wrong}, only_wrong={"simple": 40})
               for name, wrong in (("a", first), ("b", second))]  # fmt: skip
    for listed in (compare.compare(*partial, {}), compare.compare(partial[0], run("b", second, 40), {})):
        assert (listed.fixed, listed.broken) == (whole.fixed, whole.broken)
        assert listed.contrast.interval() == pytest.approx(whole.contrast.interval())


def test_score_folders_of_bfcl(tmp_path):
    for name, wrong in (("a", ["simple_1"]), ("b", ["simple_2", "simple_3"])):
        (tmp_path / name / "non_live").mkdir(parents=True)
        bfcl(tmp_path / name / "non_live", "simple_python", 40, wrong)
        bfcl(tmp_path / name, "parallel", 20, [])
    first, second = (outcomes.read(tmp_path / name) for name in "ab")
    found = compare.compare(first, second, {})
    assert (found.contrast.items, found.fixed, found.broken) == (60, ["simple_1"], ["simple_2", "simple_3"])
    (tmp_path / "b" / "BFCL_v4_parallel_score.json").unlink()
    with pytest.raises(FileError, match="the runs are of other items"):
        compare.compare(first, outcomes.read(tmp_path / "b"), {})
    bfcl(tmp_path / "a", "parallel", 20, ["x"])
    path = tmp_path / "a" / "BFCL_v4_parallel_score.json"
    path.write_text(path.read_text().replace('"correct_count": 19', '"correct_count": 12'))
    with pytest.raises(FileError, match="no score file of BFCL"):
        outcomes.read(tmp_path / "a")


def test_the_command_exits_with_1_and_writes_one_line(tmp_path, capsys):
    for name, wrong in (("good", {1}), ("bad", {1, 2, 3})):
        rows = [{"id": f"i{k}", "correct": k not in wrong} for k in range(300)]
        (tmp_path / f"{name}.jsonl").write_text(lines(rows))
    good, bad, summary = (str(tmp_path / name) for name in ("good.jsonl", "bad.jsonl", "pr.md"))
    assert "0 fixed, 0 broken" in command.main(["compare", good, good, "--non-inferior", "2", "--markdown", summary])
    with pytest.raises(SystemExit) as exit_:
        command.main(["compare", good, bad, "--non-inferior", "1", "--markdown", summary])
    assert exit_.value.code == "callbench: bad may be worse than good by 1.8 points, 1 are allowed; broken: i2, i3"
    assert "0 fixed, 2 broken of 300" in capsys.readouterr().out
    passed, failed = (tmp_path / "pr.md").read_text().splitlines()
    assert passed.startswith("✓ non-inferior within 2 points: good (B) - good: +0.0 pts")
    assert failed.startswith("✗ bad - good: -0.7 pts")
