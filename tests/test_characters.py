"""A text of a user's own, predicted character by character."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.base.randomness import epoch_order
from search.engines.reference import ReferenceEngine
from search.errors import UserError
from search.tasks import Split, Task, characters, load
from search.tasks.task import SPLITS
from tests.conftest import make_member


def written(path: Path, n: int, alphabet: str = "etaoin é\n", seed: int = 0) -> Path:
    """A file of random characters."""
    drawn = np.random.default_rng(seed).choice(list(alphabet), n)
    path.write_bytes("".join(drawn).encode())
    return path


def text(split: Split, alphabet: str, length: int) -> str:
    """The text that a split was cut from."""
    assert all(len(x) == length for x in split.inputs[:-1]) and 1 <= len(split.inputs[-1]) <= length
    for x, t in zip(split.inputs, split.targets, strict=True):
        assert (x.sum(axis=1) == 1).all() and (x[1:].argmax(axis=1) == t[:-1]).all()
    read = np.concatenate([x.argmax(axis=1) for x in split.inputs])
    predicted = np.concatenate(list(split.targets))
    assert (read[1:] == predicted[:-1]).all()
    return "".join(alphabet[k] for k in [*read, predicted[-1]])


def made(**options: Any) -> Task:
    return load({"name": "characters"} | options)


def error(**options: Any) -> str:
    with pytest.raises(UserError) as raised:
        made(**options)
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("length", [1, 7, 25, 99])
def test_a_file_is_split_in_order_and_every_character_but_the_first_predicted(tmp_path: Path, length: int) -> None:
    path = written(tmp_path / "a.txt", n=1005)
    task = made(path=str(path), length=length)
    whole = path.read_bytes().decode()
    alphabet = "".join(sorted(set(whole)))
    parts = [text(task.splits[name], alphabet, length) for name in SPLITS]
    assert parts == [whole[:805], whole[805:905], whole[905:]]
    assert (task.loss, task.score, task.n_inputs, task.n_outputs) == ("categorical", "wrong characters [%]", 9, 9)
    assert task.source["characters"] == {"train": 805, "valid": 100, "test": 100}


def test_three_files_are_the_splits_and_share_their_characters(tmp_path: Path) -> None:
    drawn = [("path", 50, "abc"), ("valid", 30, "bcd"), ("test", 40, "cé\r\n")]
    files = {key: written(tmp_path / key, n, alphabet) for key, n, alphabet in drawn}
    task = made(**files, length=8)
    alphabet = "\n\rabcdé"
    assert [text(task.splits[name], alphabet, 8) for name in SPLITS] == [
        f.read_bytes().decode() for f in files.values()
    ]
    record = task.source["files"]
    assert isinstance(record, dict) and list(record) == ["path", "valid", "test"]
    assert made(**(files | {"test": files["valid"]}), length=8).hash != task.hash


def test_bad_texts_are_one_line(tmp_path: Path) -> None:
    good, broken = written(tmp_path / "good.txt", 500), tmp_path / "broken.txt"
    assert error() == "task.path=null: expected a text file in UTF-8"
    assert error(valid=good, test=good) == "task.path=null: expected a text file in UTF-8"
    both = "expected files for both task.valid and task.test, or for neither"
    assert error(path=good, valid=good) == f"task.test=null: {both}"
    assert error(path=good, test=good) == f"task.valid=null: {both}"
    missing = tmp_path / "none.txt"
    assert error(path=missing).startswith(f"task.path={missing}: expected a file that can be read")
    assert error(path=tmp_path) == f"task.path={tmp_path}: expected a plain file, found a directory"
    assert error(path=good, valid=good, test=missing).startswith(f"task.test={missing}: expected a file")
    broken.write_bytes(b"")
    assert error(path=broken) == f"task.path={broken}: expected a text, found an empty file"
    broken.write_bytes("naïve".encode("latin-1"))
    expected = f"task.valid={broken}: expected a text in UTF-8, found 0xef at byte 2 (invalid continuation byte)"
    assert error(path=good, valid=broken, test=good) == expected


def test_sizes_that_do_not_fit_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, short = written(tmp_path / "good.txt", 500), written(tmp_path / "short.txt", 20)
    made(path=good, length=49)
    expected = f"task.path={good}, task.length=50: 50 characters in valid: expected at least 51"
    assert error(path=good, length=50) == expected
    found = error(path=good, valid=good, test=short, length=20)
    assert found == f"task.test={short}, task.length=20: 20 characters in test: expected at least 21"
    many = tmp_path / "many.txt"
    many.write_text("".join(map(chr, range(0x4E00, 0x4E00 + 257))) * 3)
    assert error(path=many, length=5) == f"task.path={many}: 257 different characters: expected at most 256"
    monkeypatch.setattr(characters, "_MOST_NUMBERS", 4499)
    found = f"task.path={good}: 500 characters, 9 different ones"
    assert error(path=good, length=5) == f"{found}: expected at most 499 characters with so many different ones"
    monkeypatch.setattr(characters, "_MOST_BYTES", 100)
    assert "expected a file of at most" in error(path=good)


@pytest.mark.slow
def test_a_text_that_repeats_is_learnt(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abacad" * 60)
    task = made(path=tmp_path / "a.txt", length=10)
    member = make_member(task, "vanilla", 8, 0, "float32", lr=0.05, input_noise=0.0)
    trainer = ReferenceEngine().trainer(task)
    scores = []
    for epoch in range(12):
        trainer.train_epoch([member], [epoch_order(0, epoch, len(task.splits["train"].inputs))])
        scores.append(trainer.evaluate([member], "test")[0])
    assert scores[-1] < 20 < scores[0]
