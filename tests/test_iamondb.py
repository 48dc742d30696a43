"""IAM-OnDB: a miniature of it in the published formats, the features, the cache, and what bad files lead to."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.errors import UserError
from search.tasks import _corpus, _pen, iamondb
from search.tasks.task import SPLITS, Task

SPLIT_FILES = {
    "trainset.txt": ["a01-000u", "a08-551z", "g06-000f"],
    "testset_v.txt": ["b02-001"],
    "testset_t.txt": ["c03-002x"],
    "testset_f.txt": ["d04-003z"],
}
TEXTS = {
    "a01-000u": ["A MOVE to stop", "Mr. Gaitskell"],
    "a08-551z": ["%%%%"],
    "g06-000f": ["[see p. 5/8]"],
    "b02-001": ["life & art;", "(so) *far*"],
    "c03-002x": ["10+2: \"why?\""],
    "d04-003z": ["Can't - won't!"],
}  # fmt: skip

Files = dict[str, bytes]
Stroke = list[tuple[float, float, float]]


def xml(strokes: list[Stroke]) -> bytes:
    """The strokes of a line, as the database's files hold them."""
    body = ""
    for stroke in strokes:
        times = f'start_time="{stroke[0][2]}" end_time="{stroke[-1][2]}"' if stroke else ""
        points = "".join(f'      <Point x="{x}" y="{y}" time="{t}"/>\n' for x, y, t in stroke)
        body += f'    <Stroke colour="black" {times}>\n{points}    </Stroke>\n'
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<WhiteboardCaptureSession>\n  <WhiteboardDescription>\n'
        '    <SensorLocation corner="top_left"/>\n    <DiagonallyOppositeCoords x="6512" y="1376"/>\n'
        f"  </WhiteboardDescription>\n  <StrokeSet>\n{body}  </StrokeSet>\n</WhiteboardCaptureSession>\n"
    ).encode()


def scribble(seed: int, n_points: int = 70) -> list[Stroke]:
    random = np.random.default_rng(seed)
    xy = random.integers(800, 6000, (n_points, 2)).tolist()
    points = [(x, y, round(700 + 0.02 * i, 2)) for i, (x, y) in enumerate(xy)]
    return [points[:21], points[21:22], points[22:]]


def ascii_file(lines: list[str]) -> bytes:
    return ("OCR:\n\n" + "\n".join(lines).upper() + "\n\nCSR:\n\n" + "\n".join(lines) + "\n\n").encode()


def miniature() -> Files:
    """The published files by their paths in the archives, and the split files."""
    files = {name: "".join(f" {form}\n" for form in forms).encode() for name, forms in SPLIT_FILES.items()}
    for seed, (form, lines) in enumerate(TEXTS.items()):
        where = f"{form[:3]}/{form[:7]}/{form}"
        files[f"ascii/{where}.txt"] = ascii_file(lines)
        for number in range(1, len(lines) + 1):
            files[f"lineStrokes/{where}-{number:02}.xml"] = xml(scribble(10 * seed + number))
    return files


