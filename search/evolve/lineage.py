"""The record of an evolution: every cell that came up, what it was made of, and what became of it.

One line of JSON each, in the order in which they came up, in the file ``lineage.jsonl`` of the evolution's folder.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from search.base import files
from search.errors import UserError, one_line
from search.evolve.generation import Candidate

FILE = "lineage.jsonl"


def write(folder: Path, candidates: Iterable[Candidate]) -> None:
    """Replaces the record."""
    lines = (json.dumps(dataclasses.asdict(candidate)) + "\n" for candidate in candidates)
    files.write(folder / FILE, "".join(lines))


def read(folder: Path) -> list[Candidate]:
    """The candidates so far; none if there is no record.

    Raises:
        UserError: it cannot be read.
    """
    path = folder / FILE
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [Candidate(**row | {"mutations": tuple(row["mutations"])}) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        hint = "delete it, and the same command makes it anew"
        raise UserError(f"{path}: expected the record of an evolution ({one_line(error)}); {hint}") from error
