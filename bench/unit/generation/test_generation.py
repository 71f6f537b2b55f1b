"""Generation on a tiny model: a completion depends only on its prompt, and equals plain greedy decoding."""

from collections import Counter
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import prompts
from fixtures.arms import Draw
from fixtures.config import Decoding
from fixtures.generation import decode, prefill
from fixtures.generation.prompt_lookup import LONGEST_DRAFT, DraftLength, Lookup
from fixtures.modeling import forward, loading
from fixtures.modeling.kv_cache import WINDOW_ROWS, PrefixCache, Slots


@pytest.fixture(scope="module")
def model(lively_qwen):
    """A model with 22 stop tokens: rows end at different steps."""
    return replace(loading.load(str(lively_qwen)), stop_tokens=frozenset(range(0, 260, 12)))


def sampling(samples, temperature=0.8):
    return Draw("several", samples=samples, temperature=temperature)


def complete(model, rows, decoding, on_message=lambda _: None):
    completions = decode.complete(model, rows, decoding, on_message)
    return {(c.id, c.sample) if decoding.draw.samples > 1 else c.id: c for c in completions}


def made_rows(lengths, shared=()):
    rng = np.random.default_rng(0)
    return [prompts.Prompt(str(n), (*shared, *rng.integers(2, 250, n).tolist()), ()) for n in lengths]


def greedy(model, row, limit):
    """Reference implementation: one forward pass over the whole text for every token."""
    tokens = list(row.tokens)
    for _ in range(limit):
        states = forward.hidden_states(model.module, mx.array([tokens]))
        tokens.append(mx.argmax(forward.project(model.module, states[0, -1])).item())
        if tokens[-1] in model.stop_tokens:
            break
    return tokens[len(row.tokens) :]


@pytest.mark.parametrize("shared", [(), tuple(range(3, 40))], ids=["nothing_shared", "shared_prefix"])
@pytest.mark.parametrize("batch_size", [1, 3, 40])
def test_completions_equal_plain_greedy_decoding(model, batch_size, shared):
    rows = made_rows(range(10, 90, 8), shared)
    answers = complete(model, rows, Decoding(30, batch_size=batch_size))
    for row in rows:
        expected = greedy(model, row, 30)
        answer = answers[row.id]
        assert (answer.tokens, answer.finish) == (len(expected), "length" if len(expected) == 30 else "stop")
        assert answer.text == model.tokenizer.decode(
            expected[:-1] if answer.finish == "stop" else expected, skip_special_tokens=False
        )


def test_reused_slots_do_not_change_completions(model, monkeypatch):
    """Rows end at different steps: slots are refilled, compacted and freed while other rows continue."""
    rows = made_rows(range(10, 150, 6))
    alone = complete(model, rows, Decoding(40, batch_size=1))
    assert len({c.tokens for c in alone.values()}) > 5
    for batch_size in (2, 3, 8, 40):
        assert complete(model, rows, Decoding(40, batch_size=batch_size)) == alone
    monkeypatch.setattr(decode, "CACHE_TOKENS", 600)  # room for three to twelve rows
    monkeypatch.setattr(decode, "ROOM", 4)
    assert complete(model, rows, Decoding(40, batch_size=40)) == alone


def test_one_prompt_may_be_the_prefix_of_all_others(model):
    (first, *_), longer = made_rows([30]), made_rows([7, 12])
    rows = [first, *(replace(row, tokens=first.tokens + row.tokens) for row in longer)]
    together = complete(model, rows, Decoding(8))
    assert together == {row.id: complete(model, [row], Decoding(8))[row.id] for row in rows}


def test_repetition_is_drafted(tiny_qwen):
    """This model repeats one token: a forward pass yields up to eight of them."""
    steps = []
    (answer,) = complete(loading.load(str(tiny_qwen)), made_rows([20]), Decoding(60), steps.append).values()
    assert answer.tokens == sum(step.tokens for step in steps) == 60
    assert len(steps) < 40


def test_a_sample_does_not_depend_on_its_batch(model):
    """Nor on the number of samples, nor on whether its tokens were drafted."""
    rows, decoding = made_rows(range(10, 60, 7)), Decoding(25, seed=5, draw=sampling(3))
    together = complete(model, rows, decoding)
    assert together.keys() == {(row.id, k) for row in rows for k in range(3)}
    assert len({c.text for c in together.values()}) > 2 * len(rows)
    for batch_size in (1, 4):
        assert complete(model, rows, replace(decoding, batch_size=batch_size)) == together
    first = complete(model, rows[:2], replace(decoding, draw=sampling(1)))
    assert first == {row.id: together[row.id, 0] for row in rows[:2]}
    assert complete(model, rows, replace(decoding, seed=6)) != together


