"""odyssey evolve: who comes into a generation, who stays, and that an evolution is the same however it is run."""

import dataclasses
import itertools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from search import cells
from search.cells.canonical import canonical
from search.errors import UserError
from search.evolve import evolution, generation, lineage
from search.evolve.evolution import Rules
from search.evolve.generation import Candidate
from search.run import evolve as command
from search.run.cli import main
from search.study.plan import read_plan

VARIANTS = {"gru": {"cell": "gru"}, "np": cells.variants()["np"]}
RULES = Rules(
    seed=1,
    generations=3,
    children=5,
    survivors=3,
    more=True,
    gate="gate",
    gate_score=90.0,
    tasks={"a": True, "b": False},
    keep=0.6,
)
FEW = dataclasses.replace(RULES, more=False)


class Trainer:
    """Scores that follow from a cell and a task, as those of complete trials do."""

    def __init__(self, interrupted_at: int | None = None):
        self.interrupted_at, self.calls = interrupted_at, 0
        self.trained: dict[str, dict[str, float]] = {}

    def __call__(
        self, task: str, variants: Mapping[str, Mapping[str, Any]], more: bool = False
    ) -> Mapping[str, float] | None:
        self.calls += 1
        if self.calls == self.interrupted_at:
            return None
        scores = self.trained.setdefault(f"{task}-more" if more else task, {})
        for name, definition in variants.items():
            drawn = int(canonical(cells.define(dict(definition)))[:4], 16) * (1 + len(task) + 7 * more) % 1000
            scores[name] = 10.0 if name == "gru" else 5.0 + drawn / 10.0
        return scores


def evolved(folder: Path, rules: Rules = RULES, trainer: Trainer | None = None) -> list[Candidate] | None:
    return evolution.run(rules, VARIANTS, trainer or Trainer(), folder, lambda text: None)


@pytest.mark.slow
def test_an_evolution_is_the_same_wherever_it_was_interrupted(tmp_path: Path) -> None:
    rules = dataclasses.replace(RULES, generations=2)
    whole = evolved(tmp_path / "whole", rules)
    assert whole == lineage.read(tmp_path / "whole") and whole
    assert {c.generation for c in whole} == {0, 1, 2} and {"task a", ""} <= {c.rejected for c in whole}
    text = (tmp_path / "whole" / lineage.FILE).read_bytes()
    for number in itertools.count(1):
        if evolved(tmp_path / "cut", rules, Trainer(interrupted_at=number)) is not None:
            break
        shutil.copytree(tmp_path / "cut", tmp_path / "again")
        assert evolved(tmp_path / "again", rules) == whole
        assert (tmp_path / "again" / lineage.FILE).read_bytes() == text
        shutil.rmtree(tmp_path / "again")
        if number % 2:  # goes on with a record, or without
            shutil.rmtree(tmp_path / "cut")
    assert number > 6 and (tmp_path / "cut" / lineage.FILE).read_bytes() == text


def test_more_generations_add_to_what_is_there(tmp_path: Path) -> None:
    whole = evolved(tmp_path / "whole")
    grown = evolved(tmp_path / "grown", dataclasses.replace(RULES, generations=1)) or []
    assert [c.form for c in grown] == [c.form for c in whole or [] if c.generation <= 1]
    assert evolved(tmp_path / "grown") == whole


def test_another_seed_is_another_evolution(tmp_path: Path) -> None:
    one, other = evolved(tmp_path / "1"), evolved(tmp_path / "2", dataclasses.replace(RULES, seed=2))
    assert one and other and [c.form for c in one] != [c.form for c in other]


def test_candidates_are_trained_as_far_as_they_keep_up(tmp_path: Path) -> None:
    trainer = Trainer()
    found = evolved(tmp_path, FEW, trainer)
    assert found and trainer.trained.keys() == {"gate", "a", "b"}
    named = [c for c in found if c.name]
    assert len({c.form for c in named}) == len(named) and len({c.name for c in named}) == len(named)
    for c in named:
        on = {task for task, scores in trainer.trained.items() if c.name in scores}
        if c.generation == 0:
            assert c.rejected == "" and on == {"gate", "a", "b"}
            continue
        expected = {"task gate": {"gate"}, "task a": {"gate", "a"}}.get(c.rejected, {"gate", "a", "b"})
        assert on == expected and c.scores.keys() == on - {"gate"}
        assert (trainer.trained["gate"][c.name] > 90.0) == (c.rejected == "task gate")
        if c.scores:
            assert c.scores["a"] == pytest.approx((100.0 - trainer.trained["a"][c.name]) / 90.0)
            assert (c.rejected == "") == (c.fitness >= 0.6)
        if c.scores.keys() == {"a", "b"}:
            assert c.scores["b"] == pytest.approx(10.0 / trainer.trained["b"][c.name])
            assert c.fitness == min(c.scores.values())


