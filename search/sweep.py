"""Running a study: its trials through the training loop, with checkpoints, results and progress."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from search.engines.engine import Engine, Interrupted, Trainer
from search.progress import Progress
from search.study import Study
from search.tasks.task import Task
from search.training import Round, Trial, train

CHECKPOINT_INTERVAL = 20.0  # seconds


def run(study: Study, task: Task, engine: Engine, *, population: int, threads: int, progress: Progress) -> bool:
    """Trains what a study still lacks.

    Args:
        study: held by this process (`Study.locked`).
        task: the study's.
        engine: computes the epochs.
        population: trials in training at a time.
        threads: for the engine.
        progress: is told of each epoch.

    Returns:
        whether the study is complete; False if a signal came first, and then all trials under way are saved.
    """
    plan = study.plan
    trainer = engine.trainer(task, plan.dtype, threads)
    rounds = train(
        _announced(study.trials(task), engine, task, plan.dtype, progress),
        trainer,
        len(task.splits["train"].inputs),
        epochs=plan.epochs,
        patience=plan.patience,
        population=population,
        seed=plan.seed,
    )
    latest = Round([], [])
    saved = time.monotonic()
    with _stopped_by_signals(trainer):
        try:
            for latest in rounds:
                for trial in latest.ended:
                    study.finish(trial, engine.name, engine.device)
                progress.update(latest)
                if time.monotonic() - saved >= CHECKPOINT_INTERVAL:
                    study.save(latest.live)
                    saved = time.monotonic()
        except Interrupted:
            study.save(latest.live)
            return False
    return True


def _announced(trials: Iterator[Trial], engine: Engine, task: Task, dtype: str, progress: Progress) -> Iterator[Trial]:
    """The same trials, each made known as it begins, with a note if its cell had to be compiled first."""
    seen = set()
    for trial in trials:
        cell = trial.member.network.cell
        if cell.signature not in seen:
            seen.add(cell.signature)
            compiled = engine.compile(cell, dtype, task.loss)
            if compiled and not compiled.cached:
                progress.note(f"compiled {trial.key.variant} for engine={engine.name} in {compiled.seconds:.1f} s")
        progress.begin(trial.key.variant)
        yield trial


@contextmanager
def _stopped_by_signals(trainer: Trainer) -> Iterator[None]:
    """While it lasts, SIGINT and SIGTERM stop the trainer instead of the process."""

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
