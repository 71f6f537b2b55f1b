"""Your model, your tools, your CI: the example rows in data/ at a scripted endpoint, from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.support.oracle_server import answering
from bench.support.servers import chat_completion, serving
from bench.test_gate import refuse_another_model
from fixtures.arms import Arm
from fixtures.config import Options
from fixtures.data.custom import load_rows
from fixtures.prompts import render_text
from fixtures.report import build
from fixtures.runs import ledger, rescoring
from fixtures.runs.items import BFCL_CHARACTERS, EmptySplitError
from fixtures.runs.session import Bench
from fixtures.storage import assets
from fixtures.storage.files import ROOT

DATA, TOOLS = ROOT / "data" / "office.jsonl", ROOT / "data" / "office_tools.json"
OWN = ("--data", str(DATA), "--tools", str(TOOLS))
RUN = "served-office-default"


@pytest.fixture(scope="module")
def rows():
    return load_rows(DATA, TOOLS)


def callbench(*arguments, cache):
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"CALLBENCH_CACHE": str(cache)}
    command = [sys.executable, "-m", "pytest", "bench", "-p", "no:cacheprovider", *OWN, *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def recorded(rows, monkeypatch, tmp_path):
    """The folder of a recorded run of a server that is always right."""
    monkeypatch.setattr(assets, "cache_root", lambda: tmp_path / "cache")
    monkeypatch.setattr(ledger, "RESULTS", tmp_path / "results")
    with serving(answering(rows.values())) as server:
        options = Options(model="served", endpoint=server.url, data=DATA, tools=TOOLS, record=True)
        judgements = Bench(options).judgements(Arm("base"), "all_rows")
    assert all(judgement.primary.correct for judgement in judgements.values())
    assert len(judgements) == 60
    return tmp_path / "results" / RUN


def test_a_served_model_is_measured_on_own_rows(rows, tmp_path):
    """Earlier turns, several calls and accepted values included; rows without a call are another split."""
    with serving(answering(rows.values())) as server:
        run = callbench("--endpoint", server.url, "--model", "served", "-k", "own_data or irrelevance", cache=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "60 own rows with 12 tools, 5 of them without a call: train 25, dev 6, seen_tools 14" in run.stdout
    assert "all_rows, n = 60" in run.stdout
    assert "60/60" in run.stdout
    assert "irrelevance, n = 2" in run.stdout
    early = next(request for request in server.requests if any(m["role"] == "tool" for m in request["messages"]))
    assert [m["role"] for m in early["messages"]] == ["user", "assistant", "tool", "user"]
    assert isinstance(early["messages"][1]["tool_calls"][0]["function"]["arguments"], str)


def test_the_gate_goes_red_when_a_worse_model_is_served_and_names_the_items(rows, recorded, tmp_path):
    gate = ("--model", "other", "--baseline", str(recorded), "-k", "gate and all_rows")
    wrong = sorted(i for i, example in rows.items() if example.answers)[::4]
    for worse in ((), wrong):
        with serving(answering(rows.values(), wrong=worse)) as server:
            run = callbench(*gate, "--endpoint", server.url, cache=tmp_path / "gate")
        assert run.returncode == bool(worse), run.stdout + run.stderr
        assert all((item in run.stdout) == bool(worse) for item in wrong[:3])


def test_the_gate_goes_red_when_a_model_calls_tools_where_none_fits(rows, recorded, tmp_path):
    """Past bug: only rows with calls were compared."""
    gate = ("--model", "other", "--baseline", str(recorded), "-k", "gate and all_rows")
    right, without = answering(rows.values()), [row for row in rows.values() if not row.answers]
    questions = {row.messages[-1]["content"] for row in without}

    def script(request, handler):
        if request["messages"][-1]["content"] not in questions:
            return right(request, handler)
        return 200, chat_completion(calls=[(request["tools"][0]["function"]["name"], "{}")])

    with serving(script) as server:
        run = callbench(*gate, "--endpoint", server.url, cache=tmp_path / "gate")
    assert run.returncode == 1, run.stdout + run.stderr
    assert all(row.id in run.stdout for row in without[:3])


@pytest.mark.parametrize("parallel", [(), ("-n", "2")], ids=["", "xdist"])
def test_a_gate_that_compares_nothing_is_red(rows, recorded, tmp_path, parallel):
    """Past bug: with a misspelt model, or results that were not committed, all gates were skipped and CI was green."""
    report = tmp_path / "run.json"
    if parallel:  # an endpoint has --concurrency instead; a --baseline is compared with a replay, which is skipped
        given = ("--baseline", str(recorded), "--replay", "--model", "smollm2_135m", "--scale", "smoke", *parallel)
        command = [sys.executable, "-m", "pytest", "bench", "-k", "gate", *given, "--json", str(report)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    else:
        with serving(answering(rows.values())) as server:
            given = ("--endpoint", server.url, "--model", "served", "--json", str(report))
            run = callbench("-k", "gate", *given, cache=tmp_path / "gate")
        assert "nothing is recorded for base" in run.stdout
    assert run.returncode == 1, run.stdout + run.stderr
    assert "no gate compared anything" in run.stdout
    assert json.loads(report.read_text())["passed"] is False


def test_a_first_run_at_an_endpoint_is_not_red_for_lack_of_a_recording(rows, tmp_path):
    with serving(answering(rows.values())) as server:
        chosen = "own_data or (gate and all_rows)"
        run = callbench("-k", chosen, "--endpoint", server.url, "--model", "served", cache=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "60/60" in run.stdout


@pytest.mark.parametrize("broken", [0, 1, 2, 12])
def test_the_gate_of_a_model_is_not_failed_by_one_changed_answer(rows, recorded, tmp_path, broken):
    wrong = sorted(i for i, example in rows.items() if example.answers)[:broken]
    gate = ("--model", "other", "--baseline", str(recorded), "-k", "gate and all_rows")
    with serving(answering(rows.values(), wrong=wrong)) as server:
        run = callbench(*gate, "--endpoint", server.url, cache=tmp_path / "gate")
    assert run.returncode == (broken == 12), run.stdout + run.stderr


def test_another_owners_model_of_the_same_name_is_not_compared_with_the_recording(rows, recorded):
    with serving(answering(rows.values())) as server:
        served, other = (
            Bench(Options(model=name, endpoint=server.url, data=DATA, tools=TOOLS))
            for name in ("served", "other/served")
        )
    refuse_another_model(served, Arm("base"))
    with pytest.raises(AssertionError, match="has answers of endpoint served, not of endpoint other/served"):
        refuse_another_model(other, Arm("base"))


def test_answers_to_rows_that_were_edited_are_dropped_when_they_are_recorded_again(rows, recorded, tmp_path):
    """Past bug: they stayed, and every replay refused them."""
    edited = tmp_path / "office.jsonl"
    edited.write_text(DATA.read_text().replace("Give ticket 4711 to Mia.", "Give ticket 4711 to Mia and Jonas."))
    with serving(answering(load_rows(edited, TOOLS).values())) as server:
        options = Options(model="served", endpoint=server.url, data=edited, tools=TOOLS, record=True)
        Bench(options).judgements(Arm("base"), "all_rows")
    bench = Bench(Options(model="served", replay=True, data=edited, tools=TOOLS))
    lines, flipped = rescoring.replayed(bench, bench.recorded.recordings()[0])
    assert (len(lines.splitlines()), flipped) == (60, "")


def test_another_file_of_the_same_name_does_not_replace_what_is_recorded(rows, recorded, tmp_path):
    """Past bug: all answers to the other file's rows were dropped, with a line on stderr."""
    other = tmp_path / "elsewhere" / "office.jsonl"
    other.parent.mkdir()
    other.write_text(
        "".join(
            line.replace("?", " now?").replace(".", " now.") for line in DATA.read_text().splitlines(keepends=True)[:3]
        )
    )
    with serving(answering(load_rows(other, TOOLS).values())) as server:
        options = Options(model="served", endpoint=server.url, data=other, tools=TOOLS, record=True)
        with pytest.raises(ledger.RecordingError, match="has answers to other rows only: of another file of this name"):
            Bench(options).judgements(Arm("base"), "all_rows")
    assert len((recorded / "base.jsonl").read_text().splitlines()) == 60


