"""A figure of the page: a Vega-Lite specification, and the frames that it draws.

Specifications are written down as what they are, mappings. Altair would make the same ones, checking and copying each
part: of a comparison that is more than half a second, which a control would be late by. The tests hold all of them
against Vega-Lite's schema, which Altair brings.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import style
from analysis.style import MUTED

INK, BLUE, GREY, RULE, BAND = "#222222", "#0072b2", "#666666", "#b8b8b8", "#e3e3e3"
# Paul Tol's muted colours as in print, without what is too pale on white; in the dark each becomes the lighter one.
SERIES = (*MUTED[:3], "#b8860b", "#2f8fbd", *MUTED[5:7], "#80801f", MUTED[8])
DARK = {
    INK: "#ececec",
    BLUE: "#56b4e9",
    GREY: "#a8a8a8",
    RULE: "#5a5a5a",
    BAND: "#3a3a3a",
    "#332288": "#9a8cf0",
    "#cc6677": "#e5899a",
    "#117733": "#4fb873",
    "#b8860b": "#ddaa33",
    "#2f8fbd": "#88ccee",
    "#882255": "#d66ba0",
    "#44aa99": "#5fc9b7",
    "#80801f": "#b8b84f",
    "#aa4499": "#d584c8",
    "#ffffff": "#17181a",
}
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "triangle-left", "triangle-right")
# Characters of a line of a title, for which there is room beside the lowest panels and on a page of 400 pixels.
TITLES = {"x": 44, "y": 32, "color": 32}
EXACT = 2**53  # beyond it JavaScript rounds whole numbers, as those of seeds
CONFIG: Any = {
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    "background": "#ffffff",
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "domainColor": GREY,
        "tickColor": GREY,
        "gridColor": BAND,
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 160,
    },
    "legend": {"labelColor": INK, "titleColor": INK, "orient": "bottom", "columns": 4, "labelFontSize": 11},
    "text": {"color": INK},
    "mark": {"aria": False},  # a text for each point, by interpreted expressions; a figure is described as a whole
}


@dataclass(frozen=True)
class Figure:
    """A chart with what it draws; in Jupyter its last line shows it.

    Attributes:
        name: of its files.
        title: short.
        caption: what it shows and how to read it, also for who cannot see it.
        chart: the specification, in light colours, in which data have the names that they have in `data`.
        data: the frames; each row is a mark.
    """

    name: str
    title: str
    caption: str
    chart: Mapping[str, Any]
    data: Mapping[str, pd.DataFrame]

    @property
    def spec(self) -> dict[str, Any]:
        """The Vega-Lite specification without data."""
        return {
            **self.chart,
            "width": "container",
            "autosize": {"type": "fit-x", "contains": "padding"},
            "config": CONFIG,
        }

    def payload(self) -> dict[str, Any]:
        """As JSON: name, title, caption, spec, data by name and column."""
        data = {name: columns(frame) for name, frame in self.data.items()}
        return {"name": self.name, "title": self.title, "caption": self.caption, "spec": self.spec, "data": data}

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        datasets = {name: frame.pipe(_plain).to_dict("records") for name, frame in self.data.items()}
        spec = {**self.spec, "width": 640, "datasets": datasets, "title": self.title}
        return {"application/vnd.vegalite.v6+json": spec, "text/plain": f"{self.title}. {self.caption}"}


def columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """A frame as JSON by column: what is missing or not finite is None."""
    return {str(name): values(frame[name]) for name in frame}


def values(column: pd.Series) -> list[Any]:
    """A column as JSON: numbers, texts and None."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return [None if pd.isna(time) else time.isoformat(timespec="seconds") for time in column]
    if column.dtype.kind == "f":
        return [x if math.isfinite(x) else None for x in column.tolist()]
    if isinstance(column.dtype, pd.CategoricalDtype):
        known = [*map(plain, column.cat.categories), None]  # the last is of what is missing, whose code is -1
        return [known[code] for code in column.cat.codes]
    if column.dtype == np.int64 and (np.abs(column.to_numpy()) <= EXACT).all():
        return column.tolist()
    return [plain(value) for value in column.tolist()]


def plain(value: Any) -> Any:
    """One value as JSON."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= EXACT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if value is pd.NA or value is pd.NaT else str(value)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(columns(frame)).astype(object)


def drawn_from(name: str, mark: str | Mapping[str, Any], **encoding: Any) -> dict[str, Any]:
    """A layer that draws the rows of the frame of that name."""
    for channel, width in TITLES.items():
        if title := encoding.get(channel, {}).get("title"):
            encoding[channel] = {**encoding[channel], "title": style.lines(title, width).split("\n")}
    return {"data": {"name": name}, "mark": mark, "encoding": encoding}


def number(field: str, title: str | None = None, log: bool = False, domain: Sequence[Any] = (), **more: Any) -> Any:
    """The encoding of a number; its axis ends where the data or the `domain` do."""
    scale: dict[str, Any] = {"nice": False} | ({"type": "log"} if log else {"zero": False})
    scale |= {"domain": list(domain)} if len(domain) else {}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, **more}


def movable(ends: Sequence[float]) -> tuple[list[Any], list[dict[str, Any]]]:
    """The domain of an axis, and the parameters that hold its ends: a figure that differs from one on the page in its
    data and such ends alone is not drawn anew."""
    names = ("low", "high")
    values_ = [{"name": name, "value": end} for name, end in zip(names, ends, strict=True)]
    return [{"expr": name} for name in names], values_


def text(field: str, title: str | None = None, sort: Sequence[Any] | None = None, **more: Any) -> Any:
    """The encoding of a text, in an order."""
    return {"field": field, "type": "nominal", "title": title, "sort": None if sort is None else list(sort), **more}


def by_side(variants: Sequence[str]) -> Any:
    """The encoding of the variant along the axis below."""
    return text("variant", sort=variants, axis={"labelAngle": -40, "domain": False, "ticks": False})


def jitter(numbers: pd.Series) -> pd.Series:
    """Places from -0.5 to 0.5 for points beside each other: of the same number always the same."""
    return (numbers.astype("int64") * 0.618034) % 1 - 0.5


BESIDE = {"field": "jitter", "type": "quantitative", "scale": {"domain": [-0.9, 0.9]}}  # the encoding of such places
ABOVE = {"type": "text", "baseline": "bottom", "fontSize": 10, "color": GREY, "dy": -4}  # the mark of a text up there


def either(test: str, yes: str, no: str) -> Any:
    """The encoding of one of two colours."""
    return {"condition": {"test": test, "value": yes}, "value": no}


EPOCH = number("epoch", "epoch", axis={"tickMinStep": 1, "format": "d"})


def by_variant(variants: Sequence[Any], baseline: str) -> tuple[Any, Any]:
    """Encodings of the variant as colour and as shape: the baseline in ink, the others each their own."""
    names = [str(variant) for variant in variants]
    others = [variant for variant in names if variant != baseline]
    colours = {baseline: INK} | {v: SERIES[i % len(SERIES)] for i, v in enumerate(others)}
    shapes = {baseline: SHAPES[0]} | {v: SHAPES[(i + 1) % len(SHAPES)] for i, v in enumerate(others)}
    own = text("variant", sort=names, legend={"symbolOpacity": 1})  # also where a band, which is pale, is in its colour
    colour, shape = ({**own, "scale": {"domain": names, "range": [of[v] for v in names]}} for of in (colours, shapes))
    return colour, shape
