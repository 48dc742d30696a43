"""The command that trains one trial of a study again."""

import re
import shlex
from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml
from hydra.core.override_parser.types import Quote, QuotedString

from search.space import OPTIONAL, REQUIRED
from search.study import Plan

OWN = "cache"  # where a user keeps data, which no plan and no repetition says


def command(plan: Plan, variant: str, trial: Mapping[str, Any]) -> str:
    """``odyssey train ...`` with all that a trial's numbers depend on, quoted for a shell: it gives the same scores.

    A variant or a task that does not come with Odyssey is given by its definition, so that no ``--config-dir`` is
    needed; its modules must be importable where the command runs.

    Args:
        plan: of the study.
        variant: of the trial.
        trial: its settings, toggles included, and its ``seed`` and ``engine``, as recorded.

    Raises:
        KeyError: the trial lacks one of them, for it never began.
    """
    settings = {name: trial[name] for name in plan.space}
    toggles = {name: value for name, value in settings.items() if name not in (*REQUIRED, *OPTIONAL)}
    words = _group("variant", variant, plan.variants[variant] | toggles)
    words += _group("task", plan.task["name"], plan.task)
    words += [f"{name}={_value(value)}" for name, value in settings.items() if name not in toggles]
    last = {"seed": trial["seed"], "order_seed": plan.seed, "epochs": plan.epochs, "patience": plan.patience}
    last |= {"engine": trial["engine"], "dtype": plan.dtype}
    return shlex.join(["odyssey", "train", *words, *(f"{name}={_value(value)}" for name, value in last.items())])


def _group(group: str, name: str, definition: Mapping[str, Any]) -> list[str]:
    """Overrides that choose a file of a config group, and of its keys those that it has otherwise; or all keys."""
    shipped = resources.files("configs") / group / f"{name}.yaml"
    known = yaml.safe_load(shipped.read_text(encoding="utf-8")) if name.isidentifier() and shipped.is_file() else {}
    given = {key: value for key, value in known.items() if key != OWN}
    if given and given.keys() <= definition.keys():
        chosen = f"{group}={name}"
    else:
        chosen, given = f"~{group}", {}
    changed = {key: value for key, value in definition.items() if key not in given or value != given[key]}
    return [chosen, *(f"{group}.{key}={_value(value)}" for key, value in changed.items())]


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
