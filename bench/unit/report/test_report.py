"""The report's page in a real browser, and its tables and plots."""

import json
import re
import shutil
import time
from dataclasses import asdict, replace

import pytest

from fixtures.arms import Arm, Completion, Draw, Recording
from fixtures.config import Options
from fixtures.data import regimes
from fixtures.generation.forced_choice import GoldLogprob
from fixtures.report import build, cells, summary, tables
from fixtures.runs import flips, ledger
from fixtures.runs.evidence import measure
from fixtures.runs.ledger import NotRecordedError, RecordingError, record_completions, record_gold_logprobs
from fixtures.runs.registered import load_claims
from fixtures.runs.session import Bench
from fixtures.scoring.verdict import OK, SCORERS, Verdict, unanimous

EVIL = '[{"name": "a"}]</script><script>window.hacked = true</script><img src=x onerror="window.hacked = true">'
ITEMS = 5_000  # twice as many answers
SLOW_S = 5.0  # a filter that takes this long hangs: on two busy cores it takes a tenth of a second
REASONS = ("ok", "call_count", "argument_value")


@pytest.fixture(scope="module")
def browser():
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
        "--force-prefers-reduced-motion",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()


@pytest.fixture(scope="module")
def shown(browser, tmp_path_factory):
    """The page of two arms with 10,000 answers; those to item 7 contain HTML and a script."""
    items = [
        {"id": f"item_{k}", "category": ("simple", "parallel")[k % 2], "question": f"question {k}",
         "tools": [{"name": "tool", "description": EVIL, "rows": [["x (optional)", "string", EVIL]]}],
         "gold": '[{"name": "gold"}]'}
        for k in range(ITEMS)
    ]  # fmt: skip
    answers = [
        {"arm": arm, "split": "seen_tools", "item": k, "text": EVIL if k == 7 else f"answer {k} é",
         "verdicts": [REASONS[(k + arm) % 3]] * 3, "detail": "<b>why</b>"}
        for arm in (0, 1) for k in range(ITEMS)
    ]  # fmt: skip
    data = {"arms": ["base", "sft"], "scorers": SCORERS, "items": items, "answers": answers}
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(
        build.page("run", None, [], [], {"Results": tables.Table(["on", "arm"], [["seen_tools", "<i>base</i>"]])}, data)
    )
    browser.get(path.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def choose(browser, **chosen):
    """Set filters as a user does; returns the text of the count, and the seconds it took."""
    script = """for (const [id, value] of Object.entries(arguments[0])) {
      const control = document.getElementById(id);
      control.value = value;
      control.dispatchEvent(new Event("input", {bubbles: true}));
    }
    return document.getElementById("count").textContent;"""
    started = time.monotonic()
    everything = dict.fromkeys(("arm", "against", "split", "category", "reason", "text"), "")
    return browser.execute_script(script, everything | chosen), time.monotonic() - started


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ({}, "10000 of 10000 answers, 3333 of them right"),
        ({"arm": "0"}, "5000 of 10000 answers, 1667 of them right"),
        ({"arm": "1", "category": "parallel"}, "2500 of 10000 answers, 833 of them right"),
        ({"reason": "call_count"}, "3334 of 10000 answers, 0 of them right"),
        ({"arm": "0", "against": "1"}, "3333 of 10000 answers, 1667 of them right"),
        ({"text": "QUESTION 4999"}, "2 of 10000 answers, 0 of them right"),
    ],
    ids=["all", "arm", "category", "reason", "flipped", "text"],
)
def test_filters_choose_answers(shown, chosen, count):
    shown_count, seconds = choose(shown, **chosen)
    assert shown_count == count
    assert seconds < SLOW_S


def test_model_output_is_shown_as_text(shown):
    choose(shown, text="onerror", arm="0")
    shown.find_element("css selector", "#list button").click()
    assert EVIL in shown.find_element("id", "detail").text
    assert "<b>why</b>" in shown.find_element("id", "detail").text
    assert shown.find_element("css selector", "#detail table.arguments").text == f"x (optional) string {EVIL}"
    assert shown.execute_script("return [window.hacked, document.querySelectorAll('#detail img').length]") == [None, 0]


