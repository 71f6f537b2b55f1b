"""The parts of a user's own rows: nothing that is tested is trained on, whatever the rows look like."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.data import custom, custom_splits, splits
from fixtures.data.bfcl import Answer, Example
from fixtures.data.chats import calls_in
from fixtures.data.regimes import SPLITS
from fixtures.data.splits import groups_of


def chat_rows(tmp_path, rows, tools=6):
    """OpenAI's rows: (messages, gold call or None); six tools with one argument each."""
    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    offered = [{"type": "function", "function": {"name": f"t{k}", "parameters": schema}} for k in range(tools)]
    path = tmp_path / "mine.jsonl"
    with path.open("w") as file:
        for messages, tool in rows:
            gold = [{"type": "function", "function": {"name": tool, "arguments": {"q": "x"}}}] if tool else None
            last = {"role": "assistant", "tool_calls": gold} if tool else {"role": "assistant", "content": "No."}
            file.write(json.dumps({"messages": [*messages, last], "tools": offered}) + "\n")
    return custom_splits.split_rows(custom.load_rows(path))


def question(k, script="w"):
    return " ".join(f"{script}{k}{j}" for j in range(8))


SCRIPTS = {"latin": "w", "cyrillic": "слово", "greek": "λέξη", "chinese": "问题", "arabic": "كلمة"}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("system", ["", " ".join(f"rule{k}" for k in range(60))], ids=["", "system"])
def test_questions_are_told_apart_in_any_script_and_under_one_system_prompt(tmp_path, script, system):
    """Past bugs: a shared system prompt, or a script other than Latin, made all questions one."""
    first = [{"role": "system", "content": system}] if system else []
    own = chat_rows(tmp_path, [
        ([*first, {"role": "user", "content": question(k, SCRIPTS[script])}], f"t{k % 6}") for k in range(48)
    ])  # fmt: skip
    assert all((own.partition.seen_tools, own.partition.unseen_tools, own.partition.train))
    groups = groups_of([own.examples[i] for i in own.partition.all_rows], custom_splits.by_question)
    assert len(set(groups)) == 48


def test_a_question_is_not_trained_with_another_answer_than_it_is_tested_with(tmp_path):
    """Past bug: rows with and without a call were told apart first, so that twins were on both sides."""
    rows = [([{"role": "user", "content": question(k)}], tool) for k in range(48) for tool in (f"t{k % 6}", None)]
    rows = [([*m[:-1], {**m[-1], "content": m[-1]["content"] + ("" if tool else " please")}], tool) for m, tool in rows]
    own = chat_rows(tmp_path, rows)
    part = own.partition
    tested = {splits.words_of(own.examples[i]) for i in (*part.seen_tools, *part.unseen_tools, *part.irrelevance)}
    for i in (*part.train, *part.dev):
        assert not any(splits.near_duplicates(splits.words_of(own.examples[i]), words) for words in tested)
    assert part.train
    assert part.irrelevance


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.booleans()), max_size=40, unique=True),
    st.integers(0, 3),
)
def test_seen_tools_are_trained_and_no_held_out_question_is(rows, seed):
    examples = {}
    for tool, number, called in rows:
        tools = tuple({"name": f"t{k}", "description": "", "parameters": {"type": "dict", "properties": {}}}
                      for k in range(4))  # fmt: skip
        words = " ".join(f"w{number}{j}" for j in range(10)) + f" {tool} {called}"
        answers = (Answer(f"t{tool}", {}),) if called else ()
        example = custom.with_tools(Example("q", "multiple", ({"role": "user", "content": words},), (), answers), tools)
        examples[example.id] = example
    part = custom_splits.make_partition(examples, seed)
    trained = {name for i in part.train for name in examples[i].gold_names}
    assert all(examples[i].gold_names <= trained for i in part.seen_tools)
    groups = dict(zip(examples, groups_of(list(examples.values()), custom_splits.by_question), strict=True))
    held = {groups[i] for i in (*part.dev, *part.seen_tools, *part.unseen_tools, *part.irrelevance)}
    assert not held.intersection(groups[i] for i in part.train)


def test_an_unseen_tool_is_in_no_earlier_turn_of_training(tmp_path):
    """Past bug: chats that end in words after a tool's result showed calls to unseen tools."""
    rows = [([{"role": "user", "content": question(k)}], f"t{k % 6}") for k in range(48)]
    for k in range(24):
        made = [{"type": "function", "id": "a", "function": {"name": f"t{k % 6}", "arguments": {"q": "x"}}}]
        turns = [{"role": "user", "content": question(100 + k)}, {"role": "assistant", "tool_calls": made},
                 {"role": "tool", "tool_call_id": "a", "content": "1"}]  # fmt: skip
        rows.append((turns, None))
    own = chat_rows(tmp_path, rows)
    hidden = {name for i in own.partition.unseen_tools for name in own.examples[i].gold_names}
    assert hidden
    shown = {call.name for i in own.partition.train for m in own.examples[i].messages for call in calls_in(m)}
    assert shown
    assert not hidden & shown


def test_rows_that_leave_no_test_of_irrelevance_do_not_test_on_training(tmp_path):
    """Past bug: an empty part fell back to the first hundred rows without a call, which are trained on."""
    rows = [([{"role": "user", "content": question(k)}], f"t{k % 6}") for k in range(48)]
    own = chat_rows(tmp_path, [*rows, ([{"role": "user", "content": "one joke please"}], None)])
    assert not own.partition.irrelevance
    assert SPLITS["irrelevance"].select(own.partition, own.examples) == ()


@pytest.mark.parametrize("size", [3, 10, 33, 70, 90])
def test_the_index_of_rare_words_finds_every_near_duplicate(size):
    rng = np.random.default_rng(size)
    words = [frozenset(rng.integers(0, 2 * size, size).tolist()) for _ in range(60)]
    words += [frozenset([*sorted(one)[: int(0.8 * len(one))], 10**6 + k]) for k, one in enumerate(words)]
    words = [frozenset(map(str, one)) for one in words] + [frozenset()] * 2
    every = {(i, j) for i in range(len(words)) for j in range(i) if splits.near_duplicates(words[i], words[j])}
    assert set(splits._near_duplicate_pairs(words)) == every
    assert len(every) > 10
