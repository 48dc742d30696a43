"""TIMIT: label every 10 ms frame of read speech with one of 61 phones (Greff et al. 2015, section IV).

The splits are those of Halberstadt (1998): the 462 training speakers, 50 development speakers and the 24 speakers of
the core test set, without the dialect (SA) sentences, which all speakers read.
"""

import hashlib
import io
import re
import sys
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.errors import UserError, one_line
from search.tasks import _cache, _cores, _corpus, _speech
from search.tasks.task import SPLITS, Task

# As in doc/phoncode.doc of the corpus; a phone's class is its place here.
PHONES = str.split(
    "aa ae ah ao aw ax ax-h axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl h# hh hv ih ix iy jh k kcl "
    "l m n ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux v w y z zh"
)

# The core test set, as in doc/testset.doc of the corpus.
TEST_SPEAKERS = frozenset(
    str.split(
        "mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 "
        "mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0"
    )
)

# The development set of Halberstadt, "Heterogeneous acoustic measurements and multiple classifiers for speech
# recognition", MIT 1998; the same speakers as conf/dev_spk.list of Kaldi's recipe for TIMIT.
VALID_SPEAKERS = frozenset(
    str.split(
        "faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0 fadg0 fdms0 fedw0 mgjf0 mglb0 "
        "mrtk0 mtaa0 mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0 mbns0 mmjr0 mdls0 mdlf0 mdvc0 mers0 fmah0 fdrw0 mrcs0 mrjm4 "
        "fcal1 mmwh0 fjsj0 majc0 mjsw0 mreb0 fgjd0 fjmg0 mroa0 mteb0 mjfc0 mrjr0 fmml0 mrws1"
    )
)
N_TRAIN_SPEAKERS = 462
UTTERANCES_PER_SPEAKER = 8
SPEAKERS = {"train": N_TRAIN_SPEAKERS, "valid": len(VALID_SPEAKERS), "test": len(TEST_SPEAKERS)}

_CLASSES = {phone: n for n, phone in enumerate(PHONES)}
_AUDIO = re.compile(r"(s[aix]\d+)\.wav(?:\.wav)?")  # some copies have a RIFF file SX37.WAV.wav beside SX37.WAV
_PHONES = re.compile(r"(s[aix]\d+)\.phn")


@dataclass(frozen=True)
class _Utterance:
    """Files of one sentence of one speaker."""

    speaker: str
    sentence: str
    audio: Path
    phones: Path


def load(path: str | Path | None = None, cache: str | Path | None = None, progress: bool = True) -> Task:
    """Speech as float32 [T, 39] (see `search.tasks._speech.features`), normalised by the training set, with the phone
    at the centre of each frame's window as its class, 0 to 60; -1 where there is none.

    Args:
        path: the corpus LDC93S1 as it comes: the folder that holds ``train`` and ``test``, or the one above it.
        cache: folder that keeps the features once they are made; None makes them every time.
        progress: whether to show the progress of this on stderr.

    Raises:
        UserError: the corpus, one of its files or a needed package is missing or cannot be read, or the cache cannot
            be written.
    """
    if path is None:
        raise UserError("task.path=null: expected the folder of the corpus TIMIT (LDC93S1), with train and test in it")
    librosa = _speech.needed_version("librosa", "timit", "pip install 'odyssey[timit]'")
    root = _root(Path(str(path)).expanduser())
    utterances, left_out = _scan(root)
    _warn_unless_complete(root, utterances)
    digest = _digest(root, utterances)
    kept = None if cache is None else Path(str(cache)).expanduser() / f"timit-{digest[:16]}.npz"
    made_by = f"TIMIT {digest}, recipe {_speech.RECIPE}, librosa {librosa}"

    def make() -> _cache.Content:
        everything = [utterance for name in SPLITS for utterance in utterances[name]]
        made = iter(_cores.on_all_cores(_extract, everything, "TIMIT's features", progress))
        return _cache.packed(_speech.normalised({name: [next(made) for _ in utterances[name]] for name in SPLITS}))

    splits = _cache.unpacked(_cache.kept(kept, made_by, make))
    return Task(
        name="timit",
        splits=splits,
        loss="categorical",
        score="frame error rate [%]",
        source={
            "corpus": "TIMIT (LDC93S1)",
            "sha256": digest,
            "librosa": librosa,
            "cache": None if kept is None else str(kept),
            "sequences": {name: len(utterances[name]) for name in SPLITS},
            "left_out": left_out,
            "unlabelled_frames": {name: splits[name].n_steps - splits[name].n_predicted for name in SPLITS},
        },
        bidirectional=True,
        n_classes=len(PHONES),
    )


def _root(path: Path) -> Path:
    """The folder that holds train and test."""
    for folder in (path, *_children(path, "timit")):
        if _children(folder, "train") and _children(folder, "test"):
            return folder
    raise UserError(f"task.path={path}: expected the folder of the corpus TIMIT (LDC93S1), with train and test in it")