def folders(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def tar(path: Path, files: Files) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def archives(folder: Path, files: Files) -> Path:
    folder.mkdir(exist_ok=True)
    for stem in ("lineStrokes", "ascii"):
        tar(folder / f"{stem}-all.tar.gz", {name: files[name] for name in files if name.startswith(f"{stem}/")})
    tar(folder / "iamondb-t1.tar.gz", {f"t1/{name}": content for name, content in files.items() if "/" not in name})
    return folder


def load(folder: Path, **options: Any) -> Task:
    return iamondb.load(path=folder, progress=False, **options)


def error(folder: Path, **options: Any) -> str:
    with pytest.raises(UserError) as raised:
        load(folder, **options)
    text = str(raised.value)
    assert "\n" not in text and "expected" in text
    return text


def texts(task: Task, split: str) -> list[str]:
    return [_pen.text(target) for target in task.splits[split].targets]


# What is read


@pytest.mark.parametrize("form", [folders, archives])
def test_splits_are_those_of_the_split_files(
    tmp_path: Path, form: Callable[[Path, Files], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    task = load(form(tmp_path, miniature()))
    assert (task.name, task.loss, task.score) == ("iamondb", "ctc", "character error rate [%]")
    assert (task.n_inputs, task.n_classes, task.n_outputs, task.bidirectional) == (4, 81, 82, True)
    assert texts(task, "train") == [*TEXTS["a01-000u"], *TEXTS["g06-000f"]]
    assert texts(task, "valid") == [*TEXTS["b02-001"], *TEXTS["c03-002x"]]
    assert texts(task, "test") == TEXTS["d04-003z"]
    for split in task.splits.values():
        assert {x.dtype for x in split.inputs} == {np.dtype(np.float32)}
        assert {t.dtype for t in split.targets} == {np.dtype(np.int32)}
        assert [x.shape for x in split.inputs] == [(11 + 1 + 24, 4)] * len(split.inputs)
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "expected 5355/2956/3859" in told and "found 3/3/1" in told


def test_folders_archives_and_other_places_give_the_same(tmp_path: Path) -> None:
    files = miniature()
    expected = load(folders(tmp_path / "folders", files)).hash
    assert load(archives(tmp_path / "archives", files)).hash == expected
    moved = {name.replace("lineStrokes/", "lineStrokes-all/lineStrokes/"): files[name] for name in files}
    moved = {name if "/" in name else f"task1/{name}": content for name, content in moved.items()}
    assert load(folders(tmp_path / "moved", moved)).hash == expected
    mixed = archives(tmp_path / "mixed", files)
    (mixed / "iamondb-t1.tar.gz").unlink()
    folders(mixed, {name: content for name, content in files.items() if "/" not in name})
    assert load(mixed).hash == expected


def test_parsing_on_all_cores_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folders(tmp_path, miniature())
    alone = load(folder).hash
    monkeypatch.setattr(iamondb, "_FEW", 0)
    monkeypatch.setattr(iamondb, "_BATCH", 3)
    assert load(folder).hash == alone


def test_inventory_has_81_characters() -> None:
    assert len(set(_pen.CHARACTERS)) == len(_pen.CHARACTERS) == 81
    assert sorted(_pen.CHARACTERS) == list(_pen.CHARACTERS)
    assert _pen.text(_pen.classes(_pen.CHARACTERS)) == _pen.CHARACTERS
    assert (_pen.unknown("a b"), _pen.unknown("a%b")) == (None, "%")


# Features


def test_features_by_hand() -> None:
    strokes = [[(10, 5, 1.0), (99, 99, 1.1), (13, 9, 1.2), (99, 99, 1.3)], [(20, 9, 2.0)], [(18, 9, 3.0), (9, 9, 3.1)]]
    strokes.append([(18, 8, 4.0), (9, 9, 4.25), (21, 8, 4.5)])
    points, firsts = iamondb._strokes(xml(strokes))
    expected = [
        [0, 0, 0, 0],
        [3, 4, 0.2, 1],  # every second point of a stroke is dropped; the pen is lifted after what is then the last
        [7, 0, 0, 1],
        [-2, 0, 0, 1],
        [0, -1, 0, 0],
        [3, 0, 0.5, 1],
    ]
    assert firsts.tolist() == [0, 4, 5, 7]
    np.testing.assert_allclose(_pen.features(points, firsts), expected, atol=1e-6)


def test_features_are_normalised_by_the_training_set_alone(tmp_path: Path) -> None:
    files = miniature()
    task = load(folders(tmp_path / "one", files))
    train = np.concatenate(task.splits["train"].inputs)
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-5)
    other = files | {"lineStrokes/d04/d04-003/d04-003z-01.xml": xml(scribble(99))}
    changed = load(folders(tmp_path / "other", other))
    assert np.array_equal(train, np.concatenate(changed.splits["train"].inputs))
    assert not np.array_equal(task.splits["test"].inputs[0], changed.splits["test"].inputs[0])


def test_equal_neighbours_need_one_more_step() -> None:
    assert _pen.fits(np.zeros((3, 4)), _pen.classes("aba"))
    assert not _pen.fits(np.zeros((3, 4)), _pen.classes("aab"))
    assert _pen.fits(np.zeros((4, 4)), _pen.classes("aab"))


# What is left out


def test_what_is_left_out_is_told_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = miniature()
    files["ascii/a01/a01-000/a01-000u.txt"] = ascii_file(["A MOVE  to #stop", "Mr. #", "none", "feet", "#", "# #"])
    where = "lineStrokes/a01/a01-000/a01-000u-"
    del files[f"{where}02.xml"]
    for number, strokes in {3: [], 4: [[(1, 1, 1)] * 7], 5: scribble(5), 6: scribble(6)}.items():
        files[f"{where}{number:02}.xml"] = xml(strokes)
    task = load(folders(tmp_path, files))
    assert texts(task, "train") == ["A MOVE to stop", *TEXTS["g06-000f"]]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    for text in (
        f"task.path={tmp_path}",
        "2 lines without text",
        "2 lines without strokes",
        "1 lines with too few points for their text",
        "1 marks '#'",
    ):
        assert text in told[0]
    assert sum(task.source["left_out"].values()) == 6  # type: ignore[attr-defined]


def test_form_without_transcription_section_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = miniature() | {"ascii/a01/a01-000/a01-000u.txt": b"OCR:\n\nA MOVE\n"}
    assert texts(load(folders(tmp_path, files)), "train") == TEXTS["g06-000f"]
    assert "left out 2 lines of form a01-000u (strokes until line 02, texts until line 00)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ("A MOVE to stop\n\nMr. Gaitskell", "a blank line"),
        ("A MOVE to stop\n \t\nMr. Gaitskell", "a blank line"),
        ("A MOVE to stop\f\nMr. Gaitskell", "a blank line"),
        ("A MOVE\fto stop\nMr. Gaitskell", "strokes until line 02, texts until line 03"),
        ("A MOVE\rto stop\nMr. Gaitskell", "strokes until line 02, texts until line 03"),
        ("A MOVE\x1eto stop\nMr. Gaitskell", "strokes until line 02, texts until line 03"),
        ("A MOVE to stop", "strokes until line 02, texts until line 01"),
    ],
)
def test_form_whose_texts_and_strokes_do_not_come_out_even_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: str, reason: str
) -> None:
    files = miniature() | {"ascii/a01/a01-000/a01-000u.txt": f"OCR:\n\nA\n\nCSR:\n\n{section}\n\n".encode()}
    task = load(folders(tmp_path, files))
    assert texts(task, "train") == TEXTS["g06-000f"]
    assert f"left out 2 lines of form a01-000u ({reason})" in capsys.readouterr().err
    assert task.source["left_out"] == {f"lines of form a01-000u ({reason})": 2}


