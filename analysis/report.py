"""The report of a study: every figure and table, the findings judged, and the page with its data inside."""

import re
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text
from threadpoolctl import threadpool_limits

from analysis import (
    evolution,
    evolution_report,
    figures,
    replicates,
    report_figures,
    statements,
    table_text,
    tables,
    words,
)
from analysis import findings as judging
from analysis.commands import with_commands
from analysis.compare import ADJUSTMENTS, ALPHA, Adjust, compare, compare_studies
from analysis.dashboard.digest import Ready, digest
from analysis.dashboard.page import at_rest
from analysis.dashboard.source import Source
from analysis.dashboard.views import Views
from analysis.evolution import Evolution
from analysis.frames import Select, best_trials, parts, records
from analysis.importance import DEBIASED, Importance, between
from analysis.load import Studies, find_all, load, load_curves
from analysis.part import Part
from analysis.report_figures import Note
from analysis.report_files import Contents
from search.base import files
from search.errors import UserError, expect
from search.run.composition import Composed, Composer
from search.study.plan import Plan

WRITERS = 8  # threads that write files, of which each waits for the disk most of the time


@threadpool_limits.wrap(limits=1, user_api="blas")  # there are processes for all cores
@pd.option_context("mode.string_storage", "python")  # of the few hundred rows that there are, Arrow's texts are slow
def report(
    study: Studies,
    runs: str | Path = "runs",
    select: Select = "valid",
    adjust: Adjust = "bonferroni",
    findings: str | Path | None = None,
    storage: str | None = None,
    note: Note = lambda text: None,
) -> Path:
    """Writes the report of a study, finished or not, into its folder ``report/`` and returns that folder.

    ``index.html`` is the page of `analysis.dashboard`, with its data inside, and needs no other file. Beside it stand
    figures for print as ``.png``, ``.pdf`` and ``.svg`` with the numbers they draw as ``.csv``, tables as ``.csv``,
    ``.md`` and ``.tex``, all trials with the commands that repeat them as ``trials.csv``, and ``captions.md``.
    The report of several studies has all that of each, compares them, and is written to ``runs/A,B/report/``.
    That of an evolution is of its cells (`analysis.evolution_report`); its tasks are studies with their own reports,
    in which of many cells the best are compared.

    Args:
        study: as of `analysis.load`, or an evolution, by its name or the path of its folder.
        runs: the folder of studies.
        select: the score that picks the best 10 % of trials, ``valid`` or ``test``.
        adjust: how p is adjusted for the number of tests, ``bonferroni`` or ``holm``.
        findings: a file of findings to judge (see `analysis.findings`); by default those of Greff et al. (2015).
        storage: as of `analysis.load`.
        note: is told what is being made, in a few words each.

    Raises:
        UserError: no such study or file, it cannot be read, or the report cannot be written.
    """
    expect(select in words.PICKED, "select", select, "valid or test")
    expect(adjust in words.ADJUSTED, "adjust", adjust, f"one of {', '.join(ADJUSTMENTS)}")
    evolved = evolution.folder_of(study, runs)
    if evolved is not None:
        for key, value, unsaid in (
            ("select", select, "valid"),
            ("adjust", adjust, "bonferroni"),
            ("findings", findings, None),
        ):
            expect(value == unsaid, key, value, "a study, which an evolution is not; its tasks are, STUDY-TASK")
        return _written(evolution_report.report(evolved, storage, note), evolved / "report")
    published = judging.read(judging.PUBLISHED if findings is None else findings)
    studies = find_all(study, runs)
    plans = {plan.study: plan for _, plan in studies}
    folders = {plan.study: folder for folder, plan in studies}
    frame = load(study, runs, storage)
    for (folder, _), name in zip(studies, plans, strict=True):
        expect(bool((frame["study"] == name).any()), str(folder), "0 trials", "a plan of at least one trial")
    contents = Contents()
    contents.frame("trials", with_commands(frame, plans))
    note("comparison of the variants")
    every_variant = frame.groupby("study")["variant"].nunique()
    frame = evolution.compared(frame, _evolutions(studies))
    table = compare(frame, select, adjust)
    every = _parts(frame, table, plans, every_variant)
    note("learning curves")
    curves = load_curves(study, runs, storage, frame[best_trials(frame, select)])
    report_figures.boxes(contents, frame, table, every)
    report_figures.ranks(contents, every, select)
    for part in every:
        report_figures.of_part(contents, part, curves, select)
        _replicated(contents, part, folders[part.study])
        contents.begin()
        report_figures.importance(contents, part, note)
        contents.begin()
    note("findings")
    verdicts = _judged(published, every)
    tasks = list(dict.fromkeys(part.task for part in every))
    contents.table(tables.judged(verdicts, "findings", "Findings", words.judging_note(every), tasks))
    contents.frame("findings", verdicts)
    note("tables")
    _between(contents, frame, select)
    _importance_between(contents, every)
    for part in every:
        _compared(contents, part)
        _shares(contents, part)
    note("page")
    digests = Ready({f"{part.study}/{part.task}": digest(part, published) for part in every})
    source = Source(study, runs, storage)
    try:
        usual = {"select": select, "adjust": adjust}
        contents.files["index.html"] = at_rest(Views(source, digests, live=False, usual=usual)).encode()
    finally:
        source.close()
    contents.end(note)
    folder = (studies[0][0] if len(studies) == 1 else Path(runs) / ",".join(plans)) / "report"
    return _written(contents.files, folder)


