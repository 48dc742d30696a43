"""The made-up handwriting: what it is made of, that it can be read and learned, and its cache."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("HersheyFonts")

from search import tasks
from search.errors import UserError
from search.tasks import _pen, handwriting
from search.tasks.task import SPLITS, Task

ROOT = Path(__file__).parents[1]
SMALL, PAPER = handwriting.SIZES["small"], handwriting.SIZES["paper"]


@pytest.fixture(scope="module")
def small() -> Task:
    return handwriting.load(progress=False)


def error(**options: Any) -> str:
    with pytest.raises(UserError) as raised:
        tasks.load({"name": "handwriting", "progress": False} | options)
    text = str(raised.value)
    assert "\n" not in text and "expected" in text
    return text


def paper_lines(n_lines: int, n_writers: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    return [handwriting.Writer(0, i % n_writers, PAPER).line(i) for i in range(n_lines)]


# The task


def test_task_is_of_the_kind_of_iamondb(small: Task) -> None:
    assert (small.name, small.loss, small.score) == ("handwriting", "ctc", "character error rate [%]")
    assert (small.n_inputs, small.n_classes, small.n_outputs, small.bidirectional) == (4, 81, 82, True)
    assert [len(small.splits[name].inputs) for name in SPLITS] == list(SMALL.lines)
    assert small.source["sequences"] == dict(zip(SPLITS, SMALL.lines, strict=True))
    for split in small.splits.values():
        assert {x.dtype for x in split.inputs} == {np.dtype(np.float32)}
        assert {t.dtype for t in split.targets} == {np.dtype(np.int32)}


def test_features_are_normalised_by_the_training_set(small: Task) -> None:
    train = np.concatenate(small.splits["train"].inputs)
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-4)
    assert abs(np.concatenate(small.splits["test"].inputs).mean(axis=0)).max() > 1e-4


def test_every_line_has_room_for_its_text(small: Task) -> None:
    for split in small.splits.values():
        assert all(_pen.fits(x, t) for x, t in zip(split.inputs, split.targets, strict=True))


def test_lines_are_of_the_lengths_that_are_asked_for(small: Task) -> None:
    least, most = SMALL.characters
    lengths = [len(t) for split in small.splits.values() for t in split.targets]
    assert least <= min(lengths) and max(lengths) <= most
    assert 60 < small.splits["train"].n_steps / SMALL.lines[0] < 90


def test_paper_size_is_like_iamondb() -> None:
    assert PAPER.lines == (5355, 2956, 3859)
    lines = paper_lines(300, 97)
    assert 24 < np.mean([len(text) for text, _, _ in lines]) < 26
    assert 280 < np.mean([len(_pen.features(points, firsts)) for _, points, firsts in lines]) < 340


def test_all_characters_occur() -> None:
    random = np.random.default_rng(0)
    text = " ".join(handwriting._text(random, *PAPER.characters) for _ in range(3000))
    assert set(text) == set(_pen.CHARACTERS)


# Seeds and writers


def test_same_seed_gives_the_same_and_another_gives_others(small: Task) -> None:
    code = "from search.tasks import handwriting; print(handwriting.load(progress=False).hash)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == small.hash
    assert handwriting.load(seed=1, progress=False).hash != small.hash


def test_no_writer_is_in_two_splits() -> None:
    for size in (SMALL, PAPER):
        writers = handwriting.writers(size)
        assert [len(writers[name]) for name in SPLITS] == list(size.writers)
        assert len(set().union(*writers.values())) == sum(size.writers)


def test_splits_are_written_by_their_own_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    class Spy(handwriting.Writer):
        def __init__(self, seed: int, number: int, size: handwriting.Size) -> None:
            super().__init__(seed, number, size)
            self.number = number

        def line(self, number: int) -> tuple[str, np.ndarray, np.ndarray]:
            written.append(self.number)
            return super().line(number)

    monkeypatch.setattr(handwriting, "Writer", Spy)
    handwriting.load(progress=False)
    ends = np.cumsum(SMALL.lines)
    parts = np.split(np.array(written), ends[:-1])
    for name, part in zip(SPLITS, parts, strict=True):
        assert set(part.tolist()) == set(handwriting.writers(SMALL)[name])


def test_line_depends_on_its_writer_and_number_alone() -> None:
    text, points, firsts = handwriting.Writer(3, 5, PAPER).line(8)
    writer = handwriting.Writer(3, 5, PAPER)
    other, *_ = writer.line(7)
    again = writer.line(8)
    assert again[0] == text != other
    assert np.array_equal(again[1], points) and np.array_equal(again[2], firsts)
    elsewhere = handwriting.Writer(3, 9, PAPER).line(8)
    assert elsewhere[1].shape != points.shape or not np.allclose(elsewhere[1], points)


# The pen


def test_points_are_at_even_time_steps_while_the_speed_varies() -> None:
    _, points, firsts = handwriting.Writer(0, 0, PAPER).line(0)
    inside = np.setdiff1d(np.arange(1, len(points)), firsts)
    np.testing.assert_allclose(points[inside, 2] - points[inside - 1, 2], handwriting.SECONDS)
    ways = np.hypot(*(points[inside, :2] - points[inside - 1, :2]).T)
    assert ways.std() > 0.25 * ways.mean()


def test_letters_stand_in_the_order_of_the_text() -> None:
    for number in range(40):
        writer = handwriting.Writer(0, number, PAPER)
        text, points, firsts = writer.line(number)
        starts = points[firsts, 0]
        assert np.corrcoef(starts, np.arange(len(starts)))[0, 1] > 0.97
        width = (points[:, 0].max() - points[:, 0].min()) / writer._shape[0, 0]  # by the size of the writer's hand
        assert 6 < width / len(text) < 26


def test_handwriting_stays_near_its_font(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every letter is where the font has it, but for what a reader does not mind."""
    same = handwriting.Size((1, 1, 1), (1, 1, 1), PAPER.characters, PAPER.step, 0.0)
    plain = handwriting.Writer(0, 0, same)
    glyphs = handwriting._font(handwriting.FONTS[0])
    for number in range(10):
        text, points, _ = plain.line(number)
        right, corners = 0.0, []
        for character in text:
            glyph = glyphs[character]
            corners.append(glyph.points + np.array([right - glyph.left, 0]))
            right += glyph.right - glyph.left
        letters = np.concatenate(corners)
        assert np.abs(points[:, :2].min(axis=0) - letters.min(axis=0)).max() < 1.5
        assert np.abs(points[:, :2].max(axis=0) - letters.max(axis=0)).max() < 1.5


