"""Replies of servers that behave, and of those that do not; what is recorded of them, and how it is read."""

import json
import socket
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.support.servers import chat_completion, serving
from fixtures.formats import FORMATS
from fixtures.generation import endpoint
from fixtures.generation.endpoint import Endpoint, EndpointError, Request, UnsupportedError
from fixtures.scoring.parse import ParseError, parse_calls

TOOLS = FORMATS["native"].tools
GOLD = ("area.of", '{"width": 2.5}')


@pytest.fixture
def request_(example):
    return Request(FORMATS["native"].messages(example), TOOLS(example))


@pytest.fixture(autouse=True)
def fast_retries(monkeypatch):
    import openai._base_client as client

    monkeypatch.setattr(client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(client, "MAX_RETRY_DELAY", 0.02)


def reset(handler):
    """A connection reset instead of an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def half_a_body(handler):
    body = json.dumps(chat_completion("[]")).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    handler.connection.close()
    handler.close_connection = True


MISBEHAVIOURS = {
    "reset": lambda handler: reset(handler),
    "rate limit": lambda handler: handler.send(429, {"error": {"message": "slow down"}}, [("Retry-After", "0")]),
    "server error": lambda handler: handler.send(500, {"error": {"message": "boom"}}),
    "half a body": half_a_body,
    "garbage": lambda handler: handler.send(200, b"<html>\x1b[31m busy"),
    "no choices": lambda handler: handler.send(200, {"object": "error"}),
    "a list": lambda handler: handler.send(200, b"[1]"),
    "a hang": lambda handler: time.sleep(1.5),
}


@pytest.mark.parametrize("kind", MISBEHAVIOURS)
def test_a_server_that_misbehaves_once_is_asked_again(kind, request_):
    def script(request, handler):
        if len(server.requests) == 1:
            MISBEHAVIOURS[kind](handler)
            return None
        return 200, chat_completion(calls=[GOLD])

    with serving(script) as server:
        reply = Endpoint(server.url, "served", timeout_s=1).reply(request_)
    assert len(server.requests) == 2
    assert reply["tool_calls"] == [{"name": "area.of", "arguments": '{"width": 2.5}'}]
    assert (reply["model"], reply["fingerprint"], reply["tokens"]) == ("served", "fp", [11, 3])


@pytest.mark.parametrize("kind", sorted(MISBEHAVIOURS.keys() - {"a hang"}))
def test_a_server_that_always_misbehaves_is_an_error_and_no_answer(kind, request_, monkeypatch):
    monkeypatch.setattr(endpoint, "RETRIES", 2)
    with serving(lambda request, handler: MISBEHAVIOURS[kind](handler)) as server:
        with pytest.raises(EndpointError) as error:
            Endpoint(server.url, "served", timeout_s=1).reply(request_)
        assert len(server.requests) == 3
    assert str(error.value).isprintable()


def test_the_key_is_sent_and_never_shown(request_, monkeypatch):
    monkeypatch.setenv(endpoint.KEY, "sk-secret")
    sent = []

    def script(request, handler):
        sent.append(handler.headers["Authorization"])
        return 401, {"error": {"message": "Incorrect API key provided: sk-secret"}}

    with serving(script) as server, pytest.raises(EndpointError) as error:
        Endpoint(server.url, "served", timeout_s=1).reply(request_)
    assert sent == ["Bearer sk-secret"]
    assert "sk-secret" not in str(error.value)
    assert "***" in str(error.value)


REFUSALS = {
    "the limit of o1 and gpt-5": ("max_tokens", {"message": "Unsupported parameter: 'max_tokens' is not supported with "
        "this model. Use 'max_completion_tokens' instead.", "param": "max_tokens"}, {"limit"}),
    "their temperature": ("temperature", {"message": "Unsupported value: 'temperature' does not support 0.0 with this "
        "model. Only the default (1) value is supported.", "param": "temperature"}, {"temperature"}),
    "a proxy's words": ("temperature", {"message": "O-series models don't support temperature=0. Only temperature=1"},
        {"temperature"}),
}  # fmt: skip


@pytest.mark.parametrize(("field", "error", "adapted"), REFUSALS.values(), ids=REFUSALS)
def test_what_newer_models_refuse_is_sent_in_their_way(field, error, adapted):
    """Past bug: they ended with `Is the server up, and the model loaded?`."""

    def script(request, handler):
        return (400, {"error": error}) if field in request else (200, chat_completion("hello"))

    with serving(script) as server:
        client = endpoint.Endpoint(server.url, "served", 10)
        for _ in range(2):
            assert client.reply(Request(({"role": "user", "content": "x"},)))["content"] == "hello"
    assert client.adapted == adapted
    assert [field in request for request in server.requests] == [True, False, False]
    assert server.requests[-1].get("max_completion_tokens") == (300 if "limit" in adapted else None)


def test_a_tool_that_is_called_temperature_does_not_take_the_temperature_away():
    tool = {"type": "function", "function": {"name": "weather.temperature", "parameters": {"type": "object"}}}

    def script(request, handler):
        if "." in request["tools"][0]["function"]["name"]:
            return 400, {"error": {"message": "Invalid 'tools[0].function.name': 'weather.temperature'"}}
        return 200, chat_completion("hello")

    with serving(script) as server:
        client = endpoint.Endpoint(server.url, "served", 10)
        client.reply(Request(({"role": "user", "content": "x"},), [tool]))
    assert client.adapted == {"names"}


def test_a_second_attempt_that_takes_too_long_is_no_refusal(monkeypatch):
    """Past bug: after a 400 for names with dots, any error of the next attempt was `unsupported`, and skipped tests."""
    tool = {"type": "function", "function": {"name": "a.b", "parameters": {"type": "object"}}}

    def script(request, handler):
        if "." in request["tools"][0]["function"]["name"]:
            return 400, {"error": {"message": "invalid name"}}
        return 500, {"error": {"message": "boom"}}, [("x-should-retry", "false")]

    with serving(script) as server, pytest.raises(endpoint.EndpointError) as raised:
        endpoint.Endpoint(server.url, "served", 10).reply(Request(({"role": "user", "content": "x"},), [tool]))
    assert not isinstance(raised.value, UnsupportedError)


def test_names_that_a_server_refuses_are_replaced_and_restored(request_):
    """OpenAI takes no dots; `math.sum` and `math_sum` stay two tools."""

    def script(request, handler):
        (tool,) = request["tools"]
        name = tool["function"]["name"]
        if "." in name:
            return 400, {"error": {"message": f"invalid name {name}"}}
        return 200, chat_completion(calls=[(name, "{}")])

    with serving(script) as server:
        client = Endpoint(server.url, "served", timeout_s=1)
        for _ in range(2):
            assert client.reply(request_)["tool_calls"][0]["name"] == "area.of"
    assert len(server.requests) == 3  # the second question is sent with safe names at once
    tools = [{"type": "function", "function": {"name": name}} for name in ("math.sum", "math_sum", "math-sum")]
    renamed, own = endpoint.with_safe_names(tools)
    assert len({tool["function"]["name"] for tool in renamed}) == 3
    assert [own[tool["function"]["name"]] for tool in renamed] == ["math.sum", "math_sum", "math-sum"]


def test_a_request_that_no_name_can_save_is_unsupported(request_):
    refusal = 400, {"error": {"message": "no tools here"}}
    with serving(lambda *_: refusal) as server, pytest.raises(UnsupportedError, match="no tools here"):
        Endpoint(server.url, "served", timeout_s=1).reply(request_)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (chat_completion("Paris."), "Paris."),
        (chat_completion(None), ""),
        (chat_completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab"),
        (chat_completion(calls=[GOLD]), '[{"name":"area.of","arguments":{"width": 2.5}}]'),
        (chat_completion("thinking", calls=[GOLD]), '[{"name":"area.of","arguments":{"width": 2.5}}]'),
        (chat_completion(calls=[("area.of", {"width": 2.5})]), '[{"name":"area.of","arguments":{"width": 2.5}}]'),
        (chat_completion(calls=[("area.of", None)]), '[{"name":"area.of","arguments":{}}]'),
        (chat_completion(calls=[("area.of", "")]), '[{"name":"area.of","arguments":{}}]'),
        (chat_completion(function_call={"name": "f", "arguments": "{}"}), '[{"name":"f","arguments":{}}]'),
        (chat_completion(tool_calls=None), ""),
        (chat_completion(calls=[('q"\n', "{}")]), '[{"name":"q\\"\\n","arguments":{}}]'),
    ],
)
def test_the_text_of_a_reply(body, text):
    assert endpoint.text_of(endpoint.recorded(body, 0.1, {})) == text


@pytest.mark.parametrize("broken", ['{"width": 2.5', "width=2.5", '{"width": 2.5}}', '}]; [{"name": "area.of"'])
def test_broken_arguments_make_a_broken_answer(broken, example):
    """They must not be repaired or lost on the way from the server to the scorer."""
    text = endpoint.text_of(endpoint.recorded(chat_completion(calls=[("area.of", broken)]), 0, {}))
    calls = parse_calls(text, example.tools)
    assert isinstance(calls, ParseError) or [dict(call.arguments) for call in calls] != [{"width": 2.5}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda v: st.lists(v, max_size=2) | st.dictionaries(st.text(max_size=5), v, max_size=2), max_leaves=6,
)  # fmt: skip


@given(json_values, json_values, st.lists(st.fixed_dictionaries({}, optional={
    "function": json_values | st.fixed_dictionaries({}, optional={"name": json_values, "arguments": json_values}),
}), max_size=2) | json_values)  # fmt: skip
def test_any_message_is_a_reply_or_unreadable(content, legacy, calls):
    """Never another exception: what a server sends is data."""
    body = chat_completion(content, function_call=legacy, tool_calls=calls)
    try:
        reply = endpoint.recorded(body, 0, {})
    except (ValueError, LookupError, TypeError, AttributeError):
        return
    assert isinstance(endpoint.text_of(json.loads(json.dumps(reply))), str)
    assert isinstance(endpoint.dropped_calls(reply, []), list)


def test_calls_that_the_servers_parser_missed_are_seen(example):
    tools = example.tools
    written = '<tool_call>\n{"name": "area.of", "arguments": {"width": 2.5}}\n</tool_call>'
    missed = endpoint.recorded(chat_completion(written), 0, {})
    assert [call.name for call in endpoint.dropped_calls(missed, tools)] == ["area.of"]
    assert parse_calls(endpoint.text_of(missed), tools)  # scored all the same: the model did write it
    both = endpoint.recorded(chat_completion(written, calls=[GOLD]), 0, {})
    assert endpoint.dropped_calls(both, tools) == []
    assert endpoint.dropped_calls(endpoint.recorded(chat_completion("No tool fits."), 0, {}), tools) == []


@pytest.mark.parametrize("before", range(230, 310, 7))
def test_no_part_of_the_key_is_shown_wherever_the_message_is_cut(before, monkeypatch):
    """Past bug: the message was cut first, so that the rest of a cut key stayed."""
    key = "sk-secret-0123456789abcdefghij"
    monkeypatch.setenv("OPENAI_API_KEY", f"{key}\n")
    shown = Endpoint("http://127.0.0.1:9/v1", "served", 1)._shown(RuntimeError("x" * before + key))
    assert "sk-" not in shown
