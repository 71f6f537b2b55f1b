"""The grammar and the schema check agree on every tool of BFCL, and on calls that break its schema in one place."""

import json
import random

import pytest

from fixtures.data.bfcl import Example
from fixtures.generation.grammar import grammar_of
from fixtures.scoring.schema import violation
from fixtures.scoring.values import TYPES

ODD = ["", "odd", 3, 2.5, 1.0, True, None, [], ["odd"], [[3]], {}, {"odd": 3}]
CALLS_PER_TOOL = 12


@pytest.fixture(scope="module")
def grammar_accepts():
    """Whether the grammar of one tool accepts a call of it, byte by byte."""
    llguidance = pytest.importorskip("llguidance")
    tokenizer = llguidance.LLTokenizer("byte")

    def check(tool):
        matcher = llguidance.LLMatcher(tokenizer, grammar_of(Example("made_0", "simple", (), (tool,), None)))
        assert not matcher.is_error(), matcher.get_error()

        def accepts(arguments):
            call = [{"name": tool["name"], "arguments": arguments}]
            tokens = list(json.dumps(call, ensure_ascii=False, separators=(",", ":")).encode())
            matcher.reset()
            return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

        return accepts

    return check


def value_of(rng, schema, odd):
    """A value for a schema as BFCL's authors mean it, with each part odd at the given probability."""
    if rng.random() < odd:
        return rng.choice(ODD)
    kinds = TYPES.get(schema.get("type", "any"), (str,))
    enum = schema.get("enum")
    if enum and rng.random() < 0.9:
        value = rng.choice(enum)
        return [value] if list in kinds and not isinstance(value, list) else value
    if dict in kinds:
        return object_of(rng, schema, odd)
    if list in kinds:
        return [value_of(rng, schema.get("items", {}), odd) for _ in range(rng.randrange(3))]
    return {str: "Größe", int: 7, float: 0.5, bool: True}[rng.choice(kinds)]


def object_of(rng, schema, odd):
    """In the schema's order, which the grammar demands and the check does not."""
    properties, required = schema.get("properties", {}), schema.get("required", ())
    made = {
        name: value_of(rng, inner, odd)
        for name, inner in properties.items()
        if (rng.random() > odd if name in required else rng.random() < 0.5)
    }
    return made | ({"odd": 1} if rng.random() < odd else {})


def test_the_grammar_accepts_exactly_what_the_check_accepts(single_turn, grammar_accepts):
    tools = {json.dumps(tool, sort_keys=True): tool for example in single_turn.values() for tool in example.tools}
    judged, disagreements = [], []
    for text, tool in tools.items():
        rng, accepts = random.Random(text), grammar_accepts(tool)
        for number in range(CALLS_PER_TOOL):
            arguments = object_of(rng, tool["parameters"], odd=0.2 * (number % 2))
            fits = violation(arguments, tool["parameters"]) is None
            judged.append(fits)
            if accepts(arguments) != fits:
                disagreements.append((tool["name"], arguments, violation(arguments, tool["parameters"])))
    assert disagreements == []
    assert 0.2 < sum(judged) / len(judged) < 0.8  # both answers occur
