"""Mutation tests of the scorers: gold answers → wrong answers, and harmless variants that stay correct.

A mutation takes the calls of a correct answer and yields changed calls; it yields nothing where it does not apply. It
is pure and seeded. bench/unit/scoring/test_scorers.py counts how many mutants of each class every scorer rejects.
"""

import random
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fixtures.data.bfcl import Answer, Call, Example, gold_calls, may_omit, options_of
from fixtures.scoring import java_js
from fixtures.scoring.java_js import LANGUAGES
from fixtures.scoring.values import DATE

Calls = list[Call]
Mutation = Callable[[Calls, Example, random.Random], Iterator[Calls]]
ValueMutation = Callable[[Any], Iterator[Any]]


def mutate(example: Example, name: str, seed: int = 0) -> Calls | None:
    """One mutant of an example's gold answer, of the named class in MUTATIONS; None where that does not apply."""
    rng = random.Random(f"{seed} {name} {example.id}")
    return next(MUTATIONS[name](gold_calls(example), example, rng), None)


def _changed(calls: Calls, i: int, arguments: Mapping[str, Any]) -> Calls:
    return [*calls[:i], Call(calls[i].name, arguments), *calls[i + 1 :]]


def _drop_call(calls: Calls, _: Example, rng: random.Random) -> Iterator[Calls]:
    i = rng.randrange(len(calls))
    yield calls[:i] + calls[i + 1 :]


def _add_call(calls: Calls, _: Example, rng: random.Random) -> Iterator[Calls]:
    yield [*calls, rng.choice(calls)]


def _rename_function(calls: Calls, _: Example, rng: random.Random) -> Iterator[Calls]:
    i = rng.randrange(len(calls))
    yield [*calls[:i], Call(calls[i].name + "_2", calls[i].arguments), *calls[i + 1 :]]


def _reorder_calls(calls: Calls, _: Example, rng: random.Random) -> Iterator[Calls]:
    if len(calls) > 1:
        yield calls[::-1]


def _reorder_arguments(calls: Calls, _: Example, rng: random.Random) -> Iterator[Calls]:
    if any(len(call.arguments) > 1 for call in calls):
        yield [Call(call.name, dict(list(call.arguments.items())[::-1])) for call in calls]


def _arguments(calls: Calls, rng: random.Random) -> Iterator[tuple[int, str, Any]]:
    """All arguments in random order: the index of the call, the name and the value."""
    arguments = [(i, name, value) for i, call in enumerate(calls) for name, value in call.arguments.items()]
    yield from rng.sample(arguments, len(arguments))


def _drop_argument(calls: Calls, example: Example, rng: random.Random) -> Iterator[Calls]:
    for i, name, _ in _arguments(calls, rng):
        yield _changed(calls, i, {k: v for k, v in calls[i].arguments.items() if k != name})


def _rename_argument(calls: Calls, example: Example, rng: random.Random) -> Iterator[Calls]:
    for i, name, _ in _arguments(calls, rng):
        yield _changed(calls, i, {k + "_2" if k == name else k: v for k, v in calls[i].arguments.items()})


def _add_argument(calls: Calls, example: Example, rng: random.Random) -> Iterator[Calls]:
    yield _changed(calls, 0, {**calls[0].arguments, "not_in_the_schema": 1})


def _omitted(calls: Calls, example: Example) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Optional arguments that the gold answer leaves out, with their schemas."""
    tools = {tool["name"]: tool["parameters"] for tool in example.tools}
    for i, call in enumerate(calls):
        schema = tools[call.name]
        for name, inner in schema["properties"].items():
            if name not in call.arguments and name not in schema.get("required", ()):
                yield i, name, inner


def _optional(value: Any) -> Mutation:
    def mutation(calls: Calls, example: Example, rng: random.Random) -> Iterator[Calls]:
        for i, name, schema in _omitted(calls, example):
            accepted = [*example.answers[i].arguments.get(name, ()), schema.get("default", ...)]
            if value not in [item for item in accepted if item != "" or item == schema.get("default", ...)]:
                yield _changed(calls, i, {**calls[i].arguments, name: value})

    return mutation


def _empty_in_object(calls: Calls, example: Example, rng: random.Random) -> Iterator[Calls]:
    """An empty string for a key that may be omitted: upstream mistakes gold's mark of an omission for a value."""
    for i, name, value in _arguments(calls, rng):
        for gold in example.answers[i].arguments[name]:
            for key, options in gold.items() if isinstance(value, dict) and isinstance(gold, dict) else ():
                if may_omit(options) and any(option != "" for option in options):
                    yield _changed(calls, i, {**calls[i].arguments, name: {**value, key: ""}})


