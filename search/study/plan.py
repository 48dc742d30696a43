"""What a study is to compute: its plan, where that is kept, and how it may grow.

What a plan comes to, its cells, spaces and seeds, is `search.study.planning`, which reading a study does without.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from search.base.keys import KINDS, NAME_EXPECTED, OLDEST_RULE, is_name, shown
from search.errors import UserError, expect, expect_whole, masked, one_line
from search.study.storage import default_url, kept, parsed
from search.study.tables import LAYOUT

if TYPE_CHECKING:
    from search.rules import Rule

PLAN_FILE = "study.yaml"
_EXAMPLES = {
    "variants": "a cell and its toggles, e.g. {cell: lstm, forget_gate: coupled}",
    "space": "a distribution, e.g. {distribution: uniform, low: 0, high: 1}, of which equal bounds fix the value",
}
REGISTERED = 3  # the first layout in which the storage knows the plan


@dataclass(frozen=True)
class Plan:
    """What a study is to compute. Two runs of one plan give the same results.

    Attributes:
        study: its name.
        task: the task's name and options.
        score: what the task's score is, with its unit.
        variants: definition of each variant by name, ``{"cell": ..., toggle: value}``.
        trials: per task and variant.
        epochs, patience: docs/protocol.md, 3.
        seed: of the study; every other random number derives from it.
        sampler: one of `search.base.keys.SAMPLERS`.
        space: distribution of each setting by name.
        dtype: ``float32`` or ``float64``.
        data_hash: SHA-256 of the task's data.
        paired: whether trial k of every variant has the same settings and the same seed, wherever the sampler does not
            learn. Plans of before there was this key are of studies whose variants were drawn apart.
        optimizer: definition of the update rule, as `search.rules.update` takes it. Plans of before there was this key
            are of studies of the rule that there was.
        storage: an Optuna storage URL without a password, or None for ``study.db`` in the study's folder.
        cells: of each variant the SHA-256 of its equations, and of ``rule:PATH`` that of an update rule of the user's
            own; empty in plans of before there was this key.
    """

    study: str
    task: dict[str, Any]
    score: str
    variants: dict[str, dict[str, Any]]
    trials: int
    epochs: int
    patience: int
    seed: int
    sampler: str
    space: dict[str, dict[str, Any]]
    dtype: str
    data_hash: str
    paired: bool = False
    optimizer: dict[str, Any] = dataclasses.field(default_factory=lambda: {"rule": OLDEST_RULE})
    storage: str | None = None
    cells: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("task", "variants", "space", "cells", "optimizer"):
            expect(isinstance(getattr(self, key), dict), key, shown(getattr(self, key)), "a mapping")
        for key, names in (
            ("study", [self.study]),
            ("task.name", [self.task.get("name")]),
            ("variants", self.variants),
        ):
            for name in names:  # of folders and of rows of the storage
                expect(is_name(name), key, shown(name), NAME_EXPECTED)
        for key in ("variants", "space"):
            for name, value in getattr(self, key).items():
                expect(isinstance(value, dict), f"{key}.{name}", shown(value), _EXAMPLES[key])
        for key in ("trials", "epochs", "patience", "seed", "sampler", "paired", "dtype", "storage"):
            KINDS[key].check(key, getattr(self, key))
        expect(
            isinstance(self.optimizer.get("rule"), str), "optimizer.rule", shown(self.optimizer.get("rule")), "a text"
        )
        for key in ("score", "data_hash"):
            expect(isinstance(getattr(self, key), str), key, shown(getattr(self, key)), "a text")
        expect(bool(self.variants), "variants", "[]", "at least one variant")

    @cached_property
    def rule(self) -> "Rule":
        """The update rule, made when it is first asked for: reading a study never does, nor loads what rules need."""
        from search import rules

        return rules.rule(self.optimizer)

    @property
    def learns(self) -> bool:
        """Whether the sampler is led by the scores of earlier trials."""
        return self.sampler == "tpe"

    @property
    def draws(self) -> str:
        """In words, how the settings of different variants belong together."""
        if self.paired and not self.learns:
            return "paired: trial k of every variant has the same settings and the same seed"
        seeds = ", with the same seeds" if self.paired else ""
        return f"unpaired: the settings of every variant are drawn apart{seeds}"

    @property
    def registered(self) -> dict[str, Any]:
        """What a storage keeps of the plan: all but its own URL."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "storage"}

    @property
    def total(self) -> int:
        """Planned trials over all variants."""
        return self.trials * len(self.variants)

    def changes(self, other: "Plan") -> dict[tuple[str, ...], tuple[Any, Any]]:
        """{path of a setting: (value here, value in `other`)} where they differ; "(absent)" where there is none."""
        mine, theirs = _flat(dataclasses.asdict(self)), _flat(dataclasses.asdict(other))
        both = {k: (mine.get(k, _ABSENT), theirs.get(k, _ABSENT)) for k in dict.fromkeys([*mine, *theirs])}
        return {key: values for key, values in both.items() if values[0] != values[1]}


