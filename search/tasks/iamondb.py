"""IAM-OnDB: pen strokes on a whiteboard to text (Liwicki and Bunke 2005; Greff et al. 2015, section IV.B).

Read as it is published: the strokes of lines (``lineStrokes-all``), the transcriptions of forms (``ascii-all``) and
the split files of its task 1, from extracted folders or from the archives, whose members are read in memory. Train is
``trainset.txt``, valid the two validation sets ``testset_v.txt`` and ``testset_t.txt`` joined, test ``testset_f.txt``.
The form a08-551z, whose transcription is of percent signs, is dropped. Transcriptions mark ink that has no character
by "#": those marks are left out of the targets, and lines without text or strokes out of the splits. The n-th line of a
transcription is that of the strokes of number n; forms where the two do not come out even are left out. All is told.
"""

import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from xml.parsers import expat

import numpy as np

from search.errors import UserError, one_line
from search.tasks import _cores, _corpus, _pen
from search.tasks._progress import progress as shown
from search.tasks.task import SPLITS, Split, Task

PAPER = {"train": 5355, "valid": 2956, "test": 3859}
SPLIT_FILES = {"train": ["trainset.txt"], "valid": ["testset_v.txt", "testset_t.txt"], "test": ["testset_f.txt"]}
DROPPED_FORM = "a08-551z"
MARK = "#"  # of ink that has no character
RECIPE = 2  # one more whenever the same files would give other lines: older caches are then rebuilt

_STROKES, _TEXTS = "lineStrokes", "ascii"
_FORM = re.compile(r"\w{3}-\d{3}\w?", re.ASCII)
_LINE_FILE = re.compile(r"(\w{3}-\d{3}\w?)-(\d{2})\.xml", re.ASCII)
_LARGEST = 1e9  # of a number in a file of strokes: theirs are of sensors of some thousand lines, and seconds
_BATCH = 256  # files in memory at a time
_FEW = 64  # files that are parsed sooner than further processes start


def load(path: str | Path | None = None, cache: str | Path | None = None, progress: bool = True) -> Task:
    """The lines of IAM-OnDB: four features of the pen per step, float32 [T, 4], and characters, int32 [L].

    Args:
        path: folder with lineStrokes-all and ascii-all, as .tar.gz or extracted, and the four split files, which may
            lie in a folder or a .tar.gz in it.
        cache: folder that keeps the lines once they are parsed; None parses them every time.
        progress: whether to show the progress of the parsing on stderr.

    Raises:
        UserError: `path` is None, something is missing, corrupt or not as published, or the cache cannot be written.
    """
    if path is None:
        raise UserError(
            "task.path=null: expected the folder of IAM-OnDB, with lineStrokes-all, ascii-all, trainset.txt"
        )
    folder = Path(str(path)).expanduser()
    try:
        strokes, texts = _find(folder, _STROKES), _find(folder, _TEXTS)
        forms = _forms(folder)
        made_by = f"IAM-OnDB {_fingerprint([strokes, texts], forms)}, recipe {RECIPE}"
        cached = None if cache is None else Path(str(cache)).expanduser() / "iamondb.npz"
        prepared = _pen.prepare(cached, made_by, lambda: _prepare(folder, strokes, texts, forms, progress))
    except OSError as error:
        raise UserError(f"task.path={folder}: expected IAM-OnDB to be readable ({one_line(error)})") from error
    return _pen.task("iamondb", prepared, {"folder": str(folder), "made_by": made_by})


def _find(folder: Path, stem: str) -> Path:
    """A folder or an archive of IAM-OnDB."""
    if not folder.is_dir():
        raise UserError(f"task.path={folder}: expected the folder of IAM-OnDB, there is no such folder")
    for found in (folder / stem, folder / f"{stem}-all"):
        if found.is_dir():
            return found
    archive = folder / f"{stem}-all.tar.gz"
    if not archive.is_file():
        raise UserError(f"task.path={folder}: expected {archive.name} or the folder {stem} in it")
    return archive