def test_runs_on_files_with_names_in_any_script_are_told_apart():
    names = {
        Bench(Options(model="m", data=tmp, replay=True)).run for tmp in map(Path, ("a/工具.jsonl", "a/数据.jsonl"))
    }
    assert names == {"m-工具-default", "m-数据-default"}


def test_own_rows_are_replayed_and_reported_like_any_other(recorded, tmp_path):
    bench = Bench(Options(model="served", replay=True, data=DATA, tools=TOOLS))
    (recording,) = bench.recorded.recordings()
    lines, flipped = rescoring.replayed(bench, recording)
    assert (len(lines.splitlines()), flipped) == (60, "")
    build.write(bench, tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Book a design review with Ana and Tom" in page
    assert "minutes (optional)" in page
    assert "Registered claims" not in page


def test_replay_refuses_rows_that_are_not_in_the_data(recorded, tmp_path):
    """Someone edited a question: its id is another one, so that the recorded answer is not taken for one to it."""
    edited = tmp_path / "office.jsonl"
    edited.write_text(DATA.read_text().replace("Give ticket 4711 to Mia.", "Give ticket 4711 to Mia and Jonas."))
    bench = Bench(Options(model="served", replay=True, data=edited, tools=TOOLS))
    (recording,) = bench.recorded.recordings()
    with pytest.raises(ledger.RecordingError, match=r"give_ticket_4711_to_mia-.*or the data that it was recorded with"):
        rescoring.replayed(bench, recording)


def test_bad_rows_are_refused_before_anything_runs(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"messages": 1}\n[]\n{"query": "x", "answers": [{"name": "f"}]}\n')
    run = callbench("--data", str(path), "--replay", cache=tmp_path)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert all(f"mine.jsonl:{line}: " in run.stderr for line in (1, 2, 3))
    assert "unknown tool 'f'; offered are assign_ticket" in run.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--data", "nowhere.jsonl"), "needs a file, found 'nowhere.jsonl'"),
        (("--tools", str(TOOLS)), "--tools needs --data"),
    ],
)
def test_bad_options_are_refused(given, message):
    command = [sys.executable, "-m", "pytest", "bench", *given]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in run.stderr