def test_a_prompt_is_prefilled_once_for_all_its_samples(model, monkeypatch):
    """Even when the samples do not fit into one batch."""
    prefilled, real = [], prefill.Prefiller.forward
    monkeypatch.setattr(prefill.Prefiller, "forward", lambda self, part: prefilled.extend(part) or real(self, part))
    complete(model, made_rows([20, 40]), Decoding(5, batch_size=2, draw=sampling(5)))
    assert len(prefilled) == 2


def test_sampling_at_a_low_temperature_is_greedy(model):
    rows = made_rows(range(10, 60, 7))
    cold = Decoding(25, draw=sampling(1, temperature=1e-4))
    assert complete(model, rows, cold) == complete(model, rows, Decoding(25))


@given(st.lists(st.floats(-5, 5, width=32) | st.floats(-80, 5, width=32), min_size=1, max_size=8), st.floats(0.2, 3))
def test_tokens_are_sampled_with_their_softmax_probabilities(logits, temperature):
    """Evenly spaced u in (0, 1) select each token as often as its softmax probability predicts."""
    logits, n = np.array(logits, dtype=np.float32), 400
    counts = Counter(decode.sample_token(logits, temperature, (i + 0.5) / n) for i in range(n))
    weights = np.exp(logits.astype(np.float64) / temperature)
    for token, probability in enumerate(weights / weights.sum()):
        assert abs(counts[token] - probability * n) <= 1.01


@given(st.integers(0, 2**32), st.floats(0.3, 2), st.floats(0, 1, exclude_max=True))
def test_leaving_out_unlikely_tokens_changes_no_sample(seed, temperature, u):
    """Half of the tokens are below LIKELY; together they have up to a tenth of the mass."""
    random = np.random.default_rng(seed)
    logits = np.where(random.random(20_000) < 0.5, 0, 2 * decode.LIKELY - 3) + random.normal(0, 4, 20_000)
    logits = logits.astype(np.float32)
    weights = np.cumsum(np.exp((logits - logits.max()) / temperature, dtype=np.float64))
    assert decode.sample_token(logits, temperature, u) == np.searchsorted(weights, u * weights[-1], side="right")


def test_logits_of_a_broken_model_are_no_exception():
    assert decode.sample_token(np.full(5, np.nan, dtype=np.float32), 1.0, 0.5) == 4


def test_every_prompt_is_completed_once_in_small_batches(model, monkeypatch):
    rows = made_rows(range(20, 50))
    monkeypatch.setattr(prefill, "PREFILL_TOKENS", 100)
    steps = []
    answers = complete(model, rows, Decoding(3, batch_size=4), steps.append)
    assert answers.keys() == {row.id for row in rows}
    assert all(c.tokens == 3 or c.finish == "stop" for c in answers.values())
    assert {c.prompt for c in answers.values()} == {row.sha256 for row in rows}
    assert sum(step.tokens for step in steps) == sum(c.tokens for c in answers.values())


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(tokens, st.integers(0, 8))
def test_a_draft_copies_what_followed_the_same_tokens(text, most):
    draft = Lookup(text).draft(most)
    assert len(draft) <= most
    starts = [i for i in range(1, len(text)) if text[i - 1] == text[-1]]
    if not most or not starts:
        assert not draft
    else:
        assert any(text[i : i + len(draft)] == draft for i in starts)


def test_a_draft_follows_the_longest_and_then_the_latest_match():
    assert Lookup([1, 2, 3, 9, 9, 2, 3, 7, 1, 2, 3]).draft(2) == [9, 9]
    assert Lookup([2, 3, 9, 2, 3, 7, 2, 3]).draft(2) == [7, 2]


