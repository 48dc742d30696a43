"""The commands that make a study again, or one trial of it."""

import re
import shlex
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml
from hydra.core.override_parser.types import Quote, QuotedString

from search import cells, rules
from search.study import planning
from search.study.plan import Plan
from search.study.space import LAYERS, REQUIRED

OWN = "cache"  # where a user keeps data, which no plan and no repetition says


def sweep(plan: Plan) -> str:
    """``odyssey sweep ...`` with all that a study's numbers depend on, quoted for a shell.

    Variants are given by name: where one does not come with Odyssey, the command asks for the folder it is in.
    """
    shipped = all(_shipped("variant", name) == definition for name, definition in plan.variants.items())
    words = [] if shipped else ["--config-dir", "FOLDER"]
    words += [f"study={_value(plan.study)}", *_group("task", plan.task["name"], plan.task)]
    words += _optimizer(plan.optimizer)
    keys = ("trials", "epochs", "patience", "seed", "sampler", "paired", "dtype", "storage")
    given = {"variants": list(plan.variants)} | {key: getattr(plan, key) for key in keys}
    words += [f"{key}={_value(value)}" for key, value in given.items()]
    words += [f"space.{name}={_value(distribution)}" for name, distribution in plan.space.items()]
    return shlex.join(["odyssey", "sweep", *words])


def train(plan: Plan, variant: str, trial: Mapping[str, Any]) -> str:
    """``odyssey train ...`` with all that a trial's numbers depend on, quoted for a shell: it gives the same scores.

    A variant or a task that does not come with Odyssey is given by its definition, so that no ``--config-dir`` is
    needed; its modules must be importable where the command runs.

    Args:
        plan: of the study.
        variant: of the trial.
        trial: its settings, toggles included, and its ``seed`` and ``engine``, as recorded.

    Raises:
        KeyError: the trial lacks one of them, for it never began; or what the settings are for would take the code of
            the user's own that the plan names, which is not run for this.
    """
    settings = {name: trial[name] for name in plan.space}
    toggles = _toggles(plan, variant, settings)
    words = _group("variant", variant, plan.variants[variant] | toggles)
    words += _group("task", plan.task["name"], plan.task)
    words += _optimizer(plan.optimizer)
    own = "" if _shipped("optimizer", plan.optimizer["rule"]) else "optimizer."  # of what a user's rule is given
    for name, value in settings.items():
        if name not in toggles:
            words.append(f"{'' if name in (*REQUIRED, *LAYERS) else own}{name}={_value(value)}")
    last = {"seed": trial["seed"], "order_seed": plan.seed, "epochs": plan.epochs, "patience": plan.patience}
    last |= {"engine": trial["engine"], "dtype": plan.dtype}
    return shlex.join(["odyssey", "train", *words, *(f"{name}={_value(value)}" for name, value in last.items())])


def _toggles(plan: Plan, variant: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that are the cell's, told without running code that a plan names."""
    if not rules.is_own(plan.optimizer):
        return planning.toggles(plan, settings)
    if cells.is_own(plan.variants[variant]):
        raise KeyError("settings of a cell and of a rule that are both the user's own")
    legal = cells.toggles(cells.define(plan.variants[variant]))
    return {name: value for name, value in settings.items() if name in legal}


@cache
def _shipped(group: str, name: str) -> Mapping[str, Any]:
    """What a file of a config group that comes with Odyssey says; nothing if there is none of that name."""
    file = resources.files("configs") / group / f"{name}.yaml"
    known = yaml.safe_load(file.read_text(encoding="utf-8")) if name.isidentifier() and file.is_file() else {}
    return {key: value for key, value in known.items() if key != OWN}


def _group(group: str, name: str, definition: Mapping[str, Any]) -> list[str]:
    """Overrides that choose a file of a config group, and of its keys those that it has otherwise; or all keys."""
    given = _shipped(group, name)
    if given and given.keys() <= definition.keys():
        chosen = f"{group}={name}"
    else:
        chosen, given = f"~{group}", {}
    changed = {key: value for key, value in definition.items() if key not in given or value != given[key]}
    return [chosen, *(f"{group}.{key}={_value(value)}" for key, value in changed.items())]


def _optimizer(definition: Mapping[str, Any]) -> list[str]:
    """Overrides that give an update rule, whose sampled settings are said elsewhere; none for what is the default."""
    name = definition["rule"]
    given = _shipped("optimizer", name)
    chosen = [f"optimizer={name}"] if given else ["~optimizer", f"optimizer.rule={_value(name)}"]
    changed = {key: value for key, value in definition.items() if key != "rule" and value != given.get(key)}
    words = [*chosen, *(f"optimizer.{key}={_value(value)}" for key, value in changed.items())]
    return [] if words == ["optimizer=sgd"] else words


def _value(value: Any) -> str:
    """In Hydra's override syntax."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str) and not (re.fullmatch(r"[A-Za-z]\w*", value, re.ASCII) and value.lower() not in _WORDS):
        return str(QuotedString(value.replace("${", "\\${"), Quote.single).with_quotes())
    return str(value)


_WORDS = ("null", "true", "false", "nan", "inf")  # which are no text, unless quoted
