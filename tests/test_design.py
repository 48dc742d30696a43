"""Who imports whom."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("search", "analysis")
    for path in (ROOT / package).rglob("*.py")
}


def imported(module: str) -> set[str]:
    """The project's modules that one imports, wherever it does so."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & MODULES.keys()) or {node.module}
            if below - MODULES.keys():
                found.add(node.module)
    return (found & MODULES.keys()) - {module}


def test_no_modules_import_each_other() -> None:
    try:
        list(TopologicalSorter({module: imported(module) for module in MODULES}).static_order())
    except CycleError as error:
        pytest.fail(f"imported in a circle: {' <- '.join(error.args[1])}")


def test_search_does_not_know_analysis() -> None:
    assert not [
        module
        for module in MODULES
        if module.startswith("search")
        for name in imported(module)
        if name.startswith("analysis")
    ]


def test_equations_know_no_engine() -> None:
    """Cells, rules and losses are what engines are made from."""
    below = ("search.cells", "search.rules", "search.losses", "search.expression", "search.ops")
    above = ("search.engines", "search.compiler", "search.training", "search.study", "search.tasks")
    for module in MODULES:
        if module.startswith(below):
            assert not [name for name in imported(module) if name.startswith(above)], module
