"""The order of the packages, and of the modules inside each: imports point one way."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import fixtures

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "fixtures"
# From upstream to downstream: a package imports only from those before it, and from itself.
PACKAGES = [
    "arms", "config", "storage", "data", "formats", "prompts", "scoring", "stats", "modeling", "generation", "training",
    "runs", "cluster", "study", "report", "plugin",
]  # fmt: skip
FILES = sorted(LIBRARY.rglob("*.py"))


def dotted(path):
    """`fixtures.scoring.parse`; a package is named by its folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path): path for path in FILES}


def imported(path):
    """The modules of the library that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fixtures":
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def package_of(module):
    return module.split(".")[1]


CALLERS = sorted([*LIBRARY.rglob("*.py"), *(ROOT / "bench").rglob("*.py")])


def used(path):
    """(module, name) of everything that a file takes out of the library."""
    tree, modules = ast.parse(path.read_text()), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fixtures":
            for alias in node.names:
                if f"{node.module}.{alias.name}" in MODULES:
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                else:
                    yield node.module, alias.name
    assigned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assigned |= {argument.arg for node in ast.walk(tree) if isinstance(node, ast.arguments) for argument in node.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = node.value.id
            if name in modules and name not in assigned:
                yield modules[name], node.attr


@pytest.mark.parametrize("path", CALLERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_used_of_the_library_exists(path):
    """Found: the peers called functions that had other names by then; nothing ran or type-checked them."""
    absent = {(module, name) for module, name in used(path) if not hasattr(import_module(module), name)}
    assert not absent


def test_every_package_has_its_place():
    assert sorted({package_of(module) for module in MODULES if module != "fixtures"}) == sorted(PACKAGES)
    listed = re.findall(r"^([a-z, ]+?)  +\S", fixtures.__doc__, re.MULTILINE)
    assert [name for names in listed for name in names.split(", ")] == PACKAGES


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_imports_point_upstream_between_packages(path):
    module = dotted(path)
    if module == "fixtures":
        assert not list(imported(path))
        return
    place = PACKAGES.index(package_of(module))
    downstream = {name for name in imported(path) if PACKAGES.index(package_of(name)) > place}
    assert not downstream, f"{module} imports from packages after its own"


def test_imports_inside_a_package_have_no_cycle():
    graph = {module: set(imported(path)) - {module} for module, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


@pytest.mark.parametrize("package", [path for path in sorted(LIBRARY.rglob("*")) if (path / "__init__.py").is_file()],
                         ids=lambda path: str(path.relative_to(ROOT)))  # fmt: skip
def test_a_packages_docstring_names_its_modules(package):
    """Where to look for what; `methods` names its files in METHODS."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    names = {path.stem for path in package.glob("*.py")} - {"__init__"}
    names |= {path.name for path in package.iterdir() if (path / "__init__.py").is_file()}
    if package.name != "methods":
        assert not [name for name in names if name not in text]


def test_unit_tests_mirror_the_packages():
    folders = {path.name for path in (ROOT / "bench" / "unit").iterdir() if path.is_dir() and list(path.glob("*.py"))}
    assert folders <= set(PACKAGES)


@pytest.mark.parametrize("path", FILES, ids=dotted)
def test_a_file_is_short_enough_to_read(path):
    assert len(path.read_text().splitlines()) <= 300


COMMANDS = ["fixtures.study", "fixtures.runs.serve", "fixtures.cluster.child", "fixtures.cluster.worker", "conftest"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_loads_its_blas_before_mlx(command):
    """Past bug: `make study` imported MLX first and ran on MLX's own BLAS, in one process, for hours."""
    code = f"import sys, {command}; sys.exit('mlx.core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
