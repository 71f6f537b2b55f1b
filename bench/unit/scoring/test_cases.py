"""Inputs from public bug reports of this field, each with the value that an executor of the calls would see."""

import json

import pytest

from fixtures.data.bfcl import Answer, Call, Example
from fixtures.scoring.parse import ParseError, parse_calls
from fixtures.scoring.scorer import prepare_scorer, schema_mismatch
from fixtures.storage.files import ROOT

TOOL = {"name": "get_temp", "parameters": {"properties": {"city": {"type": "string"}}, "required": ["city"]}}
CASES = [json.loads(line) for line in (ROOT / "bench" / "support" / "cases.jsonl").read_text().splitlines()]


def cases(kind):
    chosen = [case for case in CASES if case["kind"] == kind]
    return pytest.mark.parametrize("case", chosen, ids=[case["id"] for case in chosen])


@cases("parse")
def test_a_reported_text_is_parsed(case):
    result = parse_calls(case["text"], case["tools"], case["finish"])
    if isinstance(result, ParseError):
        outcome = result.reason
    else:
        outcome = [[call.name, call.arguments] for call in result] or "abstained"
    if case["expected"] == "not abstained":
        assert outcome != "abstained"
    else:
        assert outcome == case["expected"]


@cases("schema")
def test_a_reported_schema_is_checked(case):
    example = Example("case_0", "simple", (), tuple(case["tools"]), ())
    calls = [Call(case["tools"][0]["name"], case["arguments"])]
    assert (schema_mismatch(calls, example) is None) == case["fits"]


@cases("score")
def test_a_reported_answer_is_scored(case):
    (tool,) = case["tools"]
    example = Example("case_0", case["category"], (), (tool,), (Answer(tool["name"], case["gold"]),))
    judgement = prepare_scorer(example).judge([Call(tool["name"], case["arguments"])])
    assert getattr(judgement, case["scorer"]).reason == case["expected"]


@pytest.mark.parametrize("category", ["irrelevance", "live_relevance", "simple"])
def test_no_answer_from_a_server_is_wrong_for_every_scorer(category):
    """Past bug: `bfcl` credited it as an abstention."""
    answers = (Answer("get_temp", {"city": ["Oslo"]}),) if category == "simple" else ()
    example = Example("case_0", category, (), (TOOL,), answers)
    reasons = prepare_scorer(example).judge(parse_calls("", [TOOL], "error")).reasons
    assert set(reasons.values()) == {"server_error"}


WORDS = "I have no tool for that."


@pytest.mark.parametrize(
    "wrapper",
    [
        "<think>{}</think>\n" + WORDS, "{}</think>" + WORDS, "<think>a</think>\n<think>{}</think>" + WORDS,
        WORDS + "\n<think>{}", "<think>a {}</think>" + WORDS + "<think>b</think>",
    ],
)  # fmt: skip
@pytest.mark.parametrize("thought", ['get_temp(city="Oslo")', '[{"name":"get_temp","arguments":{"city":"Oslo"}}]'])
def test_thoughts_are_not_searched(wrapper, thought):
    assert parse_calls(wrapper.format(thought), [TOOL]) == []


@pytest.mark.parametrize("text", ["", "Some words", "<think>a", "get_temp", "```\ncode", "[]x"])
def test_what_was_cut_off_is_no_abstention(text):
    result = parse_calls(text, [TOOL], "length")
    assert isinstance(result, ParseError)


FAILED = [
    "{name}: city=Oslo", '{name} {{"city": "Oslo"}}', '<call tool={name}>{{"city":"Oslo"}}</call>',
    '{{"action": "{name}", "input": {{"city": "Oslo"}}}}', "<{name}><parameter=city>Oslo</parameter></{name}>",
    "I use {name}(Oslo)", '{name}("Oslo")', "[{name} city=Oslo)]", "@{name}[ARGS]Oslo", '`{name}`: {{"city"',
    "{{'tool': '{name}', 'args': {{'city': 'Oslo'}}}}", "{name}\n{{city: Oslo}}", "x = {name}(city=oslo)",
]  # fmt: skip


