"""The report of a study: figure, tables and one self-contained page."""

import base64
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from omegaconf import DictConfig

from analysis import figures, style, tables
from analysis.compare import ALPHA, BASELINE, Select, compare
from analysis.load import PROVENANCE, load
from analysis.summaries import boxes
from search import files
from search.errors import UserError, expect
from search.storage import masked
from search.study import find, read_plan

PICKED = {"valid": "validation score", "test": "test score, which flatters them"}
STATUSES = ("diverged", "failed", "running", "waiting")


def report(study: str | Path, runs: str | Path = "runs", select: Select = "valid") -> Path:
    """Writes the report of a study, finished or not, into its folder ``report/`` and returns that folder.

    ``index.html`` holds everything and needs no other file; ``boxes.png``, ``.pdf`` and ``.csv`` are the figure,
    ``comparison_TASK.csv`` and ``.md`` the tables. Without a finished trial there is no figure.

    Args:
        study: a name under `runs`, or the path of a study's folder.
        runs: the folder of studies.
        select: the score that picks the best 10 % of trials, ``valid`` or ``test``.

    Raises:
        UserError: no such study, it cannot be read, or its report cannot be written.
    """
    expect(select in ("valid", "test"), "select", select, "valid or test")
    folder = find(study, runs)
    plan = read_plan(folder)
    frame = load(study, runs)
    expect(len(frame) > 0, str(folder), "0 trials", "a plan of at least one trial")
    table = compare(frame, select)
    labels = {task: f"test {plan.score}" if task == plan.task["name"] else "test score" for task in table["task"]}
    contents: dict[str, bytes] = {}
    for task, rows in table.groupby("task", observed=True):
        contents[f"comparison_{task}.csv"] = rows.to_csv(index=False).encode()
        contents[f"comparison_{task}.md"] = tables.markdown(tables.HEADINGS, tables.rounded(rows)).encode()

    svg = b""
    drawn = boxes(frame, table)
    notes = caption(table, drawn)
    if drawn["n"].any():
        files_of = style.files(figures.draw_boxes(drawn, labels))
        contents["boxes.csv"] = drawn.to_csv(index=False).encode()
        contents["boxes.png"], contents["boxes.pdf"] = files_of["png"], files_of["pdf"]
        svg = files_of["svg"]

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html").render(
        study=plan.study,
        summary=summary(frame, table, labels),
        figure=base64.b64encode(svg).decode(),
        caption=notes,
        alt=_alt(table),
        headings=[heading for _, heading, _ in tables.COLUMNS.values()],
        groups=Counter(group for group, *_ in tables.COLUMNS.values()).items(),
        picked=PICKED[select],
        baseline=BASELINE,
        comparisons=[
            {
                "task": task,
                "label": labels[task],
                "rows": list(zip(tables.rounded(rows), rows["significant"], strict=True)),
            }
            for task, rows in table.groupby("task", observed=True)
        ],
        failures=_failures(frame),
        provenance=_provenance(frame),
        settings=masked(yaml.safe_dump(asdict(plan), sort_keys=False, allow_unicode=True)),
    )
    contents["index.html"] = page.encode()  # last, as it stands for the rest

    folder = folder / "report"
    try:
        for name, content in contents.items():
            files.write(folder / name, content)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
    return folder


def main(config: DictConfig) -> int:
    """``odyssey report``: writes the report of a study and prints where its page is."""
    folder = report(str(config.study), str(config.runs), config.select)
    print(folder / "index.html")
    return 0


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


def summary(frame: pd.DataFrame, table: pd.DataFrame, labels: dict[str, str]) -> list[str]:
    """Sentences: how much of the plan is there, and what it says so far."""
    counts = frame["status"].value_counts()
    finished = counts.get("finished", 0)
    others = [f"{counts[status]} {status}" for status in STATUSES if status in counts]
    text = "; ".join([f"{finished} of {len(frame)} planned trials finished", ", ".join(others) or "none is missing"])
    seconds = frame["train_seconds"].sum()
    lines = [f"{text}. Their training took {_duration(seconds)}." if seconds else f"{text}."]
    if not finished:
        return [*lines, "No trial has finished, so there is nothing to compare yet."]
    for task, rows in table.groupby("task", observed=True):
        ranked = rows.dropna(subset=["best_mean"]).sort_values("best_mean")
        if ranked.empty:
            lines.append(f"{task}: no trial has finished.")
            continue
        first, last = ranked.iloc[0], ranked.iloc[-1]
        lowest = f"lowest mean {labels[str(task)]}, {first['best_mean']:.3f}"
        text = f"{task}: the best 10 % of {first['variant']} have the {lowest}"
        if len(ranked) > 1:
            text += f"; those of {last['variant']} the highest, {last['best_mean']:.3f}"
        lines.append(f"{text}. {_findings(rows)}")
    values = frame.groupby("task", observed=True)[list(_provenance(frame))].nunique()
    differing = values.columns[(values > 1).any()]
    if len(differing):
        lines.append(f"Not all trials ran under the same conditions; they differ in {', '.join(differing)}.")
    return lines


def _tests(table: pd.DataFrame) -> str:
    sentences = []
    made = table[table["test"] == "tested"].groupby("task", observed=True).size()
    if len(made):
        n = f"{made.iloc[0]}" if made.nunique() == 1 else ", ".join(f"{n} ({task})" for task, n in made.items())
        verdict = f"the best 10 % differ significantly from those of {BASELINE}"
        verdict = f"Blue, thick: {verdict}" if table["significant"].any() else f"For no variant do {verdict}"
        sentences.append(
            f"{verdict} (two-sided Welch t-test, p < {ALPHA}, Bonferroni for the number of tests on a task: {n})."
        )
    for reason, rows in table[table["test"].str.startswith("not tested")].groupby("test", sort=False):
        sentences.append(f"N{str(reason)[1:]} ({', '.join(dict.fromkeys(rows['variant']))}).")
    return " ".join(sentences) or f"There is nothing to test {BASELINE} against."


def _findings(rows: pd.DataFrame) -> str:
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


def _alt(table: pd.DataFrame) -> str:
    texts = []
    for task, rows in table.groupby("task", observed=True):
        means = [f"{v} {m:.3f}" for v, m in zip(rows["variant"], rows["best_mean"], strict=True) if m == m]
        texts.append(f"{task}: {', '.join(means) or 'no finished trial'}")
    return f"Box plots of test scores by variant. Mean of the best 10 %, {'; '.join(texts)}."


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
