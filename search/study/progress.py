"""How a sweep shows how far it is: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.base.phases import said_if_slow
from search.errors import visible
from search.training.status import ENDED, Status

if TYPE_CHECKING:
    from search.training.trial import Round, Trial

PLAIN_INTERVAL = 10.0  # seconds between plain lines
MINUTE = 60.0  # seconds before which a rate says nothing
WARM = 10.0  # seconds of training before which nothing is said of the time left
SAMPLE = 8  # trials that have ended here, before their epochs are taken for typical
WIDTH, BAR = 100, 10  # columns: the most that a frame takes, and the least of a bar


@dataclass(frozen=True)
class Standing:
    """How a study stands, by one look at its storage.

    Attributes:
        counts: trials by variant and status, as `search.study.reader.StudyReader.counts` gives them.
        best: validation score of the best finished trial by variant, as `StudyReader.best` there gives it.
        n_workers: that are at work.
        held: trials that this process holds, which are among those running; None if it trains none.
        ready: how many of those held wait for a place in the population.
    """

    counts: Mapping[str, Mapping[str, int]]
    best: Mapping[str, float] = field(default_factory=dict)
    n_workers: int = 1
    held: int | None = None
    ready: int = 0

    def sum(self, *statuses: str) -> int:
        """Trials of all variants in any of these statuses; without one, all trials."""
        return sum(n for row in self.counts.values() for status, n in row.items() if status in (statuses or row))


class Progress:
    """Shows, for each variant, how much is trained and the best score; and what trains, the pace and the time left.

    Args:
        counts: trials by variant and status, as `search.study.reader.StudyReader.counts` gives them.
        epochs: the most that a trial trains.
        score: what the best is the best of; the lower the better.
        again: the command line that goes on with the study, for who leaves at once; empty if nobody typed one.
        stream: where to, by default stderr.
    """

    def __init__(
        self,
        counts: Mapping[str, Mapping[str, int]],
        epochs: int,
        score: str = "score",
        again: str = "",
        stream: TextIO | None = None,
    ):
        self._epochs, self._score, self._again, self._stream = epochs, score, again, stream or sys.stderr
        self._standing = Standing(counts)
        self._ended_before = self._standing.sum(*ENDED)
        self._start, self._spoke = time.monotonic(), -math.inf
        self._first: float | None = None  # when this process had trained its first epoch; later by what was no training
        self._trained = 0  # epochs since then
        self._live_trials: list[Trial] = []
        self._epochs_of_ended: list[int] = []
        self._best: dict[str, float] = {}  # of trials that finished here
        self._phase: tuple[str, float] | None = None
        self._stopping = self._over = False
        self._console = Console(file=self._stream, force_terminal=self._stream.isatty())
        # Rendered by a thread of its own, so that the time goes on while an epoch lasts.
        animated = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(get_renderable=self._frame, console=self._console) if animated else None
        self._handlers: list[logging.StreamHandler[TextIO]] = []

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start(refresh=True)
            self._redirect_logs(self._stream, sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._over, self._phase = True, None
        if self._live:
            self._live.stop()
            self._redirect_logs(sys.stderr, self._stream)
        else:
            self._say(self.summary())

    def _redirect_logs(self, before: TextIO, after: TextIO) -> None:
        """Logs would be written across the frame by handlers that were made before `Live` took over stderr."""
        if before is self._stream:
            handlers = [h for h in logging.root.handlers if isinstance(h, logging.StreamHandler)]
            self._handlers = [h for h in handlers if h.stream is before]
        for handler in self._handlers:
            handler.setStream(after)

    def note(self, text: str) -> None:
        """One line about something other than the counts."""
        if self._live:
            self._console.print(Text(visible(text)))
        else:
            self._say(visible(text))

    @contextmanager
    def phase(self, text: str) -> Iterator[None]:
        """While it lasts, says what is done instead of training; in plain lines only if it takes over a second."""
        start = time.monotonic()
        self._phase = visible(text), start
        try:
            with nullcontext() if self._live else said_if_slow(text, self.note):
                yield
        finally:
            self._phase = None
            if self._first is not None:
                self._first += time.monotonic() - start

    def stop(self) -> None:
        """Shows that the sweep is about to end; safe in a signal handler."""
        self._stopping = True

    def abandon(self) -> None:
        """The last frame, and how to go on, of a process that a signal handler is about to end."""
        try:
            self._end()
            self._say("leaving at once; what was saved last holds" + (self._again and "; the same command goes on:"))
            if self._again:
                self._say(f"  {self._again}")
        except Exception:  # the signal came in the midst of writing
            os.write(2, b"\n\x1b[?25h" if self._live else b"\n")

    def show(self, standing: Standing) -> None:
        """Takes note of how the study stands."""
        self._standing = standing
        if not self._live and time.monotonic() - self._spoke >= PLAIN_INTERVAL:
            self._say(self.summary())

    def update(self, round: Round) -> None:
        """Takes note of an epoch of this process's population."""
        self._live_trials = round.live
        self._epochs_of_ended += [trial.member.epoch for trial in round.ended]
        for trial in round.ended:
            if trial.status == "finished":
                best = self._best.get(trial.key.variant, math.inf)
                self._best[trial.key.variant] = min(best, trial.valid_score)
        if self._first is not None:
            self._trained += len(round.live) + len(round.ended)
        elif round.live or round.ended:
            self._first = time.monotonic()

    def best(self) -> dict[str, float]:
        """By variant, the best validation score of the trials that have finished and of those that train here."""
        found = dict(self._standing.best)
        scores = [*self._best.items(), *((trial.key.variant, trial.valid_score) for trial in self._live_trials)]
        for variant, score in scores:
            if not math.isnan(score):
                found[variant] = min(score, found.get(variant, math.inf))
        return found

    def summary(self) -> str:
        """One line: how many trials stand how, the best score, pace and time left."""
        return " | ".join(filter(None, [self._trials(), self._best_of_all(), *self._pace()]))

    def _trials(self) -> str:
        standing = self._standing
        running = standing.sum(Status.RUNNING)
        if standing.held is None:
            under_way = {"held by workers" if self._over else "training or ready": running}
        else:
            mine = {"interrupted": standing.held}
            if not self._over:
                mine = {"training": standing.held - standing.ready, "ready": standing.ready}
            under_way = mine | {"with other workers": running - standing.held}
        counts: dict[str, int] = {status: standing.sum(status) for status in (Status.DIVERGED, Status.FAILED)}
        counts |= under_way | {Status.WAITING: standing.sum(Status.WAITING)}
        listed = [f"{n} {what}" for what, n in counts.items() if n > 0]
        return ", ".join([f"{standing.sum('finished')}/{standing.sum()} finished", *listed])

    def _best_of_all(self) -> str:
        best = self.best()
        variant = min(best, key=best.__getitem__, default=None)
        return "" if variant is None else f"best {self._score}: {best[variant]:.4g} ({visible(variant)})"

    def _pace(self) -> list[str]:
        """What can be said of trials an hour and of the time left, which at first is nothing."""
        now, n_workers = time.monotonic(), self._standing.n_workers
        elapsed, ended = now - self._start, self._standing.sum(*ENDED) - self._ended_before
        said = []
        if elapsed >= MINUTE and ended:
            by = f" by {n_workers} workers" if n_workers > 1 else ""
            said.append(f"{3600 * ended / elapsed:.0f} trials/h{by}")
        left = None if self._over else self._left(now)
        return said if left is None else [*said, left]

    def _left(self, now: float) -> str | None:
        standing, elapsed = self._standing, now - self._start
        running, ended = standing.sum(Status.RUNNING), standing.sum(*ENDED) - self._ended_before
        to_go = running + standing.sum(Status.WAITING)
        if not to_go:
            return None
        if standing.held is None:  # it watches others
            # The first to end say little of the rest: those that take longer are still at it.
            sound = elapsed >= MINUTE and ended >= max(running, 1)
            return f"{_duration(to_go * elapsed / ended)} left" if sound else None
        if not standing.held or not self._trained or self._first is None or now - self._first < WARM:
            return None
        # Trials that stop early make the mean of those ended a better guess than the limit.
        sample = self._epochs_of_ended
        typical = sum(sample) / len(sample) if len(sample) >= SAMPLE else self._epochs
        all_of_mine = running / standing.held  # trials of all workers are taken to come on as those of this one do
        done = all_of_mine * sum(trial.member.epoch for trial in self._live_trials)
        rate = all_of_mine * self._trained / (now - self._first)
        at_most = "" if len(sample) >= SAMPLE else "at most "
        return f"{at_most}{_duration(max(to_go * typical - done, 0) / rate)} left"

    def _frame(self) -> Group:
        width = min(self._console.width, WIDTH)
        now, phase = time.monotonic(), self._phase
        lines = [self._trials(), self._best_of_all()]
        lines.append(" | ".join([f"{_duration(now - self._start)} elapsed", *self._pace()]))
        if self._stopping and not self._over:
            lines.append("stopping: what trains is saved; Ctrl-C again leaves at once")
        elif phase:
            lines.append(f"{phase[0]} ({_duration(now - phase[1])})")
        text = [Text(line) for line in lines if line]
        needed = len(self._standing.counts) + sum(-(-len(line) // self._console.width) for line in text)
        return Group(*([self._bars(width)] if needed < self._console.height or self._over else []), *text)

    def _bars(self, width: int) -> Table:
        """A row a variant: its name, a bar of its epochs, trials ended, epochs of those in training, and best score."""
        table = Table.grid(padding=(0, 1), expand=True)
        table.width = width
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(width // 4, BAR))
        table.add_column(ratio=1, min_width=BAR)
        for _ in range(3):
            table.add_column(justify="right", no_wrap=True)
        best = self.best()
        epochs: dict[str, list[int]] = {variant: [] for variant in self._standing.counts}
        for trial in self._live_trials:
            epochs[trial.key.variant].append(trial.member.epoch)
        for variant, row in self._standing.counts.items():
            ended, total, live = sum(row[status] for status in ENDED), sum(row.values()), epochs[variant]
            done = ended + sum(live) / self._epochs
            table.add_row(
                visible(variant),
                ProgressBar(total=total, completed=min(done, total)),
                f"{ended}/{total}",
                f"{_span(live)}/{self._epochs}" if live and not self._over else "",
                f"best {best[variant]:.4g}" if variant in best else "",
            )
        return table

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        print(text, file=self._stream, flush=True)


def _span(epochs: list[int]) -> str:
    low, high = min(epochs), max(epochs)
    return f"epoch {low}" if low == high else f"epochs {low}-{high}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
