"""The report of an evolution: its numbers are those of its record and its trials, and it is one page."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis import evolution, evolution_figures, evolution_report, stats, style
from analysis.evolution import ANY, Evolution
from search.errors import UserError
from search.evolve import lineage
from search.evolve.generation import Candidate
from search.run.cli import main
from tests.at_rest import answer
from tests.test_evolve import TASKS, WORDS

RNN = {"equations": "y = tanh(W x + R y)"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an evolution, ``runs/s``."""
    folder = tmp_path_factory.mktemp("evolution")
    (folder / "conf" / "task").mkdir(parents=True)
    for name, definition in TASKS.items():
        (folder / "conf" / "task" / f"{name}.yaml").write_text(json.dumps(definition))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["evolve", "study=s", *WORDS, "children=2", "--config-dir", "conf"]) == 0
        yield folder


@pytest.fixture
def found(place: Path, monkeypatch: pytest.MonkeyPatch) -> Evolution:
    monkeypatch.chdir(place)
    return evolution.load(Path("runs/s"))


def born(name: str, parent: str, mutations: str, rejected: str = "", score: float = 0.0) -> Candidate:
    """A child; ``name`` is empty if it was rejected before training."""
    scores = {"a": score} if score else {}
    return Candidate(name, 1 + (parent[0] == "g"), parent, tuple(mutations.split()), RNN, "", rejected, scores)


MADE = [
    Candidate("rnn", 0, "", (), RNN, "", scores={"a": 1.0}),
    born("", "rnn", "swap", "dead"),
    born("", "rnn", "swap one swap", "duplicate"),
    born("g001-000", "rnn", "swap share", score=1.2),
    born("g001-001", "rnn", "share", "task gate"),
    born("g001-002", "rnn", "one", "task a", 0.3),
    born("g002-000", "g001-000", "one", score=1.1),
    born("g002-001", "g001-000", "share", score=0.9),
]


@pytest.fixture
def made(found: Evolution) -> Evolution:
    """An evolution whose record one can count."""
    settings = {**found.settings, "variants": ["rnn"], "tasks": ["a"], "gate": "gate", "survivors": 2, "generations": 2}
    return Evolution(Path("made"), settings, MADE)


@pytest.mark.slow
def test_what_became_of_each_mutation_is_counted(made: Evolution) -> None:
    table = evolution.mutations(made).set_index(["mutation", "outcome"])
    counts = {key: (int(row["n"]), int(row["of"])) for key, row in table.iterrows()}
    assert counts[ANY, "trained"] == (5, 7) and counts[ANY, "through"] == (3, 5)
    assert counts["swap", "trained"] == (1, 3), "twice in one child counts once"
    assert counts["share", "trained"] == (3, 3) and counts["share", "through"] == (2, 3)
    assert counts["share", "parent"] == (1, 3) and counts["share", "survivor"] == (1, 3)
    assert counts["one", "trained"] == (2, 3) and counts["one", "survivor"] == (1, 2)
    assert counts["bias", "trained"] == (0, 0) and pd.isna(table.loc[("bias", "trained"), "share"])
    row = table.loc[("swap", "trained")]
    assert (row["share"], row["low"], row["high"]) == pytest.approx(stats.proportion(1, 3))


def test_the_interval_of_a_proportion_is_wilsons() -> None:
    estimate, low, high = stats.proportion(3, 10)
    z = 1.959963984540054
    middle, half = (0.3 + z * z / 20) / (1 + z * z / 10), z / (1 + z * z / 10) * (0.021 + z * z / 400) ** 0.5
    assert (estimate, low, high) == pytest.approx((0.3, middle - half, middle + half))
    assert all(pd.isna(list(stats.proportion(0, 0))))


@pytest.mark.slow
def test_every_child_has_one_outcome(made: Evolution) -> None:
    table = evolution.outcomes(made)
    sums = evolution.totals(table).set_index("outcome")
    assert sums["n"].to_dict() == {"dead": 1, "duplicate": 1, "task gate": 1, "task a": 1, "came through": 3}
    assert sums["stage"].to_dict()["task gate"] == "rejected by a task" and set(sums["of"]) == {7}
    by_generation = table.groupby("generation")["n"].sum()
    assert by_generation.to_dict() == {1: 5, 2: 2}