def test_transcriptions_with_other_line_ends_are_read(tmp_path: Path) -> None:
    expected = load(folders(tmp_path, miniature())).hash
    for form, lines in TEXTS.items():
        where = tmp_path / f"ascii/{form[:3]}/{form[:7]}/{form}.txt"
        where.write_bytes(ascii_file(lines).replace(b"\n", b"\r\n") + b"\f\r\n")
    assert load(tmp_path).hash == expected


# Bad files

LINE = "lineStrokes/a01/a01-000/a01-000u-01.xml"
BOMB = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
REFUSED = "document type"


@pytest.mark.parametrize("form", [folders, archives])
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (LINE, b"", "no element found"),
        (LINE, xml(scribble(1))[:-60], "unclosed token"),
        (LINE, xml(scribble(1)).replace(b"</Stroke>", b"</Strike>", 1), "mismatched tag"),
        (LINE, b"<StrokeSet/>", "not WhiteboardCaptureSession"),
        (LINE, xml(scribble(1)).replace(b' time="', b' when="', 1), "a Point without time"),
        (LINE, xml(scribble(1)).replace(b' x="', b' x="a', 2), "could not convert"),
        (LINE, xml([[(1, float("inf"), 1)]]), "not finite"),
        (LINE, xml([[(1, float("nan"), 1)]]), "not finite"),
        (LINE, xml([[(1e308, 1, 1), (-1e308, 1, 2), (1, 1, 3)]]), "beyond 1e+09"),
        (LINE, xml([[(1, 1, 1e40)]]), "beyond 1e+09"),
        (LINE.replace("-01", "-00"), xml(scribble(1)), "numbered from 01"),
        (LINE, xml(scribble(1)).replace(b"StrokeSet>\n", b'StrokeSet>\n<Point x="1" y="1" time="1"/>', 1), "outside"),
        (LINE, BOMB + b"<WhiteboardCaptureSession>&b;</WhiteboardCaptureSession>", REFUSED),
        (LINE, b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><WhiteboardCaptureSession/>', REFUSED),
        (LINE, b'<?xml version="1.0" encoding="nonsense"?><WhiteboardCaptureSession/>', "encoding"),
        ("ascii/a01/a01-000/a01-000u.txt", ascii_file(["100 %"]), "found '%' in line 1"),
        ("ascii/a01/a01-000/a01-000u.txt", "CSR:\n\nso\ncafé".encode(), "found 'é' in line 2"),
        ("trainset.txt", b"a01-000u\n../../etc\n", "found '../../etc'"),
    ],
)
def test_bad_file_is_one_line_that_names_it(
    tmp_path: Path, form: Callable[[Path, Files], Path], name: str, content: bytes, expected: str
) -> None:
    text = error(form(tmp_path, miniature() | {name: content}))
    assert name in text and expected in text


