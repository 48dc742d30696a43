"""A worker: one process's part in a study. It claims trials, keeps its lease alive, and records what comes of them.

All dealings with the storage go through one thread, the clerk, so that training waits neither for a commit nor for a
database that is away; it stops only where the lease runs out, for then others may take the trials over.
"""

import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from search.base import clock
from search.base.locks import LastWords, Lock, is_free, last_words
from search.engines.engine import Engine, Interrupted
from search.errors import UserError, one_line
from search.study.claims import Claim, Key, Outcome
from search.study.leases import LeaseLost, process_name
from search.study.progress import Standing
from search.study.study import Study
from search.study.working import TROUBLE
from search.tasks.task import Task
from search.training.trial import Trial

AHEAD = 1  # trials claimed before there is room for them
RENEWALS = 4  # in the length of a lease
TICK = 2.0  # seconds between looks at the storage while there is nothing to claim, and between counts for the display
PATIENCE = 900.0  # seconds of trouble with the storage after which a worker gives up
FAREWELL = 10.0  # seconds of trying to put trials back when a worker leaves


class Worker:
    """Use as a context: inside, the worker has its lease, or is about to get it back.

    Args:
        study: opened for writing.
        task: the study's.
        engine: for the record.
        lease: its length in seconds, the same for all workers of a study.
        note: is told, in one line each, of what is unusual.
        show: is told now and then how the study stands.
        pat: is called now and then by `refill`, which may wait for long.
    """

    def __init__(
        self,
        study: Study,
        task: Task,
        engine: Engine,
        lease: float,
        note: Callable[[str], None],
        show: Callable[[Standing], None],
        pat: Callable[[], None] = lambda: None,
    ):
        self._study, self._task, self._engine, self._lease = study, task, engine, lease
        self._note, self._show, self._pat = note, show, pat
        self._leases = study.leases
        self._change = threading.Condition()
        # Under the condition's lock:
        self._held: dict[int, Key] = {}  # what is claimed and has not come to an end
        self._ready: list[Trial] = []  # those of them not yet handed to training
        self._training: frozenset[int] = frozenset()  # those that are, by what `refill` last gave
        self._preparing: frozenset[int] = frozenset()
        self._suspects: dict[int, Claim] = {}  # what is held and has had workers die
        self._saved: dict[int, int] = {}  # the epochs of their checkpoints, not yet told
        self._outbox: dict[int, tuple[Outcome, Trial | None]] = {}  # what has come to an end and is not yet recorded
        self._want = 0  # how many should be ready
        self._coming = 0  # claimed, and being made ready
        self._remaining: int | None = None  # trials of the study that have not ended, when last heard
        self._renewed = -math.inf
        self._error: BaseException | None = None
        self._leaving: float | None = None  # until when
        self._died: LastWords | None = None  # what is to be said of this worker when it has left
        # Written by one thread and read by the other:
        self._stopped = False
        # The clerk's own:
        self._asleep_until = self._ticked = -math.inf
        self._observed: dict[str, tuple[int, float]] = {}
        self._trouble: tuple[str, float] | None = None
        self._lock: Lock | None = None
        self._clerk = threading.Thread(target=self._serve, name="clerk", daemon=True)

    def __enter__(self) -> "Worker":
        try:
            self._join()
            self._dismiss_dead()
        except TROUBLE as error:  # at the start it is the user's to hear
            raise UserError(
                f"{self._study.folder}: expected a study that can be written to ({one_line(error)})"
            ) from error
        self._clerk.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._change:
            self._leaving = clock.now() + (PATIENCE if kind is None and not self._stopped else FAREWELL)
            self._change.notify_all()
        self._clerk.join()
        self._unlock()
        if kind is None and self._error and not self._stopped:
            raise self._error

    def stop(self) -> None:
        """Makes `refill` raise `Interrupted`; safe in a signal handler."""
        self._stopped = True

    def refill(self, live: list[Trial], population: int) -> list[Trial]:
        """The trials to train on; see `search.training.trial.Refill`. Waits while the lease is in doubt.

        Raises:
            Interrupted: `stop` was called.
            UserError: the storage has been away for too long.
        """
        with self._change:
            first = not live
            while True:
                self._pat()
                if self._stopped:
                    raise Interrupted
                if self._error:
                    raise self._error
                if clock.now() - self._renewed < self._lease:
                    live = [trial for trial in live if self._holds(trial.key)]
                    room = population - len(live)
                    live += [self._ready.pop(0) for _ in range(min(room, len(self._ready)))]
                    self._training = frozenset(trial.key.trial_id for trial in live)
                    self._tell_hands()
                    alone = any(claim.alone for claim in self._suspects.values())
                    room = 0 if alone else population - len(live)
                    self._want = 0 if alone and live else room + AHEAD
                    if not live and self._remaining == 0 and not self._outbox:
                        return []
                    wait = room and first and self._coming  # a population starts as a whole
                    if live and not wait:
                        self._change.notify_all()
                        return live
                self._change.notify_all()
                self._change.wait(0.1)

    def saved(self, trials: list[Trial]) -> None:
        """Takes note of the checkpoints of trials: one that gets further is no longer under suspicion."""
        with self._change:
            known = [trial for trial in trials if trial.key.trial_id in self._suspects]
            self._saved |= {trial.key.trial_id: trial.member.epoch for trial in known}
            self._change.notify_all()

    def abandon(self, cause: str | None) -> None:
        """Puts all trials back, since training hangs; with a cause it counts as a death, of which that is known."""
        with self._change:
            self._died = LastWords(self._training, cause) if cause else None
            self._leaving = clock.now() + FAREWELL
            self._change.notify_all()
        self._clerk.join(FAREWELL)
        self._unlock()

    @property
    def training(self) -> list[Key]:
        """What training was last given."""
        with self._change:
            return [key for trial_id, key in self._held.items() if trial_id in self._training]

    def ended(self, trials: list[Trial]) -> None:
        """Has trials recorded that have ended."""
        self._post([(t.key, self._study.outcome(t, self._engine.name, self._engine.device), t) for t in trials])

    def failed(self, trial: Trial, error: Exception) -> None:
        """Has a trial recorded that raised."""
        self._note(f"{trial.key.variant} trial {trial.key.number}: {type(error).__name__}: {one_line(error)}")
        self._post([(trial.key, self._study.failure(trial.key, error, trial.settings), None)])

    def _post(self, outcomes: list[tuple[Key, Outcome, Trial | None]]) -> None:
        with self._change:
            self._outbox |= {key.trial_id: (outcome, trial) for key, outcome, trial in outcomes if self._holds(key)}
            self._change.notify_all()

    def _holds(self, key: Key) -> bool:
        """Whether this very claim still holds; a trial that was lost and claimed anew is another claim of it."""
        return self._held.get(key.trial_id) is key

    def _tell_hands(self) -> None:
        if self._lock:
            self._lock.hold(self._training | self._preparing)

    # What follows runs on the clerk's thread.

    def _serve(self) -> None:
        try:
            while self._wait():
                try:
                    if self._lock is None:
                        self._join()
                    self._exchange()
                    self._tick()
                    self._over()
                except LeaseLost:
                    self._lost()
                except TROUBLE as error:
                    self._in_trouble(error)
            self._leave()
        except BaseException as error:  # training hears of it
            with self._change:
                self._error = error
                self._change.notify_all()

    def _wait(self) -> bool:
        """Waits for something to do; False once there is nothing more and the worker leaves."""
        with self._change:
            while True:
                now = clock.now()
                if self._leaving is not None and (not self._outbox or now > self._leaving):
                    return False
                wanted = self._want > len(self._ready) and now >= self._asleep_until and self._remaining != 0
                renewal = self._renewed + self._lease / RENEWALS
                if (
                    self._outbox
                    or self._saved
                    or (wanted and self._leaving is None)
                    or now >= min(renewal, self._ticked + TICK)
                ):
                    return True
                wake = self._asleep_until if self._want > len(self._ready) and now < self._asleep_until else renewal
                self._change.wait(max(0.0, min(wake, renewal, self._ticked + TICK) - now))

    def _exchange(self) -> None:
        with self._change:
            outbox = list(self._outbox.values())
            want = max(0, self._want - len(self._ready)) if self._leaving is None else 0
            saved = self._saved
            self._saved = {}
        began = clock.now()
        if any(trial for _, trial in outbox) and began - self._renewed > self._lease / 2:
            self._leases.exchange(self._id)  # files are written only by who surely holds the lease
            began = self._renewed = clock.now()
        for _, trial in outbox:
            if trial:
                self._study.write_curve(trial)
        claims, remaining = self._leases.exchange(self._id, [outcome for outcome, _ in outbox], want, saved)
        with self._change:
            self._renewed = began
            keys = [self._held.pop(outcome.trial_id, None) for outcome, _ in outbox]
            for outcome, _ in outbox:
                self._outbox.pop(outcome.trial_id, None)
                self._suspects.pop(outcome.trial_id, None)
            new = [claim for claim in claims if claim.trial_id not in self._held]
            self._remaining, self._coming = remaining, len(new)
            if want and not new:
                self._asleep_until = began + min(TICK, self._lease / RENEWALS)
        for (outcome, _), key in zip(outbox, keys, strict=True):
            if key and outcome.state is not None:
                self._study.forget_checkpoint(key)
        self._prepare(new)
        with self._change:
            self._change.notify_all()

    def _prepare(self, claims: list[Claim]) -> None:
        for claim in claims:
            key, trial = self._study.key(claim), None
            with self._change:
                self._preparing = frozenset([key.trial_id])
                self._tell_hands()
            try:
                if claim.failed:
                    outcome = self._study.death(claim)
                else:
                    trial = self._study.prepare(key, self._task)
            except TROUBLE:
                raise  # it stays claimed, and the next exchange brings it again
            except Exception as error:
                outcome = self._study.failure(key, error)
            with self._change:
                self._held[key.trial_id] = key
                self._coming -= 1
                if claim.deaths:
                    self._suspects[key.trial_id] = claim
                if trial:
                    self._ready.append(trial)
                else:
                    self._outbox[key.trial_id] = outcome, None
                self._preparing = frozenset()
                self._tell_hands()
                self._change.notify_all()

    def _tick(self) -> None:
        if clock.now() - self._ticked < TICK:
            return
        n_workers = self._dismiss_dead()
        counts, best = self._study.counts(), self._study.best()
        with self._change:
            standing = Standing(counts, best, n_workers, len(self._held), len(self._ready))
            self._ticked = clock.now()
        self._show(standing)

    def _dismiss_dead(self) -> int:
        """Takes the trials of workers that have died: at once on this machine, elsewhere when their lease is over.

        Returns:
            how many workers there were, this one included.
        """
        now, seen = clock.now(), {}
        peers = self._leases.peers()
        for peer in peers:
            if peer.worker == self._id:
                continue
            beat, since = self._observed.get(peer.worker, (None, now))
            seen[peer.worker] = (peer.beat, since if beat == peer.beat else now)
            path = self._lock_path(peer.worker)
            dead = peer.boot == clock.boot() and is_free(path)
            if not dead and now - seen[peer.worker][1] < self._lease:
                continue
            died = last_words(path)
            if self._leases.dismiss(peer.worker, peer.beat, died):
                why = "is dead" if dead else f"has shown no sign of life for {self._lease:.0f} s"
                why += f" ({died.cause})" if died.cause else ""
                self._note(f"worker {peer.worker} {why}: its {peer.held} trials are free again")
                self._asleep_until = now
                if dead:
                    path.unlink(missing_ok=True)
        self._observed = seen
        return len(peers)

    def _join(self) -> None:
        host = socket.gethostname()
        self._id = process_name(host, os.getpid()) + secrets.token_hex(3)
        lock = Lock(self._lock_path(self._id))
        began = clock.now()
        try:
            self._leases.join(
                self._id, host, clock.boot(), os.getpid(), f"{self._engine.name} on {self._engine.device}"
            )
        except BaseException:
            lock.release()
            raise
        with self._change:
            self._renewed, self._lock = began, lock

    def _lost(self) -> None:
        with self._change:
            n = len(self._held)
            self._held.clear()
            self._ready.clear()
            self._outbox.clear()
            self._suspects.clear()
            self._saved.clear()
        self._note(f"the lease of this worker ran out; its {n} trials are left to others")
        self._unlock()

    def _unlock(self) -> None:
        with self._change:
            if self._lock:
                self._lock.release()
                self._lock = None

    def _in_trouble(self, error: BaseException) -> None:
        now, text = clock.now(), one_line(error)
        said, since = self._trouble or ("", now)
        if text != said:
            self._note(f"trouble with the study's storage, trying again: {text}")
        self._trouble = text, since
        self._observed.clear()  # while the storage was away nobody could give a sign of life
        with self._change:
            self._coming = 0
            self._change.notify_all()
            if now - since > PATIENCE:
                raise UserError(
                    f"{self._study.folder}: its storage has been in trouble for {PATIENCE / 60:.0f} minutes ({text}); "
                    "trials under way are in their checkpoints"
                )
            self._change.wait(1.0 if now - since < 10 else 5.0)

    def _over(self) -> None:
        if self._trouble:
            self._note(f"the study's storage is back after {clock.now() - self._trouble[1]:.0f} s")
            self._trouble = None

    def _leave(self) -> None:
        while True:
            try:
                self._leases.leave(self._id, self._died)
                if self._remaining == 0:
                    self._study.check_complete()
                    self._study.forget_ended()
                self._show(Standing(self._study.counts(), self._study.best(), held=0))
                return
            except TROUBLE as error:
                assert self._leaving is not None
                if clock.now() > self._leaving:
                    self._note(f"could not put this worker's trials back; its lease will run out ({one_line(error)})")
                    return
                time.sleep(0.5)

    def _lock_path(self, worker: str) -> Path:
        return self._study.folder / "workers" / f"{worker}.lock"