def test_few_rows_are_called_few_and_their_empty_splits_are_skipped(tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text("".join(DATA.read_text().splitlines(keepends=True)[:3]))
    bench = Bench(Options(model="served", replay=True, data=path, tools=TOOLS))
    assert bench.items.available_splits == ["seen_tools", "all_rows"]
    with pytest.raises(EmptySplitError, match=r"few\.jsonl has no items for unseen_tools"):
        bench.items.test_ids("unseen_tools")
    with serving(answering(load_rows(path, TOOLS).values())) as server:
        given = ("--data", str(path), "--endpoint", server.url, "--model", "served", "-k", "generalization and base")
        run = callbench(*given, "-rs", cache=tmp_path)
    assert "3 rows with calls are few" in run.stdout
    assert run.stdout.count("has no items for") == 2
    assert run.returncode == 0


def test_bfcl_has_no_own_rows():
    items = Bench(Options(replay=True)).items
    assert "all_rows" not in items.available_splits
    with pytest.raises(EmptySplitError, match="without --data"):
        items.test_ids("all_rows")


@pytest.mark.parametrize("temperature", ["0", "0.7"])
def test_repeats_show_reliability_and_an_endpoint_that_is_not_deterministic(rows, tmp_path, temperature):
    """A server that fails each third question every second time."""
    flaky, asked = sorted(i for i, example in rows.items() if example.answers)[::3], set()
    right, wrong = answering(rows.values()), answering(rows.values(), wrong=flaky)

    def script(request, handler):
        key = str(request["messages"])
        with handler.server.lock:
            asked.symmetric_difference_update({key})
            first = key in asked
        return (right if first else wrong)(request, handler)

    given = ("-k", "reliability", "--repeats", "4", "--temperature", temperature, "--concurrency", "1")
    with serving(script) as server:
        run = callbench("--endpoint", server.url, "--model", "served", *given, cache=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    text = " ".join(run.stdout.split())
    assert f"{len(flaky)} of 60 items flip" in text
    assert "pass@4 100.0%" in text
    assert f"pass^4 {1 - len(flaky) / 60:.1%}" in text
    assert ("not deterministic at temperature 0: 19 of 60 items" in text) == (temperature == "0")
    assert {request["temperature"] for request in server.requests} == {float(temperature)}


def test_times_are_estimated_for_the_length_of_own_rows(bench, examples):
    """Found by a new user: rows that offer twelve tools took three times as long as the plan said."""
    measured = sum(len(render_text(example)) for example in examples.values()) / len(examples)
    assert measured == pytest.approx(BFCL_CHARACTERS, rel=0.01)
    own = Bench(Options(data=DATA, tools=TOOLS)).items
    assert own.length == pytest.approx(2.43, abs=0.01)
    assert bench.items.length == 1
