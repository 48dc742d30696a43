"""Synthetic speech, a free stand-in for TIMIT: label every 10 ms frame with its phoneme.

Made on the user's machine: eSpeak NG speaks sentences of a small grammar in many voices and says where each phoneme
begins; rooms and noise, drawn at random, make it harder. The same seed and packages make the same corpus. No voice
variant is in two splits, and no sentence is said twice.
"""

import _ctypes
import ctypes
import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from search.errors import UserError, one_line
from search.tasks import _cache, _cores, _speech
from search.tasks._options import Seed
from search.tasks.task import SPLITS, Task

RECIPE = 1  # one more whenever the same seed would give other speech: older caches are then rebuilt

# Speakers of each split, sentences of each speaker, objects of each sentence (fewest, most).
SIZES: dict[str, tuple[dict[str, int], int, tuple[int, int]]] = {
    "small": ({"train": 30, "valid": 10, "test": 10}, 4, (0, 0)),
    "paper": ({"train": 462, "valid": 50, "test": 24}, 8, (1, 3)),  # as TIMIT
}

# How hard it is. Drawn for each sentence, uniformly between the two.
SIGNAL_TO_NOISE = (5.0, 20.0)  # dB, over the whole sentence
NOISE_SLOPE = (0.0, 2.0)  # power falls as frequency to this power: 0 white, 1 pink, 2 brown
REVERBERATION = (0.1, 0.4)  # seconds in which an echo loses 60 dB
ECHO = (-12.0, -3.0)  # dB, all echoes against the direct sound
LEVEL = (-36.0, -20.0)  # dB, the sentence against full scale
PAUSE = (0.08, 0.25)  # seconds of silence before and after the sentence

PITCHES = (25, 75)  # eSpeak NG's scale of 0 to 100
SPEEDS = (150, 220)  # words per minute

ACCENTS = ("en-us", "en", "en-us-nyc", "en-gb-x-rp")
VARIANTS = str.split(
    "f1 f2 f3 f4 f5 m1 m2 m3 m4 m5 m6 m7 m8 Alicia Andrea Andy Annie Denis Gene Gene2 Lee Mario Michael Mike adam "
    "anika antonio aunty belinda benjamin boris david ed edward edward2 grandma grandpa gustave ian iven iven2 john "
    "linda marcelo max michel miguel norbert pablo paul pedro quincy rob robert sandro shelby steph steph2 travis "
    "victor zac"
)
VARIANT_SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}

# The classes: phonemes by eSpeak NG's names, without stress.
PHONEMES = str.split(
    "_ p b t d k g t# tS dZ f v T D s z S Z h m n N l @L r w j i: i I E a V 0 O: A: U u: 3: 3 @ eI aI OI aU oU A@ i@ "
    "e@ O@ U@ aI@"
)
SILENCE = PHONEMES.index("_")
# Other names, of the same sounds or of ones too rare or short to be learnt.
ALIKE = {
    "t2": "t", ";": "j", "r-": "r", "I2": "I", "I#": "I", "E#": "E", "E2": "E", "aa": "a", "a2": "a", "a#": "@",
    "@2": "@", "@-": "@", "@5": "@", "O2": "0", "0#": "0", "O": "O:", "u": "u:", "3#": "3", "oU#": "oU", "i@3": "i@",
    "o@": "O@", "aI3": "aI@", "l#": "l", "n-": "n", "m-": "m", "?": "t#",
}  # fmt: skip