def _explicit_default(calls: Calls, example: Example, rng: random.Random) -> Iterator[Calls]:
    for i, name, schema in _omitted(calls, example):
        accepted = example.answers[i].arguments.get(name, [""])
        if "default" in schema and schema["default"] not in accepted:
            yield _changed(calls, i, {**calls[i].arguments, name: schema["default"]})


def _values(change: ValueMutation) -> Mutation:
    """Apply a change to one argument's value, unless the gold accepts the new value."""

    def mutation(calls: Calls, example: Example, rng: random.Random) -> Iterator[Calls]:
        for i, name, value in _arguments(calls, rng):
            for new in change(value):
                mutant = _changed(calls, i, {**calls[i].arguments, name: new})
                if not any(_accepts(answer, name, new) for answer in example.answers):
                    yield mutant

    return mutation


def _accepts(answer: Answer, name: str, value: Any) -> bool:
    """Whether a gold call accepts the new value for this argument."""
    return any(_equal(value, item) for item in answer.arguments.get(name, ()))


def _equal(value: Any, gold: Any) -> bool:
    """Equality up to case; each key of a gold object has a list of accepted values."""
    if isinstance(value, dict) and isinstance(gold, dict):
        accepted = all(any(_equal(value[key], item) for item in options_of(gold.get(key, []))) for key in value)
        return accepted and all(key in value or may_omit(options) for key, options in gold.items())
    if isinstance(value, list) and isinstance(gold, list):
        return len(value) == len(gold) and all(map(_equal, value, gold))
    return repr(value).casefold() == repr(gold).casefold()


def _python(mutation: Mutation) -> Mutation:
    """Apply to Python items only: in Java and JavaScript items the string "3" is the source text of 3."""

    def python_only(calls: Calls, example: Example, rng: random.Random) -> Iterator[Calls]:
        if example.category not in LANGUAGES:
            yield from mutation(calls, example, rng)

    return python_only


def _same(change: ValueMutation) -> Mutation:
    """Apply a harmless change to one argument's value."""

    def mutation(calls: Calls, example: Example, rng: random.Random) -> Iterator[Calls]:
        for i, name, value in _arguments(calls, rng):
            for new in change(value):
                yield _changed(calls, i, {**calls[i].arguments, name: new})

    return mutation


def _texts(change: Callable[[str], str]) -> ValueMutation:
    """Change a string, or a string inside a list or an object."""

    def mutation(value: Any) -> Iterator[Any]:
        if isinstance(value, str):
            if (new := change(value)) != value:
                yield new
        elif isinstance(value, list):
            yield from ([*value[:i], new, *value[i + 1 :]] for i, item in enumerate(value) for new in mutation(item))
        elif isinstance(value, dict):
            yield from ({**value, key: new} for key, item in value.items() for new in mutation(item))

    return mutation


def _without(character: str) -> ValueMutation:
    """A lossy edit that upstream accepts; removing a date's punctuation is not lossy."""

    def change(text: str) -> str:
        inner = text.strip(" ")
        lossless = character not in inner or DATE.fullmatch(inner.casefold())
        return text if lossless else inner.replace(character, "", 1)

    return _texts(change)


def _number(value: Any) -> Iterator[Any]:
    if type(value) in (int, float):
        yield value + 1
    elif isinstance(value, list):
        yield from ([*value[:i], new, *value[i + 1 :]] for i, item in enumerate(value) for new in _number(item))
    elif isinstance(value, dict):
        yield from ({**value, key: new} for key, item in value.items() for new in _number(item))


def _if(kind: type, make: Callable[[Any], Any]) -> ValueMutation:
    def mutation(value: Any) -> Iterator[Any]:
        if type(value) is kind and repr(new := make(value)) != repr(value):
            yield new

    return mutation


