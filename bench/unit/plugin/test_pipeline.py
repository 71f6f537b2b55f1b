"""The pytest plugin from outside: which tests are selected, and what a user sees."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from fixtures.config import Options
from fixtures.data import regimes
from fixtures.data.bfcl import DatasetError
from fixtures.modeling.forward import ModelError
from fixtures.plugin import terminal
from fixtures.plugin.expected import Range
from fixtures.prompts import PromptError
from fixtures.report import summary
from fixtures.runs import evidence
from fixtures.runs.registered import load_claims
from fixtures.runs.session import Bench
from fixtures.scoring.verdict import SCORERS
from fixtures.stats.accuracy import Accuracy
from fixtures.storage.assets import AssetError
from fixtures.storage.files import ROOT, FileError

RECORDED = ("--replay", "--scale", "full", "--model", "smollm2_135m")


def python(*arguments, cwd=ROOT):
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # set by -n
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)


def collected(*options):
    run = python("-m", "pytest", "bench", "--collect-only", "-q", *options)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_replay_runs_the_experiments_but_nothing_that_needs_the_model():
    listed = collected(*RECORDED)
    assert "test_generalization[sft-unseen_tools]" in listed
    assert "test_model_" not in listed
    assert "gold_answer_likelier" not in listed


def test_replay_tests_are_collected_only_with_replay():
    listed = collected()
    assert "test_generalization[sft-unseen_tools]" in listed
    assert "test_replay[" not in listed


def test_k_selects_cells_as_documented():
    assert collected("-k", "generalization and sft and unseen_tools").count("::") == 1
    assert collected("-k", "generalization").count("::") == 6


EXPERIMENTS = sorted(path.stem.removeprefix("test_") for path in (ROOT / "bench").glob("test_*.py"))
WITH_OPTIONS = ("replay", "search", "own_data", "reliability")
NAMED = [name for name in EXPERIMENTS if name not in WITH_OPTIONS]


@pytest.mark.parametrize("experiment", NAMED)
def test_k_with_an_experiments_name_selects_only_that_experiment(experiment):
    """Past bug: `-k rl` also selected a claim, and unit tests with "earlier" and "overlap" in their names."""
    listed = collected("-k", experiment)
    files = {line.partition("::")[0] for line in listed.splitlines() if "::" in line}
    assert files
    assert all(file.startswith(f"bench/test_{experiment}") for file in files), files


def test_unit_tests_run_only_when_they_are_named():
    """A replay, which a user's CI runs, must take only seconds."""
    assert "bench/unit" not in collected()
    assert "bench/unit" not in collected(*RECORDED)


def test_several_seeds_are_an_axis_except_for_the_base_model():
    listed = collected("-k", "generalization", "--seed", "0,1,2")
    assert listed.count("sft") == 9
    assert listed.count("base") == 3


REQUIREMENTS = """
import sys, pytest
class Printer:
    def pytest_collection_finish(self, session):
        from fixtures.plugin.axes import BENCH, requirements
        for arm, split, scaffold, _ in requirements(session.items, session.config.stash[BENCH]):
            print("required", arm, split, scaffold)
sys.exit(pytest.main(["bench", "--collect-only", "-q", *sys.argv[1:]], plugins=[Printer()]))
"""


def required(*options):
    run = python("-c", REQUIREMENTS, *options)
    assert run.returncode == 0, run.stdout + run.stderr
    return {line.removeprefix("required ") for line in run.stdout.splitlines() if line.startswith("required ")}


