"""The results of the published studies: the tables and figures of docs/results.md and the README.

    python -m analysis.results    # brings both pages up to date with runs/reference

A page says where a table goes by ``<!-- begin NAME -->`` and ``<!-- end -->``; what stands between them is
written here, from the committed trials and curves alone. All other sentences are people's.
"""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import (
    beside_figures,
    beyond,
    evolution,
    evolution_figures,
    evolution_report,
    figures,
    findings,
    halving,
    replicates,
    statements,
    style,
    summaries,
    tables,
    words,
)
from analysis.compare import ALPHA, compare
from analysis.frames import BASELINE, records
from analysis.importance import Importance
from analysis.load import load, load_curves, load_plans
from analysis.table_text import ABSENT, Column, Table, fixed, markdown, of_columns, or_absent, p_value, percent, signed
from search.base import files
from search.errors import UserError, expect
from search.evolve.generation import BEST
from search.study.archive import RECORD_FILE, Archive

ROOT = Path(__file__).parents[1]
REFERENCE, PAGES = ROOT / "runs" / "reference", (ROOT / "docs" / "results.md", ROOT / "README.md")
FIGURES = ROOT / "docs" / "results"
PAPER = ("jsb", "speech", "handwriting")  # the studies of the paper's nine variants
STAND_INS = {"timit": "speech", "iamondb": "handwriting"}  # the paper's tasks, whose data are licensed
OTHERS = "jsb-others"  # paired with the first of them, trial by trial
HELD_OUT = "held_out"  # how the study is called, behind the evolution, that judges its best
FACTORIAL = "factorial"  # the study of all toggles at once
_MARK = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

_OWN = {
    "ended": Column("", "trials", fixed(0)),
    "p_papers": Column(tables.CONTRAST, "p by the paper's test", p_value),
}
COMPARED = {
    name: (tables.COMPARISON | tables.COMPARISON_MORE | _OWN)[name]
    for name in (
        *("variant", "ended", "n_diverged", "best_mean", "best_se", "best_test_score"),
        *("difference", "p_adjusted", "p_papers", "best_n_parameters"),
    )
}


