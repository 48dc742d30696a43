"""The commands: from a composed configuration to calls of the modules that do the work."""

import json
import logging
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from search import cells, engines, rules, tasks
from search.base import files
from search.base.keys import NAME_EXPECTED, is_name, shown
from search.engines.engine import Engine
from search.errors import FAILED, INTERRUPTED, expect, visible
from search.run import launchers
from search.run.bench import COLUMNS, SHAPED_SEQUENCES, Settings, measure, shaped
from search.run.composition import Composed, Composer
from search.run.launchers import Job, Start, local
from search.run.launchers.job import train_here, with_cache, work
from search.run.launchers.watch import watch
from search.study import planning, progress
from search.study import replicate as replicates
from search.study.archive import refuse_published
from search.study.plan import PLAN_FILE, Plan, find, read_plan, refuse_unless_grown, storage_url
from search.study.reader import StudyReader
from search.study.record import result_of
from search.study.space import LAYERS, REQUIRED, check_setting
from search.study.storage import kept
from search.study.study import Study
from search.tasks import Task
from search.training.status import Status
from search.training.trial import Trial, listed
from search.training.trial import train as train_population

_PLANNED = (
    *("variants", "trials", "epochs", "patience", "seed", "sampler", "paired", "space", "dtype", "optimizer"),
    "storage",
)


def sweep(composed: Composed, composer: Composer) -> int:
    """``odyssey sweep``: runs a study, or what it still lacks.

    An existing study goes on by its own plan; what the user says beyond that may make it grow.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings = composed.settings
    if settings["storage"] is not None:
        settings["storage"] = kept(settings["storage"])
    folder = Path(settings["runs"]) / settings["study"]
    refuse_published(folder)
    old = read_plan(folder) if (folder / PLAN_FILE).exists() else None
    cache = task_definition(settings["task"]).get("cache")
    if old is None or "variants" in composed.said:
        settings["variants"] = variant_definitions(settings["variants"], composer, old.variants if old else {})
    if old:
        planned = {"task": old.task} | {key: getattr(old, key) for key in _PLANNED}
        settings = as_planned(settings, planned, composed.said)
        storage_url(folder, old, settings["storage"] if "storage" in composed.said else None)
    settings["optimizer"] = rules.normal(settings["optimizer"], settings["space"])
    engine = engines.choose(settings["engine"], settings["device"])
    definition = {key: value for key, value in task_definition(settings["task"]).items() if key != "cache"}
    given = {key: settings[key] for key in _PLANNED}
    plan = Plan(study=settings["study"], task=definition, score="", data_hash="", **given)
    plan = planning.with_fingerprints(plan)
    if old:  # before the data are prepared, which may take long
        refuse_unless_grown(old, replace(plan, score=old.score, data_hash=old.data_hash))
    start = launchers.ready(settings["launcher"])
    task = tasks.load(with_cache(definition, cache))
    study = Study.create(folder, replace(plan, score=task.score, data_hash=task.hash))
    complete = trained(study, task, engine, settings, start, cache, composer.line)
    return _ended(study, settings) if complete else INTERRUPTED


def trained(
    study: Study, task: Task, engine: Engine, settings: dict[str, Any], start: Start, cache: str | None, again: str
) -> bool:
    """Trains what a study lacks, here or by the workers of a launcher; returns whether it is complete.

    Args:
        study: opened for writing.
        task: the study's.
        engine: computes.
        settings: of the command.
        start: what `launchers.ready` gave.
        cache: folder of prepared data, for tasks that have one.
        again: the command line that goes on with it, for people.

    Raises:
        UserError: see `search.study.sweep.run` and `search.run.launchers.watch.watch`.
    """
    launcher = settings["launcher"]
    if launcher["name"] == "local" and local.n_workers(launcher, engine.name) == 1:
        return train_here(study, task, engine, settings, again)
    workers = start(_job(settings, study.folder, cache, study.plan.storage))
    with progress.Progress(study.counts(), study.plan.epochs, study.plan.score, again) as display:
        display.note(f"study {study.folder}, {workers.described}")
        return watch(study, workers, display)


def _ended(study: Study, settings: dict[str, Any]) -> int:
    """Says what has come of a complete study; returns the exit code."""
    counts, failures = study.counts(), study.failures()
    if failures and not any(row[Status.FINISHED] + row[Status.DIVERGED] for row in counts.values()):
        said = list(dict.fromkeys(error for _, _, error, _ in failures))
        more = f" (and {len(said) - 3} other errors)" if len(said) > 3 else ""
        print(f"{study.folder}: all {len(failures)} trials failed: {'; '.join(said[:3])}{more}", file=sys.stderr)
        return FAILED
    study.check_curves()
    left_out = f", {len(failures)} trials failed, see odyssey status" if failures else ""
    print(f"{study.folder}: complete{left_out}. {next_line('report', study.plan.study, settings)}", file=sys.stderr)
    return 0


def next_line(command: str, study: str, settings: Mapping[str, Any]) -> str:
    """Which command on a study comes next."""
    runs = "" if settings["runs"] == "runs" else f" runs={shlex.quote(settings['runs'])}"
    return f"Next: odyssey {command} study={shlex.quote(study)}{runs}"


def replicate(composed: Composed, composer: Composer) -> int:
    """``odyssey replicate``: trains the best setting of each variant of a complete study again, with new seeds."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings = composed.settings
    folder = find(settings["study"], settings["runs"])
    refuse_published(folder)
    searched = StudyReader.open(folder, storage=None if settings["storage"] is None else kept(settings["storage"]))
    plan, originals = searched.plan, replicates.best(searched)
    searched.close()
    refuse_unless_grown(plan, planning.with_fingerprints(plan))
    planned = list(replicates.plans(folder, plan, originals, settings["seeds"]))
    engine = engines.choose(settings["engine"], settings["device"])
    task = tasks.load(with_cache(plan.task, settings["cache"]))
    refuse_unless_grown(plan, replace(plan, data_hash=task.hash))
    failed = 0
    for path, own in planned:
        study = Study.create(path, own)
        if not train_here(study, task, engine, settings, composer.line):
            return INTERRUPTED
        failed += len(study.failures())
        study.close()
    left_out = f", {failed} failed, see odyssey status study={folder / replicates.FOLDER}/NAME" if failed else ""
    done = f"{settings['seeds']} replicates of the best trial of {', '.join(originals)}{left_out}"
    print(f"{folder}: {done}. {next_line('report', settings['study'], settings)}", file=sys.stderr)
    return FAILED if failed == settings["seeds"] * len(originals) else 0


