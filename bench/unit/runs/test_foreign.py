"""Foreign and damaged files in results/: named and refused, never shown raw, never a bare traceback."""

import json
from types import SimpleNamespace

import pytest

from fixtures.arms import Arm, Draw, Recording
from fixtures.config import Options
from fixtures.runs import ledger, provenance, rescoring
from fixtures.runs.session import Bench
from fixtures.storage.files import FileError

NAMES = [
    "sft-nosuch-s0", "nosuch-all_patterns-s0", "sft-all_patterns-s0+nosuch", "notes", "sft-all_patterns-sx",
    "\\input{secret}-all_patterns-s0", "sft\n-all_patterns-s0", "sft\x1b[31m-all_patterns-s0", "<b>-all_patterns-s0",
    "sft-all_patterns-s٣",
]  # fmt: skip
ROW = {"id": "simple_python_0", "prompt": "p", "text": "[]", "tokens": 3, "finish": "stop"}
LOGPROB = {"id": "simple_python_0", "nats": -3.5, "tokens": 3, "choice": "a", "tools": 2, "right": True}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("folder", [".", ledger.GRADED])
def test_a_foreign_file_is_named_and_refused(tmp_path, name, folder):
    (tmp_path / ledger.GRADED).mkdir()
    (tmp_path / folder / f"{name}.jsonl").write_text("")
    recorded = ledger.RecordedRun(tmp_path)
    with pytest.raises(ledger.RecordingError, match="Move the file away: callbench did not write it") as caught:
        recorded.recordings() + recorded.graded_arms()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("text", 5), ("text", None), ("tokens", "3"), ("tokens", True), ("finish", "end"), ("sample", "0"), ("id", []),
        ("prompt", {}), ("stop_token", "x"), ("tokens", 1.5),
    ],
)  # fmt: skip
def test_a_recorded_value_of_a_wrong_type_is_named_with_its_line(tmp_path, field, value):
    (tmp_path / "base.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (ROW, ROW | {field: value})))
    with pytest.raises(FileError, match=rf"base\.jsonl:2: not a row of this file .*{field} is"):
        ledger.RecordedRun(tmp_path).completed(Arm("base"), Draw())


@pytest.mark.parametrize("change", [{"nats": "low"}, {"tokens": None}, {"right": 1}, {"extra": 1, "nats": []}])
def test_a_damaged_graded_file_is_named_with_its_line(tmp_path, change):
    """Past bug: a bare TypeError."""
    (tmp_path / ledger.GRADED).mkdir()
    path = tmp_path / ledger.GRADED / "base.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (LOGPROB, LOGPROB | change)))
    with pytest.raises(FileError, match=r"graded/base\.jsonl:2: not a row of this file"):
        ledger.RecordedRun(tmp_path).all_gold_logprobs(Arm("base"))


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path):
    (tmp_path / "base.jsonl").write_bytes(json.dumps(ROW).encode() + b"\n\xff\xfe\n")
    with pytest.raises(FileError, match=r"base\.jsonl:2: .*UnicodeDecodeError"):
        ledger.RecordedRun(tmp_path).completed(Arm("base"), Draw())


def test_a_recorded_item_that_bfcl_does_not_have_is_named(tmp_path, monkeypatch, bench):
    """Past bug: a bare KeyError."""
    (tmp_path / "base.jsonl").write_text(json.dumps(ROW | {"id": "no\x1b_item"}) + "\n")
    session = Bench(Options(scale="full", model="smollm2_135m", replay=True))
    session.__dict__["recorded"] = ledger.RecordedRun(tmp_path)
    session.items = bench.items
    with pytest.raises(ledger.RecordingError, match=r"base\.jsonl: no\\x1b_item: not among this run"):
        rescoring.replayed(session, Recording(Arm("base")))


def test_a_flipped_verdict_fails_a_replay(tmp_path, bench):
    """Past bug: "1 item flipped" was printed, and the replay passed."""
    from fixtures.plugin import fixtures as plugin

    verdicts = {scorer: "ok" for scorer in ledger.SCORERS}
    (tmp_path / "base.jsonl").write_text(json.dumps(ROW | verdicts | {"detail": ""}) + "\n")
    session = Bench(Options(scale="full", model="smollm2_135m", replay=True))
    session.__dict__["recorded"] = ledger.RecordedRun(tmp_path)
    session.items = bench.items
    request = SimpleNamespace(node=SimpleNamespace(stash={}))
    replayed = plugin.replayed.__wrapped__(Recording(Arm("base")), session, request)
    assert "1 of 1 items flipped" in replayed.flips
    assert replayed.verdicts.startswith("simple_python_0 ")


@pytest.mark.parametrize("manifest", [None, {}, {"base": {}}, {"base": {"training": {"model": ""}}}])
def test_a_recording_without_provenance_is_found(tmp_path, manifest):
    """Past bug: without a run.json, both tests of provenance had nothing to check, and passed."""
    (tmp_path / ledger.GRADED).mkdir()
    for name in ("base", f"{ledger.GRADED}/base"):
        (tmp_path / f"{name}.jsonl").write_text("")
    if manifest is not None:
        (tmp_path / "run.json").write_text(json.dumps(manifest))
    assert provenance.without_provenance(tmp_path) == ["base", "graded/base"]
