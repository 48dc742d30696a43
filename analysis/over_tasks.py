"""Variants over several tasks: their mean ranks, and which of them are shown to differ on every task."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from analysis import stats
from analysis.best_fraction import Estimate
from analysis.compare import ALPHA, pairwise
from analysis.frames import Select, variants_of

Pair = tuple[str, str]


def ranks(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The ranks of the variants on each task by the mean of their best 10 %.

    Args:
        tables: rows of `compare` by task.

    Returns:
        One row a variant and task: variant, task, rank (1 is the lowest mean, ties share their mean rank), mean_rank
        over the tasks. Of the variants that have finished trials on every task, by rising mean rank.
    """
    means = {task: table.set_index("variant")["best_mean"].astype(float) for task, table in tables.items()}
    own = pd.DataFrame(means).dropna().rank()
    found = own.assign(mean_rank=own.mean(axis=1)).sort_values("mean_rank", kind="stable")
    found = found.rename_axis("variant").reset_index().astype({"variant": str})
    long = found.melt(["variant", "mean_rank"], list(tables), "task", "rank")
    order = {variant: place for place, variant in enumerate(found["variant"])}
    long = long.sort_values("variant", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return long[["variant", "task", "rank", "mean_rank"]]


def differences(frames: Sequence[pd.DataFrame], variants: Sequence[str], select: Select = "valid") -> pd.DataFrame:
    """Which of two variants is shown to be better on every task, for all pairs of them.

    Args:
        frames: trials of each task, of one study each, as of `analysis.load`.
        variants: that are compared, which all tasks have.
        select: as of `compare`.

    Returns:
        As of `everywhere`.
    """
    present = [variant for variant in variants if all(variant in variants_of(trials) for trials in frames)]
    return everywhere([pairwise(trials, present, select) for trials in frames])


def everywhere(tasks: Sequence[Mapping[Pair, Estimate]]) -> pd.DataFrame:
    """Tests of "the one variant is better than the other on every one of these tasks", for all pairs.

    On each task a pair is tested one-sided on its own standard error; the p of the pair is the highest of them
    (intersection-union test, Berger 1982), doubled for both directions, and adjusted over the pairs after Holm. It is
    about these tasks: none of it says anything of others.

    Args:
        tasks: of each, the difference of each pair of variants, of the same pairs.

    Returns:
        One row a pair: a, b, better (the one that is shown to be better; missing if neither is), p, p_adjusted (NaN if
        the pair cannot be tested on some task).
    """
    rows = []
    for a, b in tasks[0]:
        worse = float(np.max([own[a, b].p_above() for own in tasks]))  # NaN if any is
        better = float(np.max([replace(own[a, b], value=-own[a, b].value).p_above() for own in tasks]))
        rows.append((a, b, np.minimum(1.0, 2 * np.minimum(worse, better)), b if worse < better else a))
    table = pd.DataFrame(rows, columns=["a", "b", "p", "better"])
    table["p_adjusted"] = stats.holm(table["p"])
    table["better"] = table["better"].where(table["p_adjusted"] < ALPHA)
    return table[["a", "b", "better", "p", "p_adjusted"]]


def groups(order: Sequence[str], pairs: pd.DataFrame) -> list[tuple[int, int]]:
    """The bars of the diagram: (first, last) place in `order` of variants that a bar joins, without bars in others.

    Every pair of which neither is shown to be better is under a common bar, so that variants without one do differ. A
    pair that does may be under one too, if it stands between two that do not.
    """
    apart = {frozenset(pair) for pair in pairs.loc[pairs["better"].notna(), ["a", "b"]].itertuples(index=False)}
    spans = [
        (i, max((j for j in range(i, len(order)) if frozenset((order[i], order[j])) not in apart), default=i))
        for i in range(len(order))
    ]
    kept: list[tuple[int, int]] = []
    for first, last in spans:
        if last > first and not any(last <= end for _, end in kept):
            kept.append((first, last))
    return kept


def smallest_sign_p(n_tasks: int) -> float:
    """The smallest two-sided p that a sign test of two variants over so many tasks can have."""
    return float(min(1.0, 2 * 0.5**n_tasks))


def critical_difference(n_variants: int, n_tasks: int) -> float:
    """By how much the mean ranks of two variants must differ to be significant at 5 % (Nemenyi; Demšar 2006, 3.2.2).

    It takes the tasks for a sample of many, and is about those many.
    """
    q = float(scipy_stats.studentized_range.ppf(1 - ALPHA, n_variants, np.inf)) / 2**0.5
    return q * (n_variants * (n_variants + 1) / (6 * n_tasks)) ** 0.5
