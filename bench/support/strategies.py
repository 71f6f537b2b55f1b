"""Hypothesis strategies for the matcher: examples with random JSON schemas, and correct or nearly correct calls."""

import string

from hypothesis import strategies as st

from fixtures.data.bfcl import Answer, Call, Example, may_omit

NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=4)
TEXTS = st.text("aZé ,./-_*^'\"15", max_size=5) | st.sampled_from(["2024-04-01", "April 1, 2024", "New York", "3.5"])
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, 1.0, -2.0, 1e300]) | TEXTS
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=3), max_leaves=6)
OF_TYPE = {
    "string": TEXTS.filter(bool),
    "integer": st.integers(-9, 9),
    "float": st.integers(-9, 9).map(float) | st.sampled_from([0.5, -2.25]),
    "boolean": st.booleans(),
    "any": TEXTS.filter(bool),
}


@st.composite
def schemas(draw, depth=1):
    """The schema of one argument."""
    kind = draw(st.sampled_from([*OF_TYPE, *(["array", "tuple", "dict"] if depth else [])]))
    schema = {"type": kind}
    if kind in ("array", "tuple"):
        schema["items"] = draw(schemas(depth - 1) | st.just({"type": "dict", "properties": {"k": {"type": "string"}}}))
    elif kind == "dict":
        schema["properties"] = draw(st.dictionaries(NAMES, schemas(depth - 1), min_size=1, max_size=2))
    return schema


def gold_values(schema):
    """Values of a schema's type in BFCL's gold format, where each key of an object has a list of accepted values."""
    if schema["type"] in ("array", "tuple"):
        return st.lists(gold_values(schema["items"]), max_size=3)
    if schema["type"] == "dict":
        inner = {name: st.lists(gold_values(s), min_size=1, max_size=2) for name, s in schema["properties"].items()}
        return st.fixed_dictionaries(inner)
    return OF_TYPE[schema["type"]]


def plain(value):
    """A gold value as a call's argument: the first accepted value of each key."""
    if isinstance(value, dict):
        # A malformed gold value may hold something other than a list of accepted values.
        return {
            name: plain(options[0] if isinstance(options, list) and options else options)
            for name, options in value.items()
        }
    return [plain(item) for item in value] if isinstance(value, list) else value


@st.composite
def tools(draw, name):
    properties = draw(st.dictionaries(NAMES, schemas(), max_size=3))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    for argument in set(properties) - set(required):
        if draw(st.booleans()):
            properties[argument]["default"] = plain(draw(gold_values(properties[argument])))
    parameters = {"type": "dict", "properties": properties, "required": required}
    return {"name": name, "description": "", "parameters": parameters}


@st.composite
def answers(draw, tool, odd):
    """A gold call of a tool; `odd` adds values that do not have the schema's type, as some in BFCL."""
    gold = {}
    for name, schema in tool["parameters"]["properties"].items():
        values = gold_values(schema) | VALUES if odd else gold_values(schema)
        accepted = draw(st.lists(values, min_size=1, max_size=3))
        if name not in tool["parameters"]["required"]:
            accepted += draw(st.sampled_from([[], [""]]))
        gold[name] = accepted
    return Answer(tool["name"], gold)


@st.composite
def examples(draw, *, odd=False, category="parallel_multiple"):
    """One to four gold calls of one to three tools, within the category's limits: a simple item offers one tool."""
    most_calls, most_tools = 4 if "parallel" in category else 1, 3 if "multiple" in category else 1
    offered = [draw(tools(name)) for name in draw(st.lists(NAMES, min_size=1, max_size=most_tools, unique=True))]
    called = draw(st.lists(st.sampled_from(offered), min_size=1, max_size=most_calls))
    gold = tuple(draw(answers(tool, odd)) for tool in called)
    return Example("made_0", category, (), tuple(offered), gold)


@st.composite
def right_calls(draw, example):
    """A correct answer: accepted values, some optional arguments left out, calls and arguments in any order."""
    calls = []
    for answer in example.answers:
        required = next(t for t in example.tools if t["name"] == answer.name)["parameters"]["required"]
        given = {}
        for name, accepted in answer.arguments.items():
            if name in required or not may_omit(accepted) or draw(st.booleans()):
                given[name] = plain(draw(st.sampled_from([v for v in accepted if v != ""])))
        calls.append(Call(answer.name, dict(draw(st.permutations(list(given.items()))))))
    return draw(st.permutations(calls))


@st.composite
def near_calls(draw, example):
    """Gold calls with up to three arguments changed, dropped or added, and up to one call renamed."""
    calls = [
        {name: plain(draw(st.sampled_from(accepted))) for name, accepted in answer.arguments.items()}
        for answer in example.answers
    ]
    for _ in range(draw(st.integers(0, 3))):
        call = draw(st.sampled_from(calls))
        name = draw(st.sampled_from([*call, "x"]))
        if name in call and draw(st.integers(0, 3)) == 0:
            del call[name]
        else:
            call[name] = draw(VALUES)
    names = [answer.name for answer in example.answers]
    if draw(st.integers(0, 5)) == 0:
        names[0] = draw(NAMES)
    made = [Call(name, given) for name, given in zip(names, calls, strict=True)]
    return draw(st.permutations(made))


# Repeated, these drive a careless parser into backtracking or deep recursion.
HOSTILE = [
    "[", "{", '{"a":', "<tool_call>", "```\n", "f(", "a.", "f(x=", "f( ", "-", '"', "\\", "[ ", '{"name":', "a(\n",
    "x, ", '{"name": "f", "arguments": {}} ',
]  # fmt: skip
# (start, repeated part) of Java and JavaScript literals on which upstream's regular expressions never terminate.
HOSTILE_LITERALS = [
    ("new HashMap<>(){", " "), ("", "new HashMap<"), ("new HashMap<>(){{", 'put("a",'), ("new ArrayList<>() {{", " "),
    ("", "new ArrayList<>(Arrays.asList("), ("", "new int[] {"), ("[", "[],"), ("[ [", "], ["), ("[[", "]"),
    ("[[]", " , []"),
    ("{", "a:"), ("{", "a, "), ("{a:", " "), ("", "new Array("), ("", "{"), ("", "["),
]  # fmt: skip
