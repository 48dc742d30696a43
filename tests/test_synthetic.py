"""The generated tasks, and a task of a user's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from search.base.randomness import epoch_order
from search.engines.reference import ReferenceEngine
from search.errors import UserError
from search.tasks import Split, Task, load
from search.tasks.task import SPLITS
from tests.conftest import make_member

CONFIGS = Path(__file__).parents[1] / "configs" / "task"
# Name, shortest length, and a learning rate that is good when sequences are that short.
SHORTEST = [("adding", 2, 0.05), ("copy", 21, 0.02), ("temporal_order", 10, 0.05)]
NAMES = [name for name, *_ in SHORTEST]


def definition(name: str, **settings: Any) -> dict[str, Any]:
    """What the YAML file says, but for some settings."""
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) | settings


def sequences(task: Task) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets of every split."""
    splits = [task.splits[name] for name in SPLITS]
    return [pair for split in splits for pair in zip(split.inputs, split.targets, strict=True)]


def same(one: Split, other: Split) -> bool:
    """Whether their first sequences agree as far as both go."""
    return all(np.array_equal(a[:10], b[:10]) for a, b in zip(one.inputs, other.inputs, strict=False))


def symbols(inputs: np.ndarray) -> np.ndarray:
    assert np.isin(inputs, (0, 1)).all() and (inputs.sum(axis=1) == 1).all()
    return inputs.argmax(axis=1)


def error(name: str, **settings: Any) -> str:
    with pytest.raises(UserError) as raised:
        load(definition(name, **settings))
    text = str(raised.value)
    assert "\n" not in text
    return text


# Each problem


def test_adding_asks_at_the_last_step_for_the_sum_of_the_two_marked_numbers() -> None:
    task = load(definition("adding", length=40, n_sequences=200))
    for inputs, targets in sequences(task):
        numbers, markers = inputs.T
        assert ((numbers >= 0) & (numbers < 1)).all()
        first, second = np.flatnonzero(markers)
        assert first < len(inputs) // 2 <= second and markers[[first, second]].tolist() == [1, 1]
        assert targets.shape == (len(inputs), 1) and np.isnan(targets[:-1]).all()
        assert targets[-1, 0] == numbers[first] + numbers[second]


def test_adding_answered_by_1_scores_a_twelfth() -> None:
    answers = np.array([targets[-1, 0] for _, targets in sequences(load(definition("adding", n_sequences=4000)))])
    assert 0.5 * np.mean((answers - 1) ** 2) == pytest.approx(1 / 12, rel=0.05)


@pytest.mark.parametrize("length", [21, 22, 60])
def test_copy_asks_for_the_first_ten_symbols_after_the_delimiter(length: int) -> None:
    for inputs, targets in sequences(load(definition("copy", length=length, n_sequences=40))):
        seen = symbols(inputs)
        assert len(seen) == len(targets) == length
        assert (seen[:10] < 8).all()
        assert seen[10:].tolist() == [8] * (length - 21) + [9] + [8] * 10
        assert targets.tolist() == [-1] * (length - 10) + seen[:10].tolist()