@pytest.mark.parametrize("form", FAILED)
def test_a_call_in_an_unknown_form_is_a_failed_call_only_if_it_names_an_offered_tool(form):
    failed = parse_calls("Sure. " + form.format(name="get_temp"), [TOOL])
    assert failed != []
    other = parse_calls("Sure. " + form.format(name="frobnicate"), [TOOL])
    assert other == [] or "'tool'" in form  # a call in JSON is one, whatever it names


@pytest.mark.parametrize(
    "text",
    [
        "get_temp needs a city.", "The tool get_temp (the only one) does not fit.", "I cannot use `get_temp` here.",
        "get_temp() does not take a date.", 'A record: {"name": "Ann", "age": 3}', "Not my_get_temp(city=1)",
        "x.get_temp(1)",
        "__import__('os').system('true')", 'Sure: [{"nam',
        "```python\nprint(area(r=3))\n```", '```json\n{"capital": "Paris"}\n```', "f(x) = 2x, so f(3) = 6",
        "[]", "```json\n[]\n```", "```\n[ ]\n```\n", "No tool fits.\n```json\n[]\n```",
    ],
)  # fmt: skip
def test_words_code_and_records_that_call_no_offered_tool_are_an_abstention(text):
    assert parse_calls(text, [TOOL]) == []


CALL = '{"name":"get_temp","arguments":{"city":"Oslo"}}'


@pytest.mark.parametrize(
    "text",
    [
        f"{CALL}</tool_call>", f"<tool_call>{CALL}", f"<tool_call><tool_call>{CALL}</tool_call></tool_call>",
        f"</tool_call>{CALL}", f"Sure:\n<tool_call>{CALL}</tool_call>\nDone.", f"[TOOL_CALLS][{CALL}]",
        '[TOOL_CALLS]get_temp[CALL_ID]a1[ARGS]{"city":"Oslo"}', f"<|python_tag|>{CALL}",
        '<function=get_temp>{"city":"Oslo"}</function>', "<|tool_call_start|>get_temp(city='Oslo')<|tool_call_end|>",
        "<tool_call>\n<function=get_temp>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>",
        "<tool_call>get_temp<arg_key>city</arg_key><arg_value>Oslo</arg_value></tool_call>",
        f"<tool_call>{CALL}</tool_call><tool_response>get_temp(city='Bern')</tool_response>",
        f"```json\n{CALL}\n```", "I call it: get_temp(city='Oslo').", "get_temp(city='Oslo', )",
        '{"name":"get_temp","arguments":{"city":"Oslo","city":"Oslo"}}',
    ],
)  # fmt: skip
def test_a_whole_call_in_broken_surroundings_is_read(text):
    assert parse_calls(text, [TOOL]) == [Call("get_temp", {"city": "Oslo"})]


def test_a_tag_inside_a_string_is_text():
    text = '[{"name":"get_temp","arguments":{"city":"<tool_call>"}}]'
    assert parse_calls(text, [TOOL]) == [Call("get_temp", {"city": "<tool_call>"})]


@pytest.mark.parametrize("tags", ["<parameter=city>{}</parameter>", "<arg_key>city</arg_key><arg_value>{}</arg_value>"])
def test_the_same_tagged_argument_twice_is_read_only_with_one_value(tags):
    """Past bug: of two values the last one was taken, where the same in JSON is a parse error."""
    form = "<function=get_temp>{}</function>" if "parameter" in tags else "<tool_call>get_temp{}</tool_call>"
    same, other = (form.format("".join(map(tags.format, ("Oslo", second)))) for second in ("Oslo", "Rome"))
    assert parse_calls(same, [TOOL]) == [Call("get_temp", {"city": "Oslo"})]
    assert isinstance(parse_calls(other, [TOOL]), ParseError)


@pytest.mark.parametrize(
    ("value", "read"), [("3", 3), ("[1, 2]", [1, 2]), ("true", True), ("Oslo", "Oslo"), ("NaN", "NaN")]
)
def test_tagged_values_have_the_type_of_their_schema(value, read):
    tool = {
        "name": "f",
        "parameters": {"properties": {"n": {"type": "integer"}, "s": {"type": "string"}}, "required": []},
    }
    parameters = f"<parameter=n>{value}</parameter><parameter=s>{value}</parameter>"
    text = f"<tool_call><function=f>{parameters}</function></tool_call>"
    assert parse_calls(text, [tool]) == [Call("f", {"n": read, "s": value})]
