"""The ledger and the completion cache: nothing is lost, nothing is counted twice."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from fixtures.arms import Arm, Completion, Draw, Recording
from fixtures.config import Options
from fixtures.runs import ledger, provenance
from fixtures.runs.session import Bench
from fixtures.scoring.verdict import OK, Judgement, Verdict, unanimous
from fixtures.storage import files, jsonl

ARM = Arm("sft", "all_patterns", 1)
GREEDY = Recording(ARM)


def completion(i, text="[]"):
    return Completion(f"item_{i}", f"hash_{i}", text, 3, "stop")


def test_completions_survive_the_disk(tmp_path):
    path = tmp_path / "a" / "c.jsonl"
    made = [completion(0), completion(1, 'lone \ud800, NUL \0, line\u2028end\n"é"')]
    jsonl.append_rows(path, map(ledger.completion_row, made[:1]))
    jsonl.append_rows(path, map(ledger.completion_row, made[1:]))
    assert ledger.read_completions(path) == made


def test_a_line_of_a_cache_cut_short_is_left_out_and_written_again(tmp_path):
    path = tmp_path / "c.jsonl"
    jsonl.append_checked(path, map(ledger.completion_row, [completion(0), completion(1)]))
    path.write_bytes(path.read_bytes()[:-9])
    assert jsonl.read_checked(path, ledger.completion_of, repair=False) == [completion(0)]
    jsonl.append_checked(path, [ledger.completion_row(completion(1))])
    assert jsonl.read_checked(path, ledger.completion_of, repair=False) == [completion(0), completion(1)]


def test_the_last_line_of_a_ledger_is_a_row_also_without_its_end(tmp_path):
    """Past bug: an editor that dropped the last line end dropped a row from the next recording."""
    path = tmp_path / "c.jsonl"
    path.write_text("".join(jsonl.row_text(ledger.completion_row(completion(k))) for k in range(2)).rstrip())
    assert ledger.read_completions(path) == [completion(0), completion(1)]
    path.write_text(path.read_text()[:-9])  # ledgers are written whole: this one was damaged later
    with pytest.raises(files.FileError, match=r"c\.jsonl:2: not a row"):
        ledger.read_completions(path)


def test_the_error_for_an_invalid_line_names_the_file(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": 1}\n')
    with pytest.raises(files.FileError, match=r"c\.jsonl:1: not a row of this file.*Delete the file"):
        ledger.read_completions(path)


def test_a_recorded_arm_is_replayed(tmp_path):
    wrong = Verdict("argument_value", "x")
    verdicts = {"item_0": Judgement(wrong, OK, wrong), "item_1": unanimous(Verdict("parse_error", "not JSON"))}
    answers = {f"item_{i}": completion(i) for i in range(2)}
    ledger.record_completions(tmp_path, GREEDY, {"item_0": answers["item_0"]}, verdicts, {"seed": 1})
    ledger.record_completions(tmp_path, GREEDY, {"item_1": answers["item_1"]}, verdicts, {"seed": 1})
    recorded = ledger.RecordedRun(tmp_path)
    assert recorded.recordings() == [GREEDY]
    assert recorded.complete(ARM, ["item_1", "item_0"], Draw()) == {i: [answer] for i, answer in answers.items()}
    rows = [json.loads(line) for line in (tmp_path / f"{ARM!s}.jsonl").read_text().splitlines()]
    assert [row["strict"] for row in rows] == ["argument_value", "parse_error"]
    assert [row["bfcl"] for row in rows] == ["ok", "parse_error"]
    assert [row["detail"] for row in rows] == ["x", "not JSON"]
    manifest = json.loads((tmp_path / "run.json").read_text())[str(ARM)]
    assert manifest["training"] == {"seed": 1}
    assert {"commit", "versions", "machine", "at"} <= manifest["provenance"].keys()


def test_the_provenance_of_older_rows_stays_as_long_as_they_do(tmp_path, monkeypatch):
    """Past bug: a file whose rows two kinds of cores had made was said to be the newer one's."""
    verdicts = {f"item_{i}": unanimous(OK) for i in range(3)}

    def record(number, core):
        answers = {f"item_{number}": completion(number)}
        ledger.record_completions(tmp_path, GREEDY, answers, verdicts, {"core": core})
        return json.loads((tmp_path / "run.json").read_text())[str(ARM)]

    assert "earlier" not in record(0, "Haswell")
    assert "earlier" not in record(1, "Haswell")
    entry = record(2, "oneDNN")
    assert entry["training"] == {"core": "oneDNN"}
    assert [one["core"] for one in entry["earlier"]] == ["Haswell"]
    assert entry["earlier"][0]["versions"] == entry["provenance"]["versions"]
    assert [one["core"] for one in record(2, "Zen")["earlier"]] == ["Haswell", "oneDNN"]
    assert [one["core"] for one in record(2, "Haswell")["earlier"]] == ["oneDNN", "Zen"]
    (tmp_path / f"{ARM!s}.jsonl").unlink()
    assert "earlier" not in record(0, "Haswell")


