"""Which prompt formats a chat template allows, what reaches the prompt, and how answers are written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.data.bfcl import gold_calls
from fixtures.formats import FORMATS, openai_tool
from fixtures.modeling import control_tokens, loading, templates
from fixtures.modeling.loading import FormatError, LanguageModel
from fixtures.prompts import PromptError, render_answer, render_opening, render_prompts, render_question
from fixtures.scoring.parse import parse_calls
from fixtures.scoring.schema import JSON_TYPES

from .test_templates import CHATML, PLAIN, tokenizer

LOOP = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
END = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
TOOLS = (
    "{% if tools %}<|im_start|>system\nTools:\n{% for t in tools %}{{ t|tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
)
CALLS = (
    "{% for c in m.tool_calls or [] %}<tool_call>\n"
    '{"name": {{ c.function.name|tojson }}, "arguments": {{ c.function.arguments|tojson }}}\n</tool_call>{% endfor %}'
)
TAGGED = TOOLS + LOOP + CALLS + END
BARE = TOOLS + LOOP + END  # writes no calls
LISTED = TOOLS + LOOP + "{% if m.tool_calls %}[TOOL_CALLS] {{ m.tool_calls | map(attribute='function') | list | tojson }}{% endif %}" + END  # noqa: E501 # fmt: skip
TYPED = (
    "{% if tools %}{% for t in tools %}{{ t.function.name }}: {{ t.function.description }}\n"
    "{% for n, s in t.function.parameters.properties.items() %}  {{ n }}: {{ s.type }}  # {{ s.description }}\n"
    "{% endfor %}{% endfor %}{% endif %}" + LOOP + CALLS + END
)
NAMES_ONLY = "{% for t in tools or [] %}{{ t.function.name }} {% endfor %}" + LOOP + CALLS + END
NOT_CONTINUED = TOOLS + LOOP + CALLS + END.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n\n")
REFUSES_TOOLS = "{% if tools %}{{ raise_exception('no tools') }}{% endif %}" + CHATML
DEEP = "{% for t in tools or [] %}{{ t.input_schema.title }}{% endfor %}" + CHATML


@pytest.mark.parametrize(
    ("template", "default", "answers", "note"),
    [
        (CHATML, "signatures", "json", ""),
        (PLAIN, "signatures", "json", ""),
        (TAGGED, "native", "template", ""),
        (LISTED, "native", "template", ""),
        (TYPED, "native", "template", ""),
        (BARE, "native", "json", ""),
        (NAMES_ONLY, "signatures", "json", ""),
        (NOT_CONTINUED, "native", "json", ""),
        (REFUSES_TOOLS, "signatures", "json", "refuses tools (TemplateError: no tools)"),
        (DEEP, "signatures", "json", "refuses tools (UndefinedError"),
    ],
)
def test_the_default_format_is_native_where_the_template_renders_whole_tools(template, default, answers, note):
    formats, notes = templates.formats_of(tokenizer(template, "<|im_end|>"), 258)
    first = next(iter(formats.values()))
    assert (first.name, first.answers) == (default, answers)
    assert set(formats) == set(FORMATS) - ({"native"} if default != "native" else set())
    assert note in "".join(notes)
    assert bool(notes) == bool(note)


def test_a_model_may_have_another_default():
    formats, _ = templates.formats_of(tokenizer(TAGGED, "<|im_end|>"), 258, "placeholder")
    assert list(formats) == ["placeholder", "native", "signatures"]


def model(template, **untrained):
    """A model that consists of its tokenizer."""
    tokens = tokenizer(template, "<|im_end|>")
    end = templates.end_of_turn(tokens, "m")
    made = LanguageModel("m", None, tokens, frozenset({end}), end, "", formats=templates.formats_of(tokens, end)[0])
    return loading._learned(made, [], {name: untrained.get(name, {}) for name in made.formats})


def test_answers_need_no_control_token_that_the_model_never_learned():
    """Qwen2.5-Coder's template writes `<tool_call>`, which costs 24 nats, and which LoRA cannot learn."""
    learned, never = model(TAGGED), model(TAGGED, native={"<tool_call>": 23.7})
    assert learned.format("").answers == "template"
    assert learned.notes == ()
    assert never.format("").answers == "json"
    assert never.notes == ("it never learned <tool_call> (23.7 nats): its answers are plain JSON lists",)


