"""The settings with which an evolution goes on, in a file of its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from search.base import files
from search.base.keys import shown
from search.errors import UserError, expect, one_line

FILE = "settings.yaml"
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
