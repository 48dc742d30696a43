"""How often the tests, intervals and verdicts of a report are right, on simulated studies whose truth is known.

    python -m analysis.calibrate docs/calibration.csv    # prints the table, writes its numbers: minutes on two cores

Studies of nine variants are drawn from three worlds of `analysis.simulation`: ``equal``, where all variants are the
same; ``unlike``, where they differ in their best learning rates, their luck and how often they diverge, but not in the
mean of their best 10 %; and ``spread``, which is ``unlike`` with means apart, and of which several tasks are made too.
What is tried are the functions that `analysis.compare`, `analysis.findings` and `analysis.over_tasks` call.
"""

import argparse
import math
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import best_fraction, findings, over_tasks, stats
from analysis.best_fraction import Estimate
from analysis.compare import ALPHA
from analysis.ranking import ranks
from analysis.simulation import PAPERS, Truth, draw, replicate
from analysis.statements import CONTRADICTED, REPRODUCED
from analysis.worlds import Searches, World
from search.base.randomness import derive_seed

SIZES = (25, 50, 100, 200)
JOB = 20  # studies of one job
FEWER = ("half", "tasks")  # worlds of which a quarter of the studies are drawn
TASKS = ("timit", "jsb")  # of which the published findings say different things
MARGIN = 0.01  # of vanilla's mean, below which a difference counts as none
# Name of a measure: what is counted, and between what its share must lie (None: it is only shown).
MEASURES: Mapping[str, tuple[str, tuple[float, float] | None]] = {
    "family": ("one or more of 8 equal variants significant", (0.02, 0.07)),
    "family_unlike": ("the same; variants unlike, but for their best means", (0.02, 0.07)),
    "single": ("one test of equal variants rejects at 5 %", None),
    "interval": ("95 % interval of a difference of 0 covers", (0.92, 0.98)),
    "interval_spread": ("the same; variants unlike, means apart", (0.92, 0.98)),
    "interval_mean": ("best mean, t x standard error: covers", None),
    "interval_effect": ("95 % interval of an effect size covers", (0.92, 0.98)),
    "interval_improvement": ("95 % interval of P(better) covers", (0.92, 0.98)),
    "ranks": ("intervals of all 9 ranks hold at once", (0.92, 1.0)),
    "first": ("a variant with P(first) above 0.9 is first", (0.9, 1.0)),
    "equivalent": ("a difference shown to be smaller than it is", (0.0, 0.06)),
    "divergence": ("one or more of 8 equal divergence rates significant", (0.0, 0.07)),
    "verdict": ("one or more wrong verdicts on variants; all equal", (0.0, 0.06)),
    "verdict_spread": ("the same; variants unlike, means apart", (0.0, 0.06)),
    "power": ("0.5 sd found, at the level of 8 tests", None),
    "settled": ("found with the trials that more_trials asks for", (0.7, 0.9)),
    "settled_equal": ("equivalence shown with the trials asked for", (0.7, 0.9)),
    "band_1": ("band of the expected best of 1 covers", (0.9, 1.0)),
    "band_tenth": ("of N / 10", (0.9, 1.0)),
    "band_half": ("of N / 2", (0.9, 1.0)),
    "tasks": ("a pair shown apart on 3 tasks, on one of which all are equal", (0.0, 0.06)),
    "tasks_power": ("pairs unlike on 3 tasks shown apart on all of them", None),
    "replicates": ("10 replicates of the best settings, Welch: one test rejects", None),
    "paper_family": ("as the paper tests: one or more of 8 equal variants", None),
    "paper_single": ("as the paper tests: one test rejects at 5 %", None),
}
UNLIKE = Truth(
    shifts=dict(nig=0.2, nfg=-0.2, noaf=0.1, np=-0.1, fgr=0.2),
    fragile=dict(nig=0.3, noaf=0.3, niaf=0.2, fgr=-0.1),
    luck_of=dict(nfg=0.6, nog=1.5, np=1.3, cifg=0.8),
)
SPREAD = dict(zip(PAPERS, (0.1, 0.3, 0.05, 0.15, 0.2, 0.02, -0.05, -0.1), strict=True))


class Tally:
    """Hits and cases of each measure."""

    def __init__(self) -> None:
        self.counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, name: str, hits: object) -> None:
        """Adds one or more cases: whether each is a hit."""
        array = np.atleast_1d(np.asarray(hits, dtype=float))
        self.counts[name][0] += array.sum()
        self.counts[name][1] += array.size


