"""Results to tables and figures. Three layers that never mix: load, compute (`stats`, `compare`, `fanova`), draw.

The numbers of ``odyssey report study=mine`` from Python::

    import analysis

    frame = analysis.load("mine")  # a row a trial: settings, scores, times, versions
    plan = analysis.load_plans("mine")["mine"]  # what was to be computed, with the search space
    table = analysis.compare(frame)  # a row a variant: best 10 %, difference from vanilla, p, effect size
    ours = frame[frame["variant"] == "vanilla"]
    forest = analysis.fanova.fit(ours, plan)  # Hutter et al. 2014
    print(forest.shares(), forest.marginal("lr"), forest.interaction("lr", "hidden_size"), *forest.notes, sep="\\n")
    print(analysis.fanova.fit(frame, plan, by="variant").share("variant"))  # against forest.share("lr")
    print(analysis.load_curves("mine"), analysis.report("mine") / "index.html")
    table = analysis.compare(analysis.simulate())  # of a study drawn from a known truth
    analysis.dashboard("mine")  # in a notebook: the page of the study

Every figure of the page is one function of frames in `analysis.dashboard.charts`, ``curve_charts``,
``importance_charts`` and ``evolution_charts``, and shows itself in a notebook.
"""

from analysis import fanova
from analysis.compare import compare, compare_studies
from analysis.dashboard.notebook import dashboard
from analysis.load import load, load_curves, load_plans
from analysis.report import report
from analysis.simulation import simulate

__all__ = [
    "compare",
    "compare_studies",
    "dashboard",
    "fanova",
    "load",
    "load_curves",
    "load_plans",
    "report",
    "simulate",
]
