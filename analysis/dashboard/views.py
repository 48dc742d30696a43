"""What the page asks for, and the answers: all that is computed is computed by `analysis`, and goes out as JSON."""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import pandas as pd

from analysis import evolution, evolution_words, replicates, summaries, words
from analysis.commands import command
from analysis.compare import Searches
from analysis.dashboard import comparing, evolved, opening, standing, weighing
from analysis.dashboard.cards import card
from analysis.dashboard.chosen import Chosen, Digests, lean
from analysis.dashboard.curve_charts import N_POINTS, trial_curve
from analysis.dashboard.digest import SCORES
from analysis.dashboard.figure import DARK, values
from analysis.dashboard.source import Key, Source
from analysis.frames import FRACTION, parts
from analysis.load import sampled
from analysis.style import Dimension
from search.base.keys import ADJUSTMENTS, SELECTIONS
from search.errors import UserError, expect, masked
from search.evolve import settings as kept_settings
from search.study.plan import Plan

Params = Mapping[str, str]
Value = TypeVar("Value")
SHARES = ("0.05", "0.1", "0.2")
STATES = ("best", "finished", "diverged")
CONTROLS = {
    "dark": DARK,
    "controls": {
        "share": [[share, f"{100 * float(share):g} %"] for share in SHARES],
        "select": [[select, f"{select} score"] for select in SELECTIONS],
        "adjust": [[adjust, adjust.title()] for adjust in ADJUSTMENTS],
        "state": [["best", "best"], ["finished", "all finished"], ["diverged", "diverged"]],
        "score": [[score, weighing.NAMES[score]] for score in SCORES],
    },
}
USUAL = {"share": "0.1", "select": "valid", "adjust": "bonferroni"}
KEPT = 64  # shares and selections of parts, and answers
HELD = ("compare", "curves", "learning")  # answers that are kept, for a control that is moved back
FEW_POINTS, MOST_POINTS = 8, 40_000  # of the curves of trials in a page at rest: of each, and of all


