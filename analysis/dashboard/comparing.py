"""The answers on scores and learning: figures, tables and sentences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from analysis import over_tasks, summaries, table_text, tables, words
from analysis.compare import compare
from analysis.dashboard import beside_charts, charts, curve_charts
from analysis.dashboard.figure import Figure
from analysis.frames import Select, records, scored, variants_of
from analysis.style import Dimension

Curves = Callable[[pd.DataFrame], pd.DataFrame]


def boxed(trials: pd.DataFrame, table: pd.DataFrame, both: pd.DataFrame, label: str) -> list[dict[str, Any]]:
    """The box plots of all trials and of the best, from the rows of `compare` and of `summaries.boxes`."""
    return _payloads(
        [charts.boxes(trials, table, label, "all", both), charts.boxes(trials, table, label, "best", both)]
    )


def compared(
    trials: pd.DataFrame, table: pd.DataFrame, boxes: Sequence[dict[str, Any]], label: str, title: str
) -> dict[str, Any]:
    """Of one study and task: how its variants compare.

    Args:
        trials: as of `analysis.load`.
        table: as of `compare`, of these trials.
        boxes: as of `boxed`.
        label: what the score is, with its unit.
        title: of the part.
    """
    rows = records(table)
    if not scored(trials).any():
        return {"sentences": [words.compared(rows, title, label)], "figures": [], "tables": []}
    drawn = [charts.differences(rows, label)] if any(row["variant"] != row["baseline"] for row in rows) else []
    powers = summaries.power(table)
    drawn += [charts.power(table, powers)] if len(powers) else []
    picked = words.PICKED[rows[0]["select"]]
    note = f"{words.comparison(rows, label)}."
    settings = tables.settings(rows, "settings", "Best settings", f"The trial picked first by {picked}.")
    made = [
        tables.comparison(rows, tables.COMPARISON, "comparison", "Variants", note),
        tables.comparison(rows, tables.COMPARISON_MORE, "comparison_more", "Variants, further columns", ""),
        settings,
    ]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["test"].startswith("not tested"):
            reasons.setdefault(row["test"], []).append(row["variant"])
    untested = [f"N{reason[1:]} ({', '.join(own)})." for reason, own in reasons.items()]
    return {
        "sentences": [words.compared(rows, title, label), *untested],
        "figures": [*boxes, *_payloads(drawn)],
        "tables": [shown(each) for each in made],
    }


def replicated(again: pd.DataFrame, label: str) -> list[dict[str, Any]]:
    """The replicates of the best trials, as of `replicates.of_best`, if any has finished."""
    return _payloads([beside_charts.replicates(again, label)]) if (again["status"] == "finished").any() else []


def ranks(tables: Mapping[str, pd.DataFrame], frames: Sequence[pd.DataFrame], select: Select) -> list[dict[str, Any]]:
    """The critical-difference diagram.

    Args:
        tables: rows of `compare` by task, of the best 10 %.
        frames: the trials of each, in the same order.
        select: as of `compare`.
    """
    drawn = over_tasks.ranks(tables)
    variants = list(dict.fromkeys(drawn["variant"]))
    if len(variants) < 2:
        return []
    pairs = over_tasks.differences(frames, variants, select)
    return _payloads([beside_charts.ranks(drawn, pairs, over_tasks.groups(variants, pairs))])


def costs(trials: pd.DataFrame, label: str, baseline: str) -> list[dict[str, Any]]:
    """Scores against parameters and training time, of the trials of one study and task."""
    return _payloads([charts.trade_off(trials, cost, label, baseline) for cost in ("n_parameters", "train_seconds")])


def filtered(
    trials: pd.DataFrame,
    wanted: Mapping[str, Sequence[Any]],
    space: Mapping[str, Mapping[str, Any]],
    curves: Curves,
    controls: Sequence[Any],
    label: str,
    title: str,
) -> dict[str, Any]:
    """The boxes and curves of the trials whose settings are in ranges, with how many these are.

    Args:
        trials: of one study and task.
        wanted: of settings the lower and the upper end of a range, as their axes show them; or categories, as text.
        space: of the plan, for scales.
        curves: gives those of trials.
        controls: as `compare` takes them: select, adjust, baseline, fraction.
        label: what the score is, with its unit.
        title: of the part.
    """
    inside = pd.Series(True, trials.index)
    said = []
    for name, ends in wanted.items():
        dimension = Dimension.of(name, space)
        label = dimension.label.partition(" [")[0]
        if dimension.values:
            inside &= trials[name].map(str).isin(ends)
            said.append(f"{label} {' or '.join(ends)}")
        else:
            inside &= pd.Series(dimension.places(trials[name].astype(float)), trials.index).between(*ends)
            said.append(f"{label} {ends[0]:.3g} to {ends[1]:.3g}")
    own = trials[inside]
    n = int(scored(own).sum())
    sentence = f"{n} of {int(scored(trials).sum())} finished trials of {title} with {', '.join(said)}." if said else ""
    if not n:
        return {"sentences": [sentence, "None of them finished."], "figures": [], "n": n}
    select, adjust, baseline, fraction = controls
    table = compare(own, select, adjust, baseline, fraction)
    table["significant"] = False  # the range was chosen with the scores in sight, so that a test would mean nothing
    drawn = [charts.boxes(own, table, label, "all")]
    best = summaries.best_curves(own, curves(own[summaries.best_trials(own, select, fraction)]), select, fraction)
    drawn += _panels(best, best, variants_of(own), baseline, label, f"best {100 * fraction:g} % of the range")
    warning = "The range was chosen with the scores in sight: nothing is tested in it."
    return {"sentences": [sentence, warning] if said else [], "figures": _payloads(drawn), "n": n}


def learning_curves(
    trials: pd.DataFrame, curves: Curves, state: str, select: Any, fraction: float, baseline: str, label: str
) -> dict[str, Any]:
    """Learning curves by variant, of the best, of all that finished, or of those that diverged."""
    best = trials[summaries.best_trials(trials, select, fraction)]
    if state == "best":
        chosen, what = best, f"the best {100 * fraction:g} % by {select} score"
    else:
        chosen, what = (
            trials[trials["status"] == state],
            {"finished": "all that finished", "diverged": "that diverged"}[state],
        )
    if state != "best":  # of the rest no more are drawn
        order = chosen.groupby("variant", observed=True)[f"{select}_score"].rank(method="first", na_option="bottom")
        counted = chosen.groupby("variant", observed=True).size()
        chosen = chosen[order <= curve_charts.MOST_CURVES]
        what += (
            f" ({', '.join(f'{variant} {n}' for variant, n in counted.items() if n > curve_charts.MOST_CURVES)} in all)"
            if (counted > curve_charts.MOST_CURVES).any()
            else ""
        )
    ranked = summaries.ranked_curves(chosen, curves(chosen), select) if len(chosen) else None
    dashed = best[best["variant"] == baseline]
    reference = summaries.best_curves(dashed, curves(dashed), select, 1.0) if len(best) else None
    if ranked is None or ranked.empty:
        return {"sentences": [f"There is no learning curve of trials of this kind: {what}."], "figures": []}
    drawn = _panels(ranked, ranked if reference is None else reference, variants_of(trials), baseline, label, what)
    return {"sentences": [], "figures": _payloads(drawn)}


def learning(trials: pd.DataFrame, select: Any, baseline: str, label: str) -> list[dict[str, Any]]:
    """What a search finds against what it costs; nothing if no trial has finished."""
    if not scored(trials).any():
        return []
    expected = summaries.expected_best(trials, select)
    drawn = [
        curve_charts.expected(expected, select, "n", label, baseline),
        curve_charts.expected(expected, select, "seconds", label, baseline),
    ]
    return _payloads(drawn)


def stability(trials: pd.DataFrame, curves: Curves, baseline: str) -> list[dict[str, Any]]:
    """How early the ranks are settled; nothing if no trial that finished has a curve."""
    finished = trials[scored(trials)]
    ranks = summaries.rank_stability(trials, curves(finished)) if len(finished) else finished
    return _payloads([curve_charts.stability(ranks, baseline)]) if len(ranks) else []


def shown(table: table_text.Table) -> dict[str, Any]:
    """A table as JSON."""
    found = asdict(table) | {"marked": sorted(table.marked), "groups": table_text.groups(table.headings)}
    return found | {"numbers": [[table_text.number_of(cell) for cell in row] for row in table.rows]}


def _panels(
    ranked: pd.DataFrame, reference: pd.DataFrame, variants: Sequence[str], baseline: str, label: str, what: str
) -> list[Figure]:
    """A panel a variant, on one axis."""
    first = reference[(reference["variant"] == baseline) & (reference["place"] == 1)]
    ends = curve_charts.curve_ends(ranked)
    panels = []
    for variant in variants:
        own = ranked[ranked["variant"] == variant]
        if len(own):
            other = first if variant != baseline else first.iloc[:0]
            panels.append(curve_charts.curves(own, other, str(variant), label, what, ends))
    return panels


def _payloads(drawn: Sequence[Figure]) -> list[dict[str, Any]]:
    return [figure.payload() for figure in drawn]
