"""Figures of what stands beside a comparison: ranks over several tasks, and replicates of the best trials."""

from collections.abc import Sequence
from itertools import cycle

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import figures, style
from analysis.halving import IN_TURN
from analysis.style import COLUMN, GREY, PLAIN, RULE, STYLE


def draw_ranks(ranks: pd.DataFrame, bars: Sequence[tuple[int, int]]) -> Figure:
    """The critical-difference diagram, one column wide: a row a variant with its rank on each task, and a line at their
    mean; bars join variants that are not shown to differ.

    Args:
        ranks: as of `over_tasks.ranks`.
        bars: as of `over_tasks.groups`, for the variants in the order of `ranks`.
    """
    variants, tasks = (list(dict.fromkeys(ranks[name].astype(str))) for name in ("variant", "task"))
    with matplotlib.rc_context(STYLE):
        figure = style.new(COLUMN, 1.8 + 0.55 * len(variants))
        axes = figure.subplots()
        for place, variant in enumerate(variants):
            own = ranks[ranks["variant"] == variant]
            axes.plot([own["rank"].min(), own["rank"].max()], [place] * 2, color=RULE, linewidth=0.8, zorder=1)
            axes.vlines(own["mean_rank"].iloc[0], place - 0.32, place + 0.32, color=PLAIN, linewidth=1.8, zorder=3)
        beside = np.linspace(-0.2, 0.2, len(tasks))  # for equal ranks
        for task, offset, marker, color in zip(tasks, beside, cycle(style.MARKERS), cycle(style.MUTED), strict=False):
            own = ranks[ranks["task"] == task]
            places = [variants.index(variant) + offset for variant in own["variant"]]
            axes.plot(own["rank"], places, marker, color=color, markersize=3.6, markeredgewidth=0, label=task, zorder=2)
        for number, (first, last) in enumerate(bars):
            x = len(variants) + 0.7 + 0.4 * number
            axes.plot([x, x], [first - 0.25, last + 0.25], color=PLAIN, linewidth=2.6, solid_capstyle="butt")
        axes.set_xlim(0.6, len(variants) + 0.7 + 0.4 * max(1, len(bars)))
        axes.set_ylim(len(variants) - 0.4, -0.6)
        axes.set_xticks(range(1, len(variants) + 1))
        axes.set_yticks(range(len(variants)), variants)
        axes.set_xlabel("rank on each task (1: lowest score); line: mean")
        axes.set_title("joined: not shown to differ on every task", loc="right", fontsize=6, fontweight="normal")
        style.legend(figure, figures.handles(axes))
    return figure


def draw_replicates(replicates: pd.DataFrame, label: str) -> Figure:
    """The test score of every replicate that finished, their median, and that of the trial of the search, by variant.

    Args:
        replicates: as of `replicates.of_best`.
        label: of the score axis, with its unit.
    """
    variants = list(dict.fromkeys(replicates["variant"].astype(str)))
    limit, best = replicates["limit"].iloc[0], replicates[["test_score", "searched"]].min().min()
    with matplotlib.rc_context(STYLE):
        figure = style.new(COLUMN, 6.8)
        axes = figure.subplots()
        for place, variant in enumerate(variants):
            own = replicates[replicates["variant"] == variant]
            finished = own[own["status"] == "finished"]
            at = place + figures.HALF * (2 * (finished["replicate"].to_numpy(float) * figures.GOLDEN % 1) - 1)
            scores = finished["test_score"].where(finished["test_score"] <= limit)
            dots = axes.plot(at, scores, ".", color=PLAIN, markersize=5, markeredgewidth=0, alpha=0.5)
            middle = finished["test_score"].median()
            ends = place - figures.HALF, place + figures.HALF
            median = axes.hlines(middle if middle <= limit else np.nan, *ends, color=PLAIN, linewidth=1.4)
            if len(finished) > len(scores.dropna()):
                figures.draw_beyond(axes, place, limit, len(finished) - len(scores.dropna()), PLAIN)
            x, y = place + 1.4 * figures.HALF, own["searched"].iloc[0]
            trial = axes.plot(x, y, "D", color=PLAIN, markerfacecolor="white", markersize=4)
            n = f"{len(finished)}"
            axes.text(place, 1.015, n, transform=axes.get_xaxis_transform(), ha="center", fontsize=6, color=GREY)
        axes.text(-0.005, 1.015, "n", transform=axes.transAxes, ha="right", fontsize=6, color=GREY, style="italic")
        axes.set_ylim(*style.margin(best, limit))
        axes.set_title("a description, no test of variants", pad=11, fontsize=6.5, fontweight="normal")
        axes.set_xlim(-0.6, len(variants) - 0.4)
        axes.set_xticks(range(len(variants)), variants, **style.slant(variants, len(variants), 7.0))
        axes.set_ylabel(style.lines(label))
        style.legend(figure, {"replicate": dots[0], "their median": median, "trial of the search": trial[0]})
    return figure


def draw_halving(stability: pd.DataFrame, lost: pd.DataFrame, baseline: str) -> Figure:
    """How soon curves tell the end: the rank correlation of each epoch with the last one, and the share of the best
    10 % that stopping the worse half of the trials in turn at the epochs up to one would have lost, by variant.

    Args:
        stability: as of `summaries.rank_stability`.
        lost: as of `halving.halving`.
        baseline: drawn in ink.
    """
    variants = list(dict.fromkeys(lost["variant"].astype(str)))
    looks = style.series(variants, baseline)
    with matplotlib.rc_context(STYLE):
        figure = style.new(style.WIDTH, 6.8)
        left, right = figure.subplots(1, 2)
        for variant in variants:
            look = {key: value for key, value in looks[variant].items() if key != "marker"}
            own = stability[stability["variant"] == variant]
            left.plot(own["epoch"], own["correlation"], label=variant, **look)
        left.axhline(1.0, color=RULE, linewidth=0.6, zorder=0)
        left.set_xlabel("epoch")
        left.set_ylabel("rank correlation with the end")
        style.log_axis(left)
        epochs = list(dict.fromkeys(lost["epoch"]))
        beside = np.linspace(-0.3, 0.3, len(variants))
        for variant, offset in zip(variants, beside, strict=True):
            own = lost[(lost["variant"] == variant) & (lost["how"] == IN_TURN)]
            places = [epochs.index(epoch) + offset for epoch in own["epoch"]]
            look = {key: value for key, value in looks[variant].items() if key in ("color", "marker")}
            right.plot(places, 100 * own["lost"], linestyle="none", markersize=4, **look)
        means = lost[lost["how"] == IN_TURN].groupby("epoch")["lost"].mean()
        for place, epoch in enumerate(epochs):
            right.hlines(100 * means[epoch], place - 0.4, place + 0.4, color=PLAIN, linewidth=1.4, zorder=1)
        right.set_xticks(range(len(epochs)), [f"{epoch}" for epoch in epochs])
        right.set_xlabel("the worse half stopped at each of these epochs up to")
        right.set_ylabel("of the best 10 %, lost [%]\n(line: mean of the variants)")
        right.set_ylim(-3, max(20.0, 100 * lost["lost"].max() + 5))
        style.legend(figure, figures.handles(left))
    return figure
