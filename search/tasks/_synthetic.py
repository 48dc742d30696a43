"""What the generated tasks share: the ranges of their settings, how their splits are drawn, and the record of both."""

from collections.abc import Callable
from typing import Annotated

import numpy as np

from search.tasks._options import Range
from search.tasks.task import SPLITS, Split

LONGEST = 100_000
NSequences = Annotated[int, Range(4, 1_000_000)]

# Inputs and targets of one sequence.
Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def splits(draw: Draw, n_sequences: int, seed: int) -> dict[str, Split]:
    """Independent draws: `n_sequences` to train, a quarter as many (rounded down) to validate, and again to test."""
    rngs = {name: np.random.default_rng([seed, index]) for index, name in enumerate(SPLITS)}
    return {name: _split(draw, rngs[name], size) for name, size in _sizes(n_sequences).items()}


def record(problem: str, length: int, n_sequences: int, seed: int) -> dict[str, object]:
    """The source of a generated task."""
    return {"source": f"generated: {problem}", "length": length, "seed": seed, "sequences": _sizes(n_sequences)}


def varied(rng: np.random.Generator, length: int) -> int:
    """Steps of a sequence: uniform from L to L + L / 10, both included (Hochreiter & Schmidhuber 1997, section 5.4)."""
    return int(rng.integers(length, length + length // 10, endpoint=True))


def one_hot(symbols: np.ndarray, n_symbols: int) -> np.ndarray:
    """Symbols [T] as float32 [T, n_symbols]."""
    return (symbols[:, None] == np.arange(n_symbols)).astype(np.float32)


def _sizes(n_sequences: int) -> dict[str, int]:
    return {"train": n_sequences, "valid": n_sequences // 4, "test": n_sequences // 4}


def _split(draw: Draw, rng: np.random.Generator, size: int) -> Split:
    inputs, targets = zip(*(draw(rng) for _ in range(size)), strict=True)
    return Split(inputs, targets)
