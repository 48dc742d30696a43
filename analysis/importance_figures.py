"""Figures of functional ANOVA, from the frames of `analysis.importance`. Nothing is computed here but places."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis import stats, style
from analysis.importance import NAMES
from analysis.style import BLUE, COLUMN, GREY, LABELS, MUTED, PLAIN, STYLE, WIDTH, Dimension

Space = Mapping[str, Mapping[str, Any]]
PAIRS, HIGHER = "#8c8c8c", "#d9d9d9"
MOST = 12  # rows of the architecture's panels


def draw_marginals(marginals: pd.DataFrame, space: Space, label: str, baseline: str) -> Figure:
    """Predicted score and training time against each setting, averaged over all others, with bands.

    Args:
        marginals: rows of `Importance.marginals` of one variant or of several, which are overlaid.
        space: of the plan, for scales.
        label: of the score axis, with its unit.
        baseline: drawn in black; its band, one sd over the trees, is darker than the others'.
    """
    variants = list(dict.fromkeys(marginals["variant"].astype(str)))
    names = list(dict.fromkeys(marginals["dimension"]))
    scores = list(dict.fromkeys(marginals["score"]))
    looks = style.series(variants, baseline)
    columns = min(4, len(names))
    deep = -(-len(names) // columns)
    with matplotlib.rc_context(STYLE):
        figure = style.new(
            COLUMN if columns < 3 else WIDTH, 4.4 * deep * len(scores) + (0.9 if len(variants) > 1 else 0)
        )
        grid = figure.subplots(deep * len(scores), columns, squeeze=False)
        for block, score in enumerate(scores):
            of_score = marginals[marginals["score"] == score]
            unit, size = style.time_unit(of_score["mean"]) if score == "train_seconds" else ("", 1.0)
            panels = grid[block * deep : (block + 1) * deep].ravel()
            far = _far(of_score) if score != "train_seconds" else []
            quickest, longest = of_score["mean"].min(), (of_score["mean"] + of_score["sd"]).max()
            for place, axes in enumerate(panels):
                if place >= len(names):
                    axes.set_visible(False)
                    continue
                own = of_score[of_score["dimension"] == names[place]]
                _draw_marginal(axes, own, Dimension.of(names[place], space), looks, baseline, size)
                if score == "train_seconds":
                    style.log_axis(axes, "y", bounds=(quickest / 1.15 / size, longest * 1.15 / size))
                else:
                    axes.set_ylim(*_limits(of_score[~of_score["variant"].isin(far)]))
                if far and not place:
                    text = style.lines(f"above the axis: {', '.join(far)}", 22)
                    axes.text(0.97, 0.98, text, transform=axes.transAxes, ha="right", va="top", color=GREY, size=6)
                if place % columns:
                    axes.tick_params(labelleft=False)
                else:
                    axes.set_ylabel(f"{LABELS[score]} [{unit}]" if unit else style.lines(label, 30))
        if len(variants) > 1:
            found = {
                text: handle
                for axes in grid.flat
                for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
            }
            style.legend(figure, {variant: found[variant] for variant in variants})
    return figure


def draw_shares(shares: pd.DataFrame) -> Figure:
    """Shares of the variance of score and time as stacked bars, a bar a variant: single settings, pairs, higher orders.

    Args:
        shares: as of `Importance.shares`.
    """
    of_one = shares[shares["order"] == 1]
    of_one = of_one[of_one["score"] == of_one["score"].iloc[0]].groupby("dimensions", sort=False)["mean"].mean()
    singles = list(of_one.sort_values(ascending=False).index)
    colors = {name: MUTED[place % len(MUTED)] for place, name in enumerate(singles)}
    variants = list(dict.fromkeys(shares["variant"].astype(str)))
    scores = list(dict.fromkeys(shares["score"]))
    with matplotlib.rc_context(STYLE):
        figure = style.new(WIDTH if len(scores) > 1 else COLUMN, 0.55 * len(variants) + 2.6)
        panels = figure.subplots(1, len(scores), squeeze=False, sharey=True)[0]
        for axes, score in zip(panels, scores, strict=True):
            for row, variant in enumerate(variants):
                own = shares[(shares["score"] == score) & (shares["variant"] == variant)]
                if own["mean"].isna().all():
                    reason = "too few trials" if own.empty else "no variance"
                    axes.text(1, row, reason, va="center_baseline", fontsize=6, color=GREY)
                parts = [(own.loc[own["dimensions"] == name, "mean"].sum(), colors[name]) for name in singles]
                parts.append((own.loc[own["order"] == 2, "mean"].sum(), PAIRS))
                parts.append((own.loc[own["order"] > 2, "mean"].sum(), HIGHER))
                start = 0.0
                for share, color in parts:
                    width = 100 * max(0.0, share)
                    axes.barh(row, width, left=start, height=0.72, color=color, linewidth=0)
                    if width >= 7:
                        ink = "white" if _dark(color) else PLAIN
                        at = (start + width / 2, row)
                        axes.text(*at, f"{width:.0f}", color=ink, ha="center", va="center_baseline", fontsize=6)
                    start += width
            axes.set_xlim(0, 100)
            axes.set_yticks(range(len(variants)), variants)
            axes.invert_yaxis() if axes is panels[0] else None
            axes.set_xlabel("share of the variance [%]")
            axes.set_title(NAMES[score])
        names = [_named(name) for name in singles]
        handles = [Patch(color=color) for color in (*colors.values(), PAIRS, HIGHER)]
        names += ["interactions of two", "of three and more"]
        figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)), handlelength=1.1)
    return figure


def draw_architecture(architecture: pd.DataFrame) -> Figure:
    """The largest shares of the variance of the test score over all variants, with one sd over the trees.

    Left the variant as one categorical dimension beside the settings, right its toggles instead.

    Args:
        architecture: as of `Importance.architecture`.
    """
    kinds = list(dict.fromkeys(architecture["by"]))
    with matplotlib.rc_context(STYLE):
        longest = min(MOST, int(architecture.groupby("by").size().max()))
        figure = style.new(WIDTH if len(kinds) > 1 else COLUMN, 0.42 * longest + 2.0)
        for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
            own = architecture[architecture["by"] == kind].nlargest(MOST, "mean").reset_index(drop=True)
            places = np.arange(len(own))
            singles = own["order"] == 1
            for chosen, color, filled in ((singles, BLUE, True), (~singles, GREY, False)):
                axes.errorbar(
                    100 * own["mean"][chosen],
                    places[chosen],
                    xerr=100 * own["sd"][chosen],
                    fmt="o",
                    color=color,
                    markerfacecolor=color if filled else "white",
                    markersize=3.5,
                    elinewidth=0.8,
                )
            axes.set_yticks(places, [_named(name) for name in own["dimensions"]])
            axes.invert_yaxis()
            axes.set_xlim(left=-0.5)
            axes.set_xlabel("share of the variance [%]")
            axes.set_title("variant as one dimension" if kind == "variant" else "toggles as dimensions")
            axes.grid(axis="x", color="#e8e8e8", linewidth=0.5)
            axes.set_axisbelow(True)
    return figure


def draw_surface(surface: pd.DataFrame, space: Space, label: str) -> Figure:
    """The score over learning rate and hidden size: left the total marginal, right the interaction alone.

    Args:
        surface: as of `Importance.surface`.
        space: of the plan, for scales.
        label: of the score, with its unit.
    """
    lr, size = Dimension.of("lr", space), Dimension.of("hidden_size", space)
    grids = {name: surface.pivot(index="hidden_size", columns="lr", values=name) for name in ("mean", "interaction")}
    bound = float(np.abs(grids["interaction"].to_numpy()).max()) or 1.0
    looks: dict[str, dict[str, Any]] = {
        "mean": {"cmap": "viridis_r"},
        "interaction": {"cmap": "PuOr_r", "vmin": -bound, "vmax": bound},
    }
    titles = {"mean": "total marginal", "interaction": "interaction alone"}
    with matplotlib.rc_context(STYLE):
        figure = style.new(WIDTH, 6.6)
        for axes, (name, grid) in zip(figure.subplots(1, 2, sharey=True), grids.items(), strict=True):
            x, y = lr.places(grid.columns), size.places(grid.index)
            drawn = axes.pcolormesh(x, y, grid.to_numpy(dtype=float), shading="nearest", rasterized=True, **looks[name])
            lr.dress(axes)
            if name == "mean":
                size.dress(axes, "y")
            axes.set_title(titles[name])
            bar = figure.colorbar(drawn, ax=axes, aspect=30, pad=0.02)
            bar.outline.set_visible(False)
            bar.set_label(style.lines(label if name == "mean" else f"effect on {label}", 44), fontsize=6.5)
    return figure


def _draw_marginal(
    axes: Axes, own: pd.DataFrame, dimension: Dimension, looks: Mapping[str, dict[str, Any]], baseline: str, size: float
) -> None:
    several = own["variant"].nunique() > 1
    for variant, curve in own.groupby(own["variant"].astype(str), sort=False):
        look, first = looks[str(variant)], variant == baseline or not several
        x = dimension.places(curve["value"].tolist())
        order = np.argsort(x, kind="stable")
        x, mean, sd = x[order], curve["mean"].to_numpy(float)[order] / size, curve["sd"].to_numpy(float)[order] / size
        if dimension.values:
            axes.errorbar(x, mean, yerr=sd, fmt=look["marker"], color=look["color"], markersize=3, label=variant)
            axes.set_xlim(-0.5, len(dimension.values) - 0.5)
            continue
        axes.fill_between(x, mean - sd, mean + sd, color=look["color"], alpha=0.18 if first else 0.05, linewidth=0)
        line = {"color": look["color"], "linestyle": look["linestyle"], "zorder": 3 if first else 2}
        axes.plot(x, mean, label=variant, **line)
        axes.set_xlim(x.min(), x.max())
    dimension.dress(axes)


def _far(of_score: pd.DataFrame) -> list[str]:
    """Variants with far worse scores, which would squeeze the axis: their median is beyond `stats.fence` of the
    medians."""
    medians = of_score.groupby(of_score["variant"].astype(str), sort=False)["mean"].median()
    return list(medians.index[medians > stats.fence(medians)])


def _limits(of_score: pd.DataFrame) -> tuple[float, float]:
    low, high = (of_score["mean"] - of_score["sd"]).min(), (of_score["mean"] + of_score["sd"]).max()
    margin = 0.03 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _named(dimensions: str) -> str:
    return dimensions.replace(" x ", " \N{MULTIPLICATION SIGN} ")


def _dark(color: str) -> bool:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140