def test_every_encoding_of_xml_is_read_and_its_entities_are_refused(tmp_path: Path) -> None:
    wide = xml(scribble(1)).decode().replace("ISO-8859-1", "UTF-16").encode("utf-16")
    expected = load(folders(tmp_path, miniature())).hash
    assert load(folders(tmp_path, {LINE: wide})).hash == expected
    bomb = (
        BOMB.decode().replace("?>", ' encoding="UTF-16"?>') + "<WhiteboardCaptureSession>&b;</WhiteboardCaptureSession>"
    )
    assert REFUSED in error(folders(tmp_path, {LINE: bomb.encode("utf-16")}))


def test_forms_of_two_splits_or_of_none_are_told(tmp_path: Path) -> None:
    twice = error(folders(tmp_path, miniature() | {"trainset.txt": b"a01-000u\nb02-001\n"}))
    assert "testset_v.txt" in twice and "b02-001 in trainset.txt too" in twice
    unknown = error(folders(tmp_path, {"trainset.txt": b"a01-000u z99-999\n"}))
    assert "lineStrokes" in unknown and "z99-999" in unknown


def test_empty_split_is_told(tmp_path: Path) -> None:
    assert "train set" in error(folders(tmp_path, miniature() | {"trainset.txt": b" a08-551z\n"}))


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("testset_t.txt", "the split file testset_t.txt"),
        ("ascii/", "ascii-all.tar.gz or the folder ascii"),
        ("lineStrokes/", "lineStrokes-all.tar.gz or the folder lineStrokes"),
        ("ascii/b02", "the form b02-001"),
        ("lineStrokes/b02", "the form b02-001"),
    ],
)
def test_missing_files_are_told(tmp_path: Path, missing: str, expected: str) -> None:
    files = {name: content for name, content in miniature().items() if not name.startswith(missing)}
    text = error(folders(tmp_path, files))
    assert str(tmp_path) in text and expected in text


def test_no_path_and_wrong_paths_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.path=null: expected the folder of IAM-OnDB"):
        iamondb.load()
    assert "no such folder" in error(tmp_path / "missing")
    (tmp_path / "file").touch()
    assert "no such folder" in error(tmp_path / "file")
    assert "expected" in error(Path("\0"))


