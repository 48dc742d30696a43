"""The synthetic speech task: the same speech every time, its splits, its labels, and its cache."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search import tasks
from search.errors import UserError
from search.tasks import _cores, _speech, speech
from search.tasks.task import SPLITS

needs_engine = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs espeakng-loader (pip install 'odyssey[speech]')"
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(speech.SIZES, "small", ({"train": 3, "valid": 2, "test": 2}, 2, (0, 0)))


def error(**options: Any) -> str:
    with pytest.raises(UserError) as raised:
        tasks.load({"name": "speech", "progress": False} | options)
    text = str(raised.value)
    assert "\n" not in text and "expected" in text
    return text


@pytest.mark.parametrize("size", ["small", "paper"])
def test_plan_has_its_sizes_and_splits_share_no_voice_and_no_sentence(size: str) -> None:
    sentences = speech.plan(size, 0)
    expected = {"small": [120, 40, 40], "paper": [3696, 400, 192]}[size]
    assert [len(sentences[name]) for name in SPLITS] == expected
    variants = [{sentence.variant for sentence in sentences[name]} for name in SPLITS]
    assert sum(map(len, variants)) == len(set.union(*variants))
    everything = [sentence for name in SPLITS for sentence in sentences[name]]
    assert len({sentence.text for sentence in everything}) == len(everything)
    assert len({sentence.seed for sentence in everything}) == len(everything)
    n_speakers, n_sentences, _ = speech.SIZES[size]
    assert len({sentence.speaker for sentence in everything}) == sum(n_speakers.values())
    assert len(everything) == n_sentences * sum(n_speakers.values())


def test_plan_depends_on_nothing_but_its_seed() -> None:
    assert speech.plan("small", 3) == speech.plan("small", 3)
    assert speech.plan("small", 3) != speech.plan("small", 4)


def test_room_and_noise_are_as_loud_as_drawn() -> None:
    clear = np.sin(np.arange(16000) / 5) * 0.3
    heard = speech.in_a_room(clear, np.random.default_rng(0))
    assert heard.shape == clear.shape
    level = 20 * np.log10(np.sqrt(np.mean(heard**2)))
    assert speech.LEVEL[0] - 1e-6 <= level <= speech.LEVEL[1] + 1e-6
    share = np.corrcoef(clear, heard)[0, 1]
    assert 0.5 < share < 0.999


def test_every_name_has_a_class() -> None:
    assert len(speech.PHONEMES) == len(set(speech.PHONEMES))
    assert set(speech.ALIKE.values()) <= set(speech.PHONEMES)
    assert not set(speech.ALIKE) & set(speech.PHONEMES)
    assert speech.phoneme_class("'aI@") == speech.PHONEMES.index("aI@")
    assert speech.phoneme_class("I2") == speech.PHONEMES.index("I")
    assert [speech.phoneme_class(name) for name in ("_", "_:", "")] == [speech.SILENCE] * 3
    with pytest.raises(UserError, match=r"phoneme xx: expected"):
        speech.phoneme_class("xx")


@needs_engine
def test_voice_says_the_phonemes_in_order_and_always_alike() -> None:
    sentence = speech.Sentence("The judge chose.", "en-us", "f2", 50, 170, (0,))
    other = speech.Sentence("Some quiet boy laughed.", "en", "m3", 30, 200, (1,))
    samples, events, rate = speech.speak(sentence)
    speech.speak(other)
    again = speech.speak(sentence)
    np.testing.assert_array_equal(samples, again[0])
    assert (events, rate) == again[1:] and rate == 22050
    said = [speech.PHONEMES[phoneme] for _, phoneme in events if phoneme != speech.SILENCE]
    assert said == ["D", "@", "dZ", "V", "dZ", "tS", "oU", "z"]
    starts = [start for start, _ in events]
    assert starts == sorted(starts) and starts[0] >= 0 and starts[-1] <= len(samples)


@needs_engine
def test_labels_lie_where_the_sound_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "SIGNAL_TO_NOISE", (60.0, 60.0))
    monkeypatch.setattr(speech, "ECHO", (-60.0, -60.0))
    for n, variant in enumerate(("f2", "m3", "Andy")):
        inputs, targets = speech._make(speech.Sentence("The quiet teacher sang.", "en-us", variant, 50, 170, (n,)))
        assert len(inputs) == len(targets) and targets.dtype == np.int32 and inputs.dtype == np.float32
        least = round(speech.PAUSE[0] / 0.010) - 3
        assert (targets[:least] == speech.SILENCE).all() and (targets[-least:] == speech.SILENCE).all()
        assert (targets >= 0).all()
        vowel = np.isin(targets, [speech.PHONEMES.index(name) for name in ("aI@", "aI", "i:", "a", "@", "3")])
        energy = inputs[:, 12]
        assert np.median(energy[vowel]) > np.median(energy[targets == speech.SILENCE]) + 5
        hiss = targets == speech.PHONEMES.index("s")
        assert np.median(inputs[hiss, 0]) < np.median(inputs[vowel, 0]) - 20  # c1: more power above than below


@pytest.mark.slow
@needs_engine
def test_corpus_is_the_same_on_all_cores_and_from_the_cache(
    tmp_path: Path, tiny: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = speech.load(cache=tmp_path, progress=False)
    assert (first.loss, first.bidirectional, first.score) == ("categorical", True, "frame error rate [%]")
    assert (first.n_inputs, first.n_outputs) == (39, len(speech.PHONEMES))
    assert first.source["sequences"] == {"train": 6, "valid": 4, "test": 4}

    made = [speech._make(sentence) for name in SPLITS for sentence in speech.plan("small", 0)[name]]
    parts = np.split(np.arange(14), [6, 10])
    again = _speech.normalised({name: [made[n] for n in part] for name, part in zip(SPLITS, parts, strict=True)})
    for name in SPLITS:
        for one, other in zip(first.splits[name].inputs, again[name].inputs, strict=True):
            np.testing.assert_array_equal(one, other)

    file = tmp_path / "speech-small-0.npz"
    with monkeypatch.context() as patch:
        patch.setattr(_cores, "on_all_cores", None)  # no longer needed
        assert speech.load(cache=tmp_path).hash == first.hash
    assert capsys.readouterr().err == ""
    made_anew = iter(made)
    monkeypatch.setattr(_cores, "on_all_cores", lambda function, items, label, show: [next(made_anew) for _ in items])
    file.write_bytes(file.read_bytes()[:-100])
    assert speech.load(cache=tmp_path, progress=False).hash == first.hash
    assert f"{file} is made anew" in capsys.readouterr().err
    made_anew = iter(made)
    monkeypatch.setattr(speech, "SIGNAL_TO_NOISE", (1.0, 2.0))
    speech.load(cache=tmp_path, progress=False)
    assert "made anew: it was made by" in capsys.readouterr().err


@needs_engine
def test_voice_that_is_missing_is_told() -> None:
    with pytest.raises(UserError, match=r"voice xx\+yy: expected"):
        speech.speak(speech.Sentence("Yes.", "xx", "yy", 50, 170, (0,)))


@needs_engine
@pytest.mark.parametrize("options", [{"size": "huge"}, {"size": None}, {"seed": -1}, {"seed": True}, {"seed": "x"}])
def test_illegal_settings_are_told(options: dict[str, Any]) -> None:
    (key,) = options
    assert f"task.{key}={options[key]}" in error(**options)


def test_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise _speech.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(_speech.metadata, "version", missing)
    text = "task=speech: expected the package espeakng-loader; pip install 'odyssey[speech]'"
    assert error() == text