def _written(contents: Mapping[str, bytes], folder: Path) -> Path:
    """Writes the files of a report into its folder, and returns that."""

    def write(file: tuple[str, bytes]) -> None:
        files.write(folder / file[0], file[1])

    try:
        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(write, contents.items()))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
    return folder


def main(composed: Composed, composer: Composer) -> int:
    """``odyssey report``: writes the report of a study and prints where its page is."""
    chosen = {key: composed.settings[key] for key in ("study", "runs", "select", "adjust", "findings", "storage")}
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("") as status:
            folder = report(**chosen, note=lambda text: status.update(Text(text)))
    else:
        folder = report(**chosen, note=lambda text: print(f"report: {text}", file=sys.stderr, flush=True))
    print(folder / "index.html")
    return 0


def _evolutions(studies: list[tuple[Path, Plan]]) -> dict[str, Evolution]:
    """By the names of their studies."""
    places = {plan.study: evolution.of_study(folder) for folder, plan in studies}
    return {study: evolution.read(place) for study, place in places.items() if place}


def _parts(frame: pd.DataFrame, table: pd.DataFrame, plans: dict[str, Plan], n_variants: pd.Series) -> list[Part]:
    """Every task of every study; `n_variants` is of each study how many there are, of which fewer may be compared."""
    several = len(plans) > 1
    found = []
    for (study, task), trials in parts(frame):
        plan = plans[study]
        name = re.sub(r"[^\w.+-]+", "_", f"{study}_{task}" if several else task)
        own = table[(table["study"] == study) & (table["task"] == task)]
        label = plan.score if task == plan.task["name"] else "score"
        title = figures.part_title(study, task) if several else task
        n = len(set(trials["variant"]))
        title += f", {n} of {n_variants[study]} variants" if n < n_variants[study] else ""
        found.append(Part(study, task, name, title, plan, trials, own, label, Importance(trials, plan)))
    return found


def _judged(published: list[judging.Finding], every: list[Part]) -> pd.DataFrame:
    """The verdicts: of all studies together if no task is in two of them, otherwise of each, in a column ``study``."""
    seen = [statements.Evidence(part.trials, part.table, part.importance) for part in every]
    tasks = [part.task for part in every]
    if len(set(tasks)) == len(tasks):
        return judging.judge(published, dict(zip(tasks, seen, strict=True)))
    frames = []
    for study in dict.fromkeys(part.study for part in every):
        own = {part.task: evidence for part, evidence in zip(every, seen, strict=True) if part.study == study}
        verdicts = judging.judge(published, own)
        verdicts.insert(0, "study", study)
        frames.append(verdicts)
    return pd.concat(frames, ignore_index=True)


def _between(contents: Contents, frame: pd.DataFrame, select: Select) -> None:
    """The comparison of studies with each other, if there are several."""
    if frame["study"].nunique() < 2:
        return
    between = compare_studies(frame, select)
    contents.frame("studies", between)
    note = f"Means of the best 10 % by {words.PICKED[select]}. p: Bonferroni for the tests on a task."
    contents.table(tables.between_studies(between, "studies", "Between studies", note))


def _importance_between(contents: Contents, every: list[Part]) -> None:
    """How much the settings matter in each study against the first of the same task, if there are several."""
    frames = []
    for place, part in enumerate(every):
        earlier = [other for other in every[:place] if other.task == part.task]
        if earlier:
            found = between(part.importance, earlier[0].importance)
            frames.append(found.assign(task=part.task, study=part.study, against_study=earlier[0].study))
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame({"share": []})
    if not len(table):
        return
    contents.frame("importance_between", table)
    note = f"{words.DEBIASED} In brackets the standard error. Of the test score; a dash where a study does not sample "
    note += "the setting. Differences with a 95 % interval, as of independent studies, in percent of the variance."
    title = "Between studies: shares of the variance"
    contents.table(tables.between_shares(table, "importance_between", title, note))


