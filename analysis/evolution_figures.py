"""Figures of an evolution, from the frames of `analysis.evolution`. Nothing is computed here but places."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import style
from analysis.evolution import ANY, BY_TASK, OUTCOMES, THROUGH, UNTRAINED
from analysis.style import BLUE, COLUMN, GREY, PLAIN, RULE, STYLE, WIDTH

COLORS = {THROUGH: BLUE, BY_TASK: "#88b8d8", UNTRAINED: "#d0d0d0"}
ROW, CHARACTER = 0.42, 0.125  # cm: height of a row, and width of a character of 6 pt


def draw_family(family: pd.DataFrame) -> Figure:
    """The family tree, a cell a row, to the right of its parent; survivors are filled, with their place.

    Args:
        family: as of `evolution.family`.
    """
    rows = {name: row for row, name in enumerate(family["name"])}
    at = dict(zip(family["name"], family["generation"], strict=True))
    with matplotlib.rc_context(STYLE):
        figure = style.new(WIDTH, ROW * len(family) + 1.6)
        axes = figure.subplots()
        low, high = -0.3, 1.0
        for each in family.to_dict("records"):
            row, x = rows[each["name"]], each["generation"]
            if each["parent"]:
                left = at[each["parent"]]
                axes.plot([left, left, x], [rows[each["parent"]], row, row], color=RULE, linewidth=0.9, zorder=1)
            survives = not pd.isna(each["place"])
            face = BLUE if survives else "white"
            edge = BLUE if survives else GREY
            axes.plot(x, row, "o", markersize=4, markerfacecolor=face, markeredgecolor=edge, zorder=2)
            place = f"{each['place']}. " if survives else ""
            text = f"{place}{each['name']}  {each['score']:.3f}  {each['mutations']}".rstrip()
            left_of = 1 - (0.4 + CHARACTER * len(text)) / WIDTH  # share of the width on which the cell must be
            high = max(high, low + (x - low) / max(left_of, 0.1))
            axes.annotate(
                text,
                (x, row),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
                color=PLAIN if survives else GREY,
                in_layout=False,
            )
        axes.set_ylim(len(family) - 0.4, -0.6)
        axes.set_xlim(low, high)
        last = max(1, family["generation"].max())
        ticks = MaxNLocator(10, integer=True, steps=[1, 2, 5, 10]).tick_values(0, last)
        axes.set_xticks([x for x in ticks if x <= last])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("generation")
    return figure


def draw_progress(progress: pd.DataFrame) -> Figure:
    """The best relative score and that of the last of the survivors against trials, and against training time.

    Args:
        progress: as of `evolution.progress`.
    """
    unit, size = style.time_unit(progress["seconds"])
    with matplotlib.rc_context(STYLE):
        figure = style.new(COLUMN, 10.0)
        panels = figure.subplots(2, 1, sharey=True)
        costs = (progress["trials"], "trials that have ended"), (progress["seconds"] / size, f"training time [{unit}]")
        for axes, (cost, label) in zip(panels, costs, strict=True):
            axes.axhline(1.0, color=RULE, linewidth=0.8, zorder=1)
            best = axes.plot(
                cost,
                progress["score"],
                "o",
                color=BLUE,
                drawstyle="steps-post",
                linestyle="-",
                markersize=2.6,
                zorder=3,
            )
            last = axes.plot(
                cost,
                progress["last"],
                ".",
                color=GREY,
                drawstyle="steps-post",
                linestyle="--",
                markersize=2.6,
                zorder=2,
            )
            axes.set_xlim(0, None)
            axes.set_xlabel(label)
            axes.set_ylabel("relative score")
        style.legend(figure, {"best": best[0], "last of the survivors": last[0]})
    return figure


def draw_mutations(mutations: pd.DataFrame) -> Figure:
    """Of each mutation a row, of each outcome a panel: the share with its interval, and the counts.

    Args:
        mutations: as of `evolution.mutations`.
    """
    names = list(dict.fromkeys(mutations["mutation"]))
    with matplotlib.rc_context(STYLE):
        figure = style.new(WIDTH, ROW * len(names) + 2.0)
        panels = figure.subplots(1, len(OUTCOMES), sharey=True)
        for axes, (outcome, (title, of)) in zip(panels, OUTCOMES.items(), strict=True):
            own = mutations[mutations["outcome"] == outcome].set_index("mutation").loc[names]
            axes.axvline(100 * float(own["share"][ANY]), color=RULE, linewidth=0.8, zorder=1)
            for row, each in enumerate(own.reset_index().to_dict("records")):
                color = PLAIN if each["mutation"] == ANY else BLUE
                axes.plot([100 * each["low"], 100 * each["high"]], [row, row], color=color, linewidth=1.1, zorder=2)
                axes.plot(100 * each["share"], row, "o", color=color, markersize=3, zorder=3, clip_on=False)
                axes.annotate(
                    f"{each['n']}/{each['of']}",
                    (1.0, row),
                    (4, 0),
                    xycoords=("axes fraction", "data"),
                    textcoords="offset points",
                    va="center",
                    fontsize=5.5,
                    color=GREY,
                )
            axes.set_title(title, pad=4)
            axes.set_xlabel(f"% of those {of}")
            axes.set_xlim(0, min(100.0, 1.05 * 100 * np.nanmax([*own["high"], 0.01])))
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.4, -0.6)
    return figure


def draw_outcomes(outcomes: pd.DataFrame, totals: pd.DataFrame) -> Figure:
    """What became of the children: of all of them, and generation by generation.

    Args:
        outcomes: as of `evolution.outcomes`.
        totals: as of `evolution.totals`.
    """
    with matplotlib.rc_context(STYLE):
        figure = style.new(WIDTH, max(5.0, ROW * len(totals) + 2.0))
        left, right = figure.subplots(1, 2)
        colors = [COLORS[stage] for stage in totals["stage"]]
        left.barh(range(len(totals)), totals["n"], color=colors, height=0.7)
        for row, n in enumerate(totals["n"]):
            left.annotate(f"{n}", (n, row), (2, 0), textcoords="offset points", va="center", fontsize=6, color=GREY)
        left.set_yticks(range(len(totals)), totals["outcome"])
        left.set_ylim(len(totals) - 0.4, -0.6)
        left.tick_params(axis="y", length=0)
        left.set_xlabel("children")
        left.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        left.margins(x=0.1)
        below = pd.Series(0.0, index=sorted(set(outcomes["generation"])))
        bars = {}
        for stage, color in COLORS.items():
            own = outcomes[outcomes["stage"] == stage].groupby("generation")["n"].sum().reindex(below.index).fillna(0)
            bars[stage] = right.bar(below.index, own, bottom=below, color=color, width=0.8)
            below = below + own
        right.set_xlabel("generation")
        right.set_ylabel("children")
        for axis in (right.xaxis, right.yaxis):
            axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
        style.legend(figure, bars)
    return figure
