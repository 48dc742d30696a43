"""What a worker is to do, in a form that can be sent to another process or machine; and doing it."""

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search import engines, tasks
from search.engines.engine import Engine
from search.errors import INTERRUPTED, expect
from search.study.progress import Progress
from search.study.study import Study
from search.study.sweep import run
from search.tasks.task import Task


@dataclass(frozen=True)
class Job:
    """Attributes:
    folder: of the study, absolute.
    directory: where it runs, which is where users' modules and relative paths are found.
    engine, device, population, lease, trial_timeout: as ``odyssey worker`` takes them.
    threads: None for all cores.
    cache: folder of prepared data, for tasks that have one.
    storage: the study's, if it is not in its folder: of a plan alone no other is opened.
    """

    folder: str
    directory: str
    engine: str
    device: str
    population: int
    threads: int | None
    lease: float
    trial_timeout: float
    cache: str | None
    storage: str | None = None


def work(job: Job, again: str = "") -> int:
    """Joins a study as a worker until it is complete; returns the exit code.

    Args:
        job: what to do.
        again: the command line that goes on with it, for people.

    Raises:
        UserError: the study cannot be worked on here; says why.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.chdir(job.directory)
    if job.directory not in sys.path:
        sys.path.append(job.directory)
    study = Study.open(Path(job.folder), storage=job.storage)
    plan = study.plan
    engine = engines.choose(job.engine, job.device)
    task = tasks.load(with_cache(plan.task, job.cache))
    expect(task.hash == plan.data_hash, "data_hash", task.hash, f"that of the study's data, {plan.data_hash}")
    complete = train_here(study, task, engine, dataclasses.asdict(job), again)
    return 0 if complete else INTERRUPTED


def train_here(study: Study, task: Task, engine: Engine, settings: Mapping[str, Any], again: str) -> bool:
    """Trains what a study lacks in this process, and shows how far it is; returns whether it is complete.

    Args:
        study: opened for writing.
        task: the study's.
        engine: computes.
        settings: ``population``, ``threads`` (None: all cores), ``lease`` and ``trial_timeout``, as commands take them.
        again: the command line that goes on with it, for people; empty if nobody typed one.

    Raises:
        UserError: see `search.study.sweep.run`.
    """
    with Progress(study.counts(), study.plan.epochs, study.plan.score, again) as display:
        display.note(f"study {study.folder}, engine {engine.name} on {engine.device}")
        return run(
            study,
            task,
            engine,
            population=settings["population"],
            threads=settings["threads"] or engines.n_cores(),
            progress=display,
            lease=settings["lease"],
            trial_timeout=settings["trial_timeout"],
        )


def with_cache(task: dict[str, Any], cache: str | None) -> dict[str, Any]:
    """A task's definition with the folder of prepared data, if it takes one; that is no part of a study's plan."""
    return task | ({"cache": cache} if cache and "cache" in tasks.options(task) else {})


def command(job: Job) -> list[str]:
    """The command line that does a job in a process of its own."""
    return [sys.executable, "-m", "search.run.launchers", json.dumps(dataclasses.asdict(job))]