def tally_equal(world: World, paired: bool, n: int, studies: int, rng: np.random.Generator) -> Tally:
    """Of variants that are all the same: what is found all the same."""
    found, drawn = Tally(), draw(world.truth, n, paired, rng, studies)
    for select, test, diverged in zip(drawn.select, drawn.test, drawn.diverged, strict=True):
        study = Searches.of(select, test, paired)
        vanilla, others = study.bests[0], study.bests[1:]
        welch = np.array([stats.welch(other.scores, vanilla.scores) for other in others])
        found.add("paper_family", (welch < ALPHA / len(welch)).any())
        found.add("paper_single", welch < ALPHA)
        rates = [stats.same_rate(other, diverged[0], paired) for other in diverged[1:]]
        found.add("divergence", min(rates) < ALPHA / len(rates))
        if study.testable:
            found.add("family", (study.p < ALPHA / len(others)).any())
            found.add("single", study.p < ALPHA)
            found.add("interval", [covers(difference, 0.0) for difference in study.differences])
            found.add("verdict", any(wrong_verdicts(world, study)))
    return found


def tally_unlike(world: World, paired: bool, n: int, studies: int, rng: np.random.Generator) -> Tally:
    """Of variants with equal best means, unlike in all else."""
    found, drawn = Tally(), draw(world.truth, n, paired, rng, studies)
    for select, test in zip(drawn.select, drawn.test, strict=True):
        study = Searches.of(select, test, paired)
        if study.testable:
            found.add("family_unlike", (study.p < ALPHA / len(study.p)).any())
    return found


def tally_spread(world: World, paired: bool, n: int, studies: int, rng: np.random.Generator) -> Tally:
    """Of variants with best means apart: intervals, ranks, and what is said of the first."""
    found, drawn = Tally(), draw(world.truth, n, paired, rng, studies)
    means = world.scores.mean(axis=1)
    order = means.argsort().argsort() + 1
    below = [float(np.mean(best_fraction.share_below(scores[::20], world.scores[0]))) for scores in world.scores[1:]]
    sizes = world.differences / ((world.scores[1:].var(axis=1) + world.scores[0].var()) / 2) ** 0.5
    for select, test in zip(drawn.select, drawn.test, strict=True):
        study = Searches.of(select, test, paired)
        if not study.testable:
            continue
        vanilla, others = study.bests[0], study.bests[1:]
        found.add("interval_mean", [covers(best_fraction.mean(a), b) for a, b in zip(study.bests, means, strict=True)])
        pairs = list(zip(study.differences, world.differences, strict=True))
        found.add("interval_spread", [covers(difference, true) for difference, true in pairs])
        found.add("equivalent", [d.lower(ALPHA) > -abs(true) and d.upper(ALPHA) < abs(true) for d, true in pairs])
        for other, size, share in zip(others, sizes, below, strict=True):
            _, low, high = best_fraction.effect_size(other, vanilla, paired)
            found.add("interval_effect", low <= size <= high)
            _, low, high = best_fraction.probability_of_improvement(other, vanilla, paired)
            found.add("interval_improvement", low <= share <= high)
        every = [best_fraction.difference(a, b, paired) for a, b in combinations(study.bests, 2)]
        low_ranks, high_ranks = ranks(len(means), every)
        found.add("ranks", ((low_ranks <= order) & (order <= high_ranks)).all())
        numbers = [np.arange(n) + (0 if paired else n * place) for place in range(len(means))]
        first = best_fraction.first_probabilities(study.bests, numbers, n_draws=2000)
        found.add("first", [order[place] == 1 for place in np.flatnonzero(first > 0.9)])
        found.add("verdict_spread", any(wrong_verdicts(world, study)))
    return found