def test_the_requirements_of_a_run_are_known_after_collection():
    """From parameters, from a module's marker, and from claims; log-probabilities have no scaffold."""
    assert required("-k", "test_diversity and four_80", "--seed", "0,2") == {
        f"sft-four_80-s{seed} seen_tools plain" for seed in (0, 2)
    }
    assert required("-k", "test_generalization and unseen_patterns", "--resume") == {
        "base unseen_patterns plain", "sft-no_parallel_multiple-s0 unseen_patterns plain",
    }  # fmt: skip
    assert required("-k", "test_graded and base and seen_tools and not unseen") == {"base seen_tools None"}
    claimed = required("-k", "test_claims and sft_helps", *RECORDED[1:])
    assert {"base seen_tools plain", "sft-simple_320-s0 seen_tools plain"} < claimed
    assert "sft-no_parallel_multiple-s0 unseen_patterns None" in claimed
    assert required("-k", "test_search or test_export", "--search", "sft") == set()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--replay", "--record"], "--replay and --record exclude each other"),
        (["--record", "--items", "9"], "--record and --items exclude each other: results/ has all items"),
        (["--search", "sft", "-n", "2"], "--search and -n exclude each other"),
        (["--replay", "--model", "path/to/typo"], "--replay found nothing in"),
        (["--markdown", ""], "needs the name of a file, found ''"),
        (["--json", "bench"], "needs the name of a file, found 'bench'"),
        (["--json", "README.md/run.json"], "cannot be written"),
        (["--json", "/dev/null"], "needs the name of a file, found '/dev/null'"),
        (["--max-tokens", "9"], "--max-tokens needs --endpoint"),
        (["--export", "README.md"], "needs the name of a folder"),
        (["--export", "README.md/x"], "cannot be written"),
        (["--model", ""], "'' is empty"),
        (["--model", "README.md"], "'README.md' is a file"),
        (["--model", "path/to/typo"], "'path/to/typo' does not exist"),
        (["--model", "smollm2_135"], "'smollm2_135' does not exist"),
        (["--model", "callbench/absent", "--offline"], "callbench/absent at main: the hub could not be reached"),
        (["--model", "qwen2_5_1_5b", "--offline"], "the hub could not be reached or has no such revision"),
        (["--endpoint", "http://127.0.0.1:80x/v1", "--model", "m"], "'http://127.0.0.1:80x/v1' is no address"),
        (["--search", "sft", "--items", "5"], "--search and --items exclude each other"),
        (["--search", "sfd"], "--search needs one of sft, "),
        (["--search", ""], "--search needs one of sft, "),
        (["--search", "sft", "--replay"], "--replay and --search exclude each other"),
        (["--search", "sft", "--plan"], "--plan and --search exclude each other"),
        (["--search", "sft", "--record"], "--record and --search exclude each other"),
        (["--seed", "4294967296"], "needs seeds from 0 to 2^32 - 1"),
        (["--workers", "9999"], "the cores of this machine"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(given, message):
    run = python("-m", "pytest", "bench", "--collect-only", *given)
    assert run.returncode == 4
    assert message in run.stderr


def test_a_word_that_selects_nothing_is_answered_with_the_words_that_exist():
    run = python("-m", "pytest", "bench", *RECORDED, "-k", "generalisation")
    assert run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "-k 'generalisation' selects no test. Experiments: " in run.stdout
    assert "generalization" in run.stdout


@pytest.mark.parametrize("error", [AttributeError, KeyError, RecursionError, ZeroDivisionError, OSError, UserWarning])
def test_what_cannot_be_planned_is_said_in_a_line_and_the_tests_run(error, monkeypatch):
    """Past bug: a bad pace.jsonl, manifest or template ended as INTERNALERROR, and no test ran."""
    lines = planned(monkeypatch, error("odd \x1b[31m text"), plan=False)
    assert len(lines) == 1
    assert lines[0].startswith(f"callbench: planning failed ({error.__name__}: ")
    assert lines[0].isprintable()


@pytest.mark.parametrize("error", [ModelError, AssetError, PromptError, DatasetError, FileError])
def test_an_error_that_every_test_would_repeat_is_refused_once(error, monkeypatch):
    """Past bug: 94 failures for one missing model."""
    with pytest.raises(pytest.UsageError, match=r"planning failed .*no such model"):
        planned(monkeypatch, error("no such model"), plan=False)


def planned(monkeypatch, error, plan):
    """The lines before a run whose plan raises an error."""
    from fixtures.runs import plan as plans

    def fail(self):
        raise error

    monkeypatch.setattr(plans.Plan, "header", fail)
    monkeypatch.setattr(terminal, "requirements", lambda items, bench: {"something": None})
    bench = SimpleNamespace(replay=False, options=SimpleNamespace(plan=plan, endpoint=None))
    options = SimpleNamespace(keyword="", collectonly=False)
    config = SimpleNamespace(stash={terminal.BENCH: bench}, option=options, getoption=lambda name: None)
    return terminal.pytest_report_collectionfinish(config, ["item"])


def test_accuracies_are_in_the_junit_report(tmp_path):
    """Past bug: with pytest's default family, xunit2, each accuracy was reported as an error."""
    path = tmp_path / "junit.xml"
    run = python("-m", "pytest", "bench/test_methods.py", *RECORDED, "-q", "-k", "base and simple", "--junitxml", path)
    assert run.returncode == 0, run.stdout
    properties = {p.get("name"): p.get("value") for p in ElementTree.parse(path).iter("property")}
    assert float(properties["low"]) <= float(properties["accuracy"]) <= float(properties["high"])
    assert properties["n"] == "50"


def test_a_part_of_the_items_can_be_replayed():
    """Ranges and claims hold for all items: with some, the interval must overlap the range; claims stay undecided."""
    chosen = "(test_methods and sft) or (test_claims and sft_helps)"
    run = python("-m", "pytest", "bench", *RECORDED, "--items", "2", "-q", "-rs", "-k", chosen)
    assert run.returncode == 0, run.stdout
    assert "2 passed" in run.stdout
    assert "no multiple item is among the first 2 of seen_tools" in run.stdout
    assert "decided on all items; with --items 2 sft_helps: sft - base" in run.stdout


def test_claims_decided_on_several_seeds_are_not_decided_on_one():
    """Past bug: `pytest bench -k claims` failed because its one seed disagreed with all recorded seeds together."""
    live, replay = Options(), Options(scale="full", model="smollm2_135m", replay=True)
    assert "decided with seeds [0, 1]; with [0]" in evidence.differs_from_decided(live, [0], [0, 1])
    assert not evidence.differs_from_decided(live, [0, 1], [0, 1])
    assert not evidence.differs_from_decided(replay, [0, 1, 2], [0, 1])


def test_the_error_for_an_empty_split_lists_the_loaded_categories(bench, monkeypatch):
    """Past bug: for a split over a category that no session loads, adapters were trained and the tests skipped."""
    java = regimes.Split("all_patterns", lambda partition, examples: [i for i in examples if "java" in i])
    monkeypatch.setitem(regimes.SPLITS, "java", java)
    with pytest.raises(DatasetError, match=r"the split java selects nothing; .*items of irrelevance, live_simple"):
        bench.items.test_ids("java")


def test_undecided_claims_count_in_the_holm_correction_of_a_live_run(bench, monkeypatch):
    claim = load_claims()["sft_helps"]
    others = [replace(claim, id=f"other_{k}", found={}) for k in range(9)]
    live = SimpleNamespace(replay=False, run=next(iter(claim.found)), scale=SimpleNamespace(folds=False, model="any"))
    measured = evidence.measure(Bench(Options(scale="full", model="smollm2_135m", replay=True)), claim)
    monkeypatch.setattr(evidence, "measure", lambda *_: measured)
    (finding,) = evidence.findings(live, [claim, *others]).values()
    assert finding.adjusted == pytest.approx(10 * finding.p)


@pytest.mark.parametrize("slow", ["mlx.core", "scipy.stats", "scipy.optimize", "mlx_lm", "transformers"])
def test_starting_imports_nothing_slow(slow):
    """Replay needs no MLX, and each of these takes a fifth of a second or more."""
    assert python("-c", f"import sys, fixtures.plugin.terminal; sys.exit({slow!r} in sys.modules)").returncode == 0


def test_a_number_outside_its_range_is_explained(monkeypatch):
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "bench/test_x.py::test_x[sft] (call)")
    lines = terminal.pytest_assertrepr_compare("in", Accuracy(129, 312), Range(0.46, 0.56, (312,), (0,), "seed 0"))
    assert lines is not None
    assert "41.3% (129/312)" in lines[0]
    assert "edit test_x[sft] in bench/expected.toml" in lines[-1]
    assert terminal.pytest_assertrepr_compare("==", 1, 2) is None