def _forms(folder: Path) -> dict[str, list[str]]:
    """The forms of each split, without the one that is dropped."""
    contents = _split_files(folder)
    forms: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    for split, names in SPLIT_FILES.items():
        forms[split] = []
        for name in names:
            file = contents[name]
            for form in file.content.decode("utf-8", "replace").split():
                if not _FORM.fullmatch(form):
                    raise UserError(f"{file.label}: expected forms such as a01-000u, one a line, found {form[:40]!r}")
                if form in seen:
                    raise UserError(f"{file.label}: expected each form once, found {form} in {seen[form]} too")
                seen[form] = name
                if form != DROPPED_FORM:
                    forms[split].append(form)
    return forms


def _split_files(folder: Path) -> dict[str, _corpus.File]:
    wanted = [name for names in SPLIT_FILES.values() for name in names]
    others = [_STROKES, f"{_STROKES}-all", _TEXTS, f"{_TEXTS}-all"]
    plain = [path for name in wanted for path in (folder / name, *sorted(folder.glob(f"*/{name}")))]
    files = [_file(path) for path in plain if path.is_file()]
    if not set(wanted) <= {file.name for file in files}:
        small = [path for path in sorted(folder.glob("*.tar.gz")) if path.stat().st_size <= _corpus.MOST_BYTES]
        archives = [path for path in small if path.name[:-7] not in others]
        files += [file for path in archives for file in _corpus.members(path, lambda name: name in wanted)]
    found: dict[str, _corpus.File] = {}
    for file in files:
        if found.setdefault(file.name, file).content != file.content:
            first = found[file.name].label
            raise UserError(f"{file.label}: expected the same forms as in {first}, or one {file.name} only")
    for name in wanted:
        if name not in found:
            raise UserError(f"task.path={folder}: expected the split file {name} in it, plain or in a small .tar.gz")
    return found


def _file(path: Path) -> _corpus.File:
    return _corpus.File(path.name, str(path), _corpus.read(path))


def _fingerprint(sources: Sequence[Path], forms: dict[str, list[str]]) -> str:
    """Changes whenever a file is added, removed or written to."""
    digest = hashlib.sha256(repr(forms).encode())
    for source in sources:
        for path in _walk(source) if source.is_dir() else [source]:
            stat = path.stat()
            digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _walk(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(where) / name for name in sorted(names))


def _members(source: Path, wanted: Callable[[str], bool]) -> Iterator[_corpus.File]:
    """The files of a folder or an archive whose names, without folders, are wanted; each name once."""
    if source.is_dir():
        found: Iterable[_corpus.File] = (_file(path) for path in _walk(source) if wanted(path.name))
    else:
        found = _corpus.members(source, wanted)
    seen: set[str] = set()
    for file in found:
        if file.name in seen:
            raise UserError(f"{file.label}: expected one file of this name in {source}, found another")
        seen.add(file.name)
        yield file


def _prepare(folder: Path, strokes: Path, texts: Path, forms: dict[str, list[str]], progress: bool) -> _pen.Prepared:
    needed = {form for split in SPLITS for form in forms[split]}
    transcribed = {
        file.name[:-4]: _transcriptions(file)
        for file in _members(texts, lambda name: name[-4:] == ".txt" and name[:-4] in needed)
    }
    n_lines = sum(map(len, transcribed.values()))
    inputs: dict[str, dict[int, np.ndarray]] = {form: {} for form in needed}
    with shown("lines of IAM-OnDB", n_lines, progress) as advance:
        for name, features in _parsed(_members(strokes, lambda name: _form_of(name) in needed), n_lines):
            form, number = _LINE_FILE.fullmatch(name).groups()  # type: ignore[union-attr]
            inputs[form][int(number)] = features
            advance()
    for form in sorted(needed):
        for source, has in ((strokes, bool(inputs[form])), (texts, form in transcribed)):
            if not has:
                raise UserError(f"{source}: expected files of the form {form}, which a split file names")
    left_out: Counter[str] = Counter()
    splits = {name: _split(forms[name], inputs, transcribed, left_out) for name in SPLITS}
    where = f"task.path={folder}"
    _pen.report(where, left_out)
    _warn_unless_paper(where, {name: len(split.inputs) for name, split in splits.items()})
    return splits, dict(left_out)