def tally_tasks(world: World, paired: bool, n: int, studies: int, rng: np.random.Generator) -> Tally:
    """Of three tasks: what is shown of all of them where variants differ on each, and where they do on two alone."""
    found, (_, equal) = Tally(), worlds()["unlike"]
    far = replace(world.truth, effects={variant: 10 * effect for variant, effect in world.truth.effects.items()})
    apart = abs(np.subtract.outer(*[world.scores.mean(axis=1)] * 2)) > 0

    def drawn(truth: Truth) -> list[Searches]:
        of = draw(truth, n, paired, rng, studies)
        return [Searches.of(*both, paired) for both in zip(of.select, of.test, strict=True)]

    for tasks in zip(drawn(far), drawn(far), drawn(equal.truth), strict=True):
        if all(task.testable for task in tasks):
            shown = over_tasks.everywhere([task.pairs for task in tasks])
            found.add("tasks", shown["better"].notna().any())
    for tasks in zip(*(drawn(world.truth) for _ in range(3)), strict=True):
        if all(task.testable for task in tasks):
            shown = over_tasks.everywhere([task.pairs for task in tasks])
            found.add("tasks_power", shown["better"].notna()[apart[np.triu_indices(len(apart), 1)]])
    return found


def tally_replicates(world: World, paired: bool, n: int, studies: int, rng: np.random.Generator) -> Tally:
    """Of variants that are all the same: what replicates of the best setting of each seem to show."""
    found, searched = Tally(), draw(world.truth, n, paired, rng, studies)
    again = replicate(world.truth, searched, 10, paired, rng)
    for test, diverged in zip(again.test, again.diverged, strict=True):
        scores = np.where(diverged, np.nan, test)
        found.add("replicates", [stats.welch(own, scores[0]) < ALPHA for own in scores[1:]])
    return found


def tally_half(world: World, paired: bool, n: int, studies: int, rng: np.random.Generator) -> Tally:
    """Of a variant that is half a standard deviation worse: whether it is found, and is with the trials asked for.

    That is asked of the difference as it is: what is observed is larger where it nearly was significant.
    """
    found, alpha = Tally(), ALPHA / len(PAPERS)
    (true,), margin = world.differences, MARGIN * world.scores[0].mean()
    same = replace(world.truth, effects=dict.fromkeys(world.truth.effects, 0.0))

    def difference(truth: Truth, trials: int) -> Estimate:
        drawn = draw(truth, trials, paired, rng)
        return Searches.of(drawn.select[0], drawn.test[0], paired).differences[0]

    for _ in range(studies):
        pilot = difference(world.truth, n)
        if not pilot.error > 0:
            continue
        more = best_fraction.more_to_show(replace(pilot, value=true), 0.0, alpha / 2)
        equal = best_fraction.more_to_equivalence(replace(pilot, value=0.0), margin, ALPHA)
        settled, apart = difference(world.truth, n + int(more)), difference(same, n + int(equal))
        found.add("power", pilot.p < alpha)
        found.add("settled", settled.p < alpha)
        found.add("settled_equal", apart.lower(ALPHA) > -margin and apart.upper(ALPHA) < margin)
    return found


