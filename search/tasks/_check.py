"""What the arrays of a task must be like. Whatever is not is told by split, sequence and step, all counted from 0."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from search import losses
from search.errors import UserError

MOST_CLASSES = 10_000  # a larger label is rather a slip than a class
_BLOCK = 1024  # sequences that are looked at in one go

Arrays = Sequence[np.ndarray]


def predicted(target: np.ndarray) -> np.ndarray:
    """Of the targets of a sequence, which are to be predicted, bool [T] or with CTC [L]."""
    return target >= 0 if target.ndim == 1 else ~np.isnan(target).any(axis=1)


def steps_needed(target: np.ndarray) -> int:
    """The fewest steps on which CTC can give classes [L]: equal neighbours need a blank between them."""
    return len(target) + int((target[1:] == target[:-1]).sum())


def expect_shapes(where: str, loss: str, inputs: Arrays, targets: Arrays, like: tuple[np.ndarray, np.ndarray]) -> None:
    """Checks what can be told without a look at the values.

    Args:
        where: what messages begin with.
        loss: as `search.losses.find` takes it.
        inputs, targets: of all sequences of a split.
        like: inputs and targets of another sequence of the task, of which all have the widths.

    Raises:
        UserError: there are no sequences, or not as many inputs as targets; one is no array of numbers, is empty, or
            has another shape than the loss, the other sequences and its own inputs ask for; or nothing is predicted.
    """
    if not len(inputs):
        raise _wrong(where, "at least one sequence", "none")
    if len(inputs) != len(targets):
        raise _wrong(where, f"targets of {len(inputs)} sequences", len(targets))
    widths: list[tuple[int, ...]] = [getattr(array, "shape", ())[1:] for array in like]
    width, n_outputs = widths
    kind = losses.find(loss).targets
    for k, (x, t) in enumerate(zip(inputs, targets, strict=True)):
        here = f"{where}: sequence {k}"
        _expect_numbers(here, "inputs", x)
        _expect_numbers(here, "targets", t)
        if x.ndim != 2 or not x.size or x.shape[1:] != width:
            raise _wrong(here, f"inputs [T, {width[0] if any(width) else 'M'}] of at least one number", _shape(x))
        if kind.classes and kind.each_step:
            fits, expected = t.shape == x.shape[:1], f"targets [{len(x)}], one a step"
        elif kind.classes:
            fits, expected = t.ndim == 1 and t.size > 0, "targets [L], L > 0"
        else:
            fits = t.ndim == 2 and t.size > 0 and t.shape == (len(x), *n_outputs)
            expected = f"targets [{len(x)}, {n_outputs[0] if any(n_outputs) else 'O'}], a row a step"
        if not fits:
            raise _wrong(here, expected, _shape(t))
    if not any(predicted(t).any() for t in targets):
        raise _wrong(where, "at least one step with something to predict", "none")


def checked_inputs(where: str, arrays: Arrays) -> Arrays:
    """The inputs as float32.

    Raises:
        UserError: a value is not finite.
    """
    arrays = _as(np.float32, arrays)
    found = _first_illegal(arrays, np.isfinite)
    if found is not None:
        row = arrays[found[0]][found[1]]
        column = int(np.flatnonzero(~np.isfinite(row))[0])
        place = f"{where}: sequence {found[0]}, step {found[1]}"
        raise _wrong(place, "finite inputs", f"{row[column]} in column {column}")
    return arrays


def checked_n_classes(where: str, loss: str, n_classes: Any) -> int | None:
    """The number of classes as an int.

    Raises:
        UserError: it is no whole number from 1 to `MOST_CLASSES`, or the loss takes none.
    """
    where = f"{where}: n_classes"
    if not losses.find(loss).targets.classes:
        if n_classes is not None:
            raise _wrong(where, f"none with loss={loss}", n_classes)
        return None
    number = isinstance(n_classes, int | float | np.integer | np.floating) and not isinstance(n_classes, bool)
    if not number or not 1 <= n_classes <= MOST_CLASSES or n_classes != int(n_classes):
        raise _wrong(where, f"a whole number from 1 to {MOST_CLASSES} with loss={loss}", n_classes)
    return int(n_classes)


def checked_targets(where: str, loss: str, arrays: Arrays, lengths: Sequence[int], n_classes: int | None) -> Arrays:
    """The targets in the dtype of the loss.

    Raises:
        UserError: one is illegal, or with CTC there are more than a sequence's steps have room for.
    """
    kind = losses.find(loss).targets
    if not kind.classes:  # classes are looked at before: a cast would make any number one
        arrays = _as(kind.dtype, arrays)
    found = _first_illegal(arrays, lambda rows: kind.legal(rows, n_classes or 0))
    if found is not None:
        place = f"{where}: sequence {found[0]}, {'step' if kind.each_step else 'target'} {found[1]}"
        raise _wrong(place, kind.expected.format(last=(n_classes or 0) - 1), arrays[found[0]][found[1]])
    if not kind.each_step:
        for k, (t, n_steps) in enumerate(zip(arrays, lengths, strict=True)):
            if steps_needed(t) > n_steps:
                raise _wrong(f"{where}: sequence {k}", f"at least {steps_needed(t)} steps for its targets", n_steps)
    return _as(kind.dtype, arrays)


def _as(dtype: type[np.generic], arrays: Arrays) -> Arrays:
    with np.errstate(over="ignore"):  # infinity is told in our own words
        return [np.asarray(array, dtype) for array in arrays]


def _expect_numbers(where: str, name: str, array: Any) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        found = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
        raise _wrong(where, f"{name} that are a NumPy array of numbers", found)


def _first_illegal(arrays: Arrays, legal: Callable[[np.ndarray], Any]) -> tuple[int, int] | None:
    """The first row that is not legal: its sequence, and its place in that."""
    for start in range(0, len(arrays), _BLOCK):
        block = arrays[start : start + _BLOCK]
        fine = legal(np.concatenate(block))
        if not fine.all():
            illegal = np.flatnonzero(~fine.reshape(len(fine), -1).all(axis=1))
            ends = np.cumsum([len(array) for array in block])
            k = int(np.searchsorted(ends, illegal[0], side="right"))
            return start + k, int(illegal[0] - ends[k] + len(block[k]))
    return None


def _shape(array: np.ndarray) -> str:
    return f"[{', '.join(map(str, array.shape))}]"


def _wrong(where: str, expected: str, found: object) -> UserError:
    return UserError(f"{where}: expected {expected}, found {' '.join(str(found).split())}")
