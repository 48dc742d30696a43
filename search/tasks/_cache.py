"""Prepared data in a file: made once, and made anew if the file is missing, damaged, or made by something else."""

import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from search.base import files
from search.errors import UserError
from search.tasks.task import SPLITS, Split

FORMAT = 2  # one more whenever the same content would be kept under other names: older files are then made anew

Content = dict[str, np.ndarray]


def kept(cache: Path | None, made_by: str, make: Callable[[], Content]) -> Content:
    """What `make` makes, or once made.

    A file that another user can have written is not read, and none is kept where others can write.

    Args:
        cache: the file, .npz; None keeps none.
        made_by: all that the content depends on.
        make: gives arrays by name.

    Raises:
        UserError: the file cannot be written, or what `make` raises.
    """
    if cache is None:
        return make()
    made_by = f"{made_by}, format {FORMAT}"
    with _writing(cache.parent):
        try:
            path = files.trusted_folder(cache.parent) / cache.name
        except files.Untrusted as error:
            _say(f"{cache} is not used, all is made anew: {error}; expected a folder that only you can write to")
            return make()
    content = read(path, made_by)
    if content is None:
        with _writing(cache.parent):  # rather told before the work than after it
            tempfile.TemporaryFile(dir=path.parent).close()
        content = make()
        whole: dict[str, Any] = content | {"made_by": np.array(made_by)}
        whole["hash"] = np.array(_hash(whole))
        with _writing(cache.parent):
            files.write(path, lambda file: np.savez(file, **whole), mode=0o644)
    return content


def read(cache: Path, made_by: str) -> Content | None:
    """What is in the file, or None if there is nothing that can be trusted."""
    try:
        with files.trusted_file(cache) as opened, np.load(opened, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        if str(content.pop("hash")) != _hash(content):
            raise ValueError("its hash is wrong")
        if (found := str(content.pop("made_by"))) != made_by:
            raise ValueError(f"it was made by {found}, this is {made_by}")
        return content
    except FileNotFoundError:
        return None
    except Exception as error:
        _say(f"{cache} is made anew: {' '.join(str(error).split())}")
        return None


def packed(splits: dict[str, Split]) -> Content:
    """Splits as arrays by name, the sequences of each end to end."""
    content: Content = {}
    for name, split in splits.items():
        for part, arrays in (("inputs", split.inputs), ("targets", split.targets)):
            content |= joined(f"{name}_{part}", arrays)
    return content


def unpacked(content: Content) -> dict[str, Split]:
    """The splits of `packed`."""
    return {name: Split(*(cut(content, f"{name}_{part}") for part in ("inputs", "targets"))) for name in SPLITS}


def joined(name: str, arrays: Sequence[np.ndarray]) -> Content:
    """Arrays end to end, and their lengths."""
    lengths = np.array([len(array) for array in arrays], np.int64)
    return {name: np.concatenate(arrays) if arrays else np.zeros(0), f"{name}_lengths": lengths}


def cut(content: Content, name: str) -> list[np.ndarray]:
    """The arrays of `joined`."""
    ends = np.cumsum(content[f"{name}_lengths"])
    return np.split(content[name], ends)[:-1]


def _hash(content: Content) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(content.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


def _say(text: str) -> None:
    print(f"task.cache: {text}", file=sys.stderr, flush=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"task.cache={folder}: expected a folder that can be written to ({error.strerror})") from error
