"""The report in words: what its captions, notes and sentences say."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis import figures, over_tasks, statements
from analysis.compare import ALPHA
from analysis.frames import BASELINE
from analysis.importance import BY, Importance
from analysis.load import PROVENANCE
from analysis.part import Part
from search.study.plan import Plan

PICKED = {"valid": "validation score", "test": "test score, which flatters them"}
ADJUSTED = {"bonferroni": "Bonferroni", "holm": "Holm"}
STATUSES = ("diverged", "failed", "running", "waiting")
DESIGNS = {"paired": "of paired trials", "unpaired": "of trials drawn apart"}
FANOVA = "Functional ANOVA (Hutter et al. 2014) over a random forest. "
DEBIASED = (
    "Debiased: shares of the variance of E[score | settings], which is what settings can explain, without noise and "
    "without what a forest blurs; from two forests, each put right by the half of the trials that it has not seen (Da "
    "Veiga and Gamboa 2013). Diverged trials count as the cut-off. None where trials were not drawn evenly from all "
    "combinations, or are too few. The standard error is a lower bound, without what forests miss of steep effects."
)
PANELS = {
    "marginals": "marginals",
    "shares": "shares of the variance",
    "architecture": "architecture and settings",
    "surface": "lr and hidden_size",
    "ped_anova": "what the best have in common",
    "ablation": "ablation",
    "tunability": "tunability",
}


def done(frame: pd.DataFrame, plans: Iterable[Plan]) -> str:
    """How much of the plan is there, and how its trials were drawn."""
    counts = frame["status"].value_counts()
    others = [f"{counts[status]} {status}" for status in STATUSES if status in counts]
    finished = f"{counts.get('finished', 0)} of {len(frame)} planned trials finished"
    text = f"{finished}; {', '.join(others) or 'none is missing'}."
    seconds = frame["train_seconds"].sum()
    if seconds:
        text += f" Their training took {duration(seconds)}."
    draws = dict.fromkeys(plan.draws for plan in plans)
    text += f" The draws are {'; '.join(draws)}."
    values = frame.groupby(["study", "task"], observed=True)[list(provenance(frame))].nunique()
    differing = values.columns[(values > 1).any()]
    if len(differing):
        text += f" Not all trials ran under the same conditions; they differ in {', '.join(differing)}."
    return text


def compared(rows: Sequence[Mapping[str, Any]], title: str, label: str) -> str:
    """Which variant came out best and worst, and which differ from the baseline.

    Args:
        rows: of `compare` of one study and task.
        title: what that is called.
        label: what the score is, with its unit.
    """
    ranked = sorted((row for row in rows if row["best_mean"] == row["best_mean"]), key=lambda row: row["best_mean"])
    if not ranked:
        return f"{title}: no trial has finished, so there is nothing to compare yet."
    first, last, share = ranked[0], ranked[-1], f"{100 * rows[0]['fraction']:g} %"
    text = (
        f"{title}: the best {share} of {first['variant']} have the lowest mean test {label}, {first['best_mean']:.3f}"
    )
    if len(ranked) > 1:
        text += f"; those of {last['variant']} the highest, {last['best_mean']:.3f}"
    return f"{text}. {_against_baseline(rows)}"


def verdicts(table: pd.DataFrame, tasks: Sequence[str]) -> str:
    """How many findings on these tasks came out how, and which."""
    here = table[table["task"].isin(tasks)]
    groups = []
    for verdict in statements.VERDICTS[:4]:
        own = here[here["verdict"] == verdict]
        if len(own):
            groups.append(f"{len(own)} {verdict} ({', '.join(dict.fromkeys(own['finding']))})")
    return f"Of the published findings {', '.join(groups)}." if groups else "No published finding is about this."


def architecture(every: Sequence[Part]) -> list[str]:
    """Whether architecture matters more than the settings, as one sentence a part."""
    lines = []
    for part in every:
        fitted = part.importance.over("variant")
        if fitted is None:
            continue
        shares = [(*fitted.debiased(name), name) for name in fitted.dimensions]
        known = sorted((each for each in shares if each[0] == each[0]), reverse=True)
        if known:
            parts = [f"{name} {100 * share:.1f} % (se {100 * error:.1f} %)" for share, error, name in known]
            lines.append(
                f"{part.title}: of what settings and variant explain of the test score, single dimensions explain: "
                f"{', '.join(parts)}."
            )
    return lines


def needs(every: Sequence[Part]) -> list[str]:
    """What is not shown of importance, and what it would need."""
    texts = []
    for part in every:
        panels: dict[str, list[str]] = {}
        for panel, text in part.importance.needs.items():
            panels.setdefault(text, []).append(PANELS[panel])
        texts += [f"{part.title}, not shown of {', '.join(names)}: {text}" for text, names in panels.items()]
    return texts


def without_diverged(shares: pd.DataFrame) -> str:
    """The shares of single settings that are others, by more than their error, without the trials that diverged."""
    rows = shares[shares["differs"] & (shares["order"] == 1)]
    columns = [rows[name] for name in ("variant", "dimensions", "debiased_finished", "se_finished")]
    texts = [f"{v} {d} {100 * share:.1f} % (se {100 * se:.1f} %)" for v, d, share, se in zip(*columns, strict=True)]
    return f"Otherwise without the trials that diverged: {', '.join(texts)}." if texts else ""


def boxes(table: pd.DataFrame, drawn: pd.DataFrame) -> str:
    """What the box plots show, how their best trials were picked and tested, and what was left out.

    Args:
        table: as of `compare`.
        drawn: as of `summaries.boxes`.
    """
    marks = "Box: 25th to 75th percentile; whiskers: whole range; line: median; dot: mean. "
    marks += "Small dots: the trials, side by side by their number. "
    marks += "Grey bar: mean number of parameters of the best 10 %. Above each box: its number of trials n."
    if drawn["n_beyond"].any():
        marks += " Triangle: this many trials lie above the axis."
    if (drawn["n"] == 1).any():
        marks += " A line through a dot is a single trial."
    left_out = [f"{table[f'n_{name}'].sum()} {name}" for name in ("diverged", "failed", "unfinished")]
    picked = f"The best 10 % were picked by {PICKED[table['select'].iloc[0]]}, of the trials that finished or diverged."
    return f"{marks} Lower is better. {picked} Left out of the boxes: {', '.join(left_out)}. {_tests(table)}"


def ranks(drawn: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """What the critical-difference diagram shows, and how little it tells of other tasks.

    Args:
        drawn: as of `over_tasks.ranks`.
        pairs: as of `over_tasks.differences`.
    """
    k, n = drawn["variant"].nunique(), drawn["task"].nunique()
    text = f"Critical-difference diagram (after Demšar 2006) over {n} tasks: ranks of the variants that all have. "
    text += "Two variants under no common bar differ on every one of these tasks, in one direction (on each task the "
    text += "test of the comparison; p: the highest of a pair, Holm over the pairs, 5 %). "
    text += f"So do {int(pairs['better'].notna().sum())} of {len(pairs)} pairs, see ranks_pairs.csv. "
    text += "Two under a common bar may differ all the same. "
    needed, p = over_tasks.critical_difference(k, n), over_tasks.smallest_sign_p(n)
    text += f"The bars are about these tasks alone. Of others {n} tasks say little: mean ranks would have to differ by "
    text += f"{needed:.1f} (Nemenyi's critical difference at 5 %; they can by {k - 1} at most), and a sign test of two "
    return text + f"variants over {n} tasks has a p of {p:.2g} at least."


def replicates(again: pd.DataFrame) -> str:
    """What replicates are, and what they are not good for. The shares are those of docs/calibration.md."""
    most = again.groupby("variant", sort=False).size().max()
    text = "The setting of each variant's best trial by validation score, trained again with up to "
    text += f"{most} new seeds. They describe how much of a score is the luck of a seed, and how far the best of the "
    text += "search was picked for luck. They are no test of variants: which setting a search finds is luck too, which "
    text += "more seeds do not lessen. Of equal variants, ten replicates each, Welch's test would call 28 % different "
    return text + "after paired searches of 200 trials, and 47 % after unpaired ones."


PED_ANOVA = (
    "How far the settings of the best 10 % by validation score are from those of all trials (PED-ANOVA, "
    "Watanabe et al. 2023). *: further than chance would have it (5 %, Bonferroni over the settings)."
)


def tunability(reference: str) -> str:
    """What a table of tunability shows."""
    return f"What tuning one setting gains over the best settings of {reference} (Probst et al. 2019)."


def comparison(rows: Sequence[Mapping[str, Any]], label: str) -> str:
    """How a table of the comparison of one study and task is to be read; `label`: what the score is, with its unit."""
    select, design, adjust = (rows[0][name] for name in ("select", "design", "adjust"))
    text = f"Scores: test {label}; lower is better. The best were picked by {PICKED[select]}. p: two-sided, "
    return text + f"{DESIGNS[design]}, adjusted after {ADJUSTED[adjust]}"


def means(table: pd.DataFrame) -> str:
    """The mean of the best of each variant."""
    texts = []
    for (study, task), rows in table.groupby(["study", "task"], observed=True, sort=False):
        own = [f"{v} {m:.3f}" for v, m in zip(rows["variant"], rows["best_mean"], strict=True) if m == m]
        where = figures.part_title(str(study), str(task)) if table["study"].nunique() > 1 else task
        texts.append(f"{where}: {', '.join(own) or 'no finished trial'}")
    return f"Mean of the best 10 %, {'; '.join(texts)}."


def fits(fitted: Importance, variants: Iterable[str]) -> str:
    """What the single-variant fits of the test score left out and cut off, briefly where there are many."""
    own = dict.fromkeys(map(str, variants))
    found = {variant: fit for variant in own if (fit := fitted.fit("test_score", variant))}
    if len(found) == 1:
        return " ".join(next(iter(found.values())).notes)
    cutoffs = ", ".join(f"{variant} {fit.cutoff:.4g} (n = {fit.n})" for variant, fit in found.items())
    return f"Scores above a variant's cut-off, and diverged trials, count as the cut-off: {cutoffs}." if cutoffs else ""


def fits_over(fitted: Importance) -> str:
    """The same of the fits over all variants."""
    notes = [note for by in BY if (fit := fitted.over(by)) for note in fit.notes]
    return " ".join(dict.fromkeys(notes))


def judging_note(every: Sequence[Part]) -> str:
    """What is needed to read the findings."""
    n = ", ".join(dict.fromkeys(f"{part.table['n_best'].max()} ({part.title})" for part in every))
    return (
        f"Differences of the best 10 % from {BASELINE} with 90 % intervals; best trials per variant: at most {n}. A "
        "difference that is shown to be below the margin counts as none; one that is merely not significant is "
        f"inconclusive. Shares and marginals are those of {BASELINE}, debiased, with errors over the trials. "
        "More trials: how many each variant needs on top until a difference as observed is settled with a power of "
        "80 %, or, where nothing could be tested, until it can be."
    )


def provenance(frame: pd.DataFrame) -> Mapping[str, list[tuple[str, int]]]:
    """{column: [(value, trials that have it)]} of what the trials ran with."""
    names = [name for name in frame.columns.astype(str) if name in PROVENANCE or name.endswith("_version")]
    counts = {name: frame[name].value_counts() for name in names if frame[name].notna().any()}
    return {name: [(str(value), int(n)) for value, n in count.items()] for name, count in counts.items()}


def when(frame: pd.DataFrame) -> str:
    """The time in which the trials were trained; empty if none has begun."""
    first, last = frame["started"].min(), frame["finished"].max()
    if first != first:
        first = last
    if first != first:
        return ""
    until = f" to {last:%Y-%m-%d %H:%M}" if last == last and f"{last:%F %H:%M}" != f"{first:%F %H:%M}" else ""
    return f"Trained {first:%Y-%m-%d %H:%M}{until} UTC."


def _tests(table: pd.DataFrame) -> str:
    sentences = []
    made = table[table["test"] == "tested"].groupby(["study", "task"], observed=True, sort=False).size()
    if len(made):
        n = ", ".join(dict.fromkeys(f"{count}" for count in made))
        verdict = f"the best 10 % differ significantly from those of {BASELINE}"
        verdict = f"Blue, thick: {verdict}" if table["significant"].any() else f"For no variant do {verdict}"
        adjusted = ADJUSTED[table["adjust"].iloc[0]]
        design = DESIGNS[table["design"].iloc[0]]
        sentences.append(f"{verdict} ({design}, p < {ALPHA}, {adjusted} for the number of tests on a task: {n}).")
    for reason, rows in table[table["test"].str.startswith("not tested")].groupby("test", sort=False):
        sentences.append(f"N{str(reason)[1:]} ({', '.join(dict.fromkeys(rows['variant']))}).")
    return " ".join(sentences) or f"There is nothing to test {BASELINE} against."


def _against_baseline(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which variants differ from the baseline; of the rows of `compare` of one study and task."""
    baseline = rows[0]["baseline"]
    tested = [row for row in rows if row["test"] == "tested"]
    if not tested:
        return f"No variant could be tested against {baseline}."
    groups = {
        "significantly worse": [row for row in tested if row["significant"] and row["difference"] > 0],
        "significantly better": [row for row in tested if row["significant"] and row["difference"] < 0],
        "not significantly different": [row for row in tested if not row["significant"]],
    }
    parts = [f"{name}: {', '.join(row['variant'] for row in own)}" for name, own in groups.items() if own]
    return f"Against {baseline}, {'; '.join(parts)}."


def duration(seconds: float) -> str:
    """A time in the unit in which it is at least 2, or in seconds."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
