"""The report of a study: every figure and table, the findings judged, and one self-contained page."""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from analysis import figures, importance_figures, style, summaries, tables
from analysis import findings as judging
from analysis.compare import ADJUSTMENTS, ALPHA, BASELINE, Adjust, Select, compare, compare_studies, parts
from analysis.importance import BY, Importance
from analysis.load import PROVENANCE, Studies, find_all, load, load_curves
from search import files
from search.composition import Composed, Composer
from search.errors import UserError, expect, masked
from search.study import Plan

PICKED = {"valid": "validation score", "test": "test score, which flatters them"}
DESIGNS = {"paired": "of paired trials", "unpaired": "of trials drawn apart"}
ADJUSTED = {"bonferroni": "Bonferroni", "holm": "Holm"}
STATUSES = ("diverged", "failed", "running", "waiting")
DEBIASED = (
    "Debiased: shares of what the settings predict, without noise and as fine as it is, by a one-step correction with "
    "trials that a tree has not seen (Da Veiga and Gamboa 2013); what is left of second order is not in the error, and "
    "matters where R² is low. None where trials were not drawn evenly from all combinations, or where the forest "
    "predicts unseen trials no better than their mean."
)
ANALYSED_WITH = ("odyssey", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib")


@dataclass(frozen=True)
class Part:
    """One task of one study.

    Attributes:
        name: in file names; ``title``: in headings, with the study where there are several.
        trials: as of `load`; ``table``: its rows of `compare`.
        label: what the score is, with its unit.
        importance: functional ANOVAs of its trials.
    """

    study: str
    task: str
    name: str
    title: str
    plan: Plan
    trials: pd.DataFrame
    table: pd.DataFrame
    label: str
    importance: Importance


@dataclass(frozen=True)
class Drawn:
    """A figure of the page: its file name without ending, caption, and SVG to stand in HTML."""

    name: str
    title: str
    caption: str
    svg: Markup


class Contents:
    """The files of a report, by name, and what of them the page shows."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.figures: list[Drawn] = []

    def frame(self, name: str, frame: pd.DataFrame) -> None:
        """Adds a table at full precision."""
        self.files[f"{name}.csv"] = frame.to_csv(index=False).encode()

    def table(self, table: tables.Table) -> tables.Table:
        """Adds a table as Markdown and as LaTeX."""
        self.files[f"{table.name}.md"] = tables.markdown(table).encode()
        self.files[f"{table.name}.tex"] = tables.latex(table).encode()
        return table

    def figure(self, name: str, title: str, caption: str, frame: pd.DataFrame, figure: Figure) -> None:
        """Adds a figure in every format, and the numbers it draws."""
        self.frame(name, frame)
        drawn = style.files(figure)
        self.files |= {f"{name}.{kind}": content for kind, content in drawn.items()}
        self.figures.append(Drawn(name, title, caption, inline(drawn["svg"], name, f"{title}. {caption}")))


def report(
    study: Studies,
    runs: str | Path = "runs",
    select: Select = "valid",
    adjust: Adjust = "bonferroni",
    findings: str | Path | None = None,
    storage: str | None = None,
) -> Path:
    """Writes the report of a study, finished or not, into its folder ``report/`` and returns that folder.

    ``index.html`` holds everything and needs no other file. Beside it stand every figure as ``.png``, ``.pdf`` and
    ``.svg`` with the numbers it draws as ``.csv``, every table as ``.csv``, ``.md`` and ``.tex``, and ``captions.md``.
    The report of several studies has all that of each, compares them, and is written to ``runs/A,B/report/``.

    Args:
        study: as of `analysis.load`.
        runs: the folder of studies.
        select: the score that picks the best 10 % of trials, ``valid`` or ``test``.
        adjust: how p is adjusted for the number of tests, ``bonferroni`` or ``holm``.
        findings: a file of findings to judge (see `analysis.findings`); by default those of Greff et al. (2015).
        storage: as of `analysis.load`.

    Raises:
        UserError: no such study or file, it cannot be read, or the report cannot be written.
    """
    expect(select in PICKED, "select", select, "valid or test")
    expect(adjust in ADJUSTMENTS, "adjust", adjust, f"one of {', '.join(ADJUSTMENTS)}")
    published = judging.read(judging.PUBLISHED if findings is None else findings)
    studies = find_all(study, runs)
    frame = load(study, runs, storage)
    names = [plan.study for _, plan in studies]
    for (folder, _), name in zip(studies, names, strict=True):
        expect(bool((frame["study"] == name).any()), str(folder), "0 trials", "a plan of at least one trial")
    table = compare(frame, select, adjust)
    every = _parts(frame, table, {plan.study: plan for _, plan in studies})
    verdicts = _judged(published, every)
    contents = Contents()

    _draw_boxes(contents, frame, table, every)
    curves = load_curves(study, runs, storage) if frame["epochs"].notna().any() else None
    for part in every:
        _draw_part(contents, part, curves, select)
    sections = [(part.title, _tables_of(contents, part)) for part in every]
    found = contents.table(tables.judged(verdicts, "findings", "Findings", _judging_note(every)))
    contents.frame("findings", verdicts)
    if len(names) > 1:
        between = compare_studies(frame, select)
        contents.frame("studies", between)
        note = f"Means of the best 10 % by {PICKED[select]}. p: Bonferroni for the tests on a task."
        sections.insert(0, ("Between studies", [contents.table(tables.between_studies(between, "studies", "", note))]))
    contents.files["captions.md"] = _captions(contents.figures).encode()

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["sha256"] = lambda text: base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()
    environment.filters["groups"] = lambda table: tables.groups(table.headings)
    page = environment.get_template("report.html").render(
        title=", ".join(names),
        summary=[*summary(frame, table, every), *_architecture(every), _verdicts(verdicts)],
        found=found,
        verdicts=list(verdicts["verdict"]),
        figures=contents.figures,
        sections=sections,
        failures=_failures(frame),
        provenance=_provenance(frame),
        analysed={name: metadata.version(name) for name in ANALYSED_WITH},
        plans={plan.study: masked(_yaml(plan)) for _, plan in studies},
    )
    contents.files["index.html"] = page.encode()  # last, as it stands for the rest

    base = studies[0][0] if len(studies) == 1 else Path(runs) / ",".join(names)
    folder = base / "report"
    try:
        for name, content in contents.files.items():
            files.write(folder / name, content)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
    return folder


def main(composed: Composed, composer: Composer) -> int:
    """``odyssey report``: writes the report of a study and prints where its page is."""
    chosen = {key: composed.settings[key] for key in ("study", "runs", "select", "adjust", "findings", "storage")}
    print(report(**chosen) / "index.html")
    return 0


def inline(svg: bytes, name: str, text: str) -> Markup:
    """An SVG file as an element of a page: its ids unlike those of other figures, and a text for who cannot see it.

    Args:
        svg: of matplotlib.
        name: unique on the page.
        text: what it shows.
    """
    drawing = svg.decode()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", drawing, flags=re.DOTALL)
    prefix = re.sub(r"\W", "-", name)
    drawing = re.sub(r'(?<=\sid=")(?=[^"])|(?<=href="#)|(?<=url\(#)', f"{prefix}-", drawing)
    opening = re.match(r"<svg[^>]*>", drawing)
    assert opening
    width = re.search(r'width="([\d.]+)pt"', opening[0])
    box = re.search(r'viewBox="[^"]*"', opening[0])
    assert width and box
    size = f"max-width:{float(width[1]) / 72 * 2.54 * 1.35:.1f}cm"
    names = f'{box[0]} style="{size}" role="img" aria-label="{escape(text)}"'
    return Markup(f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {names}>{drawing[opening.end() :]}')


def _parts(frame: pd.DataFrame, table: pd.DataFrame, plans: dict[str, Plan]) -> list[Part]:
    several = len(plans) > 1
    found = []
    for (study, task), trials in parts(frame):
        plan = plans[study]
        name = re.sub(r"[^\w.+-]+", "_", f"{study}_{task}" if several else task)
        own = table[(table["study"] == study) & (table["task"] == task)]
        label = plan.score if task == plan.task["name"] else "score"
        title = figures.part_title(study, task) if several else task
        found.append(Part(study, task, name, title, plan, trials, own, label, Importance(trials, plan)))
    return found


def _judged(published: list[judging.Finding], every: list[Part]) -> pd.DataFrame:
    """The verdicts: of all studies together if no task is in two of them, otherwise of each, in a column ``study``."""
    seen = [judging.Evidence(part.trials, part.table, part.importance) for part in every]
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


def _draw_boxes(contents: Contents, frame: pd.DataFrame, table: pd.DataFrame, every: list[Part]) -> None:
    drawn = summaries.boxes(frame, table)
    if drawn["n"].any():
        labels = {part.task: f"test {part.label}" for part in every}
        text = " ".join([*caption(table, drawn), _means(table)])
        contents.figure("boxes", "Test scores by variant", text, drawn, figures.draw_boxes(drawn, labels))


def _draw_part(contents: Contents, part: Part, curves: pd.DataFrame | None, select: Select) -> None:
    """The figures of one task of one study, as far as there is something to draw."""
    label, where, n = f"test {part.label}", part.title, part.name
    reference, space = part.importance.reference, part.plan.space
    finished, diverged = ((part.trials["status"] == status).sum() for status in ("finished", "diverged"))
    picked = f"by {PICKED[select]}"

    expected = summaries.expected_best(part.trials, select)
    if len(expected):
        text = f"Expected test score of the best of n random trials, chosen {picked}, against n and against their mean "
        text += "training time; over all subsets of the trials (Dodge et al. 2019; unbiased as in Tang et al. 2020). "
        text += f"Bands: 95 % jackknife intervals, up to half of the trials. From {finished} finished and {diverged} "
        text += "diverged trials, the latter counted as the worst finished one of their variant."
        figure = figures.draw_expected(expected, label, reference)
        contents.figure(f"expected_{n}", f"{where}: expected best score", text, expected, figure)
    best = summaries.best_curves(part.trials, curves, select) if curves is not None else pd.DataFrame()
    if len(best):
        text = (
            f"Validation score by epoch of the best 10 % of trials {picked}: the best in colour with a dot at its best "
        )
        text += f"epoch, the others in grey, and the best of {reference} dashed."
        figure = figures.draw_curves(best, part.label, reference)
        contents.figure(f"curves_{n}", f"{where}: learning curves", text, best, figure)
    costs = {"n_parameters": ("parameters", "parameters"), "train_seconds": ("time", "training time")}
    for cost, (short, word) in costs.items():
        points = summaries.trade_off(part.trials, cost)
        if len(points):
            text = f"Test score against {word} of the {len(points)} finished trials. Line: Pareto front over all "
            text += "variants; no trial is better at no higher cost than one on it."
            figure = figures.draw_trade_off(points, cost, label, reference)
            contents.figure(f"{short}_{n}", f"{where}: score against {word}", text, points, figure)

    fitted, why = part.importance, "Functional ANOVA (Hutter et al. 2014) over a random forest. "
    marginals = fitted.marginals
    for name, rows, what in (
        (f"marginals_{n}", marginals[marginals["variant"] == reference], reference),
        (f"marginals_variants_{n}", marginals, "all variants"),
    ):
        if len(rows) and rows["variant"].nunique() + (what == reference) > 1:
            text = f"{why}Predicted test score and training time of {what} against each setting, averaged over all "
            text += f"others. Bands: one standard deviation over the trees. {' '.join(_notes(fitted, rows['variant']))}"
            figure = importance_figures.draw_marginals(rows, space, label, reference)
            contents.figure(name, f"{where}: marginals, {what}", text, rows, figure)
    if len(fitted.shares):
        text = f"{why}Shares of the variance in percent that single settings and their interactions explain. Standard "
        text += f"deviations over the trees are in the table. {' '.join(_notes(fitted, fitted.variants))}"
        figure = importance_figures.draw_shares(fitted.shares)
        contents.figure(f"shares_{n}", f"{where}: shares of the variance", text, fitted.shares, figure)
    if len(fitted.architecture):
        text = f"{why}Largest shares of the variance of the test score over all variants, with one standard deviation "
        text += "over the trees. Filled: single dimensions; open: interactions. " + " ".join(_over_notes(fitted))
        figure = importance_figures.draw_architecture(fitted.architecture)
        contents.figure(f"architecture_{n}", f"{where}: architecture and settings", text, fitted.architecture, figure)
    if len(fitted.surface):
        text = f"{why}Test score of {reference} over learning rate and hidden size: the total marginal, and what the "
        text += f"interaction adds to the two main effects. {' '.join(_notes(fitted, [reference]))}"
        figure = importance_figures.draw_surface(fitted.surface, space, label)
        title = f"{where}: learning rate and hidden size, {reference}"
        contents.figure(f"surface_{n}", title, text, fitted.surface, figure)


def _tables_of(contents: Contents, part: Part) -> list[tables.Table]:
    name, select, adjust = part.name, part.table["select"].iloc[0], part.table["adjust"].iloc[0]
    contents.frame(f"comparison_{name}", part.table)
    note = f"Scores: test {part.label}; lower is better. The best were picked by {PICKED[select]}. p: two-sided, "
    note += f"against {BASELINE}, {DESIGNS[part.table['design'].iloc[0]]}, adjusted after {ADJUSTED[adjust]}; variants "
    note += f"in blue differ significantly (p < {ALPHA}). Effect size: in standard deviations of the best. P(first): "
    note += "how probable it is that the true mean is the lowest. P(better): probability that one of the best trials "
    note += f"is better than one of {BASELINE}'s. As the paper tests: Welch, which takes the best trials for "
    note += "independent draws and finds differences where there are none (docs/calibration.md)."
    made = [tables.comparison(part.table, f"comparison_{name}", f"{part.title}: variants", note)]
    note = f"The trial with the best {PICKED[select].partition(',')[0]} of each variant."
    made.append(tables.settings(part.table, f"settings_{name}", f"{part.title}: best settings", note))
    contents.frame(
        f"settings_{name}", part.table[["variant", "trial", "best_test_score", *tables.sampled_of(part.table)]]
    )
    if len(part.importance.shares):
        note = (
            "Functional ANOVA of each variant: mean over the trees, in brackets their standard deviation. R²: of the "
        )
        note += "forest, out of bag; where it is low or negative, shares say little."
        title = f"{part.title}: shares of the variance"
        made.append(tables.shares(part.importance.shares, f"fanova_{name}", title, note))
        note = f"{DEBIASED} In brackets the standard error, over trials."
        title = f"{part.title}: shares of the variance, debiased"
        debiased = ("debiased", "se")
        made.append(tables.shares(part.importance.shares, f"fanova_debiased_{name}", title, note, debiased))
        contents.frame(f"fanova_{name}", part.importance.shares.drop(columns=["debiased", "se"]))
        contents.frame(f"fanova_debiased_{name}", part.importance.shares.drop(columns=["mean", "sd"]))
    if len(part.importance.architecture):
        note = "All variants together, the architecture as one more dimension or as its toggles. "
        note += " ".join([*_over_notes(part.importance), DEBIASED])
        title = f"{part.title}: architecture and settings"
        made.append(tables.architecture(part.importance.architecture, f"fanova_architecture_{name}", title, note))
        contents.frame(f"fanova_architecture_{name}", part.importance.architecture)
    return [contents.table(table) for table in made]


def caption(table: pd.DataFrame, drawn: pd.DataFrame) -> list[str]:
    """What the figure shows, how its best trials were picked and tested, and what was left out.

    Args:
        table: as of `compare`.
        drawn: as of `boxes`.
    """
    picked = PICKED[table["select"].iloc[0]]
    marks = "Box: 25th to 75th percentile; whiskers: whole range; line: median; dot: mean. "
    marks += "Grey bar: mean number of parameters of the best 10 %. Above each box: its number of trials n."
    if drawn["n_beyond"].any():
        marks += " Triangle: this many trials lie above the axis."
    if (drawn["n"] == 1).any():
        marks += " A line through a dot is a single trial."
    left_out = [f"{table[f'n_{name}'].sum()} {name}" for name in ("diverged", "failed", "unfinished")]
    return [
        marks,
        f"Lower is better. The best 10 % were picked by {picked}, of the trials that finished or diverged. "
        f"Left out of the boxes: {', '.join(left_out)}.",
        _tests(table),
    ]


def summary(frame: pd.DataFrame, table: pd.DataFrame, every: Sequence[Part]) -> list[str]:
    """Sentences: how much of the plan is there, and what it says so far."""
    counts = frame["status"].value_counts()
    finished = counts.get("finished", 0)
    others = [f"{counts[status]} {status}" for status in STATUSES if status in counts]
    text = "; ".join([f"{finished} of {len(frame)} planned trials finished", ", ".join(others) or "none is missing"])
    seconds = frame["train_seconds"].sum()
    lines = [f"{text}. Their training took {_duration(seconds)}." if seconds else f"{text}."]
    if not finished:
        return [*lines, "No trial has finished, so there is nothing to compare yet."]
    for part in every:
        ranked = part.table.dropna(subset=["best_mean"]).sort_values("best_mean")
        if ranked.empty:
            lines.append(f"{part.title}: no trial has finished.")
            continue
        first, last = ranked.iloc[0], ranked.iloc[-1]
        lowest = f"lowest mean test {part.label}, {first['best_mean']:.3f}"
        text = f"{part.title}: the best 10 % of {first['variant']} have the {lowest}"
        if len(ranked) > 1:
            text += f"; those of {last['variant']} the highest, {last['best_mean']:.3f}"
        lines.append(f"{text}. {_compared(part.table)}")
    values = frame.groupby(["study", "task"], observed=True)[list(_provenance(frame))].nunique()
    differing = values.columns[(values > 1).any()]
    if len(differing):
        lines.append(f"Not all trials ran under the same conditions; they differ in {', '.join(differing)}.")
    return lines


def _architecture(every: Sequence[Part]) -> list[str]:
    """Whether architecture matters more than the settings, as one sentence a part."""
    lines = []
    for part in every:
        fitted = part.importance.over("variant")
        if fitted is None or not fitted.r2 > 0:
            continue
        shares = sorted(((fitted.share(name), name) for name in fitted.dimensions), reverse=True)
        parts = [f"{name} {100 * mean:.1f} % (sd {100 * sd:.1f} %)" for (mean, sd), name in shares]
        lines.append(
            f"{part.title}: of the variance of the test score over all variants, single dimensions explain: "
            f"{', '.join(parts)}."
        )
    return lines


def _verdicts(verdicts: pd.DataFrame) -> str:
    groups = []
    for verdict in judging.VERDICTS[:3]:
        own = verdicts[verdicts["verdict"] == verdict]
        if len(own):
            groups.append(f"{verdict} {len(own)} ({', '.join(dict.fromkeys(own['finding']))})")
    absent = (verdicts["verdict"] == judging.NOT_TESTABLE).sum()
    return f"Findings by task: {'; '.join([*groups, f'not testable here {absent}'])}."


def _notes(fitted: Importance, variants: Iterable[str]) -> list[str]:
    """What the single-variant fits of the test score left out and cut off, briefly where there are many."""
    own = list(dict.fromkeys(map(str, variants)))
    fits = {variant: fit for variant in own if (fit := fitted.fit("test_score", variant))}
    if len(fits) == 1:
        return next(iter(fits.values())).notes
    cutoffs = ", ".join(f"{variant} {fit.cutoff:.4g} (n = {fit.n})" for variant, fit in fits.items())
    text = f"Scores above a cut-off, and diverged trials, count as the cut-off: {cutoffs}."
    missing = [variant for variant in own if variant not in fits]
    return [text, f"Not fitted, for too few trials: {', '.join(missing)}."] if missing else [text]


def _over_notes(fitted: Importance) -> list[str]:
    notes = [note for by in BY if (fit := fitted.over(by)) for note in fit.notes]
    return list(dict.fromkeys(notes))


def _judging_note(every: Sequence[Part]) -> str:
    n = ", ".join(dict.fromkeys(f"{part.table['n_best'].max()} ({part.title})" for part in every))
    return (
        "Differences of the best 10 % from vanilla with 90 % intervals; best trials per variant: at most "
        f"{n}. A difference that is shown to be below the margin counts as none; one that is merely not significant is "
        "inconclusive. Shares and marginals are those of vanilla, with two standard deviations over the trees. More "
        "trials: how many each variant needs on top for the differences as observed to be settled with a power of 80 %."
    )


def _means(table: pd.DataFrame) -> str:
    texts = []
    for (study, task), rows in table.groupby(["study", "task"], observed=True, sort=False):
        means = [f"{v} {m:.3f}" for v, m in zip(rows["variant"], rows["best_mean"], strict=True) if m == m]
        where = figures.part_title(str(study), str(task)) if table["study"].nunique() > 1 else task
        texts.append(f"{where}: {', '.join(means) or 'no finished trial'}")
    return f"Mean of the best 10 %, {'; '.join(texts)}."


def _captions(drawn: Sequence[Drawn]) -> str:
    return "\n".join(f"## {figure.name}\n\n**{figure.title}.** {figure.caption}\n" for figure in drawn)


def _yaml(plan: Plan) -> str:
    return yaml.safe_dump(asdict(plan), sort_keys=False, allow_unicode=True)


def _tests(table: pd.DataFrame) -> str:
    sentences = []
    made = table[table["test"] == "tested"].groupby(["study", "task"], observed=True, sort=False).size()
    if len(made):
        n = ", ".join(dict.fromkeys(f"{count}" for count in made))
        verdict = f"the best 10 % differ significantly from those of {BASELINE}"
        verdict = f"Blue, thick: {verdict}" if table["significant"].any() else f"For no variant do {verdict}"
        sentences.append(
            f"{verdict} ({DESIGNS[table['design'].iloc[0]]}, p < {ALPHA}, "
            f"{ADJUSTED[table['adjust'].iloc[0]]} for the number of tests on a task: {n})."
        )
    for reason, rows in table[table["test"].str.startswith("not tested")].groupby("test", sort=False):
        sentences.append(f"N{str(reason)[1:]} ({', '.join(dict.fromkeys(rows['variant']))}).")
    return " ".join(sentences) or f"There is nothing to test {BASELINE} against."


def _compared(rows: pd.DataFrame) -> str:
    tested = rows[rows["test"] == "tested"]
    if tested.empty:
        return f"No variant could be tested against {BASELINE}."
    groups = {
        "significantly worse": tested[tested["significant"] & (tested["difference"] > 0)],
        "significantly better": tested[tested["significant"] & (tested["difference"] < 0)],
        "not significantly different": tested[~tested["significant"]],
    }
    parts = [f"{name}: {', '.join(group['variant'])}" for name, group in groups.items() if len(group)]
    return f"Against {BASELINE}, {'; '.join(parts)}."


def _provenance(frame: pd.DataFrame) -> dict[str, list[tuple[str, int]]]:
    """{column: [(value, trials that have it)]} of what the trials ran with."""
    names = [name for name in frame.columns.astype(str) if name in PROVENANCE or name.endswith("_version")]
    counts = {name: frame[name].value_counts() for name in names if frame[name].notna().any()}
    return {name: [(str(value), int(n)) for value, n in count.items()] for name, count in counts.items()}


def _failures(frame: pd.DataFrame) -> list[tuple[str, str]]:
    failed = frame[frame["status"] == "failed"]
    errors = [masked(" ".join(text.split())) if isinstance(text, str) else "no message" for text in failed["error"]]
    names = [f"{task} {v} {n}" for task, v, n in zip(failed["task"], failed["variant"], failed["trial"], strict=True)]
    return list(zip(names, errors, strict=True))


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