def test_the_family_has_all_from_which_the_survivors_descend(made: Evolution) -> None:
    tree = evolution.family(made)
    assert list(tree["name"]) == ["rnn", "g001-000", "g002-000"]
    assert list(tree["place"].fillna(0)) == [0, 1, 2] and list(tree["parent"]) == ["", "rnn", "g001-000"]
    assert list(evolution.family(made, 1)["name"]) == ["rnn", "g001-000"]


def test_the_best_stand_against_what_was_spent_by_then(made: Evolution) -> None:
    names = [c.name for c in MADE if c.name]
    costs = pd.DataFrame({"trials": [2, 2, 1, 2, 3, 3], "seconds": [1.0, 1.0, 0.5, 1.0, 2.0, 2.0]}, index=names)
    table = evolution.progress(made, costs)
    assert list(table["trials"]) == [2, 7, 13] and list(table["seconds"]) == [1.0, 3.5, 7.5]
    assert list(table["best"]) == ["rnn", "g001-000", "g001-000"] and list(table["score"]) == [1.0, 1.2, 1.2]
    assert pd.isna(table["last"][0]) and list(table["last"][1:]) == [1.0, 1.1]


def test_costs_are_those_of_all_trials_of_all_tasks(found: Evolution) -> None:
    names = ["s-short_copy", "s-short_adding", "s-short_adding-more"]
    trials = analysis.load(names)
    costs = evolution.costs(found)
    last = evolution.progress(found, costs).iloc[-1]
    assert last["trials"] == len(trials) and last["seconds"] == pytest.approx(trials["train_seconds"].sum())
    gru = int((trials["variant"] == "gru").sum())
    assert costs.loc["gru", "trials"] == gru == 5


@pytest.mark.usefixtures("found")
def test_the_report_is_a_page_with_figures_and_tables(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "study=s"]) == 0
    folder = Path("runs/s/report")
    assert capfd.readouterr().out == f"{folder / 'index.html'}\n"
    for name in ("family", "progress", "mutations", "outcomes"):
        assert all((folder / f"{name}.{end}").stat().st_size for end in ("png", "pdf", "svg", "csv"))
    for name in ("survivors", "mutations_summary", "outcomes_summary"):
        assert all((folder / f"{name}.{end}").stat().st_size for end in ("md", "tex", "csv"))
    page = (folder / "index.html").read_text()
    survivors = pd.read_csv(folder / "survivors.csv")
    assert len(survivors) == 2 and page.count("data:image/png;base64,") == 4
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    for name in survivors["name"]:
        assert f". {name}" in page
    record = {c.name: c for c in lineage.read(Path("runs/s"))}
    first = record[survivors["name"][0]]
    assert survivors["score"][0] == pytest.approx(first.fitness)
    best = [name for name in survivors["name"] if name.startswith("g0")]
    assert f"variants=vanilla,gru,mut1,mut2,mut3,{','.join(best)} " in page


@pytest.mark.slow
def test_the_report_of_a_task_compares_the_best_and_has_the_tree(found: Evolution) -> None:
    assert main(["report", "study=s-short_adding"]) == 0
    folder = Path("runs/s-short_adding/report")
    trials = pd.read_csv(folder / "trials.csv")
    compared = pd.read_csv(folder / "comparison_adding.csv")
    assert set(compared["variant"]) == found.shown < set(trials["variant"])
    n, of = len(found.shown), trials["variant"].nunique()
    assert f"adding, {n} of {of} variants: " in (folder / "captions.md").read_text()
    (tree,) = answer((folder / "index.html").read_text(), "cells")["trees"]
    assert {c.name for c in found.survivors} <= {cell["name"] for cell in tree["cells"]}


