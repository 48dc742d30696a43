"""The TIMIT task, on miniature trees in the corpus's formats: what is read, which split it is in, and bad files."""

import io
import os
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.errors import UserError
from search.tasks import _cores, _speech, timit
from search.tasks.task import SPLITS, Task

SPEAKERS = {"train": ["fcjf0", "mdac0"], "test": ["faks0", "mdab0", "fjwb0"]}  # the last is in no split
SAMPLES = 4000
FRAMES = 1 + (SAMPLES - 400) // 160


def sphere(samples: np.ndarray, order: str = "01", **changed: str | None) -> bytes:
    """A SPHERE file with the fields of the corpus."""
    fields: dict[str, str | None] = {
        "database_id": "-s5 TIMIT",
        "channel_count": "-i 1",
        "sample_count": f"-i {len(samples)}",
        "sample_rate": "-i 16000",
        "sample_n_bytes": "-i 2",
        "sample_byte_format": f"-s2 {order}",
    }
    lines = [f"{key} {value}" for key, value in (fields | changed).items() if value is not None]
    header = "\n".join(["NIST_1A", "   1024", *lines, "end_head", ""]).encode().ljust(1024)
    return header + samples.astype({"01": "<i2", "10": ">i2"}[order]).tobytes()


def riff(samples: np.ndarray, rate: int = 16000, channels: int = 1) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return content.getvalue()


def chunk(content: bytes, name: bytes, size: int) -> bytes:
    """A RIFF file with one more chunk, before its first, of which nothing but the name and the size is there."""
    return content[:12] + name + size.to_bytes(4, "little") + content[12:]


def resized(content: bytes, name: bytes, size: int) -> bytes:
    """A RIFF file of which one chunk says that it is of another size."""
    place = content.index(name) + 4
    return content[:place] + size.to_bytes(4, "little") + content[place + 4 :]


def samples(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3000, 3000, SAMPLES)


PHN = "0 1000 h#\n1000 2500 sh\n2500 3600 ix\n"  # nothing after sample 3600