def test_samples_are_recorded_side_by_side_and_scored_one_by_one(tmp_path):
    draw, wrong = Draw("best_of_2", samples=2, temperature=1.0), unanimous(Verdict("call_count", "2"))
    samples = [Completion("item_0", "hash", text, 3, "stop", k) for k, text in enumerate(("[]", "[1]", "[2]"))]
    name = Recording(ARM, draw.name)
    ledger.record_completions(
        tmp_path, name, {c.label: c for c in samples[1:]}, {"item_0#1": wrong, "item_0#2": wrong}, {}
    )
    recorded = ledger.RecordedRun(tmp_path)
    ledger.record_completions(tmp_path, name, {"item_0": samples[0]}, {"item_0": unanimous(OK)}, {})
    assert recorded.complete(ARM, ["item_0"], draw) == {"item_0": samples[:2]}
    reasons = {label: by_scorer["strict"] for label, by_scorer in ledger.recorded_reasons(tmp_path, name).items()}
    assert reasons == {"item_0": "ok", "item_0#1": "call_count", "item_0#2": "call_count"}
    with pytest.raises(ledger.RecordingError, match=r"best_of_2\.jsonl lacks 1 of 1 items"):
        recorded.complete(ARM, ["item_0"], replace(draw, samples=4))


def test_the_error_for_missing_recordings_explains_how_to_record_them(tmp_path):
    ledger.record_completions(tmp_path, GREEDY, {"item_0": completion(0)}, {"item_0": unanimous(OK)}, {})
    recorded = ledger.RecordedRun(tmp_path)
    with pytest.raises(ledger.RecordingError, match=r"lacks 1 of 2 items.*--record"):
        recorded.complete(ARM, ["item_0", "item_9"], Draw())
    with pytest.raises(ledger.RecordingError, match=r"nothing is recorded for base.*sft-all_patterns-s1"):
        recorded.complete(Arm("base"), ["item_0"], Draw())


def test_rescoring_changes_verdicts_and_nothing_else(tmp_path):
    answers = {f"item_{i}": completion(i) for i in range(2)}
    ledger.record_completions(tmp_path, GREEDY, answers, dict.fromkeys(answers, unanimous(OK)), {"seed": 1})
    manifest = (tmp_path / "run.json").read_text()
    wrong = unanimous(Verdict("call_count", "2"))
    ledger.rescore(tmp_path, GREEDY, {"item_1": wrong})
    assert ledger.recorded_reasons(tmp_path, GREEDY) == {"item_0": unanimous(OK).reasons, "item_1": wrong.reasons}
    assert ledger.RecordedRun(tmp_path).completions(GREEDY) == answers
    assert (tmp_path / "run.json").read_text() == manifest


def test_completions_of_two_adapters_are_never_mixed(tmp_path):
    """Training rounds differently on another machine: an adapter that is trained again there is another adapter."""
    old, new = {"weights": {str(ARM): "aa"}}, {"weights": {str(ARM): "bb"}}
    both = {f"item_{i}": completion(i) for i in range(2)}
    verdicts = dict.fromkeys(both, unanimous(OK))
    one = {"item_1": completion(1, "[1]")}
    ledger.record_completions(tmp_path, GREEDY, both, verdicts, old)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    for training in (new, {}):
        with pytest.raises(ledger.RecordingError, match=r"sft-all_patterns-s1\.jsonl has 1 more.*aa.*Delete it"):
            ledger.record_completions(tmp_path, GREEDY, one, verdicts, training)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    ledger.record_completions(tmp_path, GREEDY, one, verdicts, old)
    ledger.record_completions(tmp_path, Recording.parse("base"), both, verdicts, {})
    ledger.record_completions(
        tmp_path, Recording.parse("base"), one, verdicts, {"weights": {"base": ""}}
    )  # it has no adapter
    ledger.record_completions(tmp_path, GREEDY, both, verdicts, new)
    assert ledger.RecordedRun(tmp_path).completions(GREEDY) == both


