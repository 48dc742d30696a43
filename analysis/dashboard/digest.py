"""What takes long of a study's page, computed once for a state of the study: importance, and the findings judged."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from analysis import fanova, importance, statements, words
from analysis import findings as judging
from analysis.compare import compare
from analysis.frames import has_result
from analysis.importance import Importance
from analysis.part import Part
from search.study.plan import Plan

SCORES: tuple[fanova.Score, ...] = (*importance.SCORES, "diverged")
POINTS = 24  # of each side of a surface


@dataclass(frozen=True)
class Digest:
    """Frames of importance, which may be empty, and words on what is not known.

    Attributes:
        n: trials that had ended.
        reference: the variant of surfaces, ablation and tunability.
        settings: that the study varies.
        shares, marginals: as of `Importance`, of all `SCORES`.
        architecture: as of `Importance.architecture`, with the column ``score``.
        why: what keeps a score of a variant, or of all variants together (""), from being shown, where something does.
        surfaces: as of `Importance.surface`, by pair of settings.
        ped_anova, ablation, tunability: as of `Importance`.
        notes: what forests left out, by score and variant.
        sentences: what it comes to; what is not shown, and what it would need.
        verdicts: as of `findings.judge`, of these trials.
        judged: how they are to be read.
    """

    n: int
    reference: str
    settings: Sequence[str]
    shares: pd.DataFrame
    marginals: pd.DataFrame
    architecture: pd.DataFrame
    why: Mapping[tuple[str, str], str]
    surfaces: Mapping[tuple[str, str], pd.DataFrame]
    ped_anova: pd.DataFrame
    ablation: pd.DataFrame
    tunability: pd.DataFrame
    notes: Mapping[tuple[str, str], str]
    sentences: Sequence[str]
    verdicts: pd.DataFrame
    judged: str


def digest(part: Part, findings: Sequence[judging.Finding]) -> Digest:
    """Computes all of it, which may take minutes."""
    fitted = part.importance
    variants = [*fitted.variants, ""]
    why: dict[tuple[str, str], str] = {}
    notes: dict[tuple[str, str], str] = {}
    for score in SCORES:
        for variant in variants:
            found = fitted.fit(score, variant) if variant else fitted.over("variant", score)
            if found:
                notes[score, variant] = " ".join(found.notes)
            else:
                why[score, variant] = fitted.why(score, variant) if variant else fitted.why_over("variant", score)
    architecture = [fitted.architecture_of(score).assign(score=score) for score in SCORES]
    surfaces = {pair: fitted.surface_of(*pair, points=POINTS) for pair in combinations(fitted.settings, 2)}
    return Digest(
        n=int(has_result(part.trials).sum()),
        reference=fitted.reference,
        settings=fitted.settings,
        shares=_joined([fitted.shares, fitted.shares_of("diverged")]),
        marginals=_joined([fitted.marginals, fitted.marginals_of("diverged")]),
        architecture=_joined(architecture),
        why=why,
        surfaces={pair: surface for pair, surface in surfaces.items() if len(surface)},
        ped_anova=fitted.ped_anova,
        ablation=fitted.ablation,
        tunability=fitted.tunability,
        notes=notes,
        sentences=[*words.architecture([part]), *words.needs([part])],
        verdicts=judging.judge(findings, {part.task: statements.Evidence(part.trials, part.table, fitted)}),
        judged=words.judging_note([part]),
    )


class Ready:
    """Digests that are at hand, by part; see `chosen.Digests`."""

    def __init__(self, made: Mapping[str, Digest]):
        self._made = made

    def get(self, part: Any, renew: bool) -> Digest | str:
        """The digest of a part."""
        return self._made[part.key]


@threadpool_limits.wrap(limits=1, user_api="blas")  # threads that wait for each other take a core each
def of_trials(trials: pd.DataFrame, plan: Plan, findings: str, label: str) -> Digest:
    """`digest` of the trials of one study and task, in a process that gives way to every other."""
    os.nice(19)
    study, task = (str(trials[name].iloc[0]) for name in ("study", "task"))
    part = Part(study, task, task, task, plan, trials, compare(trials), label, Importance(trials, plan))
    return digest(part, judging.read(findings))


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    full = [frame for frame in frames if len(frame)]
    return pd.concat(full, ignore_index=True) if full else frames[0]
