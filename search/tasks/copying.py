"""The copy problem: repeat what was seen long before (Arjovsky et al. 2016, "Copying memory problem")."""

from functools import partial
from typing import Annotated

import numpy as np

from search.tasks import _synthetic
from search.tasks._options import Range, Seed
from search.tasks._synthetic import LONGEST, NSequences
from search.tasks.task import Task

N_SYMBOLS = 8
N_COPIED = 10
BLANK, DELIMITER = N_SYMBOLS, N_SYMBOLS + 1


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
        source=_synthetic.record("copy problem (Arjovsky et al. 2016)", length, n_sequences, seed),
        n_classes=N_SYMBOLS,
    )


def _draw(length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    remembered = rng.integers(0, N_SYMBOLS, N_COPIED)
    symbols = np.full(length, BLANK)
    symbols[:N_COPIED] = remembered
    symbols[-N_COPIED - 1] = DELIMITER
    targets = np.full(length, -1, np.int32)
    targets[-N_COPIED:] = remembered
    return _synthetic.one_hot(symbols, N_SYMBOLS + 2), targets
