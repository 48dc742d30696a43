"""How often the verdicts on the published findings are wrong, on simulated studies in which they are true or false.

    python -m analysis.calibrate_findings docs/calibration_findings.csv    # prints the table, writes its numbers

Every finding of `configs/finding/odyssey.yaml` that is tested is judged on studies of 200 trials a variant in which it
is true, and on as many in which it is false: far from the bound that it is held against, and, of variants, also half a
margin from it. The statement is the same for TIMIT and IAM-OnDB, so that one of them stands for both.
"""

import argparse
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import fanova, findings
from analysis.calibrate import MARGIN
from analysis.importance import Importance
from analysis.simulation import PAPERS, Truth, draw, frames, plan
from analysis.statements import CONTRADICTED, INCONCLUSIVE, REPRODUCED, Evidence
from analysis.worlds import Searches
from search.base.randomness import derive_seed

TRIALS = 200
JOB = 10  # studies of one job
DECISIVE = (REPRODUCED, CONTRADICTED)
COLUMNS = ("finding", "task", "design", "is", "distance", "studies", *DECISIVE, INCONCLUSIVE, "wrong")
# Of the findings about settings, a truth of vanilla alone in which each holds, and one in which it does not.
SETTINGS = {
    "lr-first": (Truth({}), Truth({}, lr_depth=1.0)),
    "noise": (Truth({}), Truth({}, noise_cost=-0.7)),
    "momentum": (Truth({}), Truth({}, momentum_cost=1.5)),
    "independent": (Truth({}), Truth({}, interaction=2.0)),
    "basin": (Truth({}, lr_width=6.0), Truth({}, lr_width=0.4)),
    "size-second": (Truth({}, size_gain=1.5, noise_cost=0.3), Truth({}, size_gain=0.3, noise_cost=1.5)),
}


@dataclass(frozen=True)
class Case:
    """Studies on which a finding is judged."""

    finding: str
    task: str
    design: str
    holds: bool
    distance: str
    truth: Truth


class Judged(Importance):
    """Without the fits to the trials that did not diverge, half of the time: they are told of, and nothing is judged by
    them."""

    def fit(self, score: fanova.Score, variant: str, diverged: fanova.Diverged = "cutoff") -> fanova.Fanova | None:
        return super().fit(score, variant, diverged) if diverged == "cutoff" else None


def cases() -> Iterator[Case]:
    """Every finding with every truth that it is tried on; cases of one truth stand together."""
    margin = MARGIN * Truth({}).best_means()["vanilla"]
    for finding in published():
        if finding.id in SETTINGS:
            continue
        for task in ("timit", "jsb"):
            (test,) = (test for test in finding.tests if task in test.tasks)
            for distance, by in (("far", 2 * margin), ("near", margin / 2)):
                for holds in (True, False):
                    for design in ("paired", "unpaired"):
                        effects = dict.fromkeys(PAPERS, 0.0) | _effects(test, margin, by if holds else -by)
                        yield Case(finding.id, task, design, holds, distance, Truth(effects))
    for place, holds in enumerate((True, False)):
        for finding_id, truths in SETTINGS.items():
            yield Case(finding_id, "jsb", "", holds, "far", truths[place])


def _effects(test: findings.NamedTest, margin: float, inside: float) -> dict[str, float]:
    """Effects by which a statement about variants is true by `inside`, or by which one of them makes it false."""
    variants = test.parameters.get("variants", PAPERS)
    match test.name:
        case "worse":
            return dict.fromkeys(variants, margin + abs(inside)) | {variants[-1]: margin + inside}
        case "no_difference":
            return {variants[-1]: max(0.0, margin - inside)}
        case _:
            return {variants[-1]: min(0.0, inside - margin)}


@cache
def published() -> list[findings.Finding]:
    """The findings that are tested."""
    return [finding for finding in findings.read() if all(test.name != "reference" for test in finding.tests)]


