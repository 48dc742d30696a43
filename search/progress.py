"""How a sweep shows how far it is: a live table on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.training import Round

COLUMNS = ("finished", "running", "diverged", "failed", "waiting")
PLAIN_INTERVAL = 10.0  # seconds between plain lines


class Progress:
    """Shows, per variant, trials by status; and trials per hour and the time left.

    Args:
        counts: trials by variant and status, as `search.study.Study.counts` gives them.
        epochs: the most that a trial trains.
        stream: where to, by default stderr.
    """

    def __init__(self, counts: dict[str, dict[str, int]], epochs: int, stream: TextIO | None = None):
        self._counts, self._epochs, self._stream = counts, epochs, stream or sys.stderr
        self._start = self._spoke = time.monotonic()
        self._ended_before = self._ended
        self._n_workers = 1
        self._trained = 0  # epochs, by this worker
        self._epochs_of_ended: list[int] = []
        self._console = Console(file=self._stream)
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal else None

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
            self._live.update(self._table())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self._table())
            self._live.stop()
        else:
            self._say(self.summary())

    def note(self, text: str) -> None:
        """One line about something other than the counts."""
        if self._live:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            self._say(text)

    def update(self, round: Round, counts: dict[str, dict[str, int]], n_workers: int) -> None:
        """Takes note of an epoch of this worker's population, and of the trials of all workers."""
        self._counts, self._n_workers = counts, n_workers
        self._trained += len(round.live) + len(round.ended)
        self._epochs_of_ended += [trial.member.epoch for trial in round.ended]
        if self._live:
            self._live.update(self._table())
        elif time.monotonic() - self._spoke >= PLAIN_INTERVAL:
            self._say(self.summary())

    @property
    def _ended(self) -> int:
        return sum(self._sum(status) for status in ("finished", "diverged", "failed"))

    def _sum(self, status: str) -> int:
        return sum(row[status] for row in self._counts.values())

    def summary(self) -> str:
        """One line: counts over all variants, pace and time left."""
        total = sum(sum(row.values()) for row in self._counts.values())
        counts = ", ".join(f"{self._sum(status)} {status}" for status in COLUMNS[1:])
        return f"{self._sum('finished')}/{total} finished, {counts} | {self._pace()}"

    def _pace(self) -> str:
        elapsed = time.monotonic() - self._start
        ended = self._ended - self._ended_before
        per_hour = f"{3600 * ended / elapsed:.0f} trials/h" if elapsed else ""
        if self._n_workers > 1:
            per_hour += f" by {self._n_workers} workers"
        to_go = self._sum("running") + self._sum("waiting")
        if not to_go or not (self._trained or ended):
            return per_hour
        if not self._trained:  # by this process, which watches others
            return f"{per_hour}, {timedelta(seconds=round(to_go * elapsed / ended))} left"
        # Trials that stop early make the mean of those ended a better guess than the limit.
        sample = self._epochs_of_ended
        typical = sum(sample) / len(sample) if len(sample) >= 8 else self._epochs
        done = self._n_workers * (self._trained - sum(sample))  # epochs of trials still running
        left = max(to_go * typical - done, 0) * elapsed / (self._n_workers * self._trained)
        return f"{per_hour}, {timedelta(seconds=round(left))} left"

    def _table(self) -> Group:
        table = Table()
        table.add_column("variant")
        for column in COLUMNS:
            table.add_column(column, justify="right")
        for variant, row in self._counts.items():
            table.add_row(variant, *(str(row[column]) for column in COLUMNS))
        return Group(table, Text(self.summary()))

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        print(text, file=self._stream, flush=True)


def table(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Counts by variant and status as aligned text."""
    width = max(map(len, [*counts, "variant"]))
    lines = [f"{'variant':{width}} " + " ".join(f"{c:>8}" for c in COLUMNS)]
    for variant, row in counts.items():
        lines.append(f"{variant:{width}} " + " ".join(f"{row[c]:>8}" for c in COLUMNS))
    return "\n".join(lines)
