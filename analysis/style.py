"""How every figure looks: sizes, type, colours, axes; and how it becomes a file."""

import io
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from fontTools import subset
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from analysis import forked

CM = 1 / 2.54
COLUMN, WIDTH = 9.0, 18.0  # cm: one column of a journal, and the text width of an A4 page
PLAIN, BLUE, GREY, BAR, RULE = "#222222", "#0072b2", "#666666", "#e3e3e3", "#b8b8b8"
# Paul Tol's "muted" scheme, made for colour-blind readers; with dashes and markers, so that grey print works too.
MUTED = ("#332288", "#cc6677", "#117733", "#ddaa33", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499")
DASHES: Any = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
MARKERS = "osD^vPX<>"
CANVASES = {"png": FigureCanvasAgg, "pdf": FigureCanvasPdf, "svg": FigureCanvasSVG}
KINDS, DPI = tuple(CANVASES), 200
Draw = Callable[[], Figure]
# A PDF places its glyphs one by one. What fonts say of placing them is of no use in it, and is most of a subset's time.
subset.Options._drop_tables_default += ["GDEF", "GPOS", "GSUB", "MATH", "kern"]

STYLE: Any = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelpad": 2.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "text.parse_math": False,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "odyssey",
}
# Settings are called what one types, in text as on axes; units where there are any.
LABELS = {
    "hidden_size": "hidden_size [units]",
    "input_noise": "input_noise [std. dev.]",
    "n_parameters": "trained parameters",
    "train_seconds": "training time",
}
TIME_UNITS = (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))


@dataclass(frozen=True)
class Dimension:
    """How a sampled setting is drawn: on the scale it was sampled on.

    Attributes:
        name: of the setting.
        label: of its axis.
        log: whether the axis is logarithmic.
        complement: whether 1 less the value is drawn.
        whole: whether it is a whole number.
        values: of a categorical setting, in order.
    """

    name: str
    label: str
    log: bool = False
    complement: bool = False
    whole: bool = False
    values: tuple[str, ...] = ()

    @staticmethod
    def of(name: str, space: Mapping[str, Mapping[str, Any]]) -> "Dimension":
        """From the definition of a search space, as of a plan."""
        spec = space.get(name, {})
        distribution = str(spec.get("distribution", ""))
        label = LABELS.get(name, name)
        if distribution == "one_minus_log_uniform":
            return Dimension(name, f"1 \N{MINUS SIGN} {label}", log=True, complement=True)
        if distribution == "choice":
            return Dimension(name, label, values=tuple(str(value) for value in spec["values"]))
        return Dimension(name, label, log="log" in distribution, whole=distribution.endswith("_int"))

    def places(self, values: Any) -> NDArray[np.float64]:
        """Where on the axis `values` are drawn."""
        if self.values:
            return np.array([self.values.index(str(value)) for value in values], dtype=float)
        array = np.asarray(values, dtype=float)
        return 1 - array if self.complement else array

    def dress(self, axes: Axes, which: str = "x") -> None:
        """Gives one axis of a panel its label, scale and ticks."""
        (axes.set_xlabel if which == "x" else axes.set_ylabel)(self.label)
        if self.values:
            (axes.set_xticks if which == "x" else axes.set_yticks)(range(len(self.values)), self.values)
        elif self.log:
            log_axis(axes, which, whole=self.whole)


def new(width: float, height: float) -> Figure:
    """An empty figure of a size in cm, laid out so that nothing overlaps or is clipped."""
    figure = Figure(figsize=(width * CM, height * CM))
    figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.04, wspace=0.03, hspace=0.04)
    return figure


def files(figure: Figure, kinds: Sequence[str] = KINDS) -> dict[str, bytes]:
    """The figure as png (200 dpi), pdf and svg, by these names; the same figure is the same bytes."""
    undated: Mapping[str, Any] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None, "Creator": None}}
    contents = {}
    with matplotlib.rc_context(STYLE):
        lay_out(figure)
        for kind in kinds:
            buffer = io.BytesIO()
            figure.dpi = DPI  # print_pdf and print_svg leave another
            # Not savefig, which draws twice: once to lay out what is laid out.
            getattr(CANVASES[kind](figure), f"print_{kind}")(buffer, metadata=undated[kind])
            contents[kind] = buffer.getvalue()
    return contents


def lay_out(figure: Figure) -> None:
    """Gives all that is in the figure its place, for good."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")


def drawn(figures: Mapping[str, Draw]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Of each of the figures, which are yet to be drawn, its name and its `files`, in order.

    They are being drawn once this returns, as many at a time as there are cores, whatever goes on meanwhile.
    """
    processes = min(len(figures), len(os.sched_getaffinity(0)))
    if processes < 2:
        return ((name, files(draw())) for name, draw in figures.items())
    pool = forked.pool(processes, _inherit, figures)  # what runs there is drawing alone
    made = pool.map(_files_of, figures)
    pool.shutdown(wait=False)
    return zip(figures, made, strict=True)


