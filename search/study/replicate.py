"""Replicates: the best setting of each variant, trained again with new seeds. They tell how much of a score is luck.

They are studies of one variant whose space is that one setting, in the folder ``replicates`` of the study, and so are
trained, interrupted and read as any other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.base.randomness import derive_seed
from search.errors import expect
from search.study.claims import Record
from search.study.plan import PLAN_FILE, Plan, read_plan
from search.study.planning import with_fingerprints
from search.study.reader import StudyReader
from search.study.tables import TrialState
from search.training.status import Status

FOLDER = "replicates"


def folder_of(study: Path, variant: str, number: int) -> Path:
    """Where the replicates of a trial are, in the folder of its study."""
    return study / FOLDER / _name(variant, number)


def best(study: StudyReader) -> dict[str, Record]:
    """The trial of the best validation score of each variant that has a finished one, of a complete study.

    Raises:
        UserError: trials have yet to end, or none has finished.
    """
    plan, counts = study.plan, study.counts()
    left = sum(row[status] for row in counts.values() for status in (Status.WAITING, Status.RUNNING))
    text = "a complete study; the same odyssey sweep goes on with it"
    expect(not left, "study", f"{plan.study}, of which {left} trials have not ended", text)
    trials = study.trials()
    found = {}
    for variant in plan.variants:
        finished = [trial for trial in trials.get((plan.task["name"], variant), []) if _score(trial) is not None]
        if finished:
            found[variant] = min(finished, key=lambda trial: (_score(trial), trial.number))
    expect(bool(found), "study", plan.study, "a study of which a trial has finished")
    return found


def plans(study: Path, plan: Plan, originals: Mapping[str, Record], seeds: int) -> Iterable[tuple[Path, Plan]]:
    """Folder and plan of the replicates of each variant.

    Seed r is the same for all variants where draws are paired, and none is of the search.

    Args:
        study: folder of the study.
        plan: of the study.
        originals: as of `best`.
        seeds: of each variant.

    Raises:
        UserError: there are more replicates already.
    """
    for variant, trial in originals.items():
        folder = folder_of(study, variant, trial.number)
        if (folder / PLAN_FILE).exists():
            known = read_plan(folder).trials
            expect(seeds >= known, "seeds", seeds, f"at least {known}, for so many replicates there are in {folder}")
        setting: dict[str, Any] = trial.attributes["result"]
        yield (
            folder,
            with_fingerprints(
                replace(
                    plan,
                    study=_name(variant, trial.number),
                    variants={variant: plan.variants[variant]},
                    trials=seeds,
                    seed=derive_seed(plan.seed, FOLDER),
                    sampler="random",
                    space={name: {"distribution": "choice", "values": [setting[name]]} for name in plan.space},
                    storage=None,
                )
            ),
        )


def _name(variant: str, number: int) -> str:
    return f"{variant}-{number}"


def _score(trial: Record) -> float | None:
    """Its validation score, if it finished."""
    if trial.state != TrialState.COMPLETE:
        return None
    score: float | None = trial.attributes["result"]["valid_score"]
    return score
