"""Memorization: a few letters, to be given back at once (Jozefowicz et al. 2015, section 3, the first gate)."""

from functools import partial
from typing import Annotated

import numpy as np

from search.tasks import _synthetic
from search.tasks._options import Range, Seed
from search.tasks._synthetic import LONGEST, NSequences
from search.tasks.copying import sequence
from search.tasks.task import Task

N_SYMBOLS = 26
N_COPIED = 5


def load(
    length: Annotated[int, Range(2 * N_COPIED + 1, LONGEST)] = 2 * N_COPIED + 1,
    n_sequences: NSequences = 10_000,
    seed: Seed = 0,
) -> Task:
    """Of each step a symbol, one-hot float32 [T, 28]; at each of the last five steps, predict one of the first five.

    The form of `search.tasks.copying`, with the sizes of the paper: five symbols, each any of 26; blanks, of which
    there are none unless `length` asks for some; a delimiter; and five blanks, at which the symbols are to be given in
    order. The paper lets a cell pass that gets 95 % right, which is a score of 5 %. No five symbols are in two splits.
    Guessing scores 96.2 %.

    Args:
        length: steps of every sequence; at least 11.
        n_sequences: to train; there are a quarter as many in each of the other splits. At least 4.
        seed: of the data.
    """
    return Task(
        name="memorization",
        splits=_synthetic.disjoint_splits(_draw, partial(_arrays, length), n_sequences, seed),
        loss="categorical",
        score="wrong symbols [%]",
        source=_synthetic.record("memorization (Jozefowicz et al. 2015)", n_sequences, seed, length=length),
        n_classes=N_SYMBOLS,
    )


def _draw(rng: np.random.Generator) -> list[int]:
    return rng.integers(0, N_SYMBOLS, N_COPIED).tolist()


def _arrays(length: int, remembered: list[int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return sequence(np.array(remembered), N_SYMBOLS, length)
