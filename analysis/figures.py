"""Figures of frames that `compare` computed. Nothing is computed here but places on the page."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import IO, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

CM = 1 / 2.54
WIDTH = 18.0  # cm, the text width of an A4 page
PLAIN, BLUE, GREY, BAR = "#222222", "#0072b2", "#666666", "#e3e3e3"

STYLE: Any = {
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "text.parse_math": False,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,
    "svg.hashsalt": "odyssey",
}
PANELS = {"all": "all finished trials", "best": "best 10 %"}


def draw_boxes(boxes: pd.DataFrame, labels: Mapping[str, str], note: str = "") -> Figure:
    """The box plots of PROTOCOL section 5.1, 18 cm wide: a row a task, all trials on the left, the best 10 % right.

    Box 25th to 75th percentile, whiskers the whole range, a line for the median, a dot for the mean; a grey bar behind
    for the mean parameter count of the best 10 %; significant variants in blue with thick lines.

    Args:
        boxes: as of `analysis.compare.boxes`.
        labels: the score axis of each task, with its unit.
        note: text under the panels.
    """
    tasks = list(dict.fromkeys(boxes["task"]))
    lines = textwrap.wrap(note, 155)
    foot = 0.15 + 0.29 * len(lines)
    height = 6.2 * len(tasks) + foot
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * CM, height * CM))
        figure.set_layout_engine("constrained", rect=(0, foot / height, 1, 1 - foot / height), wspace=0.04, hspace=0.06)
        grid = figure.subplots(len(tasks), len(PANELS), squeeze=False)
        for row, task in zip(grid, tasks, strict=True):
            for axes, (panel, title) in zip(row, PANELS.items(), strict=True):
                drawn = boxes[(boxes["task"] == task) & (boxes["panel"] == panel)]
                _draw_panel(axes, drawn, labels[task])
                axes.set_title(f"{task}: {title}", loc="left", pad=14, fontweight="bold")
        figure.text(0.012, (foot - 0.05) / height, "\n".join(lines), va="top", fontsize=6, color=GREY, linespacing=1.35)
    return figure


def save(figure: Figure, target: IO[bytes], kind: str) -> None:
    """Writes `figure` to the file object `target` as png (200 dpi), pdf or svg; the same figure is the same bytes."""
    undated = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with matplotlib.rc_context(STYLE):
        figure.savefig(target, format=kind, dpi=200, metadata=undated[kind])


def _draw_panel(axes: Axes, boxes: pd.DataFrame, label: str) -> None:
    drawn = boxes.reset_index(drop=True)
    places = np.arange(len(drawn))
    room = max(0, 5 - len(drawn)) / 2
    axes.set_xlim(-0.6 - room, len(drawn) - 0.4 + room)

    bars = axes.twinx()
    bars.bar(places, drawn["n_parameters"].fillna(0) / 1000, width=0.84, color=BAR, linewidth=0)
    bars.set_ylim(0, 1.15 * max(drawn["n_parameters"].max() / 1000, 1e-3) if drawn["n_parameters"].notna().any() else 1)
    bars.set_ylabel("parameters, best 10 % (thousands)", color=GREY)
    bars.tick_params(colors=GREY, length=2)
    axes.set_zorder(bars.get_zorder() + 1)
    axes.patch.set_visible(False)

    for place, (_, row) in enumerate(drawn.iterrows()):
        if row["n"]:
            _draw_box(axes, place, row)
        n = f"{row['n']:d}"
        axes.text(place, 1.015, n, transform=axes.get_xaxis_transform(), ha="center", fontsize=6, color=GREY)
    axes.text(-0.005, 1.015, "n", transform=axes.transAxes, ha="right", fontsize=6, color=GREY, style="italic")

    with_data = drawn[drawn["n"] > 0]
    if len(with_data):
        low, high = with_data["low"].min(), with_data["limit"].iloc[0]
        margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + (0 if drawn["n_beyond"].any() else margin))
    else:
        axes.set_yticks([])
    axes.set_ylabel(_lines(label))
    axes.set_xticks(
        places, drawn["variant"].astype(str), **_slant(drawn["variant"].astype(str).tolist(), len(drawn) + 2 * room)
    )
    axes.tick_params(length=2)


def _draw_box(axes: Axes, place: float, row: pd.Series) -> None:
    color, width = (BLUE, 1.6) if row["significant"] else (PLAIN, 0.8)
    line = {"color": color, "linewidth": width, "solid_capstyle": "butt"}
    half = 0.26
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
        widths=2 * half,
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
        below = ScaledTranslation(0, -2.5 / 72, axes.figure.dpi_scale_trans)
        axes.plot(
            place, row["limit"], "^", color=color, markersize=5, markeredgewidth=0, transform=axes.transData + below
        )
        axes.annotate(
            f"{row['n_beyond']:d}",
            (place, row["limit"]),
            (9, -0.5),
            textcoords="offset points",
            va="top",
            fontsize=6,
            color=color,
        )


def _lines(label: str) -> str:
    """A long label in lines, its [unit] on one of its own."""
    if len(label) <= 36:
        return label
    name, bracket, unit = label.partition(" [")
    return "\n".join(textwrap.wrap(name, 36) + ([f"[{unit}"] if bracket else []))


def _slant(labels: Sequence[str], slots: float) -> dict[str, Any]:
    """Tick labels lie flat where neighbours leave room, estimated at 6.5 pt in a panel of 6.2 cm."""
    slot = 6.2 * CM * 72 / slots
    widths = [0.58 * 6.5 * len(label) for label in labels]
    pairs = zip(widths, [*widths[1:], 0.0], strict=True)
    if all((a + b) / 2 + 2 < slot for a, b in pairs):
        return {}
    return {"rotation": 45, "rotation_mode": "anchor", "ha": "right", "va": "center"}