def worker(composed: Composed, composer: Composer) -> int:
    """``odyssey worker``: helps with a study that a sweep has begun."""
    settings = composed.settings
    named = None if settings["storage"] is None else kept(settings["storage"])
    job = _job(settings, find(settings["study"], settings["runs"]), settings["cache"], named)
    return work(job, composer.line)


def train(composed: Composed, composer: Composer) -> None:
    """``odyssey train``: trains one trial and prints its result as one line of JSON."""
    settings = composed.settings
    for name in (*REQUIRED, *LAYERS):
        check_setting(name, name, settings[name])
    rule, trained_by = rules.separated(settings["optimizer"])
    engine = engines.choose(settings["engine"], settings["device"])
    variant = settings["variant"]
    expect(isinstance(variant, dict), "variant", variant, "a file of the config group, e.g. variant=vanilla")
    cell = cells.define(variant)
    task = tasks.load(task_definition(settings["task"]))
    hyperparameters = {name: settings[name] for name in (*REQUIRED, *LAYERS)} | trained_by
    for name in ("hidden_size", "n_layers"):
        hyperparameters[name] = int(hyperparameters[name])
    trial = Trial.new(0, cell, hyperparameters, settings["seed"], task, settings["dtype"], rule)
    trainer = engine.trainer(task, settings["dtype"], settings["threads"] or engines.n_cores())
    rounds = train_population(
        listed([trial]),
        trainer,
        len(task.splits["train"].inputs),
        epochs=settings["epochs"],
        patience=settings["patience"],
        population=1,
        seed=settings["seed"] if settings["order_seed"] is None else settings["order_seed"],
    )
    for latest in rounds:
        for _, error in latest.failed:
            raise error
        for trial in (*latest.live, *latest.ended):
            loss, score = trial.curve[-1] if trial.status != Status.DIVERGED else (float("nan"), float("nan"))
            print(f"epoch {trial.member.epoch}: train {loss:.4f}, valid {score:.4f}", file=sys.stderr)
    result = {"task": task.name, "variant": composed.choices.get("variant")}  # none if it is given by its definition
    result |= result_of(trial, settings["dtype"], task.hash, engine.name, engine.device)
    print(json.dumps(result, allow_nan=False))