def test_parents_are_the_best_of_the_generations_before(tmp_path: Path) -> None:
    found = evolved(tmp_path, FEW) or []
    for number in range(1, RULES.generations + 1):
        before = [c for c in found if c.generation < number]
        parents = {c.name for c in generation.best(before, RULES.survivors)}
        assert len(parents) <= 3 and {c.parent for c in found if c.generation == number} <= parents
        assert max(c.fitness for c in before if not c.rejected) in [c.fitness for c in before if c.name in parents]


def test_who_may_be_a_parent_is_trained_more(tmp_path: Path) -> None:
    trainer = Trainer()
    found = evolved(tmp_path, dataclasses.replace(RULES, children=8, keep=0.0), trainer) or []
    assert all(c.proven for c in generation.best(found, RULES.survivors))
    proven = {c.name for c in found if c.proven}
    assert 3 <= len(proven) < sum(c.name != "" and not c.rejected for c in found)
    for task in RULES.tasks:
        few, many = trainer.trained[task], trainer.trained[f"{task}-more"]
        assert many.keys() == proven | {"gru"}
        for c in found:
            best = {name: min(few[name], many[name]) for name in proven}
            if c.name in proven:
                score = generation.relative(best[c.name], min(few["gru"], many["gru"]), RULES.tasks[task])
                assert c.scores[task] == pytest.approx(score)
    assert {c.parent for c in found if c.generation} <= proven


def test_no_child_is_as_one_before_under_other_names() -> None:
    parents = generation.first({"rnn": {"equations": "y = tanh(W x + R y)"}})
    known = {parents[0].form}
    for number in (1, 2, 3):
        born = generation.children(0, number, parents, known, 12)
        own = [c for c in born if c.name]
        assert len(own) == 12 == len({c.form for c in own}) and not {c.form for c in own} & known
        known |= {c.form for c in own}
        assert all(c.rejected for c in born if not c.name)
        again = generation.children(0, number, parents, known, 12)  # has the same drawings before it
        assert {c.form for c in own} <= {c.form for c in again if c.rejected == "duplicate"}
        parents = [*parents, *own]


@pytest.mark.parametrize(
    "score, baseline, percent, expected",
    [
        (10.0, 10.0, True, 1.0),
        (0.0, 50.0, True, 2.0),
        (100.0, 50.0, True, 0.0),
        (4.0, 8.0, False, 2.0),
        (0.0, 0.0, False, 1.0),
        (None, 8.0, False, 0.0),
    ],
)
def test_scores_are_relative_to_the_baseline(
    score: float | None, baseline: float, percent: bool, expected: float
) -> None:
    assert generation.relative(score, baseline, percent) == pytest.approx(expected, abs=1e-9)


def test_a_baseline_that_does_not_pass_the_gate_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gate=gate: gru, with which the others are compared, comes to 10: expected at"):
        evolved(tmp_path, dataclasses.replace(RULES, gate_score=9.0))


