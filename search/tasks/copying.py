"""The copy problem: repeat what was seen long before (Arjovsky et al. 2016, "Copying memory problem")."""

from functools import partial
from typing import Annotated

import numpy as np

from search.tasks import _symbols, _synthetic
from search.tasks._options import Range, Seed
from search.tasks._synthetic import LONGEST, NSequences
from search.tasks.task import Task

N_SYMBOLS = 8
N_COPIED = 10


def load(
    length: Annotated[int, Range(2 * N_COPIED + 1, LONGEST)] = 100,
    n_sequences: NSequences = 1000,
    seed: Seed = 0,
) -> Task:
    """Of each step a symbol, one-hot float32 [T, 10]; at each of the last ten steps, predict one of the first ten.

    A sequence is ten symbols, each any of eight; blanks; a delimiter at step T - 11; and ten blanks more, at which the
    ten symbols are to be given in order. All sequences are of the same length, as in the paper; unlike there, blanks
    need not be predicted, so that the loss and the score are of nothing but what must be remembered. Guessing scores
    87.5 %.

    Args:
        length: steps of every sequence; at least 21, which leaves no blank before the delimiter. The paper's T
            is 20 less.
        n_sequences: to train; there are a quarter as many in each of the other splits. At least 4.
        seed: of the data.
    """
    return Task(
        name="copy",
        splits=_synthetic.splits(partial(_draw, length), n_sequences, seed),
        loss="categorical",
        score="wrong symbols [%]",
        source=_synthetic.record("copy problem (Arjovsky et al. 2016)", n_sequences, seed, length=length),
        n_classes=N_SYMBOLS,
    )


def sequence(remembered: np.ndarray, n_symbols: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, one-hot float32 [length, n_symbols + 2] (the last two a blank and the delimiter), and targets.

    Args:
        remembered: what is to be repeated, [n].
        n_symbols: of which those may be.
        length: steps, at least 2 n + 1.
    """
    n_copied, blank, delimiter = len(remembered), n_symbols, n_symbols + 1
    symbols = np.full(length, blank)
    symbols[:n_copied] = remembered
    symbols[-n_copied - 1] = delimiter
    targets = np.full(length, -1, np.int32)
    targets[-n_copied:] = remembered
    return _symbols.one_hot(symbols, n_symbols + 2), targets


def _draw(length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return sequence(rng.integers(0, N_SYMBOLS, N_COPIED), N_SYMBOLS, length)
