"""Upstream's own checker, out of the unpacked bfcl-eval wheel: the oracle that the `bfcl` scorer is tested against.

Never a dependency: only tests and benchmarks load it. Its package would import twenty API clients; all that
the checker needs of them is one table of model settings, which a stub stands in for.
"""

import importlib
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from fixtures.data.bfcl import Call, Example

LANGUAGE_NAMES = {"simple_java": "JAVA", "simple_javascript": "JAVASCRIPT"}
Official = Callable[[Sequence[Call], Example], bool | str]


def load(folder: Path) -> Official:
    """The official verdict on calls as an answer to an example: right or not, or the name of the crash."""
    stub = ModuleType("bfcl_eval.constants.model_config")
    stub.__dict__["MODEL_CONFIG_MAPPING"] = defaultdict(lambda: SimpleNamespace(underscore_to_dot=False))
    sys.modules[stub.__name__] = stub
    sys.path.insert(0, str(folder))
    try:
        checker: Any = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker")
    finally:
        sys.path.remove(str(folder))

    def judge(calls: Sequence[Call], example: Example) -> bool | str:
        language = getattr(checker.Language, LANGUAGE_NAMES.get(example.category, "PYTHON"))
        gold = [{answer.name: answer.arguments} for answer in example.answers]
        answer = [{call.name: call.arguments} for call in calls]
        try:
            found = checker.ast_checker(list(example.tools), answer, gold, language, example.category, "any")
        except Exception as error:  # noqa: BLE001 - whatever it crashes with is the finding
            return type(error).__name__
        return bool(found["valid"])

    return judge
