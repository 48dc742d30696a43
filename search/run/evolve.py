"""``odyssey evolve``: an evolution of cells, of which each task is a study like any other."""

import json
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from search import cells, engines, losses, rules, tasks
from search.base import files
from search.base.keys import shown, task_name
from search.base.randomness import derive_seed
from search.engines.engine import Engine
from search.errors import INTERRUPTED, UserError, expect, visible
from search.evolve import evolution, generation
from search.evolve import settings as kept_settings
from search.evolve.generation import BEST, Candidate
from search.evolve.genome import Genome
from search.expression import EquationError
from search.run import launchers
from search.run.commands import as_planned, next_line, task_definition, trained, variant_definitions
from search.run.composition import Composed, Composer
from search.run.launchers import Start
from search.run.launchers.job import with_cache
from search.study import planning
from search.study.plan import PLAN_FILE, Plan, read_plan
from search.study.reader import StudyReader
from search.study.storage import kept
from search.study.study import Study
from search.tasks import Task
from search.training.status import Status


def main(composed: Composed, composer: Composer) -> int:
    """Goes on with an evolution to its end; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings = composed.settings
    if settings["storage"] is not None:
        settings["storage"] = kept(settings["storage"])
    folder = Path(settings["runs"]) / settings["study"]
    expect(
        not (folder / PLAN_FILE).exists(), "study", settings["study"], "a name that no odyssey sweep has given a study"
    )
    settings |= _with_short_tasks(settings, composer)
    settings = _with_known(folder, settings, composed.said)
    settings["optimizer"] = rules.normal(settings["optimizer"], settings["space"])
    variants = _beginners(settings["variants"], composer)
    gate = None if settings["gate"] is None else task_name(settings["gate"])
    named = [task_name(task) for task in settings["tasks"]]
    expect(gate not in named, "gate", gate, "none of tasks")
    studies = _Studies.ready(settings, composer, variants)
    kept_settings.write(folder, settings)
    chosen = ("seed", "generations", "children", "survivors", "gate_score", "keep")
    percent = {name: losses.find(studies.tasks[name].loss).counts_errors for name in named}
    given = {key: settings[key] for key in chosen}
    own = evolution.Rules(gate=gate, tasks=percent, more=settings["more"] > 0, **given)
    found = evolution.run(own, variants, studies.train, folder, _Teller(own.generations))
    if found is None:
        return INTERRUPTED
    best = _write_best(folder, found)
    print(
        visible(f"{folder}: complete; the best stand in {best}. {next_line('report', settings['study'], settings)}"),
        file=sys.stderr,
    )
    return 0


def _with_short_tasks(settings: Mapping[str, Any], composer: Composer) -> dict[str, Any]:
    """The tasks and the gate, each as the name of its file, with those options alone that the file says otherwise."""

    def short(task: Any) -> Any:
        if not isinstance(task, dict):
            return task
        name = task_name(task)
        usual = composer.task(name)
        other = {key: value for key, value in _options(task).items() if key not in usual or usual[key] != value}
        return {"name": name, **other} if other else name

    return {"tasks": list(map(short, settings["tasks"])), "gate": short(settings["gate"])}


def _with_known(folder: Path, settings: dict[str, Any], said: frozenset[str]) -> dict[str, Any]:
    """The settings with which an evolution goes on: as it began, but for what the user says.

    Raises:
        UserError: the user says another thing than more generations.
    """
    known = kept_settings.read(folder)
    if known is None:
        return settings
    now = as_planned(settings, known, said)
    optimizer = rules.normal(now["optimizer"], now["space"])
    grown = {"generations"} if now["generations"] > known["generations"] else set()
    other = [
        key
        for key in kept_settings.KEPT
        if key not in grown and (optimizer if key == "optimizer" else now[key]) != known[key]
    ]
    if other:
        texts = [f"{key}: {shown(known[key])} -> {shown(now[key])}" for key in other]
        hint = "use another study=NAME, or the old settings (an evolution may only grow, by more generations)"
        raise UserError(f"study={settings['study']}: exists with other settings: {'; '.join(texts)}; {hint}")
    return now


def _options(task: Any) -> dict[str, Any]:
    """Those of a task of the settings, beside its name."""
    return {key: value for key, value in task.items() if key != "name"} if isinstance(task, dict) else {}


def _beginners(names: list[str], composer: Composer) -> dict[str, dict[str, Any]]:
    """Definitions of the variants with which an evolution begins, each of which can be mutated."""
    found = variant_definitions(names, composer, {})
    for name, definition in found.items():
        try:
            Genome.of(definition)
            forms = {generation.canonical(cells.define(found[each])) for each in names}
        except EquationError as error:
            raise UserError(f"variants={name}: expected a cell that equations alone can say ({error})") from error
    expect(len(forms) == len(names), "variants", ",".join(names), "cells that are not the same")
    return found


@dataclass
class _Studies:
    """The studies of an evolution: of each task TASK, and of its further trials TASK-more.

    Attributes:
        plans: of each, with the variants that it begins with.
        tasks: of each.
        caches: folders of prepared data, by task.
        done: variants whose trials have all ended, with the best validation scores, of studies that were looked at.
    """

    settings: dict[str, Any]
    line: str
    engine: Engine
    start: Start
    plans: dict[str, Plan]
    tasks: dict[str, Task]
    caches: dict[str, str | None]
    done: dict[str, tuple[frozenset[str], Mapping[str, float]]] = field(default_factory=dict)

    @staticmethod
    def ready(settings: dict[str, Any], composer: Composer, variants: Mapping[str, dict[str, Any]]) -> "_Studies":
        """All that is needed is there.

        Raises:
            UserError: a setting is wrong, or a task cannot be made.
        """
        engine = engines.choose(settings["engine"], settings["device"])
        start = launchers.ready(settings["launcher"])
        gate = [] if settings["gate"] is None else [settings["gate"]]
        definitions = {
            task_name(task): task_definition(composer.task(task_name(task)) | _options(task))
            for task in (*gate, *settings["tasks"])
        }
        caches = {name: definition.pop("cache", None) for name, definition in definitions.items()}
        given = {key: settings[key] for key in kept_settings.OF_PLANS} | {"sampler": "random", "paired": True}
        plans, made = {}, {}
        for name, definition in definitions.items():
            study = f"{settings['study']}-{name}"
            plan = Plan(study=study, task=definition, variants=dict(variants), score="", data_hash="", **given)
            planning.check(plan)
            gated = name in map(task_name, gate)
            try:
                made[name] = tasks.load(with_cache(definition, caches[name]))
            except UserError as error:
                raise UserError(f"{'gate' if gated else 'tasks'}={name}: {error}") from error
            plans[name] = plan = replace(plan, score=made[name].score, data_hash=made[name].hash)
            if settings["more"] and not gated:
                expect(f"{name}-more" not in definitions, "tasks", f"{name}-more", f"another name beside {name}")
                seed = derive_seed(settings["seed"], "more")
                plans[f"{name}-more"] = replace(plan, study=f"{study}-more", trials=settings["more"], seed=seed)
                made[f"{name}-more"] = made[name]
        return _Studies(settings, composer.line, engine, start, plans, made, caches)

    def train(
        self, task: str, variants: Mapping[str, Mapping[str, Any]], more: bool = False
    ) -> Mapping[str, float] | None:
        """See `search.evolve.evolution.Train`."""
        name = f"{task}-more" if more else task
        if name not in self.done:
            self.done[name] = self._found(name)
        ended, best = self.done[name]
        if variants.keys() <= ended:
            return best
        folder = self._folder(name)
        old = read_plan(folder).variants if (folder / PLAN_FILE).exists() else {}
        both = {**old, **{key: dict(definition) for key, definition in variants.items()}}
        grown = planning.with_fingerprints(replace(self.plans[name], variants=both))
        study = Study.create(folder, grown)
        try:
            cache = self.caches[task]
            if not trained(study, self.tasks[name], self.engine, self.settings, self.start, cache, self.line):
                return None
            self.done[name] = frozenset(both), study.best()
        finally:
            study.close()
        return self.done[name][1]

    def _found(self, name: str) -> tuple[frozenset[str], Mapping[str, float]]:
        """What is there of a task's study."""
        folder = self._folder(name)
        if not (folder / PLAN_FILE).exists():
            return frozenset(), {}
        study = StudyReader.open(folder, storage=self.settings["storage"])
        try:
            left = {v for v, row in study.counts().items() if row[Status.WAITING] or row[Status.RUNNING]}
            return frozenset(study.plan.variants.keys() - left), study.best()
        finally:
            study.close()

    def _folder(self, name: str) -> Path:
        return Path(self.settings["runs"]) / self.plans[name].study


