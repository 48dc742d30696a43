"""Running a study: its trials through the training loop, with checkpoints, results and progress."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from search.engines.engine import Engine, Interrupted
from search.errors import one_line
from search.study.progress import Progress
from search.study.study import Study
from search.study.watchdog import Watchdog
from search.study.worker import Worker
from search.tasks.task import Task
from search.training.trial import Refill, Round, Trial, train

CHECKPOINT_INTERVAL = 20.0  # seconds
HUNG = 75  # exit code, as of sysexits.h: it may be tried again
# SLURM warns of the end with SIGTERM, or with the signal that --signal names; submitit asks for SIGUSR2.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def run(
    study: Study,
    task: Task,
    engine: Engine,
    *,
    population: int,
    threads: int,
    progress: Progress,
    lease: float,
    trial_timeout: float,
) -> bool:
    """Trains what a study still lacks, beside whatever other workers do.

    Args:
        study: opened for writing.
        task: the study's.
        engine: computes the epochs.
        population: trials in training at a time.
        threads: for the engine.
        progress: is told of each epoch.
        lease: see `search.study.worker.Worker`.
        trial_timeout: seconds without the end of an epoch of the population after which training is held to hang. The
            trials are then put back, to be trained alone if need be, and the process ends with `HUNG`; a process that
            hangs ends at a signal, too.

    Returns:
        whether the study is complete; False if a signal came first, and then all trials under way are saved.

    Raises:
        UserError: the engine cannot run a cell, or the storage has been away for too long.
    """
    plan = study.plan
    trainer = engine.trainer(task, plan.dtype, threads)
    latest = Round([], [], [])
    dog = Watchdog(trial_timeout, SIGNALS, lambda number: _give_up(worker, progress, trial_timeout, number))
    worker = Worker(study, task, engine, lease, progress.note, progress.show, dog.pat)
    with stopped_by_signals(progress.stop, trainer.stop, worker.stop, leave=progress.abandon), worker, dog:
        rounds = train(
            _announced(worker.refill, engine, task, plan.dtype, progress),
            trainer,
            len(task.splits["train"].inputs),
            epochs=plan.epochs,
            patience=plan.patience,
            population=population,
            seed=plan.seed,
            note=progress.note,
        )
        save = _Saver(study, worker, progress.note)
        try:
            for latest in rounds:
                worker.ended(latest.ended)
                for trial, error in latest.failed:
                    worker.failed(trial, error)
                progress.update(latest)
                save.now_and_then(latest.live)
        except BaseException as error:
            dog.pat()
            save(latest.live)
            if isinstance(error, Interrupted):
                return False
            raise
    return True


def _give_up(worker: Worker, progress: Progress, seconds: float, number: int | None) -> None:
    """Ends the process, whose main thread hangs: after so many seconds, or since it does not heed a signal."""
    trials = ", ".join(f"{key.variant} {key.number}" for key in worker.training) or "none"
    if number is None:
        progress.note(f"no progress for {seconds:.0f} s in training {trials}: put back; the same command goes on")
        worker.abandon(f"no progress for {seconds:.0f} s")
    else:
        progress.note(f"{signal.Signals(number).name} found it hanging in training {trials}: put back")
        worker.abandon(None)
    progress.__exit__(None, None, None)
    os._exit(HUNG if number is None else 128 + signal.SIGINT)


class _Saver:
    """Writes checkpoints. A disk that is full costs nothing but a longer way back, so training goes on without."""

    def __init__(self, study: Study, worker: Worker, note: Callable[[str], None]):
        self._study, self._worker, self._note, self._failing = study, worker, note, False
        self._last = time.monotonic()

    def now_and_then(self, trials: list[Trial]) -> None:
        """The same if it is time again."""
        if time.monotonic() - self._last >= CHECKPOINT_INTERVAL:
            self(trials)
            self._last = time.monotonic()

    def __call__(self, trials: list[Trial]) -> None:
        try:
            self._study.save(trials)
        except OSError as error:
            if not self._failing:
                self._note(f"checkpoints cannot be written, going on without: {one_line(error)}")
            self._failing = True
        else:
            self._worker.saved([trial for trial in trials if trial.curve])
            if self._failing:
                self._note("checkpoints can be written again")
            self._failing = False


def _announced(refill: Refill, engine: Engine, task: Task, dtype: str, progress: Progress) -> Refill:
    """The same trials, each cell that must be compiled first being named while that happens, and noted after it."""
    seen = set()

    def announced(live: list[Trial], population: int) -> list[Trial]:
        trials = refill(live, population)
        for trial in trials:
            member = trial.member
            if member.signature not in seen:
                seen.add(member.signature)
                with progress.phase(f"compiling {trial.key.variant} for engine={engine.name}"):
                    compiled = engine.compile(member.network.cell, dtype, task.loss, member.update)
                if compiled and not compiled.cached:
                    progress.note(f"compiled {trial.key.variant} for engine={engine.name} in {compiled.seconds:.1f} s")
        return trials

    return announced


@contextmanager
def stopped_by_signals(*stops: Callable[[], None], leave: Callable[[], None]) -> Iterator[None]:
    """While it lasts, a signal to end stops what trains, and a second Ctrl-C the process, once `leave` has been called:
    what is saved is saved whole.

    A handler that was there before, such as submitit's, which requeues the job, is called once all is saved.
    """
    got: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if got and number == signal.SIGINT:
            leave()
            os._exit(128 + number)
        got.append(number)
        for each in stops:
            each()

    before: dict[int, Any] = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if got and callable(before[got[0]]) and before[got[0]] is not signal.default_int_handler:
            signal.raise_signal(got[0])
