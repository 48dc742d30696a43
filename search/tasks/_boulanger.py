"""The JSB Chorales benchmark of Boulanger-Lewandowski et al. (ICML 2012), as it is published."""

import hashlib
import io
import json
import pickle
import pickletools
import reprlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from search.errors import UserError, expect
from search.tasks import _corpus
from search.tasks.task import SPLITS

PITCHES = range(21, 109)
_MOST_BYTES = 1 << 25  # of the file; the published ones are far below all of these
_MOST_UNPACKED = 1 << 27  # of the bytes that a MATLAB file unpacks to
_MOST_NUMBERS = 10_000_000  # in the arrays of a pickle
_MOST_STEPS = 1_000_000  # of a split


def read(path: Path) -> tuple[dict[str, list[np.ndarray]], str]:
    """The piano rolls, bool [T, 88], of each split, and the SHA-256 of the file.

    ``.json`` and ``.pickle`` hold, for each of train, valid and test, sequences of time steps of MIDI pitches; ``.mat``
    holds cell arrays traindata, validdata and testdata of binary matrices, [T, 88] or all of them transposed.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    expect(path.suffix.lower() in FORMATS, "task.path", path, f"a file named {', '.join('*' + key for key in FORMATS)}")
    form, parse = FORMATS[path.suffix.lower()]
    data = _corpus.read(path, f"task.path={path}", _MOST_BYTES)
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
    sequences = _items(content[split], 1, "sequence", split)
    n_steps = sum(len(sequence) for sequence in sequences if isinstance(sequence, list | tuple))
    if n_steps > _MOST_STEPS:  # in a pickle, they may be one list over and over
        raise ValueError(f"at most {_MOST_STEPS} time steps in {split}, found {n_steps}")
    return [_roll(sequence, f"{split}[{n}]") for n, sequence in enumerate(sequences)]


def _roll(sequence: Any, where: str) -> np.ndarray:
    steps = _items(sequence, 2, "time steps", where)
    roll = np.zeros((len(steps), len(PITCHES)), bool)
    for t, step in enumerate(steps):
        pitches = _items(step, 0, "pitches", f"{where}[{t}]")
        if len(pitches) > len(PITCHES):
            raise ValueError(f"at most {len(PITCHES)} pitches, found {len(pitches)} in {where}[{t}]")
        for pitch in pitches:
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

    _expect_unpacked(data)
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


def _expect_unpacked(data: bytes) -> None:
    """Raises ValueError if the compressed elements of a MATLAB 5 file unpack to more than `_MOST_UNPACKED` bytes."""
    order: Literal["little", "big"] = "little" if data[126:128] == b"IM" else "big"
    place, left = 128, _MOST_UNPACKED
    while place + 8 <= len(data):
        kind, size = (int.from_bytes(data[k : k + 4], order) for k in (place, place + 4))
        if kind == 15:  # miCOMPRESSED
            left -= len(zlib.decompressobj().decompress(data[place + 8 : place + 8 + size], left + 1))
        if left < 0:
            raise ValueError(f"it unpacks to more than {_MOST_UNPACKED >> 20} MiB")
        place += 8 + size


def _pickle(data: bytes) -> Any:
    for code, argument, _ in pickletools.genops(data):
        if "PUT" in code.name and argument is not None and int(argument) > len(data):
            raise pickle.UnpicklingError(f"it numbers its objects up to {argument}, for which memory would be taken")
    return _PlainUnpickler(data).load()


Take = Callable[[int], None]  # counts what is made, up to `_MOST_NUMBERS`


class _Dtype:
    """What a pickle may call numpy.dtype: a number type."""

    def __init__(self, take: Take, spec: str, *_: Any) -> None:
        self.take = take
        self.spec = spec

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.spec = state[1].replace("|", "") + self.spec

    def numbers(self, raw: bytes | str) -> np.ndarray:
        dtype = np.dtype(self.spec)
        if dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"an array of {dtype}")
        self.take(len(raw) // dtype.itemsize)
        return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype)


class _Array(list[Any]):
    """What a pickle may call numpy.ndarray: a nested list."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, Any]) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(raw, list):
            self[:] = _array(dtype.take, raw, dtype, shape, "F" if fortran else "C")
        elif len(shape) == 1:  # an array of objects
            dtype.take(len(raw))
            self[:] = raw
        else:
            raise pickle.UnpicklingError(f"an array of objects of shape {shape}")


def _array(take: Take, raw: bytes | str, dtype: _Dtype, shape: tuple[int, ...], order: Any) -> list[Any]:
    return dtype.numbers(raw).reshape(shape, order=order).tolist()


def _bytes_of_array(take: Take, text: str, encoding: str) -> bytes:
    """The bytes of an array, in a pickle for Python 2."""
    take(len(text))
    return text.encode("latin1")


# NumPy's own constructors trust a pickle's bytes enough to be led to any address, so each has a stand-in here.
STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": lambda take: _Array(),
    "numpy.core.multiarray._reconstruct": lambda take, kind, shape, code: _Array(),
    "numpy.core.multiarray.scalar": lambda take, dtype, raw: dtype.numbers(raw).item(),
    "numpy.core.numeric._frombuffer": _array,
    "_codecs.encode": _bytes_of_array,
    "__builtin__.bytes": lambda take: b"",
}


class _PlainUnpickler(pickle.Unpickler):
    """Makes numbers, strings, lists, tuples, dicts, and lists of NumPy arrays; runs no code that a file names."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")  # Python 2 wrote the published file
        self._left = _MOST_NUMBERS

    def _take(self, n: int) -> None:
        """A pickle may make arrays from the same bytes over and over."""
        self._left -= n
        if self._left < 0:
            raise pickle.UnpicklingError(f"arrays of more than {_MOST_NUMBERS} numbers")

    def find_class(self, module: str, name: str) -> Any:
        known = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if known not in STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {reprlib.repr(f'{module}.{name}')}")
        return lambda *arguments: STAND_INS[known](self._take, *arguments)


FORMATS: dict[str, tuple[str, Callable[[bytes], Any]]] = {
    ".json": ("JSON", json.loads),
    ".mat": ("a MATLAB 5 to 7 file with cell arrays of binary [T, 88] matrices", _mat),
    ".pickle": ("a pickle of numbers, strings, lists, tuples, dicts and NumPy arrays", _pickle),
    ".pkl": ("a pickle of numbers, strings, lists, tuples, dicts and NumPy arrays", _pickle),
}