class Results:
    """The published studies in a folder.

    Args:
        folder: of archives, as of ``runs/reference``.

    Raises:
        UserError: every method, as `analysis.load`.
    """

    def __init__(self, folder: Path = REFERENCE):
        self._folder = folder
        self.studies = sorted(path.parent.name for path in folder.glob(f"*/{RECORD_FILE}"))
        self.trials = cache(self._trials)
        self.importance = cache(self._importance)
        self.compared = cache(self._compared)
        self.verdicts = cache(self._verdicts)
        self.halved = cache(self._halved)
        self.plan = cache(lambda study: load_plans(folder / study)[study])

    def _trials(self, study: str) -> pd.DataFrame:
        """The trials of a study; with those of `OTHERS` the baseline's of the study that they are paired with."""
        frame = load(self._folder / study)
        if study != OTHERS or PAPER[0] not in self.studies:
            return frame
        paired = self.trials(PAPER[0])
        most = int(frame["trial"].max())
        own = paired[(paired["variant"] == BASELINE) & (paired["trial"] <= most)].assign(study=study)
        names = [BASELINE, *frame["variant"].cat.categories]
        both = pd.concat([each.astype({"variant": str, "task": str}) for each in (own, frame)], ignore_index=True)
        return both.astype({"variant": pd.CategoricalDtype(names, ordered=True), "task": frame["task"].dtype})

    def _importance(self, study: str) -> Importance:
        trials = self.trials(study)
        return Importance(trials[trials["variant"] == BASELINE], self.plan(study))

    def _compared(self, study: str) -> pd.DataFrame:
        """As of `analysis.compare`, with ``ended`` and, of the paper's own test, which also picks the best by test
        score, ``p_papers`` and ``difference_papers``."""
        table = compare(self.trials(study))
        papers = compare(self.trials(study), select="test")
        ended = table["n_finished"] + table["n_diverged"] + table["n_failed"]
        return table.assign(ended=ended, p_papers=papers["p_as_paper"], difference_papers=papers["difference"])

    def _verdicts(self) -> pd.DataFrame:
        """As of `findings.judge`, of all studies of the paper's variants that there are."""
        seen = {}
        for study in PAPER:
            if study in self.studies:
                plan, trials = self.plan(study), self.trials(study)
                evidence = statements.Evidence(trials, compare(trials), self.importance(study))
                seen[plan.task["name"]] = evidence
        verdicts = findings.judge([_here(finding) for finding in findings.read()], seen)
        return verdicts[verdicts["task"].isin(seen)].reset_index(drop=True)

    def _halved(self, study: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """As of `halving.halving` and `summaries.rank_stability`."""
        trials, curves = self.trials(study), load_curves(self._folder / study)
        return halving.halving(trials, curves), summaries.rank_stability(trials, curves)

    def blocks(self) -> dict[str, Callable[[], Table]]:
        """What makes each table, by its name."""
        found: dict[str, Callable[[], Table]] = {"record": self._record}
        for study in self.studies:
            found[f"comparison-{study}"] = partial(self._comparison, study)
            if study in PAPER:
                found[f"halving-{study}"] = partial(self._halving, study)
                found[f"shares-{study}"] = partial(self._shares, study)
                found[f"choices-{study}"] = partial(self._choices, study)
        if set(PAPER) & set(self.studies):
            found |= {"verdicts": self._verdict_table, "findings": self._findings}
        if FACTORIAL in self.studies:
            found["shares-factorial"] = lambda: beyond.shares(self.importance(FACTORIAL), "shares-factorial")
            found["toggles-factorial"] = lambda: beyond.toggles(self.trials(FACTORIAL), "toggles-factorial")
        for folder in beyond.evolutions(self._folder):
            found[f"best-{folder.name}"] = partial(self._best, folder)
            found[f"outcomes-{folder.name}"] = partial(self._outcomes, folder)
            if (study := f"{folder.name}-{HELD_OUT}") in self.studies:
                found[f"against-{study}"] = partial(self._against, study, evolution.load(folder).first)
                found[f"replicates-{study}"] = partial(self._replicates, study)
        return found

    def _best(self, folder: Path) -> Table:
        return evolution_report.survivors(evolution.load(folder), BEST)[1]

    def _against(self, study: str, baseline: str) -> Table:
        """A comparison with another baseline than vanilla."""
        table = compare(self.trials(study), baseline=baseline, adjust="holm")
        names = ("variant", "best_mean", "best_se", "best_test_score", "difference", "p_adjusted", "best_n_parameters")
        columns = {name: (tables.COMPARISON | tables.COMPARISON_MORE)[name] for name in names}
        return tables.comparison(records(table), columns, f"against-{study}", study, "")

    def _replicates(self, study: str) -> Table:
        again = replicates.summary(replicates.of_best(self._folder / study, self.trials(study)))
        return of_columns(records(again), replicates.COLUMNS, f"replicates-{study}", study)

    def _outcomes(self, folder: Path) -> Table:
        return evolution_report.outcomes(evolution.totals(evolution.outcomes(evolution.load(folder))))

    def figures(self) -> dict[str, style.Draw]:
        """What draws each figure, by its name."""
        drawn: dict[str, style.Draw] = {}
        shown = [study for study in PAPER if study in self.studies]
        if shown:
            drawn["boxes"] = partial(self._draw_boxes, shown)
        if OTHERS in self.studies:
            drawn["others"] = partial(self._draw_boxes, [OTHERS])
        for study in shown:
            drawn[f"halving-{study}"] = partial(self._draw_halving, study)
        for folder in beyond.evolutions(self._folder):
            family = evolution.family(evolution.load(folder), evolution.SHOWN)
            drawn[f"family-{folder.name}"] = partial(evolution_figures.draw_family, family)
        return drawn

    def _draw_boxes(self, studies: list[str]) -> Any:
        frame = pd.concat([self.trials(study).astype({"variant": str, "task": str}) for study in studies])
        for name in ("variant", "task"):
            frame[name] = pd.Categorical(frame[name], list(dict.fromkeys(frame[name])), ordered=True)
        frame = frame.reset_index(drop=True)
        table = compare(frame)
        labels = {self.plan(study).task["name"]: f"test {self.plan(study).score}" for study in studies}
        return figures.draw_boxes(summaries.boxes(frame, table), summaries.points(frame, table), labels)

    def _draw_halving(self, study: str) -> Any:
        lost, stability = self.halved(study)
        return beside_figures.draw_halving(stability, lost, BASELINE)

    def _record(self) -> Table:
        rows = []
        for study in self.studies:
            record = Archive(self._folder / study).record
            ended, plan = sum(record["ended"].values()), self.plan(study)
            seconds = record["train_seconds"]
            rows.append(
                [
                    study,
                    plan.task["name"],
                    f"{ended:,} of {record['planned']:,}",
                    f"at most {plan.epochs}, patience {plan.patience}",
                    "; ".join(record["devices"]),
                    words.duration(seconds),
                    words.duration(record["wall_seconds"]),
                    str(record["interruptions"]),
                ]
            )
        names = ("study", "task", "trials", "epochs", "device", "training", "wall", "interruptions")
        return Table("record", "Record", [("", name) for name in names], rows)

    def _comparison(self, study: str) -> Table:
        return tables.comparison(records(self.compared(study)), COMPARED, f"comparison-{study}", study, "")

    def _verdict_table(self) -> Table:
        """A row a finding: what it comes to on each task, and what the paper's own test would have said."""
        verdicts = self.verdicts()
        tasks = list(dict.fromkeys(verdicts["task"]))
        of = {self.plan(study).task["name"]: self.compared(study) for study in PAPER if study in self.studies}
        rows = []
        for finding in map(_here, findings.read()):
            cells = [finding.statement]
            for task in tasks:
                own = verdicts[(verdicts["finding"] == finding.id) & (verdicts["task"] == task)]
                cells.append(str(own["verdict"].iloc[0]) if len(own) else ABSENT)
            for task in tasks:
                cells.append(_by_papers_test(finding, of[task], task))
            rows.append(cells)
        headings = [("", "finding"), *(("verdict", task) for task in tasks)]
        headings += [("the paper's test", task) for task in tasks]
        return Table("verdicts", "Verdicts", headings, rows)

    def _findings(self) -> Table:
        verdicts = self.verdicts()
        table = tables.judged(verdicts, "findings", "Findings", "", list(dict.fromkeys(verdicts["task"])))
        keep = [k for k, (_, name) in enumerate(table.headings) if name != "more trials"]
        rows = [[row[k] for k in keep] for row in table.rows]
        return Table(table.name, table.title, [table.headings[k] for k in keep], rows)

    def _halving(self, study: str) -> Table:
        found = halving.over_variants(self.halved(study)[0], BASELINE)
        columns = {
            "epoch": Column("", "stopped after epoch", fixed(0)),
            "how": Column("", "how", str),
            "lost": Column("", "of the best 10 %, lost [%]: mean [range of the variants]", percent(0), interval=True),
            "saved": Column("", "of all epochs, saved [%]", percent(0)),
            "shift": Column("", "mean of the best 10 %, worse by", signed(3)),
            "bias": Column("", "largest change of a difference from vanilla", fixed(3)),
        }
        return of_columns(records(found), columns, f"halving-{study}", study)

    def _choices(self, study: str) -> Table:
        """The differences from the baseline, as they are and as they would be by other choices of the analysis."""
        frame = self.trials(study)
        numbers = frame.groupby("trial")
        whole = numbers["status"].transform(lambda status: not (status == "diverged").any())
        early = frame["trial"] < int(frame["trial"].max() + 1) // 2
        choices = {
            "as it is: the best 10 % by validation score": compare(frame),
            "the best 10 % by test score, as the paper": compare(frame, select="test"),
            "the best 5 %": compare(frame, fraction=0.05),
            "the best 20 %": compare(frame, fraction=0.2),
            "without the numbers at which a variant diverged": compare(frame[whole]),
            "learning rates from 1e-4 alone": compare(frame[~(frame["lr"] < 1e-4)]),
            "the first half of the trials": compare(frame[early]),
        }
        rows = []
        for choice, table in choices.items():
            cells = [choice, str(int(table["n_best"].max()))]
            for row in records(table[table["variant"] != BASELINE]):
                mark = "*" if row["significant"] is True else ""
                cells.append(or_absent(row["difference"], signed(3)) + mark)
            rows.append(cells)
        others = [str(variant) for variant in frame["variant"].cat.categories if variant != BASELINE]
        headings = [("", "choice"), ("", "n best"), *(("", name) for name in others)]
        return Table(f"choices-{study}", study, headings, rows)

    def _shares(self, study: str) -> Table:
        return tables.shares(self.importance(study).shares, f"shares-{study}", study, "", ("debiased", "se"))


def _here(finding: findings.Finding) -> findings.Finding:
    """A finding with the free tasks in the place of the paper's that they stand for. Scores seen there are no bounds
    here."""
    tests = [
        replace(test, tasks=tuple(STAND_INS.get(task, task) for task in test.tasks))
        for test in finding.tests
        if test.name != "reference" or not STAND_INS.keys() & set(test.tasks)
    ]
    return replace(finding, tests=tuple(tests))


def _by_papers_test(finding: findings.Finding, table: pd.DataFrame, task: str) -> str:
    """What a finding on variants comes to by the paper's test, which knows significant and not significant alone."""
    own = {row["variant"]: row for row in records(table) if row["variant"] != row["baseline"]}
    said = []
    for test in (test for test in finding.tests if task in test.tasks):
        if test.name not in ("none_better", "worse", "no_difference"):
            return ABSENT
        for name in test.parameters.get("variants", own):
            p, difference = own[name]["p_papers"], own[name]["difference_papers"]
            if p != p:
                return "not tested"
            found = "no" if not p < ALPHA else "worse" if difference > 0 else "better"
            fails = {"none_better": found == "better", "worse": found != "worse", "no_difference": found != "no"}
            if fails[test.name]:
                said.append(f"{name} {found if found != 'no' else 'no different'} (p {_p(p)})")
    return f"no: {', '.join(said)}" if said else "yes" if finding.tests else ABSENT


def _p(p: float) -> str:
    return p_value(p) if p < 0.001 else f"= {p_value(p)}"


def filled(
    page: str, blocks: Mapping[str, Callable[[], Table]], wanted: Callable[[str], bool] = lambda name: True
) -> str:
    """The text of a page with its tables made anew, or those whose names are `wanted`.

    Raises:
        UserError: it asks for a table that there is not.
    """

    def make(found: re.Match[str]) -> str:
        if not wanted(found[2]):
            return found[0]
        expect(found[2] in blocks, "table", found[2], f"one of {', '.join(blocks)}")
        return f"{found[1]}{markdown(blocks[found[2]]())}{found[3]}"

    return _MARK.sub(make, page)


def main() -> None:
    try:
        bring_up_to_date()
    except UserError as error:
        print(f"results: {error}", file=sys.stderr)
        sys.exit(2)


def bring_up_to_date() -> None:
    """Makes the tables and figures of the pages anew."""
    results = Results()
    if not results.studies:
        raise UserError(f"{REFERENCE}: expected published studies; odyssey publish makes them")
    for page in PAGES:
        files.write(page, filled(page.read_text(encoding="utf-8"), results.blocks()))
        print(page, file=sys.stderr)
    for name, draw in results.figures().items():
        files.write(FIGURES / f"{name}.png", style.files(draw(), ["png"])["png"])
        print(FIGURES / f"{name}.png", file=sys.stderr)


if __name__ == "__main__":
    main()