def measured(arm, reasons):
    named = {item: dict(zip(SCORERS, given, strict=True)) for item, given in reasons.items()}
    return {
        "arm": arm,
        "where": "seen_tools",
        "reasons": named,
        "tokens": 7 * len(named),
        "thoughts": 0,
        "prompts": 0,
        "dropped": [],
        "repeated": {},
        "reach": None,
        "f1": dict.fromkeys(named, 0.5),
        "clusters": {i: k for k, i in enumerate(named)},
    }


@pytest.mark.parametrize("total", [10, 60])
def test_the_summary_has_n_intervals_and_the_paired_difference(total):
    items = [f"i{k}" for k in range(total)]
    base = measured("base", dict.fromkeys(items, ["parse_error"] * 3))
    trained = measured("sft-all-s0", dict.fromkeys(items, ["ok"] * 3))
    text = summary.render([trained, base])
    assert "depends on the scorer" not in text
    assert f"{total}/{total}" in text
    share = "100.0%" if total >= 50 else "–"
    assert re.search(rf"{total}/{total} +{share} ", text)
    assert f"{total} parse_error" in text
    assert f"seen_tools, n = {total}" in text
    assert "sft-all-s0 - base = +100.0 pts" in text
    assert f"{total} fixed, 0 broken of {total}" in text
    assert text.index("base ") < text.index("sft-all-s0 ")