# The cache and what is refused


def test_cache_gives_the_same_without_writing_again(
    small: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert handwriting.load(cache=tmp_path, progress=False).hash == small.hash
    handwriting.load(seed=1, cache=tmp_path, progress=False)
    monkeypatch.setattr(handwriting, "_make", lambda *_: pytest.fail("written again"))
    again = handwriting.load(cache=tmp_path)
    assert (again.hash, again.source) == (small.hash, small.source)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_damaged_and_stale_caches_are_told_and_rebuilt(
    small: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handwriting.load(cache=tmp_path, progress=False)
    file = tmp_path / "handwriting-small-0.npz"
    file.write_bytes(file.read_bytes()[:-100])
    assert handwriting.load(cache=tmp_path, progress=False).hash == small.hash
    assert f"{file} is made anew" in capsys.readouterr().err
    monkeypatch.setattr(handwriting, "RECIPE", handwriting.RECIPE + 1)
    assert handwriting.load(cache=tmp_path, progress=False).hash == small.hash
    assert "it was made by" in capsys.readouterr().err


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    handwriting.load()
    assert "lines of handwriting" in capsys.readouterr().err


@pytest.mark.parametrize("seed", [-1, 1.5, "0", True, None])
def test_bad_seeds_are_refused(seed: Any) -> None:
    assert f"task.seed={seed}: expected an integer from 0 to" in error(seed=seed)


def test_unknown_size_is_refused() -> None:
    assert error(size="large") == "task.size=large: expected small or paper"


def test_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    expected = "task=handwriting: expected the package Hershey-Fonts; pip install 'odyssey[handwriting]'"
    assert error() == expected