def _split(
    forms: Sequence[str],
    inputs: dict[str, dict[int, np.ndarray]],
    texts: dict[str, list[str]],
    left_out: Counter[str],
) -> Split:
    """Lines in the order of the forms; what is left out is counted by its reason."""
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for form in forms:
        last = max(inputs[form])
        if len(texts[form]) != last or "" in texts[form]:  # then nothing says which text is of which line
            until = f"strokes until line {last:02}, texts until line {len(texts[form]):02}"
            left_out[f"lines of form {form} ({'a blank line' if '' in texts[form] else until})"] += len(inputs[form])
            continue
        for number, marked in enumerate(texts[form], start=1):
            features = inputs[form].get(number, np.empty(0))
            targets = _pen.classes(" ".join(marked.replace(MARK, "").split()))
            if not len(targets):
                left_out["lines without text"] += 1
            elif not len(features):
                left_out["lines without strokes"] += 1
            elif not _pen.fits(features, targets):
                left_out["lines with too few points for their text"] += 1
            else:
                if MARK in marked:
                    left_out[f"marks {MARK!r} of ink without a character"] += marked.count(MARK)
                kept.append((features, targets))
    return Split([features for features, _ in kept], [targets for _, targets in kept])


def _form_of(name: str) -> str | None:
    match = _LINE_FILE.fullmatch(name)
    return match and match[1]


def _transcriptions(file: _corpus.File) -> list[str]:
    """The lines after ``CSR:``; none if there is no such section. Blank ones count, but before and after all others."""
    _, _, section = file.content.decode("utf-8", "replace").partition("CSR:")
    lines = [" ".join(line.split()) for line in section.strip().splitlines()]
    for number, line in enumerate(lines, 1):
        character = _pen.unknown(line.replace(MARK, ""))
        if character is not None:
            expected = f"expected the {len(_pen.CHARACTERS)} characters of IAM-OnDB"
            raise UserError(f"{file.label}: {expected}, found {character!r} in line {number} of its CSR section")
    return lines


def _parsed(files: Iterator[_corpus.File], n_files: int) -> Iterator[tuple[str, np.ndarray]]:
    """Names and features [T, 4] of files of strokes, in their order, parsed on all cores."""
    if n_files < _FEW:
        yield from ((file.name, _parse(file)) for file in files)
        return
    with _cores.processes(n_files) as mapped:
        while batch := list(islice(files, _BATCH)):
            yield from zip((file.name for file in batch), mapped(_parse, batch, 16), strict=True)


def _parse(file: _corpus.File) -> np.ndarray:
    """Features [T, 4] of a line; T is 0 if it has no points."""
    if file.name.endswith("-00.xml"):
        raise UserError(f"{file.label}: expected the lines of a form to be numbered from 01")
    try:
        points, firsts = _strokes(file.content)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise UserError(f"{file.label}: expected the XML of a line's strokes ({one_line(error)})") from None
    return _pen.features(points, firsts)


def _strokes(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Points x, y, time [P, 3] and the index of each stroke's first point [S].

    Raises:
        ExpatError, LookupError, ValueError: not the XML of strokes, or one with a document type, which is where
            entities that expand without end, or to other files, would be declared.
    """
    points: list[tuple[float, float, float]] = []
    firsts: list[int] = []
    tags: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if not tags and tag != "WhiteboardCaptureSession":
            raise ValueError(f"its root is {tag[:40]}, not WhiteboardCaptureSession")
        if tag == "Stroke":
            firsts.append(len(points))
        elif tag == "Point":
            if tags[-1] != "Stroke":
                raise ValueError("a Point outside a Stroke")
            if missing := {"x", "y", "time"} - attributes.keys():
                raise ValueError(f"a Point without {sorted(missing)[0]}")
            points.append((float(attributes["x"]), float(attributes["y"]), float(attributes["time"])))
        tags.append(tag)

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type, which is refused")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: tags.pop()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(content, True)
    array = np.array(points, np.float64).reshape(-1, 3)
    if not (np.abs(array) <= _LARGEST).all():  # nor is NaN
        raise ValueError(f"a number that is not finite, or beyond {_LARGEST:.0e}")
    return array, np.array(sorted(set(firsts) - {len(points)}), np.intp)


def _warn_unless_paper(where: str, found: dict[str, int]) -> None:
    if found != PAPER:
        counts = ["/".join(str(count[name]) for name in SPLITS) for count in (PAPER, found)]
        text = f"warning: {where}: expected {counts[0]} lines in {'/'.join(SPLITS)}, found {counts[1]}"
        print(text, file=sys.stderr, flush=True)
