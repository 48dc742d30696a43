"""The cells of a study as one reads them."""

from typing import Any

from search import cells
from search.cells.printer import PAST, readable
from search.errors import UserError, masked
from search.expression import EquationError
from search.study.plan import Plan


def cards(plan: Plan) -> list[dict[str, Any]]:
    """Of each variant of a plan: name, definition, equations, how these are read, and parameters.

    The equations of a cell in a module of the user's own are not shown, for to know them is to run that module, which
    nobody does who only reads a study.
    """
    made = []
    for variant, definition in plan.variants.items():
        card: dict[str, Any] = {"variant": variant, "task": plan.task["name"], "study": plan.study}
        said = {key: value for key, value in definition.items() if key != "equations"}
        card["definition"] = [f"{key}: {masked(str(value))}" for key, value in said.items()]
        card |= {"equations": [], "parameters": [], "rule": PAST, "note": ""}
        if cells.is_own(definition):
            card["note"] = (
                "A cell of the study's own. Its equations are in a module that reading the study does not run."
            )
        else:
            try:
                cell = cells.define(definition)
                card["equations"] = readable(cell).shown()
                shapes = cell.parameters(n_inputs=1, n_units=1)
                card["parameters"] = list(shapes)
            except (UserError, EquationError) as error:
                card["note"] = f"No cell of this version: {error}."
        made.append(card)
    return made
