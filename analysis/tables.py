"""Tables as text: rounded, as Markdown and LaTeX. Full precision is in the CSV files, written from the frames."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.compare import BASELINE, sampled
from analysis.findings import NOT_TESTABLE
from analysis.style import LABELS

ABSENT = "\N{EN DASH}"
NEGLIGIBLE = 0.0005  # shares below it are only in the CSV file
MINUS = "\N{MINUS SIGN}"
Write = Callable[[Any], str]


@dataclass(frozen=True)
class Table:
    """A table to be read.

    Attributes:
        name: of its files.
        title: what it shows.
        headings: (group, heading) of each column; columns of one group stand together.
        rows: of text, a cell a column.
        note: what is needed to read it.
        marked: rows to be set off, by number.
    """

    name: str
    title: str
    headings: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]
    note: str = ""
    marked: frozenset[int] = frozenset()


def comparison(table: pd.DataFrame, name: str, title: str, note: str) -> Table:
    """Of the rows of `compare` of one study and task."""
    columns: dict[str, tuple[str, str, Write]] = {
        "variant": ("", "variant", str),
        "n_planned": ("trials", "planned", _fixed(0)),
        "n_finished": ("trials", "finished", _fixed(0)),
        "n_diverged": ("trials", "diverged", _fixed(0)),
        "n_failed": ("trials", "failed", _fixed(0)),
        "n_unfinished": ("trials", "unfinished", _fixed(0)),
        "best_test_score": ("score", "best trial", _fixed(3)),
        "n_best": ("best 10 %", "n", _fixed(0)),
        "best_mean": ("best 10 %", "mean", _fixed(3)),
        "best_sd": ("best 10 %", "sd", _fixed(3)),
        "rank": ("best 10 %", "rank", _fixed(0)),
        "p_first": ("best 10 %", "P(first)", _fixed(2)),
        "difference": (f"less {BASELINE}", "difference [95 %]", str),
        "effect_size": (f"less {BASELINE}", "effect size [95 %]", str),
        "improvement": (f"less {BASELINE}", "P(better) [95 %]", str),
        "p_adjusted": (f"less {BASELINE}", "p, adjusted", p_value),
        "p_as_paper": (f"less {BASELINE}", "p, as the paper tests", p_value),
        "best_n_parameters": ("cost", "parameters", _fixed(0)),
        "train_seconds": ("cost", "train seconds", _fixed(1)),
    }
    rows = []
    for record in table.to_dict("records"):
        for estimate, write in (("difference", signed(3)), ("effect_size", signed(2)), ("improvement", _fixed(2))):
            low, high = record[f"{estimate}_low"], record[f"{estimate}_high"]
            record[estimate] = None if _absent(record[estimate]) else interval(record[estimate], low, high, write)
        row = {name: ABSENT if _absent(record[name]) else write(record[name]) for name, (*_, write) in columns.items()}
        if record["variant"] == BASELINE:
            row["difference"] = ABSENT
        elif record["test"] != "tested":
            row["p_adjusted"] = record["test"]
        rows.append(list(row.values()))
    marked = frozenset(i for i, significant in enumerate(table["significant"]) if significant)
    return Table(name, title, [(group, heading) for group, heading, _ in columns.values()], rows, note, marked)


def settings(table: pd.DataFrame, name: str, title: str, note: str) -> Table:
    """The best trial of each variant, from the rows of `compare` of one study and task."""
    columns: dict[str, tuple[str, Write]] = {"variant": ("variant", str), "trial": ("trial", _fixed(0))}
    columns |= {"best_test_score": ("test score", _fixed(3))}
    own = [column for column in sampled_of(table) if table[column].notna().any()]
    columns |= {column: (LABELS.get(column, column).partition(" [")[0], _setting(column)) for column in own}
    rows = [
        [ABSENT if _absent(record[column]) else write(record[column]) for column, (_, write) in columns.items()]
        for record in table.to_dict("records")
    ]
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
        what = LABELS.get(str(score), str(score)).replace("_", " ")
        rows.append([what, str(variant), f"{own['n'].iloc[0]}", _or_absent(own["r2"].iloc[0], _fixed(2)), *cells])
    headings = [("", "of"), ("", "variant"), ("forest", "n"), ("forest", "R²")]
    share_of = f"share of the variance in % ({uncertainty})"
    headings += [(share_of, LABELS.get(s, s).partition(" [")[0]) for s in singles]
    headings += [(share_of, text) for text in ("pairs", "higher orders")]
    return Table(name, title, headings, rows, note)


def architecture(table: pd.DataFrame, name: str, title: str, note: str) -> Table:
    """Of the rows of `Importance.architecture` of one study and task."""
    rows = [
        [
            row["by"],
            row["dimensions"],
            f"{row['order']}",
            *(share(row[column], None) for column in ("mean", "sd", "debiased", "se")),
        ]
        for row in table[~(table["mean"] < NEGLIGIBLE)].to_dict("records")
    ]
    texts = ("architecture as", "dimensions", "order", "share [%]", "sd [%]", "debiased [%]", "se [%]")
    headings = [("", text) for text in texts]
    return Table(name, title, headings, rows, note)


def judged(table: pd.DataFrame, name: str, title: str, note: str) -> Table:
    """Of `findings.judge`, what could be tested first."""
    table = table.sort_values("verdict", key=lambda verdict: verdict == NOT_TESTABLE, kind="stable")
    with_study = "study" in table
    rows = [
        [
            *([str(row["study"])] if with_study else []),
            *(str(row[column]) for column in ("finding", "task", "verdict", "statement", "evidence")),
            more_trials(row["more_trials"]),
        ]
        for row in table.to_dict("records")
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
            _or_absent(row["best_mean"], _fixed(3)),
            _or_absent(row["against_mean"], _fixed(3)),
            interval(row["difference"], row["difference_low"], row["difference_high"], signed(3)),
            interval(row["effect_size"], row["effect_size_low"], row["effect_size_high"], signed(2)),
            _or_absent(row["p_adjusted"], p_value),
        ]
        for row in table.to_dict("records")
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


def markdown(table: Table) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    headings = [f"{group}: {heading}" if group else heading for group, heading in table.headings]
    marks = [":--", *["--:"] * (len(headings) - 1)]
    return (
        "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (headings, marks, *table.rows))
        + "\n"
    )


def latex(table: Table) -> str:
    """A LaTeX tabular with the rules of the package booktabs; text columns to the left, numbers to the right."""
    columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.headings)
    numeric = [all(cell == ABSENT or number_of(cell) is not None for cell in column) for column in columns]
    longest = [max((len(cell) for cell in column), default=0) for column in columns]
    kinds = ["r" if is_numeric else "p{5cm}" if n > 60 else "l" for is_numeric, n in zip(numeric, longest, strict=True)]
    lines = ["% \\usepackage{booktabs}", f"\\begin{{tabular}}{{{''.join(kinds)}}}", "\\toprule"]
    spans = groups(table.headings)
    if any(group for group, _ in spans):
        cells = [f"\\multicolumn{{{n}}}{{c}}{{{_tex(group)}}}" if group else " &" * (n - 1) for group, n in spans]
        lines.append(" & ".join(cells).replace(" &  &", " & &") + " \\\\")
        start, rules = 1, []
        for group, n in spans:
            rules += [f"\\cmidrule(lr){{{start}-{start + n - 1}}}"] if group else []
            start += n
        lines.append(" ".join(rules))
    lines += [" & ".join(_tex(heading) for _, heading in table.headings) + " \\\\", "\\midrule"]
    lines += [" & ".join(_tex(cell) for cell in row) + " \\\\" for row in table.rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def interval(estimate: float, low: float, high: float, write: Write) -> str:
    """An estimate and its interval, if it has one."""
    if _absent(estimate):
        return ABSENT
    return write(estimate) if _absent(low) else f"{write(estimate)} [{write(low)}, {write(high)}]"


def signed(digits: int) -> Write:
    """Writes a number with its sign."""
    return lambda x: f"{x:+.{digits}f}".replace("-", MINUS)


def p_value(x: float) -> str:
    """Writes a p."""
    return "< 0.001" if x < 0.001 else f"{x:.3f}"


def share(mean: Any, sd: Any) -> str:
    """Writes a share in percent, with its standard deviation if it has one."""
    if _absent(mean):
        return ABSENT
    return f"{100 * mean:.1f}" + ("" if _absent(sd) else f" ({100 * sd:.1f})")


def more_trials(x: float) -> str:
    """Writes how many more trials of each variant it takes, to two digits."""
    if _absent(x):
        return ABSENT
    if x > 1e6:
        return "over a million"
    return f"{float(f'{math.ceil(x):.2g}'):,.0f}"


def number_of(text: str) -> float | None:
    """The number that a cell begins with, for sorting; None if it is text."""
    match = re.match(r"[<\s]*([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?=$|[\s\]\[(,])", text.replace(MINUS, "-"))
    return float(match[1].replace(",", "")) if match else None


def _fixed(digits: int) -> Write:
    return lambda x: f"{x:,.{digits}f}".replace("-", MINUS)


def _setting(name: str) -> Write:
    if name == "lr":
        return lambda x: f"{x:.1e}"
    return lambda x: f"{x:.3f}" if isinstance(x, float) else str(x)


def sampled_of(table: pd.DataFrame) -> list[str]:
    """Columns of settings in the rows of `compare`."""
    return sampled(table.assign(seed=0))


def _or_absent(value: Any, write: Write) -> str:
    return ABSENT if _absent(value) else write(value)


def groups(headings: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
    """(group, number of its columns), neighbours of one group together."""
    spans: list[tuple[str, int]] = []
    for group, _ in headings:
        if spans and spans[-1][0] == group:
            spans[-1] = group, spans[-1][1] + 1
        else:
            spans.append((group, 1))
    return spans


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    MINUS: "$-$",
    ABSENT: "--",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{SUPERSCRIPT TWO}": "$^2$",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in " ".join(text.split()))


def _absent(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
