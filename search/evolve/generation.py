"""Who comes into a generation, and who is better: functions of a seed, a number and the scores before, of nothing else.

So an evolution is the same however many workers train it, in whatever order, and however often it is interrupted.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from search import cells
from search.base.randomness import derive_seed
from search.cells.canonical import canonical
from search.errors import UserError
from search.evolve.genome import Genome
from search.evolve.mutations import mutated
from search.evolve.viability import fault

MOST_MUTATIONS = 4  # of a child; there are k with probability 2**-k
BEST = 5  # of whom variant files are written, and cards are in the report
TRIES = 50  # at a child that is none like those before and can be trained

_TINY = 1e-9  # of a score that is 0

ILLEGAL, DUPLICATE = "no cell", "duplicate"


@dataclass(frozen=True)
class Candidate:
    """A cell that came up, and what became of it.

    Attributes:
        name: of the variant, ``g003-017``; empty if it was rejected before any training.
        generation: 0 for those with which the evolution began.
        parent: the name of the candidate that was mutated, empty in generation 0.
        mutations: names of the mutations, in their order.
        definition: of the variant.
        form: see `search.cells.canonical.canonical`; empty if it is no cell.
        rejected: why it was not trained further; empty if it came through.
        scores: by task its best validation score relative to that of the baseline, as `relative` gives it, for those
            tasks that it has been trained on.
        proven: whether those are scores of all the trials that parents get.
    """

    name: str
    generation: int
    parent: str
    mutations: tuple[str, ...]
    definition: Mapping[str, Any]
    form: str
    rejected: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    proven: bool = False

    @property
    def fitness(self) -> float:
        """The worst of its scores."""
        return min(self.scores.values(), default=float("-inf"))


def first(variants: Mapping[str, Mapping[str, Any]]) -> list[Candidate]:
    """Generation 0."""
    return [
        Candidate(name, 0, "", (), definition, canonical(cells.define(dict(definition))))
        for name, definition in variants.items()
    ]


def children(
    seed: int, generation: int, parents: Sequence[Candidate], forms: Collection[str], number: int
) -> list[Candidate]:
    """The candidates of a generation, those among them that are rejected before any training.

    Each child has a parent drawn from the best, each as likely as any other, and one to four mutations; it is drawn
    again until it is neither the same as one before nor beyond training.

    Args:
        seed: of the evolution.
        generation: its number, from 1 on.
        parents: the best so far, see `best`.
        forms: canonical forms of all candidates so far.
        number: of children; there are fewer only where `TRIES` drawings have made none.
    """
    found, known = [], set(forms)
    for k in range(number):
        for attempt in range(TRIES):
            rng = np.random.default_rng(derive_seed(seed, "evolve", generation, k, attempt))
            child = _child(f"g{generation:03}-{k:03}", generation, parents[int(rng.integers(len(parents)))], known, rng)
            found.append(child)
            if not child.rejected:
                known.add(child.form)
                break
    return found


def _child(
    name: str, generation: int, parent: Candidate, known: Collection[str], rng: np.random.Generator
) -> Candidate:
    genome, names = Genome.of(parent.definition), []
    for _ in range(min(MOST_MUTATIONS, int(rng.geometric(0.5)))):
        genome, mutation = mutated(genome, rng)
        names.append(mutation)
    form = ""
    try:
        cell = cells.define(genome.definition)
        form = canonical(cell)
        why = DUPLICATE if form in known else fault(cell)
    except UserError:
        why = ILLEGAL
    return Candidate(
        "" if why else name, generation, parent.name, tuple(names), genome.definition, form, rejected=why or ""
    )


def best(candidates: Iterable[Candidate], number: int) -> list[Candidate]:
    """The fittest of those that came through, the fittest first; of equals the one that was there before."""
    through = [candidate for candidate in candidates if candidate.name and not candidate.rejected]
    return sorted(through, key=lambda candidate: -candidate.fitness)[:number]


def relative(score: float | None, baseline: float, percent: bool) -> float:
    """How good a best validation score is, relative to the baseline's: above 1 where it is better.

    Args:
        score: None if none of its trials has finished.
        baseline: that of the same trials of the baseline.
        percent: whether scores are errors in percent, of which the shares of what is right are compared, as by
            Jozefowicz et al.; or else they are losses, of which the inverse are.
    """
    if score is None:
        return 0.0
    good, bad = (100.0 - score, 100.0 - baseline) if percent else (baseline, score)
    return (good + _TINY) / (bad + _TINY)
