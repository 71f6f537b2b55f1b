"""Majority vote among completions without the gold answer, and constrained decoding with the tools' grammar."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from fixtures.arms import Completion, Draw
from fixtures.config import Decoding
from fixtures.data.bfcl import gold_calls
from fixtures.formats import render_calls
from fixtures.generation import decode, grammar
from fixtures.generation.scaffolds import SCAFFOLDS, majority, refuse_shared_names, repair
from fixtures.modeling import loading
from fixtures.prompts import Prompt, render_prompts
from fixtures.scoring.parse import ParseError, parse_calls
from fixtures.scoring.scorer import schema_mismatch

CALL = '[{"name":"area.of","arguments":{"width":2.5,"unit":"cm"}}]'
SAME_CALL = 'area.of(unit="cm", width=2.5)'
OTHER_CALL = '[{"name":"area.of","arguments":{"width":3.5}}]'
INVALID_CALL = '[{"name":"area.of","arguments":{"height":3.5}}]'


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [
        ([OTHER_CALL, CALL, SAME_CALL], CALL),  # two are the same call, written differently
        ([INVALID_CALL, INVALID_CALL, "[{", "[{", OTHER_CALL], OTHER_CALL),  # valid calls come before frequent ones
        (["[{", INVALID_CALL, "[{"], INVALID_CALL),
        ([OTHER_CALL, CALL], OTHER_CALL),  # a tie: the first
        (["[{", "]"], "[{"),
    ],
)
def test_majority_chooses_the_most_frequent_valid_call(example, texts, chosen):
    assert majority(example, completions(texts)).text == chosen


def completions(texts):
    return [Completion("simple_python_0", "hash", text, 3, "stop", k) for k, text in enumerate(texts)]


def test_a_truncated_answer_has_no_vote(example):
    cut = [replace(completion, finish="length") for completion in completions(["Words"] * 2)]
    assert majority(example, [*cut, *completions([OTHER_CALL])]).text == OTHER_CALL


TWO_CALLS = '[{"name":"f","arguments":{"x":1}},{"name":"g","arguments":{"x":2}'


@pytest.mark.parametrize(
    "text", [TWO_CALLS, TWO_CALLS.replace(',{"name":"g"', ' {"name":"g"'), TWO_CALLS.replace("},{", ",")]
)
def test_repair_drops_no_call(text):
    """json-repair keeps the last of several like objects: two broken calls became one."""
    calls = parse_calls(repair(text))
    assert isinstance(calls, ParseError) or [call.name for call in calls] == ["f", "g"]


def test_a_clear_majority_does_not_depend_on_the_order_of_the_samples(example):
    for texts in itertools.permutations([CALL, SAME_CALL, OTHER_CALL, INVALID_CALL]):
        assert parse_calls(majority(example, completions(texts)).text) == parse_calls(CALL)


def test_scaffolds_that_sample_differently_have_different_names():
    """Past bug: a best_of_8 with a higher temperature was replayed, and would have been recorded, as the usual one."""
    eight = SCAFFOLDS["best_of_8"]
    hotter = eight._replace(draw=replace(eight.draw, temperature=1.5))
    with pytest.raises(ValueError, match=r"hot_8 samples as .*has to be renamed"):
        refuse_shared_names({"best_of_8": eight, "hot_8": hotter})


@pytest.fixture(scope="module")
def model(lively_qwen):
    return loading.load(str(lively_qwen))


@pytest.fixture(scope="module")
def grammars(model):
    return grammar.Grammars(model, 260)


def test_every_gold_answer_is_in_its_grammar(bench, model, grammars):
    """With its arguments in the schema's order, except for two that contradict their own schema."""
    rejected = []
    for example in [example for example in bench.items.examples.values() if gold_calls(example)][::9]:
        matcher = grammars.matcher(grammar.grammar_of(example))
        gold = gold_calls(example)
        for token in [*model.tokenizer.encode(render_calls(gold), add_special_tokens=False), model.end_of_turn]:
            if not np.isfinite(matcher.allowed(np.zeros(260, dtype=np.float32))[token]):
                rejected.append(example.id)
                break
            matcher.accept(token)
    assert rejected == ["parallel_102"]


def test_a_constrained_completion_is_a_valid_call(model, example):
    """Of a model with random weights, greedy and sampled; the token limit may cut the completion off."""
    (prompt,) = render_prompts([example], model.tokenizer, model.end_of_turn)
    constrained = Prompt(prompt.id, prompt.tokens[-40:], (), grammar.grammar_of(example))
    free = Prompt("free", prompt.tokens[-30:], ())
    for temperature in (0.0, 1.0):
        decoding = Decoding(150, draw=Draw("draw", samples=1 + 3 * (temperature > 0), temperature=temperature))
        finished = 0
        for completion in decode.complete(model, [constrained, free], decoding):
            if completion.id == prompt.id and completion.finish == "stop":
                calls = parse_calls(completion.text)
                if isinstance(calls, ParseError):
                    assert calls.detail.endswith("is too large a number")
                else:
                    assert calls
                    assert schema_mismatch(calls, example) is None
                finished += 1
            elif completion.id == prompt.id:
                assert completion.text.startswith('[{"name":"area.of","arguments":{"width":')
        assert finished or temperature == 0


def test_forced_tokens_take_no_forward_pass_of_their_own(model, example):
    steps = []
    (prompt,) = render_prompts([example], model.tokenizer, model.end_of_turn)
    constrained = Prompt(prompt.id, prompt.tokens[-40:], (), grammar.grammar_of(example))
    (completion,) = decode.complete(model, [constrained], Decoding(35), steps.append)
    assert completion.tokens == 35
    assert len(steps) <= 10


def test_an_unusable_grammar_is_an_error(grammars):
    with pytest.raises(ValueError, match="llguidance rejects a grammar"):
        grammars.matcher('{"grammars": [{"json_schema": {"type": "nothing"}}]}')
