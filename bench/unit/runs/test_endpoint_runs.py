"""Runs against an endpoint, on loopback: scripted servers that answer BFCL's questions with their gold calls."""

import json
import threading
import time
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import nullcontext, suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bench.support.oracle_server import answering
from bench.support.servers import Handler, chat_completion, serving
from fixtures.arms import Arm, Draw, Recording
from fixtures.config import Options
from fixtures.generation.endpoint import Endpoint, EndpointError
from fixtures.generation.scaffolds import SCAFFOLDS
from fixtures.runs import ledger, rescoring
from fixtures.runs.ledger import NeedsWeightsError
from fixtures.runs.provenance import read_manifest
from fixtures.runs.session import Bench
from fixtures.storage import assets

BASE = Arm("base")


@pytest.fixture
def examples(bench):
    return list(bench.items.examples.values())


@pytest.fixture(autouse=True)
def own_folders(bench, monkeypatch, tmp_path):
    """An empty cache and no results; BFCL comes from the real cache."""
    monkeypatch.setattr(assets, "cache_root", lambda: tmp_path / "cache")
    monkeypatch.setattr(ledger, "RESULTS", tmp_path / "results")


def session(server, bench, **options):
    given = Options(scale="smoke", model="org/served", endpoint=server.url, **options)
    made = Bench(given)
    made.items.__dict__["examples"] = bench.items.examples
    return made


def test_an_endpoint_is_evaluated_like_a_model(bench, examples):
    with serving(answering(examples)) as server:
        run = session(server, bench)
        judgements = run.judgements(BASE, "seen_tools")
    assert all(judgement.primary.correct for judgement in judgements.values())
    assert len(server.requests) == len(judgements) == 12
    (sent,) = {json.dumps(sorted(request)) for request in server.requests}
    assert json.loads(sent) == ["max_tokens", "messages", "model", "temperature", "tools"]
    assert all(tool["type"] == "function" for request in server.requests for tool in request["tools"])
    assert run.tokens(BASE, "seen_tools", "plain")[next(iter(judgements))] == (3, 0, 11)


@pytest.mark.parametrize("split", ["seen_tools", "irrelevance"])
def test_an_item_without_an_answer_is_wrong_and_the_denominator_stays(bench, examples, split):
    """An empty answer would be an abstention, which is correct on irrelevance."""
    ids = bench.items.test_ids(split)[:12]
    with serving(answering(examples, failing=ids[:2])) as server:
        run = session(server, bench)
        judgements = run.judgements(BASE, split)
    assert len(judgements) == 12
    failed = [i for i, judgement in judgements.items() if judgement.primary.reason == "server_error"]
    assert set(failed) == set(ids[:2])


def test_only_resume_reads_the_answers_of_an_earlier_run_and_asks_failed_items_again(bench, examples):
    """Another model may be served since, under the same name."""
    failing = [*bench.items.test_ids("seen_tools")[:2]]
    with serving(lambda request, handler: answering(examples, failing)(request, handler)) as server:
        session(server, bench).judgements(BASE, "seen_tools")
        failing.clear()
        server.requests.clear()
        resumed = session(server, bench, resume=True).judgements(BASE, "seen_tools")
        assert len(server.requests) == 2
        assert all(judgement.primary.correct for judgement in resumed.values())
        server.requests.clear()
        session(server, bench).judgements(BASE, "seen_tools")
        assert len(server.requests) == 12


def test_a_server_that_fails_from_the_start_is_one_error(bench):
    with serving(lambda *_: (500, {"error": "boom"}, [("x-should-retry", "false")])) as server:
        run = session(server, bench, concurrency=1)
        with pytest.raises(EndpointError, match=r"the first 5 requests failed: .*Is the server up"):
            run.judgements(BASE, "seen_tools")
        assert len(server.requests) < 12


@pytest.mark.parametrize(("scaffold", "concurrency"), [("best_of_8", 8), ("plain", 64)])
def test_a_server_that_refuses_everything_is_one_error_at_any_size(bench, scaffold, concurrency):
    """Past bug: with several samples per item, or more requests at a time than items, it was 0 % and a green run."""
    with serving(lambda *_: (422, {"error": {"message": "extra field seed"}})) as server:
        run = session(server, bench, concurrency=concurrency)
        with pytest.raises((EndpointError, NeedsWeightsError), match="extra field seed"):
            run.judgements(BASE, "seen_tools", scaffold)


