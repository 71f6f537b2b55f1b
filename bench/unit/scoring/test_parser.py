"""The parser reads every usual form of a call and never raises on anything else."""

import json
from keyword import iskeyword

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.support.strategies import HOSTILE
from fixtures.data.bfcl import Call
from fixtures.formats import render_calls
from fixtures.generation.scaffolds import repair
from fixtures.scoring.parse import MAX_CHARACTERS, ParseError, parse_calls
from fixtures.scoring.python_calls import MAX_CHARACTERS as PYTHON_LIMIT

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=4), v, max_size=3),
    max_leaves=8,
)
calls = st.lists(st.builds(Call, st.text(max_size=8), st.dictionaries(st.text(max_size=5), json_values)), max_size=4)


@given(calls)
def test_parsing_inverts_rendering(made):
    assert parse_calls(render_calls(made)) == made


PIECES = st.sampled_from([
    "[", "]", "{", "}", '"name"', '"arguments"', ":", ",", "f(", "x=", ")", "1", '"a"', "<tool_call>", "</tool_call>",
    "```json\n", "\n```", "words", " ", "\n", "\\", "\ud800", "\0", "1e999", "NaN", "é",
])  # fmt: skip


@given(st.text() | st.lists(PIECES, max_size=40).map("".join))
def test_parser_never_raises_on_model_text(text):
    assert isinstance(parse_calls(text), list | ParseError)


@given(calls, st.sampled_from(["{}", "```json\n{}\n```", "<tool_call>{}</tool_call>", "Here: {} Done."]))
def test_repair_never_changes_a_valid_answer(made, wrapper):
    text = wrapper.format(render_calls(made))
    if not isinstance(parse_calls(text), ParseError):
        assert repair(text) == text


@given(st.text() | st.lists(PIECES, max_size=40).map("".join))
def test_repair_never_raises_and_never_makes_a_readable_answer_unreadable(text):
    before, after = parse_calls(text), parse_calls(repair(text))
    assert isinstance(after, list) or before == after


@pytest.mark.parametrize(
    "text", ["[", "[{", "[{]", "[,", "```json\n[", "[" * 2000, '{"a":' * 1000, "[{" * 300, "Words."]
)
def test_repair_does_not_turn_a_broken_answer_into_an_abstention(text):
    assert repair(text) == text


def test_repair_adds_a_missing_brace():
    assert parse_calls(repair('[{"name": "f", "arguments": {"x": 1}')) == [Call("f", {"x": 1})]


@given(st.text(alphabet='[]{}":,0123456789eE+-.\\untrfalse <>/_cl`', max_size=200))
def test_parser_never_raises_on_near_json(text):
    assert isinstance(parse_calls(text), list | ParseError)


def as_python(call):
    return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"


identifiers = st.from_regex(r"[a-z]{1,6}(_[a-z]{1,4})?", fullmatch=True).filter(lambda name: not iskeyword(name))
python_calls = st.lists(st.builds(Call, identifiers, st.dictionaries(identifiers, json_values)), min_size=1, max_size=4)


@given(python_calls, st.sampled_from(["{}", "[{}]", "```python\n{}\n```"]))
@example([Call("a.b", {"x": [{"k": None}, -1.5]})], "[{}]")
@example([Call("a", {}), Call("a", {"a": ")"})], "{}")
def test_parsing_inverts_python_syntax(made, wrapper):
    assert parse_calls(wrapper.format(", ".join(map(as_python, made)))) == made


TOOLS = [{"name": name, "parameters": {"properties": {"x": {}}, "required": ["x"]}} for name in ("f", "get_weather")]
ONE = '{"name": "f", "arguments": {"x": 1}}'


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (f"[{ONE}]", 1),
        (f"  [{ONE}, {ONE}]\n", 2),
        (ONE, 1),
        (f"```json\n[{ONE}]\n```", 1),
        (f"```\n{ONE}\n```", 1),
        (f"<tool_call>\n{ONE}\n</tool_call>\n<tool_call>{ONE}</tool_call>", 2),
        (f"<tool_call>{ONE}", 1),
        ("[]", 0),
        (f"{ONE}\n{ONE}", 2),
        (f"{ONE}; {ONE},", 2),
        (f"Here you are: {ONE} I hope this helps.", 1),
        (f"First {ONE}, and then {ONE}.", 2),
        (f"I call f(x=1):\n[{ONE}]", 1),
        (f"```json\n{ONE}\n```\nand\n```json\n{ONE}\n```", 2),
        (f"```\n{ONE}", 1),
        ('{"type": "function", "function": {"name": "f", "arguments": "{\\"x\\": 1}"}}', 1),
        ('{"name": "f", "parameters": {"x": 1}}', 1),
        ("f(x=1)", 1),
        ("f(x=1), f(x=1)", 2),
        ("f(x=1)\nf(x=+1)", 2),
        ("[f(x=1), f(x=1)]", 2),
        ("<tool_call>f(x=1)</tool_call>", 1),
        ("The answer is 4.", 0),
        ("I would need the city's name (and the date).", 0),
        ("Try {curly} or [1, 2] instead.", 0),
        ("[Note] None of these tools apply.", 0),
        ("[No function call is needed]", 0),
        ("No tool fits: the condition y(x=0) = 1 is not given.", 0),
        ("Unit(s) are missing (please specify)", 0),
        ("No tool fits. In Python:\n```python\ndef area(r=3):\n    return 3 * r\n```", 0),
        (f"[{ONE}]\nThis calls f(x=1).", 1),
        (f"[{ONE}] Note(s): see above (ok)", 1),
        (f"Here: {ONE}\n[end of message]", 1),
        ("Here: " + ", then ".join([ONE] * 40), 40),
        ("```python3\r\nf(x=1)\r\n```", 1),
    ],
)
def test_usual_forms_are_read(text, count):
    assert parse_calls(text, TOOLS) == [Call("f", {"x": 1})] * count


