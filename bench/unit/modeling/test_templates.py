"""Chat templates of other makers: which token ends a turn, what reaches the prompt, and which day it is."""

from types import SimpleNamespace

import pytest
from transformers import PreTrainedTokenizerFast

from fixtures.modeling import templates
from fixtures.modeling.forward import ModelError

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PHI = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content | trim }}<|end|>\n{% endfor %}{{ eos_token }}"
LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }} {{ eos_token }}"
    "{% else %}[{{ m.role }}] {{ m.content }} [/{{ m.role }}]{% endif %}{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
FOLDED = (
    "{% set first = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }} {{ first if loop.first }} {{ m.content }}"
    "<|im_end|>{% endfor %}"
)
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
REFUSES_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no \x1b[31m system') }}{% endif %}"
    "{{ m.content }}<|im_end|>{% endfor %}"
)
DROPS_QUESTION = "{{ messages[0].content }}<|im_end|>"
ONLY_LAST = "{{ messages[-1].content }}<|im_end|>"
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|end|>", "</s>"]


def tokenizer(template, eos=None):
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fast = Tokenizer(BPE({token: i for i, token in enumerate([*alphabet, *SPECIAL])}, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(SPECIAL)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=fast, **({"eos_token": eos} if eos else {}))
    wrapped.chat_template = template
    return wrapped


@pytest.mark.parametrize(
    ("template", "eos", "end"),
    [
        (CHATML, "<|im_end|>", "<|im_end|>"),
        (CHATML, "<|endoftext|>", "<|im_end|>"),  # past bug: <|endoftext|> was trained
        (CHATML, None, "<|im_end|>"),
        (PHI, "<|endoftext|>", "<|end|>"),
        (LLAMA_2, "</s>", "</s>"),
        (PLAIN, "</s>", "</s>"),
        (FOLDED, "<|endoftext|>", "<|im_end|>"),
    ],
)
def test_the_end_of_a_turn_comes_from_the_template(template, eos, end):
    tokens = tokenizer(template, eos)
    assert tokens.convert_ids_to_tokens(templates.end_of_turn(tokens, "m")) == end


def test_a_template_without_any_end_is_refused():
    with pytest.raises(ModelError, match="m: nothing ends an answer"):
        templates.end_of_turn(tokenizer(PLAIN), "m")


@pytest.mark.parametrize("template", [CHATML, PHI, LLAMA_2, PLAIN, FOLDED])
def test_templates_that_keep_every_message_are_accepted(template):
    templates.check_template(tokenizer(template, "</s>"), "m")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        (DROPS_SYSTEM, "drops the system message, so that a prompt would lack the tools"),
        (REFUSES_SYSTEM, r"refuses system, user messages \(TemplateError: no \\x1b\[31m system\)"),
        (DROPS_QUESTION, "drops the user message"),
        (ONLY_LAST, "drops the system message"),
        (ENDLESS, "not rendered within"),
        ("{% for", "refuses system, user messages"),
    ],
)
def test_templates_that_lose_a_message_are_refused_before_any_training(template, message, monkeypatch):
    monkeypatch.setattr(templates, "RENDER_S", 1)
    with pytest.raises(ModelError, match=message):
        templates.check_template(tokenizer(template, "</s>"), "m")


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
        ("{{ strftime_now('%Y-%m-%d, %A, 100%%') }}", "2024-07-26, Friday, 100%"),
        ("{% macro today() %}{{ strftime_now('%-d.%-m.%y') }}{% endmacro %}{{ today() }}", "26.7.24"),
        ("{% if not date_string is defined %}{% set date_string = strftime_now('%d') %}{% endif %}{{ date_string }}",
         "26 Jul 2024"),
        ("{%- if strftime_now is defined %}{{ strftime_now('%H:%M') }}{% endif %}", "00:00"),
    ],
)  # fmt: skip
def test_prompts_do_not_depend_on_the_day(asked, shown):
    """Past bug: after midnight everything was trained anew."""
    fixed = templates.fixed_template(tokenizer(asked + CHATML, "<|im_end|>"))
    text = fixed.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert text == f"{shown}<|im_start|>user\nx<|im_end|>\n"


def test_a_template_without_a_clock_is_left_as_it_is():
    named = SimpleNamespace(chat_template={"default": CHATML, "dated": "{{ strftime_now('%Y') }}"})
    fixed = templates.fixed_template(named).chat_template
    assert fixed["default"] == CHATML
    assert fixed["dated"] != named
    assert templates.fixed_template(SimpleNamespace(chat_template=None)).chat_template is None
