"""A trial under way, on disk."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from search import files
from search.training import Trial

_SCALARS = ("best_epoch", "train_seconds", "status")
_BROKEN = (ValueError, KeyError, EOFError, zipfile.BadZipFile)


def save(path: Path, trial: Trial) -> None:
    """Writes what a trial needs to go on: weights, velocity, best weights, curve, and the settings it belongs to."""

    def content(file: BinaryIO) -> None:
        state = {name: getattr(trial, name) for name in _SCALARS} | {"identity": _identity(trial)}
        np.savez(
            file,
            weights=trial.member.weights,
            velocity=trial.member.velocity,
            best_weights=trial.best_weights,
            curve=np.array(trial.curve, np.float64).reshape(-1, 2),
            epoch=np.int64(trial.member.epoch),
            state=np.frombuffer(json.dumps(state).encode(), np.uint8),
        )

    files.write(path, content)


def load(path: Path, trial: Trial) -> Trial | None:
    """`trial` as it was when saved, or None if the file is no sound checkpoint of the same settings and seed.

    Every array in the file carries a CRC-32, which is checked. An unusable file is set aside as ``NAME.broken``.

    Raises:
        OSError: the file cannot be read now, which says nothing about what is in it.
    """
    content = io.BytesIO(path.read_bytes())
    try:
        with np.load(content, allow_pickle=False) as file:
            state: dict[str, Any] = json.loads(file["state"].tobytes())
            arrays: Mapping[str, np.ndarray] = {name: file[name] for name in file.files}
        if state.pop("identity") != _identity(trial):
            raise ValueError("written by a trial of other settings")
        weights, velocity, best = (arrays[name] for name in ("weights", "velocity", "best_weights"))
        for array in (weights, velocity, best):
            if array.shape != trial.member.weights.shape or array.dtype != trial.member.weights.dtype:
                raise ValueError("of another size")
        member = replace(trial.member, weights=weights, velocity=velocity, epoch=int(arrays["epoch"]))
        curve = tuple((float(loss), float(score)) for loss, score in arrays["curve"])
        return replace(trial, member=member, best_weights=best, curve=curve, **state)
    except _BROKEN:  # from bytes in memory
        path.replace(path.with_suffix(".broken"))
        return None


def _identity(trial: Trial) -> str:
    return repr((trial.member.seed, trial.member.network, sorted(trial.settings.items())))
