"""A user's own rows: every known form gives the same examples, and bad rows are named, all at once."""

import json
from contextlib import suppress
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.support.strategies import VALUES
from fixtures.data import custom, custom_splits
from fixtures.data.bfcl import Answer, Call, DatasetError, Example, gold_calls
from fixtures.data.splits import groups_of
from fixtures.data.tool_schemas import ToolError, openai_tool, read_tools
from fixtures.formats import FORMATS
from fixtures.scoring.scorer import prepare_scorer
from fixtures.storage import assets, pinned
from fixtures.storage.files import ROOT

OFFICE, OFFICE_TOOLS = ROOT / "data" / "office.jsonl", ROOT / "data" / "office_tools.json"
WEATHER = {
    "name": "weather", "description": "The weather.",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "City"},
            "days": {"type": "integer", "description": "Days", "minimum": 1},
            "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
        },
        "required": ["city"],
    },
}  # fmt: skip
ROME = {"name": "weather", "arguments": {"city": "Rome", "days": 2}}


def chat(*calls, **row):
    """A row in OpenAI's form."""
    made = [{"id": f"c{k}", "type": "function", "function": call} for k, call in enumerate(calls)]
    messages = [{"role": "user", "content": "Rome, two days?"}, {"role": "assistant", "tool_calls": made}]
    return {"messages": messages, "tools": [{"type": "function", "function": WEATHER}]} | row


@pytest.fixture
def load(tmp_path):
    def load(*rows, tools=None, name="mine.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
        if tools is not None:
            (tmp_path / "tools.json").write_text(json.dumps(tools))
        return custom.load_rows(path, None if tools is None else tmp_path / "tools.json")

    return load


def judged(example, *calls):
    return prepare_scorer(example).judge([Call(call["name"], call["arguments"]) for call in calls]).primary.reason


def as_text(call):
    return call | {"arguments": json.dumps(call["arguments"])}


FLAT = {"name": "weather", "description": "The weather.", "parameters": {
    "city": {"type": "str", "description": "City"},
    "days": {"type": "int, optional", "description": "Days", "minimum": 1},
    "unit": {"type": "str", "enum": ["C", "F"], "default": "C"},
}}  # fmt: skip
QUERY = {"query": "Rome, two days?", "tools": [FLAT], "answers": [ROME]}
SAME = {
    "arguments as an object": chat(ROME),
    "arguments as text": chat(as_text(ROME)),
    "bare tools": chat(ROME, tools=[WEATHER]),
    "tools as text": chat(ROME, tools=json.dumps([WEATHER])),
    "an MCP result": chat(ROME, tools={"tools": [{**{k: v for k, v in WEATHER.items() if k != "parameters"},
                                                 "inputSchema": WEATHER["parameters"]}]}),
    "xLAM": QUERY,
    "xLAM as text": QUERY | {"tools": json.dumps([FLAT]), "answers": json.dumps([ROME])},
    "content in parts": chat(ROME) | {"messages": [
        {"role": "user", "content": [{"type": "text", "text": "Rome, "}, {"type": "text", "text": "two days?"}]},
        chat(ROME)["messages"][1]]},
}  # fmt: skip


@pytest.mark.parametrize("row", SAME.values(), ids=SAME)
def test_every_form_gives_the_same_example(load, row):
    ((name, example),) = load(row).items()
    ((expected_name, expected),) = load(chat(ROME)).items()
    assert (name, example) == (expected_name, expected)
    assert name.startswith("rome_two_days-")
    assert example.category == "simple"
    assert gold_calls(example) == [Call("weather", {"city": "Rome", "days": 2})]


def test_rows_without_tools_have_those_of_the_tools_file(load):
    row = chat(ROME)
    del row["tools"]
    for tools in ([WEATHER], {"tools": [WEATHER]}, {"jsonrpc": "2.0", "id": 1, "result": {"tools": [WEATHER]}}):
        assert load(row, tools=tools) == load(chat(ROME))


def test_a_json_list_is_read_like_json_lines(load):
    rows = [chat(ROME, id="a"), chat(ROME, id="b", tools=[WEATHER, {"name": "other"}])]
    assert load(json.dumps(rows, indent=1)) == load(*rows)


@pytest.mark.parametrize(
    ("accept", "call", "reason"),
    [
        (None, ROME, "ok"),
        (None, {"name": "weather", "arguments": {"city": "Rome", "days": 2, "unit": "C"}}, "ok"),  # the default
        (None, {"name": "weather", "arguments": {"city": "Rome", "days": 2, "unit": "F"}}, "argument_value"),
        (None, {"name": "weather", "arguments": {"city": "Roma", "days": 2}}, "argument_value"),
        ({"city": ["Roma"]}, {"name": "weather", "arguments": {"city": "Roma", "days": 2}}, "ok"),
        ([{"city": ["Roma"]}], {"name": "weather", "arguments": {"city": "Roma", "days": 2}}, "ok"),
        (None, {"name": "weather", "arguments": {"city": "Rome"}}, "missing_argument"),
        ({"days": [""]}, {"name": "weather", "arguments": {"city": "Rome"}}, "ok"),  # "": may be omitted
    ],
)
def test_accepted_values(load, accept, call, reason):
    (example,) = load(chat(ROME, accept=accept) if accept else chat(ROME)).values()
    assert judged(example, call) == reason


def test_a_last_turn_without_calls_is_an_abstention(load):
    words = chat() | {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}
    for row in (words, words | {"messages": words["messages"][:1]}):
        (example,) = load(row).values()
        assert example.answers == ()
        assert example.category == "irrelevance"
        assert judged(example) == "ok"
        assert judged(example, ROME) == "hallucinated_call"


EARLIER = [
    {"role": "user", "content": "Rome today?"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "type": "function", "function": as_text(ROME)}]},
    {"role": "tool", "tool_call_id": "x", "content": "sunny"},
]