DETERMINERS = str.split("the this that every some another her his our their my your one no")
ADJECTIVES = str.split(
    "quiet yellow young little orange fresh heavy golden rough smooth early usual foreign bright cheap wooden strange "
    "thirsty royal purple lazy curious gentle noisy former dusty secret modern famous broken clever empty shiny "
    "humble joyful awful precious square thick vague worthy hungry narrow loyal cosy brave huge tidy faithful"
)
NOUNS = str.split(
    "teacher garden bottle measure choice village engine author fisherman judge kitchen thunder pleasure shadow "
    "window chair fear tower voyage youth oyster butter fire bird boy cow horse beach mother father brother sailor "
    "singer lawyer doctor treasure jungle bridge watch church market vision planet river mountain island weather "
    "leather pocket pure carpet feather zebra tiger rabbit vehicle yacht guitar piano picture number letter table "
    "school garage collision whistle thief tooth cloth earth book wolf spoon cottage hour year"
)
VERBS = str.split(
    "watched carried followed measured noticed touched found heard loved chose pushed caught taught brought drew hid "
    "joined enjoyed avoided thought finished covered used moved bought sold judged changed reached washed pulled "
    "guarded feared gathered borrowed threw shook understood surprised visited answered"
)
ADVERBS = str.split("slowly often yesterday quickly together again proudly there quietly twice outside early always")
PREPOSITIONS = str.split("near behind under through beyond with against above around without before after")


@dataclass(frozen=True)
class Sentence:
    """What is said, and how; `seed` is that of its noise and room.

    A speaker is a voice (accent and variant), its pitch and its speed in words per minute.
    """

    text: str
    accent: str
    variant: str
    pitch: int
    speed: int
    seed: tuple[int, ...]

    @property
    def speaker(self) -> str:
        """Its name."""
        return f"{self.accent}+{self.variant} {self.pitch} {self.speed}"