def test_answers_are_listed_page_by_page(shown):
    choose(shown, arm="0")
    assert len(shown.find_elements("css selector", "#list li")) == 50
    first = shown.find_element("css selector", "#list button").text
    shown.find_element("id", "next").click()
    assert shown.find_element("id", "page").text == "page 2 of 100"
    assert shown.find_element("css selector", "#list button").text != first


def test_an_answer_can_be_opened_with_the_keyboard(shown):
    choose(shown, text="question 12")
    assert (
        shown.execute_script("""document.querySelector("#list button").focus();
      return document.activeElement.tagName""")
        == "BUTTON"
    )
    shown.switch_to.active_element.send_keys("\ue007")
    assert "question 12" in shown.find_element("id", "detail").text


def test_a_phone_needs_no_sideways_scrolling(shown):
    before = shown.get_window_size()
    shown.set_window_size(500, 900)  # chromium's narrowest window
    assert shown.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    shown.set_window_size(before["width"], before["height"])


def test_embedded_data_cannot_end_its_element():
    data = {"text": EVIL + "<!-- & \u2028 \ud800"}
    text = build.embedded(data)
    assert not re.search(r"[<>&]|[^\x00-\x7f]", text)
    assert json.loads(text) == data


def test_markdown_and_latex_keep_special_characters():
    table = tables.Table(["a_b"], [["50 % | x & $y \\ ~^"]])
    assert tables.markdown(table).splitlines() == ["| a_b |", "| --- |", "| 50 % \\| x & $y \\ ~^ |"]
    assert r"50 \% | x \& \$y \textbackslash{} \textasciitilde{}\textasciicircum{} \\" in tables.latex(table)


