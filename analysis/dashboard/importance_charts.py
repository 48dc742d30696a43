"""The figures of importance, one function each, from the frames of `analysis.importance`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.dashboard.charts import HEIGHT
from analysis.dashboard.figure import (
    BAND,
    BLUE,
    GREY,
    INK,
    Figure,
    by_variant,
    drawn_from,
    either,
    movable,
    number,
    text,
)
from analysis.importance import NAMES
from analysis.style import Dimension, margin

Space = Mapping[str, Mapping[str, Any]]
MOST = 12  # shares of an architecture
# Trials behind a marginal, and points of a line beside others: to draw more takes longer than a control may.
MOST_BEHIND, MOST_BESIDE = 400, 32
POINT = {"type": "point", "filled": True, "size": 60, "opacity": 1, "clip": True}


def shares(own: pd.DataFrame, score: str, variant: str, notes: str) -> Figure:
    """Shares of the variance that settings, pairs of them and the rest explain, debiased, with standard errors.

    Args:
        own: rows of `Importance.shares` of one score and variant, or of `Importance.architecture` of one score and
            choice of dimensions.
        score: a column of `analysis.fanova`.
        variant: whose they are, or ``all variants``.
        notes: what the forest left out.
    """
    known = own["debiased"].notna().any()
    value, error = ("debiased", "se") if known else ("mean", "sd")
    own = own.sort_values(value, ascending=False, kind="stable").head(MOST)
    share, error_of = 100 * own[value].to_numpy(float), 100 * own[error].fillna(0).to_numpy(float)
    names = [_named(name) for name in own["dimensions"]]
    drawn = pd.DataFrame({"dimensions": names, "x": share, "low": share - error_of, "high": share + error_of})
    drawn["single"] = (own["order"] == 1).to_numpy()
    drawn["place"] = range(len(names))
    ends, axis = movable([min(0.0, max(-20.0, drawn["low"].min())), max(100.0, drawn["x"].max())])
    title = "share of the variance [%]"
    y = text("dimensions", axis={"labelLimit": 220, "ticks": False}) | {"sort": {"field": "place", "op": "min"}}
    rule = {"type": "rule", "strokeWidth": 2, "color": INK, "clip": True}
    x = number("x", title, domain=ends)
    layers = [
        drawn_from("shares", rule, y=y, x=number("low", title, domain=ends), x2={"field": "high"}),
        drawn_from("shares", POINT, y=y, x=x, color=either("datum.single", BLUE, GREY)),
    ]
    kind = "debiased (Da Veiga and Gamboa 2013), lines: one standard error over the trials"
    kind = kind if known else "of the forest, lines: one standard deviation over the trees; biased, without an error"
    caption = f"{NAMES[score].capitalize()} of {variant}: shares of the variance that settings explain, {kind}. Blue: "
    caption += f"single settings; grey: together. Functional ANOVA (Hutter et al. 2014) over a random forest. {notes}"
    chart = {"params": axis, "layer": layers, "height": 24 * len(names)}
    return Figure(f"shares_{score}", "Shares of the variance", caption, chart, {"shares": drawn})


def marginal(
    own: pd.DataFrame, every: pd.DataFrame, points: pd.DataFrame, space: Space, score: str, label: str, baseline: str
) -> Figure:
    """Prediction against one setting, averaged over all others, with the trials behind; it can be brushed.

    Args:
        own: rows of `Importance.marginals` of one score and setting, of one variant or of several.
        every: rows of this score of all settings, which share an axis.
        points: the trials behind, of this setting: variant, trial, value, y.
        space: of the plan, for scales.
        score: a column of `analysis.fanova`.
        label: of the score.
        baseline: drawn in ink, as is one variant alone.
    """
    name = str(own["dimension"].iloc[0])
    dimension = Dimension.of(name, space)
    variants = list(dict.fromkeys(own["variant"].astype(str)))
    drawn = own.assign(low=own["mean"] - own["sd"], high=own["mean"] + own["sd"])
    if len(variants) > 1 and not dimension.values:
        place = own.groupby("variant", observed=True, sort=False).cumcount()
        few = place % math.ceil((place.max() + 1) / MOST_BESIDE) == 0
        drawn = drawn[few | ~own.duplicated("variant", keep="last")].copy()
    n, apart = len(points), max(1, math.ceil(len(points) / MOST_BEHIND))
    for frame, values in ((drawn, drawn["value"]), (points := points[::apart].copy(), points["value"])):
        frame["x"] = values.map(str) if dimension.values else dimension.places(values)
    ends, axis = movable(margin((every["mean"] - every["sd"]).min(), (every["mean"] + every["sd"]).max(), 0.15))
    title = {"test_score": f"test {label}", "train_seconds": "training time [s]", "diverged": "P(diverged)"}[score]
    x = (
        text("x", dimension.label, dimension.values)
        if dimension.values
        else number("x", dimension.label, dimension.log)
    )
    colour = {"color": by_variant(variants, baseline)[0] if len(variants) > 1 else {"value": INK}}
    band = {
        "type": "rule" if dimension.values else "area",
        "clip": True,
        **({} if dimension.values else {"opacity": 0.15}),
    }
    line = POINT if dimension.values else {"type": "line", "strokeWidth": 2, "clip": True}
    circle = {"type": "circle", "size": 12, "opacity": 0.35, "color": GREY, "clip": True}
    behind = drawn_from("points", circle, x=x, y=number("y", title, domain=ends))
    behind["params"] = [{"name": "brush", "select": {"type": "interval", "encodings": ["x"]}}]
    low, mean = (number(column, title, domain=ends) for column in ("low", "mean"))
    layers = [
        behind,
        *([drawn_from("marginal", band, x=x, y=low, y2={"field": "high"}, **colour)] if len(variants) == 1 else []),
        drawn_from("marginal", line, x=x, y=mean, **colour),
    ]
    caption = (
        f"{NAMES[score].capitalize()} of {', '.join(variants)} against {name}, averaged over all other settings, as "
    )
    caption += "a forest predicts it. "
    caption += "Band: one standard deviation over the trees" if len(variants) == 1 else "A variant by itself has a band"
    caption += ". Points: the trials"
    caption += f", of which {len(points)} of {n} are drawn. " if apart > 1 else ". "
    caption += "Drag over the panel to see only the trials in a range, here and in the figures beside it."
    data = {
        "marginal": drawn[["variant", "x", "mean", "low", "high"]],
        "points": points[["variant", "trial", "x", "y"]],
    }
    return Figure(f"marginal_{name}", name, caption, {"params": axis, "layer": layers, "height": 190}, data)


def surface(own: pd.DataFrame, pair: tuple[str, str], space: Space, label: str, variant: str, alone: bool) -> Figure:
    """The prediction over two settings, or what their interaction adds to the two main effects.

    Args:
        own: as of `Importance.surface_of`.
        pair: the two settings.
        space: of the plan, for scales.
        label: what the score is, with its unit.
        variant: whose it is.
        alone: whether to draw the interaction alone.
    """
    value = "interaction" if alone else "mean"
    drawn = pd.DataFrame({"z": own[value], "sd": own["interaction_sd" if alone else "sd"]})
    encoding: dict[str, Any] = {}
    for axis, name in zip("xy", pair, strict=True):
        dimension = Dimension.of(name, space)
        if dimension.values:
            drawn[axis] = own[name].map(str)
            encoding[axis] = text(axis, dimension.label, dimension.values)
            continue
        # Cells of a grid whose points are evenly spaced on the scale of the setting.
        drawn[axis], drawn[f"{axis}2"] = _cells(dimension.places(own[name]), dimension.log)
        encoding[axis], encoding[f"{axis}2"] = number(axis, dimension.label, dimension.log), {"field": f"{axis}2"}
    bound = float(drawn["z"].abs().max()) or 1.0
    scale = {"scheme": "purpleorange", "domain": [-bound, bound]} if alone else {"scheme": "viridis", "reverse": True}
    encoding["color"] = {**number("z", f"effect on {label}" if alone else label), "scale": scale}
    what = "what the interaction adds to the two main effects" if alone else "averaged over all other settings"
    caption = f"Predicted test score of {variant} over {pair[0]} and {pair[1]}, {what}."
    chart = {**drawn_from("surface", "rect", **encoding), "height": HEIGHT}
    return Figure(
        f"surface_{value}", "Interaction alone" if alone else "Total marginal", caption, chart, {"surface": drawn}
    )


def ablation(own: pd.DataFrame, variant: str, reference: str, label: str) -> Figure:
    """The path from the reference's best settings to a variant's, one change at a time.

    Args:
        own: rows of `Importance.ablation` of one variant.
        variant: its name.
        reference: where the path begins.
        label: what the score is, with its unit.
    """
    names = [
        "start" if not name else f"{name}: {_short(before)} \N{RIGHTWARDS ARROW} {_short(after)}"
        for name, before, after in zip(own["dimension"], own["before"], own["after"], strict=True)
    ]
    mean, sd = own["mean"].to_numpy(float), own["sd"].to_numpy(float)
    drawn = pd.DataFrame({"step": names, "index": range(len(names)), "mean": mean, "low": mean - sd, "high": mean + sd})
    ends = margin(drawn["low"].min(), drawn["high"].max())
    title = f"predicted test {label}"
    y = text("step", sort=names, axis={"labelLimit": 240, "ticks": False})
    x = number("mean", title, domain=ends)
    rule = {"type": "rule", "color": BAND, "strokeWidth": 3}
    layers = [
        drawn_from("path", {"type": "line", "color": GREY}, y=y, x=x, order={"field": "index", "type": "quantitative"}),
        drawn_from("path", rule, y=y, x=number("low", title, domain=ends), x2={"field": "high"}),
        drawn_from("path", {**POINT, "color": BLUE}, y=y, x=x),
    ]
    caption = f"From the best settings of {reference} to those of {variant}, one change at a time, the one that lowers "
    caption += "the predicted score most first (Fawcett and Hoos 2016). Lines: one standard deviation over the trees."
    return Figure(
        "ablation", f"Ablation to {variant}", caption, {"layer": layers, "height": 28 * len(names)}, {"path": drawn}
    )


def _cells(places: np.ndarray, log: bool) -> tuple[np.ndarray, np.ndarray]:
    """The lower and the upper end of the cell of each place."""
    grid = np.unique(places)
    on = np.log(grid) if log else grid
    edges = np.concatenate([on[:1], (on[1:] + on[:-1]) / 2, on[-1:]])
    edges, at = np.exp(edges) if log else edges, np.searchsorted(grid, places)
    return edges[at], edges[at + 1]


def _named(dimensions: str) -> str:
    return dimensions.replace(" x ", " \N{MULTIPLICATION SIGN} ")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
