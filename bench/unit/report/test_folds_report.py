"""The report of a run over folds: each fold's own items, counted together."""

import pytest

from fixtures.arms import Arm, Completion, Recording
from fixtures.config import Options
from fixtures.data.bfcl import gold_calls
from fixtures.formats import render_calls
from fixtures.report import build
from fixtures.report.cells import Cell, gather
from fixtures.report.comparisons import comparison_table, contrast_of
from fixtures.report.models import model_table
from fixtures.runs import ledger
from fixtures.runs.session import Bench
from fixtures.scoring.verdict import OK, Verdict, unanimous
from fixtures.stats.claims import Claim

SPLIT = "seen_tools"


def answers(bench, arm, every):
    """An arm's recording in one fold: each `every`-th answer is the gold one, the others are empty lists."""
    texts = {}
    for k, i in enumerate(bench.items.test_ids(SPLIT)):
        text = render_calls(gold_calls(bench.items.examples[i])) if k % every == 0 else "[]"
        texts[i] = Completion(i, "0" * 16, text, 5, "stop")
    verdicts = {i: bench.items.judge(completion) for i, completion in texts.items()}
    training = {"model": "m", "weights": {str(arm): f"w{arm.seed}"} if arm.regime else {}}
    ledger.record_completions(bench.recorded.folder, Recording(arm), texts, verdicts, training)
    return sum(verdict.primary.correct for verdict in verdicts.values())


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Base is right in every fourth answer of folds 0 and 1, SFT in every second; and how many are correct."""
    monkeypatch.setattr(ledger, "RESULTS", tmp_path)
    bench = Bench(Options(scale="study", seeds=(0, 1, 2, 3, 4), replay=True))
    correct = {
        "base": [answers(bench.fold(f), Arm("base"), 4) for f in (0, 1)],
        "sft": [answers(bench.fold(f), Arm("sft", "all_patterns", f), 2) for f in (0, 1)],
    }
    return Bench(bench.options), correct


def test_folds_are_counted_together(study):
    bench, correct = study
    cells = {cell.arm: cell for cell in gather(bench)}
    n = sum(len(bench.fold(f).items.test_ids(SPLIT)) for f in (0, 1))
    for arm, counts in correct.items():
        level = cells[arm].level()
        assert level.correct == tuple(counts)
        assert level.items == n
        assert level.value == pytest.approx(sum(counts) / n)
        assert level.low < level.value < level.high
        assert cells[arm].reasons()["ok"] == pytest.approx(sum(counts) / n)
    contrast = contrast_of(cells["base"], cells["sft"])
    assert contrast.items == n
    assert contrast.trainings == 2
    assert contrast.difference == pytest.approx((sum(correct["sft"]) - sum(correct["base"])) / n)
    ((_, arm, against, *_, trainings, _),) = comparison_table(list(cells.values())).rows
    assert (arm, against, trainings) == ("sft", "base", "2")


def test_the_page_names_each_fold(study, tmp_path):
    build.write(study[0], tmp_path / "page")
    text = (tmp_path / "page" / "index.html").read_text()
    assert all(f'"{arm}, fold {fold}"' in text for arm in ("base", "sft") for fold in (0, 1))
    assert "seed 0" not in text


def test_the_page_opens_with_the_claims_and_counts_those_that_are_not_measured(study, tmp_path, monkeypatch):
    claims = {
        name: Claim(name, f"{name} matters.", "ours", with_, "base", SPLIT, metric, "more", "f", "2026-11-29", folds=2)
        for name, with_, metric in [("tuning", "sft", "accuracy"), ("credit", "sft", "f1"), ("rl", "grpo", "accuracy")]
    }
    monkeypatch.setattr("fixtures.report.claims.load_claims", lambda: claims)
    build.write(study[0], tmp_path / "page")
    text = (tmp_path / "page" / "index.html").read_text()
    assert "2 of 3 registered claims" in text
    assert "not measured" in text.partition("rl matters.")[2].partition("</tr>")[0]
    assert text.index("<figure") < text.index("tuning matters.") < text.index('<h2 id="table-1">')
    assert {"claims.svg", "claims_f1.svg"} <= {path.name for path in (tmp_path / "page").iterdir()}
    for name in ("tables.tex", "tables.md"):
        rows = (tmp_path / "page" / name).read_text().splitlines()
        assert sum("SUPPORTED" in row or "UNRESOLVED" in row for row in rows) == 2


def test_an_arm_that_a_claim_names_is_shown_also_if_its_scaffold_costs_nothing(study):
    """Past bug: the page said nothing about sft+repair, whose claim was decided."""
    bench, _ = study
    assert "sft+repair" not in {cell.arm for cell in gather(bench)}
    assert "sft+repair" in {cell.arm for cell in gather(bench, {("sft+repair", SPLIT)})}


def test_arms_that_another_model_has_on_the_same_items_are_shown_side_by_side(study):
    bench, correct = study
    other = Bench(Options(scale="study", model="other", seeds=(0, 1), replay=True))
    of_other = [answers(other.fold(f), Arm("base"), 3) for f in (0, 1)]
    answers(other.fold(0), Arm("sft", "all_patterns", 0), 2)  # of the first fold only
    rows = model_table(bench, gather(bench)).rows
    assert [row[:4] for row in rows] == [
        (SPLIT, "base", bench.scale.model, ", ".join(map(str, correct["base"]))),
        (SPLIT, "base", "other", ", ".join(map(str, of_other))),
        (SPLIT, "sft", bench.scale.model, str(correct["sft"][0])),
        (SPLIT, "sft", "other", str(correct["sft"][0])),
    ]
    n = len(bench.fold(0).items.test_ids(SPLIT))
    assert [row[4] for row in rows[2:]] == [str(n)] * 2
    assert not model_table(other, gather(other)[:0]).rows


def test_every_candidate_of_a_search_is_shown_with_its_n_and_interval():
    f1 = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 80}
    new = {"right": 40, "n": 80, "f1": f1, "changed": 31}
    table = build.search_table(
        {"sft": {'{"lr": 0.1}': {"1": new, "0": {"right": 1, "n": 72}}}, "dpo": {"{}": {"0": new}}}
    )
    assert [row[:5] for row in table.rows] == [
        ("dpo", "nothing", "0", "40", "80"), ("sft", "lr: 0.1", "0", "1", "72"), ("sft", "lr: 0.1", "1", "40", "80")
    ]  # fmt: skip
    assert table.rows[2][5:] == ("50.0%", "[39.3%, 60.7%]", "50.0% [40.0%, 60.0%]", "31")
    assert table.rows[1][7:] == ("–", "–")


def test_an_item_of_two_folds_counts_twice():
    """unseen_patterns has items that are seen in one fold and unseen in another; both answers are one cluster's."""
    right, wrong = unanimous(OK), unanimous(Verdict("call_count"))
    judgements = {0: {"a": right, "b": wrong}, 1: {"a": right, "c": right}}
    clusters = {"a": 0, "b": 1, "c": 2}
    cell = Cell("sft", "no_parallel_multiple", "plain", "unseen_patterns", judgements, 5.0, None, clusters, folds=True)
    assert (cell.level().correct, cell.level().totals, cell.level().items) == ((1, 2), (2, 2), 4)
    assert cell.level().value == 0.75
    assert cell.level(["a"]).totals == (1, 1)
    assert cell.reasons() == {"ok": 0.75, "call_count": 0.25}


def test_a_question_that_every_fold_asks_is_one_question():
    """Past bug: 100 questions about irrelevance, asked in five folds, had the interval of 500."""
    wrong = unanimous(Verdict("call_count"))
    judgements = {fold: dict.fromkeys("abcdefghij", wrong) for fold in range(5)}
    clusters = {i: k for k, i in enumerate("abcdefghij")}
    folds, seeds = (
        Cell("sft", "all_patterns", "plain", "irrelevance", judgements, 5.0, None, clusters, folds=folds).level()
        for folds in (True, False)
    )
    assert folds == seeds
    assert (folds.items, folds.totals) == (10, (10,) * 5)
    assert folds.high > 0.2
