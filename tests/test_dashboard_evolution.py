"""What the page answers of an evolution: its tree, which of its cells are compared, and how it follows it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import analysis
from analysis import evolution
from analysis.dashboard.source import Source
from analysis.dashboard.views import Views
from search.evolve import lineage
from search.run import cli
from tests.at_rest import answer
from tests.made_evolution import FOUND, add_study, cell, make_evolution
from tests.test_dashboard import Never


def views_of(runs: Path, study: str = "mine") -> Views:
    return Views(Source(study, runs), Never(), live=True)


def cells_of(views: Views) -> dict[str, Any]:
    return views.answer("cells", {})


def test_an_evolution_is_all_of_its_studies(tmp_path: Path) -> None:
    make_evolution(tmp_path, tasks=["jsb", "adding"])
    views = views_of(tmp_path)
    boot = views.answer("boot", {})
    assert [part["study"] for part in boot["parts"]] == ["mine-jsb", "mine-adding"] and boot["title"] == "mine"
    assert boot["commands"] == [f"odyssey evolve study=mine runs={tmp_path}"]
    assert [name for name, _ in boot["plans"]] == ["mine: settings.yaml"]
    alone = views_of(tmp_path, "mine-adding")
    assert alone.title == "mine-adding" and cells_of(alone)["trees"] == cells_of(views)["trees"]
    both = Views(Source(["mine", make_evolution(tmp_path, "mine-too", FOUND[:1])], tmp_path), Never(), live=True)
    assert both.title == "mine, mine-too" and [tree["name"] for tree in cells_of(both)["trees"]] == ["mine", "mine-too"]
    assert views_of(tmp_path, "mine,mine-too").title == both.title


def test_the_tree_is_that_of_the_record(tmp_path: Path) -> None:
    folder = make_evolution(tmp_path)
    (tree,) = cells_of(views_of(tmp_path))["trees"]
    family = evolution.family(evolution.load(folder))
    (figure,) = tree["figures"]
    drawn = pd.DataFrame(figure["data"]["cells"])
    assert list(drawn["cell"]) == list(family["name"]) == ["vanilla", "g001-000", "g001-002", "g002-001"]
    assert list(drawn["says"]) == [
        "vanilla  1.000",
        "2. g001-000  1.200  swap, share",
        "g001-002  0.950  one",
        "1. g002-001  1.300  rewire",
    ]
    edges = pd.DataFrame(figure["data"]["edges"])
    assert edges.to_numpy().tolist() == [
        *([0, 0, 0, 1], [0, 0, 0, 2], [1, 2, 1, 3]),  # down from each parent,
        *([0, 1, 1, 1], [0, 2, 1, 2], [1, 3, 2, 3]),  # and on to the child
    ]
    assert tree["best"] == "g002-001" and tree["cells"][3]["line"] == ["g001-002", "vanilla"]
    last = tree["cells"][3]
    assert last["born"] == "generation 2, from g001-002 by rewire" and last["scores"] == [["jsb", 1.3]]
    assert last["card"]["equations"] == ["y = tanh(W x + R y)"]
    assert "2 of 3 generations are complete: 7 cells came up, 6 of them were trained" in tree["sentences"][0]
    (table,) = tree["tables"]
    assert [row[0] for row in table["rows"]] == ["g002-001", "g001-000", "vanilla", "g001-002"]


@pytest.mark.slow
def test_the_tree_is_vega_lite(tmp_path: Path) -> None:
    import altair

    for name, found in {"one": FOUND[:1], "all": FOUND}.items():
        make_evolution(tmp_path, name, found)
        (figure,) = cells_of(views_of(tmp_path, name))["trees"][0]["figures"]
        data = {key: pd.DataFrame(columns).to_dict("records") for key, columns in figure["data"].items()}
        altair.Chart.from_dict({**figure["spec"], "datasets": data}).to_dict()  # validates


def test_only_the_best_are_compared_and_all_trials_are_there(tmp_path: Path) -> None:
    make_evolution(tmp_path)
    views = views_of(tmp_path)
    (part,) = views.answer("boot", {})["parts"]
    assert part["variants"] == ["vanilla", "g001-000", "g002-001"]
    assert part["note"].startswith("These are 3 of 6 cells of mine: ") and "flatter" in part["note"]
    compared = views.answer("compare", {"part": "mine-jsb/jsb"})
    assert [row[0] for row in compared["tables"][0]["rows"]] == part["variants"]
    assert views.answer("trials", {})["n"] == 12
    trial = {"study": "mine-jsb", "task": "jsb", "variant": "g001-001", "trial": "1"}
    assert views.answer("trial", trial)["card"]["equations"] == ["y = tanh(W x + R y)"]
    (row,) = views.answer("overview", {})["rows"]
    assert (row["variant"], row["finished"], row["planned"], row["mean"]) == ("all 6", 12, 12, None)
    assert row["best_valid"] == pytest.approx(analysis.load("mine-jsb", tmp_path)["valid_score"].min())
    assert "best cell is g002-001" in str(views.answer("overview", {})["said"])


def test_studies_of_no_evolution_are_as_before(tmp_path: Path) -> None:
    folder = make_evolution(tmp_path)
    add_study(folder, "held_out")  # which is named like one of its studies
    views = views_of(tmp_path, "mine-held_out")
    (part,) = views.answer("boot", {})["parts"]
    assert len(part["variants"]) == 6 and part["note"] == ""
    assert cells_of(views)["trees"] == [] and len(cells_of(views)["cards"]) == 6
    assert len(views.answer("overview", {})["rows"]) == 6 and views.answer("overview", {})["said"] == []


def test_cells_that_two_studies_have_are_shown_once(tmp_path: Path) -> None:
    make_evolution(tmp_path, "a", FOUND[:1])
    folder = make_evolution(tmp_path, tasks=["jsb", "adding"], variants=["vanilla", "g001-001"])
    answered = cells_of(views_of(tmp_path))
    assert [card["variant"] for card in answered["cards"]] == ["g001-001"], "vanilla is in the tree"
    (folder / lineage.FILE).unlink()
    cards = cells_of(views_of(tmp_path, "mine-jsb,mine-adding"))["cards"]
    assert [card["variant"] for card in cards] == [each.name for each in FOUND if each.name]


def test_a_generation_that_is_complete_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_evolution(tmp_path, tasks=["jsb", "adding"], found=FOUND[:1])
    begun = [dataclasses.replace(each, scores={}, rejected="") if each.name else each for each in FOUND[1:5]]
    views = views_of(tmp_path)
    read = 0

    def counted(place: Path) -> evolution.Evolution:
        nonlocal read
        read += 1
        return real(place)

    real = evolution.read
    monkeypatch.setattr(evolution, "read", counted)
    first = views.answer("boot", {})
    assert set(views.answer("news", {"since": str(first["version"])})) == {"version", "edition", "trouble"}
    assert read == 0, "what was not written is not read"
    lineage.write(folder, [*FOUND[:1], *begun])  # born
    news = views.answer("news", {"since": str(first["version"])})
    assert news["edition"] == first["edition"] + 1 and read == 1 and "0 of 3 generations" in news["said"][0]
    lineage.write(folder, FOUND[:5])  # complete
    news = views.answer("news", {"since": str(news["version"])})
    assert "1 of 3 generations" in news["said"][0]
    assert [each["name"] for each in cells_of(views)["trees"][0]["cells"]] == ["vanilla", "g001-000"]
    add_study(folder, "adding-more", FOUND[:1])
    news = views.answer("news", {"since": str(news["version"])})
    assert [part["study"] for part in views.answer("boot", {})["parts"]][-1] == "mine-adding-more"
    (folder / lineage.FILE).write_text("{")
    news = views.answer("news", {"since": str(news["version"])})
    assert "lineage.jsonl: expected the record of an evolution" in news["trouble"]
    assert len(cells_of(views)["trees"][0]["cells"]) == 2, "what was known stays"


def test_an_open_study_is_not_opened_again_because_another_has_grown(tmp_path: Path) -> None:
    folder = make_evolution(tmp_path, tasks=["jsb", "adding"])
    source = Source("mine", tmp_path)
    before = {one.plan.study: one.study for one in source._opened}
    version = source.version
    plan = tmp_path / "mine-jsb" / "study.yaml"
    plan.write_text(plan.read_text().replace("trials: 2", "trials: 3"))
    source.look()
    after = {one.plan.study: one.study for one in source._opened}
    assert after["mine-adding"] is before["mine-adding"] and after["mine-jsb"] is not before["mine-jsb"]
    assert source.plans["mine-jsb"].trials == 3
    assert {row["study"] for row in source.rows(version)} == {"mine-jsb"} and folder.exists()


def test_before_the_first_generation_the_page_says_so(tmp_path: Path) -> None:
    make_evolution(tmp_path, found=[cell("vanilla", 0, "", 0.0)])
    views = views_of(tmp_path)
    (tree,) = cells_of(views)["trees"]
    assert tree["cells"] == tree["figures"] == [] and "no generation is complete yet" in tree["sentences"][0]
    assert [card["variant"] for card in cells_of(views)["cards"]] == ["vanilla"]
    assert views.answer("boot", {})["parts"][0]["variants"] == ["vanilla"]
    for name in ("overview", "trials", "compare", "curves", "learning"):
        json.dumps(views.answer(name, {"part": "mine-jsb/jsb"}), allow_nan=False)


def test_a_page_at_rest_has_the_tree(tmp_path: Path) -> None:
    make_evolution(tmp_path)
    live = json.loads(json.dumps(cells_of(views_of(tmp_path))["trees"]))
    for study in ("mine", "mine-jsb"):
        assert answer(analysis.dashboard(study, tmp_path).html, "cells")["trees"] == live


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ("early", "study=early: expected an evolution whose first study has begun"),
        ("bad", "lineage.jsonl: expected the record of an evolution"),
        ("bad-jsb", "lineage.jsonl: expected the record of an evolution"),
        ("other", "settings.yaml: expected the settings of an evolution"),
        ("mine,mine-jsb", "study=mine-jsb: expected studies of different names"),
    ],
)
def test_bad_evolutions_are_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str], study: str, said: str) -> None:
    make_evolution(tmp_path)
    make_evolution(tmp_path, "early", tasks=[])
    (make_evolution(tmp_path, "bad", FOUND[:1]) / lineage.FILE).write_text("[]\n")
    (make_evolution(tmp_path, "other", FOUND[:1]) / "settings.yaml").write_text("generations: 3")
    assert cli.main(["dashboard", f"runs={tmp_path}", f"study={study}"]) == 2
    err = capfd.readouterr().err
    assert said in err and err.count("\n") == 1