def verdicts(job: tuple[list[Case], int, int]) -> list[Counter[str]]:
    """The verdicts on some studies of cases of one truth, which are judged on the same studies: how many, and the job's
    number."""
    same, studies, number = job
    first = same[0]
    seed = derive_seed(first.finding, first.task, first.design, first.holds, first.distance, number)
    rng = np.random.default_rng(seed)
    paired = first.design != "unpaired"
    drawn = draw(first.truth, TRIALS, paired, rng, studies)
    if first.finding in SETTINGS:
        made = plan(first.truth, TRIALS)
        evidence = [Evidence(frame, pd.DataFrame(), Judged(frame, made)) for frame in frames(first.truth, drawn, True)]
    else:
        scores = zip(drawn.select, drawn.test, strict=True)
        evidence = [Searches.of(select, test, paired).evidence(first.truth) for select, test in scores]
    by_id = {finding.id: finding for finding in published()}
    judged = [by_id[case.finding] for case in same]
    task = first.task
    tables = [findings.judge(judged, {task: seen}).set_index(["finding", "task"]) for seen in evidence]
    return [Counter(str(table["verdict"][case.finding, task]) for table in tables) for case in same]


def calibrate(
    studies: int = 200, workers: int | None = None, only: str | None = None, known: pd.DataFrame | None = None
) -> Iterator[pd.DataFrame]:
    """Judges every finding on simulated studies, which takes hours of a core.

    Args:
        studies: of each case.
        workers: processes; default one a core.
        only: the id of a finding; default all.
        known: rows of an earlier call; cases that were judged on as many studies are not judged again.

    Yields:
        one row a case, those of one truth at once: finding, task, design (empty where only vanilla is looked at), is
        (true or false), distance (far or near), studies, the shares of them that were reproduced, contradicted and
        inconclusive, and wrong, that of the verdicts that were decisive and wrong.
    """
    done: set[tuple[str, ...]] = set()
    if known is not None:
        done |= set(known.loc[known["studies"] == studies, list(COLUMNS[:5])].itertuples(index=False, name=None))
    tried = [case for case in cases() if only in (None, case.finding) and _key(case) not in done]
    groups = [list(same) for _, same in groupby(tried, key=lambda case: (case.truth, case.task, case.design))]
    numbers = range(math.ceil(studies / JOB))
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        found = pool.map(verdicts, [(same, min(JOB, studies), number) for same in groups for number in numbers])
        for same in groups:
            counts = [sum(own, Counter[str]()) for own in zip(*islice(found, len(numbers)), strict=True)]
            rows = []
            for case, counted in zip(same, counts, strict=True):
                total = counted.total()
                shares = [counted[verdict] / total for verdict in (*DECISIVE, INCONCLUSIVE)]
                reproduced, contradicted, _ = shares
                rows.append((*_key(case), total, *shares, contradicted if case.holds else reproduced))
            yield pd.DataFrame(rows, columns=list(COLUMNS))


def _key(case: Case) -> tuple[str, ...]:
    """The first columns of its row."""
    return case.finding, case.task, case.design, "true" if case.holds else "false", case.distance


def markdown(table: pd.DataFrame) -> str:
    """The table of `calibrate` as Markdown, shares in percent."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "| :-- | :-- | :-- | :-- | :-- |" + " --: |" * 5]
    for row in table.fillna("").itertuples(index=False):
        shares = [f"{100 * share:.1f}" for share in row[6:]]
        lines.append("| " + " | ".join([*map(str, row[:6]), *shares]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """``python -m analysis.calibrate_findings``."""
    parser = argparse.ArgumentParser(prog="python -m analysis.calibrate_findings", description="Tries every verdict.")
    parser.add_argument("file", type=Path, nargs="?", help="for the numbers, as CSV; what it has is kept")
    parser.add_argument("--studies", type=int, default=200, help="of each case")
    parser.add_argument("--workers", type=int, help="processes; default one a core")
    parser.add_argument("--finding", help="only this one")
    options = parser.parse_args()
    started = options.file is not None and options.file.exists()
    table = pd.read_csv(options.file, keep_default_na=False, dtype={"is": str}) if started else None
    for row in calibrate(options.studies, options.workers, options.finding, table):
        table = row if table is None else pd.concat([table, row])
        print(f"{len(table)}/{sum(1 for _ in cases())}", *row.iloc[-1][:5], file=sys.stderr, flush=True)
        if options.file:
            table.to_csv(options.file, index=False)
    if table is not None:
        print(markdown(table), end="")


if __name__ == "__main__":
    main()
