"""README's list of files is the tree, and imports only point up it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTED = (ROOT / "README.md").read_text().split("\n## Files\n")[1].split("\n## ")[0]
MODULES = re.findall(
    r"^      (\w+)(?:\.py|/)", LISTED.split("\n    fixtures/ ")[1].split("\n    data/")[0], re.MULTILINE
)
FILES = sorted((ROOT / "fixtures").rglob("*.py"))


def module_of(path):
    return path.relative_to(ROOT / "fixtures").with_suffix("").parts[0]


def imported(path):
    """Modules of fixtures/, wherever in the file they are imported."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "fixtures":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fixtures."):
            yield node.module.split(".")[1]


def test_every_file_is_listed_once():
    assert sorted(MODULES) == sorted({module_of(path) for path in FILES} - {"__init__"})
    listed = re.findall(r"^      (test_\w+\.py)", LISTED, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (ROOT / "bench").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "fixtures")))
def test_imports_point_up_the_list(path):
    below = {name for name in imported(path) if MODULES.index(name) > MODULES.index(module_of(path))}
    assert not below, f"{path.name} imports what stands below it in README's list"
