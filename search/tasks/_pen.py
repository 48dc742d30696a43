"""What the tasks of online handwriting share: characters, features of a line, normalisation and the cache.

A line becomes a sequence of four features per point (Greff et al. 2015, section IV.B): the steps in x and y from the
point before, the time in seconds since the stroke began, and a flag at the last point before the pen is lifted.
Every second point of each stroke is dropped beforehand, so that no stroke and no lifting of the pen is lost. All four
features are normalised, the flag too, to mean 0 and standard deviation 1 over the training set.
"""

import json
import string
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from search.errors import UserError
from search.tasks import _cache, _check
from search.tasks.task import SPLITS, Split, Task

# Letters, digits and the 19 other characters of IAM-OnDB's transcriptions, in the order of ASCII. Its label files know
# one more, "#": no character, but the mark of ink that has none, as of words that were crossed out.
CHARACTERS = " !\"$&'()*+,-./" + string.digits + ":;?" + string.ascii_uppercase + "[]" + string.ascii_lowercase
N_FEATURES = 4

# The splits before normalisation, and how many lines or marks were left out, by reason.
Prepared = tuple[dict[str, Split], dict[str, int]]

_CLASSES = {character: index for index, character in enumerate(CHARACTERS)}


def features(points: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """Features float32 [T, 4] of a line, before normalisation.

    Args:
        points: x, y and time in seconds of all points, float [P, 3].
        firsts: index of each stroke's first point, ascending from 0, int [S]; every stroke has a point.
    """
    lengths = np.diff(firsts, append=len(points))
    since_first = np.arange(len(points)) - np.repeat(firsts, lengths)
    begun = np.repeat(points[firsts, 2], lengths)
    kept = since_first % 2 == 0
    x, y, time = points[kept].T
    lifted = np.zeros(len(x))
    lifted[np.cumsum((lengths + 1) // 2) - 1] = 1
    columns = [np.diff(x, prepend=x[:1]), np.diff(y, prepend=y[:1]), time - begun[kept], lifted]
    return np.stack(columns, axis=1).astype(np.float32)


def unknown(text: str) -> str | None:
    """The first character that is not one of `CHARACTERS`, or None."""
    return next((character for character in text if character not in _CLASSES), None)


def classes(text: str) -> np.ndarray:
    """The characters of a text as indices into `CHARACTERS`, int32 [L]."""
    return np.array([_CLASSES[character] for character in text], np.int32)


def text(classes: np.ndarray) -> str:
    """The text of classes, int [L]."""
    return "".join(CHARACTERS[index] for index in classes)


def fits(inputs: np.ndarray, targets: np.ndarray) -> bool:
    """Whether CTC can give `targets` [L] on as many steps as `inputs` [T, M] has."""
    return len(inputs) >= _check.steps_needed(targets)


def report(where: str, left_out: dict[str, int]) -> None:
    """One line on stderr of what was left out, by reason; none if that is nothing."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    if reasons:
        print(f"warning: {where}: left out {reasons}", file=sys.stderr, flush=True)


def task(name: str, prepared: Prepared, source: dict[str, object]) -> Task:
    """The task of prepared splits: features normalised by the training set, CTC over `CHARACTERS`."""
    splits, left_out = prepared
    counts = {split: len(splits[split].inputs) for split in SPLITS}
    for split, count in counts.items():
        if count == 0:
            raise UserError(f"task={name}: expected at least one line in the {split} set, found none")
    return Task(
        name=name,
        splits=_normalised(splits),
        loss="ctc",
        score="character error rate [%]",
        source=source | {"sequences": counts, "left_out": left_out},
        bidirectional=True,
        n_classes=len(CHARACTERS),
    )


def prepare(cache: Path | None, made_by: str, make: Callable[[], Prepared]) -> Prepared:
    """What `make` gives, or what it once gave, from the file `cache`, if that holds what `made_by` describes.

    Raises:
        UserError: `cache` cannot be written, or what `make` raises.
    """

    def packed() -> _cache.Content:
        splits, left_out = make()
        return _cache.packed(splits) | {"left_out": np.array(json.dumps(left_out))}

    content = _cache.kept(cache, made_by, packed)
    return _cache.unpacked(content), json.loads(str(content["left_out"]))


def _normalised(splits: dict[str, Split]) -> dict[str, Split]:
    train = np.concatenate(splits["train"].inputs).astype(np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation[deviation == 0] = 1
    return {
        name: Split([((x - mean) / deviation).astype(np.float32) for x in split.inputs], split.targets)
        for name, split in splits.items()
    }
