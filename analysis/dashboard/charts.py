"""The figures of a comparison, one function each, from the frames of `analysis`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis import summaries
from analysis.compare import ALPHA
from analysis.dashboard.figure import (
    ABOVE,
    BESIDE,
    BLUE,
    GREY,
    INK,
    Figure,
    by_side,
    by_variant,
    drawn_from,
    either,
    jitter,
    number,
    text,
)
from analysis.frames import best_trials, scored, variants_of
from analysis.style import LABELS, margin

HEIGHT = 300
ABREAST, UPRIGHT = 12, {"angle": 300, "align": "left", "baseline": "middle"}  # counts that stand beside each other
SIGNIFICANT = either("datum.significant", BLUE, INK)
DASHED = {"type": "rule", "color": GREY, "strokeDash": [4, 3]}


def boxes(
    trials: pd.DataFrame,
    table: pd.DataFrame,
    label: str,
    panel: Literal["all", "best"],
    drawn: pd.DataFrame | None = None,
) -> Figure:
    """Box plots of the test score with every trial as a point.

    Args:
        trials: of one study and task, as of `analysis.load`.
        table: as of `compare`, of these trials.
        label: what the score is, with its unit.
        panel: all finished trials, or the best of them.
        drawn: as of `summaries.boxes`, if that is at hand.
    """
    drawn = summaries.boxes(trials, table) if drawn is None else drawn
    drawn = drawn[(drawn["panel"] == panel) & (drawn["n"] > 0)]
    select, fraction = table[["select", "fraction"]].iloc[0]
    chosen = scored(trials) if panel == "all" else best_trials(trials, select, fraction)
    points = trials.loc[chosen, ["variant", "trial", "test_score"]].rename(columns={"test_score": "y"})
    points["jitter"] = jitter(points["trial"])
    variants = [v for v in variants_of(trials) if v in set(drawn["variant"])]
    x = by_side(variants)
    ends = margin(drawn["low"].min(), drawn["limit"].iloc[0]) if len(drawn) else [0.0, 1.0]
    title = f"test {label}"
    low, q1, median, mean = (number(name, title, domain=ends) for name in ("low", "q1", "median", "mean"))
    circle = {"type": "circle", "size": 14, "opacity": 0.45, "color": GREY, "clip": True}
    bar = {"type": "bar", "size": 18, "fillOpacity": 0.15, "strokeWidth": 1.5, "clip": True}
    tick = {"type": "tick", "size": 18, "thickness": 2, "clip": True}
    dot = {"type": "point", "size": 34, "filled": True, "clip": True}
    layers = [
        drawn_from("points", circle, x=x, y=number("y", title, domain=ends), xOffset=BESIDE),
        drawn_from("boxes", {"type": "rule", "clip": True}, x=x, y=low, y2={"field": "high"}, color=SIGNIFICANT),
        drawn_from("boxes", bar, x=x, y=q1, y2={"field": "q3"}, color=SIGNIFICANT, stroke=SIGNIFICANT),
        drawn_from("boxes", tick, x=x, y=median, color=SIGNIFICANT),
        drawn_from("boxes", dot, x=x, y=mean, color=SIGNIFICANT),
    ]
    beyond = drawn["n_beyond"] > 0
    counts = ABOVE | UPRIGHT if beyond.any() and len(variants) > ABREAST else ABOVE
    layers.append(drawn_from("boxes", counts, x=x, y={"value": 0}, text={"field": "says"}))
    above = (", " + drawn["n_beyond"].astype(str) + "\N{UPWARDS ARROW}").where(beyond, "")
    what = "all finished trials" if panel == "all" else f"the best {100 * fraction:g} % by {select} score"
    caption = f"Test score of {what}, lower is better. Box: quartiles; whiskers: whole range; line: median; dot: mean; "
    caption += "pale points: the trials, which show their settings under the pointer and open when clicked. Above: the "
    caption += "number n" + (", and how many lie above the axis." if beyond.any() else ".")
    if table["significant"].any():
        caption += f" Blue: the best {100 * fraction:g} % differ significantly from the baseline's."
    keep = ["variant", "n", "low", "q1", "median", "q3", "high", "mean", "significant"]
    name = "All trials" if panel == "all" else f"Best {100 * fraction:g} %"
    data = {"boxes": drawn[keep].assign(says=drawn["n"].astype(str) + above), "points": points}
    return Figure(f"boxes_{panel}", name, caption, {"layer": layers, "height": HEIGHT}, data)


def differences(rows: Sequence[Mapping[str, Any]], label: str) -> Figure:
    """A forest plot of the differences from the baseline, with 95 % intervals.

    Args:
        rows: of `compare` of one study and task, as of `frames.records`.
        label: what the score is, with its unit.
    """
    baseline, adjust, fraction, design = (rows[0][name] for name in ("baseline", "adjust", "fraction", "design"))
    names = {"difference": "x", "difference_low": "low", "difference_high": "high"}
    names = {**{name: name for name in ("variant", "significant", "n_compared")}, **names}
    marks = [
        {new: row[name] for name, new in names.items()} | {"says": _p(row)}
        for row in rows
        if row["variant"] != baseline
    ]
    drawn = pd.DataFrame(marks, columns=[*names.values(), "says"])
    ends = np.append(drawn[["x", "low", "high"]].to_numpy(float).ravel(), 0.0)
    domain = margin(np.nanmin(ends), np.nanmax(ends), 0.08)
    title = f"difference from {baseline}: {label}"
    y = text("variant", sort=drawn["variant"].astype(str).tolist(), axis={"ticks": False})
    says = {"type": "text", "align": "right", "fontSize": 10, "color": GREY, "dy": -11}
    point = {"type": "point", "filled": True, "size": 60, "opacity": 1}
    low, high = number("low", title, domain=domain), {"field": "high"}
    layers = [
        drawn_from("zero", DASHED, x=number("x", title, domain=domain)),
        drawn_from("differences", {"type": "rule", "strokeWidth": 2}, y=y, x=low, x2=high, color=SIGNIFICANT),
        drawn_from("differences", point, y=y, x=number("x", title, domain=domain), color=SIGNIFICANT),
        drawn_from("differences", says, y=y, x={"value": "width"}, text={"field": "says"}),
    ]
    caption = f"Mean test score of the best {100 * fraction:g} % of each variant less that of {baseline}, with 95 % "
    caption += f"intervals, of {design} trials; to the right is worse. p: two-sided, adjusted after {adjust.title()}. "
    caption += (
        f"Blue: p < {ALPHA}; each interval is for itself alone. A variant without one was not tested, and is not "
    )
    caption += "shown to be equal."
    data = {"differences": drawn, "zero": pd.DataFrame({"x": [0.0]})}
    chart = {"layer": layers, "height": 36 * max(1, len(drawn))}
    return Figure("differences", f"Differences from {baseline}", caption, chart, data)


def _p(row: Mapping[str, Any]) -> str:
    if row["test"] != "tested":
        return str(row["test"])
    return "p < 0.001" if row["p_adjusted"] < 0.001 else f"p = {row['p_adjusted']:.3f}"


def power(table: pd.DataFrame, drawn: pd.DataFrame | None = None) -> Figure:
    """Power of the tests that found no significant difference, against trials of each variant.

    Args:
        table: as of `compare`, of one study and task.
        drawn: as of `summaries.power`, if that is at hand.
    """
    drawn = summaries.power(table) if drawn is None else drawn
    baseline = table["baseline"].iloc[0]
    colour, _ = by_variant(list(dict.fromkeys(drawn["variant"])), baseline)
    layers = [
        drawn_from("wanted", DASHED, y=number("y", "power", domain=[0, 1])),
        drawn_from(
            "power",
            {"type": "line", "strokeWidth": 2},
            x=number("n", "trials of each variant", log=True),
            y=number("power", "power", domain=[0, 1]),
            color=colour,
        ),
    ]
    caption = f"How probable it is that a study of so many trials would find the difference from {baseline} to be "
    caption += "significant, if it is as observed. Dashed: 80 %. A small difference may be none at all, which no "
    caption += "number of trials makes significant. Variants that differ significantly, or could not be tested, have "
    caption += "no line."
    data = {"power": drawn, "wanted": pd.DataFrame({"y": [0.8]})}
    return Figure("power", "Power", caption, {"layer": layers, "height": HEIGHT - 80}, data)


def trade_off(trials: pd.DataFrame, cost: str, label: str, baseline: str) -> Figure:
    """Test score of every finished trial against a cost, with the Pareto front of all variants.

    Args:
        trials: of one study and task.
        cost: ``n_parameters`` or ``train_seconds``.
        label: what the score is, with its unit.
        baseline: drawn in ink.
    """
    points = summaries.trade_off(trials, cost).rename(columns={cost: "x", "test_score": "y"})
    points = points[points["x"] > 0]
    colour, shape = by_variant([v for v in variants_of(trials) if v in set(points["variant"])], baseline)
    limit = points["limit"].max()
    ends = margin(points["y"].min(), limit) if len(points) else [0.0, 1.0]
    short, what = {"n_parameters": ("parameters", "parameters"), "train_seconds": ("time", "training time")}[cost]
    x = number("x", LABELS[cost] + (" [s]" if cost == "train_seconds" else ""), log=True)
    y = number("y", f"test {label}", domain=ends)
    front = points.loc[points["front"], ["x", "y"]].sort_values("x")
    front = pd.concat([front, pd.DataFrame({"x": [points["x"].max()], "y": [front["y"].min()]})])
    point = {"type": "point", "filled": True, "size": 22, "opacity": 0.6, "clip": True}
    layers = [
        drawn_from("points", point, x=x, y=y, color=colour, shape=shape),
        drawn_from("front", {"type": "line", "interpolate": "step-after", "color": INK, "clip": True}, x=x, y=y),
    ]
    beyond = int((points["y"] > limit).sum())
    caption = f"Test score of {len(points)} finished trials against {what}. Line: Pareto front over all variants; no "
    caption += "trial is better at no higher cost than one on it." + (
        f" {beyond} lie above the axis." if beyond else ""
    )
    data = {"points": points[["variant", "trial", "x", "y", "front"]], "front": front}
    return Figure(short, f"Score against {what}", caption, {"layer": layers, "height": HEIGHT}, data)
