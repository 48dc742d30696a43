"""Handwriting made from single-stroke fonts: a free stand-in for IAM-OnDB, with the same features and characters.

Made-up writers write lines of a small English grammar. A writer has a font of Hershey's (those whose letters are drawn
by one line, as a pen would), letterforms of his own, slant, proportions, spacing, a baseline that drifts, a speed, a
tremor, and habits of joining letters. Points are taken at even time steps while the speed of the pen varies. No writer
is in two splits. Each line depends on the seed, its writer and its number alone.
"""

import string
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache as cached
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np

from search.errors import UserError
from search.tasks import _pen
from search.tasks._options import Seed
from search.tasks._progress import progress as shown
from search.tasks.task import SPLITS, Split, Task


@dataclass(frozen=True)
class Size:
    """How much there is to read, and how hard it is.

    Attributes:
        lines: of train, valid and test.
        writers: of train, valid and test.
        characters: the least and most of a line.
        step: mean way of the pen between two points, before every second is dropped; capitals are 21 high.
        variety: how much writers differ from their fonts; 1 is about as much as still reads well.
    """

    lines: tuple[int, int, int]
    writers: tuple[int, int, int]
    characters: tuple[int, int]
    step: float
    variety: float


SIZES = {
    "small": Size((400, 80, 80), (20, 6, 6), (8, 12), 2.7, 0.25),
    "paper": Size((5355, 2956, 3859), (97, 54, 70), (20, 34), 3.4, 2.4),
}

# Difficulty, at variety 1. Lengths are in units of the fonts, in which capitals are 21 high and "x" is 14.
FONTS = ("futural", "rowmans", "scripts", "cursive")
SLANT = 0.2  # standard deviation of the shear between writers
PROPORTION = 0.12  # of the logarithm of width by height, between writers
SIZE = 0.15  # of the logarithm of the size, between writers
LETTERFORM = 0.7  # of the shift of a letter's points, between writers
SPACING = 1.0  # of the room between letters, between writers
HAND = 0.7  # of the shift of a letter's points, between one writer's letters
TURN = 0.06  # of the rotation of letters, in radians
LIFT = 0.5  # of the height at which letters stand
DRIFT = 0.015  # of the slope of the baseline
WAVE = 1.2  # largest height of the baseline's waves
TREMOR = 0.12  # of points
JOINED = 0.8  # largest share of letters that a writer joins to the one before, where the pen is near it already
NEAR = 5.0  # what is near
BROKEN = 0.003  # largest share of points at which a writer lifts the pen for no reason
SPEED = 0.15  # of the logarithm of the speed, between writers
PULSE = 0.6  # how much the speed varies within a stroke; below 1
SECONDS = 0.01  # between two points, before every second is dropped

RECIPE = 6  # one more whenever the same options would give other lines: older caches are then rebuilt

_VOCABULARY = """
people: Anna Bella Carl Dora Emil Fay Grace Hugo Iris Jack Karl Lucy Max Nora Otto Paul Quentin Rosa Sam Tom Uma Vera
people: Walter Xavier Yann Zoe
nouns: box boy child city clock dog door field fox garden hand house jazz king letter life light man market moon music
nouns: night page plan queen question rain river road room sea ship song story sun town tree voice wall water week wind
nouns: woman word work year zebra
plurals: clocks dogs doors fields gardens hands houses kings letters lights markets nights pages plans queens questions
plurals: rivers roads rooms ships songs towns trees voices walls weeks words years zebras
adjectives: big black blue brave cold dark deep early fine free good great green happy high kind large late lazy little
adjectives: long new old quick quiet red short small strong true warm white wide young
verbs: asked began broke carried fixed found gave heard held joined kept knew left liked lost made met moved paid read
verbs: reached said saw sent showed spoke stood thought took turned used walked wrote
links: about across after and as at before behind but by for from in into near of on or over to under with
determiners: a all any each every her his its my no our some that the their this your
"""
WORDS: dict[str, list[str]] = {}
for _line in _VOCABULARY.split("\n")[1:-1]:
    _kind, _, _words_of_line = _line.partition(": ")
    WORDS.setdefault(_kind, []).extend(_words_of_line.split())


