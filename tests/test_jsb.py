"""The JSB Chorales task: both sources, its cache, and what bad data leads to."""

import hashlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search import tasks
from search.errors import UserError
from search.tasks import _cache, _music21, jsb
from search.tasks.task import SPLITS, Task

ROOT = Path(__file__).parents[1]
SMALL = {
    "train": [[[60, 64, 67, 72], [59, 62, 67], []], [[60], [62]], [[21, 108], [48, 52, 55, 60]]],
    "valid": [[[60, 63, 67], [60]]],
    "test": [[[55], [], [48, 60]]],
}
CHORALES = 10

Write = Callable[[str, bytes | str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def mat(content: dict[str, Any], transpose: bool = False, compress: bool = False) -> bytes:
    from scipy.io import savemat

    cells = {}
    for split, sequences in content.items():
        cell = np.empty((1, len(sequences)), object)
        for n, sequence in enumerate(sequences):
            roll = np.zeros((len(sequence), 88))
            for t, step in enumerate(sequence):
                roll[t, [pitch - 21 for pitch in step]] = 1
            cell[0, n] = roll.T if transpose else roll
        cells[f"{split}data"] = cell
    file = io.BytesIO()
    savemat(file, cells, do_compression=compress)
    return file.getvalue()


def tuples(content: dict[str, Any]) -> dict[str, Any]:
    return {split: [[tuple(step) for step in sequence] for sequence in content[split]] for split in content}


def with_arrays(content: dict[str, Any]) -> dict[str, Any]:
    """Steps as arrays, in one of them NumPy scalars, and the sequences of one split as an array of objects."""
    arrays: dict[str, Any] = {
        split: [[np.array(step, int) for step in sequence] for sequence in content[split]] for split in content
    }
    arrays["valid"][0][1] = [np.int64(60)]
    train = np.empty(len(arrays["train"]), object)
    train[:] = arrays["train"]
    return arrays | {"train": train}


def boulanger(path: Path) -> Task:
    return jsb.load(source="boulanger", path=path)


def error(**options: Any) -> str:
    with pytest.raises(UserError) as raised:
        tasks.load({"name": "jsb"} | options)
    text = str(raised.value)
    assert "\n" not in text and "expected" in text
    return text


def assert_equal(one: Task, other: Task) -> None:
    assert one.hash == other.hash


# The published benchmark


def test_benchmark_has_its_published_counts(benchmark_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = boulanger(benchmark_file)
    assert task.source["sequences"] == {"train": 229, "valid": 76, "test": 77}
    assert [task.splits[name].n_steps for name in SPLITS] == [13807 - 229, 4602 - 76, 4725 - 77]
    assert task.source["sha256"] == hashlib.sha256(benchmark_file.read_bytes()).hexdigest()
    assert capsys.readouterr().err == ""


def test_benchmark_is_the_same_in_every_format(benchmark_file: Path, write: Write) -> None:
    content = json.loads(benchmark_file.read_text())
    expected = boulanger(benchmark_file)
    assert_equal(boulanger(write("a.mat", mat(content))), expected)
    assert_equal(boulanger(write("a.pickle", pickle.dumps(tuples(content)))), expected)


def test_each_step_predicts_the_next(write: Write) -> None:
    task = boulanger(write("small.json", json.dumps(SMALL)))
    assert (task.name, task.loss, task.score) == ("jsb", "bernoulli", "negative log-likelihood [nats per step]")
    assert (task.n_inputs, task.n_outputs) == (88, 88)
    inputs, targets = task.splits["train"].inputs[0], task.splits["train"].targets[0]
    assert inputs.dtype == targets.dtype == np.float32
    assert [np.flatnonzero(step).tolist() for step in inputs] == [[39, 43, 46, 51], [38, 41, 46]]
    assert [np.flatnonzero(step).tolist() for step in targets] == [[38, 41, 46], []]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("form", [dict, tuples, with_arrays])
def test_pickles_of_every_protocol_are_read(write: Write, protocol: int, form: Callable[..., Any]) -> None:
    task = boulanger(write("small.pickle", pickle.dumps(form(SMALL), protocol)))
    assert_equal(task, boulanger(write("small.json", json.dumps(SMALL))))


def test_pickle_of_python_2_is_read(write: Write) -> None:
    text = pickle.dumps(tuples(SMALL), 0).replace(b"Vtrain", b"S'train'").replace(b"Vvalid", b"S'valid'")
    task = boulanger(write("small.pickle", text.replace(b"Vtest", b"S'test'")))
    assert_equal(task, boulanger(write("small.json", json.dumps(SMALL))))


def test_transposed_matlab_matrices_are_read(write: Write) -> None:
    task = boulanger(write("small.mat", mat(SMALL, transpose=True)))
    assert_equal(task, boulanger(write("small.json", json.dumps(SMALL))))


def test_other_counts_than_the_benchmark_are_told(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    boulanger(write("small.json", json.dumps(SMALL)))
    warning = capsys.readouterr().err
    assert "small.json" in warning and "229/76/77" in warning and "3/1/1" in warning
    assert warning.count("\n") == 1


# Bad files


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", "", "JSON"),
        ("a.json", json.dumps(SMALL)[:-20], "JSON"),
        ("a.json", b"\xff\xfe\x00\xd8", "JSON"),
        ("a.json", "[" * 100_000, "JSON"),
        ("a.json", "[]", "keys train, valid, test"),
        ("a.json", json.dumps({"train": SMALL["train"], "valid": SMALL["valid"]}), "found no test"),
        ("a.json", json.dumps(SMALL | {"valid": []}), "valid to be a list of at least 1"),
        ("a.json", json.dumps(SMALL | {"valid": "x"}), "valid to be a list"),
        ("a.json", json.dumps(SMALL | {"valid": [[[60]]]}), "valid[0] to be a list of at least 2 time steps"),
        ("a.json", json.dumps(SMALL | {"valid": [[60, 62]]}), "valid[0][0] to be a list"),
        ("a.json", json.dumps(SMALL | {"valid": [[[60], [109]]]}), "from 21 to 108, found 109 in valid[0][1]"),
        ("a.json", json.dumps(SMALL | {"valid": [[[60], [20]]]}), "from 21 to 108, found 20"),
        ("a.json", json.dumps(SMALL | {"valid": [[[60], [60.5]]]}), "from 21 to 108, found 60.5"),
        ("a.json", json.dumps(SMALL | {"valid": [[[60], ["\n" * 99]]]}), "from 21 to 108, found '"),
        ("a.json", json.dumps(SMALL | {"valid": [[[60], [None]]]}), "from 21 to 108, found None"),
        ("a.json", json.dumps(SMALL | {"valid": [[[60], [float("nan")]]]}), "from 21 to 108, found nan"),
        ("a.json", json.dumps(SMALL | {"valid": [[[60], [True]]]}), "from 21 to 108, found True"),
        ("a.mat", b"", "MATLAB"),
        ("a.mat", b"not MATLAB", "MATLAB"),
        ("a.mat", mat(SMALL)[:-40], "MATLAB"),
        ("a.mat", mat({"train": SMALL["train"], "valid": SMALL["valid"]}), "no cell array testdata"),
        ("a.pickle", b"", "pickle"),
        ("a.pickle", json.dumps(SMALL), "pickle"),
        ("a.pickle", pickle.dumps(SMALL)[:-9], "pickle"),
        ("a.pickle", pickle.dumps(SMALL | {"valid": [[{60}, {61}]]}), "valid[0][0] to be a list"),
        ("a.txt", json.dumps(SMALL), "*.json, *.mat, *.pickle"),
    ],
)
def test_bad_file_is_one_line_that_names_it(write: Write, name: str, content: bytes | str, expected: str) -> None:
    path = write(name, content)
    text = error(source="boulanger", path=path)
    assert str(path) in text and expected in text


@pytest.mark.parametrize("matrix", [np.ones((4, 87)), np.full((4, 88), 0.5), np.full((4, 88), "x")])
def test_matlab_matrices_of_another_kind_are_refused(tmp_path: Path, matrix: np.ndarray) -> None:
    from scipy.io import savemat

    cell = np.empty((1, 1), object)
    cell[0, 0] = matrix
    savemat(tmp_path / "a.mat", {f"{split}data": cell for split in SPLITS})
    assert "binary [T, 88] matrices" in error(source="boulanger", path=tmp_path / "a.mat")


def test_missing_file_directory_and_no_path_are_told(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    assert "No such file" in error(source="boulanger", path=tmp_path / "missing.json")
    assert "directory" in error(source="boulanger", path=tmp_path / "folder.json")
    assert "task.path=null" in error(source="boulanger")
    assert "\0.json"[1:] in error(source="boulanger", path="\0.json")


@pytest.mark.usefixtures("modes_hold")
def test_forbidden_file_and_cache_are_told(write: Write, tmp_path: Path) -> None:
    path = write("a.json", json.dumps(SMALL))
    path.chmod(0)
    assert "Permission denied" in error(source="boulanger", path=path)
    tmp_path.chmod(0o500)
    assert "Permission denied" in error(cache=tmp_path / "cache")


def test_unknown_source_and_unused_path_are_refused() -> None:
    assert "task.source=midi" in error(source="midi")
    assert "task.path=a.json" in error(path="a.json")


# Malicious files


class Call:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "malice",
    [
        Call(os.system, "touch EXECUTED"),
        Call(eval, "open('EXECUTED', 'w')"),
        Call(np.fromfile, "a.pickle"),
        Call(np.load, "a.npy", None, True),
        Path,
        Call,
    ],
    ids=["system", "eval", "fromfile", "load", "class", "own"],
)
def test_pickle_that_asks_for_anything_else_is_refused_unexecuted(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, malice: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write("a.pickle", pickle.dumps({"train": malice}))
    assert "it asks for" in error(source="boulanger", path=path)
    assert not (tmp_path / "EXECUTED").exists()


def test_pickled_array_cannot_pass_bytes_off_as_objects(write: Write) -> None:
    # NumPy's own dtype would let its state clear the flag that says "these bytes are pointers".
    state = b"(I3\nV|\nNNNI-1\nI-1\nI0\ntb"
    dtype = b"cnumpy\ndtype\n(VO8\nI0\nI1\ntR" + state
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n(I1\nt" + dtype + b"I00\nV"
    path = write("a.pickle", b"(dVtrain\n" + array + b"AAAAAAAA\ntbs.")
    assert "an array of object" in error(source="boulanger", path=path)


def aliased(n: int) -> bytes:
    """A pickle of a few bytes, of n sequences that are one, of n time steps that are one."""
    step: list[int] = [60]
    return pickle.dumps({split: [[step] * n] * n for split in SPLITS})


def of_one_array(n: int, form: str) -> bytes:
    """A pickle of n arrays that are made from the same bytes."""
    write: Any = io.BytesIO()
    pickler = pickle.Pickler(write, 2)
    array = np.zeros(n, int) if form == "numbers" else np.array([None] * n)
    function, arguments, state = array.__reduce__()  # type: ignore[misc]
    pickler.dump([Built(function, arguments, state) for _ in range(n)])
    return write.getvalue()


class Built:
    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


def unpacks_to(n_bytes: int) -> bytes:
    """A MATLAB file whose compressed element is that long when unpacked."""
    data = zlib.compress(bytes(n_bytes), 1)
    return mat(SMALL)[:128] + (15).to_bytes(4, "little") + len(data).to_bytes(4, "little") + data


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("a.pickle", lambda: b"\x80\x02]r\xff\xff\xff\x7f.", "numbers its objects up to 2147483647"),
        ("a.pickle", lambda: b"(lp999999999999\n.", "numbers its objects up to 999999999999"),
        ("a.pickle", lambda: aliased(2000), "at most 1000000 time steps in train, found 4000000"),
        ("a.pickle", lambda: of_one_array(4000, "numbers"), "arrays of more than 10000000 numbers"),
        ("a.pickle", lambda: of_one_array(4000, "objects"), "arrays of more than 10000000 numbers"),
        (
            "a.json",
            lambda: json.dumps(SMALL | {"test": [[[60] * 89, [60]]]}),
            "at most 88 pitches, found 89 in test[0]",
        ),
        ("a.json", lambda: " " * ((1 << 25) + 1), "a file of at most 32 MiB"),
        ("a.mat", lambda: unpacks_to((1 << 27) + 1), "unpacks to more than 128 MiB"),
    ],
)
def test_file_that_would_take_memory_or_time_without_end_is_refused(
    write: Write, name: str, make: Callable[[], bytes | str], expected: str
) -> None:
    path = write(name, make())
    text = error(source="boulanger", path=path)
    assert str(path) in text and expected in text


def test_link_to_a_device_and_a_pipe_are_refused(tmp_path: Path) -> None:
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("zero.json", "pipe.json"):
        text = error(source="boulanger", path=tmp_path / name)
        assert name in text and "a pipe or a device" in text


# The chorales of music21


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Task]:
    """A cache of a few chorales, and the task as it was when they were parsed."""
    cache = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        few = _music21.scores()[:CHORALES]
        patch.setattr(_music21, "scores", lambda: few)
        return cache, jsb.load(cache=cache, progress=False)


@pytest.fixture
def cache(prepared: tuple[Path, Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that cache, beside a parser that gives what it holds, at once."""
    rolls = _music21.rolls(prepared[0] / "jsb-music21.npz", False)
    assert rolls is not None
    monkeypatch.setattr(_music21, "_parse", lambda paths, show_progress: rolls)
    monkeypatch.setattr(_music21, "scores", lambda: [])
    (tmp_path / "jsb-music21.npz").write_bytes((prepared[0] / "jsb-music21.npz").read_bytes())
    return tmp_path


def never(*_: Any) -> None:
    raise AssertionError("parsed again")


def test_chorales_of_music21_are_in_c(prepared: tuple[Path, Task]) -> None:
    task = prepared[1]
    steps = np.concatenate([x for split in task.splits.values() for x in split.targets])
    classes = np.array([steps[:, (np.arange(88) + 21) % 12 == pitch].sum() for pitch in range(12)]) / steps.sum()
    assert set(np.argsort(classes)[-2:]) == {0, 7}
    assert classes[1] + classes[6] < 0.05
    assert 3.6 < steps.sum() / len(steps) <= 4
    lasts = [np.flatnonzero(x[-1])[0] for split in task.splits.values() for x in split.targets]
    assert np.mean([(last + 21) % 12 == 0 for last in lasts]) > 0.7


def test_chorale_is_what_the_score_says() -> None:
    path = next(path for path in _music21.scores() if path.stem == "bwv269")
    roll = _music21.chorale(path)
    assert roll is not None
    # G2 B3 D4 G4 | G3 B3 D4 G4, E3 C4 E4 G4 (held), from G major up to C.
    expected = [[48, 64, 67, 72], [60, 64, 67, 72], [57, 65, 69, 72]]
    assert [(np.flatnonzero(step) + 21).tolist() for step in roll[:3]] == expected


def test_score_of_other_voices_is_no_chorale() -> None:
    assert _music21.chorale(next(path for path in _music21.scores() if path.stem == "bwv846")) is None


def test_parsing_gives_the_same_without_cache_and_from_it(
    prepared: tuple[Path, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = _music21.scores()[:CHORALES]
    monkeypatch.setattr(_music21, "scores", lambda: few)
    assert_equal(jsb.load(progress=False), prepared[1])
    monkeypatch.setattr(_music21, "_parse", never)
    assert_equal(jsb.load(cache=prepared[0]), prepared[1])


def test_source_records_version_cache_and_counts(prepared: tuple[Path, Task]) -> None:
    cache, task = prepared
    sizes = {name: len(task.splits[name].inputs) for name in SPLITS}
    assert task.source == {
        "source": "music21",
        "music21": _music21.version(),
        "cache": str(cache / "jsb-music21.npz"),
        "sequences": sizes,
    }


@pytest.mark.parametrize(("n", "sizes"), [(5, [3, 1, 1]), (10, [6, 2, 2]), (362, [217, 73, 72]), (371, [223, 74, 74])])
def test_split_is_exact_and_depends_on_the_names_alone(n: int, sizes: list[int]) -> None:
    rolls = {f"bwv{i}": np.full((2, 88), i) for i in range(n)}
    split = jsb._split(rolls)
    assert [len(split[name]) for name in SPLITS] == sizes
    assert len({roll[0, 0] for name in SPLITS for roll in split[name]}) == n
    again = jsb._split(dict(reversed(rolls.items())))
    assert all(np.array_equal(split[name], again[name]) for name in SPLITS)


def test_cache_is_read_in_an_instant_and_without_music21(cache: Path) -> None:
    code = (
        "import sys, time; from search.tasks import jsb; start = time.perf_counter(); "
        f"jsb.load(cache={str(cache)!r}); print(time.perf_counter() - start, 'music21' in sys.modules)"
    )
    seconds, imported = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split()
    assert float(seconds) < 1.0 and imported == "False"


def flip(data: bytes) -> bytes:
    """The file with one note changed and everything else, its hash included, as it was."""
    with np.load(io.BytesIO(data)) as file:
        content = {name: file[name].copy() for name in file.files}
    content["rolls"][0, 0] ^= True
    changed = io.BytesIO()
    np.savez_compressed(changed, **content)
    return changed.getvalue()


def pickled(data: bytes) -> bytes:
    file = io.BytesIO()
    np.savez(file, rolls=np.array([{}], object))
    return file.getvalue()


@pytest.mark.parametrize(
    "damage", [flip, pickled, lambda data: data[:-100], lambda data: data[:100], lambda data: b"", lambda data: b"no"]
)
def test_damaged_cache_is_told_and_rebuilt(
    cache: Path, prepared: tuple[Path, Task], capsys: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes]
) -> None:
    file = cache / "jsb-music21.npz"
    file.write_bytes(damage(file.read_bytes()))
    assert_equal(jsb.load(cache=cache), prepared[1])
    told = capsys.readouterr().err
    assert str(file) in told and "made anew" in told and told.count("\n") == 1
    assert_equal(jsb.load(cache=cache), prepared[1])
    assert capsys.readouterr().err == ""


def test_cache_of_another_music21_is_told_and_rebuilt(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_music21, "version", lambda: "99.0")
    assert jsb.load(cache=cache).source["music21"] == "99.0"
    assert "this is music21 99.0" in capsys.readouterr().err
    jsb.load(cache=cache)
    assert capsys.readouterr().err == ""


def test_cache_of_an_older_format_is_told_and_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when the arrays had other names: a sound file, made from the same scores by the same recipe."""
    file = tmp_path / "cache.npz"
    with monkeypatch.context() as older:
        older.setattr(_cache, "FORMAT", _cache.FORMAT - 1)
        _cache.kept(file, "recipe 1", lambda: {"older name": np.zeros(1)})
    assert list(_cache.kept(file, "recipe 1", lambda: {"name": np.zeros(1)})) == ["name"]
    assert f"{file} is made anew" in capsys.readouterr().err


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interrupted_write_leaves_the_old_cache_and_nothing_else(
    cache: Path, monkeypatch: pytest.MonkeyPatch, reason: BaseException
) -> None:
    file = cache / "jsb-music21.npz"
    file.write_bytes(b"old")

    def half(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise reason

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(UserError if isinstance(reason, OSError) else KeyboardInterrupt):
        jsb.load(cache=cache)
    assert list(cache.iterdir()) == [file] and file.read_bytes() == b"old"


def test_cache_that_cannot_be_written_is_told_before_parsing(
    cache: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("file", "")
    monkeypatch.setattr(_music21, "_parse", never)
    assert str(file) in error(cache=file)
    assert str(file / "below") in error(cache=file / "below")


def test_missing_corpus_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_music21, "scores", lambda: [])
    assert "corpus" in error(progress=False)


@pytest.mark.slow
def test_interrupt_ends_the_parsing_promptly_and_quietly(tmp_path: Path) -> None:
    # Of a job in the background, as CI may be, the shell has had SIGINT ignored.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from search.tasks import jsb; "
    code += f"jsb.load(cache={str(tmp_path)!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    assert "to do" in process.stderr.readline()
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode != 0
    assert told.count("Traceback") == 1 and told.rstrip().endswith("KeyboardInterrupt")
    assert list(tmp_path.iterdir()) == []
