"""Bach's four-part chorales, from the scores that the music21 package carries.

Taken are the scores of Bach in music21's corpus whose parts are exactly Soprano, Alto, Tenor and Bass: chorales with
further instruments have long rests in the voices. Of chorales that become the same roll only the first is kept, so
that none is in two splits. Pitches are as they sound; the published benchmark has them an octave higher.
"""

import hashlib
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from search import files
from search.errors import UserError, expect
from search.tasks._progress import progress

VOICES = ["Soprano", "Alto", "Tenor", "Bass"]
RECIPE = 1  # one more whenever the same music21 would give other rolls: older caches are then rebuilt

Rolls = dict[str, np.ndarray]


def version() -> str:
    """The version of music21, without importing it."""
    try:
        return metadata.version("music21")
    except metadata.PackageNotFoundError:
        raise UserError("task.source=music21: expected the Python package music21 to be installed") from None


def rolls(cache: Path | None, show_progress: bool) -> Rolls:
    """Piano rolls, bool [T, 88], by the name of the score; parsed once, then read from `cache`, unless that is None.

    Raises:
        UserError: `cache` cannot be written, or music21 or its corpus is missing.
    """
    if cache is None:
        return _parse(scores(), show_progress)
    cached = _read(cache)
    if cached is None:
        _expect_writable(cache.parent)
        cached = _parse(scores(), show_progress)
        _write(cache, cached)
    return cached


def scores() -> list[Path]:
    """The files of music21's corpus that may hold a chorale, sorted; its few .krn ones are also there as .mxl."""
    from music21 import corpus

    return sorted(path for path in corpus.getComposer("bach") if path.suffix in (".mxl", ".xml"))


def chorale(path: Path) -> np.ndarray | None:
    """Piano roll [T, 88], bool, of the notes that sound at the start of each quarter, in C major or C minor.

    The key is the declared one if the last bass note is its tonic, else the analysed one: Bach's minor often has a flat
    too few in its signature (Dorian). The shift is the smallest, a tritone going down.

    Returns:
        None if the score is not of four voices.
    """
    from music21 import converter

    # music21 keeps pickles of parsed scores in a folder that others may write to.
    score: Any = converter.parse(path, forceSource=True, storePickle=False)
    if [part.partName for part in score.parts] != VOICES:
        return None
    notes = [
        (math.ceil(note.offset), math.ceil(note.offset + note.duration.quarterLength), pitch.midi)
        for part in score.parts
        for note in part.flatten().notes
        for pitch in note.pitches
    ]
    shift = (6 - _tonic(score)) % 12 - 6
    roll = np.zeros((max(end for _, end, _ in notes), 88), bool)
    for start, end, pitch in notes:
        roll[start:end, pitch + shift - 21] = True
    return roll


def _tonic(score: Any) -> int:
    """Pitch class of the tonic, C = 0."""
    from music21 import key

    signature = score.parts[0].flatten().getElementsByClass(key.KeySignature).first()
    bass = score.parts[-1].flatten().notes.last().pitches[0].pitchClass
    if signature is not None:
        declared = signature if isinstance(signature, key.Key) else signature.asKey("major")
        if declared.tonic.pitchClass == bass:
            return bass
    return score.analyze("key").tonic.pitchClass


def _parse(paths: Sequence[Path], show_progress: bool) -> Rolls:
    """Parses on all cores; the result does not depend on how many there are."""
    workers = min(os.cpu_count() or 1, 16)  # more would take longer to start than they save
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    found: Rolls = {}
    seen: set[bytes] = set()
    try:
        with progress("Bach's scores, by music21", len(paths), show_progress) as advance:
            with _interrupts_held():
                parsed = executor.map(chorale, paths, chunksize=2)
            for path, roll in zip(paths, parsed, strict=True):
                if roll is not None and roll.tobytes() not in seen:
                    seen.add(roll.tobytes())
                    found[path.stem] = roll
                advance()
    finally:
        executor.shutdown(cancel_futures=True)
    expect(len(found) > 0, "task.source", "music21", "the chorales of music21's corpus, this installation has none")
    return found


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, so that only the main one answers it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    warnings.simplefilter("ignore")  # of music21, about notation that does not change what sounds

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    # Without it, workers of a killed process would wait for work for ever.
    threading.Thread(target=end_with_parent, daemon=True).start()


def _made_by() -> str:
    return f"music21 {version()}, recipe {RECIPE}"


def _read(cache: Path) -> Rolls | None:
    """The cached rolls, or None if there are none that can be trusted."""
    try:
        with np.load(cache, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        if str(content.pop("hash")) != _hash(content):
            raise ValueError("its hash is wrong")
        if (made_by := str(content["made_by"])) != _made_by():
            raise ValueError(f"it was made by {made_by}, this is {_made_by()}")
    except FileNotFoundError:
        return None
    except UserError:
        raise
    except Exception as error:
        print(f"task.cache: {cache} is made anew: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return None
    ends = np.cumsum(content["lengths"])
    return dict(zip(content["names"].tolist(), np.split(content["rolls"], ends[:-1]), strict=True))


def _write(cache: Path, rolls: Rolls) -> None:
    content: dict[str, Any] = {
        "made_by": np.array(_made_by()),
        "names": np.array(list(rolls)),
        "lengths": np.array([len(roll) for roll in rolls.values()]),
        "rolls": np.concatenate(list(rolls.values())),
    }
    with _writing(cache.parent):
        files.write(cache, lambda file: np.savez_compressed(file, hash=np.array(_hash(content)), **content))


def _hash(content: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(content.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


def _expect_writable(folder: Path) -> None:
    """Before the parsing rather than after it."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"task.cache={folder}: expected a folder that can be written to ({error.strerror})") from error