def test_two_items_with_one_question_keep_their_names(bench, examples):
    """Past bug: a reply that was cached for another item had that item's gold."""
    first, *_ = bench.items.test_ids("seen_tools")
    with serving(answering(examples)) as server:
        run = session(server, bench)
        run.items.__dict__["examples"] = {
            **bench.items.examples,
            "twin": replace(bench.items.examples[first], id="twin"),
        }
        completions = run.live.complete(BASE, [first, "twin"], Draw())
    assert {i: completion.id for i, (completion,) in completions.items()} == {first: first, "twin": "twin"}


def test_what_was_answered_when_a_run_is_interrupted_is_not_asked_again(bench, examples, monkeypatch):
    """Past bug: the run went on for six time-outs per request in flight, and dropped replies that came meanwhile."""
    with serving(answering(examples)) as server:
        run = session(server, bench, concurrency=2)

        def interrupted(futures, task):
            wait(futures, return_when=FIRST_COMPLETED)
            raise KeyboardInterrupt
            yield

        monkeypatch.setattr(run.endpoint, "_finished", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.judgements(BASE, "seen_tools")
        answered = len(server.requests)
        assert 1 <= answered < 12
        server.requests.clear()
        resumed = session(server, bench, resume=True).judgements(BASE, "seen_tools")
        assert all(judgement.primary.correct for judgement in resumed.values())
        assert len(server.requests) < 12


def test_an_interrupted_run_does_not_try_again(bench, examples, monkeypatch):
    """A server that fails: each request in flight ends with its first answer."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.05)

    def interrupted(futures, task):
        while len(server.requests) < 2:
            time.sleep(0.01)
        raise KeyboardInterrupt
        yield

    with serving(lambda *_: (500, {"error": "boom"})) as server:
        run = session(server, bench, concurrency=2)
        monkeypatch.setattr(run.endpoint, "_finished", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.judgements(BASE, "seen_tools")
        assert len(server.requests) <= 6  # of 12 items, each with five retries


def test_a_server_that_hangs_after_its_first_refusals_is_not_waited_for(bench, monkeypatch):
    """Past bug: the requests in flight were tried again, each for its time-out and five times."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.05)
    hang = threading.Event()

    def script(request, handler):
        if len(server.requests) > 8:
            hang.wait(1)
            return 500, {"error": "slow"}
        return 500, {"error": {"message": "boom"}}, [("x-should-retry", "false")]

    with serving(script) as server:
        run = session(server, bench, concurrency=8)
        with pytest.raises(EndpointError, match="the first 8 requests failed"):
            run.judgements(BASE, "seen_tools")
        assert len(server.requests) <= 12  # each at most once
        hang.set()


def test_refused_answers_keep_the_connection_for_other_arms(bench, examples):
    """A run that ended on one kind of request still takes another."""

    def script(request, handler):
        if "response_format" in request:
            return 400, {"error": {"message": "response_format is not supported"}}
        return answering(examples)(request, handler)

    with serving(script) as server:
        run = session(server, bench)
        with pytest.raises(NeedsWeightsError):
            run.judgements(BASE, "seen_tools", "constrained")
        assert all(judgement.primary.correct for judgement in run.judgements(BASE, "seen_tools").values())


def test_many_answers_that_are_cut_off_are_mentioned(bench, examples):
    """Past bug: a thinking model had 0 of 55 without a word about its limit."""
    notes = []
    with serving(lambda *_: (200, chat_completion("Let me think", finish="length"))) as server:
        run = session(server, bench, max_tokens=7)
        run.endpoint.progress = lambda label: nullcontext(SimpleNamespace(update=lambda *_: None, note=notes.append))
        run.judgements(BASE, "seen_tools")
    assert {request["max_tokens"] for request in server.requests} == {7}
    assert notes == ["12 of 12 answers were cut off at 7 tokens, thoughts included: see --max-tokens"]


def test_answers_with_another_limit_are_not_mixed(bench, examples):
    with serving(answering(examples)) as server:
        session(server, bench, record=True).judgements(BASE, "seen_tools")
        with pytest.raises(ledger.RecordingError, match="of another --max-tokens: unknown, now 500"):
            session(server, bench, record=True, max_tokens=500).judgements(BASE, "unseen_tools")


def test_a_server_that_takes_no_dots_gets_none_in_earlier_calls_either(bench, examples):
    """Past bug: tools were renamed, earlier calls and few-shot examples were not, and the server refused these."""
    dotted = {example.id for example in examples if any("." in tool["name"] for tool in example.tools)}
    ids = [i for i in bench.items.test_ids("seen_tools") if i in dotted][:3]
    seen = []

    def script(request, handler):
        tools = [tool["function"]["name"] for tool in request["tools"]]
        calls = [call["function"]["name"] for m in request["messages"] for call in m.get("tool_calls", ())]
        if any("." in name for name in (*tools, *calls)):
            return 400, {"error": {"message": "invalid name"}}
        seen.append(set(calls) <= set(tools))
        return answering(examples)(request, handler)

    with serving(script) as server:
        run = session(server, bench, concurrency=3)
        completions = run.live.complete(BASE, ids, SCAFFOLDS["few_shot"].draw)
    assert all(completion.finish == "stop" for (completion,) in completions.values())
    assert ids
    assert seen
    assert all(seen)


def test_what_needs_weights_is_refused_with_a_reason(bench, examples):
    with serving(answering(examples)) as server:
        run = session(server, bench)
        with pytest.raises(NeedsWeightsError, match="sft-all_patterns-s0 has to be trained"):
            run.judgements(Arm("sft", "all_patterns"), "seen_tools")
        with pytest.raises(NeedsWeightsError, match="need the weights"):
            run.gold_logprobs(BASE, "seen_tools")


def test_samples_have_seeds_of_their_own_and_shots_are_earlier_turns(bench, examples):
    with serving(answering(examples)) as server:
        run = session(server, bench)
        completions = run.completions(BASE, "seen_tools", SCAFFOLDS["best_of_8"].draw)
        assert {request["seed"] for request in server.requests} == set(range(8))
        assert {request["temperature"] for request in server.requests} == {0.8}
        assert {len(samples) for samples in completions.values()} == {8}
        server.requests.clear()
        shot = run.judgements(BASE, "seen_tools", "few_shot")
        assert all(judgement.primary.correct for judgement in shot.values())
    roles = [message["role"] for message in server.requests[0]["messages"]]
    assert roles.count("assistant") == SCAFFOLDS["few_shot"].draw.shots
    offered = {tool["function"]["name"] for tool in server.requests[0]["tools"]}
    made = {call["function"]["name"] for m in server.requests[0]["messages"] for call in m.get("tool_calls", ())}
    assert made <= offered


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, chat_completion("It is warm.")), "ignores response_format"),
        ((400, {"error": {"message": "response_format is not supported"}}), "does not take constrained requests"),
    ],
)
def test_a_server_without_json_schemas_has_no_constrained_arm(bench, answer, reason):
    with serving(lambda *_: answer) as server:
        run = session(server, bench, concurrency=1)
        for _ in range(2):  # refused once, remembered afterwards
            with pytest.raises(NeedsWeightsError, match=reason):
                run.judgements(BASE, "seen_tools", "constrained")
        assert len(server.requests) <= 12


