"""The settings with which an evolution goes on, in a file of its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from search.base import files
from search.base.keys import shown, task_name
from search.errors import UserError, expect, one_line
from search.evolve import lineage
from search.study.plan import PLAN_FILE

FILE, VARIANTS = "settings.yaml", "variant"  # and the folder of the best
BEGUN = "an evolution whose first study has begun"
OF_PLANS = ("trials", "epochs", "patience", "seed", "dtype", "space", "optimizer", "storage")
KEPT = ("variants", "tasks", "gate", "gate_score", "keep", "generations", "children", "survivors", "more", *OF_PLANS)


def write(folder: Path, settings: Mapping[str, Any]) -> None:
    """Keeps of settings what an evolution goes on with."""
    files.write(folder / FILE, yaml.safe_dump({key: settings[key] for key in KEPT}, sort_keys=False))


def read(folder: Path) -> dict[str, Any] | None:
    """The settings with which an evolution goes on; None if there is none in this folder.

    Raises:
        UserError: they cannot be read.
    """
    path = folder / FILE
    try:
        known = yaml.safe_load(path.read_text(encoding="utf-8"))
        named = isinstance(known, dict) and known.keys() == set(KEPT)
        expect(named, "it", shown(known), f"the keys {', '.join(KEPT)}")
    except FileNotFoundError:
        return None
    except (OSError, yaml.YAMLError, ValueError, UserError) as error:
        raise UserError(f"{path}: expected the settings of an evolution ({one_line(error)})") from error
    assert isinstance(known, dict)
    return known


def study_names(folder: Path) -> list[str]:
    """The names of the studies of an evolution, those that have not begun too: of the gate, of its tasks, of further
    trials.

    Raises:
        UserError: its settings are gone, or cannot be read.
    """
    settings = read(folder)
    if settings is None:
        raise UserError(f"{folder / FILE}: expected the settings of an evolution; there is no such file")
    tasks = [task_name(task) for task in settings["tasks"]]
    gate = [] if settings["gate"] is None else [task_name(settings["gate"])]
    return [f"{folder.name}-{task}" for task in (*gate, *tasks, *(f"{task}-more" for task in tasks))]


def studies(folder: Path) -> list[Path]:
    """The folders of those of an evolution's studies that there are; raises as `study_names`."""
    return [place for name in study_names(folder) if ((place := folder.parent / name) / PLAN_FILE).is_file()]


def is_one(folder: Path) -> bool:
    """Whether a folder is that of an evolution."""
    return (folder / lineage.FILE).is_file() and read(folder) is not None


def folder_of(study: str | Path, runs: str | Path) -> Path | None:
    """The folder of an evolution, given as a study is, by name under `runs` or by path; None if it is none."""
    places = (Path(runs) / study, Path(study))
    found = next((place for place in places if (place / PLAN_FILE).is_file() or is_one(place)), None)
    return found if found and is_one(found) else None
