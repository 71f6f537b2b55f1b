"""Is the real model loaded, prompted and decoded correctly? (needs the model, no adapter)"""

import pytest

from fixtures.formats import render_calls
from fixtures.prompts import Prompt

pytestmark = [pytest.mark.bfcl, pytest.mark.live]


@pytest.fixture
def model(bench):
    """The scale's own model, without an adapter."""
    return bench.inference.base_model()


def test_model_knows_the_capital_of_france(model):
    """A wrong RoPE, tokenizer or dequantization turns this answer into noise."""
    from fixtures.config import Decoding
    from fixtures.generation import decode

    conversation = [{"role": "user", "content": "What is the capital of France?"}]
    text = model.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    tokens = tuple(model.tokenizer.encode(text, add_special_tokens=False))
    (answer,) = decode.complete(model, [Prompt("france", tokens, ())], Decoding(max_new_tokens=20))
    assert "Paris" in answer.text


def test_model_prompt_contains_every_offered_tool(model, examples):
    """SmolLM2's own chat template silently drops tools; ours must not."""
    from fixtures.prompts import render_prompts

    rendered = [
        (prompt, *(("\n{}: ", "\n- {} (") if form.tools(next(iter(examples.values()))) is None else ('"{}"', '"{}"')))
        for form in model.formats.values()
        for prompt in render_prompts(list(examples.values()), model.tokenizer, model.end_of_turn, form=form)
    ]
    for prompt, named, argument in rendered:
        text = model.tokenizer.decode(prompt.tokens)
        for tool in examples[prompt.id].tools:
            assert named.format(tool["name"]) in text
            assert all(argument.format(name) in text for name in tool["parameters"]["properties"])
        for message in examples[prompt.id].messages:
            assert message["content"].strip() in text  # live_simple_58-27-0's system text starts with a line break


def test_model_tokens_spell_every_question_and_answer_again(model, examples):
    """A rebuilt tokenizer (of a GGUF file) with a wrong pre-tokenizer or merges would change or lose characters."""
    from unicodedata import normalize

    from fixtures.data.bfcl import gold_calls
    from fixtures.prompts import render_question, render_text

    for example in examples.values():
        for text in (render_text(example), render_question(example, model.tokenizer, (), model.format("")),
                     render_calls(gold_calls(example))):  # fmt: skip
            again = model.tokenizer.decode(model.tokenizer.encode(text, add_special_tokens=False))
            assert again in (text, normalize("NFC", text))


def test_model_forced_choice_openings_are_token_prefixes_of_answers(model, examples):
    """Regression: an opening ended in `{`, but answers have `{"` as one token."""
    from fixtures.generation.forced_choice import openings
    from fixtures.prompts import render_prompts

    with_gold = [example for example in examples.values() if example.gold_names]
    form = model.format("")
    prompts = render_prompts(with_gold, model.tokenizer, model.end_of_turn, form=form)
    for example, prompt in zip(with_gold, prompts, strict=True):
        opening_tokens = [row.completion for row in openings(example, prompt, model.tokenizer, form)]
        assert len(set(opening_tokens)) == len(opening_tokens)
        assert any(prompt.completion[: len(tokens)] == tokens for tokens in opening_tokens)


def test_model_generates_the_same_tokens_alone_and_in_a_batch(model, bench):
    """Other rows and drafted tokens must not change a row's tokens: 20 prompts, alone and eight at a time."""
    from fixtures.config import Decoding
    from fixtures.generation import decode
    from fixtures.prompts import render_prompts

    ids = bench.items.partition.dev[::3][:20]
    prompts = render_prompts(
        [bench.items.examples[i] for i in ids], model.tokenizer, model.end_of_turn, form=model.format("")
    )
    batched = {c.id: c for c in decode.complete(model, prompts, Decoding(24, batch_size=8))}
    for prompt in prompts:
        assert decode.complete(model, [prompt], Decoding(24, batch_size=1)) == [batched[prompt.id]]
