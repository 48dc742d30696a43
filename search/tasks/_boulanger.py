"""The JSB Chorales benchmark of Boulanger-Lewandowski et al. (ICML 2012), as it is published."""

import hashlib
import io
import json
import pickle
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from search.errors import UserError, expect
from search.tasks.task import SPLITS

PITCHES = range(21, 109)


def read(path: Path) -> tuple[dict[str, list[np.ndarray]], str]:
    """The piano rolls, bool [T, 88], of each split, and the SHA-256 of the file.

    ``.json`` and ``.pickle`` hold, for each of train, valid and test, sequences of time steps of MIDI pitches; ``.mat``
    holds cell arrays traindata, validdata and testdata of binary matrices, [T, 88] or all of them transposed.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    expect(path.suffix.lower() in FORMATS, "task.path", path, f"a file named {', '.join('*' + key for key in FORMATS)}")
    form, parse = FORMATS[path.suffix.lower()]
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"task.path={path}: expected a file that can be read ({reason})") from error
    try:
        content = parse(data)
    except Exception as error:  # a broken file makes these parsers raise nearly anything
        raise UserError(f"task.path={path}: expected {form} ({' '.join(str(error).split())})") from error
    try:
        return {split: _rolls(content, split) for split in SPLITS}, hashlib.sha256(data).hexdigest()
    except ValueError as error:
        raise UserError(f"task.path={path}: expected {error}") from error


def _rolls(content: Any, split: str) -> list[np.ndarray]:
    if not isinstance(content, dict) or split not in content:
        raise ValueError(f"the keys {', '.join(SPLITS)}, found no {split}")
    return [_roll(sequence, f"{split}[{n}]") for n, sequence in enumerate(_items(content[split], 1, "sequence", split))]


def _roll(sequence: Any, where: str) -> np.ndarray:
    steps = _items(sequence, 2, "time steps", where)
    roll = np.zeros((len(steps), len(PITCHES)), bool)
    for t, step in enumerate(steps):
        for pitch in _items(step, 0, "pitches", f"{where}[{t}]"):
            if pitch not in PITCHES:
                raise ValueError(f"MIDI pitches from 21 to 108, found {reprlib.repr(pitch)} in {where}[{t}]")
            roll[t, int(pitch) - PITCHES.start] = True
    return roll


def _items(value: Any, least: int, kind: str, where: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) < least:
        found = len(value) if isinstance(value, list | tuple) else reprlib.repr(value)
        raise ValueError(f"{where} to be a list of at least {least} {kind}, found {found}")
    return value


def _mat(data: bytes) -> dict[str, list[list[list[int]]]]:
    from scipy.io import loadmat

    names = {f"{split}data": split for split in SPLITS}
    cells = loadmat(io.BytesIO(data), variable_names=list(names))
    for name in names:
        if name not in cells or cells[name].dtype != object:
            raise ValueError(f"no cell array {name}")
    matrices = {split: list(cells[name].flat) for name, split in names.items()}
    shapes = [np.shape(matrix) for split in SPLITS for matrix in matrices[split]]
    upright = all(len(shape) == 2 and shape[1] == 88 for shape in shapes)
    if not upright and not all(len(shape) == 2 and shape[0] == 88 for shape in shapes):
        raise ValueError("matrices of another shape")
    if not all(np.isin(matrix, (0, 1)).all() for split in SPLITS for matrix in matrices[split]):
        raise ValueError("numbers other than 0 and 1")
    return {
        split: [
            [(np.flatnonzero(step) + PITCHES.start).tolist() for step in (matrix if upright else matrix.T)]
            for matrix in matrices[split]
        ]
        for split in SPLITS
    }


def _pickle(data: bytes) -> Any:
    return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()  # latin1: Python 2 wrote the published file


class _Dtype:
    """What a pickle may call numpy.dtype: a number type."""

    def __init__(self, spec: str, *_: Any) -> None:
        self.spec = spec

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.spec = state[1].replace("|", "") + self.spec

    def numbers(self, raw: bytes | str) -> np.ndarray:
        dtype = np.dtype(self.spec)
        if dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"an array of {dtype}")
        return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype)


class _Array(list[Any]):
    """What a pickle may call numpy.ndarray: a nested list."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, Any]) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(raw, list):
            self[:] = _array(raw, dtype, shape, "F" if fortran else "C")
        elif len(shape) == 1:  # an array of objects
            self[:] = raw
        else:
            raise pickle.UnpicklingError(f"an array of objects of shape {shape}")


def _array(raw: bytes | str, dtype: _Dtype, shape: tuple[int, ...], order: Any) -> list[Any]:
    return dtype.numbers(raw).reshape(shape, order=order).tolist()


# NumPy's own constructors trust a pickle's bytes enough to be led to any address, so each has a stand-in here.
STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    "numpy.core.multiarray._reconstruct": lambda kind, shape, code: _Array(),
    "numpy.core.multiarray.scalar": lambda dtype, raw: dtype.numbers(raw).item(),
    "numpy.core.numeric._frombuffer": _array,
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),  # the bytes of an array, in a pickle for Python 2
    "__builtin__.bytes": lambda: b"",
}


class _PlainUnpickler(pickle.Unpickler):
    """Makes numbers, strings, lists, tuples, dicts, and lists of NumPy arrays; runs no code that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        known = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if known not in STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {reprlib.repr(f'{module}.{name}')}")
        return STAND_INS[known]


FORMATS: dict[str, tuple[str, Callable[[bytes], Any]]] = {
    ".json": ("JSON", json.loads),
    ".mat": ("a MATLAB 5 to 7 file with cell arrays of binary [T, 88] matrices", _mat),
    ".pickle": ("a pickle of numbers, strings, lists, tuples, dicts and NumPy arrays", _pickle),
    ".pkl": ("a pickle of numbers, strings, lists, tuples, dicts and NumPy arrays", _pickle),
}
