"""Figures of trials and variants, from the frames of `analysis.summaries`. Nothing is computed here but places."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from analysis import style
from analysis.style import BAR, BLUE, COLUMN, GREY, LABELS, PLAIN, RULE, STYLE, WIDTH

PANELS = {"all": "all finished trials", "best": "best 10 %"}
HALF = 0.26  # of the width of a box, of the distance of two
GOLDEN = (5**0.5 - 1) / 2
RASTERISED = 4000  # points from which on a layer is an image, so that a page stays small
PICKED = {"valid": "by validation score", "test": "by test score"}


def part_title(study: str, task: str) -> str:
    """What a study's results on a task are called where there are several studies."""
    return study if study == task else f"{study}, {task}"


def draw_boxes(boxes: pd.DataFrame, points: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """The box plots of docs/protocol.md, 5.1: all trials and the best 10 %, of one task side by side; two or three
    tasks stand side by side, as in the paper, and more below each other.

    Box 25th to 75th percentile, whiskers the whole range, a line for the median, a dot for the mean; a grey bar behind
    for the mean parameter count of the best 10 %; significant variants in blue with thick lines. Behind each box the
    trials it sums up, beside each other by their numbers: trials of one number stand at the same place in every box.

    Args:
        boxes: as of `summaries.boxes`.
        points: as of `summaries.points`.
        labels: the score axis of each task, with its unit.
    """
    rows = list(boxes.groupby(["study", "task"], sort=False, observed=True))
    several = boxes["study"].nunique() > 1
    with matplotlib.rc_context(STYLE):
        beside = len(rows) in (2, 3)
        shape = (len(PANELS), len(rows)) if beside else (len(rows), len(PANELS))
        figure = style.new(WIDTH, 6.4 * shape[0])
        grid = figure.subplots(*shape, squeeze=False)
        grid = grid.T if beside else grid
        for row, ((study, task), drawn) in zip(grid, rows, strict=True):
            for axes, (panel, title) in zip(row, PANELS.items(), strict=True):
                of_panel = drawn[drawn["panel"] == panel]
                at = (points["study"] == study) & (points["task"] == task) & (points["panel"] == panel)
                _draw_panel(axes, of_panel, points[at], labels[str(task)], rasterized=len(points) > RASTERISED)
                picked = f" {PICKED[drawn['select'].iloc[0]]}" if panel == "best" and not beside else ""
                where = part_title(str(study), str(task)) if several else task
                axes.set_title(f"{where}: {title}{picked}", pad=13, fontsize=7 if len(rows) == 3 else None)
    return figure


def draw_curves(curves: pd.DataFrame, label: str, baseline: str) -> Figure:
    """Validation score by epoch of the best 10 % of trials: a panel a variant, the best in colour up to its best epoch.

    Args:
        curves: as of `summaries.best_curves`.
        label: of the score axis, with its unit.
        baseline: the variant whose best trial is dashed in every other panel.
    """
    variants = list(dict.fromkeys(curves["variant"].astype(str)))
    columns = min(3, len(variants))
    rows = -(-len(variants) // columns)
    reference = curves[(curves["variant"] == baseline) & (curves["place"] == 1)]
    begins = curves.loc[curves["epoch"] == curves["epoch"].min(), "valid_score"].max()
    low, high = curves["valid_score"].min(), min(_fence(curves["valid_score"]), begins)
    with matplotlib.rc_context(STYLE):
        figure = style.new(COLUMN if columns == 1 else WIDTH, 4.2 * rows + 0.8)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, variant in zip(grid.flat, variants, strict=False):
            own = curves[curves["variant"] == variant]
            for place, curve in own.groupby("place", sort=True):
                if place != 1:
                    axes.plot(
                        curve["epoch"],
                        curve["valid_score"],
                        color=RULE,
                        linewidth=0.6,
                        zorder=1,
                        rasterized=len(curves) > RASTERISED,
                    )
            if variant != baseline and len(reference):
                axes.plot(
                    reference["epoch"], reference["valid_score"], color=GREY, linewidth=0.9, linestyle="--", zorder=2
                )
            best = own[own["place"] == 1]
            color = PLAIN if variant == baseline else BLUE
            axes.plot(best["epoch"], best["valid_score"], color=color, linewidth=1.3, zorder=3)
            at = best[best["epoch"] == best["best_epoch"]]
            axes.plot(at["epoch"], at["valid_score"], "o", color=color, markersize=3, zorder=4)
            axes.set_title(f"{variant} (n = {own['place'].nunique()})", pad=4)
            axes.set_ylim(*style.margin(low, high))
        for axes in grid.flat[len(variants) :]:
            axes.set_visible(False)
        for column in range(columns):
            last = max(row for row in range(rows) if row * columns + column < len(variants))
            grid[last, column].set_xlabel("epoch")
            grid[last, column].tick_params(labelbottom=True)
        style.whole_ticks(grid[0, 0].xaxis)
        figure.supylabel(style.lines(f"validation {label}", style.room(4.2 * rows)), fontsize=7)
    return figure


def draw_expected(expected: pd.DataFrame, label: str, baseline: str) -> Figure:
    """Expected test score of the best of n trials, against n and against training time, with bands.

    Args:
        expected: as of `summaries.expected_best`.
        label: of the score axis, with its unit.
        baseline: drawn in black, its band darker than the others'.
    """
    variants = list(dict.fromkeys(expected["variant"].astype(str)))
    looks = style.series(variants, baseline)
    unit, size = style.time_unit(expected["seconds"])
    with matplotlib.rc_context(STYLE):
        figure = style.new(WIDTH, 7.4)
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, column, scale in ((left, "n", 1.0), (right, "seconds", size)):
            for variant in variants:
                curve = expected[expected["variant"] == variant]
                look = looks[variant]
                x = curve[column] / scale
                first = variant == baseline
                axes.fill_between(
                    x, curve["low"], curve["high"], color=look["color"], alpha=0.16 if first else 0.07, linewidth=0
                )
                mark = look["marker"] if len(curve) == 1 else ""
                axes.plot(
                    x,
                    curve["mean"],
                    color=look["color"],
                    linestyle=look["linestyle"],
                    marker=mark,
                    markersize=3,
                    label=variant,
                    zorder=3 if first else 2,
                )
            style.log_axis(axes, whole=column == "n")
        left.set_ylim(*limits_of_expected(expected))
        left.set_xlabel("trials")
        right.set_xlabel(f"training time [{unit}]")
        left.set_ylabel(style.lines(f"expected best {label}", 40))
        style.legend(figure, handles(left))
    return figure


def draw_trade_off(points: pd.DataFrame, cost: str, label: str, baseline: str) -> Figure:
    """Test score of every finished trial against a cost, one column wide, with the Pareto front of all variants.

    Args:
        points: as of `summaries.trade_off`.
        cost: ``n_parameters`` or ``train_seconds``.
        label: of the score axis, with its unit.
        baseline: drawn in black.
    """
    variants = list(dict.fromkeys(points["variant"].astype(str)))
    looks = style.series(variants, baseline)
    unit, size = style.time_unit(points[cost]) if cost == "train_seconds" else ("", 1.0)
    limit = points["limit"].iloc[0]
    many = len(points) > 400
    with matplotlib.rc_context(STYLE):
        figure = style.new(COLUMN, 8.4)
        axes = figure.subplots()
        for variant in variants:
            own = points[points["variant"] == variant]
            axes.plot(
                own[cost] / size,
                own["test_score"],
                looks[variant]["marker"],
                color=looks[variant]["color"],
                markersize=1.8 if many else 3,
                markeredgewidth=0,
                alpha=0.55 if many else 0.8,
                label=variant,
                rasterized=len(points) > RASTERISED,
            )
        front = points[points["front"]].sort_values(cost)
        end = points[cost].max() / size
        x, y = front[cost].to_numpy() / size, front["test_score"].to_numpy()
        axes.step(np.append(x, end), np.append(y, y[-1]), where="post", color=PLAIN, linewidth=0.9, zorder=3)
        axes.plot(x, y, "o", markersize=4, markerfacecolor="none", markeredgecolor=PLAIN, markeredgewidth=0.8, zorder=4)
        style.log_axis(axes)
        low = points["test_score"].min()
        axes.set_ylim(*style.margin(low, limit))
        beyond = int((points["test_score"] > limit).sum())
        if beyond:
            axes.text(
                0.99, 0.995, f"{beyond} above", transform=axes.transAxes, ha="right", va="top", color=GREY, size=6
            )
        axes.set_xlabel(f"{LABELS[cost]} [{unit}]" if unit else LABELS[cost])
        axes.set_ylabel(style.lines(label))
        style.legend(figure, handles(axes), columns=5)
    return figure


def handles(axes: Axes) -> dict[str, Any]:
    """The entries of a legend, by text, as of `style.legend`."""
    found, texts = axes.get_legend_handles_labels()
    return dict(zip(texts, found, strict=True))


def _fence(values: pd.Series) -> float:
    q1, q3 = values.quantile([0.25, 0.75])
    return float(min(values.max(), q3 + 6 * (q3 - q1)))  # a learning curve begins high


def limits_of_expected(expected: pd.DataFrame) -> list[float]:
    """The score axis of the frame of `summaries.expected_best`."""
    return style.margin(_lower_end(expected), expected["limit"].iloc[0])


def _lower_end(expected: pd.DataFrame) -> float:
    """Where the axis of expected scores ends: with the bands, unless they are much wider than the curves are high."""
    seen = expected[expected["mean"] <= expected["limit"]]
    least, height = seen["mean"].min(), np.ptp(seen["mean"])
    return float(max(seen["low"].fillna(seen["mean"]).min(), least - (height / 2 or np.inf)))


def _draw_panel(axes: Axes, boxes: pd.DataFrame, points: pd.DataFrame, label: str, rasterized: bool) -> None:
    drawn = boxes.reset_index(drop=True)
    places = np.arange(len(drawn))
    room = max(0, 5 - len(drawn)) / 2
    axes.set_xlim(-0.6 - room, len(drawn) - 0.4 + room)

    bars = axes.twinx()
    bars.bar(places, drawn["n_parameters"].fillna(0) / 1000, width=0.84, color=BAR, linewidth=0)
    bars.set_ylim(0, 1.15 * max(drawn["n_parameters"].max() / 1000, 1e-3) if drawn["n_parameters"].notna().any() else 1)
    bars.set_ylabel("parameters, best 10 % (thousands)", color=GREY)
    bars.tick_params(colors=GREY, length=2)
    bars.spines["right"].set_visible(True)
    axes.set_zorder(bars.get_zorder() + 1)
    axes.patch.set_visible(False)

    for place, (_, row) in enumerate(drawn.iterrows()):
        if row["n"]:
            own = points[(points["variant"] == row["variant"]) & (points["test_score"] <= row["limit"])]
            _draw_points(axes, place, own, rasterized)
            _draw_box(axes, place, row)
        n = f"{row['n']:d}"
        axes.text(place, 1.015, n, transform=axes.get_xaxis_transform(), ha="center", fontsize=6, color=GREY)
    axes.text(-0.005, 1.015, "n", transform=axes.transAxes, ha="right", fontsize=6, color=GREY, style="italic")

    with_data = drawn[drawn["n"] > 0]
    if len(with_data):
        low, high = with_data["low"].min(), with_data["limit"].iloc[0]
        ends = style.margin(low, high, 0.06)
        axes.set_ylim(ends[0], high if drawn["n_beyond"].any() else ends[1])
    else:
        axes.set_yticks([])
    axes.set_ylabel(style.lines(label))
    axes.set_xticks(
        places,
        drawn["variant"].astype(str),
        **style.slant(drawn["variant"].astype(str).tolist(), len(drawn) + 2 * room),
    )
    axes.tick_params(length=2)


def _draw_points(axes: Axes, place: float, points: pd.DataFrame, rasterized: bool) -> None:
    fractions = points["trial"].to_numpy(float) * GOLDEN % 1  # evenly spread, however many there are
    many = len(points) > 40
    axes.plot(
        place + HALF * (2 * fractions - 1) * 0.9,
        points["test_score"],
        ".",
        color=PLAIN,
        markersize=2.8 if many else 4.4,
        markeredgewidth=0,
        alpha=0.3 if many else 0.45,
        zorder=1,
        rasterized=rasterized,
    )


def _draw_box(axes: Axes, place: float, row: pd.Series) -> None:
    color, width = (BLUE, 1.6) if row["significant"] else (PLAIN, 0.8)
    line = {"color": color, "linewidth": width, "solid_capstyle": "butt"}
    axes.bxp(
        [
            {
                "med": row["median"],
                "q1": row["q1"],
                "q3": row["q3"],
                "whislo": row["low"],
                "whishi": row["high"],
                "mean": row["mean"],
            }
        ],
        positions=[place],
        widths=2 * HALF,
        showmeans=True,
        showfliers=False,
        manage_ticks=False,
        boxprops=line,
        whiskerprops=line,
        medianprops=line,
        capprops=line,
        meanprops={
            "marker": "o",
            "markersize": 3.4,
            "markerfacecolor": color,
            "markeredgecolor": "white",
            "markeredgewidth": 0.5,
        },
    )
    if row["n_beyond"]:
        draw_beyond(axes, place, row["limit"], row["n_beyond"], color)


def draw_beyond(axes: Axes, place: float, limit: float, count: int, color: str) -> None:
    """A triangle at the end of the axis, and how many scores are beyond it."""
    below = ScaledTranslation(0, -2.5 / 72, axes.figure.dpi_scale_trans)
    axes.plot(place, limit, "^", color=color, markersize=5, markeredgewidth=0, transform=axes.transData + below)
    axes.annotate(
        f"{count:d}", (place, limit), (6, -0.5), textcoords="offset points", va="top", fontsize=6, color=color
    )