def _drop_item(value: Any) -> Iterator[Any]:
    if isinstance(value, list | dict) and value:
        yield value[1:] if isinstance(value, list) else dict(list(value.items())[1:])


def _source_text(calls: Calls, example: Example, rng: random.Random) -> Iterator[Calls]:
    """Java and JavaScript arguments as upstream expects them: literals of the language."""
    if example.category not in LANGUAGES:
        return
    language = LANGUAGES[example.category]
    schemas = {tool["name"]: tool["parameters"]["properties"] for tool in example.tools}

    def written(call: Call, name: str) -> str:
        schema = schemas[call.name][name]
        return java_js.literal_text(call.arguments[name], schema["type"], schema.get("items", {}).get("type"), language)

    yield [Call(call.name, {name: written(call, name) for name in call.arguments}) for call in calls]


def _add_key(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield {**value, "not_in_the_schema": 1}


def _as_float(value: Any) -> Iterator[Any]:
    if type(value) is float and value.is_integer():
        yield int(value)


def _date(text: str) -> str:
    key = text.casefold()
    if not DATE.fullmatch(key):
        return text
    return text.replace("-", "/") if "-" in text else text.replace("/", "-") if "/" in text else text.replace(",", "")


# Wrong: a scorer should reject all of these.
HARMFUL: dict[str, Mutation] = {
    "drop_call": _drop_call,
    "add_call": _add_call,
    "rename_function": _rename_function,
    "drop_argument": _drop_argument,
    "rename_argument": _rename_argument,
    "add_argument": _add_argument,
    "null_for_optional": _optional(None),
    "empty_for_optional": _optional(""),
    "empty_in_object": _empty_in_object,
    "perturb_number": _values(_number),
    "negate_number": _values(_if(int, lambda value: -value)),
    "integer_as_fraction": _values(_if(int, lambda value: value + 0.5)),
    "number_as_text": _python(_values(_if(int, str))),
    "flip_boolean": _values(_if(bool, lambda value: not value)),
    "boolean_as_text": _python(_values(_if(bool, str))),
    "boolean_as_number": _values(_if(bool, int)),
    "perturb_text": _values(_texts(lambda text: text + "x")),
    "text_in_list": _values(_if(str, lambda value: [value])),
    "drop_item": _values(_drop_item),
    "reverse_items": _values(_if(list, lambda value: value[::-1])),
    "add_key": _values(_add_key),
    "lossy_point": _values(_without(".")),
    "lossy_minus": _values(_without("-")),
    "lossy_slash": _values(_without("/")),
    "lossy_star": _values(_without("*")),
    "lossy_underscore": _values(_without("_")),
    "lossy_comma": _values(_without(",")),
    "lossy_blank": _values(_without(" ")),
    "lossy_extra_caret": _values(_texts(lambda text: f"{text[:1]}^{text[1:]}")),
    "lossy_extra_minus": _values(_texts(lambda text: f"-{text}")),
    "swap_quotes": _values(_texts(lambda text: text.replace("'", '"', 1))),
}
# Correct: every scorer should accept all of these, except the last two, which only `equivalent` has to accept.
HARMLESS: dict[str, Mutation] = {
    "reorder_calls": _reorder_calls,
    "reorder_arguments": _reorder_arguments,
    "upper_case": _same(_texts(str.upper)),
    "repeat_blanks": _same(_texts(lambda text: text.replace(" ", "  "))),
    "surround_with_blanks": _same(_texts(lambda text: text and f" {text} ")),
    "source_text": _source_text,
    "date_punctuation": _same(_texts(_date)),
    "float_as_integer": _same(_as_float),
    "explicit_default": _explicit_default,
    "decomposed_unicode": _same(_texts(lambda text: unicodedata.normalize("NFD", text))),
}
MUTATIONS: dict[str, Mutation] = HARMFUL | HARMLESS


def mutants(examples: Sequence[Example], name: str, seed: int = 0) -> dict[str, Calls]:
    """Each example's mutant of one class, by item id; examples it does not apply to are left out."""
    made = {example.id: mutate(example, name, seed) for example in examples}
    return {item: calls for item, calls in made.items() if calls is not None}
