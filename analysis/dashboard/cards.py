"""The cell of a variant as one reads it."""

from collections.abc import Mapping
from typing import Any

from search import cells
from search.cells.printer import PAST, readable
from search.errors import UserError, masked
from search.expression import EquationError


def card(variant: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    """Of a variant: name, definition, equations, how these are read, and parameters.

    Equations that are given as text are shown as they are written. Those of a cell in a module of the user's own are
    not shown, for to know them is to run that module, which nobody does who only reads a study.
    """
    said = {key: value for key, value in definition.items() if key != "equations"}
    made: dict[str, Any] = {"variant": variant, "equations": [], "parameters": [], "rule": PAST, "note": ""}
    made["definition"] = [f"{key}: {masked(str(value))}" for key, value in said.items()]
    if cells.is_own(dict(definition)):
        made["note"] = "A cell of the study's own. Its equations are in a module that reading the study does not run."
        return made
    try:
        cell = cells.define(dict(definition))
        written = definition.get("equations")
        made["equations"] = readable(cell).shown() if written is None else masked(written).strip().splitlines()
        made["parameters"] = list(cell.parameters(n_inputs=1, n_units=1))
    except (UserError, EquationError) as error:
        made["note"] = f"No cell of this version: {error}."
    return made