TASKS = {
    "short_adding": {"name": "adding", "length": 8, "n_sequences": 8},
    "short_copy": {"name": "copy", "module": "search.tasks.copying", "length": 21, "n_sequences": 4},
}
WORDS = [
    "tasks=short_adding",
    "gate=short_copy",
    "gate_score=100",
    "generations=2",
    "children=3",
    "trials=2",
    "keep=0.5",
]
WORDS += [
    "epochs=1",
    "more=1",
    "survivors=2",
    "engine=reference",
    "threads=1",
    "space.hidden_size.low=4",
    "space.hidden_size.high=4",
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small tasks."""
    monkeypatch.chdir(tmp_path)
    for name, definition in TASKS.items():
        (tmp_path / "conf" / "task").mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / "task" / f"{name}.yaml").write_text(json.dumps(definition))
    return tmp_path


def run(study: str, *words: str) -> int:
    return main(["evolve", f"study={study}", *WORDS, *words, "--config-dir", "conf"])


def record(study: str) -> bytes:
    return Path("runs", study, lineage.FILE).read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_the_command_goes_on_where_it_was_interrupted(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("whole", "population=1") == 0
    real = command.trained
    for number in (2, 4):  # studies, before which it is interrupted
        calls = itertools.count(1)

        def trained(*args: Any, stop: int = number, calls: Any = calls) -> bool:
            return next(calls) != stop and real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(command, "trained", trained)
            capfd.readouterr()
            assert run("cut") == 130
            assert "the same command goes on:\n  odyssey evolve study=cut" in capfd.readouterr().err
    assert run("cut") == 0
    assert record("cut") == record("whole")
    assert main(["evolve", "study=cut", "--config-dir", "conf"]) == 0, "by its own settings"
    assert record("cut") == record("whole")

    found = lineage.read(Path("runs", "cut"))
    plans = {task: read_plan(Path("runs", f"cut-{task}")) for task in TASKS}
    assert all(plan.paired and plan.trials == 2 for plan in plans.values())
    more = read_plan(Path("runs", "cut-short_adding-more"))
    assert more.trials == 1 and {c.name for c in found if c.proven} | {"gru"} == more.variants.keys()
    assert list(plans["short_copy"].variants) == [c.name for c in found if c.name]
    assert "generation 2 of 2" in (err := capfd.readouterr().err) and "runs/cut: complete" in err

    best = [c.name for c in generation.best((c for c in found if c.generation), 5)]
    assert sorted(path.stem for path in Path("runs/cut/variant").iterdir()) == sorted(best)
    assert main(["cell", *best[:1], "--config-dir", "runs/cut"]) == 0


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_the_command_gives_the_same_by_two_workers() -> None:
    assert run("one", "generations=1") == 0
    assert run("two", "generations=1", "launcher.workers=2") == 0
    assert record("one") == record("two")


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_an_evolution_grows_by_generations_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("s", "generations=1") == 0
    before = record("s")
    capfd.readouterr()
    assert run("s", "children=4", "generations=1") == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "study=s: exists with other settings: children: 3 -> 4; use" in err
    assert record("s") == before
    assert run("s", "generations=2") == 0
    assert [c.form for c in lineage.read(Path("runs", "s"))][: before.count(b"\n")] == [
        json.loads(line)["form"] for line in before.splitlines()
    ]
    assert record("s").count(b"\n") > before.count(b"\n")


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_tasks_and_gate_take_options_which_stay(capfd: pytest.CaptureFixture[str]) -> None:
    adding = "tasks=[{name: short_adding, n_sequences: 12, length: 8}]"
    words = ["gate={name: short_copy, length: 22}", "generations=1", "children=1", "more=0"]
    assert run("s", adding, *words) == 0
    plans = {task: read_plan(Path("runs", f"s-{task}")).task for task in TASKS}
    assert plans["short_adding"] == TASKS["short_adding"] | {"n_sequences": 12}
    assert plans["short_copy"] == TASKS["short_copy"] | {"length": 22}
    before = record("s")

    assert run("s", "tasks=[{length: 8, n_sequences: 12, name: short_adding}]", *words) == 0, "in another order"
    assert main(["evolve", "study=s", "--config-dir", "conf"]) == 0, "by its own settings"
    for other in (["tasks=short_adding"], ["tasks=[{name: short_adding, n_sequences: 13}]"], ["gate=short_copy"]):
        capfd.readouterr()
        assert run("s", adding, *words, *other) == 2
        err = capfd.readouterr().err
        assert err.count("\n") == 1 and "study=s: exists with other settings: " in err and "'name': 'short_" in err
    assert record("s") == before


@pytest.mark.slow
@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "words, expected",
    [
        (["tasks=[{name: short_adding, n_sequences: many}]"], "tasks=short_adding: task.n_sequences=many: expected an"),
        (["tasks=[{name: short_adding, size: 3}]"], "tasks=short_adding: task.size: no such key; expected one of"),
        (["gate={name: short_copy, length: 1}"], "gate=short_copy: task.length=1: expected an integer"),
        (["gate={name: nothing}"], "tasks=nothing: expected names among"),
        (["tasks=[{n_sequences: 5}]"], "expected a list of names of tasks, each once; with options as in"),
        (
            ["tasks={name: short_adding, length: 9}"],
            "tasks={name: short_adding, length: 9}: expected a value of the same kind",
        ),
        (["tasks=[short_adding,{name: short_adding, length: 9}]"], "expected a list of names of tasks, each once"),
        (["tasks=short_adding,{length: 9}"], "expected a list of names of tasks, each once"),
        (["gate=[short_copy]"], "expected the name of a task, with options as in {name: adding, length: 50}; or null"),
        (["tasks=nothing"], "tasks=nothing: expected names among"),
        (["tasks=short_copy"], "gate=short_copy: expected none of tasks"),
        (["variants=gru,mut2"], "variants=gru,mut2: expected cells that are not the same"),
        (["variants=gru,irnn"], "variants=irnn: expected a cell that equations alone can say"),
        (["variants=grue"], "variants=grue: expected names among"),
        (["children=0"], "children=0: expected a whole number of at least 1"),
        (["keep=-1"], "keep=-1: expected a number of at least 0"),
        (["task=jsb"], "task: no such key; did you mean tasks?"),
        (["gate_score=0"], "gate=short_copy: gru, with which the others are compared, comes to"),
    ],
)
def test_bad_input_gets_one_line(words: list[str], expected: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("s", *words) == 2
    err = capfd.readouterr().err
    assert expected in err.splitlines()[-1] and "Traceback" not in err
    if words != ["gate_score=0"]:
        assert err.count("\n") == 1 and not Path("runs").exists()


@pytest.mark.usefixtures("place")
def test_the_name_of_a_study_of_a_sweep_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["task=adding", "task.length=8", "task.n_sequences=4", "epochs=1", "trials=1", "variants=gru"]
    assert main(["sweep", "study=s", *words, "engine=reference", "space.hidden_size.high=20"]) == 0
    capfd.readouterr()
    assert run("s") == 2
    assert "study=s: expected a name that no odyssey sweep has given" in capfd.readouterr().err
