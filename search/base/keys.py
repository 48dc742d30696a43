"""The keys of the commands: what values each takes. What a key means and its default stand in configs/COMMAND.yaml."""

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import yaml

from search.errors import UserError, expect, masked

ENGINES = ("auto", "reference", "cpu", "cuda")
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "float64")
SAMPLERS = ("random", "qmc", "grid", "tpe")
SELECTIONS = ("valid", "test")
ADJUSTMENTS = ("bonferroni", "holm")
OLDEST_RULE = "sgd"  # of plans that say nothing of it, which are older than other update rules
MOST_THREADS = 1024  # beyond any machine's cores, and short of what a typing error asks for
# Letters, digits and the signs that mean nothing to a path, a URL or a shell: a name is all three.
NAME = re.compile(r"\w[\w .+=@-]*(?<! )")


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    Attributes:
        legal: whether a value is one.
        expected: what is, in words.
        values: all of them, if they are few.
        text: whether a value, or each of a list, is taken as it is typed, whatever signs are in it.
        many: whether a value is a list, for which ``a,b`` is short.
        mapped: whether a value may be ``{KEY: VALUE}`` instead of a text.
    """

    legal: Callable[[Any], bool]
    expected: str
    values: tuple[str, ...] = ()
    text: bool = False
    many: bool = False
    mapped: bool = False

    def check(self, key: str, value: Any) -> None:
        """Raises UserError unless `value` is legal for `key`."""
        expect(self.legal(value), key, shown(value), self.expected)


def shown(value: Any) -> str:
    """A value as it is typed on the command line, without secrets, cut to a length that leaves an error one line."""
    text = {None: "null", True: "true", False: "false"}.get(value) if isinstance(value, bool | None) else None
    text = masked(" ".join(str(value).split())) if text is None else text
    return text if len(text) <= 100 else f"{text[:100]}..."


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and within the range of float64."""
    most = sys.float_info.max  # which math.isfinite does not compare whole numbers with, but fails
    return isinstance(value, int | float) and not isinstance(value, bool) and -most <= value <= most


def whole(low: int, high: int = 2**31 - 1, null: str = "") -> Kind:
    """Whole numbers from `low` to `high`; or null, if `null` says what that means."""
    to = {2**31 - 1: "", 2**63 - 1: " and below 2**63"}.get(high, f" and at most {high}")
    return _or_null(Kind(lambda v: is_whole(v) and low <= v <= high, f"a whole number of at least {low}{to}"), null)


def number(low: float, high: float = math.inf, null: str = "") -> Kind:
    """Finite numbers from `low` to `high`."""
    to = "" if high == math.inf else f" and at most {high:g}"
    return _or_null(Kind(lambda v: is_number(v) and low <= v <= high, f"a number of at least {low:g}{to}"), null)


def one_of(*values: str) -> Kind:
    """Certain words."""
    return Kind(lambda v: isinstance(v, str) and v in values, f"one of {', '.join(values)}", values)


def text(expected: str, null: str = "") -> Kind:
    """Any text."""
    return _or_null(
        Kind(lambda v: isinstance(v, str) and bool(v.strip()) and v.isprintable(), expected, text=True), null
    )