def test_draft_length_rises_with_the_hit_rate_and_falls_with_the_batch_size():
    fresh, good, bad = DraftLength(), DraftLength(), DraftLength()
    for _ in range(60):
        good.record([1, 2, 3, 4], [1, 2, 3, 4, 5])
        for _ in range(4):
            bad.record([1, 2, 3, 4], [2])
        good.decay()
        bad.decay()
    assert good.best(1) == LONGEST_DRAFT
    assert bad.best(1) == bad.best(32) == 0
    assert good.best(32) >= fresh.best(4) >= 1 > fresh.best(40)
    for _ in range(300):
        bad.decay()
    assert bad.best(1) == fresh.best(1)  # old predictions no longer count


def test_only_the_tokens_up_to_the_first_wrong_one_are_compared():
    drafts, tokens = DraftLength(), DraftLength()
    drafts.record([1, 2, 3, 4], [1, 2, 9])
    drafts.record([], [6])
    for token, following in zip([1, 2, 3], [1, 2, 9], strict=True):
        tokens.record([token], [following])
    assert [drafts.best(rows) for rows in range(1, 65)] == [tokens.best(rows) for rows in range(1, 65)]
    drafts.record([1, 2], [1, 2, 3])
    assert drafts.best(1) > tokens.best(1)


def test_drafting_resumes_when_rows_become_repetitive(tiny_qwen):
    """While drafts cost more than they gain, none is verified; the hit rate is still measured."""
    steps = []
    answers = complete(loading.load(str(tiny_qwen)), made_rows(range(20, 52)), Decoding(60), steps.append)
    assert DraftLength().best(len(answers)) == 0
    assert len(steps) < 50


slot_operations = st.lists(st.one_of(
    st.tuples(st.just("accept"), st.lists(st.integers(0, 3), min_size=6, max_size=6), st.integers(1, 3)),
    st.tuples(st.just("put"), st.integers(0, 5), st.integers(1, 20)),
    st.tuples(st.just("resize"), st.lists(st.integers(0, 5), unique=True, max_size=6), st.integers(1, 6)),
), max_size=12)  # fmt: skip


@given(slot_operations)
def test_slots_keep_each_rows_text(operations):
    """Compared with one list per row; each key is its token's serial number."""
    slots, rows, number = Slots(1), [[], []], 0
    slots.resize([], 2, 20)
    prompt = PrefixCache(mx.arange(20.0).reshape(1, 1, 20, 1), mx.arange(20.0).reshape(1, 1, 20, 1))
    slots.put(0, 1, [prompt], 0)
    rows[0] = [0.0]
    for name, argument, n in operations:
        if name == "put":
            row = argument % len(rows)
            rows[row] = [float(i) for i in range(min(n, slots.visible.shape[1]))]
            slots.put(row, len(rows[row]), [prompt], 0)
        elif name == "resize":
            kept = [row for row in argument if row < len(rows)]
            rows = [*(rows[row] for row in kept), *[[] for _ in range(n)]]
            slots.resize(kept, len(rows), max(map(len, rows)) + 20)
        elif slots.used + n <= slots.visible.shape[1]:
            new = mx.arange(number, number + len(rows) * n, dtype=mx.float32).reshape(len(rows), 1, n, 1)
            number += len(rows) * n
            slots.layers[0].update_and_fetch(new, new)
            counts = np.minimum(np.resize(argument, len(rows)), n)
            slots.end_step(counts, n)
            rows = [row + new[i, 0, : counts[i], 0].tolist() for i, row in enumerate(rows)]
        slots.begin_step()
        starts = [window.first for window in slots.windows for _ in range(*window.rows.indices(len(rows)))]
        assert len(starts) == len(rows)
        assert all(not slots.visible[row, :start].any() for row, start in enumerate(starts))
        keys = np.array(slots.layers[0].keys)[:, 0, :, 0]
        assert [keys[i, slots.visible[i]].tolist() for i in range(len(rows))] == rows
        assert slots.lengths.tolist() == [len(row) for row in rows]


def test_a_window_starts_before_the_text_of_its_rows():
    """The first 16 rows have 100 tokens each and the next ones 10: the second window starts later."""
    slots = Slots(1)
    slots.resize([], 20, 150)
    prompt = PrefixCache(mx.zeros((1, 1, 100, 1)), mx.zeros((1, 1, 100, 1)))
    for row in range(19):  # the last row is free
        slots.put(row, 100 if row < WINDOW_ROWS else 10, [prompt], 0)
    slots.begin_step()
    assert [slots.visible[row].argmax() for row in (0, 18)] == [0, 90]
    assert slots.windows == [(slice(0, 16), 0), (slice(16, 32), 64)]