def data(composed: Composed, composer: Composer) -> None:
    """``odyssey data``: prepares a task's data."""
    task = tasks.load(task_definition(composed.settings["task"]))
    for name, split in task.splits.items():
        print(f"{name}: {len(split.inputs)} sequences of {split.n_steps} steps, {split.n_predicted} to predict")
    for key, value in task.source.items():
        print(visible(f"{key}: {value}"))
    print(f"sha256: {task.hash}")


def bench(composed: Composed, composer: Composer) -> None:
    """``odyssey bench``: prints what it measures, and writes it as JSON."""
    settings = composed.settings
    for name in settings["engines"]:
        engines.choose(name)
    for name in settings["variants"]:
        cells.get(name)
    task_definition(settings["task"])
    if (
        settings["task"]["name"] in COLUMNS
        and settings["task"].get("path", "") is None
        and not settings["task"].get("source")
    ):
        task = shaped(settings["task"]["name"])
        print(f"task.path=null: {SHAPED_SEQUENCES} sequences of random data in the shape of {task.name}")
    else:
        task = tasks.load(settings["task"])
    keys = ("engines", "variants", "hidden_sizes", "population", "repeats")
    chosen = Settings(**{key: settings[key] for key in keys}, threads=settings["threads"] or engines.n_cores())
    record = measure(task, chosen, print)
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    path = Path(settings["out"]) / f"{moment}-{task.name}.json"
    files.write(path, json.dumps(record, indent=1))
    print(f"written to {path}")


def task_definition(task: Any) -> dict[str, Any]:
    """The definition of a task, of which at least the name is known."""
    named = isinstance(task, dict) and isinstance(task.get("name"), str)
    expect(named, "task", shown(task), "a file of the config group, e.g. task=jsb")
    expect(is_name(task["name"]), "task.name", shown(task["name"]), NAME_EXPECTED)
    return {str(key): value for key, value in task.items()}


def variant_definitions(
    names: list[str], composer: Composer, planned: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Definitions of variants by name, from the config group ``variant`` (also one of the user's ``--config-dir``), or
    as `planned` where there is no such file; those that are planned first, in their order."""
    files = composer.options("variant")
    found: dict[str, dict[str, Any]] = {}
    for name in [*(name for name in planned if name in names), *(name for name in names if name not in planned)]:
        expect(names.count(name) == 1, "variants", name, "each name once")
        found[name] = planned[name] if name in planned and name not in files else composer.variant(name)
    return found


def as_planned(settings: dict[str, Any], planned: Mapping[str, Any], said: frozenset[str]) -> dict[str, Any]:
    """The settings with which something that exists goes on: those that were planned, but for what the user said."""
    merged = settings | {key: value for key, value in planned.items() if key not in said}
    for key in said:  # space.lr.low=1e-4 is said of the plan's own space
        words = key.split(".")
        group, *path = words[1:] if words[:2] == ["optimizer", "space"] else words
        if path and group in ("task", "space", "optimizer") and words[0] not in said:
            merged[group] = _with(merged[group], path, settings[group])
            if group == "optimizer":  # what is given is not sampled
                merged["space"] = _with(merged["space"], path, settings["space"])
    return merged


def _with(mapping: dict[str, Any], path: list[str], source: dict[str, Any]) -> dict[str, Any]:
    """`mapping` with the value that `source` has at `path`, or without it where `source` has none."""
    name, *rest = path
    if name not in source:
        return {key: value for key, value in mapping.items() if key != name}
    below = mapping.get(name)
    value = _with(below, rest, source[name]) if rest and isinstance(below, dict) else source[name]
    return mapping | {name: value}


def _job(settings: dict[str, Any], folder: Path, cache: str | None, storage: str | None) -> Job:
    execution = {key: settings[key] for key in ("engine", "device", "population", "threads", "lease", "trial_timeout")}
    return Job(str(folder.resolve()), os.getcwd(), **execution, cache=cache, storage=storage)
