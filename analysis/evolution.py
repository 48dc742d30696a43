"""What an evolution of cells came to, as frames: its record (`search.evolve.lineage`), and the costs of its trials."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import stats
from analysis.load import Studies
from analysis.load import load as load_trials
from search.base.keys import task_name
from search.errors import expect
from search.evolve import generation, lineage
from search.evolve import settings as kept_settings
from search.evolve.generation import Candidate
from search.evolve.mutations import MUTATIONS

STAGES = UNTRAINED, BY_TASK, THROUGH = "rejected untrained", "rejected by a task", "came through"
ENDED = ("finished", "diverged", "failed")
ANY = "any"  # mutation
SHOWN = 20  # of the survivors, where each is shown by itself
# What may become of a child: what it is, and of which children it is a share.
OUTCOMES = {
    "trained": ("trained", "tried"),
    "through": (THROUGH, "trained"),
    "parent": ("became a parent", "trained"),
    "survivor": ("survived", "trained"),
}


@dataclass(frozen=True)
class Evolution:
    """An evolution as far as its generations are complete.

    Attributes:
        folder: of it; the names of its studies begin with that of the folder.
        settings: as of `search.evolve.settings.read`.
        candidates: all that came up in complete generations, in order; none before generation 0 is complete.
    """

    folder: Path
    settings: Mapping[str, Any]
    candidates: Sequence[Candidate]

    @property
    def name(self) -> str:
        """That of its folder."""
        return self.folder.name

    @property
    def tasks(self) -> list[str]:
        """By which fitness is judged, in their order."""
        return [task_name(task) for task in self.settings["tasks"]]

    @property
    def gate(self) -> str | None:
        """The task that comes before."""
        return None if self.settings["gate"] is None else task_name(self.settings["gate"])

    @property
    def generations(self) -> int:
        """The number of the last one that is complete; 0 is that of the cells with which it began, -1 is none."""
        return max((candidate.generation for candidate in self.candidates), default=-1)

    @property
    def left(self) -> int:
        """Generations that are not complete, but for that of the cells with which it began."""
        return int(self.settings["generations"]) - max(0, self.generations)

    @property
    def first(self) -> str:
        """The cell to whose scores all others are relative."""
        return str(self.settings["variants"][0])

    @cached_property
    def survivors(self) -> list[Candidate]:
        """The best of all, the best first."""
        return generation.best(self.candidates, self.settings["survivors"])

    @cached_property
    def born(self) -> list[Candidate]:
        """All that a mutation made."""
        return [candidate for candidate in self.candidates if candidate.generation]

    @cached_property
    def shown(self) -> frozenset[str]:
        """The cells that are compared, which are not hundreds: the best `SHOWN`, and those with which it began."""
        return frozenset([*self.settings["variants"], *(each.name for each in self.survivors[:SHOWN])])


def folder_of(study: Studies, runs: str | Path) -> Path | None:
    """The folder of an evolution, given as `analysis.load` takes a study; None if it is a study, several, or none."""
    names = [study] if isinstance(study, str | Path) else list(study)
    return kept_settings.folder_of(names[0], runs) if len(names) == 1 else None


def with_studies(study: Studies, runs: str | Path) -> Studies:
    """What `analysis.load` takes, with the folders of its studies in the place of each evolution.

    Raises:
        UserError: an evolution has no study yet, or its settings cannot be read.
    """
    if not isinstance(study, str | Path):
        names = list(study)
    elif isinstance(study, Path) or folder_of(study, runs):
        names = [study]
    else:
        names = [name.strip() for name in study.split(",")]
    places = [folder_of(name, runs) for name in names]
    if not any(places):
        return study
    found: list[str | Path] = []
    for name, place in zip(names, places, strict=True):
        own = [name] if place is None else kept_settings.studies(place)
        expect(bool(own), "study", name, kept_settings.BEGUN)
        found += own
    return found


def of_study(folder: Path) -> Path | None:
    """The folder of the evolution that a study is of, given its folder; None if it is of none."""
    folder = folder if folder.name else folder.absolute()
    name = folder.name
    places = [folder.parent / name[:end] for end, letter in enumerate(name) if letter == "-"]
    evolutions = (place for place in places if kept_settings.is_one(place))
    return next((place for place in evolutions if name in kept_settings.study_names(place)), None)


def read(folder: Path) -> Evolution:
    """An evolution, finished or not.

    Raises:
        UserError: its record or its settings cannot be read.
    """
    settings = kept_settings.read(folder)
    assert settings is not None
    found = lineage.read(folder)
    pending = {c.generation for c in found if c.name and not c.rejected and not c.scores}
    return Evolution(folder, settings, [candidate for candidate in found if candidate.generation not in pending])


def load(folder: Path) -> Evolution:
    """An evolution of which a generation is complete.

    Raises:
        UserError: as `read`, or no generation is complete.
    """
    found = read(folder)
    expect(bool(found.candidates), "study", folder.name, "an evolution of which a generation is complete")
    return found


def costs(evolution: Evolution, storage: str | None = None) -> pd.DataFrame:
    """What training its cells took.

    Args:
        evolution: of which a generation is complete.
        storage: of its studies, as of `analysis.load`.

    Returns:
        By variant the trials that have ended, of all of its tasks, and their seconds of training.

    Raises:
        UserError: one of its studies cannot be read.
    """
    trials = load_trials(kept_settings.studies(evolution.folder), evolution.folder.parent, storage)
    ended = trials[trials["status"].isin(ENDED)].assign(variant=lambda frame: frame["variant"].astype(str))
    grouped = ended.groupby("variant")
    return pd.DataFrame({"trials": grouped.size(), "seconds": grouped["train_seconds"].sum()})


def compared(trials: pd.DataFrame, evolutions: Mapping[str, Evolution]) -> pd.DataFrame:
    """The trials that are compared with each other: of a study of an evolution those of `Evolution.shown` alone.

    Args:
        trials: as of `analysis.load`.
        evolutions: by the names of their studies.
    """
    chosen = pd.Series(True, trials.index)
    for study, found in evolutions.items():
        chosen &= (trials["study"] != study) | trials["variant"].isin(found.shown)
    if chosen.all():
        return trials
    own = trials[chosen]
    return own.assign(variant=own["variant"].cat.remove_unused_categories())


def progress(evolution: Evolution, costs: pd.DataFrame) -> pd.DataFrame:
    """How good the best are against what they cost.

    Args:
        evolution: of which a generation is complete.
        costs: as of `costs`.

    Returns:
        One row a generation: generation, up (cells that came up), trained (those that were trained), and of that
        generation and all before trials, seconds (of training), best (name), score (its relative score), last (that of
        the last of the survivors; missing while there are fewer). The trials of a cell, its further ones too, count for
        the generation it was born in.
    """
    rows, trials, seconds = [], 0, 0.0
    for number in range(evolution.generations + 1):
        born = [candidate for candidate in evolution.candidates if candidate.generation == number]
        own = costs.reindex([candidate.name for candidate in born if candidate.name]).fillna(0.0)
        trials, seconds = trials + int(own["trials"].sum()), seconds + float(own["seconds"].sum())
        until = [candidate for candidate in evolution.candidates if candidate.generation <= number]
        best = generation.best(until, evolution.settings["survivors"])
        full = len(best) == evolution.settings["survivors"]
        rows.append(
            {"generation": number, "up": len(born), "trained": len(own), "trials": trials, "seconds": seconds}
            | {"best": best[0].name, "score": best[0].fitness, "last": best[-1].fitness if full else stats.NAN}
        )
    return pd.DataFrame(rows)


def family(evolution: Evolution, most: int | None = None) -> pd.DataFrame:
    """The survivors with all from which they descend.

    Args:
        evolution: with its survivors.
        most: as many of the survivors alone, the best.

    Returns:
        One row a cell, each behind its parent and before the next of that parent's other children: name, generation,
        parent (empty in generation 0), mutations, score (relative), place (among the survivors, from 1; missing for
        others).
    """
    by_name = {candidate.name: candidate for candidate in evolution.candidates if candidate.name}
    chosen = evolution.survivors[:most]
    members: dict[str, Candidate] = {}
    for candidate in chosen:
        at: Candidate | None = candidate
        while at is not None and at.name not in members:
            members[at.name] = at
            at = by_name.get(at.parent)
    below: dict[str, list[Candidate]] = {}
    for name in by_name:  # in the order in which they came up
        if name in members:
            below.setdefault(members[name].parent, []).append(members[name])
    places = {candidate.name: place for place, candidate in enumerate(chosen, 1)}
    rows, todo = [], below.get("", [])[::-1]
    while todo:
        each = todo.pop()
        row = {"name": each.name, "generation": each.generation, "parent": each.parent}
        row |= {"mutations": ", ".join(each.mutations), "score": each.fitness, "place": places.get(each.name)}
        rows.append(row)
        todo += below.get(each.name, [])[::-1]
    return pd.DataFrame(rows).astype({"place": "Int64"})


def mutations(evolution: Evolution) -> pd.DataFrame:
    """What became of the children that each mutation made; one of several mutations counts for each kind among them.

    Returns:
        One row a mutation, `ANY` first, and outcome of `OUTCOMES`: mutation, outcome, n, of, share, low, high (the ends
        of Wilson's 95 % interval, as of independent children; missing, as the share, where `of` is 0).
    """
    parents = {candidate.parent for candidate in evolution.born}
    best = {candidate.name for candidate in evolution.survivors}
    rows = []
    for mutation in (ANY, *MUTATIONS):
        tried = [c for c in evolution.born if mutation == ANY or mutation in c.mutations]
        trained = [candidate for candidate in tried if candidate.name]
        counts = {
            "trained": (len(trained), len(tried)),
            "through": (sum(not c.rejected for c in trained), len(trained)),
            "parent": (sum(c.name in parents for c in trained), len(trained)),
            "survivor": (sum(c.name in best for c in trained), len(trained)),
        }
        for outcome, (n, of) in counts.items():
            row = {"mutation": mutation, "outcome": outcome, "n": n, "of": of}
            rows.append(row | dict(zip(("share", "low", "high"), stats.proportion(n, of), strict=True)))
    return pd.DataFrame(rows)


def outcomes(evolution: Evolution) -> pd.DataFrame:
    """Why children were trained no further, by generation.

    Returns:
        One row an outcome and generation from 1 on: outcome (why they were rejected, or `THROUGH`), stage (one of
        `STAGES`), generation, n. Outcomes in the order in which they may happen, those before training by falling
        number.
    """
    before = Counter(c.rejected for c in evolution.born if not c.name)
    gate = [] if evolution.gate is None else [evolution.gate]
    stages = {outcome: UNTRAINED for outcome, _ in before.most_common()}
    stages |= {f"task {task}": BY_TASK for task in (*gate, *evolution.tasks)} | {THROUGH: THROUGH}
    counts = Counter((c.rejected or THROUGH, c.generation) for c in evolution.born)
    rows = [
        {"outcome": outcome, "stage": stage, "generation": number, "n": counts[outcome, number]}
        for outcome, stage in stages.items()
        for number in range(1, evolution.generations + 1)
    ]
    return pd.DataFrame(rows, columns=["outcome", "stage", "generation", "n"])


def totals(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Of `outcomes`, over all generations: outcome, stage, n, of (children in all), share, low, high as of
    `mutations`."""
    found, of = [], int(outcomes["n"].sum())
    for (outcome, stage), own in outcomes.groupby(["outcome", "stage"], sort=False):
        n = int(own["n"].sum())
        share = zip(("share", "low", "high"), stats.proportion(n, of), strict=True)
        found.append({"outcome": outcome, "stage": stage, "n": n, "of": of} | dict(share))
    return pd.DataFrame(found)
