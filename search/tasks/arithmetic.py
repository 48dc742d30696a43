"""Arithmetic: the sum of two numbers, from characters to characters (Jozefowicz et al. 2015, section 3)."""

import string
from functools import partial
from itertools import islice
from typing import Annotated

import numpy as np

from search.tasks import _symbols, _synthetic
from search.tasks._options import Range, Seed
from search.tasks._synthetic import NSequences
from search.tasks.task import Task

LETTERS = string.ascii_lowercase
ALPHABET = "+-." + string.digits + "=" + LETTERS


def load(
    digits: Annotated[int, Range(1, 18)] = 8,
    distractors: Annotated[int, Range(0, 100)] = 3,
    n_sequences: NSequences = 10_000,
    seed: Seed = 0,
) -> Task:
    """Of each step a character, one-hot float32 [T, 40]; from the = on, predict the next.

    A sequence is a sum or a difference, with letters among its characters that mean nothing, and the answer, which a
    full stop ends: ``3e36d9-h1h39f94eeh43keg3c=-13991064.`` is 3369 - 13994433. As in the paper, the network reads the
    right characters of the answer up to the one that it predicts, and any of the 40 may be predicted. What the paper
    leaves open: each number has 1 to `digits` digits, all numbers of digits equally likely and the first digit not 0;
    the first number is negative as often as not; and 0 to `distractors` letters, each any of 26, follow every
    character before the =. No sum is in two splits. Who always answers with a full stop scores 86 %.

    Args:
        digits: of the longest numbers.
        distractors: letters after a character, at most; 0 gives the plain sum.
        n_sequences: to train; there are a quarter as many in each of the other splits. At least 4.
        seed: of the data.
    """
    return Task(
        name="arithmetic",
        splits=_synthetic.disjoint_splits(partial(_draw, digits), partial(_arrays, distractors), n_sequences, seed),
        loss="categorical",
        score="wrong characters [%]",
        source=_synthetic.record(
            "arithmetic (Jozefowicz et al. 2015)", n_sequences, seed, digits=digits, distractors=distractors
        ),
        n_classes=len(ALPHABET),
    )


def _draw(digits: int, rng: np.random.Generator) -> tuple[int, int]:
    """Two numbers to be added."""
    lengths = rng.integers(1, digits, 2, endpoint=True)
    signs = 1 - 2 * rng.integers(0, 2, 2)
    first, second = (signs * rng.integers(10 ** (lengths - 1), 10**lengths)).tolist()
    return first, second


def _arrays(distractors: int, numbers: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    first, second = numbers
    plain = f"{first}{second:+d}"
    n_letters = rng.integers(0, distractors, len(plain), endpoint=True)
    letters = iter(LETTERS[k] for k in rng.integers(0, len(LETTERS), n_letters.sum()))
    question = "".join(shown + "".join(islice(letters, n)) for shown, n in zip(plain, n_letters.tolist(), strict=True))
    symbols = _symbols.numbered(f"{question}={first + second}.", ALPHABET)
    inputs, targets = _symbols.predict_next(symbols, len(ALPHABET))
    targets[: len(question)] = -1
    return inputs, targets
