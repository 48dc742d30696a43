"""The figure of an evolution: the family tree of its survivors."""

from typing import Any

import pandas as pd

from analysis.dashboard.figure import BLUE, GREY, INK, RULE, Figure, drawn_from

ROW, CHARACTER, GAP = 22, 6.2, 11  # pixels: height of a row, width of a character, from a cell to its text
MOST_ROOM, LEAST_TREE = 420, 0.3  # pixels that texts get beside the tree at most, and share of the width that it keeps


def family(rows: pd.DataFrame, name: str, caption: str) -> Figure:
    """The family tree, a cell a row, to the right of its parent, with its text beside it.

    The parameter ``chosen`` is the name of a cell, which is drawn larger.

    Args:
        rows: as of `analysis.evolution.family`.
        name: of the evolution.
        caption: how it is to be read.
    """
    nodes = rows.rename(columns={"name": "cell"}).assign(row=range(len(rows)))
    nodes["says"] = [_says(each) for each in nodes.to_dict("records")]
    at = nodes.set_index("cell")[["generation", "row"]]
    born = nodes[nodes["parent"] != ""]
    left, above = (at.loc[born["parent"], column].to_numpy() for column in ("generation", "row"))
    down = pd.DataFrame({"x": left, "y": above, "x2": left, "y2": born["row"].to_numpy()})
    across = pd.DataFrame({"x": left, "y": born["row"], "x2": born["generation"], "y2": born["row"]})
    room = min(MOST_ROOM, GAP + CHARACTER * int(nodes["says"].str.len().max()))
    last = max(1, int(nodes["generation"].max()))
    ends = {"range": [8, {"expr": f"max({LEAST_TREE} * width, width - {room:.0f})"}]}
    x = _place("generation", [0, last], **ends) | {"axis": {"tickMinStep": 1, "format": "d", "orient": "top"}}
    x["title"] = "generation"
    y = _place("row", [-0.6, len(nodes) - 0.4], reverse=True) | {"axis": None}
    survives = "datum.place !== null"
    point = {"type": "point", "filled": True, "opacity": 1, "cursor": "pointer"}
    label = {"type": "text", "align": "left", "dx": GAP, "fontSize": 11, "cursor": "pointer", "ellipsis": "\u2026"}
    label["limit"] = {"expr": f"width - scale('x', datum.generation) - {GAP}"}
    chosen = "datum.cell === chosen"
    layers = [
        drawn_from(
            "edges",
            {"type": "rule", "color": RULE, "strokeWidth": 1.5},
            x={**x, "field": "x"},
            x2={"field": "x2"},
            y={**y, "field": "y"},
            y2={"field": "y2"},
        ),
        drawn_from(
            "cells",
            point,
            x=x,
            y=y,
            fill={"condition": {"test": survives, "value": BLUE}, "value": "#ffffff"},
            stroke={"condition": [{"test": chosen, "value": INK}, {"test": survives, "value": BLUE}], "value": GREY},
            strokeWidth={"condition": {"test": chosen, "value": 3}, "value": 1.5},
            size={"condition": {"test": chosen, "value": 130}, "value": 60},
        ),
        drawn_from(
            "cells",
            label,
            x=x,
            y=y,
            text={"field": "says"},
            color={"condition": {"test": f"{survives} || {chosen}", "value": INK}, "value": GREY},
        ),
    ]
    chart = {"layer": layers, "height": ROW * len(nodes), "params": [{"name": "chosen", "value": ""}]}
    data = {"cells": nodes, "edges": pd.concat([down, across], ignore_index=True)}
    caption += " A cell shows its equations under the pointer; clicked, or chosen from the list, it stays."
    return Figure(f"family_{name}", f"Family tree of the survivors of {name}", caption, chart, data)


def _says(each: dict[Any, Any]) -> str:
    place = "" if pd.isna(each["place"]) else f"{each['place']}. "
    return f"{place}{each['cell']}  {each['score']:.3f}  {each['mutations']}".rstrip()


def _place(field: str, domain: list[float], **scale: Any) -> dict[str, Any]:
    return {
        "field": field,
        "type": "quantitative",
        "title": None,
        "scale": {"domain": domain, "nice": False, "zero": False, **scale},
    }
