"""What the page shows of an evolution: its family tree with the cells in it, and which of its cells are compared."""

from collections.abc import Callable, Mapping
from typing import Any

from analysis import evolution, evolution_words, table_text
from analysis.dashboard import evolution_charts
from analysis.dashboard.comparing import shown
from analysis.dashboard.figure import plain
from analysis.evolution import SHOWN, Evolution
from analysis.table_text import Column, fixed
from search.evolve.generation import Candidate

Card = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


def said(found: Evolution) -> list[str]:
    """How an evolution stands, in sentences."""
    if not found.candidates:
        return [
            f"{found.name}: no generation is complete yet, not even that of the cells with which it begins "
            f"({', '.join(found.settings['variants'])})."
        ]
    return [f"{found.name}: {evolution_words.stands(found)}.", evolution_words.best(found)]


def tree(found: Evolution, card: Card) -> dict[str, Any]:
    """The family tree of the best `SHOWN`: sentences, the figure, a table, and of each cell in it what one reads.

    Args:
        found: before its first generation is complete the tree is empty.
        card: as of `cards.card`.
    """
    answer = {"name": found.name, "sentences": said(found), "figures": [], "tables": [], "cells": []}
    if not found.candidates:
        return answer
    rows = evolution.family(found, SHOWN)
    by_name = {candidate.name: candidate for candidate in found.candidates if candidate.name}
    members = [by_name[name] for name in rows["name"]]
    places = {each.name: place for place, each in enumerate(found.survivors[:SHOWN], 1)}
    return {
        **answer,
        "sentences": [*said(found), evolution_words.FLATTERS],
        "figures": [evolution_charts.family(rows, found.name, evolution_words.tree(found, len(places))).payload()],
        "tables": [shown(_table(found, members, places))],
        "cells": [
            {
                "name": each.name,
                "title": evolution_words.title(each, places.get(each.name)),
                "born": evolution_words.born(each),
                "line": _line(each, by_name),
                "scores": [[task, plain(score)] for task, score in each.scores.items()],
                "card": card(each.name, each.definition),
            }
            for each in members
        ],
        "best": found.survivors[0].name,
        "relative": f"By the scores of {found.first}, relative to which they are; above 1 is better.",
    }


def _line(each: Candidate, by_name: Mapping[str, Candidate]) -> list[str]:
    """The names of those from which a cell descends, its parent first."""
    names: list[str] = []
    while each.parent in by_name and each.parent not in names:
        names.append(each.parent)
        each = by_name[each.parent]
    return names


def _table(found: Evolution, members: list[Candidate], places: Mapping[str, int]) -> table_text.Table:
    """The cells of the tree in numbers, the best first."""
    ordered = sorted(members, key=lambda each: places.get(each.name, len(places) + 1))
    rows = [
        {"name": each.name, "place": places.get(each.name), "generation": each.generation}
        | {"score": plain(each.fitness), **{f"score_{task}": each.scores.get(task) for task in found.tasks}}
        | {"parent": each.parent or None, "mutations": ", ".join(each.mutations) or None}
        for each in ordered
    ]
    columns = {"name": Column("", "name", str), "place": Column("", "place", fixed(0))}
    columns |= {"generation": Column("", "generation", fixed(0)), "score": Column("relative score", "worst", fixed(3))}
    columns |= {f"score_{task}": Column("relative score", task, fixed(3)) for task in found.tasks}
    columns |= {"parent": Column("", "parent", str), "mutations": Column("", "mutations", str)}
    note = f"Relative to {found.first}. Without a place: those that are no longer among the best, from which others "
    note += "descend."
    return table_text.of_columns(rows, columns, f"family_{found.name}", "The cells of the tree", note)
