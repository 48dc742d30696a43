"""A text of the user's own, such as the Penn Treebank: predict the next character."""

import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np

from search.errors import UserError, expect
from search.tasks import _corpus, _symbols
from search.tasks._options import Range
from search.tasks._synthetic import LONGEST
from search.tasks.task import SPLITS, Split, Task

_MOST_BYTES = 1 << 24  # of a file
_MOST_CHARACTERS = 256  # different ones
_MOST_NUMBERS = 1 << 29  # of the inputs; 2 GiB in float32


def load(
    path: str | Path | None = None,
    valid: str | Path | None = None,
    test: str | Path | None = None,
    length: Annotated[int, Range(1, LONGEST)] = 100,
) -> Task:
    """Of each step a character, one-hot float32 [T, C] in the order of code points; at every step, predict the next.

    The characters are those of all splits together. Each split is cut into sequences of `length` steps, one after
    another, the last of which may be shorter; nothing is kept in mind from one to the next. Every character of a split
    but its first is predicted once. Texts repeat themselves: that no sequence is in two splits is for the user to see
    to. The paper's Penn Treebank (Jozefowicz et al. 2015) is of words. Who always answers with the commonest character,
    a space, scores about 82 % in English.

    Args:
        path: a text in UTF-8: all of it, of which the last tenth is to test and the tenth before it to validate; or,
            with `valid` and `test`, what is to train.
        valid: a text to validate.
        test: a text to test.
        length: steps of a sequence.

    Raises:
        UserError: only one of `valid` and `test` is given; a file cannot be read, is no UTF-8, or is longer than
            16 MiB; a split has not `length` + 1 characters; or there are over 256 different characters, or so many of
            them that the inputs take over 2 GiB.
    """
    files = {"path": path, "valid": valid, "test": test}
    texts, record = _texts(files)
    for name, text in texts.items():
        key = name if files.get(name) is not None else "path"
        found = f"{files[key]}, task.length={length}: {len(text)} characters in {name}"
        expect(len(text) > length, f"task.{key}", found, f"at least {length + 1}")
    alphabet = "".join(sorted(set().union(*texts.values())))
    _expect_size(path, len(alphabet), sum(map(len, texts.values())))
    return Task(
        name="characters",
        splits={name: _split(_symbols.numbered(text, alphabet), len(alphabet), length) for name, text in texts.items()},
        loss="categorical",
        score="wrong characters [%]",
        source={"files": record, "length": length, "characters": {name: len(text) for name, text in texts.items()}},
        n_classes=len(alphabet),
    )


def _texts(files: dict[str, str | Path | None]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The text of each split, and the name and SHA-256 of each file."""
    given = {key: Path(str(file)).expanduser() for key, file in files.items() if file is not None}
    if "path" not in given:
        raise UserError("task.path=null: expected a text file in UTF-8")
    if len(given) == 2:
        [missing] = files.keys() - given.keys()
        raise UserError(f"task.{missing}=null: expected files for both task.valid and task.test, or for neither")
    contents = {key: _corpus.read(file, f"task.{key}={file}", _MOST_BYTES) for key, file in given.items()}
    texts = [_decoded(f"task.{key}={given[key]}", content) for key, content in contents.items()]
    if len(texts) == 1:
        [whole] = texts
        tenth = len(whole) // 10
        ends = len(whole) - 2 * tenth, len(whole) - tenth
        texts = [whole[: ends[0]], whole[ends[0] : ends[1]], whole[ends[1] :]]
    record = {
        key: {"file": given[key].name, "sha256": hashlib.sha256(content).hexdigest()}
        for key, content in contents.items()
    }
    return dict(zip(SPLITS, texts, strict=True)), record


def _decoded(label: str, content: bytes) -> str:
    if not content:
        raise UserError(f"{label}: expected a text, found an empty file")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        found = f"0x{content[error.start]:02x} at byte {error.start}"
        raise UserError(f"{label}: expected a text in UTF-8, found {found} ({error.reason})") from error


def _expect_size(path: str | Path | None, n_different: int, n_characters: int) -> None:
    found = f"{path}: {n_different} different characters"
    expect(n_different <= _MOST_CHARACTERS, "task.path", found, f"at most {_MOST_CHARACTERS}")
    found = f"{path}: {n_characters} characters, {n_different} different ones"
    most = _MOST_NUMBERS // n_different
    expect(n_characters <= most, "task.path", found, f"at most {most} characters with so many different ones")


def _split(symbols: np.ndarray, n_symbols: int, length: int) -> Split:
    starts = range(0, len(symbols) - 1, length)
    pairs = [_symbols.predict_next(symbols[start : start + length + 1], n_symbols) for start in starts]
    return Split([inputs for inputs, _ in pairs], [targets for _, targets in pairs])
