"""The parser reads every usual form of a call and never raises on anything else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.dataset import Call
from fixtures.parse import ParseError, parse_calls
from fixtures.prompts import render_calls

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=4), v, max_size=3),
    max_leaves=8,
)
calls = st.lists(st.builds(Call, st.text(max_size=8), st.dictionaries(st.text(max_size=5), json_values)), max_size=4)


@given(calls)
def test_parsing_inverts_rendering(made):
    assert parse_calls(render_calls(made)) == made


@given(st.text())
def test_parser_never_raises_on_model_text(text):
    assert isinstance(parse_calls(text), list | ParseError)


@given(st.text(alphabet='[]{}":,0123456789eE+-.\\untrfalse <>/_cl`', max_size=200))
def test_parser_never_raises_on_near_json(text):
    assert isinstance(parse_calls(text), list | ParseError)


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
    ],
)
def test_usual_forms_are_read(text, count):
    assert parse_calls(text) == [Call("f", {"x": 1})] * count


@pytest.mark.parametrize(
    "text",
    [
        "", "The answer is 4.", f"[{ONE}", "[1]", '{"name": 1, "arguments": {}}', '{"name": "f"}',
        '{"name": "f", "arguments": [1]}', '{"name": "f", "arguments": {"x": NaN}}',
        '{"name": "f", "arguments": {"x": 1, "x": 2}}', "[" * 1_000_000, "[" * 50_000, "1" * 10_000, "\0",
        '"\\ud800"', json.dumps("x" * 200_000),
    ],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_other_text_is_a_parse_error(text):
    found = parse_calls(text)
    assert isinstance(found, ParseError)
    assert found.detail