_ABSENT = "(absent)"


def _flat(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        path = (*above, str(key))
        flat |= _flat(value, path) if isinstance(value, Mapping) else {path: value}
    return flat


def find(study: str | Path, runs: str | Path) -> Path:
    """The folder of a study, given as a name under `runs` or as a path.

    Raises:
        UserError: there is no such study; the text lists those that there are.
    """
    for folder in (Path(runs) / study, Path(study)):
        if (folder / PLAN_FILE).is_file():
            return folder
    known = sorted(path.parent.name for path in Path(runs).glob(f"*/{PLAN_FILE}"))
    names = f"one of {', '.join(known)}" if known else f"none in {runs} yet; run odyssey sweep first"
    raise UserError(f"study={study}: no study in {Path(runs) / study}; expected {names}")


def read_plan(folder: Path) -> Plan:
    """The plan of an existing study.

    Raises:
        UserError: it cannot be read.
    """
    return read(folder)[1]


def read(folder: Path) -> tuple[int, Plan]:
    """The layout and the plan of an existing study."""
    path = folder / PLAN_FILE
    try:
        return checked(str(path), yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, OSError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected the plan of a study ({one_line(error)})") from error


def checked(where: str, values: Any) -> tuple[int, Plan]:
    """The layout and the plan that are kept in `where`. Before there was a key for it, the layout was 1 or 2."""
    try:
        expect(isinstance(values, dict), "it", shown(values), "a mapping")
        layout = values.pop("layout", REGISTERED - 1)
        expect_whole("layout", layout, 1)
        newer = layout > LAYOUT
        if not newer:
            return layout, Plan(**values)
    except (TypeError, ValueError, UserError) as error:
        raise UserError(f"{where}: expected the plan of a study ({one_line(error)})") from error
    raise UserError(f"{where}: of layout {layout}, from a newer odyssey; this one reads up to {LAYOUT}")


def storage_url(folder: Path, plan: Plan, named: str | None) -> str:
    """URL of the storage of a study.

    A plan may come from anyone. It opens no file but one in its own folder, and no server: what else it names must be
    named by the user too, who thereby trusts it with a password.

    Args:
        folder: of the study.
        plan: of the study.
        named: the storage that the user named, or None.

    Raises:
        UserError: the plan keeps the study elsewhere than in its folder, and the user did not name that place.
    """
    if plan.storage is None and named is None:
        return default_url(folder)
    planned = parsed(plan.storage or default_url(folder))
    inside = planned.get_backend_name() == "sqlite" and Path(str(planned.database)).is_relative_to(folder.resolve())
    own = masked(planned.render_as_string())
    if named is None:
        if not inside:
            raise UserError(f"{folder}: its plan says that it is kept in {own}; expected storage=URL, to open that")
    else:
        expect(parsed(kept(named)) == planned, "storage", masked(named), f"that of the study's plan, {own}")
    return planned.render_as_string()


def refuse_unless_grown(old: Plan, new: Plan) -> None:
    """Lets a study grow by trials and by variants, in which those that it has are as they were.

    Raises:
        UserError: `new` differs in more; the text says in what.
    """

    def sound(path: tuple[str, ...]) -> bool:
        match path:
            case ("trials",):
                return new.trials > old.trials
            case ("variants", name, "equations") if name in old.cells:
                return True  # their fingerprint tells whether they say the same
            case ("variants", name, *_):
                return name not in old.variants
            case ("cells", name):
                return name not in old.cells
            case ("storage",):
                return bool(old.storage and new.storage) and parsed(str(old.storage)) == parsed(str(new.storage))
        return False

    changes = {path: values for path, values in old.changes(new).items() if not sound(path)}
    if changes:
        texts = [
            f"the equations of {path[1]} have been edited"
            if path[0] == "cells"
            else f"{'.'.join(path)}: {was} -> {now}"
            for path, (was, now) in changes.items()
        ]
        hint = "use another study=NAME, or the old settings (a study may only grow: more trials, more variants)"
        raise UserError(f"study={new.study}: exists with another plan: {'; '.join(texts)}; {hint}")
