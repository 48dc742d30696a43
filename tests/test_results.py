"""The published studies, and the pages that say what came of them."""

import shutil
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest
import yaml

from analysis import load_curves, style
from analysis.frames import is_paired
from analysis.results import FIGURES, OTHERS, PAGES, PAPER, REFERENCE, Results, filled
from analysis.table_text import Table, markdown
from search.errors import UserError
from search.study import archive
from search.study.archive import RECORD_FILE, TRIALS_FILE, Archive

STUDIES = Results().studies
QUICK = ("record", "comparison", "choices", "halving")  # how the names of tables begin that need no forest


@pytest.fixture(scope="module")
def published() -> Results:
    return Results()


@pytest.mark.parametrize("study", STUDIES)
def test_every_planned_trial_is_there_once_with_its_whole_curve(published: Results, study: str) -> None:
    plan = published.plan(study)
    trials = published.trials(study)
    own = trials[trials["variant"].isin(plan.variants)].astype({"variant": str})
    assert len(own) == plan.total and not own[["variant", "trial"]].duplicated().any()
    ended = Archive(REFERENCE / study).record["ended"]
    waiting = plan.total - sum(ended.values())
    assert own["status"].value_counts().to_dict() == ended | ({"waiting": waiting} if waiting else {})
    own = own[own["status"] != "waiting"]
    assert set(own["status"]) <= {"finished", "diverged"}
    assert set(own["data_hash"]) == {plan.data_hash} and is_paired(trials) == (len(plan.variants) > 1)
    counted = load_curves(REFERENCE / study).astype({"variant": str}).groupby(["variant", "trial"]).size()
    epochs = own.astype({"trial": "int64"}).set_index(["variant", "trial"])
    expected = epochs["epochs"].astype(int) - (epochs["status"] == "diverged")
    pd.testing.assert_series_equal(
        counted.sort_index(), expected[expected > 0].sort_index(), check_names=False, check_index_type=False
    )


def test_tables_of_the_page_are_those_of_the_published_trials(published: Results) -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    assert text == filled(text, published.blocks(), lambda name: name.startswith(QUICK))


@pytest.mark.slow
def test_so_are_those_that_need_forests(published: Results) -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text == filled(text, published.blocks()), f"{page}: python -m analysis.results brings it up to date"
    assert {path.stem for path in FIGURES.iterdir()} == published.figures().keys()
    for draw in published.figures().values():
        style.files(draw(), ["png"])


def test_the_best_score_on_jsb_is_below_8_5(published: Results) -> None:
    assert published.compared(PAPER[0])["best_test_score"].min() < 8.5


def test_other_cells_are_compared_with_vanilla_in_pairs(tmp_path: Path) -> None:
    """As another study would be that has the trials of np under another name."""
    others = tmp_path / OTHERS
    shutil.copytree(REFERENCE / PAPER[0], tmp_path / PAPER[0])
    shutil.copytree(REFERENCE / PAPER[0], others)
    trials = {(task, "gru"): own for (task, name), own in Archive(others).trials.items() if name == "np"}
    content = archive.encoded_trials(trials)
    (others / TRIALS_FILE).write_bytes(content)
    for name, more in (
        ("study.yaml", {"study": OTHERS, "variants": {"gru": {"cell": "gru"}}, "cells": {}}),
        (RECORD_FILE, {"sha256": Archive(others).record["sha256"] | {TRIALS_FILE: sha256(content).hexdigest()}}),
    ):
        (others / name).write_text(yaml.safe_dump(yaml.safe_load((others / name).read_text()) | more))
    table = Results(tmp_path).compared(OTHERS).set_index("variant")
    theirs = Results().compared(PAPER[0]).set_index("variant")
    assert list(table.index) == ["vanilla", "gru"] and table["design"]["gru"] == "paired"
    for name in ("best_mean", "difference", "difference_se", "n_compared"):
        assert table[name]["gru"] == theirs[name]["np"]


def test_a_page_is_filled_where_it_says_and_nowhere_else() -> None:
    table = Table("t", "T", [("", "a"), ("", "b")], [["1", "2"]])
    page = "x\n<!-- begin t -->\nold\n<!-- end -->\ny\n"
    once = filled(page, {"t": lambda: table})
    assert once == f"x\n<!-- begin t -->\n{markdown(table)}<!-- end -->\ny\n"
    assert filled(once, {"t": lambda: table}) == once
    assert filled(page, {}, lambda name: name != "t") == page
    with pytest.raises(UserError, match="table=t: expected one of u"):
        filled(page, {"u": lambda: table})
