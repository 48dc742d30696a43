"""Tables as text: rounded, as Markdown and LaTeX. Full precision is in the CSV files, written from the frames."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.best_fraction import MIN_FIRST
from analysis.compare import COLUMNS
from analysis.frames import records
from analysis.importance import NAMES
from analysis.statements import VERDICTS
from analysis.table_text import (
    ABSENT,
    Column,
    Table,
    Write,
    absent,
    fixed,
    interval,
    more_trials,
    of_columns,
    or_absent,
    p_value,
    share,
    signed,
)

Rows = Sequence[Mapping[str, Any]]  # as of `frames.records`
NEGLIGIBLE = 0.0005  # shares below it are only in the CSV file


BEST, CONTRAST = "best {best} %", "difference from {baseline}"
# What is shown of a comparison: first what it comes to, then the rest.
COMPARISON = {
    "variant": Column("", "variant", str),
    "n_best": Column(BEST, "n", fixed(0)),
    "best_mean": Column(BEST, "mean", fixed(3)),
    "best_test_score": Column(BEST, "first", fixed(3), "First: of the trial picked first."),
    "rank": Column(
        BEST, "rank", fixed(0), "Rank: in brackets those that tests of all pairs leave open.", interval=True
    ),
    "p_first": Column(
        BEST,
        "P(first)",
        fixed(2),
        f"P(first): how probable it is that the true mean is the lowest; from {MIN_FIRST} best trials on.",
    ),
    "difference": Column(CONTRAST, "[95 %]", signed(3), interval=True),
    "p_adjusted": Column(CONTRAST, "p, adjusted", p_value),
    "n_diverged": Column("cost", "diverged", fixed(0), "Diverged: trials that did."),
    "best_n_parameters": Column("cost", "parameters", fixed(0), "Parameters: mean over the best."),
}
COMPARISON_MORE = {
    "variant": Column("", "variant", str),
    "n_planned": Column("trials", "planned", fixed(0)),
    "n_finished": Column("trials", "finished", fixed(0)),
    "n_failed": Column("trials", "failed", fixed(0)),
    "best_sd": Column(BEST, "sd", fixed(3), "Sd: of the scores of the best."),
    "best_se": Column(BEST, "se", fixed(3), "Se: of their mean, as an estimate of what the search finds."),
    "effect_size": Column(
        CONTRAST, "effect size [95 %]", signed(2), "Effect size: in standard deviations of the best.", interval=True
    ),
    "improvement": Column(
        CONTRAST,
        "P(better) [95 %]",
        fixed(2),
        "P(better): probability that one of the best trials is better than one of {baseline}'s.",
        interval=True,
    ),
    "equivalent_within": Column(
        CONTRAST, "none within", fixed(3), "None within: the smallest margin within which there is shown to be none."
    ),
    "more_trials": Column(
        CONTRAST,
        "more trials",
        more_trials,
        "More trials: of each variant, until the difference as observed is significant with a power of 80 %, or until "
        "it can be tested.",
    ),
    "p_as_paper": Column(
        CONTRAST,
        "p, as the paper tests",
        p_value,
        "As the paper tests, for comparison with it alone: Welch, which takes the best trials for independent draws. "
        "In simulation it finds one of nine equal variants to differ in 22 to 41 % of studies of unpaired draws.",
    ),
    "divergence": Column("divergence", "rate [95 %]", fixed(2), interval=True),
    "p_divergence": Column("divergence", "p, adjusted", p_value, "Divergence is tested against {baseline}'s, exactly."),
    "train_seconds": Column("cost", "train seconds", fixed(1), "Train seconds: mean over the finished trials."),
}


def comparison(compared: Rows, columns: Mapping[str, Column], name: str, title: str, note: str) -> Table:
    """Of the rows of `compare` of one study and task, these columns: of the baseline no difference from itself, and of
    what is not tested, why."""
    made = of_columns(compared, columns, name, title, note, marks="significant")
    baseline, fraction = compared[0]["baseline"], compared[0]["fraction"]
    says = {"{best}": f"{100 * fraction:g}", "{baseline}": baseline}
    rows = []
    for cells, row in zip(made.rows, compared, strict=True):
        own = dict(zip(columns, cells, strict=True))
        for key, column in columns.items():
            if column.group == CONTRAST and row["variant"] == baseline:
                own[key] = ABSENT
            elif key == "p_adjusted" and row["test"] != "tested":
                own[key] = str(row["test"])
        rows.append(list(own.values()))
    headings = [(_filled(group, says), heading) for group, heading in made.headings]
    return replace(made, headings=headings, note=_filled(made.note, says), rows=rows)


def _filled(text: str, says: Mapping[str, str]) -> str:
    for name, value in says.items():
        text = text.replace(name, value)
    return text


def ped_anova(table: pd.DataFrame, name: str, title: str, note: str) -> Table:
    """Of `Importance.ped_anova`: a row a variant, a column a setting."""
    names = list(dict.fromkeys(table["dimension"]))
    rows = []
    for variant, own in table.groupby("variant", sort=False):
        of = own.set_index("dimension")
        cells = [f"{100 * of['share'][one]:.0f}" + (" *" if of["matters"][one] else "") for one in names]
        rows.append([str(variant), *cells])
    share_of = "share of the divergences in %"
    return Table(name, title, [("", "variant"), *((share_of, one) for one in names)], rows, note)


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


ABLATION = {
    "variant": Column("", "to", str),
    "step": Column("", "step", str),
    "dimension": Column("", "changed", lambda name: name or "start"),
    "before": Column("", "from", _value),
    "after": Column("", "to", _value),
    "mean": Column("predicted", "score", fixed(3)),
    "change": Column("predicted", "change", signed(3)),
    "change_sd": Column("predicted", "sd", fixed(3), "Sd: of the change, over the trees."),
}
TUNABILITY = {
    "variant": Column("", "variant", str),
    "dimension": Column("", "tuned", str),
    "default": Column("", "default", _value),
    "best": Column("", "best", _value),
    "gain": Column("predicted", "gain", signed(3)),
    "sd": Column("predicted", "sd", fixed(3), "Sd: over the trees."),
}


def settings(compared: Rows, name: str, title: str, note: str) -> Table:
    """The best trial of each variant, from the rows of `compare` of one study and task."""
    columns: dict[str, tuple[str, Write]] = {"variant": ("variant", str), "trial": ("trial", fixed(0))}
    columns |= {"best_test_score": ("test score", fixed(3))}
    own = [column for column in sampled_of(compared[0]) if not all(absent(row[column]) for row in compared)]
    columns |= {column: (column, _setting(column)) for column in own}
    rows = [[or_absent(row[key], write) for key, (_, write) in columns.items()] for row in compared]
    return Table(name, title, [("", heading) for heading, _ in columns.values()], rows, note)


def shares(table: pd.DataFrame, name: str, title: str, note: str, kind: tuple[str, str] = ("mean", "sd")) -> Table:
    """Of the rows of `Importance.shares` of one study and task: single settings, and the sums of the rest.

    Args:
        kind: columns of the share and of its uncertainty, ``("mean", "sd")`` or ``("debiased", "se")``.
    """
    mean, uncertainty = kind
    singles = list(dict.fromkeys(table.loc[table["order"] == 1, "dimensions"]))
    rows = []
    for (score, variant), own in table.groupby(["score", "variant"], sort=False):
        of = own.set_index("dimensions")
        cells = [share(of[mean].get(single), of[uncertainty].get(single)) for single in singles]
        pairs, higher = own.loc[own["order"] == 2, mean], own[own["order"] > 2]
        cells.append(share(pairs.sum(min_count=1), None))
        cells.append(share(higher[mean].sum(min_count=1), higher[uncertainty].iloc[0] if len(higher) == 1 else None))
        cells += [share(own["noise"].iloc[0], own["noise_se"].iloc[0])]
        what = NAMES[str(score)]
        rows.append([what, str(variant), f"{own['n'].iloc[0]}", or_absent(own["r2"].iloc[0], fixed(2)), *cells])
    headings = [("", "of"), ("", "variant"), ("forest", "n"), ("forest", "R²")]
    share_of = f"share of the variance in % ({uncertainty})"
    headings += [(share_of, single) for single in singles]
    headings += [(share_of, "pairs"), (share_of, "higher orders"), ("noise", "% (se)")]
    return Table(name, title, headings, rows, note)


def between_shares(table: pd.DataFrame, name: str, title: str, note: str) -> Table:
    """Of rows of `importance.between`, with the columns task, study and against_study."""
    rows = [
        [
            *(str(row[column]) for column in ("task", "variant", "dimension", "study", "against_study")),
            share(row["share"], row["se"]),
            share(row["against"], row["against_se"]),
            interval(100 * row["difference"], 100 * row["low"], 100 * row["high"], signed(1)),
        ]
        for row in records(table)
    ]
    names = ("task", "variant", "setting", "study", "against", "share [%]", "against [%]", "difference [%]")
    return Table(name, title, [("", heading) for heading in names], rows, note)


def architecture(table: pd.DataFrame, name: str, title: str, note: str) -> Table:
    """Of the rows of `Importance.architecture` of one study and task."""
    rows = [
        [
            row["by"],
            row["dimensions"],
            f"{row['order']}",
            *(share(row[column], None) for column in ("mean", "sd", "debiased", "se")),
        ]
        for row in records(table[~(table["mean"] < NEGLIGIBLE)])
    ]
    texts = ("architecture as", "dimensions", "order", "share [%]", "sd [%]", "debiased [%]", "se [%]")
    headings = [("", text) for text in texts]
    return Table(name, title, headings, rows, note)


def judged(table: pd.DataFrame, name: str, title: str, note: str, tasks: Sequence[str]) -> Table:
    """Of `findings.judge`, what is decided first; what is about other tasks than these is but counted."""
    elsewhere = table[~table["task"].isin(tasks)]
    if len(elsewhere):
        others = ", ".join(dict.fromkeys(elsewhere["task"]))
        note = f"Not testable here: {len(elsewhere)} statements about tasks that are not in it ({others}). {note}"
    table = table[table["task"].isin(tasks)]
    table = table.sort_values("verdict", key=lambda verdict: verdict.map(VERDICTS.index), kind="stable")
    with_study = "study" in table
    rows = [
        [
            *([str(row["study"])] if with_study else []),
            *(str(row[column]) for column in ("finding", "task", "verdict", "statement", "evidence")),
            more_trials(row["more_trials"]),
        ]
        for row in records(table)
    ]
    titles = [*(["study"] if with_study else []), "finding", "task", "verdict", "statement", "evidence", "more trials"]
    return Table(name, title, [("", heading) for heading in titles], rows, note)


def between_studies(table: pd.DataFrame, name: str, title: str, note: str) -> Table:
    """Of `compare_studies`."""
    rows = [
        [
            str(row["task"]),
            str(row["variant"]),
            str(row["study"]),
            str(row["against"]),
            f"{row['n_best']}, {row['n_against']}",
            or_absent(row["best_mean"], fixed(3)),
            or_absent(row["against_mean"], fixed(3)),
            interval(row["difference"], row["difference_low"], row["difference_high"], signed(3)),
            interval(row["effect_size"], row["effect_size_low"], row["effect_size_high"], signed(2)),
            or_absent(row["p_adjusted"], p_value),
        ]
        for row in records(table)
    ]
    names = (
        "task",
        "variant",
        "study",
        "against",
        "n",
        "mean",
        "mean against",
        "difference [95 %]",
        "effect size [95 %]",
    )
    headings = [("", heading) for heading in (*names, "p, adjusted")]
    marked = frozenset(i for i, significant in enumerate(table["significant"]) if significant)
    return Table(name, title, headings, rows, note, marked)


def _setting(name: str) -> Write:
    if name == "lr":
        return lambda x: f"{x:.1e}"
    return lambda x: f"{x:.3f}" if isinstance(x, float) else str(x)


def sampled_of(columns: Iterable[str]) -> list[str]:
    """Those of the columns of `compare` that are of settings."""
    return [name for name in columns if name not in COLUMNS]