def test_what_a_killed_run_left_behind_is_no_recording(tmp_path):
    """Past bug: after a kill -9 while a file was written, a replay took the unfinished one for someone else's."""
    both = {f"item_{i}": completion(i) for i in range(2)}
    ledger.record_completions(tmp_path, GREEDY, both, dict.fromkeys(both, unanimous(OK)), {"model": "m"})
    (tmp_path / f"{files.temporary_prefix()}base.jsonl").write_text("{")
    assert ledger.RecordedRun(tmp_path).recordings() == [GREEDY]
    assert provenance.without_provenance(tmp_path) == []


def test_the_error_for_a_damaged_manifest_names_the_file(tmp_path):
    (tmp_path / "run.json").write_text("<<<<<<< HEAD\n{}\n")
    with pytest.raises(files.FileError, match=r"run\.json: not a JSON object .*Delete the file"):
        provenance.conflicting_adapters(tmp_path)


def test_completions_of_two_base_models_are_never_mixed(tmp_path):
    """Past bug: two model folders with the same name share one run, and no adapter hash distinguishes them."""
    both = {f"item_{i}": completion(i) for i in range(2)}
    verdicts = dict.fromkeys(both, unanimous(OK))
    first, second = ({"model": model * 64, "weights": {"base": ""}} for model in "ab")
    ledger.record_completions(tmp_path, Recording.parse("base"), both, verdicts, first)
    with pytest.raises(ledger.RecordingError, match=r"1 more items of another model: a{20}, now b{20}\. Delete it"):
        ledger.record_completions(tmp_path, Recording.parse("base"), {"item_1": completion(1)}, verdicts, second)
    ledger.record_completions(tmp_path, Recording.parse("base"), both, verdicts, second)


def test_two_model_folders_of_one_name_do_not_share_results(tmp_path):
    answers, verdicts = {"item_0": completion(0)}, {"item_0": unanimous(OK)}
    for arm, model in (("base", "a"), ("sft-all_patterns-s0", "a")):
        ledger.record_completions(tmp_path, Recording.parse(arm), answers, verdicts, {"model": model})
    for arm in ("rft-all_patterns-s0", "base"):
        with pytest.raises(ledger.RecordingError, match=r"another model of this name \((base|sft)"):
            ledger.record_completions(tmp_path, Recording.parse(arm), answers, verdicts, {"model": "b"})
    for path in tmp_path.glob("*.jsonl"):
        path.unlink()
    ledger.record_completions(tmp_path, Recording.parse("base"), answers, verdicts, {"model": "b"})


def test_two_precisions_do_not_share_results(tmp_path):
    """Past bug: only the rows of one file were compared, and claims pair files."""
    answers, verdicts = {"item_0": completion(0)}, {"item_0": unanimous(OK)}
    ledger.record_completions(tmp_path, Recording.parse("base"), answers, verdicts, {"dtype": "float32"})
    arm = Recording.parse("sft-all_patterns-s4")
    with pytest.raises(ledger.RecordingError, match=r"of another --precision \(base\)"):
        ledger.record_completions(tmp_path, arm, answers, verdicts, {"dtype": "bf16"})
    ledger.record_completions(tmp_path, arm, answers, verdicts, {"dtype": "float32"})


