"""The commands: from a composed configuration to calls of the modules that do the work."""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from search import cells, engines, files, launchers, progress, tasks
from search.bench import COLUMNS, SHAPED_SEQUENCES, Settings, measure, shaped
from search.errors import expect, expect_whole
from search.launchers import Job, local
from search.launchers.job import work
from search.launchers.watch import watch
from search.space import REQUIRED, check_setting
from search.status import status_of
from search.storage import without_password
from search.study import DTYPES, Plan, Study, find, result_of
from search.sweep import run
from search.training import Trial, listed
from search.training import train as train_population

_PLANNED = ("trials", "epochs", "patience", "seed", "sampler", "paired", "space", "dtype", "storage")
# Where data is cached is no part of what a study computes.
_NOT_PLANNED = ("cache",)


def sweep(config: DictConfig) -> int:
    """``odyssey sweep``: runs a study, or what it still lacks."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings = _plain(config)
    _check_execution(settings, "population")
    if settings["storage"] is not None:
        settings["storage"] = without_password(str(settings["storage"]))
    engine = engines.choose(settings["engine"], settings["device"])
    variants = _variants(settings["variants"])
    task = tasks.load(settings["task"])
    plan = Plan(
        study=_name(settings["study"]),
        task={key: value for key, value in settings["task"].items() if key not in _NOT_PLANNED},
        score=task.score,
        variants=variants,
        data_hash=task.hash,
        **{key: settings[key] for key in _PLANNED},
    )
    folder = Path(settings["runs"]) / plan.study
    study = Study.create(folder, plan, settings["extend"])
    launcher = settings["launcher"]
    if launcher.get("name") == "local" and local.n_workers(launcher, engine.name) == 1:
        with progress.Progress(study.counts(), plan.epochs) as display:
            display.note(f"study {folder}, engine {engine.name} on {engine.device}")
            complete = run(
                study,
                task,
                engine,
                population=settings["population"],
                threads=settings["threads"] or engines.n_cores(),
                progress=display,
                lease=settings["lease"],
            )
    else:
        workers = launchers.start(_job(settings, folder, settings["task"].get("cache")), launcher)
        with progress.Progress(study.counts(), plan.epochs) as display:
            display.note(f"study {folder}, {workers.described}")
            complete = watch(study, workers, display)
    if not complete:
        return 130  # as after SIGINT; the command line says how to go on
    print(f"{folder}: complete. Next: odyssey report study={plan.study}" + _runs_option(settings), file=sys.stderr)
    return 0


def worker(config: DictConfig) -> int:
    """``odyssey worker``: helps with a study that a sweep has begun."""
    settings = _plain(config)
    _check_execution(settings, "population")
    return work(_job(settings, find(settings["study"], settings["runs"]), settings["cache"]))


def train(config: DictConfig) -> None:
    """``odyssey train``: trains one trial and prints its result as one line of JSON."""
    settings = _plain(config)
    _check_execution(settings)
    for name in REQUIRED:
        check_setting(name, name, settings[name])
    for name in ("epochs", "patience"):
        expect_whole(name, settings[name], 1)
    expect_whole("seed", settings["seed"], 0)
    expect(settings["dtype"] in DTYPES, "dtype", settings["dtype"], f"one of {', '.join(DTYPES)}")
    engine = engines.choose(settings["engine"], settings["device"])
    cell = cells.define(settings["variant"])
    task = tasks.load(settings["task"])
    hyperparameters = {name: settings[name] for name in REQUIRED}
    trial = Trial.new(0, cell, hyperparameters, settings["seed"], task, settings["dtype"])
    trainer = engine.trainer(task, settings["dtype"], settings["threads"] or engines.n_cores())
    rounds = train_population(
        listed([trial]),
        trainer,
        len(task.splits["train"].inputs),
        epochs=settings["epochs"],
        patience=settings["patience"],
        population=1,
        seed=settings["seed"],
    )
    for latest in rounds:
        for _, error in latest.failed:
            raise error
        for trial in (*latest.live, *latest.ended):
            loss, score = trial.curve[-1] if trial.status != "diverged" else (float("nan"), float("nan"))
            print(f"epoch {trial.member.epoch}: train {loss:.4f}, valid {score:.4f}", file=sys.stderr)
    variant = HydraConfig.get().runtime.choices["variant"]
    result = {"task": task.name, "variant": variant}
    result |= result_of(trial, settings["dtype"], task.hash, engine.name, engine.device)
    print(json.dumps(result, allow_nan=False))


def status(config: DictConfig) -> None:
    """``odyssey status``: trials of a study by variant and status, its workers, and what failed trials said."""
    study = Study.open(find(config.study, config.runs))
    print(status_of(study, tracebacks=config.tracebacks))


def data(config: DictConfig) -> None:
    """``odyssey data``: prepares a task's data."""
    task = tasks.load(_plain(config)["task"])
    for name, split in task.splits.items():
        print(f"{name}: {len(split.inputs)} sequences of {split.n_steps} steps, {split.n_predicted} to predict")
    for key, value in task.source.items():
        print(f"{key}: {value}")
    print(f"sha256: {task.hash}")


def bench(config: DictConfig) -> None:
    """``odyssey bench``: prints what it measures, and writes it as JSON."""
    settings = _plain(config)
    _check_execution(settings, "population", "repeats")
    for name in settings["engines"]:
        engines.choose(name)
    for name in settings["variants"]:
        cells.get(name)
    for n in settings["hidden_sizes"]:
        check_setting("hidden_sizes", "hidden_size", n)
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


def _plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, all keys present."""
    settings = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def _variants(names: Any) -> dict[str, dict[str, Any]]:
    """Definitions of variants by name, from the config group ``variant`` (also one of the user's ``--config-dir``)."""
    expect(isinstance(names, list) and bool(names), "variants", names, "a list of names, e.g. [vanilla,cifg]")
    loader = GlobalHydra.instance().config_loader()
    legal = loader.get_group_options("variant")
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        expect(name in legal, "variants", name, f"names among {', '.join(legal)}")
        expect(name not in found, "variants", name, "each name once")
        found[name] = _plain(compose(f"variant/{name}").variant)
    return found


def _name(study: Any) -> str:
    text = str(study)
    plain = bool(text) and text not in (".", "..") and "/" not in text and "\0" not in text
    expect(plain, "study", study, "a name for a folder, without '/'")
    return text


def _runs_option(settings: dict[str, Any]) -> str:
    return "" if settings["runs"] == "runs" else f" runs={settings['runs']}"


def _job(settings: dict[str, Any], folder: Path, cache: str | None) -> Job:
    execution = {key: settings[key] for key in ("engine", "device", "population", "threads", "lease")}
    return Job(str(folder.resolve()), os.getcwd(), **execution, cache=cache)


def _check_execution(settings: dict[str, Any], *whole: str) -> None:
    if "lease" in settings:
        lease = settings["lease"]
        number = isinstance(lease, int | float) and not isinstance(lease, bool) and lease >= 1
        expect(number, "lease", lease, "a number of seconds, at least 1")
    for key in whole:
        expect_whole(key, settings[key], 1)
    if settings["threads"] is not None:
        expect_whole("threads", settings["threads"], 1)