def record_answers(bench, name, split, verdict):
    """An arm's made-up answers to all of a split's items."""
    answers = {i: Completion(i, "hash", "[]", 3, "stop") for i in bench.items.test_ids(split)}
    verdicts = dict.fromkeys(answers, unanimous(verdict))
    record_completions(bench.recorded.folder, Recording.parse(name), answers, verdicts, {})


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A session over two arms' made-up answers to the smoke scale's items."""
    monkeypatch.setattr("fixtures.runs.ledger.RESULTS", tmp_path / "results")
    made = Bench(Options(scale="smoke", replay=True))
    for name, verdict in {"base": Verdict("parse_error"), "sft-all_patterns-s0": OK}.items():
        record_answers(made, name, "seen_tools", verdict)
    return made


def test_a_report_shows_the_log_probability_of_the_gold_answers(recorded, tmp_path):
    logprobs = [
        GoldLogprob(i, -5.0, 10, "tool", 2, k % 2 == 0) for k, i in enumerate(recorded.items.test_ids("seen_tools"))
    ]
    record_gold_logprobs(tmp_path / "results" / recorded.run, Arm("base"), logprobs, {})
    build.write(recorded, tmp_path / "report")
    n = len(logprobs)
    row = f"| seen_tools | base | {n} | -0.500 | [-0.500, -0.500] | {n // 2}/{n} |"
    assert row in (tmp_path / "report" / "tables.md").read_text()
    assert "Log-probability of the gold answer" in (tmp_path / "report" / "index.html").read_text()


def test_items_with_a_single_tool_have_no_forced_choice():
    """With --items 1, seen_tools is one question with one tool."""
    logprobs = {"i": GoldLogprob("i", -5.0, 10, "tool", 1, True)}
    ((*_, counts, interval),) = build.logprob_table([("seen_tools", Arm("base"), logprobs, {"i": 0})]).rows
    assert (counts, interval) == ("0/0", "")
    measured = {
        "where": "seen_tools",
        "arm": "base",
        "logprobs": [asdict(one) for one in logprobs.values()],
        "clusters": {"i": 0},
    }
    assert "0/0" in summary.render_logprobs([measured])


def test_a_report_has_every_recorded_arm(recorded, tmp_path):
    files = {path.name for path in build.write(recorded, tmp_path / "report")}
    assert {"index.html", "tables.md", "tables.tex", "ladder.svg", "ladder.png", "errors.svg"} <= files
    table = (tmp_path / "report" / "tables.md").read_text()
    n = len(recorded.items.test_ids("seen_tools"))
    assert re.search(rf"\| seen_tools \| base \| 0 \| {n} \| 0\.0%", table)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "http" not in re.sub(
        r'xmlns(:\w+)?="[^"]*"|http-equiv', "", page.split('<script type="application/json"')[0]
    )
    build.write(recorded, tmp_path / "again")
    assert page == (tmp_path / "again" / "index.html").read_text()


@pytest.mark.parametrize(
    ("name", "split", "drawn"),
    [
        ("base", "unseen_tools", {"generalization"}),
        ("base+constrained", "seen_tools", {"categories", "errors", "compute"}),
    ],
)
def test_a_report_of_one_arm_on_one_split(name, split, drawn, tmp_path, monkeypatch):
    """What a researcher has after the first recording."""
    monkeypatch.setattr("fixtures.runs.ledger.RESULTS", tmp_path / "results")
    made = Bench(Options(scale="smoke", replay=True))
    record_answers(made, name, split, OK)
    files = build.write(made, tmp_path / "report")
    assert {path.stem for path in files if path.suffix == ".svg"} == drawn
    assert f"| {split} | {name} |" in (tmp_path / "report" / "tables.md").read_text()


def test_log_probabilities_alone_are_reported_and_decide_claims(tmp_path, monkeypatch):
    """Past bug: the report failed ("nothing is recorded"), and the claim used the seeds of recorded completions."""
    monkeypatch.setattr("fixtures.runs.ledger.RESULTS", tmp_path / "results")
    made = Bench(Options(scale="smoke", replay=True))
    claim = load_claims()["sft_makes_unseen_patterns_likelier"]
    for arm in (Arm("base"), Arm("sft", "no_parallel_multiple", 1), Arm("sft", "no_parallel_multiple", 2)):
        logprobs = [GoldLogprob(i, -5.0 + arm.seed, 10, "tool", 2, True) for i in made.items.test_ids(claim.split)]
        record_gold_logprobs(tmp_path / "results" / made.run, arm, logprobs, {})
    assert measure(made, claim).seeds == [1, 2]
    build.write(made, tmp_path / "report")
    assert "sft-no_parallel_multiple-s2" in (tmp_path / "report" / "tables.md").read_text()


def test_a_new_split_does_not_hide_its_regimes_arms_on_other_splits(tmp_path, monkeypatch):
    """Past bug: once a split had the regime four_320, its arms were no longer shown on seen_tools."""
    monkeypatch.setattr("fixtures.runs.ledger.RESULTS", tmp_path / "results")
    monkeypatch.setitem(regimes.SPLITS, "new", replace(regimes.SPLITS["irrelevance"], regime="four_320"))
    made = Bench(Options(scale="smoke", replay=True))
    for split in ("seen_tools", "new"):
        record_answers(made, "sft-four_320-s0", split, OK)
    assert {(cell.split, cell.arm) for cell in cells.gather(made)} >= {
        ("seen_tools", "sft@four_320"),
        ("new", "sft"),
    }


def test_the_pages_data_has_everything_that_its_script_reads(recorded, tmp_path):
    """Past bug: a key was renamed on one side only, and the page showed no answers."""
    build.write(recorded, tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    read = set(re.findall(r"\bdata\.(\w+)", (build.PAGE / "report.js").read_text()))
    assert read == data.keys()


def test_an_arm_whose_method_has_a_hyphen_is_reported(recorded, tmp_path, monkeypatch):
    """Past bug: the arm's name was split at its first hyphen, in six places."""
    monkeypatch.setattr(ledger, "METHOD_NAMES", ledger.METHOD_NAMES | {"my-method"})
    record_answers(recorded, "my-method-all_patterns-s1", "seen_tools", OK)
    record_answers(recorded, "my-method-all_patterns-s1+constrained", "seen_tools", OK)
    build.write(recorded, tmp_path / "report")
    table = (tmp_path / "report" / "tables.md").read_text()
    assert "| seen_tools | my-method |" in table
    assert "| seen_tools | my-method+constrained |" in table
    assert recorded.recorded.seeds(Arm("my-method", "all_patterns")) == {1}