def test_a_constrained_request_has_the_schema_and_no_tools(bench, examples):
    text = '[{"name":"%s","arguments":{}}]'

    def script(request, handler):
        schema = request["response_format"]["json_schema"]["schema"]
        name = schema["items"]["anyOf"][0]["properties"]["name"]["const"]
        assert "tools" not in request
        return 200, chat_completion(text % name)

    with serving(script) as server:
        judgements = session(server, bench).judgements(BASE, "seen_tools", "constrained")
    assert len(judgements) == 12


def test_recorded_replies_are_replayed_and_read_again(bench, examples, monkeypatch):
    ids = bench.items.test_ids("seen_tools")[:12]
    with serving(answering(examples, wrong=ids[:3])) as server:
        live = session(server, bench, record=True)
        expected = live.judgements(BASE, "seen_tools")
    replay = Bench(replace(live.options, endpoint=None, record=False, replay=True))
    replay.items.__dict__["examples"] = bench.items.examples
    assert replay.judgements(BASE, "seen_tools") == expected
    assert replay.default_format == "native"
    assert rescoring.replayed(replay, Recording(BASE))[1] == ""
    rows = [json.loads(line) for line in (replay.recorded.folder / "base.jsonl").read_text().splitlines()]
    assert {"model": "served", "fingerprint": "fp"}.items() <= json.loads(rows[0]["response"]).items()
    monkeypatch.setattr("fixtures.generation.endpoint.text_of", lambda reply: "[]")
    assert "replies are read differently" in rescoring.replayed(replay, Recording(BASE))[1]


def test_answers_of_two_served_models_are_not_mixed(bench, examples):
    """Past bug: only the requested name counted, under which another model may be served."""

    def another(request, handler):
        status, body, *rest = answering(examples)(request, handler)
        return status, body | {"model": "another"}, *rest

    with serving(answering(examples)) as server:
        session(server, bench, record=True).judgements(BASE, "seen_tools")
    with serving(another) as server:
        with pytest.raises(ledger.RecordingError, match="12 more items of another served model: served, now another"):
            session(server, bench, record=True).judgements(BASE, "unseen_tools")
        session(server, bench, record=True).judgements(BASE, "seen_tools")  # all of them are replaced