@pytest.mark.parametrize(
    "text",
    [
        "", "  \n", f"[{ONE}", "[1]", '{"name": 1, "arguments": {}}', '{"name": "f"}', "{}",
        '{"name": "f", "arguments": [1]}', '{"name": "f", "arguments": {"x": NaN}}',
        '{"name": "f", "arguments": {"x": 1e999}}', '{"name": "f", "arguments": {"x": "\0"}}',
        "```python\n# f(x=1)\n```",
        '{"name": "f", "arguments": {"x": 1, "x": 2}}', '{"name": "f", "name": "g", "arguments": {}}',
        '{"name": "f", "arguments": "{\\"x\\": "}', f'{{"name": "f", "arguments": {{"x": {"1" * 5000}}}}}',
        f'{{"name": "f", "arguments": {{"x": {"[" * 40}{"]" * 40}}}}}',
        f"{ONE} {{", f'{ONE} and {{"name": "g", "arguments": {{', 'Sure: {"name": "f", "arguments": {"x": ["a"], }',
        f'{{"name": "g", "arguments": {{"y"}}}} {ONE}', f"Well, {{\"name\": \"g\", }} {ONE}", "<tool_call></tool_call>",
        "f(1)", "f(x=1, x=2)", "f(x=y)", "f(x=g())", "f(**{})", "f(x=1).g(y=2)", "f(x=1", "f(x=1+1)", "f(x={1: 2})",
        "f(x={'a': 1, 'a': 2})", "f(x=1e999)", "f(x=b'a')", "f(x=1j)", "[f(x=1), 2]", "f(x=1); import os",
        "f(x=" + "[" * 5000, "f(x=" + "-" * 5000 + "1)", "f(x=" + "9" * 5000 + ")",
        "[" * 1_000_000, "[" * 50_000, "<tool_call>" * 9_000, "```\n" * 20_000 + "f(x=", json.dumps("x" * 200_000),
        "f(x=0x" + "f" * 4000 + ")", '{"name": "f", "arguments": "{\\"x\\": 1} and {"}',
        # An extra or a broken call outside the block that is marked as calls.
        f"<tool_call>{ONE}</tool_call>\n{ONE}", f'<tool_call>{ONE}</tool_call>\n{{"name": "g", "arguments": {{',
        f"```json\n{ONE}\n```\n{ONE}", f"{ONE}\n```json\n{ONE}\n```",
        # Attempts at a call in forms that the parser does not support.
        "Sure: {'name': 'f', 'arguments': {'x': 1}}", 'Sure: {name: "f", arguments: {x: 1}}',
        'get_weather("Berlin").', 'I call get_weather("Berlin") now', 'get_weather("Ber',
        'Action: f\nAction Input: {"x": 1}', 'Sure! {"tool": "f", "args": {"x": 1}}',
        "```json\n```", "```", "}]", "[", "[{",
        '{"name": "f", "arguments": {"x": "\ud800', "f(x='\0')",
    ],
    ids=lambda text: repr(text[:24]),
)  # fmt: skip
def test_unreadable_text_is_a_parse_error(text):
    result = parse_calls(text, TOOLS)
    assert isinstance(result, ParseError)
    assert 0 < len(result.detail) <= 200


@pytest.mark.parametrize("character", ["\ud800", "\\ud800", "\\u0000", "\u2028"], ids=ascii)
def test_unusual_characters_in_a_string_are_kept(character):
    (call,) = parse_calls(f'{{"name": "f", "arguments": {{"x": "{character}"}}}}')
    assert len(call.arguments["x"]) == 1


@pytest.mark.parametrize("piece", HOSTILE, ids=repr)
def test_parser_finishes_on_hostile_text(piece):
    """On every path through the parser; on such text a careless parser overflows its stack or never finishes."""
    for start, limit in (("x ", MAX_CHARACTERS), ("", MAX_CHARACTERS), ("", PYTHON_LIMIT), ("f(x=", PYTHON_LIMIT)):
        text = start + piece * ((limit - len(start)) // len(piece))
        assert isinstance(parse_calls(text), list | ParseError)
        assert isinstance(repair(text[:3000]), str)


@pytest.mark.parametrize("value", ["1e999", "NaN", "[NaN]", "[" * 40 + "]" * 40, '{"a": 1, "a": 2}', "9" * 5000])
def test_a_tagged_value_that_is_no_json_of_ours_stays_text(value):
    """Past bug: these were read with other rules than JSON elsewhere, so that an argument could be infinite."""
    tool = {"name": "f", "parameters": {"properties": {"x": {"type": "any"}}}}
    text = f"<tool_call><function=f><parameter=x>{value}</parameter></function></tool_call>"
    assert parse_calls(text, [tool]) == [Call("f", {"x": value})]
