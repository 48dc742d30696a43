"""The generated tasks, and a task of a user's own."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from search.base.randomness import epoch_order
from search.engines.reference import ReferenceEngine
from search.errors import UserError
from search.tasks import Split, Task, arithmetic, load, xml
from search.tasks.task import SPLITS
from tests.conftest import make_member

CONFIGS = Path(__file__).parents[1] / "configs" / "task"
# Name, the setting of its size with its bounds, and a learning rate that is good when sequences are short.
SIZES = [
    ("adding", "length", 2, 100_000, 0.05),
    ("copy", "length", 21, 100_000, 0.02),
    ("temporal_order", "length", 10, 100_000, 0.05),
    ("memorization", "length", 11, 100_000, 0.05),
    ("arithmetic", "digits", 1, 18, 0.02),
    ("xml", "length", 10, 100_000, 0.005),
]
NAMES = [name for name, *_ in SIZES]
PREDICTED = {"adding": 1, "copy": 10, "temporal_order": 1, "memorization": 5, "xml": 100}  # of each sequence


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


def text(inputs: np.ndarray, targets: np.ndarray, alphabet: str) -> str:
    """What is read, and the character that is predicted last."""
    seen = [*symbols(inputs), targets[-1]]
    assert ((targets == -1) | (targets == seen[1:])).all()
    return "".join(alphabet[k] for k in seen)


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


@pytest.mark.parametrize("length", [11, 12, 30])
def test_memorization_asks_for_the_first_five_symbols_at_the_end(length: int) -> None:
    drawn = set()
    for inputs, targets in sequences(load(definition("memorization", length=length, n_sequences=100))):
        seen = symbols(inputs)
        assert seen[5:].tolist() == [26] * (length - 11) + [27] + [26] * 5
        assert targets.tolist() == [-1] * (length - 5) + seen[:5].tolist()
        drawn |= set(seen[:5].tolist())
    assert drawn == set(range(26))


@pytest.mark.parametrize(("digits", "distractors"), [(1, 0), (3, 3), (18, 1)])
def test_arithmetic_asks_for_the_sum_that_the_letters_hide(digits: int, distractors: int) -> None:
    sizes, signs, hidden = set(), set(), set()
    task = load(definition("arithmetic", digits=digits, distractors=distractors, n_sequences=400))
    for inputs, targets in sequences(task):
        question, answer = text(inputs, targets, arithmetic.ALPHABET).split("=")
        assert (targets[: len(question)] == -1).all() and (targets[len(question) :] >= 0).all()
        plain = re.sub("[a-z]", "", question)
        [(first, second)] = re.findall(r"^(-?[1-9][0-9]*)([+-][1-9][0-9]*)$", plain)
        assert answer == f"{int(first) + int(second)}."
        sizes |= {len(str(abs(int(number)))) for number in (first, second)}
        signs.add((first[0] == "-", second[0]))
        hidden |= set(map(len, re.split("[^a-z]", question)[1:]))
    assert sizes == set(range(1, digits + 1)) and len(signs) == 4
    assert hidden == set(range(distractors + 1))


def test_no_sum_is_in_two_splits_whatever_letters_hide_it() -> None:
    task = load(definition("arithmetic", digits=1, n_sequences=1000))
    sums = {
        name: {
            re.sub("[a-z]", "", text(*pair, arithmetic.ALPHABET))
            for pair in zip(task.splits[name].inputs, task.splits[name].targets, strict=True)
        }
        for name in SPLITS
    }
    assert sum(map(len, sums.values())) == len(set().union(*sums.values()))
    assert 150 < len(sums["train"]) < 324 and min(map(len, sums.values())) > 30  # of 324 sums of two digits


def closed(document: str) -> tuple[int, int]:
    """Tags that a text closes, and the deepest nesting; each is closed by its name, the last opened first."""
    still_open: list[str] = []
    n_closed = deepest = 0
    for slash, name in re.findall("<(/?)([a-z]*)>", document):
        assert 2 <= len(name) <= 10
        if slash:
            assert still_open.pop() == name
            n_closed += 1
        else:
            still_open.append(name)
        deepest = max(deepest, len(still_open))
    return n_closed, deepest


@pytest.mark.parametrize("length", [10, 100, 3000])
def test_xml_asks_for_each_next_character_of_nested_tags(length: int) -> None:
    n_closed, depths = 0, set()
    for inputs, targets in sequences(load(definition("xml", length=length, n_sequences=40))):
        assert len(targets) == length and (targets >= 0).all()
        document = text(inputs, targets, xml.ALPHABET)
        assert re.fullmatch("(<([a-z]{2,10}|/[a-z]{2,10})>)*<?/?[a-z]*", document)
        more, depth = closed(document)
        n_closed, depths = n_closed + more, depths | {depth}
    assert n_closed > (length > 10) * 60 and (length == 10 or max(depths) > 3)


def test_xml_cannot_be_known_better_than_its_docstring_says() -> None:
    wrong = n = 0.0
    for inputs, targets in sequences(load(definition("xml", n_sequences=600))):
        document = text(inputs, targets, xml.ALPHABET)
        still_open: list[str] = []
        for tag in re.findall("<[^>]*>?", document):
            if tag.startswith("</"):
                if tag.endswith(">"):
                    still_open.pop()
                continue
            # Whether a tag is opened is known if none is open; then a letter, another, and whether the name ends.
            name = tag.strip("<>")
            wrong += len(name) >= 1 and (1.0 if still_open else 25 / 26)
            wrong += 25 / 26 * (len(name) >= 2) + max(0, len(name) - 2)
            still_open.append(name)
        n += len(targets)
    assert 100 * wrong / n == pytest.approx(44, abs=1.5)


@pytest.mark.parametrize(("name", "symbol", "score"), [("arithmetic", ".", 86), ("xml", ">", 88)])
def test_one_answer_to_all_scores_as_said(name: str, symbol: str, score: float) -> None:
    targets = np.concatenate([t for _, t in sequences(load(definition(name, n_sequences=600)))])
    answer = {"arithmetic": arithmetic, "xml": xml}[name].ALPHABET.index(symbol)
    assert 100 * np.mean(targets[targets >= 0] != answer) == pytest.approx(score, abs=1)


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
        ("memorization", "categorical", (28, 26), "wrong symbols [%]"),
        ("arithmetic", "categorical", (40, 40), "wrong characters [%]"),
        ("xml", "categorical", (29, 29), "wrong characters [%]"),
    ],
)
def test_task_is_what_its_file_says(name: str, loss: str, widths: tuple[int, int], score: str) -> None:
    settings = definition(name)
    task = load(settings)
    assert (task.name, task.loss, task.score) == (name, loss, score)
    assert (task.n_inputs, task.n_outputs) == widths
    assert [len(task.splits[split].inputs) for split in SPLITS] == [settings["n_sequences"] * k // 4 for k in (4, 1, 1)]
    assert "generated" in str(task.source["source"])
    sizes = settings.keys() - {"name", "module", "n_sequences"}
    assert {key: task.source[key] for key in sizes} == {key: settings[key] for key in sizes}
    kind = np.float32 if loss == "squared" else np.int32
    assert all(x.dtype == np.float32 and t.dtype == kind for x, t in sequences(task))
    if name in PREDICTED:
        assert task.splits["valid"].n_predicted == PREDICTED[name] * len(task.splits["valid"].inputs)


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


@pytest.mark.parametrize(("name", "size", "low", "high"), [each[:4] for each in SIZES])
def test_bad_settings_are_one_line(name: str, size: str, low: int, high: int) -> None:
    load(definition(name, **{size: low}, n_sequences=4))
    for value in (low - 1, high + 1):
        assert error(name, **{size: value}) == f"task.{size}={value}: expected an integer from {low} to {high}"
    assert error(name, n_sequences=3) == "task.n_sequences=3: expected an integer from 4 to 1000000"
    assert error(name, seed=-1).startswith("task.seed=-1: expected an integer from 0")
    for value in ("1\n2", 50.0, None, True, [50]):
        for key in (size, "n_sequences", "seed"):
            assert error(name, **{key: value}).startswith(f"task.{key}={value!r}: expected an integer")
    assert "task.width: no such key" in error(name, width=3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "low", "lr"), [(*each[:3], each[4]) for each in SIZES])
def test_training_loss_falls(name: str, size: str, low: int, lr: float) -> None:
    task = load(definition(name, **{size: max(low, 10 * (size == "length"))}, n_sequences=60))
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
