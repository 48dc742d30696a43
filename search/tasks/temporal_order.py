"""Temporal order: which of two symbols came first, which second (Hochreiter & Schmidhuber 1997, experiment 6a)."""

from functools import partial
from typing import Annotated

import numpy as np

from search.tasks import _symbols, _synthetic
from search.tasks._options import Range, Seed
from search.tasks._synthetic import LONGEST, NSequences
from search.tasks.task import Task

SYMBOLS = "abcdEBXY"
N_DISTRACTORS = 4
START, END, X = (SYMBOLS.index(symbol) for symbol in "EBX")


def load(
    length: Annotated[int, Range(10, LONGEST)] = 100,
    n_sequences: NSequences = 1000,
    seed: Seed = 0,
) -> Task:
    """Of each step a symbol, one-hot float32 [T, 8] in the order abcdEBXY; at the last, predict one of four classes.

    A sequence starts with E, ends with B, and is of random a, b, c, d between them, but for two steps that are each X
    or Y, of which the class tells the order: 0 for XX, 1 for XY, 2 for YX, 3 for YY. As in the paper, where L is 100,
    the length is uniform from L to L + L / 10, the first of the two steps from L / 10 to L / 5, and the second from
    L / 2 to 3 L / 5, bounds included and steps counted from 0. Guessing scores 75 %.

    Args:
        length: L, the steps of the shortest sequences; at least 10.
        n_sequences: to train; there are a quarter as many in each of the other splits. At least 4.
        seed: of the data.
    """
    return Task(
        name="temporal_order",
        splits=_synthetic.splits(partial(_draw, length), n_sequences, seed),
        loss="categorical",
        score="wrong sequences [%]",
        source=_synthetic.record(
            "temporal order (Hochreiter & Schmidhuber 1997, experiment 6a)", n_sequences, seed, length=length
        ),
        n_classes=4,
    )


def _draw(length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    n_steps = _synthetic.varied(rng, length)
    symbols = rng.integers(0, N_DISTRACTORS, n_steps)
    symbols[0], symbols[-1] = START, END
    first = rng.integers(length // 10, length // 5, endpoint=True)
    second = rng.integers(length // 2, 3 * length // 5, endpoint=True)
    is_y = rng.integers(0, 2, 2)
    symbols[[first, second]] = X + is_y
    targets = np.full(n_steps, -1, np.int32)
    targets[-1] = 2 * is_y[0] + is_y[1]
    return _symbols.one_hot(symbols, len(SYMBOLS)), targets
