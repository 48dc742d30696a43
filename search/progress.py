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
    """

    def __init__(self, counts: dict[str, dict[str, int]], epochs: int, stream: TextIO = sys.stderr):
        # What the storage calls running was interrupted, and waits to be taken up.
        interrupted = {
            variant: {"running": 0, "waiting": row["running"] + row["waiting"]} for variant, row in counts.items()
        }
        self._counts = {variant: row | interrupted[variant] for variant, row in counts.items()}
        self._epochs, self._stream = epochs, stream
        self._start = self._spoke = time.monotonic()
        self._trained = self._ended = 0
        self._epochs_of_ended: list[int] = []
        self._console = Console(file=stream)
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

    def begin(self, variant: str) -> None:
        """Takes note of a trial that begins."""
        self._counts[variant]["running"] += 1
        self._counts[variant]["waiting"] -= 1
        if self._live:
            self._live.update(self._table())

    def update(self, round: Round) -> None:
        """Takes note of an epoch of the population."""
        self._trained += len(round.live) + len(round.ended)
        for variant, row in self._counts.items():
            ended = [t for t in round.ended if t.key.variant == variant]
            row["running"] = sum(t.key.variant == variant for t in round.live)
            for trial in ended:
                row[trial.status] += 1
                self._epochs_of_ended.append(trial.member.epoch)
        self._ended += len(round.ended)
        if self._live:
            self._live.update(self._table())
        elif time.monotonic() - self._spoke >= PLAIN_INTERVAL:
            self._say(self.summary())

    def _sum(self, status: str) -> int:
        return sum(row[status] for row in self._counts.values())

    def summary(self) -> str:
        """One line: counts over all variants, pace and time left."""
        total = sum(sum(row.values()) for row in self._counts.values())
        counts = ", ".join(f"{self._sum(status)} {status}" for status in COLUMNS[1:])
        return f"{self._sum('finished')}/{total} finished, {counts} | {self._pace()}"

    def _pace(self) -> str:
        elapsed = time.monotonic() - self._start
        per_hour = f"{3600 * self._ended / elapsed:.0f} trials/h" if elapsed else ""
        to_go = self._sum("running") + self._sum("waiting")
        if not to_go or not self._trained:
            return per_hour
        # Trials that stop early make the mean of those ended a better guess than the limit.
        sample = self._epochs_of_ended
        typical = sum(sample) / len(sample) if len(sample) >= 8 else self._epochs
        done = self._trained - sum(sample)  # epochs of trials still running
        left = max(to_go * typical - done, 0) * elapsed / self._trained
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
