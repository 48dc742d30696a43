"""What the generated tasks share: the ranges of their settings, how their splits are drawn, and the record of both."""

import hashlib
from collections.abc import Callable
from typing import Annotated, TypeVar

import numpy as np

from search.tasks._options import Range
from search.tasks.task import SPLITS, Split

LONGEST = 100_000
NSequences = Annotated[int, Range(4, 1_000_000)]

# Inputs and targets of one sequence.
Arrays = tuple[np.ndarray, np.ndarray]
Draw = Callable[[np.random.Generator], Arrays]
Problem = TypeVar("Problem")


def splits(draw: Draw, n_sequences: int, seed: int) -> dict[str, Split]:
    """Independent draws: `n_sequences` to train, a quarter as many (rounded down) to validate, and again to test."""
    return {name: _split(draw, _rng(seed, name), size) for name, size in _sizes(n_sequences).items()}


def disjoint_splits(
    draw: Callable[[np.random.Generator], Problem],
    arrays: Callable[[Problem, np.random.Generator], Arrays],
    n_sequences: int,
    seed: int,
) -> dict[str, Split]:
    """As `splits`, but no problem is in two of them, whatever the seed: its hash says where it may be.

    Args:
        draw: gives a problem, whose `repr` tells it from others; there must be far more than six.
        arrays: its inputs and targets.
        n_sequences: to train.
        seed: of the data.
    """
    problems = np.random.default_rng([seed, len(SPLITS)])
    sizes, rngs = _sizes(n_sequences), {name: _rng(seed, name) for name in SPLITS}
    drawn: dict[str, list[Arrays]] = {name: [] for name in SPLITS}
    while any(len(drawn[name]) < sizes[name] for name in SPLITS):
        problem = draw(problems)
        name = _belongs(problem)
        if len(drawn[name]) < sizes[name]:
            drawn[name].append(arrays(problem, rngs[name]))
    return {name: Split(*zip(*drawn[name], strict=True)) for name in SPLITS}


def record(problem: str, n_sequences: int, seed: int, **settings: int) -> dict[str, object]:
    """The source of a generated task."""
    return {"source": f"generated: {problem}", **settings, "seed": seed, "sequences": _sizes(n_sequences)}


def varied(rng: np.random.Generator, length: int) -> int:
    """Steps of a sequence: uniform from L to L + L / 10, both included (Hochreiter & Schmidhuber 1997, section 5.4)."""
    return int(rng.integers(length, length + length // 10, endpoint=True))


def _belongs(problem: object) -> str:
    """The split of a problem: two thirds of all are to train, as of the sequences."""
    sixth = int.from_bytes(hashlib.sha256(repr(problem).encode()).digest()) % 6
    return SPLITS[max(0, sixth - 3)]


def _rng(seed: int, split: str) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split)])


def _sizes(n_sequences: int) -> dict[str, int]:
    return {"train": n_sequences, "valid": n_sequences // 4, "test": n_sequences // 4}


def _split(draw: Draw, rng: np.random.Generator, size: int) -> Split:
    inputs, targets = zip(*(draw(rng) for _ in range(size)), strict=True)
    return Split(inputs, targets)