def _children(folder: Path, pattern: str) -> list[Path]:
    """Folders in `folder` whose names match, upper or lower case, sorted by them."""
    found = [child for child in _content(folder) if re.fullmatch(pattern, child.name.lower()) and child.is_dir()]
    return sorted(found, key=lambda child: (child.name.lower(), child.name))


def _content(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"task.path={folder}: expected a folder that can be read ({reason})") from error


def _scan(root: Path) -> tuple[dict[str, list[_Utterance]], dict[str, int]]:
    """The utterances of each split, sorted by speaker and sentence, and how many of which kind are in none."""
    found: dict[str, list[_Utterance]] = {name: [] for name in SPLITS}
    left_out = {"dialect sentences (SA)": 0, "utterances of other test speakers": 0}
    for part in ("train", "test"):
        for utterance in _utterances(root, part):
            split = _split(part, utterance.speaker)
            if utterance.sentence.startswith("sa"):
                left_out["dialect sentences (SA)"] += 1
            elif split is None:
                left_out["utterances of other test speakers"] += 1
            else:
                found[split].append(utterance)
    for name in SPLITS:
        if not found[name]:
            wanted = f"utterances of {SPEAKERS[name]} speakers for {name}"
            raise UserError(f"task.path={root}: expected {wanted}, found none (train|test/dr1-8/speaker/sentence.wav)")
    return found, left_out


def _split(part: str, speaker: str) -> str | None:
    if part == "train":
        return "train"
    return "valid" if speaker in VALID_SPEAKERS else "test" if speaker in TEST_SPEAKERS else None


def _utterances(root: Path, part: str) -> Iterator[_Utterance]:
    """Those of train or test, sorted by speaker and sentence."""
    folders = [
        speaker
        for top in _children(root, part)
        for dialect in _children(top, "dr[1-8]")
        for speaker in _children(dialect, r"[fm][a-z]{3}\d")
    ]
    for folder in sorted(folders, key=lambda folder: folder.name.lower()):
        audio: dict[str, Path] = {}
        phones: dict[str, Path] = {}
        for file in sorted(_content(folder), key=lambda file: (file.name.lower(), file.name)):
            if match := _AUDIO.fullmatch(file.name.lower()):
                audio.setdefault(match[1], file)
            elif match := _PHONES.fullmatch(file.name.lower()):
                phones.setdefault(match[1], file)
        for sentence in sorted(audio | phones):
            for kind, files, others in ((".WAV", audio, phones), (".PHN", phones, audio)):
                if sentence not in files:
                    raise UserError(f"{others[sentence]}: expected the file {sentence.upper()}{kind} beside it")
            yield _Utterance(folder.name.lower(), sentence, audio[sentence], phones[sentence])


def _warn_unless_complete(root: Path, utterances: dict[str, list[_Utterance]]) -> None:
    expected = {name: SPEAKERS[name] * UTTERANCES_PER_SPEAKER for name in SPLITS}
    found = {name: len(utterances[name]) for name in SPLITS}
    if found != expected:
        counts = ["/".join(str(count[name]) for name in SPLITS) for count in (expected, found)]
        speakers = {name: {utterance.speaker for utterance in utterances[name]} for name in SPLITS}
        missing = ", ".join(f"{SPEAKERS[name] - len(speakers[name])} of {SPEAKERS[name]} {name}" for name in SPLITS)
        print(
            f"warning: task.path={root}: expected {counts[0]} utterances in {'/'.join(SPLITS)}, found {counts[1]}; "
            f"speakers missing: {missing}",
            file=sys.stderr,
            flush=True,
        )


def _digest(root: Path, utterances: dict[str, list[_Utterance]]) -> str:
    """SHA-256 of the names and the content of all files that the splits are made from, hexadecimal."""
    paths = [path for name in SPLITS for utterance in utterances[name] for path in (utterance.audio, utterance.phones)]
    digest = hashlib.sha256()
    with ThreadPoolExecutor() as threads:
        for path, content in zip(paths, threads.map(_file_digest, paths), strict=True):
            digest.update(f"{path.relative_to(root).as_posix().lower()} ".encode() + content)
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    return hashlib.sha256(_corpus.read(path)).digest()


def _extract(utterance: _Utterance) -> _speech.Utterance:
    """Features and classes of the frames of an utterance."""
    signal = audio(utterance.audio)
    if len(signal) < _speech.WINDOW:
        raise UserError(f"{utterance.audio}: expected at least {_speech.WINDOW} samples, found {len(signal)}")
    segments = boundaries(utterance.phones)
    inputs = _speech.features(signal / 32768, _speech.RATE)
    targets = _speech.frame_labels(segments, len(inputs))
    if (targets < 0).all():
        raise UserError(f"{utterance.phones}: expected phones within the {len(signal)} samples of the utterance")
    return inputs, targets


