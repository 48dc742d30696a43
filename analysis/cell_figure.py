"""The figure of a cell's card."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from analysis import style
from analysis.style import BLUE, COLUMN, STYLE


def draw_gradient(title: str, norms: np.ndarray) -> Figure:
    """The norm of the gradient by the number of steps, median and middle half.

    Args:
        title: of the figure.
        norms: as `analysis.cell_card.gradient_norms` gives them.
    """
    low, middle, high = np.quantile(norms, (0.25, 0.5, 0.75), axis=0)
    with matplotlib.rc_context(STYLE):
        figure = style.new(COLUMN, 5.0)
        axes = figure.subplots()
        steps = np.arange(len(middle))
        axes.fill_between(steps, low, high, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(steps, middle, color=BLUE)
        if low.min() > 0:
            style.log_axis(axes, "y")
            if low.min() < 1e-6 * high.max():  # too many powers of ten for ticks between them
                axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlim(0, steps[-1])
        axes.set_xlabel("steps from the input to y")
        axes.set_ylabel("norm of the gradient")
        axes.set_title(title)
    return figure
