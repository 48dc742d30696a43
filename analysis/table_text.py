"""A table to be read: how its cells are written, and the table as Markdown and as LaTeX."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

ABSENT = "\N{EN DASH}"
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


@dataclass(frozen=True)
class Column:
    """A column of `compare` as the page shows it: the group and heading it stands under, how it is written, and what
    has to be said of it. A column with an interval is an estimate: NAME, NAME_low and NAME_high."""

    group: str
    heading: str
    write: Write
    says: str = ""
    interval: bool = False


def fixed(digits: int) -> Write:
    """Writes a number with so many decimals."""
    return lambda x: f"{x:,.{digits}f}".replace("-", MINUS)


def percent(digits: int) -> Write:
    """Writes a share as percent with so many decimals."""
    return lambda x: fixed(digits)(100 * x)


def signed(digits: int) -> Write:
    """Writes a number with its sign."""
    return lambda x: f"{x:+.{digits}f}".replace("-", MINUS)


def p_value(x: float) -> str:
    """Writes a p."""
    return "< 0.001" if x < 0.001 else f"{x:.3f}"


def more_trials(x: float) -> str:
    """Writes how many more trials of each variant it takes, to two digits."""
    if absent(x):
        return ABSENT
    if x > 1e6:
        return "over a million"
    return f"{float(f'{math.ceil(x):.2g}'):,.0f}"


def of_columns(
    records: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Column],
    name: str,
    title: str,
    note: str = "",
    marks: str = "",
) -> Table:
    """Of records, as of `frames.records`, these columns, with what is to be said of them.

    Args:
        records: have every column; one with an interval also its NAME_low and NAME_high.
        marks: a column that says which rows are set off.
    """
    rows = []
    for record in records:
        cells = []
        for key, column in columns.items():
            value = record[key]
            if column.interval:
                cells.append(interval(value, record[f"{key}_low"], record[f"{key}_high"], column.write))
            else:
                cells.append(or_absent(value, column.write))
        rows.append(cells)
    marked = frozenset(i for i, record in enumerate(records) if marks and record[marks])
    says = " ".join([*([note] if note else []), *(column.says for column in columns.values() if column.says)])
    return Table(name, title, [(c.group, c.heading) for c in columns.values()], rows, says, marked)


def markdown(table: Table) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    headings = [f"{group}: {heading}" if group else heading for group, heading in table.headings]
    marks = [":--", *["--:"] * (len(headings) - 1)]
    rows = ("| " + " | ".join(map(plain_markdown, row)) + " |\n" for row in (headings, marks, *table.rows))
    return "".join(rows)


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
    if absent(estimate):
        return ABSENT
    return write(estimate) if absent(low) else f"{write(estimate)} [{write(low)}, {write(high)}]"


def share(mean: Any, sd: Any) -> str:
    """Writes a share in percent, with its standard deviation if it has one."""
    if absent(mean):
        return ABSENT
    return f"{100 * mean:.1f}" + ("" if absent(sd) else f" ({100 * sd:.1f})")


def number_of(text: str) -> float | None:
    """The number that a cell begins with, for sorting; None if it is text."""
    match = re.match(r"[<\s]*([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(?=$|[\s\]\[(,])", text.replace(MINUS, "-"))
    return float(match[1].replace(",", "")) if match else None


def or_absent(value: Any, write: Write) -> str:
    """Writes a value, or a dash where there is none."""
    return ABSENT if absent(value) else write(value)


def groups(headings: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
    """(group, number of its columns), neighbours of one group together."""
    spans: list[tuple[str, int]] = []
    for group, _ in headings:
        if spans and spans[-1][0] == group:
            spans[-1] = group, spans[-1][1] + 1
        else:
            spans.append((group, 1))
    return spans


def plain_markdown(text: str) -> str:
    """A text as Markdown that shows it as it is: neither markup nor HTML."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"[\\`*|]|(?<=\])\(", r"\\\g<0>", text)


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


def absent(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