def list_of(each: Kind) -> Kind:
    """Lists, not empty, without repeats."""

    def legal(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(map(each.legal, value)) and len(set(value)) == len(value)

    return Kind(legal, f"a list of which each is {each.expected}, once", each.values, each.text, many=True)


def _or_null(kind: Kind, null: str) -> Kind:
    if not null:
        return kind
    return replace(kind, legal=lambda v: v is None or kind.legal(v), expected=f"{kind.expected}; or null, {null}")


def is_name(value: Any) -> bool:
    """Whether a value can be the name of a study, a task or a variant: it names folders, and rows of a storage."""
    return isinstance(value, str) and bool(NAME.fullmatch(value)) and len(value) <= 100


def is_task(value: Any) -> bool:
    """Whether a value is the name of a task, or a mapping of its options with the name among them."""
    options = isinstance(value, dict) and all(isinstance(key, str) for key in value)
    return is_name(value["name"] if options and "name" in value else value)


def task_name(value: Any) -> str:
    """The name in a value of which `is_task` is true."""
    return str(value["name"] if isinstance(value, dict) else value)


def _are_tasks(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(map(is_task, value))
        and len(set(map(task_name, value))) == len(value)
    )


NAME_EXPECTED = "a name of letters, digits, _ and, not first, . + = @ - or blanks"
TRUTH = Kind(lambda v: isinstance(v, bool), "true or false", ("true", "false"))
_STUDY = text("the name of a study, or the path of its folder")
_STUDIES = Kind(
    lambda v: _STUDY.legal(v) or (isinstance(v, list) and bool(v) and all(map(_STUDY.legal, v))),
    "the name of a study or the path of its folder, or several as a,b",
    text=True,
    many=True,
)
_NAMES = Kind(
    lambda v: isinstance(v, list) and bool(v) and all(isinstance(each, str) for each in v),
    "a list of names, e.g. vanilla,cifg",
    text=True,
    many=True,
)
KINDS: Mapping[str, Kind] = {
    "study": Kind(is_name, NAME_EXPECTED, text=True),
    "variants": _NAMES,
    "tasks": Kind(
        _are_tasks,
        "a list of names of tasks, each once; with options as in [{name: adding, length: 50}, jsb]",
        text=True,
        many=True,
        mapped=True,
    ),
    "gate": Kind(
        lambda v: v is None or is_task(v),
        "the name of a task, with options as in {name: adding, length: 50}; or null, none",
        text=True,
        mapped=True,
    ),
    "gate_score": number(0),
    "keep": number(0),
    "generations": whole(1, 1000),
    "children": whole(1, 1000),
    "survivors": whole(1, 1_000_000),
    "more": whole(0, 1_000_000),
    "trials": whole(1, 1_000_000),
    "seeds": whole(1, 1_000_000),
    "epochs": whole(1, 1_000_000),
    "patience": whole(1),
    "seed": whole(0, 2**63 - 1),
    "order_seed": whole(0, 2**63 - 1, "the same as seed"),
    "sampler": one_of(*SAMPLERS),
    "paired": TRUTH,
    "engine": one_of(*ENGINES),
    "device": one_of(*DEVICES),
    "dtype": one_of(*DTYPES),
    "population": whole(1, 1_000_000),
    "threads": whole(1, MOST_THREADS, "all cores"),
    "lease": number(1, 86_400),
    "trial_timeout": number(1),
    "runs": text("the path of a folder"),
    "cache": text("the path of a folder"),
    "storage": text("a URL, e.g. postgresql://user@host/database", "the study's own folder"),
    "tracebacks": TRUTH,
    "select": one_of(*SELECTIONS),
    "adjust": one_of(*ADJUSTMENTS),
    "host": text("an address of this machine"),
    "port": whole(1, 65535),
    "findings": text("the path of a YAML file of findings", "the paper's"),
    "engines": list_of(one_of(*ENGINES[1:])),
    "hidden_sizes": list_of(whole(1)),
    "repeats": whole(1, 10_000),
    "out": text("the path of a folder"),
    "to": text("the path of a folder"),
    "measure": TRUTH,
    "n_inputs": whole(1, 10_000),
}
# Where a key means something else to one command.
SPECIAL: Mapping[tuple[str, str], Kind] = {
    ("cell", "hidden_size"): whole(1, 4096),
    ("cell", "out"): text("the path of a folder", "the terminal"),
    ("report", "study"): _STUDIES,
    ("dashboard", "study"): _STUDIES,
    ("status", "study"): _STUDY,
    ("worker", "study"): _STUDY,
    ("replicate", "study"): _STUDY,
    ("publish", "study"): _STUDY,
    ("restore", "study"): _STUDY,
}
_WORKERS = whole(1, 100_000, "as many as there is room for")
LAUNCHERS: Mapping[str, Mapping[str, Kind]] = {
    "local": {"workers": whole(1, MOST_THREADS, "one a GPU, or one with all cores")},
    "ray": {
        "address": text("the address of a Ray cluster, or auto", "one for this command alone"),
        "workers": _WORKERS,
        "num_cpus": number(0),
        "num_gpus": number(0),
    },
    "slurm": {
        "cluster": one_of("slurm", "local"),
        "workers": whole(1, 100_000),
        "timeout_min": whole(1),
        "requeues": whole(0),
        "cpus_per_task": whole(1),
        "gpus_per_node": whole(0),
        "mem_gb": number(0, null="what the cluster gives"),
    },
}


def kind(command: str, key: str) -> Kind | None:
    """The kind of a command's key; None for one that is checked where it is used (hyperparameters, config groups)."""
    return SPECIAL.get((command, key)) or KINDS.get(key)


def check(command: str, settings: Mapping[str, Any]) -> None:
    """Checks the values of a command's own keys and of its launcher's.

    Raises:
        UserError: names the key, its value and what was expected.
    """
    for key, value in settings.items():
        if own := kind(command, key):
            own.check(key, value)
    if "launcher" in settings:
        launcher = settings["launcher"]
        known = isinstance(launcher, dict) and launcher.get("name") in LAUNCHERS
        expect(known, "launcher", shown(launcher), f"one of {', '.join(LAUNCHERS)}")
        legal = LAUNCHERS[launcher["name"]]
        for key, value in launcher.items():
            if key in legal:
                legal[key].check(f"launcher.{key}", value)
            elif key != "name" and not (launcher["name"] == "slurm" and key.startswith("slurm_")):
                more = ", or slurm_..., which submitit takes" if launcher["name"] == "slurm" else ""
                raise UserError(f"launcher.{key}: no such key; expected one of {', '.join(legal)}{more}")
        for key in legal:  # launcher.name=ray alone chooses no file
            if key not in launcher:
                raise UserError(f"launcher.{key}: expected a value, which launcher={launcher['name']} gives")


@cache
def primary(command: str) -> str:
    """The file of a command's own keys."""
    return resources.files("configs").joinpath(f"{command}.yaml").read_text()


def groups(command: str) -> dict[str, str]:
    """The config groups that a command takes, and the file of each that it takes if nothing is said."""
    entries = yaml.safe_load(primary(command)).get("defaults", [])
    named = [next(iter(entry.items())) for entry in entries if isinstance(entry, dict)]
    return {group.partition("@")[0]: name for group, name in named}


def legal_keys(command: str) -> list[str]:
    """The keys of a command's configuration: its config groups, then its own."""
    own = [key for key in yaml.safe_load(primary(command)) if key != "defaults"]
    return [*(group for group in groups(command) if group != "experiment"), *own]


def meanings(yaml_text: str) -> dict[str, tuple[str, str]]:
    """Of each key at the top of a YAML file its value and the comment behind it."""
    lines = re.findall(r"^(\w+):[ ]*(.*?)(?:[ ]+#[ ]*(.*))?$", yaml_text, flags=re.MULTILINE)
    return {key: (value, comment) for key, value, comment in lines if key != "defaults"}