def load(
    size: Literal["small", "paper"] = "small",
    seed: Seed = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Task:
    """Lines of made-up handwriting: four features of the pen per step, float32 [T, 4], and characters, int32 [L].

    Args:
        size: a name of `SIZES`; ``paper`` has as many lines as IAM-OnDB.
        seed: of everything; the same seed gives the same lines.
        cache: folder that keeps the lines once they are made; None makes them every time.
        progress: whether to show the progress of making them on stderr.

    Raises:
        UserError: the package Hershey-Fonts is missing, or the cache cannot be written.
    """
    made_by = f"Hershey-Fonts {version()}, size {size}, seed {seed}, recipe {RECIPE}"
    kept = None if cache is None else Path(str(cache)).expanduser() / f"handwriting-{size}-{seed}.npz"
    prepared = _pen.prepare(kept, made_by, lambda: _make(SIZES[size], seed, progress))
    return _pen.task("handwriting", prepared, {"made_by": made_by, "size": size, "seed": seed})


def version() -> str:
    """The version of Hershey-Fonts, without importing it."""
    try:
        return metadata.version("Hershey-Fonts")
    except metadata.PackageNotFoundError:
        expected = "expected the package Hershey-Fonts; pip install 'odyssey[handwriting]'"
        raise UserError(f"task=handwriting: {expected}") from None


def writers(size: Size) -> dict[str, range]:
    """The writers of each split, by number."""
    ends = np.cumsum(size.writers).tolist()
    return {name: range(end - n, end) for name, n, end in zip(SPLITS, size.writers, ends, strict=True)}


def _make(size: Size, seed: int, progress: bool) -> _pen.Prepared:
    left_out: Counter[str] = Counter()
    splits = {}
    with shown("lines of handwriting", sum(size.lines), progress) as advance:
        for (name, numbers), n_lines in zip(writers(size).items(), size.lines, strict=True):
            pen = {number: Writer(seed, number, size) for number in numbers}
            inputs, targets = [], []
            for line in range(n_lines):
                text, points, firsts = pen[numbers[line % len(numbers)]].line(line)
                features, classes = _pen.features(points, firsts), _pen.classes(text)
                if _pen.fits(features, classes):
                    inputs.append(features)
                    targets.append(classes)
                else:
                    left_out["lines with too few points for their text"] += 1
                advance()
            splits[name] = Split(inputs, targets)
    _pen.report("task=handwriting", left_out)
    return splits, dict(left_out)


class Writer:
    """A made-up writer, who writes any line the same whenever asked.

    Args:
        seed: of the task.
        number: of the writer.
        size: says how much there is to write and how hard to read the writer is.
    """

    def __init__(self, seed: int, number: int, size: Size) -> None:
        self._seed, self._size = (seed, number), size
        random = np.random.default_rng(self._seed)
        self._glyphs = _font(FONTS[number % len(FONTS)])
        slant, proportion, scale, self._spacing, drift, speed = size.variety * random.normal(
            0, [SLANT, PROPORTION, SIZE, SPACING, DRIFT, SPEED]
        )
        self._shape = np.exp(scale) * np.array([[np.exp(proportion), 0], [-slant, 1]])
        self._drift = drift
        self._step = size.step * np.exp(speed)
        self._wave = size.variety * random.uniform(0, WAVE)
        self._joined, self._broken = size.variety * random.uniform(0, [JOINED, BROKEN])
        self._letterforms: dict[str, np.ndarray] = {}

    def line(self, number: int) -> tuple[str, np.ndarray, np.ndarray]:
        """A line's text, its points x, y (downwards) and seconds [P, 3], and its strokes' first points [S]."""
        random = np.random.default_rng((*self._seed, number, 1))
        text = _text(random, *self._size.characters)
        corners, pieces = self._written(text, random)
        return text, *self._drawn(corners, pieces, random)

    def _written(self, text: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The corners [C, 2] of the letters' lines and the number of its stroke for each, ascending, [C]."""
        strokes: list[np.ndarray] = []
        right, pen = 0.0, np.full(2, np.inf)
        for character in text:
            glyph = self._glyphs[character]
            if glyph.ends:
                points = self._letter(character, random)
                points[:, 0] += right - glyph.left
                parts = np.split(points, glyph.ends[:-1])
                if np.hypot(*(parts[0][0] - pen)) < NEAR and random.random() < self._joined:
                    parts[0] = np.concatenate([strokes.pop(), parts[0]])
                strokes += parts
                pen = parts[-1][-1]
            right += glyph.right - glyph.left + self._spacing
        corners = np.concatenate(strokes) @ self._shape
        x = corners[:, 0]
        period, phase = random.uniform(100, 300), random.uniform(0, 2 * np.pi)
        corners[:, 1] += self._drift * x + self._wave * np.sin(2 * np.pi * x / period + phase)
        return corners, np.repeat(np.arange(len(strokes)), [len(stroke) for stroke in strokes])

    def _letter(self, character: str, random: np.random.Generator) -> np.ndarray:
        """The points [P, 2] of a letter as it is written this time."""
        glyph = self._glyphs[character]
        if character not in self._letterforms:
            own = np.random.default_rng((*self._seed, ord(character)))
            self._letterforms[character] = glyph.points + self._size.variety * own.normal(
                0, LETTERFORM, glyph.points.shape
            )
        points = self._letterforms[character] + self._size.variety * random.normal(0, HAND, glyph.points.shape)
        turn, lift = self._size.variety * random.normal(0, [TURN, LIFT])
        return points @ np.array([[1, turn], [-turn, 1]]) + [0, lift]

    def _drawn(
        self, corners: np.ndarray, pieces: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points [P, 3] at even time steps along the strokes, and the index of each stroke's first point [S]."""
        ways = np.hypot(*np.diff(corners, axis=0).T)
        ways[pieces[1:] != pieces[:-1]] = 1  # any way will do where the pen is lifted: no point is taken there
        way = np.concatenate([[0], np.cumsum(ways)])
        starts = np.flatnonzero(np.diff(pieces, prepend=-1))
        ends = np.append(starts[1:], len(pieces)) - 1
        lengths = way[ends] - way[starts]
        counts = np.maximum(2, np.rint(lengths / self._step).astype(int) + 1)
        firsts = np.cumsum(counts) - counts
        since = np.arange(counts.sum()) - np.repeat(firsts, counts)
        part = since / np.repeat(counts - 1, counts)
        beats = np.repeat(np.maximum(1, np.rint(lengths / 20)), counts)  # the pen slows at the ends and now and then
        part -= PULSE * np.sin(2 * np.pi * beats * part) / (2 * np.pi * beats)
        at = np.repeat(way[starts], counts) + part * np.repeat(lengths, counts)
        xy = np.stack([np.interp(at, way, axis) for axis in corners.T], axis=1)
        xy = _rounded(xy, since == 0) + self._size.variety * random.normal(0, TREMOR, xy.shape)
        lifted = np.flatnonzero((since > 4) & (random.random(len(since)) < self._broken))
        return np.column_stack([xy, since * SECONDS]), np.union1d(firsts, lifted)


def _rounded(points: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Points [P, 2] with corners rounded off, except at the ends of strokes."""
    inside = np.flatnonzero(~first & ~np.append(first[1:], True))
    rounded = points.copy()
    rounded[inside] = (points[inside - 1] + 2 * points[inside] + points[inside + 1]) / 4
    return rounded


@dataclass(frozen=True)
class _Glyph:
    points: np.ndarray  # [P, 2]
    ends: list[int]  # of the strokes, in the points
    left: float
    right: float


@cached
def _font(name: str) -> dict[str, _Glyph]:
    """The glyphs of a font, by character; y grows downwards."""
    from HersheyFonts import HersheyFonts

    glyphs = HersheyFonts(load_default_font=name).all_glyphs
    return {character: _glyph(glyphs[character]) for character in _pen.CHARACTERS}


def _glyph(glyph: object) -> _Glyph:
    strokes = [np.array(stroke, float) for stroke in glyph.strokes if stroke]  # type: ignore[attr-defined]
    left, width = float(glyph.left_offset), float(glyph.char_width)  # type: ignore[attr-defined]
    points = np.concatenate([np.zeros((0, 2)), *strokes])
    return _Glyph(points, np.cumsum([len(stroke) for stroke in strokes]).tolist(), left, left + width)


def _text(random: np.random.Generator, least: int, most: int) -> str:
    """Words of a text, `least` to `most` characters, cut as by the end of a line."""
    wanted = int(random.integers(least, most + 1))
    while True:
        words: list[str] = []
        room = wanted
        text = _words(random)
        for _ in range(int(random.integers(8))):  # a line may begin anywhere in a text
            next(text)
        for word in text:
            room -= len(word) + bool(words)
            if room < 0:
                break
            words.append(word)
        line = " ".join(words)
        if len(line) >= least:
            return line


# Over 60 lines, for a grammar is read as one.
def _words(random: np.random.Generator) -> Iterator[str]:
    """The words of one sentence after another, without end, with what stands beside them."""

    def among(words: list[str]) -> str:
        return words[int(random.integers(len(words)))]

    def one(kind: str) -> str:
        return among(WORDS[kind])

    def chance(share: float) -> bool:
        return bool(random.random() < share)

    def person() -> Iterator[str]:
        if chance(0.3):
            yield among(["Mr.", "Mrs.", "Dr."])
        for _ in range(int(random.integers(3)) if chance(0.4) else 0):
            yield among(list(string.ascii_uppercase)) + "."
        yield one("people")

    def thing() -> Iterator[str]:
        yield one("determiners")
        if chance(0.5):
            yield one("adjectives")
        yield one("nouns")

    def number() -> str:
        kind, n = int(random.integers(6)), random.integers
        whole = str(int(n(2, 100)))
        forms = [
            whole,
            str(int(n(1500, 2030))),
            f"{whole}.{n(10)}",
            f"${whole}",
            f"{n(1, 4)}/{n(4, 10)}",
            f"{n(1, 13)}:30",
        ]
        return forms[kind]

    def aside() -> Iterator[str]:
        kind = int(random.integers(6))
        if kind == 0:
            yield from ["(p.", f"{random.integers(1, 400)})"]
        elif kind == 1:
            yield f"[{random.integers(1, 100)}]"
        elif kind == 2:
            yield f'"{one("adjectives")}"'
        elif kind == 3:
            yield from ["&", one("nouns")]
        elif kind == 4:
            yield from ["+", number()]
        else:
            yield f"*{one('nouns')}*"

    def sentence() -> Iterator[str]:
        yield from person() if chance(0.4) else thing()
        yield one("verbs")
        if chance(0.3):
            yield from [number(), one("plurals")]
        elif chance(0.2):
            yield f"{one('people')}'s"
            yield one("nouns")
        else:
            yield from thing()
        if chance(0.25):
            yield from aside()
        for _ in range(int(random.integers(3))):
            yield one("links")
            yield from thing()

    while True:
        words = list(sentence())
        words[0] = words[0][0].upper() + words[0][1:]
        nouns = [place for place in range(2, len(words) - 2) if words[place] in WORDS["nouns"]]
        if nouns and chance(0.6):
            words[nouns[int(random.integers(len(nouns)))]] += among([",", ",", ",", ";", ":", " -"])
        words[-1] += among([".", ".", ".", ".", "!", "?"])
        yield from words
