"""Is the real model loaded, prompted and decoded right? (needs the model, not an adapter)"""

import pytest

from fixtures.prompts import Prompt

pytestmark = pytest.mark.live


@pytest.fixture
def model(bench):
    """The scale's own model, without an adapter."""
    return bench.inference.base_model()


def test_model_knows_the_capital_of_france(model):
    """Wrong rope, tokenizer or dequantization turn this answer into noise."""
    from fixtures.config import Decoding
    from fixtures.generation import decode

    conversation = [{"role": "user", "content": "What is the capital of France?"}]
    text = model.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    tokens = tuple(model.tokenizer.encode(text, add_special_tokens=False))
    (answer,) = decode.complete(model, [Prompt("france", tokens, ())], Decoding(max_new_tokens=20))
    assert "Paris" in answer.text


def test_model_is_shown_every_offered_tool(model, examples):
    """SmolLM2's own chat template drops tools silently; ours may not."""
    from fixtures.prompts import render_prompts

    for prompt in render_prompts(list(examples.values()), model.tokenizer, model.end_of_turn):
        text = model.tokenizer.decode(prompt.tokens)
        for tool in examples[prompt.id].tools:
            assert f"\n{tool['name']}: " in text
            assert all(f"\n- {name} (" in text for name in tool["parameters"]["properties"])
        for message in examples[prompt.id].messages:
            assert message["content"].strip() in text  # live_simple_58-27-0's system text starts with a line break


def test_model_chooses_among_tokens_that_answers_begin_with(model, examples):
    """A forced choice once ended in a brace, which answers join with the quote after it: `{"` is one token."""
    from fixtures.generation.forced_choice import openings
    from fixtures.prompts import render_prompts

    asked = [example for example in examples.values() if example.gold_names]
    for example, prompt in zip(asked, render_prompts(asked, model.tokenizer, model.end_of_turn), strict=True):
        opened = [row.completion for row in openings(example, prompt, model.tokenizer)]
        assert len(set(opened)) == len(opened)
        assert any(prompt.completion[: len(tokens)] == tokens for tokens in opened)


def test_model_answers_a_row_alike_alone_and_in_a_batch(model, bench):
    """Neighbours and drafts must not change a row's tokens: 20 prompts, alone and eight at a time."""
    from fixtures.config import Decoding
    from fixtures.generation import decode
    from fixtures.prompts import render_prompts

    ids = bench.items.partition.dev[::3][:20]
    prompts = render_prompts([bench.items.examples[i] for i in ids], model.tokenizer, model.end_of_turn)
    together = {c.id: c for c in decode.complete(model, prompts, Decoding(24, batch_size=8))}
    for prompt in prompts:
        assert decode.complete(model, [prompt], Decoding(24, batch_size=1)) == [together[prompt.id]]
