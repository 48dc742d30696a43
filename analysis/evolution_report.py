"""The report of an evolution of cells: its family tree, what it cost, and which mutations survive."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import evolution, evolution_figures, evolution_words, table_text, words
from analysis.dashboard.cards import card
from analysis.evolution import OUTCOMES, SHOWN, Evolution
from analysis.evolution_page import page
from analysis.frames import records
from analysis.report_figures import Note
from analysis.report_files import Contents
from analysis.table_text import Column, Table, fixed, percent
from search.evolve.generation import BEST, Candidate

OTHERS = ("vanilla", "gru", "mut1", "mut2", "mut3")  # with which the best are compared on held-out tasks,
TRIALS = 100  # by so many trials of each
_INTERVALS = "In brackets Wilson's 95 % interval, as if children were independent of each other."


def report(folder: Path, storage: str | None, note: Note) -> dict[str, bytes]:
    """The files of the report of an evolution, by name.

    Args:
        folder: of the evolution.
        storage: of its studies, as of `analysis.load`.
        note: is told what is being made.

    Raises:
        UserError: see `evolution.load`.
    """
    found = evolution.load(folder)
    contents = Contents()
    contents.figure(
        "family",
        "Family tree of the survivors",
        evolution_words.tree(found, min(SHOWN, len(found.survivors))),
        evolution.family(found),
        partial(evolution_figures.draw_family, evolution.family(found, SHOWN)),
    )
    costs = evolution.progress(found, evolution.costs(found, storage))
    text = "Relative score of the best, and of the last of the survivors, after each generation, against all trials "
    text += f"that ended by then and their training time. At 1 is {found.first}. The scores are those of all trials "
    text += "that each has by now, and the further trials of the best count for the generation in which each was born."
    contents.figure("progress", "The best against cost", text, costs, partial(evolution_figures.draw_progress, costs))
    frame, cards = survivors(found)  # which the page shows as cards
    contents.frame("survivors", frame)
    tables = [cards]
    if found.born:
        tables += _of_children(contents, found)
    for table in tables:
        contents.table(table)
    contents.end(note)
    note("page")
    shown = _cards(found)
    made = page(found.name, _said(found, costs), _commands(found, folder), contents, tables[1:], shown)
    contents.files["index.html"] = made.encode()
    return contents.files


def survivors(found: Evolution, most: int | None = None) -> tuple[pd.DataFrame, Table]:
    """The survivors with their equations, or as many of the best: all that is known of each, and a table."""
    chosen = found.survivors[:most]
    equations = {name: "; ".join(lines) for name, lines in _equations(chosen).items()}
    rows = [
        {"place": place, "name": c.name, "generation": c.generation, "parent": c.parent or None}
        | {"mutations": ", ".join(c.mutations) or None, "score": c.fitness}
        | {f"score_{task}": c.scores.get(task) for task in found.tasks}
        | {"proven": c.proven, "equations": equations[c.name]}
        for place, c in enumerate(chosen, 1)
    ]
    columns = {"place": Column("", "place", str), "name": Column("", "name", str)}
    columns |= {"parent": Column("", "parent", str), "mutations": Column("", "mutations", str)}
    columns |= {"score": Column("relative score", "worst", fixed(3))}
    columns |= {f"score_{task}": Column("relative score", task, fixed(3)) for task in found.tasks}
    columns |= {"equations": Column("", "equations", str)}
    table = table_text.of_columns(rows, columns, "survivors", "Survivors", f"Relative to {found.first}.")
    return pd.DataFrame(rows), table


def _of_children(contents: Contents, found: Evolution) -> list[Table]:
    """What became of the children: two figures, and their tables."""
    shares = evolution.mutations(found)
    text = "Shares of the children that each mutation made, with 95 % intervals (Wilson) and counts; grey: of all. "
    text += "Trained: neither the same as a cell before nor beyond training; came through: all tasks; became a parent: "
    text += f"of any other, which those of generation {found.generations} could not yet; survived: are among the "
    text += f"{found.settings['survivors']} best now. A child of several mutations counts for each kind among them."
    draw = partial(evolution_figures.draw_mutations, shares)
    contents.figure("mutations", "Which mutations survive", text, shares, draw)
    what = evolution.outcomes(found)
    sums = evolution.totals(what)
    text = "What became of all children that came up: how many each reason rejected, and by generation. A child that "
    text += "is rejected untrained is drawn again."
    draw = partial(evolution_figures.draw_outcomes, what, sums)
    contents.figure("outcomes", "How children were rejected", text, what, draw)
    contents.frame("outcomes_summary", sums)
    wide = _wide(shares)
    contents.frame("mutations_summary", wide)
    columns = {"mutation": Column("", "mutation", str), "tried": Column("", "tried", fixed(0))}
    for outcome, (title, of) in OUTCOMES.items():
        columns[f"n_{outcome}"] = Column(title, "n", fixed(0))
        columns[outcome] = Column(title, f"% of those {of} [95 %]", percent(1), interval=True)
    made = [table_text.of_columns(records(wide), columns, "mutations_summary", "Mutations", _INTERVALS)]
    return [*made, outcomes(sums)]


def outcomes(sums: pd.DataFrame) -> Table:
    """What became of all children, as of `evolution.totals`."""
    columns = {"outcome": Column("", "outcome", str), "n": Column("", "n", fixed(0))}
    columns |= {"share": Column("", "% of all [95 %]", percent(1), interval=True)}
    own = sums.rename(columns={"low": "share_low", "high": "share_high"})
    title = f"Outcomes of {sums['of'].iloc[0]} children"
    return table_text.of_columns(records(own), columns, "outcomes_summary", title, _INTERVALS)


def _wide(shares: pd.DataFrame) -> pd.DataFrame:
    """Of `evolution.mutations`, one row a mutation: tried, and of each outcome n_OUTCOME, OUTCOME, OUTCOME_low,
    OUTCOME_high."""
    rows: dict[str, dict[str, Any]] = {}
    for each in shares.to_dict("records"):
        row = rows.setdefault(each["mutation"], {"mutation": each["mutation"]})
        if OUTCOMES[each["outcome"]][1] == "tried":
            row["tried"] = each["of"]
        row |= {f"n_{each['outcome']}": each["n"], each["outcome"]: each["share"]}
        row |= {f"{each['outcome']}_low": each["low"], f"{each['outcome']}_high": each["high"]}
    return pd.DataFrame(list(rows.values()))


def _said(found: Evolution, costs: pd.DataFrame) -> list[str]:
    """What it comes to, in sentences."""
    last = costs.iloc[-1]
    done = f"{evolution_words.stands(found)}, in {last['trials']:,} trials "
    done += f"with {words.duration(last['seconds'])} of training."
    return [evolution_words.best(found), done, evolution_words.FLATTERS]


def _commands(found: Evolution, folder: Path) -> list[str]:
    """The comparison of the best on a held-out task, as commands; none before the evolution is complete."""
    best = [c.name for c in found.survivors if c.generation][:BEST]
    if found.left or not best:
        return []
    names = ",".join([*OTHERS, *best])
    study = f"{found.name}-held_out"
    sweep = ["odyssey", "sweep", f"study={study}", "task=TASK", f"variants={names}", f"trials={TRIALS}"]
    sweep += ["space=evolve", "optimizer=adam", "--config-dir", str(folder)]
    again = ["odyssey", "replicate", f"study={study}", "seeds=10"]
    report = ["odyssey", "report", f"study={study}", "adjust=holm"]
    return [*map(shlex.join, (sweep, again, report))]


def _cards(found: Evolution) -> list[dict[str, Any]]:
    """The survivors as the page shows them."""
    shown = found.survivors[:SHOWN]
    equations = _equations(shown)
    made = []
    for place, each in enumerate(shown, 1):
        scores = ", ".join(f"{task} {score:.3f}" for task, score in each.scores.items())
        note = f"{evolution_words.born(each)}; {scores}"
        title = evolution_words.title(each, place)
        made.append({"title": title, "note": note, "equations": equations[each.name]})
    return made


def _equations(candidates: Sequence[Candidate]) -> dict[str, list[str]]:
    """By name the lines of the card of each, with what is added to its parameters at initialisation."""
    made = {}
    for candidate in candidates:
        shown, initial = card(candidate.name, candidate.definition), candidate.definition.get("initial")
        lines = shown["equations"] or [shown["note"]]
        made[candidate.name] = [*lines, *([f"initial: {initial}"] if initial else [])]
    return made