def test_two_split_files_that_differ_are_told(tmp_path: Path) -> None:
    folder = folders(tmp_path, miniature() | {"task2/trainset.txt": b"a01-000u\n"})
    assert "task2/trainset.txt" in error(folder)
    (folder / "task2" / "trainset.txt").write_bytes((folder / "trainset.txt").read_bytes())
    assert len(texts(load(folder), "train")) == 3


# Malicious archives


@pytest.mark.parametrize("name", ["../../a01-000u-01.xml", "/tmp/a01-000u-01.xml", "lineStrokes/../../../x.xml"])
def test_members_that_would_escape_are_refused(tmp_path: Path, name: str) -> None:
    folder = archives(tmp_path / "data", miniature())
    tar(folder / "lineStrokes-all.tar.gz", {name: xml(scribble(1))})
    text = error(folder)
    assert name in text and "inside the archive" in text


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"no archive", lambda data: b""])
def test_damaged_archive_is_told(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = archives(tmp_path, miniature())
    path = folder / "lineStrokes-all.tar.gz"
    path.write_bytes(damage(path.read_bytes()))
    text = error(folder)
    assert str(path) in text and ".tar.gz" in text


def rewritten(folder: Path, change: Callable[[bytes], bytes]) -> str:
    """What is said about an archive of strokes whose unpacked content was changed before it was packed."""
    path = archives(folder, miniature()) / "lineStrokes-all.tar.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes())), 1))
    text = error(folder)
    assert str(path) in text
    return text


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("size", [1 << 33, -512])
def test_headers_of_gigabytes_are_refused(tmp_path: Path, kind: bytes, size: int) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, size
    written = header.tobuf(tarfile.GNU_FORMAT)
    assert "headers of more than 32 MiB, or of a negative size" in rewritten(tmp_path, lambda data: written + data)


def test_headers_of_megabytes_without_end_are_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XGLTYPE, 1 << 20
    written = header.tobuf(tarfile.GNU_FORMAT) + f"{1 << 20} x=".encode().ljust((1 << 20) - 1) + b"\n"
    assert "headers of more than 32 MiB" in rewritten(tmp_path, lambda data: written * 33 + data)


def test_members_that_lead_back_are_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("x")
    member.size = -1024
    written = member.tobuf(tarfile.GNU_FORMAT)

    def change(data: bytes) -> bytes:
        second = data.index(LINE.replace("-01", "-02").encode())
        return data[:second] + written + data[second:]

    assert "expected a file's size, found -1024" in rewritten(tmp_path, change)


def test_headers_without_end_are_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 5
    written = header.tobuf(tarfile.GNU_FORMAT) + b"name".ljust(512, b"\0")
    assert "expected a whole .tar.gz" in rewritten(tmp_path, lambda data: written * 5000 + data)


def test_archives_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_corpus, "MOST_UNPACKED", 1 << 20)
    assert "at most 1 MiB when unpacked" in rewritten(tmp_path, lambda data: data + bytes(1 << 20))
    member = tarfile.TarInfo("unwanted")
    member.size = 1 << 30
    written = member.tobuf(tarfile.GNU_FORMAT)
    assert "found a longer one" in rewritten(tmp_path, lambda data: written + data)