class Views:
    """The answers on some studies.

    Args:
        source: the studies.
        digests: of their parts.
        live: whether they are asked for again as studies go on.
        usual: what controls are at, other than as `USUAL` has it.
    """

    def __init__(self, source: Source, digests: Digests, live: bool, usual: Params = USUAL):
        self._source, self._digests, self._live = source, digests, live
        self._usual = {**USUAL, **usual}
        trials = len(source.frame)
        self._points = N_POINTS if live else max(FEW_POINTS, min(N_POINTS, MOST_POINTS // trials))
        self._given: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._searches: dict[tuple[Any, ...], Searches] = {}
        self._boxes_of: dict[tuple[Any, ...], pd.DataFrame] = {}
        self._boxed: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        self._stable: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        self._drawn: tuple[tuple[Any, ...], list[dict[str, Any]]] | None = None
        self._ranked: tuple[tuple[Any, ...], list[dict[str, Any]]] | None = None
        self._parts: tuple[int, list[Chosen]] | None = None
        self._again: dict[str, pd.DataFrame] = {}
        self._cards: dict[tuple[str, str], dict[str, Any]] = {}
        self._places: tuple[int, dict[Key, int]] | None = None
        self._answers: dict[str, Callable[[Params], dict[str, Any]]] = {
            "boot": self._boot,
            "overview": self._overview,
            "news": self._news,
            "trials": self._trials,
            "trial": self._trial,
            "cells": self._cells,
            "compare": self._compare,
            "filtered": self._filtered,
            "curves": self._curves,
            "learning": self._learning,
            "importance": self._importance,
            "findings": self._findings,
        }

    def answer(self, name: str, params: Params) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            UserError: there is no such request, or a parameter is not legal.
        """
        expect(name in self._answers, "request", name, f"one of {', '.join(self._answers)}")
        make = partial(self._answers[name], params)
        return self._held((name,), params, make) if name in HELD else make()

    def _held(self, key: tuple[Any, ...], params: Params, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """An answer that may be asked for again; a page at rest asks once for each."""
        key = (self._source.version, *key, *sorted(params.items()))
        return _kept(self._given, key, make) if self._live else make()

    @property
    def title(self) -> str:
        """The names of the studies; in the place of all of an evolution's its own."""
        folders, owner = self._source.folders, self._source.evolution
        whole = [
            each.name
            for each in self._source.evolutions
            if set(kept_settings.studies(each.folder)) <= {*folders.values()}
        ]
        owners = {study: own.name for study in folders if (own := owner(study)) and own.name in whole}
        return ", ".join(dict.fromkeys(owners.get(study, study) for study in folders))

    @property
    def frame(self) -> pd.DataFrame:
        """All trials, as of `analysis.load`."""
        return self._source.frame

    def parts(self) -> list[Chosen]:
        """Every task of every study."""
        version, frame = self._source.version, self._source.frame
        if self._parts is None or self._parts[0] != version:
            plans = self._source.plans
            found = []
            for (study, task), trials in parts(frame):
                plan = plans[study]
                title = task if len(plans) == 1 else study if study == task else f"{study}, {task}"
                label = plan.score if task == plan.task["name"] else "score"
                whole = self._source.evolution(study)
                own = evolution.compared(trials, {study: whole} if whole else {})
                n, every = (each["variant"].nunique() for each in (own, trials))
                note = evolution_words.compared(whole, n, every) if whole and n < every else ""
                found.append(Chosen(study, task, title, plan, lean(own), label, note))
            self._parts = version, found
        return self._parts[1]

    def _searched(self, part: Chosen, select: Any, fraction: float) -> Searches:
        """What of a comparison no other control changes."""
        key = (self._source.version, part.key, select, fraction)
        return _kept(self._searches, key, lambda: Searches.of(part.trials, select, fraction))

    def _boxes(self, part: Chosen, table: pd.DataFrame) -> list[dict[str, Any]]:
        """The box plots, in which baseline and adjustment change only what differs significantly."""
        key = (self._source.version, part.key, *table[["select", "fraction"]].iloc[0])

        def make() -> list[dict[str, Any]]:
            boxes = _kept(self._boxes_of, key, lambda: summaries.boxes(part.trials, table))
            significant = dict(zip(table["variant"].astype(str), table["significant"], strict=True))
            own = boxes.assign(significant=boxes["variant"].astype(str).map(significant))
            return comparing.boxed(part.trials, table, own, part.label)

        return _kept(self._boxed, (*key, *table["significant"]), make)

    def _costs(self, part: Chosen) -> list[dict[str, Any]]:
        """The figures of scores against costs, which no control changes."""
        key = (self._source.version, part.key)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = key, comparing.costs(part.trials, part.label, part.reference)
        return self._drawn[1]

    def _part(self, params: Params) -> Chosen:
        found = {part.key: part for part in self.parts()}
        key = params.get("part", "")
        expect(key in found, "part", key, f"one of {', '.join(found)}")
        return found[key]

    def _boot(self, params: Params) -> dict[str, Any]:
        """What the page is made from."""
        self._again, self._given = {}, {}
        return {
            "version": self._source.version,
            "edition": self._source.edition,
            "title": self.title,
            "live": self._live,
            "usual": self._usual,
            "done": "" if self._live else words.done(self._source.frame, list(self._source.plans.values())),
            "parts": opening.parts(self.parts()),
            **opening.ran(self._source, [command for part in self.parts() if (command := self._repeated(part))]),
            **CONTROLS,
        }

    def _repeated(self, part: Chosen) -> str:
        """The command that made the replicates of a part; empty if there are none."""
        again, runs = self._replicates(part), self._source.folders[part.study].parent
        if not len(again):
            return ""
        seeds = again.groupby("variant").size().max()
        return shlex.join(["odyssey", "replicate", f"study={part.study}", f"runs={runs}", f"seeds={seeds}"])

    def _replicates(self, part: Chosen) -> pd.DataFrame:
        """The replicates of a part, read once for each time that the page is opened."""
        if part.key not in self._again:
            self._again[part.key] = replicates.of_best(self._source.folders[part.study], part.trials)
        return self._again[part.key]

    def _overview(self, params: Params) -> dict[str, Any]:
        """How the studies stand, without a look at the storage."""
        records = self._source.records()
        return {
            "version": self._source.version,
            "edition": self._source.edition,
            "trouble": masked(self._source.trouble),
            "said": [text for each in self._source.evolutions for text in evolved.said(each)],
            "rows": [row for plan, trials in records for row in self._rows(plan, trials)],
            "failures": [failure for plan, trials in records for failure in standing.failures(plan, trials)],
            "work": self._source.work() if self._live else [],
        }

    def _rows(self, plan: Plan, trials: standing.Trials) -> Iterable[dict[str, Any]]:
        """Of an evolution's study one row: it has hundreds of variants."""
        several = self._source.evolution(plan.study) is None
        return standing.rows(plan, trials) if several else [standing.together(plan, trials)]

    def _news(self, params: Params) -> dict[str, Any]:
        """A look at the storages: the overview, if anything has changed since a version."""
        expect(params.get("since", "").isdigit(), "since", params.get("since", ""), "a version")
        version = self._source.look()
        since = int(params["since"])
        if version == since:
            return {"version": version, "edition": self._source.edition, "trouble": masked(self._source.trouble)}
        return self._overview(params) | ({"changed": self._source.rows(since)} if params.get("rows") == "1" else {})

    def _trials(self, params: Params) -> dict[str, Any]:
        """All trials by column; where all of a column are equal, it is given once."""
        frame = self._source.frame
        found: dict[str, Any] = {}
        for name in frame.columns:
            column = values(frame[name])
            if name == "error":
                column = [value and masked(value) for value in column]
            same = len(column) > 1 and all(value == column[0] for value in column)
            found[str(name)] = {"all": column[0]} if same else {"each": column}
        kinds = {str(name): _kind(frame[name]) for name in frame.columns}
        return {
            "version": self._source.version,
            "n": len(frame),
            "columns": found,
            "kinds": kinds,
            "settings": sampled(frame),
        }

    def _trial(self, params: Params) -> dict[str, Any]:
        """What the table of trials does not say of one: its curve, its command, the traceback of a failed one."""
        number = params.get("trial", "")
        expect(number.isdigit(), "trial", number, "a number")
        key = (params.get("study", ""), params.get("task", ""), params.get("variant", ""), int(number))
        row = self._row(key)
        plan = self._source.plans[key[0]]
        record = self._source.record(key)
        traceback = record.attributes.get("traceback", "") if record else ""
        label = plan.score if key[1] == plan.task["name"] else "score"
        trouble = ""
        try:
            curve = self._source.curve(key)
        except UserError as error:
            curve, trouble = None, masked(str(error))
        drawn = [] if curve is None or not len(curve) else [trial_curve(curve, row["best_epoch"], label, self._points)]
        return {
            "command": command(row, plan),
            "traceback": masked(str(traceback)),
            "trouble": trouble,
            "figures": [figure.payload() for figure in drawn],
            "card": self._card(key[2], plan.variants[key[2]]) if key[2] in plan.variants else None,
        }

    def _row(self, key: Key) -> dict[Any, Any]:
        """A trial, as of `analysis.load`."""
        version, frame = self._source.version, self._source.frame
        if self._places is None or self._places[0] != version:
            keys = zip(*(frame[name] for name in ("study", "task", "variant", "trial")), strict=True)
            self._places = version, {known: place for place, known in enumerate(keys)}
        expect(key in self._places[1], "trial", "/".join(map(str, key)), "a trial of the study")
        return frame.iloc[self._places[1][key]].to_dict()

    def _cells(self, params: Params) -> dict[str, Any]:
        """The family trees of evolutions, and the cards of what else is compared: of each definition one."""
        trees = [evolved.tree(each, self._card) for each in self._source.evolutions]
        planted = {cell["name"] for tree in trees for cell in tree["cells"]}
        cards: list[dict[str, Any]] = []
        for study, plan in self._source.plans.items():
            own = self._source.evolution(study)
            names = plan.variants if own is None else own.shown - planted
            found = [self._card(name, plan.variants[name]) for name in plan.variants if name in names]
            cards += [each for each in found if each not in cards]
        return {"trees": trees, "cards": cards}

    def _card(self, variant: str, definition: Mapping[str, Any]) -> dict[str, Any]:
        """As of `cards.card`, made once for each definition."""
        key = (variant, json.dumps(definition, sort_keys=True, default=str))
        if key not in self._cards:
            self._cards[key] = card(variant, definition)
        return self._cards[key]

    def _controls(self, params: Params) -> tuple[Chosen, Any, Any, str, float]:
        """The part, and the controls of a comparison."""
        part = self._part(params)
        own = {**self._usual, "baseline": part.reference, **params}
        legal = {"share": SHARES, "select": SELECTIONS, "adjust": ADJUSTMENTS, "baseline": part.variants}
        for name, values_ in legal.items():
            expect(own[name] in values_, name, own[name], f"one of {', '.join(values_)}")
        return part, own["select"], own["adjust"], own["baseline"], float(own["share"])

    def _compare(self, params: Params) -> dict[str, Any]:
        part, select, adjust, baseline, fraction = self._controls(params)
        table = self._searched(part, select, fraction).against(baseline, adjust)
        answer = comparing.compared(part.trials, table, self._boxes(part, table), part.label, part.title)
        if answer["figures"]:
            answer["figures"] += comparing.replicated(self._replicates(part), part.label)
            answer["figures"] += self._costs(part) + self._ranks(select, adjust)
        return answer

    def _ranks(self, select: Any, adjust: Any) -> list[dict[str, Any]]:
        """The critical-difference diagram, where there are several tasks, each once."""
        every = self.parts()
        if len(every) < 2 or len({part.task for part in every}) < len(every):
            return []
        key = (self._source.version, select)
        if self._ranked is None or self._ranked[0] != key:
            tables = {p.task: self._searched(p, select, FRACTION).against(p.reference, adjust) for p in every}
            self._ranked = key, comparing.ranks(tables, [part.trials for part in every], select)
        return self._ranked[1]

    def _filtered(self, params: Params) -> dict[str, Any]:
        """Boxes and curves of the trials whose settings are in ranges, ``where={"lr": [low, high]}``, or of categories,
        ``where={"forget_gate": ["sigmoid", "one"]}``."""
        part, *controls = self._controls(params)
        space = part.plan.space
        expected = UserError(f"where={params.get('where', '')}: expected ranges of settings, or categories")
        try:
            given = {str(name): list(ends) for name, ends in json.loads(params.get("where", "")).items()}
        except (ValueError, TypeError, AttributeError):
            raise expected from None
        wanted: dict[str, list[Any]] = {}
        numeric = pd.api.types.is_numeric_dtype
        legal = [name for name in sampled(part.trials) if name in space or numeric(part.trials[name])]
        for name, ends in given.items():
            expect(name in legal, "where", name, f"one of {', '.join(legal)}")
            values_ = Dimension.of(name, space).values
            try:
                wanted[name] = ends if values_ else [float(end) for end in ends]
            except (ValueError, TypeError):
                raise expected from None
            if not (ends and all(end in values_ for end in ends) if values_ else len(ends) == 2):
                raise expected
        curves = self._source.curves
        return comparing.filtered(part.trials, wanted, space, curves, controls, part.label, part.title)

    def _curves(self, params: Params) -> dict[str, Any]:
        part, select, _, baseline, fraction = self._controls(params)
        state = params.get("state", "best")
        expect(state in STATES, "state", state, f"one of {', '.join(STATES)}")
        return comparing.learning_curves(
            part.trials, self._source.curves, state, select, fraction, baseline, part.label
        )

    def _learning(self, params: Params) -> dict[str, Any]:
        part, select, _, baseline, _ = self._controls(params)
        key = (self._source.version, part.key, baseline)
        stable = _kept(self._stable, key, lambda: comparing.stability(part.trials, self._source.curves, baseline))
        drawn = comparing.learning(part.trials, select, baseline, part.label) + stable
        return {"sentences": [] if drawn else ["No trial has finished."], "figures": drawn}

    def _importance(self, params: Params) -> dict[str, Any]:
        part = self._part(params)
        found = self._digests.get(part, params.get("renew") == "1")
        if isinstance(found, str):
            return {"pending": found}
        make = partial(weighing.weighed, found, part.trials, part.plan.space, part.label, part.variants, params)
        return self._held(("importance", found.n), params, make)

    def _findings(self, params: Params) -> dict[str, Any]:
        part = self._part(params)
        found = self._digests.get(part, False)
        return {"pending": found} if isinstance(found, str) else weighing.judged(found, part.task)


def _kept(held: dict[tuple[Any, ...], Value], key: tuple[Any, ...], make: Callable[[], Value]) -> Value:
    """What is held for a key, made if it is not; of what was held longest is let go."""
    if key not in held:
        while len(held) >= KEPT:
            held.pop(next(iter(held)))
        held[key] = make()
    return held[key]


def _kind(column: pd.Series) -> str:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return "time"
    return "number" if pd.api.types.is_numeric_dtype(column) and column.dtype != bool else "text"