def test_a_generation_under_way_is_left_out(found: Evolution, tmp_path: Path) -> None:
    runs = shutil.copytree("runs", tmp_path / "runs")
    record = lineage.read(runs / "s")
    begun = [dataclasses.replace(c, rejected="", scores={}, proven=False) if c.name else c for c in record]
    lineage.write(runs / "s", [old if old.generation < 2 else new for old, new in zip(record, begun, strict=True)])
    now = evolution.load(runs / "s")
    assert now.left == 1 and now.generations == 1
    assert [c for c in found.candidates if c.generation < 2] == now.candidates
    lineage.write(runs / "s", [old if not old.generation else new for old, new in zip(record, begun, strict=True)])
    made = evolution_report.report(runs / "s", None, lambda text: None)
    assert {"family.png", "progress.png", "survivors.md", "index.html"} <= made.keys() and "mutations.png" not in made
    page = made["index.html"].decode()
    assert "0 of 2 generations are complete" in page and "odyssey sweep" not in page
    lineage.write(runs / "s", begun)
    with pytest.raises(UserError, match="study=s: expected an evolution of which a gen"):
        evolution.load(runs / "s")


@pytest.mark.usefixtures("found")
@pytest.mark.parametrize("words", [["select=test"], ["adjust=holm"]])
def test_what_says_nothing_of_an_evolution_is_refused(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "study=s", *words]) == 2
    err = capfd.readouterr().err
    assert err == f"odyssey: {words[0]}: expected a study, which an evolution is not; its tasks are, STUDY-TASK\n"


@pytest.mark.slow
def test_an_evolution_is_published_and_restored(found: Evolution, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--config-dir", "conf"]
    assert main(["publish", "study=s", "to=reference"]) == 0
    Path("reference/s/variant/old.yaml").write_text("{}")  # that was among the best
    assert main(["publish", "study=s", "to=reference"]) == 0
    there = evolution.load(Path("reference/s"))
    assert there.candidates == found.candidates and there.settings == {**found.settings, "storage": None}
    assert not list(Path("reference/s/variant").glob("old*"))
    pd.testing.assert_frame_equal(evolution.costs(there), evolution.costs(found))
    assert main(["report", "study=reference/s"]) == 0
    capfd.readouterr()
    assert main(["restore", "study=reference/s", "runs=again", *words]) == 0
    assert capfd.readouterr().err.endswith("Next: odyssey evolve study=s runs=again\n")
    assert main(["evolve", "study=s", "runs=again", *words]) == 0, "complete"
    again = evolution.load(Path("again/s"))
    assert again.candidates == found.candidates
    pd.testing.assert_frame_equal(evolution.costs(again), evolution.costs(found))
    assert {path.name for path in Path("again/s/variant").iterdir()} == {
        path.name for path in Path("runs/s/variant").iterdir()
    }
    capfd.readouterr()
    assert main(["restore", "study=reference/s", "runs=again", *words]) == 2
    assert "a study that is not in" in capfd.readouterr().err


def test_figures_of_children_of_whom_none_was_trained_can_be_drawn(made: Evolution) -> None:
    alone = dataclasses.replace(made, candidates=MADE[:3])
    table = evolution.mutations(alone)
    assert table.loc[table["outcome"] == "through", "share"].isna().all()
    outcomes = evolution.outcomes(alone)
    costs = pd.DataFrame({"trials": [2], "seconds": [1.0]}, ["rnn"])
    for figure in (
        evolution_figures.draw_mutations(table),
        evolution_figures.draw_outcomes(outcomes, evolution.totals(outcomes)),
        evolution_figures.draw_family(evolution.family(alone)),
        evolution_figures.draw_progress(evolution.progress(alone, costs)),
    ):
        assert style.files(figure, ("png",))["png"]


def test_long_lists_of_mutations_stay_within_the_figure() -> None:
    rows = [{"name": "gru", "generation": 0, "parent": "", "mutations": "", "score": 1.0, "place": 2}]
    long = "insert_activation, insert_operation, insert_activation, insert_product"
    rows.append({"name": "g003-001", "generation": 3, "parent": "gru", "mutations": long, "score": 1.1, "place": 1})
    figure = evolution_figures.draw_family(pd.DataFrame(rows))
    figure.canvas.draw()
    width = figure.bbox.width
    assert all(text.get_window_extent().x1 <= width for text in figure.axes[0].texts)
