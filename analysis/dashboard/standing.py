"""How a study stands, from its records alone, so that to look again costs next to nothing."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from analysis import best_fraction
from analysis.dashboard.figure import plain
from analysis.frames import FRACTION
from search.errors import masked
from search.study.claims import Record
from search.study.plan import Plan
from search.study.storage import STATUS
from search.study.tables import TrialState

Trials = Mapping[tuple[str, str], Mapping[int, Record]]
FAILURES = 500  # that are listed


def rows(plan: Plan, trials: Trials) -> Iterator[dict[str, Any]]:
    """Of each task and variant the number of trials by status, the best validation score, and the mean test score of
    the best 10 %, with a 95 % interval where there are enough of them."""
    own = plan.task["name"]
    planned = {(own, variant): plan.trials for variant in plan.variants}
    for task, variant in dict.fromkeys([*planned, *trials]):
        records = trials.get((task, variant), {})
        row: dict[str, Any] = {"study": plan.study, "task": task, "variant": variant}
        yield row | _counts(records.values(), planned.get((task, variant), len(records))) | _best(records)


def together(plan: Plan, trials: Trials) -> dict[str, Any]:
    """A row as of `rows` of all variants of a study together, without the best 10 %."""
    variants = {*plan.variants, *(variant for _, variant in trials)}
    every = [record for records in trials.values() for record in records.values()]
    known = sum(len(records) for (_, variant), records in trials.items() if variant not in plan.variants)
    row: dict[str, Any] = {"study": plan.study, "task": plan.task["name"], "variant": f"all {len(variants):,}"}
    finished = [record.attributes.get("result") or {} for record in every if record.state == TrialState.COMPLETE]
    scores = [score for result in finished if math.isfinite(score := _number(result.get("valid_score")))]
    row |= _counts(every, plan.total + known) | _best({})
    return row | {"best_valid": min(scores, default=None)}


def _counts(records: Collection[Record], planned: int) -> dict[str, int]:
    """How many there are by status, and how many wait that are planned."""
    counts = dict.fromkeys(STATUS.values(), 0)
    for record in records:
        counts[STATUS[record.state]] += 1
    waiting = max(0, planned - sum(n for status, n in counts.items() if status != "waiting"))
    return counts | {"planned": planned, "waiting": waiting}


def failures(plan: Plan, trials: Trials) -> list[list[Any]]:
    """Study, task, variant, number and what it said, of each failed trial, at most `FAILURES`."""
    failed = [
        [plan.study, task, variant, record.number, _said(record)]
        for (task, variant), records in trials.items()
        for record in records.values()
        if record.state == TrialState.FAIL
    ]
    return failed[:FAILURES]


def _said(record: Record) -> str:
    error = (record.attributes.get("result") or {}).get("error")
    return masked(" ".join(error.split())) if isinstance(error, str) else "no record of an error"


def _best(records: Mapping[int, Record]) -> dict[str, Any]:
    select, report = [], []
    for record in records.values():
        result = record.attributes.get("result") or {}
        scores = [_number(result.get(name)) for name in ("valid_score", "test_score")]
        if record.state == TrialState.PRUNED:
            select.append(math.inf)
            report.append(0.0)
        elif record.state == TrialState.COMPLETE and all(map(math.isfinite, scores)):
            select.append(scores[0])
            report.append(scores[1])
    best = best_fraction.best(select, report, FRACTION)
    mean = best_fraction.mean(best)
    interval = mean.interval()
    lowest = min((score for score in select if math.isfinite(score)), default=math.nan)
    found = {
        "best_valid": lowest,
        "n_best": len(best.picked),
        "mean": mean.value,
        "low": interval.low,
        "high": interval.high,
    }
    return {name: plain(value) for name, value in found.items()}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