def test_two_recording_processes_lose_nothing(tmp_path):
    """Past bug: two runs with --record read, changed and wrote run.json and ledgers at the same time."""
    from multiprocessing import get_context

    processes = [get_context("spawn").Process(target=record_many, args=(tmp_path, k)) for k in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    recorded = ledger.RecordedRun(tmp_path)
    assert len(recorded.completions(GREEDY)) == 2 * RACED
    assert provenance.read_manifest(tmp_path).keys() == {str(GREEDY), "base", "dpo-all_patterns-s1"}


RACED = 12


def record_many(folder, process):
    for k in range(RACED):
        i = f"item_{RACED * process + k}"
        answers, verdicts = {i: replace(completion(0), id=i)}, {i: unanimous(OK)}
        ledger.record_completions(folder, GREEDY, answers, verdicts, {"model": "a"})
    alone = Recording.parse(("base", "dpo-all_patterns-s1")[process])
    ledger.record_completions(folder, alone, answers, verdicts, {"model": "a"})


def test_a_conflict_of_adapters_is_raised_before_generation(bench, tmp_path):
    answers = {"item_0": completion(0)}
    ledger.record_completions(tmp_path, GREEDY, answers, {"item_0": unanimous(OK)}, {"weights": {str(ARM): "aa"}})
    runner = SimpleNamespace(
        identity=lambda arm: {"weights": {str(arm): "bb"}}, complete=lambda *_: pytest.fail("it generated")
    )
    session = Bench(Options(scale="smoke", record=True))
    session.__dict__ |= {"runner": runner, "recorded": ledger.RecordedRun(tmp_path), "items": bench.items}
    with pytest.raises(ledger.RecordingError, match="1 more items of another adapter"):
        session.chosen(ARM, "seen_tools", "plain")


def test_an_arm_whose_recordings_rest_on_different_adapters_is_reported(tmp_path):
    parent = {str(ARM): "aa"}
    answers, verdicts = {"item_0": completion(0)}, {"item_0": unanimous(OK)}
    for name, weights in {str(ARM): parent, "dpo-x-s1": parent | {"dpo-x-s1": "cc"}, "base": {"base": ""}}.items():
        ledger.record_completions(tmp_path, Recording.parse(name), answers, verdicts, {"weights": weights})
    ledger.record_completions(
        tmp_path, Recording.parse("sft-all_patterns-s0"), answers, verdicts, {}
    )  # recorded before the weights' hashes were recorded
    assert provenance.conflicting_adapters(tmp_path) == []
    ledger.record_completions(
        tmp_path, Recording.parse(f"{ARM!s}+constrained"), answers, verdicts, {"weights": {str(ARM): "bb"}}
    )
    ledger.record_gold_logprobs(tmp_path, ARM, [], {"weights": {str(ARM): "dd"}})
    (conflict,) = provenance.conflicting_adapters(tmp_path)
    ledger.record_completions(
        tmp_path, Recording.parse("dpo-moved-s1"), answers, verdicts, {"weights": {str(ARM): "ee"}}
    )
    (tmp_path / "dpo-moved-s1.jsonl").unlink()
    (conflict,) = provenance.conflicting_adapters(tmp_path)
    assert "ee" not in conflict
    assert conflict.startswith(f"{ARM!s}: ")
    for named in ("aa in dpo-x-s1, sft-all_patterns-s1", f"bb in {ARM!s}+constrained", f"dd in graded/{ARM!s}"):
        assert named in conflict


def test_only_existing_files_count_for_recorded_hyper_parameters(tmp_path):
    (tmp_path / "graded").mkdir()
    for name, training in {
        "dpo-x-s0": {"hyper": {"lr": 1}},
        "graded/dpo-x-s0": {"hyper": {"lr": 2}},
        "base": {},
    }.items():
        ledger.record_completions(tmp_path, name, {}, {}, training)
    assert provenance.recorded_hyper(tmp_path) == {"dpo-x-s0": {"lr": 1}, "graded/dpo-x-s0": {"lr": 2}}
    (tmp_path / "dpo-x-s0.jsonl").unlink()
    assert provenance.recorded_hyper(tmp_path) == {"graded/dpo-x-s0": {"lr": 2}}


def test_recorded_work_is_converted_to_gflop_at_the_recording_machines_speed(tmp_path):
    """2 s at 10 GFLOP/s, 3 s at 20 and 1 s at 30: the median is 30 GFLOP, or 3 s on a machine with 10 GFLOP/s."""
    recorded = ledger.RecordedRun(tmp_path)
    assert recorded.work("training sft") is None
    for seed, (seconds, gflops) in enumerate([(2.0, 10.0), (3.0, 20.0), (1.0, 30.0)]):
        training = {"pace": {"training sft": seconds}, "gflops": gflops}
        ledger.record_completions(tmp_path, Recording.parse(f"sft-all_patterns-s{seed}"), {}, {}, training)
    ledger.record_completions(tmp_path, Recording.parse("sft-older-s0"), {}, {}, {"seconds": 1.0})
    assert recorded.work("training sft") == 30.0
    assert recorded.work("training dpo") is None


@pytest.mark.parametrize("given", [".", "./", "../my_model", "../my_model/."])
def test_a_models_folder_gives_its_run_a_name(tmp_path, monkeypatch, given):
    """Past bug: the run of `--model .` had no model in its name, the same for every folder."""
    folder = tmp_path / "my_model"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert Bench(Options(scale="smoke", model=given)).run == "my_model-smoke"