def _compared(contents: Contents, part: Part) -> None:
    """The comparison of the variants, and the best trial of each."""
    name, select = part.name, part.table["select"].iloc[0]
    contents.frame(f"comparison_{name}", part.table)
    rows = records(part.table)
    note = f"{words.comparison(rows, part.label)}; variants in blue differ significantly (p < {ALPHA})."
    title = f"{part.title}: variants"
    made = [tables.comparison(rows, tables.COMPARISON, f"comparison_{name}", title, note)]
    title = f"{part.title}: variants, further columns"
    made.append(tables.comparison(rows, tables.COMPARISON_MORE, f"comparison_more_{name}", title, ""))
    note = f"The trial with the best {words.PICKED[select].partition(',')[0]} of each variant."
    made.append(tables.settings(rows, f"settings_{name}", f"{part.title}: best settings", note))
    columns = ["variant", "trial", "best_test_score", *tables.sampled_of(part.table.columns)]
    contents.frame(f"settings_{name}", part.table[columns])
    for each in made:
        contents.table(each)


def _replicated(contents: Contents, part: Part, folder: Path) -> None:
    """The replicates of the best trials, as a figure and a table, if there are any."""
    again = replicates.of_best(folder, part.trials)
    if not len(again):
        return
    report_figures.replicated(contents, part, again)
    found, name = replicates.summary(again), f"replicates_summary_{part.name}"
    contents.frame(name, found)
    title = f"{part.title}: replicates of the best trials"
    note = "A description, and no test of variants: see the figure of the replicates."
    contents.table(table_text.of_columns(records(found), replicates.COLUMNS, name, title, note))


def _shares(contents: Contents, part: Part) -> None:
    """The shares of the variance: of each variant, and over all."""
    fitted, name, made = part.importance, part.name, []
    if len(fitted.shares):
        note = f"{words.DEBIASED} In brackets the standard error, over trials. Noise: share of the variance of the "
        note += f"scores that no setting explains. {words.without_diverged(fitted.shares)}"
        title = f"{part.title}: shares of the variance, debiased"
        made.append(tables.shares(fitted.shares, f"fanova_debiased_{name}", title, note, ("debiased", "se")))
        note = "Functional ANOVA of each variant: mean over the trees, in brackets their standard deviation. R²: of "
        note += "the forest, out of bag."
        title = f"{part.title}: shares of the variance of the forest"
        made.append(tables.shares(fitted.shares, f"fanova_{name}", title, note))
        contents.frame(f"fanova_debiased_{name}", fitted.shares.drop(columns=["mean", "sd"]))
        contents.frame(f"fanova_{name}", fitted.shares.drop(columns=DEBIASED))
    if len(fitted.architecture):
        note = "All variants together, the architecture as one more dimension or as its toggles. "
        note += f"{words.fits_over(fitted)} {words.DEBIASED}"
        title = f"{part.title}: architecture and settings"
        made.append(tables.architecture(fitted.architecture, f"fanova_architecture_{name}", title, note))
        contents.frame(f"fanova_architecture_{name}", fitted.architecture)
    if len(fitted.ped_anova):
        title = f"{part.title}: what the best have in common"
        made.append(tables.ped_anova(fitted.ped_anova, f"ped_anova_{name}", title, words.PED_ANOVA))
        contents.frame(f"ped_anova_{name}", fitted.ped_anova)
    reference = fitted.reference
    if len(fitted.ablation):
        note = f"From the best settings of {reference} to those of each other variant, one change at a time, the one "
        note += "that lowers the predicted test score most first (Fawcett and Hoos 2016)."
        title = f"{part.title}: ablation from {reference}"
        made.append(table_text.of_columns(records(fitted.ablation), tables.ABLATION, f"ablation_{name}", title, note))
        contents.frame(f"ablation_{name}", fitted.ablation)
    if len(fitted.tunability):
        note = words.tunability(reference)
        title = f"{part.title}: tunability"
        made.append(
            table_text.of_columns(records(fitted.tunability), tables.TUNABILITY, f"tunability_{name}", title, note)
        )
        contents.frame(f"tunability_{name}", fitted.tunability)
    for each in made:
        contents.table(each)