@pytest.mark.parametrize("left_out", ["", "base", "sft-all-s0"])
def test_the_summary_compares_an_arm_with_its_reference(left_out):
    arms = [arm for arm in ("base", "sft-all-s0", "dpo-all-s0", "dpo-all-s0+repair", "sft-all-s1") if arm != left_out]
    text = summary.render([measured(arm, {"i0": ["ok"] * 3}) for arm in arms])
    pairs = re.findall(r"^(\S+) - (\S+) = ", text, re.MULTILINE)
    whole = {"dpo-all-s0+repair": "dpo-all-s0", "dpo-all-s0": "sft-all-s0", "sft-all-s0": "base", "sft-all-s1": "base"}
    expected = {arm: below for arm, below in whole.items() if left_out not in (arm, below)}
    if left_out == "sft-all-s0":
        expected["dpo-all-s0"] = "base"
    assert dict(pairs) == expected


def test_the_summary_compares_arms_within_their_fold():
    """Past bug: the base model has one name in all folds, so that a fold's SFT was paired with another fold's base."""
    rows = []
    for fold, correct in enumerate((1, 2, 3)):
        items = [f"fold {fold}, item {k}" for k in range(4)]
        for arm, count in (("base", 0), (f"sft-all-s{fold}", correct)):
            reasons = {i: ["ok" if k < count else "call_count"] * 3 for k, i in enumerate(items)}
            rows += [measured(arm, reasons) | {"where": f"{on}, fold {fold}"} for on in ("seen_tools", "irrelevance")]
    text = summary.render(rows)
    assert re.findall(r"^(sft\S+) - base = \S+ pts .*\n?.*?(\d) fixed", text, re.MULTILINE) == [
        (f"sft-all-s{fold}", str(fold + 1)) for _ in ("irrelevance", "seen_tools") for fold in range(3)
    ]
    assert re.findall(r"^(base|sft\S+) (fold \d) +\d/4", text.split("\nabstention\n")[1], re.MULTILINE) == [
        (arm, f"fold {fold}") for fold in range(3) for arm in ("base", f"sft-all-s{fold}")
    ]


def test_the_summary_flags_a_ranking_that_depends_on_the_scorer():
    """One arm is correct on two items by `bfcl` only, the other arm on one item by every scorer."""
    lossy = ["argument_value", "ok", "argument_value"]
    first = measured("a", {"i0": lossy, "i1": lossy, "i2": ["call_count"] * 3})
    second = measured("b", {"i0": ["ok"] * 3, "i1": ["call_count"] * 3, "i2": ["call_count"] * 3})
    assert summary.render([first, second]).splitlines()[-1] == (
        "the ranking of b and a depends on the scorer: strict +33.3, bfcl -33.3, equivalent +33.3 pts"
    )


def test_another_projects_root_is_refused(tmp_path):
    """Past bug: an option's value in another project made that the root, and our configuration was ignored."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "mine.jsonl").write_text("")
    run = python("-m", "pytest", "--data", "mine.jsonl", str(ROOT / "bench"), cwd=tmp_path)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR, run.stdout + run.stderr
    assert f"pytest took {tmp_path} for its root, not {ROOT}" in run.stderr


def test_a_collection_does_not_replace_what_a_run_measured(tmp_path):
    file = tmp_path / "run.json"
    file.write_text("{}")
    assert python("-m", "pytest", "bench", "-k", "methods", "--co", "-q", "--json", str(file)).returncode == 0
    assert file.read_text() == "{}"


def test_updating_one_runs_snapshots_keeps_the_others(tmp_path):
    """Runs on a copy of the checkout. Past bug: on the checkout itself, this test accepted any change of scoring."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.split("\0")[:-1]:
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    kept, updated = (
        tmp_path / "snapshots" / f"smollm2_135m-{scale}" / "test_replay.ambr" for scale in ("full", "smoke")
    )
    before, whole = kept.read_text(), updated.read_text()
    updated.write_text(whole.replace("argument_value", "ok", 1))
    arguments = "bench/test_replay.py", "--replay", "--scale", "smoke", "--snapshot-update", "-q"
    run = python("-m", "pytest", *arguments, cwd=tmp_path)
    assert run.returncode == 0, run.stdout
    assert kept.read_text() == before
    assert updated.read_text() == whole