def test_archive_with_a_damaged_or_missing_end_is_refused(tmp_path: Path) -> None:
    """tarfile takes a header that it cannot read for the end, and would silently leave out all that follows."""
    second = LINE.replace("-01", "-02").encode()
    assert "cannot be read" in rewritten(tmp_path, lambda data: data.replace(second, second.replace(b"2", b"3")))
    assert "no end" in rewritten(tmp_path, lambda data: data[: -(-len(data.rstrip(b"\0")) // 512) * 512])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_archives_are_refused(tmp_path: Path, kind: bytes) -> None:
    folder = archives(tmp_path / "data", miniature())
    with tarfile.open(folder / "lineStrokes-all.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo(LINE)
        member.type, member.linkname, member.devmajor, member.devminor = kind, "/etc/passwd", 1, 5
        archive.addfile(member)
    text = error(folder)
    assert LINE in text and "a link, a device" in text


@pytest.mark.parametrize("name", [LINE, "ascii/a01/a01-000/a01-000u.txt"])
def test_links_to_devices_and_pipes_in_folders_are_refused(tmp_path: Path, name: str) -> None:
    folder = folders(tmp_path, miniature())
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert name in (text := error(folder)) and "a pipe or a device" in text
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert name in (text := error(folder)) and "a pipe or a device" in text


@pytest.mark.parametrize("form", [folders, archives])
def test_files_of_many_megabytes_are_refused(tmp_path: Path, form: Callable[[Path, Files], Path]) -> None:
    text = error(form(tmp_path, miniature() | {LINE: b" " * (_corpus.MOST_BYTES + 1)}))
    assert LINE in text and "a file of at most 4 MiB" in text


def test_file_that_is_there_twice_is_told(tmp_path: Path) -> None:
    folder = folders(tmp_path, miniature() | {"lineStrokes/copy/a01-000u-01.xml": xml(scribble(1))})
    text = error(folder)
    assert "a01-000u-01.xml" in text and "another" in text


# The cache


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return folders(tmp_path / "data", miniature())


def never(*_: Any) -> None:
    raise AssertionError("parsed again")


def test_cache_gives_the_same_without_parsing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "ascii/a01/a01-000/a01-000u.txt").write_bytes(ascii_file(["A MOVE", "#"]))
    first = load(data, cache=tmp_path / "cache")
    assert "1 lines without text" in capsys.readouterr().err
    monkeypatch.setattr(iamondb, "_parsed", never)
    again = load(data, cache=tmp_path / "cache")
    assert (again.hash, again.source) == (first.hash, first.source)
    assert again.source["left_out"] == {"lines without text": 1}
    assert capsys.readouterr().err == ""


def pickled(data: bytes) -> bytes:
    file = io.BytesIO()
    np.savez(file, train_inputs=np.array([{}], object))
    return file.getvalue()


def flipped(data: bytes) -> bytes:
    with np.load(io.BytesIO(data)) as file:
        content = {name: file[name].copy() for name in file.files}
    content["train_inputs"][0, 0] += 1
    changed = io.BytesIO()
    np.savez(changed, **content)
    return changed.getvalue()


@pytest.mark.parametrize("damage", [pickled, flipped, lambda data: data[:-100], lambda data: b""])
def test_damaged_cache_is_told_and_rebuilt(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes]
) -> None:
    expected = load(data, cache=tmp_path).hash
    file = tmp_path / "iamondb.npz"
    file.write_bytes(damage(file.read_bytes()))
    capsys.readouterr()
    assert load(data, cache=tmp_path).hash == expected
    assert f"{file} is made anew" in capsys.readouterr().err.splitlines()[0]
    load(data, cache=tmp_path)
    assert capsys.readouterr().err == ""


def test_cache_of_other_files_is_told_and_rebuilt(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load(data, cache=tmp_path).hash
    (data / LINE).write_bytes(xml(scribble(77)))
    capsys.readouterr()
    after = load(data, cache=tmp_path).hash
    assert "made anew: it was made by" in capsys.readouterr().err
    assert after != before and after == load(data).hash


def test_cache_that_cannot_be_written_is_told_before_parsing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(iamondb, "_parsed", never)
    assert "task.cache" in error(data, cache=tmp_path / "file")


@pytest.mark.usefixtures("modes_hold")
def test_forbidden_file_is_told(data: Path) -> None:
    (data / LINE).chmod(0)
    assert LINE in error(data)


def test_counts_are_recorded(data: Path) -> None:
    task = load(data)
    assert task.source["sequences"] == {name: len(task.splits[name].inputs) for name in SPLITS}
