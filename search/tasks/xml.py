"""XML: the next character of nested tags, each closed by its name (Jozefowicz et al. 2015, section 3)."""

import string
from functools import partial
from typing import Annotated

import numpy as np

from search.tasks import _symbols, _synthetic
from search.tasks._options import Range, Seed
from search.tasks._synthetic import LONGEST, NSequences
from search.tasks.task import Task

LETTERS = string.ascii_lowercase
ALPHABET = "/<>" + LETTERS
SHORTEST_NAME, LONGEST_NAME = 2, 10
MOST_TURNS = 50


def load(
    length: Annotated[int, Range(10, LONGEST)] = 100,
    n_sequences: NSequences = 1000,
    seed: Seed = 0,
) -> Task:
    """Of each step a character, one-hot float32 [T, 29] in the order of ASCII; at every step, predict the next.

    A document is made as in the paper: in each turn, with probability 1/2 and always after 50 turns, the tag that was
    opened last is closed, or if none is open the document ends; otherwise a tag is opened, whose name is 2 to 10 random
    letters. A sequence is documents one after another, cut at its length. No sequence is in two splits.

    As in the paper all steps are predicted, of which names and what is opened cannot be known: a perfect score is not
    0 %, but 44 % on average at length 100, and 35 % in the limit of long ones. Who always answers ``>`` scores 88 %.

    Args:
        length: steps of every sequence; at least 10.
        n_sequences: to train; there are a quarter as many in each of the other splits. At least 4.
        seed: of the data.
    """
    return Task(
        name="xml",
        splits=_synthetic.disjoint_splits(partial(_draw, length), _arrays, n_sequences, seed),
        loss="categorical",
        score="wrong characters [%]",
        source=_synthetic.record("XML (Jozefowicz et al. 2015)", n_sequences, seed, length=length),
        n_classes=len(ALPHABET),
    )


def _draw(length: int, rng: np.random.Generator) -> str:
    text = ""
    while len(text) <= length:
        text += _document(rng)
    return text[: length + 1]


def _document(rng: np.random.Generator) -> str:
    tags: list[str] = []
    still_open: list[str] = []
    turn = 0
    while True:
        if turn >= MOST_TURNS or rng.random() < 0.5:
            if not still_open:
                return "".join(tags)
            tags.append(f"</{still_open.pop()}>")
        else:
            n_letters = rng.integers(SHORTEST_NAME, LONGEST_NAME, endpoint=True)
            still_open.append("".join(LETTERS[k] for k in rng.integers(0, len(LETTERS), n_letters)))
            tags.append(f"<{still_open[-1]}>")
        turn += 1


def _arrays(text: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return _symbols.predict_next(_symbols.numbered(text, ALPHABET), len(ALPHABET))