class _Teller:
    """Says a line of each generation, with the time that is left by the pace of those that were trained here."""

    def __init__(self, generations: int):
        self._left, self._trained, self._last = generations + 1, 0, time.monotonic()
        self._seconds = 0.0

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        self._left, seconds, self._last = self._left - 1, now - self._last, now
        if seconds > 1.0:  # or else it was trained before
            self._trained, self._seconds = self._trained + 1, self._seconds + seconds
        left = ""
        if self._trained and self._left:
            left = f"; about {timedelta(seconds=round(self._seconds / self._trained * self._left))} left"
        print(visible(text + left), file=sys.stderr, flush=True)


def _write_best(folder: Path, found: list[Candidate]) -> Path:
    """Writes the best as variant files, which other commands take with ``--config-dir``."""
    group = folder / kept_settings.VARIANTS
    for path in group.glob("g*-*.yaml"):
        path.unlink()
    for place, candidate in enumerate(generation.best((c for c in found if c.generation), BEST), 1):
        equations, initial = candidate.definition["equations"], candidate.definition.get("initial")
        lines = [f"# number {place} of {folder.name}, {candidate.fitness:.4g} times as good as its first variant"]
        lines += ["equations: |", *(f"  {line}" for line in equations.splitlines())]
        lines += [f"initial: {json.dumps(initial)}"] if initial else []
        files.write(group / f"{candidate.name}.yaml", "\n".join(lines) + "\n")
    return group
