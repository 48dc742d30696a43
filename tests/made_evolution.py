"""An evolution as `odyssey evolve` leaves it, made without training."""

from pathlib import Path
from typing import Any

import yaml

from search.evolve import lineage
from search.evolve.generation import Candidate
from search.evolve.settings import FILE, KEPT
from tests.test_analysis import make_study

RNN = {"equations": "y = tanh(W x + R y)"}
SETTINGS = {"variants": ["vanilla"], "tasks": ["jsb"], "gate": None, "generations": 3, "survivors": 2}


def cell(name: str, generation: int, parent: str, score: float, *mutations: str, **more: Any) -> Candidate:
    """A cell of that relative score, which has not been trained yet if that is 0."""
    return Candidate(name, generation, parent, mutations, RNN, "", scores={"jsb": score} if score else {}, **more)


FOUND = [
    cell("vanilla", 0, "", 1.0),
    cell("", 1, "vanilla", 0.0, "swap", rejected="dead"),
    cell("g001-000", 1, "vanilla", 1.2, "swap", "share"),
    cell("g001-001", 1, "vanilla", 0.8, "one", rejected="task jsb"),
    cell("g001-002", 1, "vanilla", 0.95, "one"),
    cell("g002-000", 2, "g001-000", 1.1, "bias"),
    cell("g002-001", 2, "g001-002", 1.3, "rewire"),
]


def make_evolution(runs: Path, name: str = "mine", found: list[Candidate] = FOUND, **more: Any) -> Path:
    """Its folder, with a study of each of its tasks in which all cells have been trained; more: of its settings."""
    settings = dict.fromkeys(KEPT) | SETTINGS | more
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / FILE).write_text(yaml.safe_dump(settings))
    lineage.write(folder, found)
    for task in settings["tasks"]:
        add_study(folder, task, found)
    return folder


def add_study(evolution: Path, task: str, found: list[Candidate] = FOUND) -> Path:
    """A task's study, with two trials of each cell."""
    folder = evolution.parent / f"{evolution.name}-{task}"
    named = tuple(each.name for each in found if each.name)
    make_study(evolution.parent, folder.name, named, trials=2, tasks=(task,)).rename(folder)
    plan = yaml.safe_load((folder / "study.yaml").read_text())
    plan["variants"] |= {each.name: dict(each.definition) for each in found if each.generation and each.name}
    (folder / "study.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    return folder
