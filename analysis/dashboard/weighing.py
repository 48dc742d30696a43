"""The answers on importance and on findings, from a digest."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis import table_text, tables, words
from analysis.dashboard import importance_charts
from analysis.dashboard.comparing import shown
from analysis.dashboard.digest import SCORES, Digest
from analysis.dashboard.figure import Figure
from analysis.frames import has_result, records
from analysis.importance import NAMES
from search.errors import expect

ALL = "all variants"
Space = Mapping[str, Mapping[str, Any]]


def weighed(
    found: Digest, trials: pd.DataFrame, space: Space, label: str, variants: Sequence[str], params: Mapping[str, str]
) -> dict[str, Any]:
    """Figures and tables of importance.

    Args:
        found: of one study and task.
        trials: of it, as they are now.
        space: of the plan.
        label: what the score is, with its unit.
        variants: of the part.
        params: ``show``, which is ``shares`` with marginals, of a ``score`` and a ``variant`` (empty: of all together);
            ``pair`` of settings, ``pair=a,b``; ``path`` of ablation, ``to`` a variant; or ``tables``.

    Raises:
        UserError: a parameter is none of these.
    """
    pairs = [f"{a},{b}" for a, b in found.surfaces]
    paths = [str(name) for name in dict.fromkeys(found.ablation["variant"])]
    show = params.get("show", "tables")
    given = {"show": show} | {name: params.get(name, "") for name in ("score", "variant", "pair", "to")}
    by_show: dict[str, dict[str, Sequence[str]]] = {
        "shares": {"score": SCORES, "variant": ("", *variants)},
        "pair": {"pair": pairs},
        "path": {"to": paths},
        "tables": {},
    }
    legal: dict[str, Sequence[str]] = {"show": list(by_show)} | by_show.get(show, {})
    for name, values in legal.items():
        expect(given[name] in values, name, given[name], f"one of {', '.join(values)}")
    drawn: list[Figure] = []
    sentences: list[str] = []
    if show == "shares":
        score, variant = given["score"], given["variant"]
        if why := found.why.get((score, variant), ""):
            sentences.append(f"{NAMES[score].capitalize()} of {variant or ALL}: not shown. {why}")
        else:
            drawn += _shares(found, score, variant)
        drawn += _marginals(found, trials, space, score, variant, label)
    elif show == "pair":
        first, second = params["pair"].split(",", 1)
        own = found.surfaces[first, second]
        for alone in (False, True):
            drawn.append(importance_charts.surface(own, (first, second), space, label, found.reference, alone))
    elif show == "path":
        path = found.ablation[found.ablation["variant"] == given["to"]]
        drawn.append(importance_charts.ablation(path, given["to"], found.reference, label))
    else:
        n = int(has_result(trials).sum())
        newer = [f"Of the {found.n} trials that had ended; {n - found.n} have ended since."] if n != found.n else []
        choices = {"choices": {"pair": pairs, "to": paths}, "newer": n - found.n}
        return {"sentences": [*newer, *found.sentences], "figures": [], "tables": _tables(found), **choices}
    return {"sentences": sentences, "figures": [figure.payload() for figure in drawn]}


def judged(found: Digest, task: str) -> dict[str, Any]:
    """The published findings, with their verdicts and what they rest on."""
    table = tables.judged(found.verdicts, "findings", "Findings", found.judged, [task])
    return {"tables": [shown(table)], "figures": [], "sentences": [words.verdicts(found.verdicts, [task])]}


def _shares(found: Digest, score: str, variant: str) -> list[Figure]:
    if variant:
        own = found.shares[(found.shares["score"] == score) & (found.shares["variant"] == variant)]
    else:
        own = found.architecture[(found.architecture["score"] == score) & (found.architecture["by"] == "variant")]
    if own.empty:
        return []
    return [importance_charts.shares(own, score, variant or ALL, found.notes.get((score, variant), ""))]


def _marginals(found: Digest, trials: pd.DataFrame, space: Space, score: str, variant: str, label: str) -> list[Figure]:
    every = found.marginals[found.marginals["score"] == score]
    every = every[every["variant"] == variant] if variant else every
    ended = trials[has_result(trials)]
    ended = ended.assign(diverged=(ended["status"] == "diverged").astype(float))
    ended = ended[ended["variant"] == variant] if variant else ended
    ended = ended if score == "diverged" else ended[ended["status"] == "finished"]
    drawn = []
    for name in dict.fromkeys(every["dimension"]):
        points = ended[["variant", "trial"]].assign(value=ended[name], y=ended[score].astype(float))
        own = every[every["dimension"] == name]
        drawn.append(importance_charts.marginal(own, every, points, space, score, label, found.reference))
    return drawn


def _tables(found: Digest) -> list[dict[str, Any]]:
    made = []
    if len(found.ped_anova):
        made.append(tables.ped_anova(found.ped_anova, "ped_anova", "What the best have in common", words.PED_ANOVA))
    if len(found.tunability):
        note = words.tunability(found.reference)
        gains = records(found.tunability)
        made.append(table_text.of_columns(gains, tables.TUNABILITY, "tunability", "Tunability", note))
    by_toggles = found.architecture[
        (found.architecture["by"] == "toggles") & (found.architecture["score"] == "test_score")
    ]
    if len(by_toggles):
        note = "All variants together, the architecture as its toggles."
        made.append(tables.architecture(by_toggles, "architecture", "Architecture as toggles", note))
    return [shown(table) for table in made]