_inherited: Mapping[str, Draw] = {}


def _inherit(figures: Mapping[str, Draw]) -> None:
    global _inherited
    _inherited = figures


def _files_of(name: str) -> dict[str, bytes]:
    return files(_inherited[name]())


def series(variants: Sequence[str], baseline: str) -> dict[str, dict[str, Any]]:
    """Colour, dashes and marker of each variant: black for the baseline, distinct for the others."""
    looks = {}
    others = [variant for variant in variants if variant != baseline]
    for place, variant in enumerate(others):
        dashes = DASHES[(place + place // len(MUTED)) % len(DASHES)]
        marker = MARKERS[(place + place // len(MUTED)) % len(MARKERS)]
        looks[variant] = {"color": MUTED[place % len(MUTED)], "linestyle": dashes, "marker": marker}
    return {baseline: {"color": "#000000", "linestyle": "-", "marker": "o"}} | looks


def log_axis(axes: Axes, which: str = "x", bounds: tuple[float, float] | None = None, whole: bool = False) -> None:
    """A logarithmic axis whose ticks are numbers, in powers of ten where those are too long.

    Args:
        axes: of a panel in which everything is drawn.
        which: x or y.
        bounds: of the axis; by default the data's, with a margin.
        whole: whether only whole numbers are ticks.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = bounds or axis.get_data_interval()
    if bounds:
        (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    decades = np.log10(high / low) if low > 0 and high > low else 0.0
    subs = (1.0, 2.0, 5.0) if 0.8 <= decades < 1.9 else (1.0,) if decades > 1 else (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    powers = decades >= 1.9 and (low < 1e-3 or high >= 1e6)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_minor_locator(LogLocator(subs=np.arange(1.0, 10.0).tolist(), numticks=99))
    axis.set_major_formatter(FuncFormatter(lambda x, _: "" if whole and x % 1 else number(x, powers)))
    axis.set_minor_formatter(NullFormatter())


def whole_ticks(axis: Axis) -> None:
    """Ticks at whole numbers alone, of a linear axis."""
    axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))


def margin(low: float, high: float, share: float = 0.05) -> list[float]:
    """The ends of an axis with room beyond what it shows, in shares of that."""
    room = share * (high - low) or 0.05 * abs(high) or 1.0
    return [float(low - room), float(high + room)]


def legend(figure: Figure, handles: Mapping[str, Any], columns: int = 9) -> None:
    """A legend under the panels, if there is more than one entry, in rows of equal length.

    Args:
        figure: to be labelled.
        handles: by text.
        columns: the most that stand beside each other, where texts are short.
    """
    if len(handles) > 1:
        columns = max(1, min(columns, len(handles), int(columns * 9 / (3 + max(map(len, handles))))))
        columns = -(-len(handles) // -(-len(handles) // columns))
        made = figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=columns, handlelength=2.4
        )
        for handle in made.legend_handles:
            if handle is not None:
                handle.set_alpha(1)
                getattr(handle, "set_markersize", lambda size: None)(3.5)


def number(x: float, powers: bool = False) -> str:
    """A tick's number: plain between 0.001 and a million, otherwise, or if `powers`, as a power of ten."""
    if x == 0 or (1e-3 <= abs(x) < 1e6 and not powers):
        return f"{x:,.10g}"
    exponent = int(np.floor(np.log10(abs(x)) + 1e-9))
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    mantissa = x / 10.0**exponent
    return f"10{digits}" if abs(mantissa - 1) < 1e-6 else f"{mantissa:g}·10{digits}"


def time_unit(seconds: ArrayLike) -> tuple[str, float]:
    """The unit, and how many seconds it has, in which the longest of `seconds` is at least 2, or seconds."""
    array = np.asarray(seconds, dtype=float)
    longest = float(np.max(array[np.isfinite(array)], initial=0.0))
    return next(((unit, size) for unit, size in TIME_UNITS if longest >= 2 * size), TIME_UNITS[-1])


def room(length: float) -> int:
    """Characters of 7 pt that have room on `length` cm."""
    return int(length / 0.14)


def lines(label: str, width: int = 36) -> str:
    """A long label in lines, its [unit] on one of its own."""
    if len(label) <= width:
        return label
    name, bracket, unit = label.partition(" [")
    return "\n".join([*textwrap.wrap(name, width, break_on_hyphens=False), *([f"[{unit}"] if bracket else [])])


def slant(labels: Sequence[str], slots: float, width: float = 6.2) -> dict[str, Any]:
    """Tick labels lie flat where neighbours leave room, estimated at 6.5 pt in a panel of `width` cm."""
    slot = width * CM * 72 / slots
    widths = [0.58 * 6.5 * len(label) for label in labels]
    pairs = zip(widths, [*widths[1:], 0.0], strict=True)
    if all((a + b) / 2 + 2 < slot for a, b in pairs):
        return {}
    return {"rotation": 45, "rotation_mode": "anchor", "ha": "right", "va": "center"}
