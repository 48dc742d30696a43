"""The comparison as text: full precision as CSV, rounded as Markdown."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from analysis.compare import BASELINE


def _fixed(digits: int) -> Callable[[Any], str]:
    return lambda x: f"{x:,.{digits}f}"


def _signed(x: float) -> str:
    return f"{x:+.3f}".replace("-", "\N{MINUS SIGN}")


def _p(x: float) -> str:
    return "< 0.001" if x < 0.001 else f"{x:.3f}"


# column of `compare` -> (what it is about, heading, how a value is written)
COLUMNS: dict[str, tuple[str, str, Callable[[Any], str]]] = {
    "variant": ("", "variant", str),
    "n_finished": ("trials", "finished", _fixed(0)),
    "n_diverged": ("trials", "diverged", _fixed(0)),
    "n_failed": ("trials", "failed", _fixed(0)),
    "n_unfinished": ("trials", "unfinished", _fixed(0)),
    "train_seconds": ("trials", "mean train seconds", _fixed(1)),
    "n_best": ("best 10 %", "n", _fixed(0)),
    "best_mean": ("best 10 %", "mean", _fixed(3)),
    "best_sd": ("best 10 %", "sd", _fixed(3)),
    "difference": ("best 10 %", f"less {BASELINE}", _signed),
    "p_adjusted": ("best 10 %", "p, adjusted", _p),
    "best_n_parameters": ("best 10 %", "mean parameters", _fixed(0)),
    "best_test_score": ("best trial", "score", _fixed(3)),
    "hidden_size": ("best trial", "hidden size", _fixed(0)),
    "lr": ("best trial", "lr", lambda x: f"{x:.1e}"),
    "momentum": ("best trial", "momentum", _fixed(3)),
    "input_noise": ("best trial", "input noise", _fixed(3)),
}
HEADINGS = [f"{group}: {heading}" if group else heading for group, heading, _ in COLUMNS.values()]
ABSENT = "\N{EN DASH}"


def rounded(table: pd.DataFrame) -> list[list[str]]:
    """Rows of text under `HEADINGS`; a dash where there is no number, the reason where no test was made."""
    rows = []
    for record in table.to_dict("records"):
        row = {name: ABSENT if _absent(record[name]) else write(record[name]) for name, (*_, write) in COLUMNS.items()}
        if record["variant"] == BASELINE:
            row["difference"] = ABSENT
        elif record["test"] != "tested":
            row["p_adjusted"] = record["test"]
        rows.append(list(row.values()))
    return rows


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    marks = [":--", *["--:"] * (len(headings) - 1)]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (headings, marks, *rows)) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _absent(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
