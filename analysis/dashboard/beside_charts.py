"""The figures of what stands beside a comparison: replicates of the best trials, and ranks over several tasks."""

from collections.abc import Sequence

import pandas as pd

from analysis import words
from analysis.dashboard.charts import HEIGHT
from analysis.dashboard.figure import (
    ABOVE,
    BESIDE,
    GREY,
    INK,
    RULE,
    SERIES,
    SHAPES,
    Figure,
    by_side,
    drawn_from,
    jitter,
    number,
    text,
)
from analysis.style import margin


def replicates(again: pd.DataFrame, label: str) -> Figure:
    """The test score of every replicate that finished, their median, and that of the trial of the search.

    Args:
        again: as of `analysis.replicates.of_best`.
        label: what the score is, with its unit.
    """
    variants, limit = list(dict.fromkeys(again["variant"].astype(str))), float(again["limit"].iloc[0])
    finished = again[again["status"] == "finished"]
    points = finished[["variant", "replicate", "seed", "test_score"]].rename(columns={"test_score": "y"})
    points["jitter"] = jitter(points["replicate"])
    rows = []
    for variant in variants:
        own = points.loc[points["variant"] == variant, "y"]
        above = int((own > limit).sum())
        says = f"{len(own)}" + (f", {above}\N{UPWARDS ARROW}" if above else "")
        searched = float(again.loc[again["variant"] == variant, "searched"].iloc[0])
        rows.append({"variant": variant, "median": own.median(), "searched": searched, "says": says})
    summary = pd.DataFrame(rows)
    domain = margin(float(min(points["y"].min(), summary["searched"].min())), limit)
    title = f"test {label}"
    x = by_side(variants)
    circle = {"type": "circle", "size": 22, "opacity": 0.5, "color": GREY, "clip": True}
    diamond = {"type": "point", "shape": "diamond", "size": 70, "color": INK, "clip": True}
    layers = [
        drawn_from("replicates", circle, x=x, y=number("y", title, domain=domain), xOffset=BESIDE),
        drawn_from(
            "summary",
            {"type": "tick", "size": 26, "thickness": 2, "color": INK, "clip": True},
            x=x,
            y=number("median", title, domain=domain),
        ),
        drawn_from("summary", diamond, x=x, y=number("searched", title, domain=domain)),
        drawn_from("summary", ABOVE, x=x, y={"value": 0}, text={"field": "says"}),
    ]
    caption = "Dots: test scores of the replicates, n those that finished; line: their median; diamond: the trial of "
    caption += f"the search. {words.replicates(again)}"
    data = {"replicates": points, "summary": summary}
    return Figure("replicates", "Replicates of the best trials", caption, {"layer": layers, "height": HEIGHT}, data)


def ranks(drawn: pd.DataFrame, pairs: pd.DataFrame, bars: Sequence[tuple[int, int]]) -> Figure:
    """The critical-difference diagram: ranks on each task, their mean, and bars that join variants that are not shown
    to differ on every task.

    Args:
        drawn: as of `analysis.over_tasks.ranks`.
        pairs: as of `analysis.over_tasks.differences`.
        bars: as of `analysis.over_tasks.groups`, for the variants in the order of `drawn`.
    """
    variants, tasks = (list(dict.fromkeys(drawn[name].astype(str))) for name in ("variant", "task"))
    spans = drawn.groupby("variant", sort=False)["rank"].agg(low="min", high="max").reset_index()
    means = drawn.drop_duplicates("variant")[["variant", "mean_rank"]]
    joined = pd.DataFrame(
        [(variants[a], variants[b], len(variants) + 0.7 + 0.4 * k) for k, (a, b) in enumerate(bars)],
        columns=["variant", "last", "x"],
    )
    domain = [0.6, len(variants) + 0.7 + 0.4 * max(1, len(bars))]
    y = text("variant", sort=variants, axis={"ticks": False})
    title = "rank on each task (1: lowest score); line: mean"
    own = {"domain": tasks, "range": [SERIES[k % len(SERIES)] for k in range(len(tasks))]}
    forms = {"domain": tasks, "range": [SHAPES[k % len(SHAPES)] for k in range(len(tasks))]}
    layers = [
        drawn_from(
            "spans",
            {"type": "rule", "color": RULE},
            y=y,
            x=number("low", title, domain=domain, axis={"values": list(range(1, len(variants) + 1)), "format": "d"}),
            x2={"field": "high"},
        ),
        drawn_from(
            "ranks",
            {"type": "point", "filled": True, "size": 50, "opacity": 1},
            y=y,
            x=number("rank", title, domain=domain),
            yOffset={"field": "offset", "type": "quantitative", "scale": {"domain": [-0.9, 0.9]}, "title": None},
            color=text("task", scale=own),
            shape=text("task", scale=forms),
        ),
        drawn_from(
            "means",
            {"type": "tick", "orient": "vertical", "size": 20, "thickness": 2.5, "color": INK},
            y=y,
            x=number("mean_rank", title, domain=domain),
        ),
        drawn_from(
            "bars",
            {"type": "rule", "strokeWidth": 4, "color": INK},
            y=y,
            y2={"field": "last"},
            x=number("x", title, domain=domain),
        ),
    ]
    places = drawn["task"].astype(str).map({task: k for k, task in enumerate(tasks)})
    offset = 0.5 * (places / max(1, len(tasks) - 1) - 0.5)  # for equal ranks
    data = {"ranks": drawn.assign(offset=offset), "spans": spans, "means": means, "bars": joined}
    chart = {"layer": layers, "height": 28 * len(variants)}
    return Figure("ranks", "Ranks over tasks", words.ranks(drawn, pairs), chart, data)
