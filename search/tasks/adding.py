"""The adding problem: the sum of two numbers far apart (Hochreiter & Schmidhuber 1997, section 5.4, experiment 4)."""

from functools import partial
from typing import Annotated

import numpy as np

from search.tasks import _synthetic
from search.tasks._options import Range, Seed
from search.tasks._synthetic import LONGEST, NSequences
from search.tasks.task import Task


def load(
    length: Annotated[int, Range(2, LONGEST)] = 100,
    n_sequences: NSequences = 1000,
    seed: Seed = 0,
) -> Task:
    """Of each step a number and a marker, float32 [T, 2]; at the last step, predict the sum of the two marked numbers.

    The form is the now usual one (Arjovsky et al. 2016, "Adding problem"): numbers uniform in [0, 1), markers 0 or 1,
    one step marked in the first half of the sequence and one in the second, and the sum as it is. Who always answers 1
    scores 1/12 = 0.083 on average. The paper of 1997 has numbers in [-1, 1], marks -1 at both ends, both marked steps
    in the first half, and the sum scaled to [0, 1]. The lengths are its: uniform from L to L + L / 10.

    Args:
        length: L, the steps of the shortest sequences; at least 2.
        n_sequences: to train; there are a quarter as many in each of the other splits. At least 4.
        seed: of the data.
    """
    return Task(
        name="adding",
        splits=_synthetic.splits(partial(_draw, length), n_sequences, seed),
        loss="squared",
        score="mean squared error / 2",
        source=_synthetic.record(
            "adding problem (Hochreiter & Schmidhuber 1997, experiment 4)", n_sequences, seed, length=length
        ),
    )


def _draw(length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    n_steps = _synthetic.varied(rng, length)
    middle = n_steps // 2
    marked = [rng.integers(0, middle), rng.integers(middle, n_steps)]
    inputs = np.zeros((n_steps, 2), np.float32)
    inputs[:, 0] = rng.random(n_steps, np.float32)
    inputs[marked, 1] = 1.0
    targets = np.full((n_steps, 1), np.nan, np.float32)
    targets[-1] = inputs[marked, 0].sum()
    return inputs, targets