@pytest.mark.parametrize("length", [10, 40, 100])
def test_temporal_order_asks_at_the_last_step_for_the_order_of_x_and_y(length: int) -> None:
    classes = {"XX": 0, "XY": 1, "YX": 2, "YY": 3}
    places, seen = set(), set()
    for inputs, targets in sequences(load(definition("temporal_order", length=length, n_sequences=400))):
        text = "".join("abcdEBXY"[k] for k in symbols(inputs))
        first, second = (t for t, symbol in enumerate(text) if symbol in "XY")
        assert text[0] == "E" and text[-1] == "B" and not set(text[1:-1]) & set("EB")
        assert targets[:-1].tolist() == [-1] * (len(text) - 1)
        assert targets[-1] == classes[text[first] + text[second]]
        places |= {("first", first), ("second", second)}
        seen.add(int(targets[-1]))
    assert seen == {0, 1, 2, 3}
    assert {t for which, t in places if which == "first"} == set(range(length // 10, length // 5 + 1))
    assert {t for which, t in places if which == "second"} == set(range(length // 2, 3 * length // 5 + 1))


@pytest.mark.parametrize("name", ["adding", "temporal_order"])
def test_lengths_vary_by_a_tenth(name: str) -> None:
    lengths = {len(inputs) for inputs, _ in sequences(load(definition(name, length=50, n_sequences=300)))}
    assert lengths == set(range(50, 56))


# What holds for all of them


@pytest.mark.parametrize(
    ("name", "loss", "widths", "score"),
    [
        ("adding", "squared", (2, 1), "mean squared error / 2"),
        ("copy", "categorical", (10, 8), "wrong symbols [%]"),
        ("temporal_order", "categorical", (8, 4), "wrong sequences [%]"),
    ],
)
def test_task_is_what_its_file_says(name: str, loss: str, widths: tuple[int, int], score: str) -> None:
    settings = definition(name)
    task = load(settings)
    assert (task.name, task.loss, task.score) == (name, loss, score)
    assert (task.n_inputs, task.n_outputs) == widths
    assert [len(task.splits[split].inputs) for split in SPLITS] == [settings["n_sequences"] * k // 4 for k in (4, 1, 1)]
    assert "generated" in str(task.source["source"])
    assert [task.source[key] for key in ("length", "seed")] == [settings["length"], settings["seed"]]
    kind = np.float32 if loss == "squared" else np.int32
    assert all(x.dtype == np.float32 and t.dtype == kind for x, t in sequences(task))
    per_sequence = 10 if name == "copy" else 1
    assert task.splits["valid"].n_predicted == per_sequence * len(task.splits["valid"].inputs)


@pytest.mark.parametrize("name", NAMES)
def test_data_follow_from_the_seed(name: str) -> None:
    once, again, other = (load(definition(name, n_sequences=20, seed=seed)) for seed in (3, 3, 4))
    assert once.hash == again.hash != other.hash
    assert not any(same(once.splits[split], other.splits[split]) for split in SPLITS)


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_different_draws(name: str) -> None:
    task = load(definition(name, n_sequences=20))
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not same(task.splits[one], task.splits[other])


@pytest.mark.parametrize("name", NAMES)
def test_more_sequences_begin_with_those_of_fewer(name: str) -> None:
    few, many = (load(definition(name, n_sequences=n)) for n in (8, 40))
    assert all(same(few.splits[split], many.splits[split]) for split in SPLITS)


@pytest.mark.parametrize(("name", "shortest"), [(name, shortest) for name, shortest, _ in SHORTEST])
def test_bad_settings_are_one_line(name: str, shortest: int) -> None:
    load(definition(name, length=shortest, n_sequences=4))
    expected = f"task.length={shortest - 1}: expected an integer from {shortest} to 100000"
    assert error(name, length=shortest - 1) == expected
    assert error(name, length=100_001).startswith("task.length=100001: expected")
    assert error(name, n_sequences=3) == "task.n_sequences=3: expected an integer from 4 to 1000000"
    assert error(name, seed=-1).startswith("task.seed=-1: expected an integer from 0")
    for value in ("1\n2", 50.0, None, True, [50]):
        for key in ("length", "n_sequences", "seed"):
            assert error(name, **{key: value}).startswith(f"task.{key}={value!r}: expected an integer")
    assert "task.width: no such key" in error(name, width=3)


@pytest.mark.parametrize(("name", "length", "lr"), [(name, max(shortest, 10), lr) for name, shortest, lr in SHORTEST])
def test_training_loss_falls(name: str, length: int, lr: float) -> None:
    task = load(definition(name, length=length, n_sequences=60))
    members = [make_member(task, "vanilla", 8, seed, "float32", lr=lr, input_noise=0.0) for seed in range(3)]
    trainer = ReferenceEngine().trainer(task)
    losses, scores = [], []
    for epoch in range(2):
        order = epoch_order(0, epoch, len(task.splits["train"].inputs))
        losses.append(trainer.train_epoch(members, [order] * len(members)).losses)
        scores.append(trainer.evaluate(members, "valid"))
    assert np.isfinite(losses).all() and np.isfinite(scores).all()
    assert (losses[1] < losses[0]).all()


# A user's own


def test_csv_file_of_a_user_is_a_task(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(10), rng.integers(2, 6, 10))
    rows = [f"{k},{rng.normal():.3f},{k / 10},{k % 3}" for k in ids]
    (tmp_path / "mine.csv").write_text("\n".join(["sequence,speed,id,label", *rows]))
    task = load({"name": "mine", "module": "tests.my_csv_task", "path": str(tmp_path / "mine.csv")})
    assert (task.name, task.loss, task.n_inputs, task.n_outputs) == ("mine", "categorical", 2, 3)
    assert [len(task.splits[name].inputs) for name in SPLITS] == [6, 2, 2]
    found = []
    for inputs, targets in sequences(task):
        [sequence] = set(np.rint(10 * inputs[:, 1]).astype(int).tolist())
        assert targets.dtype == np.int32 and targets.tolist() == [sequence % 3] * np.count_nonzero(ids == sequence)
        found.append(sequence)
    assert sorted(found) == list(range(10))
    member = make_member(task, "vanilla", 4, 0, "float32")
    trainer = ReferenceEngine().trainer(task)
    assert np.isfinite(trainer.train_epoch([member], [epoch_order(0, 0, 6)]).losses).all()
    assert 0 <= trainer.evaluate([member], "test")[0] <= 100