@pytest.mark.parametrize("form", ["native", "signatures"])
def test_earlier_calls_and_results_are_part_of_the_question(load, form):
    row = chat(ROME)
    (example,) = load(row | {"messages": EARLIER + row["messages"]}).values()
    text = json.dumps(FORMATS[form].messages(example))
    for part in ("Rome today?", "sunny", "weather", "Rome, two days?"):
        assert part in text
    assert isinstance(FORMATS["native"].messages(example)[1]["tool_calls"][0]["function"]["arguments"], dict)


def test_several_system_messages_keep_their_order(load):
    """Past bug: the second came first."""
    row = chat(ROME)
    said = [{"role": "system", "content": "FIRST"}, {"role": "developer", "content": "SECOND"}]
    (example,) = load(row | {"messages": said + row["messages"]}).values()
    system, *_ = FORMATS["signatures"].messages(example)
    assert system["content"].startswith("FIRST\n\nSECOND\n\nAnswer with")


def without(row, *path):
    row = deepcopy(row)
    target = row
    for step in path[:-1]:
        target = target[step]
    del target[path[-1]]
    return row


def call(name="weather", **arguments):
    return {"name": name, "arguments": arguments}


BAD = {
    "no JSON": ("{", "no JSON"),
    "a number": ("7", "expected an object, found int"),
    "other keys": ({"prompt": "x"}, "found prompt"),
    "no tools": (without(chat(ROME), "tools"), "no tools"),
    "unknown tool": (chat(call("wether", city="Rome")), "unknown tool 'wether'; offered are weather"),
    "missing argument": (chat(call(days=1)), "'city' is a required property"),
    "unknown argument": (chat(call(city="Rome", town="x")), "weather has no argument 'town'"),
    "wrong type": (chat(call(city="Rome", days="two")), "weather(days): 'two' is not of type 'integer'"),
    "limit": (chat(call(city="Rome", days=0)), "less than the minimum of 1"),
    "enum": (chat(call(city="Rome", unit="K")), "'K' is not one of ['C', 'F']"),
    "accepted enum": (chat(ROME, accept={"unit": ["K"]}), "accept: weather(unit): 'K' is not one of"),
    "accepted argument": (chat(ROME, accept={"town": ["x"]}), "accept: weather has no argument 'town'"),
    "accept for another number of calls": (chat(ROME, accept=[{}, {}]), "for each of the 1 calls"),
    "accept that is no list": (chat(ROME, accept={"city": "Roma"}), "a list of values for each argument"),
    "arguments that are no JSON": (chat({"name": "weather", "arguments": "{city"}), "the arguments are no JSON"),
    "arguments that are a list": (chat({"name": "weather", "arguments": "[1]"}), "arguments as an object"),
    "NaN": (chat({"name": "weather", "arguments": '{"city": NaN}'}), "NaN is no JSON"),
    "old form": (chat() | {"messages": [EARLIER[0], {"role": "assistant", "function_call": ROME}]}, "write tool_calls"),
    "no user": (chat(ROME) | {"messages": chat(ROME)["messages"][1:]}, "no message of the user"),
    "unknown role": (chat() | {"messages": [{"role": "robot", "content": "x"}]}, "unknown role 'robot'"),
    "an image": (chat() | {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "'image_url'"),
    "a result without a call": (chat() | {"messages": [{"role": "user", "content": "x"},
                                {"role": "tool", "tool_call_id": "q", "content": "y"}]}, "belongs to no earlier call"),
    "messages as text": (chat() | {"messages": "hi"}, "messages as a list"),
    "two tools of a name": (chat(ROME, tools=[WEATHER, WEATHER]), "several tools are called weather"),
    "a tool without a name": (chat(ROME, tools=[{"description": "x"}]), "a tool with a name"),
    "an unknown type": (chat(ROME, tools=[{"name": "t", "parameters": {"type": "object", "properties":
                        {"x": {"type": "strnig"}}}}]), "t.x: unknown type 'strnig'"),
    "a required argument that is none": (chat(ROME, tools=[{"name": "t", "parameters": {"type": "object",
                        "properties": {}, "required": ["y"]}}]), "requires 'y'"),
    "a reference to nothing": (chat(ROME, tools=[{"name": "t", "parameters": {"type": "object",
                        "properties": {"x": {"$ref": "#/$defs/X"}}}}]), "leads nowhere"),
    "a reference to itself": (chat(ROME, tools=[{"name": "t", "parameters": {"type": "object", "properties":
        {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": {"type": "array", "items": {"$ref": "#/$defs/X"}}}}}]),
        "refers to itself"),
    "an accepted argument that is none": (chat(ROME, accept={"dasy": [""]}), "accept: weather has no argument 'dasy'"),
    "an empty text for what may be omitted": (chat(call("t", x=""), tools=[{"name": "t", "parameters": {
        "type": "object", "properties": {"x": {"type": "string"}}}}]), "t: x has an empty text"),
    "an empty text inside": (chat(call("t", x=[{"y": ""}]), tools=[{"name": "t", "parameters": {
        "type": "object", "properties": {"x": {"type": "array", "items": {"type": "object"}}}}}]),
        "t: x has an empty text"),
    "a role that is a list": (chat() | {"messages": [{"role": ["user"], "content": "x"}]}, "unknown role ['user']"),
    "properties that are a number": (chat(ROME, tools=[{"name": "t", "parameters": {"type": "object",
        "properties": 7}}]), "t: "),
    "required lists": (chat(ROME, tools=[{"name": "t", "parameters": {"type": "object", "properties": {},
        "required": [[]]}}]), "t: requires []"),
    "an id with spaces": (chat(ROME, id="a b"), "an id consists of"),
}  # fmt: skip


REFERENCE = {"$ref": "#/$defs/Item"}
PLACES = {
    "itself": REFERENCE,
    "with a description": {"description": "which", **REFERENCE},
    "items": {"type": "array", "items": REFERENCE},
    "tuples": {"type": "array", "prefixItems": [{"type": "string"}, REFERENCE]},
    "a dictionary": {"type": "object", "additionalProperties": REFERENCE},
    "properties": {"type": "object", "properties": {"$ref": REFERENCE, "default": REFERENCE}},
    "a union": {"anyOf": [{"type": "null"}, REFERENCE]},
    "several parents": {"allOf": [REFERENCE, {"description": "x"}]},
    "a negation": {"not": REFERENCE},
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_reference_is_what_it_leads_to_wherever_it_stands(load, place):
    """Past bug: some places kept a reference to definitions that were gone."""

    def tool(argument, **definitions):
        return {"name": "t", "parameters": {"type": "object", "properties": {"x": argument}, **definitions}}

    part, item = {"type": "integer", "enum": [1, 2]}, {"type": "array", "items": {"$ref": "#/$defs/Part"}}
    inlined = json.loads(json.dumps(place).replace(json.dumps(REFERENCE)[1:-1], json.dumps(item)[1:-1]))
    inlined = json.loads(json.dumps(inlined).replace(json.dumps({"$ref": "#/$defs/Part"}), json.dumps(part)))
    (referring,) = load(chat(tools=[tool(place, **{"$defs": {"Item": item, "Part": part}})])).values()
    (plain,) = load(chat(tools=[tool(inlined)])).values()
    assert referring.tools == plain.tools
    assert "#/$defs" not in json.dumps(referring.tools)


def test_values_that_look_like_references_are_values(load):
    schema = {"type": "object", "enum": [{"$ref": "#/nowhere"}], "default": {"$ref": "#/nowhere"}}
    tool = {"name": "t", "parameters": {"type": "object", "properties": {"x": schema}}}
    (example,) = load(chat(tools=[tool])).values()
    assert example.tools[0]["parameters"]["properties"]["x"]["enum"] == [{"$ref": "#/nowhere"}]


@pytest.mark.parametrize(("row", "message"), BAD.values(), ids=BAD)
def test_a_bad_row_is_named_with_its_line(load, row, message):
    with pytest.raises(DatasetError) as error:
        load(chat(ROME), "", row)
    assert "mine.jsonl:3: " in str(error.value)
    assert message in str(error.value)


def test_all_bad_rows_are_reported_at_once(load):
    with pytest.raises(DatasetError) as error:
        load(chat(ROME, id="a"), *(row for row, _ in BAD.values()), chat(ROME, id="b"))
    text = str(error.value)
    assert all(f"mine.jsonl:{line}: " in text for line in range(2, 15))
    assert "more" in text.splitlines()[-1]


def test_the_same_question_twice_is_named_with_both_lines(load):
    with pytest.raises(DatasetError, match=r"mine\.jsonl:2: the same question with the same tools as mine\.jsonl:1"):
        load(chat(ROME), chat(call(city="Oslo")))


ODD = (None, True, 7, 1.5, "", "x", [], [[]], [{}], {}, {"a": 1}, {"type": []}, {"type": "object", "properties": []})


def paths(value, before=()):
    """The path of every value in a row, and of the row itself."""
    yield before
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from paths(one, (*before, key))


@pytest.mark.parametrize("row", [chat(ROME, accept={"days": [3]}), QUERY], ids=["chat", "xLAM"])
def test_an_odd_value_anywhere_is_an_example_that_can_be_scored_or_a_named_row(load, row):
    """Past bug: some ended in a traceback, and some only when an answer was scored."""
    for path in [path for path in paths(row) if path]:
        for odd in ODD:
            changed = deepcopy(row)
            target = changed
            for step in path[:-1]:
                target = target[step]
            target[path[-1]] = odd
            with suppress(DatasetError):
                for example in load(changed).values():
                    prepare_scorer(example).judge(gold_calls(example))


def test_a_default_of_null_may_be_given_where_the_schema_allows_it(load):
    """It is how pydantic writes an optional argument."""
    either = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    tool = {
        "name": "t",
        "parameters": {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "maybe": either, "text": {"type": "string", "default": None}},
            "required": ["x"],
        },
    }
    (example,) = load(chat(call("t", x=1), tools=[tool])).values()
    scorer = prepare_scorer(example)
    reasons = [scorer.judge([Call("t", {"x": 1, name: None})]).strict.reason for name in ("maybe", "text")]
    assert reasons == ["ok", "unexpected_argument"]


def test_results_without_ids_belong_to_the_calls_in_their_order(load):
    """Past bug: all of them belonged to the last call."""
    made = [{"type": "function", "function": call(city=city)} for city in ("Rome", "Oslo")]
    results = [{"role": "tool", "content": text} for text in ("warm", "cold")]
    turns = [{"role": "user", "content": "Both?"}, {"role": "assistant", "tool_calls": made}, *results,
             {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "Yes."}]  # fmt: skip
    (example,) = load({"messages": turns, "tools": [WEATHER]}).values()
    ids = [one["id"] for one in example.messages[1]["tool_calls"]]
    assert [m["tool_call_id"] for m in example.messages if m["role"] == "tool"] == ids


def test_results_without_ids_belong_to_the_newest_calls(load):
    """Two results for one call, and ids that a later turn uses again."""

    def turn(city, *results):
        made = [{"type": "function", "id": "c0", "function": call(city=city)}]
        return [{"role": "assistant", "tool_calls": made}, *({"role": "tool", "content": text} for text in results)]

    turns = [{"role": "user", "content": "Both?"}, *turn("Rome", "warm", "very"), *turn("Oslo", "cold"),
             {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "Yes."}]  # fmt: skip
    (example,) = load({"messages": turns, "tools": [WEATHER]}).values()
    assert [m["name"] for m in example.messages if m["role"] == "tool"] == ["weather"] * 3


def test_gold_calls_may_have_parameters_for_arguments(load):
    """Past bug: they had none, without a word."""
    (example,) = load(chat({"name": "weather", "parameters": {"city": "Rome", "days": 3}})).values()
    assert gold_calls(example) == [Call("weather", {"city": "Rome", "days": 3})]


@given(row=st.recursive(VALUES | st.sampled_from(list(SAME.values())), lambda inner: st.dictionaries(
    st.sampled_from(["messages", "tools", "query", "answers", "accept", "id", "role", "content", "name", "parameters",
                     "tool_calls", "function", "arguments", "question", "properties", "type", "$ref"]), inner),
    max_leaves=8))  # fmt: skip
def test_any_row_is_an_example_or_a_dataset_error(tmp_path_factory, row):
    path = tmp_path_factory.mktemp("rows") / "mine.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with suppress(DatasetError):
        custom_splits.split_rows(custom.load_rows(path))


SCHEMAS = st.recursive(
    st.sampled_from([{"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"},
                     {"type": ["string", "null"]}, {"enum": ["a", "b"]}, {"const": 3}, {},
                     {"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"q": {"type": "number"}}}]}]),
    lambda inner: st.builds(lambda items: {"type": "array", "items": items}, inner)
    | st.builds(lambda inside: {"type": "object", "properties": inside, "required": sorted(inside)[:1]},
                st.dictionaries(st.sampled_from(["type", "items", "properties", "k"]), inner, min_size=1)),
    max_leaves=5,
)  # fmt: skip


@given(schema=SCHEMAS)
def test_a_tool_reads_the_same_after_a_round_trip(schema):
    tool = {"name": "f", "description": "", "parameters": {"type": "object", "properties": {"x": schema}}}
    (read,) = read_tools([tool])
    assert read_tools([openai_tool(read)]) == [read]


def instance(schema, draw):
    """A value that fits a schema."""
    if "enum" in schema or "const" in schema:
        return draw(st.sampled_from(schema.get("enum", [schema.get("const")])))
    if "anyOf" in schema:
        return instance(draw(st.sampled_from(schema["anyOf"])), draw)
    match schema.get("type"):
        case "integer":
            return draw(st.integers(-9, 9))
        case "number":
            return draw(st.integers(-9, 9) | st.floats(-9, 9))
        case "boolean":
            return draw(st.booleans())
        case "array":
            return [instance(schema["items"], draw) for _ in range(draw(st.integers(0, 2)))]
        case "object":
            return {name: instance(inner, draw) for name, inner in schema["properties"].items()}
        case ["string", "null"]:
            return draw(st.none() | st.text("xyz", min_size=1))
    return draw(st.text("xyz ", min_size=1).filter(str.strip))


@given(schema=SCHEMAS, data=st.data())
def test_gold_is_correct_by_the_strict_scorer(tmp_path_factory, schema, data):
    """Whatever a tool's schema is made of: the row's own call is right, in its rendered form, too."""
    value = instance(schema, data.draw)
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"x": schema}, "required": ["x"]}}
    path = tmp_path_factory.mktemp("rows") / "mine.jsonl"
    path.write_text(json.dumps(chat({"name": "f", "arguments": {"x": value}}, tools=[tool])))
    (example,) = custom.load_rows(path).values()
    assert judged(example, {"name": "f", "arguments": {"x": value}}) == "ok"
    assert prepare_scorer(example).judge(gold_calls(example)).primary.correct


@pytest.fixture(scope="module")
def office():
    return custom_splits.split_rows(custom.load_rows(OFFICE, OFFICE_TOOLS))


def test_the_parts_of_own_rows_do_not_overlap(office):
    partition = office.partition
    parts = [partition.train, partition.dev, partition.seen_tools, partition.unseen_tools, partition.irrelevance]
    questions = [[(e.messages, e.answers) for e in (office.examples[i] for i in part)] for part in parts]
    flat = [json.dumps(str(q)) for part in questions for q in part]
    assert len(flat) == len(set(flat)) == 60
    assert len(partition.all_rows) == 60
    assert min(map(len, parts)) >= 2


def test_an_unseen_tool_is_nowhere_in_training(office):
    """Neither called, nor offered, nor in an earlier turn."""
    unseen = {n for i in office.partition.unseen_tools for n in office.examples[i].gold_names}
    assert unseen
    for i in (*office.partition.train, *office.partition.dev):
        text = json.dumps([office.examples[i].tools, office.examples[i].messages])
        assert not [name for name in unseen if f'"{name}"' in text]


def test_seen_tools_are_called_in_training(office):
    trained = {name for i in office.partition.train for name in office.examples[i].gold_names}
    assert all(office.examples[i].gold_names <= trained for i in office.partition.seen_tools)


def test_all_rows_offer_all_tools(office):
    assert {len(office.examples[i].tools) for i in office.partition.all_rows} == {12}


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=30, unique=True), seed=st.integers(0, 3)
)
def test_any_rows_can_be_split(rows, seed):
    """Few rows, one tool, similar questions: parts may be empty, but never overlap, and are reproducible.

    What is in none of them asks nearly the same question as a held-out row.
    """
    examples = {}
    for tool, number in rows:
        answers = () if tool == 3 else (Answer(f"t{tool}", {}),)
        tools = tuple({"name": f"t{k}", "description": "", "parameters": {"type": "dict", "properties": {}}}
                      for k in range(3))  # fmt: skip
        words = " ".join(f"w{number // 3 + k}" for k in range(4))
        example = custom.with_tools(
            Example(f"q{number}", "multiple", ({"role": "user", "content": words},), (), answers), tools
        )
        examples[example.id] = example
    own = custom_splits.split_rows(examples, seed)
    assert own == custom_splits.split_rows(examples, seed)
    partition = custom_splits.make_partition(examples, seed)
    parts = [partition.train, partition.dev, partition.seen_tools, partition.unseen_tools, partition.irrelevance]
    kept = [i for part in parts for i in part]
    assert len(kept) == len(set(kept))
    groups = dict(zip(examples, groups_of(list(examples.values()), custom_splits.by_question), strict=True))
    held_out = {i for part in parts[1:] for i in part}
    touched = {groups[i] for i in held_out}
    assert {i for i in examples if groups[i] in touched} - held_out == examples.keys() - set(kept)
    unseen = {n for i in partition.unseen_tools for n in examples[i].gold_names}
    assert not unseen & {tool["name"] for i in own.partition.train for tool in own.examples[i].tools}


def test_bfcls_own_pair_of_files_is_read(tmp_path, examples):
    """As the project does: same questions, tools and gold; ids end with a hash."""
    name = "BFCL_v4_parallel.json"
    path = assets.fetch(pinned.BFCL) / "bfcl_eval" / "data" / name
    rows = custom.load_rows(path)
    assert len(rows) == 200
    for i, example in rows.items():
        known = examples[i.rpartition("-")[0]]
        assert (known.messages, known.tools, known.answers, known.category) == (
            example.messages, example.tools, example.answers, example.category)  # fmt: skip
    (tmp_path / name).write_text(path.read_text())
    with pytest.raises(DatasetError, match=r"gold answers are missing: .*possible_answer/BFCL_v4_parallel\.json"):
        custom.load_rows(tmp_path / name)


def test_tools_that_cannot_be_read_name_the_tool():
    with pytest.raises(ToolError, match="no JSON schema at"):
        read_tools([{"name": "t", "parameters": {"type": "object", "properties": {"x": {"minimum": "one"}}}}])
