"""An evolution: generation by generation, what is born, and what the scores of its trials make of it."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from search.errors import UserError
from search.evolve import generation, lineage
from search.evolve.generation import Candidate


class Train(Protocol):
    """What trains candidates."""

    def __call__(
        self, task: str, variants: Mapping[str, Mapping[str, Any]], more: bool = False
    ) -> Mapping[str, float] | None:
        """Trains variants, ``{name: definition}``, on a task; `more`, in other trials, as many as parents get.

        Returns:
            by variant, of these and of all trained so before, the best validation score where there is one, once all
            trials have ended; None if it was interrupted.
        """
        ...


@dataclass(frozen=True)
class Rules:
    """How an evolution goes.

    Attributes:
        seed: of all that is random in it.
        generations: after that of the cells with which it begins.
        children: of a generation.
        survivors: as many of the best so far may be parents.
        more: whether those are trained in more trials.
        gate: the task that comes first, or None.
        gate_score: the highest validation score with which a candidate passes the gate.
        tasks: the others, in their order; of each whether its scores are errors in percent.
        keep: the relative score below which a candidate is not trained on the next task.
    """

    seed: int
    generations: int
    children: int
    survivors: int
    more: bool
    gate: str | None
    gate_score: float
    tasks: Mapping[str, bool]
    keep: float


def run(
    rules: Rules,
    variants: Mapping[str, Mapping[str, Any]],
    train: Train,
    folder: Path,
    note: Callable[[str], None],
) -> list[Candidate] | None:
    """Goes on with an evolution to its end.

    Args:
        rules: of it.
        variants: with which it begins; the first is the baseline of relative scores.
        train: see `Train`.
        folder: of its record.
        note: is told a line of each generation.

    Returns:
        all candidates; None if it was interrupted.

    Raises:
        UserError: the baseline itself does not pass the gate or has no score; the record cannot be read.
    """
    known = lineage.read(folder)
    found: list[Candidate] = []
    for number in range(rules.generations + 1):
        # What is born follows from what is found, so that the record only saves the time to make it again.
        born = [_newborn(candidate) for candidate in known if candidate.generation == number]
        if not born:
            forms = {candidate.form for candidate in found if candidate.name}
            parents = generation.best(found, rules.survivors)
            born = (
                generation.children(rules.seed, number, parents, forms, rules.children)
                if number
                else generation.first(variants)
            )
            lineage.write(folder, [*found, *born])
            known = []
        judged = _judged(rules, born, next(iter(variants)), train)
        proven = judged and _proven(rules, [*found, *judged], train)
        if judged is None or proven is None:
            return None
        found = proven
        lineage.write(folder, [*found, *known[len(found) :]])
        note(_told(rules, number, judged, generation.best(found, 1)[0]))
    return found


def _newborn(candidate: Candidate) -> Candidate:
    """A candidate as it was before it was trained."""
    return dataclasses.replace(candidate, rejected="", scores={}, proven=False) if candidate.name else candidate


def _judged(rules: Rules, born: Sequence[Candidate], baseline: str, train: Train) -> list[Candidate] | None:
    """A generation with the scores of its candidates; those that fall behind are trained no further. Those of
    generation 0 do not fall behind."""
    now = {candidate.name: candidate for candidate in born if candidate.name}
    for task in (*([rules.gate] if rules.gate else []), *rules.tasks):
        going = {name: candidate.definition for name, candidate in now.items() if not candidate.rejected}
        best = train(task, going) if going else {}
        if best is None:
            return None
        for name in going:
            now[name] = _scored(rules, now[name], task, best.get(name), _of_baseline(rules, task, baseline, best))
    return [now.get(candidate.name, candidate) for candidate in born]


def _proven(rules: Rules, found: list[Candidate], train: Train) -> list[Candidate] | None:
    """All candidates, of which those that may be parents have the scores of more trials: the best of all of theirs,
    relative to the baseline's best of as many."""
    first, now = found[0], list(found)
    while rules.more and (new := [c for c in generation.best(now, rules.survivors) if not c.proven]):
        scores: dict[str, dict[str, float]] = {candidate.name: {} for candidate in new}
        for task, percent in rules.tasks.items():
            few = train(task, {})
            many = train(task, {c.name: c.definition for c in (first, *new)}, more=True)
            if few is None or many is None:
                return None
            best = {name: min(s[name] for s in (few, many) if name in s) for name in {*few, *many}}
            for name, own in scores.items():
                own[task] = generation.relative(best[name], best[first.name], percent)
        now = [dataclasses.replace(c, scores=scores[c.name], proven=True) if c.name in scores else c for c in now]
    return now


def _scored(rules: Rules, candidate: Candidate, task: str, score: float | None, baseline: float) -> Candidate:
    if task == rules.gate:
        passed = score is not None and score <= rules.gate_score
    else:
        relative = generation.relative(score, baseline, rules.tasks[task])
        candidate = dataclasses.replace(candidate, scores={**candidate.scores, task: relative})
        passed = relative >= rules.keep
    if passed or candidate.generation == 0:
        return candidate
    return dataclasses.replace(candidate, rejected=f"task {task}")


def _of_baseline(rules: Rules, task: str, baseline: str, best: Mapping[str, float]) -> float:
    score = best.get(baseline)
    if score is None:
        raise UserError(f"task={task}: no trial of {baseline} has finished, with which the others are compared")
    if task == rules.gate and score > rules.gate_score:
        expected = f"at most gate_score={rules.gate_score:g}; give more epochs, trials or data"
        raise UserError(
            f"gate={task}: {baseline}, with which the others are compared, comes to {score:.4g}: expected {expected}"
        )
    return score


def _told(rules: Rules, number: int, judged: Sequence[Candidate], best: Candidate) -> str:
    """One line about a generation."""
    why = Counter(candidate.rejected for candidate in judged if candidate.rejected)
    through = sum(not candidate.rejected for candidate in judged)
    rejected = f" ({', '.join(f'{n} {what}' for what, n in why.most_common())})" if why else ""
    return (
        f"generation {number} of {rules.generations}: {through} of {len(judged)} came through{rejected}; "
        f"best: {best.name} {best.fitness:.4g}"
    )
