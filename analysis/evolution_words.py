"""What an evolution came to, in sentences."""

from analysis.evolution import SHOWN, Evolution
from search.evolve.generation import Candidate

FLATTERS = "The scores that pick the best flatter them: whether one is better is for trials on held-out tasks to show."


def best(found: Evolution) -> str:
    """Which cell is the best, and how good; of an evolution of which a generation is complete."""
    first, tasks = found.survivors[0], ", ".join(found.tasks)
    if first.name == found.first:
        return f"No cell is better than {first.name}, with which the evolution began, on all of {tasks}."
    return (
        f"The best cell is {first.name}: {first.fitness:.3f} times the score of {found.first} on the worst of {tasks}."
    )


def stands(found: Evolution) -> str:
    """How far it is, without a full stop."""
    trained = sum(bool(candidate.name) for candidate in found.candidates)
    text = f"{found.generations} of {found.generations + found.left} generations are complete: "
    return text + f"{len(found.candidates):,} cells came up, {trained:,} of them were trained"


def compared(found: Evolution, n: int, of: int) -> str:
    """Which `n` of the `of` cells of a study of an evolution are compared, where these are not all."""
    text = f"These are {n} of {of:,} cells of {found.name}: those with which it began, and of the best "
    return text + f"{len(found.survivors[:SHOWN])} by relative score those that were trained here. {FLATTERS}"


def tree(found: Evolution, n: int) -> str:
    """How the family tree of the best `n` is to be read."""
    return (
        f"The best {n} by relative score, filled and with their place, and all from which they descend: name, relative "
        "score, and the mutations that made each of its parent."
    )


def title(cell: Candidate, place: int | None) -> str:
    """Of the card of a cell: its place among the survivors, its name and its relative score."""
    return f"{'' if place is None else f'{place}. '}{cell.name}  {cell.fitness:.3f}"


def born(cell: Candidate) -> str:
    """When a cell was born, and of what."""
    text = f"generation {cell.generation}"
    return f"{text}, from {cell.parent} by {', '.join(cell.mutations)}" if cell.parent else text