def tally_band(world: World, paired: bool, n: int, studies: int, rng: np.random.Generator) -> Tally:
    """Of vanilla alone, where no trial diverges: the band of the expected score of the best of some trials."""
    found, drawn = Tally(), draw(world.truth, n, paired, rng, studies)
    below = (np.arange(world.scores.shape[1]) + 0.5) / world.scores.shape[1]
    for select, test in zip(drawn.select[:, 0], drawn.test[:, 0], strict=True):
        curve = stats.expected_best(select, test)
        for name, of in (("band_1", 1), ("band_tenth", round(n / 10)), ("band_half", n // 2)):
            weights = of * (1 - below) ** (of - 1)
            true = float(weights @ world.scores[0] / weights.sum())
            found.add(name, curve[of - 1, 2] <= true <= curve[of - 1, 3])
    return found


def covers(estimate: Estimate, true: float) -> bool:
    """Whether the 95 % interval does."""
    return estimate.lower(ALPHA / 2) <= true <= estimate.upper(ALPHA / 2)


@cache
def about_variants() -> list[findings.Finding]:
    """The published findings about differences of variants."""
    tests = ("worse", "no_difference", "none_better")
    return [finding for finding in findings.read() if all(test.name in tests for test in finding.tests)]


def wrong_verdicts(world: World, study: Searches) -> list[bool]:
    """Whether the verdict is decisive and wrong on each published finding that is about variants, for each task."""
    evidence = study.evidence(world.truth)
    table = findings.judge(about_variants(), dict.fromkeys(TASKS, evidence))
    verdicts = dict(zip(zip(table["finding"], table["task"], strict=True), table["verdict"], strict=True))
    wrong = []
    for finding in about_variants():
        for task in TASKS:
            true = all(world.holds(test) for test in finding.tests if task in test.tasks)
            wrong.append(verdicts[finding.id, task] == (CONTRADICTED if true else REPRODUCED))
    return wrong


@cache
def worlds() -> dict[str, tuple[Callable[..., Tally], World]]:
    """What is tried, by name, and the world in which."""
    equal, spread = World.of(Truth()), World.of(UNLIKE, SPREAD)
    sd = equal.scores[0].std()
    calm = Truth({}, divergence_lr=0.0)
    return {
        "equal": (tally_equal, equal),
        "unlike": (tally_unlike, World.of(UNLIKE, dict.fromkeys(PAPERS, 0.0))),
        "spread": (tally_spread, spread),
        "half": (tally_half, World.of(Truth({"nig": sd / 2}))),
        "tasks": (tally_tasks, spread),
        "replicates": (tally_replicates, equal),
        "band": (tally_band, World(calm, np.array(list(calm.best_scores(1.0).values())))),
    }


def run(job: tuple[str, bool, int, int, int]) -> dict[str, list[float]]:
    """The counts of some studies: of a world, paired or not, of n trials a variant, how many, and the job's number."""
    name, paired, n, studies, number = job
    tried, world = worlds()[name]
    return dict(tried(world, paired, n, studies, np.random.default_rng(derive_seed(*job[:3], number))).counts)


def calibrate(studies: int = 1000, workers: int | None = None) -> pd.DataFrame:
    """Tries everything on simulated studies of every size, paired and unpaired.

    Args:
        studies: of each size, design and world; a quarter of that for power and for several tasks.
        workers: processes; default one a core.

    Returns:
        One row a measure, design and n (trials of a variant): measure, design, n, share (of cases in which it was so),
        cases, low, high (between which the share must lie; NaN if it is only shown). No row where nothing is tested.
    """
    jobs = [
        (name, paired, n, JOB, number)
        for name in worlds()  # which forked processes then have
        for n in reversed(SIZES)
        for paired in (True, False)
        for number in range(math.ceil(studies / JOB / (4 if name in FEWER else 1)))
    ]
    counts: dict[tuple[str, bool, int], list[float]] = defaultdict(lambda: [0.0, 0.0])
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        for (_, paired, n, *_), found in zip(jobs, pool.map(run, jobs), strict=True):
            for measure, (hits, cases) in found.items():
                counts[measure, paired, n][0] += hits
                counts[measure, paired, n][1] += cases
    rows = []
    for measure, (_, bounds) in MEASURES.items():
        for paired in (True, False):
            for n in SIZES:
                hits, cases = counts.get((measure, paired, n), (0, 0))
                if cases:
                    row = (measure, "paired" if paired else "unpaired", n, hits / cases, int(cases))
                    rows.append((*row, *(bounds or (stats.NAN, stats.NAN))))
    return pd.DataFrame(rows, columns=["measure", "design", "n", "share", "cases", "low", "high"])


def markdown(table: pd.DataFrame) -> str:
    """The table of `calibrate` as Markdown, in percent; where nothing is tested there is a dash."""
    columns = [(design, n) for design in ("paired", "unpaired") for n in SIZES]
    shares = table.set_index(["measure", "design", "n"])["share"]
    lines = ["| % | must be | " + " | ".join(f"{design} {n}" for design, n in columns) + " |"]
    lines.append("| :-- | --: |" + " --: |" * len(columns))
    for measure, (text, bounds) in MEASURES.items():
        cells = [shares.get((measure, *column)) for column in columns]
        shown = ["\N{EN DASH}" if cell is None else f"{100 * cell:.1f}" for cell in cells]
        must = f"{100 * bounds[0]:.0f} to {100 * bounds[1]:.0f}" if bounds else ""
        lines.append(f"| {text} | {must} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """``python -m analysis.calibrate``."""
    parser = argparse.ArgumentParser(prog="python -m analysis.calibrate", description="Tries every test on studies.")
    parser.add_argument("file", type=Path, nargs="?", help="where to write the numbers, as CSV")
    parser.add_argument("--studies", type=int, default=1000, help="of each size, design and world")
    parser.add_argument("--workers", type=int, help="processes; default one a core")
    options = parser.parse_args()
    table = calibrate(options.studies, options.workers)
    if options.file:
        table.round(5).to_csv(options.file, index=False)
    print(markdown(table), end="")


if __name__ == "__main__":
    main()
