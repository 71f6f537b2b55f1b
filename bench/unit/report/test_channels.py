"""Text that is not ours reaches every output with its control characters as escapes."""

import json
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from fixtures.arms import Completion, Recording
from fixtures.config import Options
from fixtures.modeling import registry
from fixtures.report import build, outputs, tables
from fixtures.runs import flips, ledger, rescoring
from fixtures.runs.session import Bench
from fixtures.scoring.verdict import Verdict, unanimous
from fixtures.storage import files, progress

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\x00\x9b31m\u202eb\u2028c"
SHOWN = r"a\x1b[2J\x1b]0;title\x07\r\x00\x9b31m\u202eb\u2028c"


def safe(text):
    """Nothing but printable characters and line ends."""
    return all(line.isprintable() for line in text.split("\n"))


def test_tables_of_terminal_markdown_and_latex():
    table = tables.Table(("arm",), [(HOSTILE,)])
    for render in (tables.terminal, tables.markdown, tables.latex):
        assert safe(render(table))
    assert SHOWN in tables.markdown(table)


def test_flipped_verdicts_in_terminal_markdown_and_json(tmp_path):
    row = {"id": HOSTILE, "prompt": "p", "text": "", "tokens": 1, "finish": "stop", "strict": HOSTILE}
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "base.jsonl").write_text(json.dumps(row | {"bfcl": name}) + "\n")
    text = flips.between(str(tmp_path / "old"), str(tmp_path / "new"), "run")
    assert SHOWN in text
    assert safe(text)
    outcome = outputs.Outcome("run", [], [], [text], [], False, [])
    assert safe(outputs.as_markdown(outcome))
    assert safe(outputs.as_json(outcome))


def test_completions_on_the_page(tmp_path, monkeypatch, bench):
    folder = tmp_path / "run"
    item = bench.items.test_ids("seen_tools")[0]
    answers = {i: Completion(i, "hash", HOSTILE, 3, "stop") for i in bench.items.test_ids("seen_tools")}
    verdicts = dict.fromkeys(answers, unanimous(Verdict("parse_error", HOSTILE)))
    ledger.record_completions(folder, Recording.parse("base"), answers, verdicts, {"model": "m"})
    session = Bench(Options(scale="full", model="smollm2_135m", replay=True))
    session.__dict__["recorded"] = ledger.RecordedRun(folder)
    session.items = bench.items
    build.write(session, tmp_path / "report")
    for name in ("index.html", "tables.md", "tables.tex"):
        assert safe((tmp_path / "report" / name).read_text())
    page = (tmp_path / "report" / "index.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert all(safe(answer["text"]) and safe(answer["detail"] or "") for answer in data["answers"])
    assert any(SHOWN in answer["text"] for answer in data["answers"])
    assert item in page


def test_progress_and_errors_on_the_terminal(tmp_path):
    from io import StringIO

    from rich.console import Console

    written = StringIO()
    with progress.show(Console(file=written, width=10_000), HOSTILE) as task:
        task.note(HOSTILE)
    assert safe(written.getvalue())
    assert SHOWN in written.getvalue()
    with pytest.raises(registry.ModelError) as caught:
        registry.locate(HOSTILE)
    assert safe(str(caught.value))
    (tmp_path / "c.jsonl").write_text(f"{HOSTILE}\n")
    with pytest.raises(files.FileError) as caught:
        ledger.read_completions(tmp_path / "c.jsonl")
    assert safe(str(caught.value))


def test_junit(pytester_free_run):
    """pytest writes JUnit itself; our properties are numbers and findings, and its XML can be read."""
    properties = {p.get("name"): p.get("value") for p in ElementTree.parse(pytester_free_run).iter("property")}
    assert safe("".join(properties.values()))


@pytest.fixture
def pytester_free_run(tmp_path):
    import subprocess
    import sys

    (tmp_path / "test_x.py").write_text(
        f"def test_x(record_property):\n    record_property('finding', {files.printable(HOSTILE)!r})\n"
        f"    assert {HOSTILE!r} == 'b'\n"
    )
    path = tmp_path / "junit.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "test_x.py", "--junitxml", str(path)],
        cwd=tmp_path, check=False, capture_output=True,
    )  # fmt: skip
    return path


def test_a_session_shows_a_foreign_item_as_escapes(tmp_path, bench):
    (tmp_path / "base.jsonl").write_text(
        json.dumps({"id": HOSTILE, "prompt": "p", "text": "", "tokens": 1, "finish": "stop"}) + "\n"
    )
    session = Bench(Options(scale="full", model="smollm2_135m", replay=True))
    session.__dict__["recorded"] = ledger.RecordedRun(tmp_path)
    session.items = SimpleNamespace(examples=bench.items.examples)
    with pytest.raises(ledger.RecordingError) as caught:
        rescoring.replayed(session, Recording.parse("base"))
    assert SHOWN in str(caught.value)
    assert safe(str(caught.value))
