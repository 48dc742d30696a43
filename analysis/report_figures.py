"""The figures of a report, with their captions: what is drawn of what there is."""

from collections.abc import Callable
from functools import partial

import pandas as pd

from analysis import beside_figures, figures, importance_figures, over_tasks, summaries, words
from analysis.frames import Select
from analysis.part import Part
from analysis.report_files import Contents

Note = Callable[[str], None]


def boxes(contents: Contents, frame: pd.DataFrame, table: pd.DataFrame, every: list[Part]) -> None:
    drawn = summaries.boxes(frame, table)
    if drawn["n"].any():
        labels = {part.task: f"test {part.label}" for part in every}
        text = f"{words.boxes(table, drawn)} {words.means(table)}"
        points = summaries.points(frame, table)
        contents.frame("boxes_points", points)
        draw = partial(figures.draw_boxes, drawn, points, labels)
        contents.figure("boxes", "Test scores by variant", text, drawn, draw)


def ranks(contents: Contents, every: list[Part], select: Select) -> None:
    """The critical-difference diagram, if there are several tasks, each once."""
    tables = {part.task: part.table for part in every}
    if len(tables) < 2 or len(tables) < len(every):
        return
    drawn = over_tasks.ranks(tables)
    variants = list(dict.fromkeys(drawn["variant"]))
    if len(variants) > 1:
        pairs = over_tasks.differences([part.trials for part in every], variants, select)
        contents.frame("ranks_pairs", pairs)
        draw = partial(beside_figures.draw_ranks, drawn, over_tasks.groups(variants, pairs))
        contents.figure("ranks", "Ranks over tasks", words.ranks(drawn, pairs), drawn, draw)


def of_part(contents: Contents, part: Part, curves: pd.DataFrame, select: Select) -> None:
    """The figures of the trials of one task of one study, as far as there is something to draw."""
    label, where, n = f"test {part.label}", part.title, part.name
    reference = part.importance.reference
    finished, diverged = ((part.trials["status"] == status).sum() for status in ("finished", "diverged"))
    picked = f"by {words.PICKED[select]}"

    expected = summaries.expected_best(part.trials, select)
    if len(expected):
        text = f"Expected test score of the best of n random trials, chosen {picked}, against n and against their mean "
        text += "training time; over all subsets of the trials (Dodge et al. 2019; unbiased as in Tang et al. 2020). "
        text += f"Bands: 95 % jackknife intervals, up to half of the trials. From {finished} finished and {diverged} "
        text += "diverged trials, the latter counted as the worst finished one of their variant."
        draw = partial(figures.draw_expected, expected, label, reference)
        contents.figure(f"expected_{n}", f"{where}: expected best score", text, expected, draw)
    best = summaries.best_curves(part.trials, curves, select)
    if len(best):
        text = f"Validation score by epoch of the best 10 % of trials {picked}: the best in colour with a dot at its "
        text += f"best epoch, the others in grey, and the best of {reference} dashed."
        draw = partial(figures.draw_curves, best, part.label, reference)
        contents.figure(f"curves_{n}", f"{where}: learning curves", text, best, draw)
    costs = {"n_parameters": ("parameters", "parameters"), "train_seconds": ("time", "training time")}
    for cost, (short, word) in costs.items():
        points = summaries.trade_off(part.trials, cost)
        if len(points):
            text = f"Test score against {word} of the {len(points)} finished trials. Line: Pareto front over all "
            text += "variants; no trial is better at no higher cost than one on it."
            draw = partial(figures.draw_trade_off, points, cost, label, reference)
            contents.figure(f"{short}_{n}", f"{where}: score against {word}", text, points, draw)


def replicated(contents: Contents, part: Part, again: pd.DataFrame) -> None:
    """The replicates of the best trials of one task of one study, as of `replicates.of_best`."""
    text = "Dots: test scores of the replicates, n those that finished; line: their median; diamond: the trial of the "
    text += f"search; triangle: so many are above the axis. {words.replicates(again)}"
    draw = partial(beside_figures.draw_replicates, again, f"test {part.label}")
    contents.figure(f"replicates_{part.name}", f"{part.title}: replicates", text, again, draw)


def importance(contents: Contents, part: Part, note: Note) -> None:
    """The figures of functional ANOVA of one task of one study, as far as there is something to draw."""
    label, where, n = f"test {part.label}", part.title, part.name
    fitted, reference, space, why = part.importance, part.importance.reference, part.plan.space, words.FANOVA
    note(f"functional ANOVA, {where}")
    fitted.begin(lambda text: note(f"functional ANOVA, {where}: {text}"))

    if len(fitted.shares):
        text = f"{why}Shares of the variance of the forest's prediction, in percent, that single settings and their "
        text += (
            "interactions explain: what a forest blurs is put right in the debiased shares of the table, which also "
        )
        text += f"has the errors. {words.fits(fitted, fitted.variants)}"
        draw = partial(importance_figures.draw_shares, fitted.shares)
        title = f"{where}: shares of the variance"
        contents.figure(f"shares_{n}", title, text, fitted.shares, draw)
    marginals = fitted.marginals
    for name, rows, what in (
        (f"marginals_{n}", marginals[marginals["variant"] == reference], reference),
        (f"marginals_variants_{n}", marginals, "all variants"),
    ):
        if len(rows) and rows["variant"].nunique() + (what == reference) > 1:
            text = f"{why}Predicted test score and training time of {what} against each setting, averaged over all "
            text += f"others. Bands: one standard deviation over the trees. {words.fits(fitted, rows['variant'])}"
            draw = partial(importance_figures.draw_marginals, rows, space, label, reference)
            contents.figure(name, f"{where}: marginals, {what}", text, rows, draw)
    if len(fitted.architecture):
        text = f"{why}Largest shares of the variance of the test score over all variants, with one standard deviation "
        text += f"over the trees. Filled: single dimensions; open: interactions. {words.fits_over(fitted)}"
        draw = partial(importance_figures.draw_architecture, fitted.architecture)
        title = f"{where}: architecture and settings"
        contents.figure(f"architecture_{n}", title, text, fitted.architecture, draw)
    if len(fitted.surface):
        text = f"{why}Test score of {reference} over lr and hidden_size: the total marginal, and what the interaction "
        text += f"adds to the two main effects. {words.fits(fitted, [reference])}"
        draw = partial(importance_figures.draw_surface, fitted.surface, space, label)
        title = f"{where}: lr and hidden_size, {reference}"
        contents.figure(f"surface_{n}", title, text, fitted.surface, draw)
