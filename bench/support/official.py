"""Upstream's own checker from the unpacked bfcl-eval wheel: the reference that the `bfcl` scorer is tested against.

Only tests and benchmarks load it; it is not a dependency. Its package would import twenty API clients, but the checker
needs only one table of model settings from them, which a stub replaces.
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
    """Load the checker: calls and an example → whether they are correct, or the name of its exception."""
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
            result = checker.ast_checker(list(example.tools), answer, gold, language, example.category, "any")
        except Exception as error:  # noqa: BLE001 - any crash is a result to report
            return type(error).__name__
        return bool(result["valid"])

    return judge