def load(
    size: Literal["small", "paper"] = "small",
    seed: Seed = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Task:
    """Speech as float32 [T, 39] (see `search.tasks._speech.features`), normalised by the training set, with the place
    in `PHONEMES` of the phoneme at the centre of each frame's window as its class.

    Args:
        size: ``small``: 120/40/40 sentences of about 1.5 s; ``paper``: 3696/400/192 of about 3 s.
        seed: of speakers, sentences, noise and rooms.
        cache: folder that keeps the features once they are made; None makes them every time.
        progress: whether to show the progress of this on stderr.

    Raises:
        UserError: a needed package is missing, or the cache cannot be written.
    """
    versions = {
        "espeakng-loader": _speech.needed_version("espeakng-loader", "speech", "pip install 'odyssey[speech]'"),
        "librosa": _speech.needed_version("librosa", "speech", "pip install 'odyssey[speech]'"),
    }
    sentences = plan(size, seed)
    kept = None if cache is None else Path(str(cache)).expanduser() / f"speech-{size}-{seed}.npz"

    def make() -> _cache.Content:
        everything = [sentence for name in SPLITS for sentence in sentences[name]]
        made = iter(_cores.on_all_cores(_make, everything, "speech by eSpeak NG", progress))
        return _cache.packed(_speech.normalised({name: [next(made) for _ in sentences[name]] for name in SPLITS}))

    return Task(
        name="speech",
        splits=_cache.unpacked(_cache.kept(kept, _made_by(sentences, versions), make)),
        loss="categorical",
        score="frame error rate [%]",
        source={
            "corpus": "synthetic speech by eSpeak NG",
            "size": size,
            "seed": seed,
            **versions,
            "cache": None if kept is None else str(kept),
            "sequences": {name: len(sentences[name]) for name in SPLITS},
            "speakers": {name: len({sentence.speaker for sentence in sentences[name]}) for name in SPLITS},
        },
        bidirectional=True,
        n_classes=len(PHONEMES),
    )


def plan(size: str, seed: int) -> dict[str, list[Sentence]]:
    """What is said in each split, by whom, speaker by speaker."""
    n_speakers, n_sentences, objects = SIZES[size]
    rng = np.random.default_rng(seed)
    variants = dict(zip(SPLITS, _shared_out(VARIANTS, rng), strict=True))
    said: set[str] = set()
    sentences: dict[str, list[Sentence]] = {}
    for n, name in enumerate(SPLITS):
        speakers: dict[tuple[str, str, int, int], None] = {}  # as a set, in the order they were drawn
        while len(speakers) < n_speakers[name]:
            pitch, speed = (int(rng.integers(low, high + 1)) for low, high in (PITCHES, SPEEDS))
            speakers[_one(ACCENTS, rng), _one(variants[name], rng), pitch, speed] = None
        sentences[name] = [
            Sentence(_new_text(said, objects, rng), *speaker, seed=(seed, n, k, repetition))
            for k, speaker in enumerate(speakers)
            for repetition in range(n_sentences)
        ]
    return sentences


def _shared_out(variants: Sequence[str], rng: np.random.Generator) -> list[list[str]]:
    shuffled = [variants[n] for n in rng.permutation(len(variants))]
    ends = np.round(np.cumsum([VARIANT_SHARES[name] for name in SPLITS]) * len(shuffled)).astype(int)
    return [shuffled[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _new_text(said: set[str], objects: tuple[int, int], rng: np.random.Generator) -> str:
    """A sentence that is not yet in `said`, to which it is added."""
    while (text := _text(objects, rng)) in said:
        pass
    said.add(text)
    return text


def _text(objects: tuple[int, int], rng: np.random.Generator) -> str:
    """Subject, verb, then objects, each after the first with a preposition, at times an adverb."""
    words = [_thing(rng), _one(VERBS, rng)]
    n_objects = rng.integers(objects[0], objects[1] + 1)
    for n in range(n_objects):
        words += [_one(PREPOSITIONS, rng)] * (n > 0) + [_thing(rng)]
    if rng.random() < 0.3:
        words.append(_one(ADVERBS, rng))
    return " ".join(words) + "."


def _thing(rng: np.random.Generator) -> str:
    adjective = [_one(ADJECTIVES, rng)] if rng.random() < 0.5 else []
    return " ".join([_one(DETERMINERS, rng), *adjective, _one(NOUNS, rng)])


def _made_by(sentences: dict[str, list[Sentence]], versions: dict[str, str]) -> str:
    """All that the corpus depends on, so that changed constants or word lists make it anew."""
    conditions = SIGNAL_TO_NOISE, NOISE_SLOPE, REVERBERATION, ECHO, LEVEL, PAUSE, PHONEMES, sorted(ALIKE.items())
    digest = hashlib.sha256(repr((sentences, conditions)).encode()).hexdigest()
    packages = ", ".join(f"{package} {version}" for package, version in versions.items())
    return f"settings {digest[:16]}, recipes {RECIPE} and {_speech.RECIPE}, {packages}"


def _make(sentence: Sentence) -> _speech.Utterance:
    """Features and classes of the frames of a sentence."""
    from scipy.signal import resample_poly

    spoken, events, rate = speak(sentence)
    common = math.gcd(_speech.RATE, rate)
    signal = resample_poly(spoken / 32768, _speech.RATE // common, rate // common)
    rng = np.random.default_rng(sentence.seed)
    before, after = (round(rng.uniform(*PAUSE) * _speech.RATE) for _ in range(2))
    heard = in_a_room(np.pad(signal, (before, after)), rng)
    starts = [0] + [before + round(sample * _speech.RATE / rate) for sample, _ in events]
    labels = [SILENCE] + [phoneme for _, phoneme in events]
    ends = [*starts[1:], before + len(signal)]
    segments = [*zip(starts, ends, labels, strict=True), (before + len(signal), len(heard), SILENCE)]
    inputs = _speech.features(heard)
    return inputs, _speech.frame_labels(segments, len(inputs))


def in_a_room(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A signal at 16 kHz with echoes, noise and a level drawn at random, of the same length."""
    from scipy.signal import fftconvolve

    n_echoes = round(rng.uniform(*REVERBERATION) * _speech.RATE)
    response = rng.standard_normal(n_echoes) * 10 ** (-3 * np.arange(n_echoes) / n_echoes)
    response[0] = 0
    response *= _gain(rng.uniform(*ECHO)) / np.linalg.norm(response)
    response[0] = 1
    clear = fftconvolve(signal, response)[: len(signal)]

    spectrum = np.fft.rfft(rng.standard_normal(len(signal)))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-rng.uniform(*NOISE_SLOPE) / 2)
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, len(signal))
    noise *= _loudness(clear) / _loudness(noise) / _gain(rng.uniform(*SIGNAL_TO_NOISE))
    noisy = clear + noise
    return noisy * _gain(rng.uniform(*LEVEL)) / _loudness(noisy)


def _gain(decibels: float) -> float:
    return 10 ** (decibels / 20)


def _loudness(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(signal**2)))


def phoneme_class(name: str) -> int:
    """The class of a phoneme by eSpeak NG's name for it, with or without stress.

    Raises:
        UserError: no class is meant for it.
    """
    plain = name.lstrip("',%=|")
    if plain.startswith("_") or not plain:
        return SILENCE
    plain = ALIKE.get(plain, plain)
    if plain not in PHONEMES:
        expected = f"eSpeak NG to say one of {' '.join(PHONEMES)}; try another version of espeakng-loader"
        raise UserError(f"task=speech: phoneme {name}: expected {expected}")
    return PHONEMES.index(plain)


class _Identity(ctypes.Union):
    """Union in espeak_EVENT of eSpeak NG's speak_lib.h."""

    _fields_: ClassVar = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak_EVENT of eSpeak NG's speak_lib.h."""

    _fields_: ClassVar = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Identity),
    ]


# Constants of speak_lib.h, and the type of its callback: samples, how many, events up to one of type 0.
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _DO_NOT_EXIT = 0x0001, 0x8000
_RATE, _PITCH = 1, 3
_CHARACTERS, _UTF_8 = 1, 1
_LAST, _PHONEME = 0, 7
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def speak(sentence: Sentence) -> tuple[np.ndarray, list[tuple[int, int]], int]:
    """Has eSpeak NG say a sentence, always in the same way.

    Returns:
        int16 [samples]; of each phoneme its first sample and its class; samples per second.

    Raises:
        UserError: the library or its voices are missing or do not fit.
    """
    import espeakng_loader

    samples: list[np.ndarray] = []
    events: list[tuple[int, bytes]] = []

    @_Callback
    def receive(wave: Any, count: int, happened: Any) -> int:
        if wave and count > 0:
            samples.append(np.ctypeslib.as_array(wave, (count,)).copy())
        for event in itertools.takewhile(lambda event: event.type != _LAST, (happened[n] for n in itertools.count())):
            if event.type == _PHONEME:
                events.append((event.sample, event.id.string))
        return 0

    folder = espeakng_loader.get_data_path()
    with _library(espeakng_loader.get_library_path()) as library:
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, folder.encode(), _PHONEME_EVENTS | _DO_NOT_EXIT)
        if rate <= 0:
            raise UserError(
                f"task=speech: {folder}: expected the voices of eSpeak NG, in a path of at most 150 letters"
            )
        library.espeak_SetSynthCallback(receive)
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        voice = f"{sentence.accent}+{sentence.variant}"
        text = sentence.text.encode() + b"\0"
        failed = (
            library.espeak_SetVoiceByName(voice.encode())
            or library.espeak_SetParameter(_RATE, sentence.speed, 0)
            or library.espeak_SetParameter(_PITCH, sentence.pitch, 0)
            or library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, _CHARACTERS, 0, _UTF_8, None, None)
            or library.espeak_Synchronize()
        )
        library.espeak_Terminate()
    if failed or not samples or not events:
        raise UserError(f"task=speech: voice {voice}: expected eSpeak NG to have it and to speak (code {failed})")
    return np.concatenate(samples), [(sample, phoneme_class(name.decode())) for sample, name in events], rate


@contextmanager
def _library(path: str) -> Iterator[ctypes.CDLL]:
    """eSpeak NG as it is when just loaded: it keeps the state of its pitch from one sentence to the next, and has no
    function that resets it."""
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise UserError(f"task=speech: expected the library of espeakng-loader to load ({one_line(error)})") from error
    try:
        yield library
    finally:
        _ctypes.dlclose(library._handle)