def test_a_diff_of_an_arm_with_several_samples_is_refused(recorded, tmp_path, monkeypatch):
    """Past bug: for best_of_8 it compared the first sample, not the chosen one, and the sign was wrong."""
    folder = tmp_path / "results" / recorded.run
    answers = {f"i#{k}" if k else "i": Completion("i", "hash", "[]", 3, "stop", k) for k in range(2)}
    recording = Recording(Arm("sft", "all_patterns"), "best_of_8")
    record_completions(folder, recording, answers, dict.fromkeys(answers, unanimous(OK)), {})
    monkeypatch.setattr("fixtures.runs.flips.RESULTS", tmp_path / "results")
    with pytest.raises(RecordingError, match="several completions of an item"):
        flips.between("sft-all_patterns-s0", "sft-all_patterns-s0+best_of_8", recorded.run)


def test_the_error_for_a_run_without_recordings_advises_record(monkeypatch, tmp_path):
    monkeypatch.setattr("fixtures.runs.ledger.RESULTS", tmp_path)
    with pytest.raises(RecordingError, match=r"nothing is recorded in results/.*--record"):
        build.write(Bench(Options(scale="full", model="smollm2_135m", replay=True)), tmp_path / "report")


def test_a_split_that_only_shares_items_with_a_recorded_one_is_not_recorded(recorded, tmp_path):
    """unseen_patterns shares items with seen_tools. If one of these is lost, both splits are incomplete: an error."""
    draw, base = Draw(), Arm("base")
    logprobs = [GoldLogprob(i, -5.0, 10, "tool", 2, True) for i in recorded.items.test_ids("seen_tools")]
    record_gold_logprobs(tmp_path / "results" / recorded.run, base, logprobs, {})
    with pytest.raises(NotRecordedError, match="only other splits are recorded"):
        recorded.completions(base, "unseen_patterns", draw)
    with pytest.raises(NotRecordedError, match="only other splits are recorded"):
        recorded.gold_logprobs(base, "unseen_patterns")
    few = Bench(Options(scale="smoke", replay=True, items=6))
    with pytest.raises(NotRecordedError, match="only other splits are recorded"):
        few.completions(base, "unseen_patterns", draw)
    path = recorded.recorded.folder / "base.jsonl"
    shared = set(recorded.items.test_ids("seen_tools")).intersection(recorded.items.test_ids("unseen_patterns"))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["id"] != min(shared)))
    for split in ("seen_tools", "unseen_patterns"):
        with pytest.raises(RecordingError, match="lacks") as caught:
            Bench(Options(scale="smoke", replay=True)).completions(base, split, draw)
        assert not isinstance(caught.value, NotRecordedError)


def level(*seeds):
    """The accuracy of a cell with 94 items; each argument lists the items that one seed has correct."""
    judgements = {
        seed: {str(k): unanimous(OK if k in correct else Verdict("call_count")) for k in range(94)}
        for seed, correct in enumerate(seeds)
    }
    clusters = {str(k): k for k in range(94)}
    return cells.Cell("sft", "all_patterns", "plain", "unseen_patterns", judgements, 0.0, None, clusters).level()


def test_more_seeds_without_a_correct_answer_do_not_narrow_the_interval():
    """Past bug: the interval of 0 of 94 ended at 3.9 % for one seed, but at 2.1 % for three."""
    one, three = level([]), level([], [], [])
    assert one.high == pytest.approx(0.0393, abs=1e-4)
    assert (three.low, three.high) == (one.low, one.high)
    assert three.correct == (0, 0, 0)


def test_seeds_that_differ_widen_an_accuracys_interval():
    one, alike, apart = level(range(30)), level(range(30), range(30)), level(range(5), range(55))
    assert (one.value, alike.value, apart.value) == (30 / 94, 30 / 94, 30 / 94)
    assert alike.low <= one.low < one.high <= alike.high
    assert apart.low < one.low < one.high < apart.high
