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


ROOMS = (  # from bottom to top
    "search.errors search.base",
    "search.expression search.ops search.own search.losses search.cells search.rules search.network",
    "search.tasks",
    "search.engines",
    "search search.training",  # the package itself has `unroll`
    "search.study",
    "search.evolve",
    "search.run search.__main__",
    "analysis",
)
LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names.split()}


def level(module: str) -> int:
    """How high the room of a module lies."""
    room = ".".join(module.split(".")[:2]) if module.startswith("search.") else module.split(".")[0]
    assert room in LEVEL, f"{module} is in no room of docs/design.md"
    return LEVEL[room]


def test_rooms_import_one_way() -> None:
    assert not [(module, name) for module in MODULES for name in imported(module) if level(name) > level(module)]


MOST_LINES, MOST_IN_FUNCTION = 400, 60  # of a module, and of a function without its docstring
LONG = {  # what is longer, and why
    "search.tasks.handwriting._words": "a list of words",
}


def test_modules_and_functions_are_short() -> None:
    long = {}
    for module, path in MODULES.items():
        text = path.read_text()
        if (n_lines := text.count("\n")) > MOST_LINES:
            long[module] = n_lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                if (n_lines := node.end_lineno - first.lineno + 1) > MOST_IN_FUNCTION:
                    long[f"{module}.{node.name}"] = n_lines
    assert long.keys() == LONG.keys(), long