def tree(root: Path, upper: bool = False, form: Callable[[np.ndarray], bytes] = sphere) -> Path:
    """Two training speakers, one of each other split, and one of none; of each SA1, SI9 and SX9."""
    case = str.upper if upper else str.lower
    places = [(part, speaker) for part in SPEAKERS for speaker in SPEAKERS[part]]
    for n, (part, speaker) in enumerate(places):
        folder = root / case(part) / case(f"dr{1 + n}") / case(speaker)
        folder.mkdir(parents=True)
        for k, sentence in enumerate(("sa1", "si9", "sx9")):
            (folder / case(f"{sentence}.wav")).write_bytes(form(samples(10 * n + k)))
            (folder / case(f"{sentence}.phn")).write_text(PHN)
            (folder / case(f"{sentence}.txt")).write_text("0 4000 She.\n")
    return root


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are made in this process: starting others takes longer than the work."""

    def in_turn(function: Callable[[Any], Any], items: Any, label: str, show_progress: bool) -> list[Any]:
        return [function(item) for item in items]

    monkeypatch.setattr(_cores, "on_all_cores", in_turn)


def error(path: str | Path | None, **options: Any) -> str:
    with pytest.raises(UserError) as raised:
        timit.load(path, progress=False, **options)
    text = str(raised.value)
    assert "\n" not in text and "expected" in text
    return text


def a_file(root: Path, name: str = "sx9.wav") -> Path:
    return root / "train" / "dr1" / "fcjf0" / name


# What is read


def test_lists_are_of_the_published_sizes() -> None:
    assert (len(timit.PHONES), len(set(timit.PHONES))) == (61, 61)
    assert (len(timit.VALID_SPEAKERS), len(timit.TEST_SPEAKERS)) == (50, 24)
    assert not timit.VALID_SPEAKERS & timit.TEST_SPEAKERS


def test_splits_are_by_speaker_without_dialect_sentences(tmp_path: Path, here: None) -> None:
    task = timit.load(tree(tmp_path))
    assert {name: len(task.splits[name].inputs) for name in SPLITS} == {"train": 4, "valid": 2, "test": 2}
    assert task.source["left_out"] == {"dialect sentences (SA)": 5, "utterances of other test speakers": 2}
    assert (task.loss, task.bidirectional, task.score) == ("categorical", True, "frame error rate [%]")
    assert (task.n_inputs, task.n_classes, task.n_outputs) == (39, 61, 61)


@pytest.mark.parametrize("form", [sphere, lambda values: sphere(values, "10"), riff])
@pytest.mark.parametrize("upper", [False, True])
def test_case_and_format_change_nothing(tmp_path: Path, here: None, upper: bool, form: Any) -> None:
    assert timit.load(tree(tmp_path / "a" / "TIMIT", upper, form).parent).hash == timit.load(tree(tmp_path / "b")).hash


def test_riff_copy_beside_the_original_is_one_utterance(tmp_path: Path, here: None) -> None:
    expected = timit.load(tree(tmp_path)).hash
    a_file(tmp_path, "sx9.wav.wav").write_bytes(riff(samples(99)))
    assert timit.load(tmp_path).hash == expected


def test_label_is_that_at_the_centre_of_the_window(tmp_path: Path, here: None) -> None:
    target = timit.load(tree(tmp_path)).splits["train"].targets[0]
    assert target.dtype == np.int32 and len(target) == FRAMES
    centres = 160 * np.arange(FRAMES) + 200
    expected = [
        next((timit.PHONES.index(phone) for end, phone in ((1000, "h#"), (2500, "sh"), (3600, "ix")) if c < end), -1)
        for c in centres
    ]
    assert target.tolist() == expected
    assert expected[5] == timit.PHONES.index("sh") and expected[-1] == -1  # the centre is the sample 1000; 3720


def test_frames_in_gaps_and_on_edges() -> None:
    labels = _speech.frame_labels([(200, 360, 7), (520, 521, 8)], 5)
    assert labels.tolist() == [7, -1, 8, -1, -1]


def test_inputs_are_normalised_by_the_training_set_alone(tmp_path: Path, here: None) -> None:
    folder = tree(tmp_path)
    before = timit.load(folder)
    training = np.concatenate(before.splits["train"].inputs)
    assert training.dtype == np.float32
    np.testing.assert_allclose(training.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(training.std(axis=0), 1, atol=1e-5)
    (folder / "test" / "dr3" / "faks0" / "sx9.wav").write_bytes(sphere(samples(5) // 100))
    after = timit.load(folder)
    for one, other in zip(before.splits["train"].inputs, after.splits["train"].inputs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_features_are_those_of_their_frames() -> None:
    noise = np.random.default_rng(0).standard_normal(16000) * 0.1
    found = _speech.features(noise, 16000)
    assert found.shape == (98, 39) and found.dtype == np.float32
    later = _speech.features(noise[160:], 16000)
    np.testing.assert_allclose(found[6:-5, :13], later[5:-5, :13], atol=1e-3)
    energy = np.log((noise[160 * 3 : 160 * 3 + 400] ** 2).sum())
    assert found[3, 12] == pytest.approx(energy, abs=1e-4)
    slope = sum(k * (found[10 + k, :13] - found[10 - k, :13]) for k in (1, 2)) / 10
    np.testing.assert_allclose(found[10, 13:26], slope, atol=1e-3)
    assert np.isfinite(_speech.features(np.zeros(800))).all()


def test_incomplete_corpus_is_told_in_one_line(
    tmp_path: Path, here: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    timit.load(tree(tmp_path))
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1 and str(tmp_path) in warning
    assert "3696/400/192" in warning and "4/2/2" in warning and "460 of 462 train, 49 of 50 valid" in warning
    monkeypatch.setattr(timit, "SPEAKERS", {"train": 2, "valid": 1, "test": 1})
    monkeypatch.setattr(timit, "UTTERANCES_PER_SPEAKER", 2)
    timit.load(tmp_path)
    assert capsys.readouterr().err == ""


# Bad files


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("sx9.wav", b"", "NIST SPHERE or RIFF"),
        ("sx9.wav", b"OggS", "NIST SPHERE or RIFF"),
        ("sx9.wav", b"NIST_1A\n", "SPHERE header"),
        ("sx9.wav", sphere(samples(0)).replace(b"end_head", b"end_heap"), "SPHERE header"),
        ("sx9.wav", sphere(samples(0))[:-1], "expected 4000 samples, found 3999.5"),
        ("sx9.wav", sphere(samples(0)) + b"\0", "expected 4000 samples, found 4000.5"),
        ("sx9.wav", sphere(samples(0), sample_count="-i 2000"), "expected 2000 samples, found 4000"),
        ("sx9.wav", sphere(samples(0), sample_count="-i -4000"), "expected -4000 samples"),
        ("sx9.wav", sphere(samples(0)).replace(b"   1024", b"   1022"), "SPHERE header"),
        ("sx9.wav", sphere(samples(0)).replace(b"   1024", b"   1025"), "SPHERE header"),
        ("sx9.wav", sphere(samples(0)).replace(b"   1024", b"   2048"), "expected 4000 samples, found 3488"),
        ("sx9.wav", sphere(samples(0)).replace(b"   1024", b"   0000"), "SPHERE header"),
        ("sx9.wav", sphere(samples(0), database_id="-s5 TIMIT\nsample_rate -i 16000"), "sample_rate once"),
        ("sx9.wav", sphere(samples(0), sample_count=None), "a number of samples"),
        ("sx9.wav", sphere(samples(0), sample_coding="-s26 pcm,embedded-shorten-v2.00"), "convert it"),
        ("sx9.wav", sphere(samples(0), sample_rate="-i 8000"), "sample_rate 16000, found 8000"),
        ("sx9.wav", sphere(samples(0), sample_n_bytes="-i 1"), "sample_n_bytes 2, found 1"),
        ("sx9.wav", sphere(samples(0), channel_count="-i 2"), "channel_count 1, found 2"),
        ("sx9.wav", sphere(samples(0), sample_byte_format="-s1 1"), "sample_byte_format 01 or 10, found 1"),
        ("sx9.wav", sphere(samples(0)[:399]), "at least 400 samples, found 399"),
        ("sx9.wav", riff(samples(0))[:30], "RIFF"),
        ("sx9.wav", riff(samples(0))[:-2], "expected 4000 samples, found 3999"),
        ("sx9.wav", riff(samples(0), rate=8000), "16000 Hz, 16 bits, 1 channel, found 8000 Hz"),
        ("sx9.wav", riff(samples(0), channels=2), "1 channel"),
        ("sx9.wav", riff(samples(0)) + b"\0\0", "expected a whole RIFF file"),
        ("sx9.wav", chunk(riff(samples(0)), b"LIST", 0xFFFFFFF0), "RIFF"),
        ("sx9.wav", chunk(riff(samples(0)), b"LIST", 0x7FFFFFFF), "RIFF"),
        ("sx9.wav", resized(riff(samples(0)), b"data", 4000), "expected a whole RIFF file"),
        ("sx9.wav", resized(riff(samples(0)), b"data", 0xFFFFFFFE), "samples, found 4000"),
        ("sx9.wav", resized(riff(samples(0)), b"fmt ", 0xFFFFFFFE), "RIFF"),
        ("sx9.wav", resized(riff(samples(0)), b"RIFF", 4036), "expected 4000 samples, found 2000"),
        ("sx9.wav", None, "expected the file SX9.WAV"),
        ("sx9.phn", None, "expected the file SX9.PHN"),
        ("sx9.phn", "", "found none"),
        ("sx9.phn", "0 100\n", "line 1: expected 'start end phone'"),
        ("sx9.phn", "0 100 h#\n100 x sh\n", "line 2: expected 'start end phone'"),
        ("sx9.phn", "0 100 h#\n100 200 xx\n", "line 2: expected one of the 61 phones, found 'xx'"),
        ("sx9.phn", "0 100 h#\n300 200 sh\n", "line 2: expected boundaries in order"),
        ("sx9.phn", "100 200 h#\n0 100 sh\n", "line 2: expected boundaries in order"),
        ("sx9.phn", b"\xff\xfe\x00", "line 1: expected 'start end phone'"),
        ("sx9.phn", "9000 9100 h#\n", "phones within the 4000 samples"),
    ],
)
def test_bad_file_is_one_line_that_names_it(
    tmp_path: Path, here: None, name: str, content: bytes | str | None, expected: str
) -> None:
    path = a_file(tree(tmp_path), name)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    text = error(tmp_path)
    assert expected in text and str(path.with_suffix("")) in text


@pytest.mark.parametrize("form", [sphere, riff])
def test_flipped_bit_of_a_header_is_refused_or_changes_no_sample(
    tmp_path: Path, form: Callable[[np.ndarray], bytes]
) -> None:
    path, content = tmp_path / "a.wav", form(samples(0))
    n_bytes = len(content) - 2 * SAMPLES
    refused = 0
    for bit in range(0, 8 * min(n_bytes, 200), 3):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(timit.audio(path), samples(0))
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 30


def test_riff_file_with_further_chunks_is_read(tmp_path: Path) -> None:
    plain = riff(samples(0))
    more = plain[:12] + b"LIST\3\0\0\0abc\0" + plain[12:] + b"cue \2\0\0\0ab"
    (tmp_path / "a.wav").write_bytes(resized(more, b"RIFF", len(more) - 8))
    np.testing.assert_array_equal(timit.audio(tmp_path / "a.wav"), samples(0))


@pytest.mark.parametrize("name", ["sx9.wav", "sx9.phn"])
def test_links_to_devices_and_pipes_are_refused(tmp_path: Path, here: None, name: str) -> None:
    path = a_file(tree(tmp_path), name)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert str(path) in (text := error(tmp_path)) and "a pipe or a device" in text
    path.unlink()
    os.mkfifo(path)
    assert str(path) in (text := error(tmp_path)) and "a pipe or a device" in text


@pytest.mark.slow
def test_bad_file_ends_the_work_on_all_cores(tmp_path: Path) -> None:
    path = a_file(tree(tmp_path))
    path.write_bytes(sphere(samples(0))[:-1])
    assert str(path) in error(tmp_path)


def test_wrong_paths_and_empty_splits_are_told(tmp_path: Path) -> None:
    assert "task.path=null" in error(None)
    assert "No such file" in error(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    assert "Not a directory" in error(tmp_path / "file")
    assert "train and test in it" in error(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    assert "462 speakers for train, found none" in error(tmp_path)
    assert "null byte" in error("a\0b")


# The cache


def kept(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def assert_equal(one: Task, other: Task) -> None:
    assert one.hash == other.hash
    assert all(target.dtype == np.int32 for name in SPLITS for target in other.splits[name].targets)


def test_cache_is_read_and_repaired(
    tmp_path: Path, here: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = tree(tmp_path / "timit"), tmp_path / "cache"
    first = timit.load(folder, cache)
    content = kept(cache).read_bytes()
    kept(cache).write_bytes(content[:5000] + b"\0" + content[5001:])
    assert_equal(first, timit.load(folder, cache))
    assert f"{kept(cache)} is made anew" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(_speech, "RECIPE", 99)
        assert_equal(first, timit.load(folder, cache))
    assert "recipe 99" in capsys.readouterr().err
    timit.load(folder, cache)
    monkeypatch.setattr(timit, "_extract", None)  # no longer needed
    assert_equal(first, timit.load(folder, cache))


def test_changed_corpus_has_a_cache_of_its_own(tmp_path: Path, here: None) -> None:
    folder, cache = tree(tmp_path / "timit"), tmp_path / "cache"
    first = timit.load(folder, cache)
    a_file(folder, "sx9.phn").write_text(PHN.replace("sh", "s"))
    assert timit.load(folder, cache).hash != first.hash
    assert len(list(cache.iterdir())) == 2


def test_cache_that_cannot_be_written_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cores, "on_all_cores", None)
    folder = tree(tmp_path / "timit")
    assert "task.cache=/dev/null/x" in error(folder, cache="/dev/null/x")


def test_missing_librosa_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise _speech.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(_speech.metadata, "version", missing)
    assert "expected the package librosa" in error(tree(tmp_path))
