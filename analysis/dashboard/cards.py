"""Cells as one reads them: the equations of a variant, printed from the graph that its step leaves."""

from typing import Any

from search import cells
from search.cells import Cell
from search.cells.trace import trace
from search.errors import UserError, masked
from search.expression import Graph
from search.study.plan import Plan

_SIGNS = {"add": "+", "sub": "\N{MINUS SIGN}", "mul": "\N{CIRCLED DOT OPERATOR}", "div": "/"}
_NAMES = {"sigmoid": "\N{GREEK SMALL LETTER SIGMA}", "neg": "\N{MINUS SIGN}"}
_STRENGTH = {"add": 1, "sub": 1, "mul": 2, "div": 2}


def cards(plan: Plan) -> list[dict[str, Any]]:
    """Of each variant of a plan: name, definition, equations and parameters.

    The equations of a cell in a module of the user's own are not shown, for to know them is to run that module, which
    nobody does who only reads a study.
    """
    made = []
    for variant, definition in plan.variants.items():
        card: dict[str, Any] = {"variant": variant, "task": plan.task["name"], "study": plan.study}
        card["definition"] = [f"{key}: {masked(str(value))}" for key, value in definition.items()]
        card |= {"equations": [], "parameters": [], "note": ""}
        if cells.is_own(definition):
            card["note"] = (
                "A cell of the study's own. Its equations are in a module that reading the study does not run."
            )
        else:
            try:
                cell = cells.define(definition)
                card["equations"] = equations(cell)
                shapes = cell.parameters(n_inputs=1, n_units=1)
                card["parameters"] = list(shapes)
            except UserError as error:
                card["note"] = f"No cell of this version: {error}."
        made.append(card)
    return made


def equations(cell: Cell) -> list[str]:
    """One line for each value that a step names: the output, the state, the gates; past values are of t - 1."""
    step = trace(cell)
    named = {index: name for name, index in step.out.items() if step.graph.nodes[index].op != "const"}
    lines = []
    for name, index in sorted(step.out.items(), key=lambda each: each[1]):
        text = _printed(step.graph, index, named, cell, own=index)
        lines.append(f"{name} = {text}")
    return lines


def _printed(graph: Graph, index: int, named: dict[int, str], cell: Cell, own: int = -1, around: int = 0) -> str:
    node = graph.nodes[index]
    if index != own and index in named:
        return named[index]
    if node.op == "const":
        return f"{node.value:g}"
    if node.op == "past":
        return f"{node.name}_past"
    if node.op == "unit":
        return node.name
    if node.op == "pre":
        return _affine(cell, graph, index, named, around)
    args = [_printed(graph, a, named, cell, own=-1, around=_STRENGTH.get(node.op, 0)) for a in node.args]
    if node.op in _SIGNS:
        text = f" {_SIGNS[node.op]} ".join(args)
        return f"({text})" if _STRENGTH[node.op] < around or (node.op == "sub" and around == 1) else text
    if node.op == "neg":
        return f"\N{MINUS SIGN}{args[0]}"
    return f"{_NAMES.get(node.op, node.op)}({', '.join(args)})"


def _affine(cell: Cell, graph: Graph, index: int, named: dict[int, str], around: int) -> str:
    node, affine = graph.nodes[index], cell.preactivations[graph.nodes[index].name]
    passed = [term.operand for term in affine.terms if term.operand not in ("x", *_state(cell))]
    given = dict(zip(passed, node.args, strict=False))
    words = []
    for term in affine.terms:
        operand = term.operand if term.operand == "x" else f"{term.operand}_past"
        if term.operand in given:
            operand = _printed(graph, given[term.operand], named, cell, around=3)
            operand = f"({operand})" if " " in operand and not operand.startswith("(") else operand
        words.append(f"{term.matrix} {operand}")
    text = " + ".join([*words, *([affine.bias] if affine.bias else [])])
    return f"({text})" if around > 1 else text


def _state(cell: Cell) -> tuple[str, ...]:
    return trace(cell).state