def test_an_untrained_end_of_turn_is_reported_for_every_format():
    end = {"<|im_end|>": 12.0}
    found = model(TAGGED, native=end, signatures=end)
    assert found.format("").answers == "template"  # a JSON list would need it, too
    assert found.notes == ("it never learned <|im_end|>, which ends a turn: untrained, it may never stop",)


def test_control_tokens_are_compared_with_a_guess(monkeypatch):
    """The losses are 12 nats for `<`, and 1 for all other tokens."""
    tokens = tokenizer(TAGGED, "<|im_end|>")
    tokens.add_tokens(["<tool_call>"])
    end = templates.end_of_turn(tokens, "m")
    native = templates.formats_of(tokens, end)[0]["native"]
    special = tokens.convert_tokens_to_ids("<tool_call>")
    monkeypatch.setattr(
        control_tokens,
        "target_losses",
        lambda _, batch: [12.0 if t == special else 1.0 for t in batch.targets.tolist()],
    )
    assert control_tokens.untrained(None, tokens, end, native) == {"<tool_call>": 12.0}


def test_a_format_that_a_model_lacks_is_refused():
    with pytest.raises(FormatError, match="m has no prompt format native: its chat template renders no tools"):
        model(CHATML).format("native")


@pytest.mark.parametrize("template", [TAGGED, LISTED, TYPED])
def test_gold_calls_survive_the_templates_answers(template, examples):
    """Past bug of others: Qwen2.5's template encodes arguments that are a text a second time."""
    written = model(template)
    for example in list(examples.values())[::7]:
        calls = gold_calls(example)
        text = render_answer(example, calls, written.tokenizer, written.end_of_turn, written.format("native"))
        assert parse_calls(text, example.tools) == calls


def test_a_template_whose_calls_the_parser_does_not_read_gets_json_answers():
    assert model(TAGGED.replace('"name"', '"nom"')).format("native").answers == "json"


@pytest.mark.parametrize("template", [TAGGED, LISTED, BARE])
def test_an_opening_starts_the_gold_answer_and_ends_before_the_arguments(template, examples):
    written = model(template)
    form = written.format("native")
    for example in list(examples.values())[::29]:
        first = gold_calls(example)[0]
        opening = render_opening(example, first.name, written.tokenizer, written.end_of_turn, form)
        answer = render_answer(example, gold_calls(example), written.tokenizer, written.end_of_turn, form)
        assert answer.startswith(opening)
        assert opening.endswith("arguments")
        assert first.name in opening


def test_every_offered_tool_reaches_a_native_prompt(examples):
    """The check of each prompt: what a template loses is an error, not another question."""
    native = FORMATS["native"]
    for example in list(examples.values())[::29]:
        assert render_question(example, tokenizer(TAGGED, "<|im_end|>"), (), native)
        with pytest.raises(PromptError, match="drops or changes"):
            render_question(example, tokenizer(NAMES_ONLY, "<|im_end|>"), (), native)


def test_shots_of_a_native_prompt_have_their_own_tools_and_one_start_of_text(examples):
    tokens = tokenizer("{{ bos_token }}" + TAGGED, "<|im_end|>")
    tokens.bos_token = "<|endoftext|>"
    question, *shots = list(examples.values())[::400]
    (prompt,) = render_prompts([question], tokens, 258, shots, FORMATS["native"])
    text = tokens.decode(prompt.tokens)
    assert text.count("<|endoftext|>") == 1
    assert text.count("Tools:") == 1 + len(shots)
    places = [text.index(json.dumps(tool["name"])) for shot in (*shots, question) for tool in shot.tools[:1]]
    assert places == sorted(places)


schemas = st.recursive(
    st.fixed_dictionaries({"type": st.sampled_from(["dict", "float", "tuple", "any", "string", "integer", "array"])}),
    lambda inner: st.fixed_dictionaries({
        "type": st.just("dict"), "properties": st.dictionaries(st.sampled_from(["type", "items", "x"]), inner),
    }) | st.fixed_dictionaries({"type": st.sampled_from(["array", "tuple"]), "items": inner}),
)  # fmt: skip


def types_in(schema):
    yield schema["type"]
    for inner in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        yield from types_in(inner)


@given(schemas)
def test_native_tools_have_only_types_of_json_schema(schema):
    """Properties may be named `type` or `items`."""
    tool = openai_tool({"name": "f", "description": "", "parameters": schema})
    converted = tool["function"]["parameters"]
    assert set(types_in(converted)) <= set(JSON_TYPES.values())
    assert len(list(types_in(converted))) == len(list(types_in(schema)))