def test_a_recording_that_lacked_an_answer_is_resumed(bench, examples):
    """Past bug: the splits that were complete had no served model then, so that recording the next one was refused."""
    failing = [bench.items.test_ids("unseen_tools")[0]]
    with serving(lambda request, handler: answering(examples, failing)(request, handler)) as server:
        live = session(server, bench, record=True)
        live.judgements(BASE, "seen_tools")
        with pytest.raises(ledger.RecordingError, match="--resume"):
            live.judgements(BASE, "unseen_tools")
        failing.clear()
        again = session(server, bench, record=True, resume=True)
        assert len(again.judgements(BASE, "seen_tools")) == len(again.judgements(BASE, "unseen_tools")) == 12
    assert read_manifest(live.recorded.folder)["base"]["training"]["served"] == "served"


def test_answers_of_two_models_in_one_resumed_run_are_refused(bench, examples):
    """Past bug: the newest reply's model stood for all."""
    failing = [bench.items.test_ids("seen_tools")[0]]
    model = ["served"]

    def script(request, handler):
        status, body, *rest = answering(examples, failing)(request, handler)
        return status, body | ({"model": model[0]} if status == 200 else {}), *rest

    with serving(script) as server:
        with pytest.raises(ledger.RecordingError, match="--resume"):
            session(server, bench, record=True).judgements(BASE, "seen_tools")
        failing.clear()
        model[0] = "another"
        with pytest.raises(ledger.RecordingError, match="several models answered as org/served: another, served"):
            session(server, bench, record=True, resume=True).judgements(BASE, "seen_tools")


def test_a_resumed_run_that_is_refused_everywhere_is_one_error(bench, examples):
    working = [bench.items.test_ids("seen_tools")[0]]

    def script(request, handler):
        answer = answering([example for example in examples if example.id in working])(request, handler)
        return answer if answer[0] == 200 else (422, {"error": {"message": "no more"}})

    with serving(script) as server:
        with suppress(EndpointError):
            session(server, bench, concurrency=1).judgements(BASE, "seen_tools")
        working.clear()
        with pytest.raises(EndpointError, match="no more"):
            session(server, bench, concurrency=64, resume=True).judgements(BASE, "seen_tools")


def test_answers_that_are_missing_are_not_recorded(bench, examples):
    ids = bench.items.test_ids("seen_tools")
    with serving(answering(examples, failing=ids[:1])) as server:
        live = session(server, bench, record=True)
        with pytest.raises(ledger.RecordingError, match=r"1 items have no answer .*--resume"):
            live.judgements(BASE, "seen_tools")
    assert not (live.recorded.folder / "base.jsonl").exists()


def test_calls_in_the_text_are_scored_and_reported(bench, examples):
    def script(request, handler):
        status, body, *_ = answering(examples)(request, handler)
        calls = body["choices"][0]["message"].pop("tool_calls")
        made = [{"name": c["function"]["name"], "arguments": json.loads(c["function"]["arguments"])} for c in calls]
        body["choices"][0]["message"]["content"] = f"```json\n{json.dumps(made)}\n```"
        return status, body

    with serving(script) as server:
        run = session(server, bench)
        judgements = run.judgements(BASE, "seen_tools")
        assert all(judgement.primary.correct for judgement in judgements.values())
        assert set(run.dropped(BASE, "seen_tools", "plain")) == set(judgements)
    assert run.completions(BASE, "seen_tools", Draw())


def test_a_server_that_is_too_slow_is_reported_while_it_is_waited_for(bench, examples, monkeypatch):
    """Found by a new user: eight requests at a time to a server on a CPU all timed out and were retried, silently."""
    notes, answer, answered = [], answering(examples), threading.Event()

    class Task:
        def update(self, *_):
            pass

        def note(self, text):
            notes.append(text)
            answered.set()

    def script(request, handler):
        answered.wait(20)
        return answer(request, handler)

    with serving(script) as server:
        run = session(server, bench, timeout_s=0.5, concurrency=2, items=2)
        run.endpoint.progress = lambda _: nullcontext(Task())
        run.judgements(BASE, "seen_tools")
    assert len(notes) == 1
    assert "no reply within 0 s to 2 requests at a time" in notes[0]
    assert "--concurrency" in notes[0]


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"data": 7}', b"[]"])
def test_a_list_of_models_that_is_none_does_not_end_the_run(body):
    """Found by a new user: mlx_lm.server sends nothing at all where there is no hub's cache."""
    with serving(lambda *_: None) as server:
        server.RequestHandlerClass = type("Odd", (Handler,), {"do_GET": lambda self: self.send(200, body)})
        assert Endpoint(server.url, "served", 5).served() == []