def boundaries(path: Path) -> list[tuple[int, int, int]]:
    """(first sample, sample after the last, class) of each phone of a .PHN file.

    Raises:
        UserError: the file is not one, or has a phone that is none of `PHONES`.
    """
    segments: list[tuple[int, int, int]] = []
    for number, line in enumerate(_corpus.read(path).decode("latin-1").split("\n"), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3 or not all(re.fullmatch(r"\d{1,12}", field) for field in fields[:2]):
            raise UserError(f"{path}: line {number}: expected 'start end phone', found {line.strip()[:40]!r}")
        start, end = int(fields[0]), int(fields[1])
        if start > end or (segments and start < segments[-1][0]):
            raise UserError(f"{path}: line {number}: expected boundaries in order, found {line.strip()[:40]!r}")
        if fields[2].lower() not in _CLASSES:
            raise UserError(f"{path}: line {number}: expected one of the 61 phones, found {fields[2][:20]!r}")
        segments.append((start, end, _CLASSES[fields[2].lower()]))
    if not segments:
        raise UserError(f"{path}: expected lines 'start end phone', found none")
    return segments


def audio(path: Path) -> np.ndarray:
    """The samples of a NIST SPHERE or RIFF file, 16 kHz, one channel of 16 bits: int16 [samples].

    Raises:
        UserError: the file is neither, is cut short, or its samples are of another kind.
    """
    content = _corpus.read(path)
    if content.startswith(b"NIST_1A\n"):
        return _sphere(path, content)
    if content.startswith(b"RIFF"):
        return _riff(path, content)
    raise UserError(f"{path}: expected a NIST SPHERE or RIFF file, found {content[:8]!r}")


def _sphere(path: Path, content: bytes) -> np.ndarray:
    """NIST SPHERE: the size of the header, a multiple of 1024, its lines ``key -type value`` up to ``end_head``, then
    the samples and nothing more."""
    first = re.match(rb"NIST_1A\n *(\d{1,6})\n", content)
    size = int(first[1]) if first else 0
    if size == 0 or size % 1024 or size > len(content) or b"\nend_head" not in content[:size]:
        raise UserError(f"{path}: expected a whole SPHERE header")
    fields: dict[str, str] = {}
    for line in content[:size].decode("latin-1").split("\nend_head")[0].split("\n")[2:]:
        if match := re.fullmatch(r"(\S+) -(?:i|r|s\d+) (.*)", line.rstrip("\r")):
            if match[1] in fields:
                raise UserError(f"{path}: expected {match[1][:40]} once in its SPHERE header")
            fields[match[1]] = match[2].strip()
    coding = fields.get("sample_coding", "pcm")  # which the corpus leaves out
    if coding != "pcm":
        raise UserError(f"{path}: expected sample_coding pcm, found {coding[:40]}; convert it (sph2pipe -f sph -p)")
    for key, wanted in (("sample_rate", str(_speech.RATE)), ("sample_n_bytes", "2"), ("channel_count", "1")):
        if fields.get(key) != wanted:
            raise UserError(f"{path}: expected {key} {wanted}, found {fields.get(key, 'none')[:40]}")
    order = {"01": "<i2", "10": ">i2"}.get(fields.get("sample_byte_format", ""))
    if order is None:
        found = fields.get("sample_byte_format", "none")[:40]
        raise UserError(f"{path}: expected sample_byte_format 01 or 10, found {found}")
    data = content[size:]
    count = fields.get("sample_count", "")
    if not re.fullmatch(r"\d{1,12}", count) or 2 * int(count) != len(data):
        raise UserError(f"{path}: expected {count[:20] or 'a number of'} samples, found {len(data) / 2:g}")
    return np.frombuffer(data, order).astype(np.int16)


def _riff(path: Path, content: bytes) -> np.ndarray:
    try:
        with wave.open(io.BytesIO(content)) as file:
            kind = file.getframerate(), file.getsampwidth(), file.getnchannels()
            count = file.getnframes()
            data = file.readframes(count)
    except Exception as error:  # a broken file makes `wave` raise nearly anything
        raise UserError(f"{path}: expected a RIFF file of PCM samples ({one_line(error)})") from error
    if kind != (_speech.RATE, 2, 1):
        found = f"{kind[0]} Hz, {8 * kind[1]} bits, {kind[2]}"
        raise UserError(f"{path}: expected {_speech.RATE} Hz, 16 bits, 1 channel, found {found}")
    if len(data) != 2 * count:
        raise UserError(f"{path}: expected {count} samples, found {len(data) // 2}")
    if _end_of_chunks(content) != len(content) or int.from_bytes(content[4:8], "little") != len(content) - 8:
        raise UserError(
            f"{path}: expected a whole RIFF file, the sizes of its parts do not come to {len(content)} bytes"
        )
    return np.frombuffer(data, "<i2").astype(np.int16)


def _end_of_chunks(content: bytes) -> int:
    """Where the chunks of a RIFF file say that it ends: each has a name, its size, and as many bytes, made even."""
    place = len(b"RIFF....WAVE")
    while place < len(content):
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return place
