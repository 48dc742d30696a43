"""A trial under way, on disk: an .npz file whose comment, at its end, is the SHA-256 of all that stands before it."""

import hashlib
import io
import json
import logging
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from search.base import files
from search.training.status import Status
from search.training.trial import Trial

_SCALARS = ("best_epoch", "train_seconds", "status")
_MARK = b"odyssey checkpoint 2, SHA-256 "
_SEAL_BYTES = len(_MARK) + hashlib.sha256().digest_size
log = logging.getLogger(__name__)


def save(path: Path, trial: Trial) -> None:
    """Writes what a trial needs to go on: weights, slots, best weights, curve, and the settings it belongs to."""
    state = {name: getattr(trial, name) for name in _SCALARS} | {"identity": _identity(trial)}
    content = io.BytesIO()
    arrays: dict[str, Any] = {f"slot.{name}": array for name, array in trial.member.slots.items()}
    arrays |= {"weights": trial.member.weights, "best_weights": trial.best_weights}
    arrays["curve"] = np.array(trial.curve, np.float64).reshape(-1, 2)
    arrays["epoch"] = np.int64(trial.member.epoch)
    arrays["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    np.savez(content, **arrays)
    with zipfile.ZipFile(content, "a") as archive:
        archive.comment = bytes(_SEAL_BYTES)  # its length is part of what is sealed
    body = content.getvalue()[:-_SEAL_BYTES]
    files.write(path, body + _seal(body))


def load(path: Path, trial: Trial) -> Trial | None:
    """`trial` as it was when saved, or None if the file is no sound checkpoint of the same settings and seed.

    An unusable file is set aside as ``NAME.broken``, and the log says why.

    Raises:
        OSError: the file cannot be read now, which says nothing about what is in it.
    """
    data = path.read_bytes()
    try:
        _check(data)
        return _restored(data, trial)
    except MemoryError:  # that is not for the file to answer
        raise
    except Exception as error:  # zipfile has no one kind of error for what is no archive
        path.replace(path.with_suffix(".broken"))
        why = " ".join(str(error).split()) or type(error).__name__
        log.warning("%s: not a sound checkpoint (%s); set aside, the trial starts again", path, why)
        return None


def _check(data: bytes) -> None:
    body, seal = data[:-_SEAL_BYTES], data[-_SEAL_BYTES:]
    if seal == _seal(body):
        return
    if seal.startswith(_MARK):
        raise ValueError("its SHA-256 is wrong")
    # Before there were seals: every array has a CRC-32, which NumPy checks only of what it reads.
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if archive.comment or archive.testzip():
            raise ValueError("a checksum is wrong")


def _restored(data: bytes, trial: Trial) -> Trial:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    state: dict[str, Any] = json.loads(arrays["state"].tobytes())
    if state.pop("identity") != _identity(trial):
        raise ValueError("written by a trial of other settings")
    weights, best = (arrays[name] for name in ("weights", "best_weights"))
    # Before there were rules of several slots, the one that there was had no prefix.
    slots = {name: arrays[f"slot.{name}" if f"slot.{name}" in arrays else name] for name in trial.member.slots}
    for array in (weights, best, *slots.values()):
        if array.shape != trial.member.weights.shape or array.dtype != trial.member.weights.dtype:
            raise ValueError("of another size")
    member = replace(trial.member, weights=weights, slots=slots, epoch=int(arrays["epoch"]))
    curve = tuple((float(loss), float(score)) for loss, score in arrays["curve"])
    state["status"] = Status(state["status"])
    return replace(trial, member=member, best_weights=best, curve=curve, **state)


def _seal(body: bytes) -> bytes:
    return _MARK + hashlib.sha256(body).digest()


def _identity(trial: Trial) -> str:
    return repr((trial.member.seed, trial.member.network, sorted(trial.settings.items())))
