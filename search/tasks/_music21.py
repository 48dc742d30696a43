"""Bach's four-part chorales, from the scores that the music21 package carries.

Taken are the scores of Bach in music21's corpus whose parts are exactly Soprano, Alto, Tenor and Bass: chorales with
further instruments have long rests in the voices. Of chorales that become the same roll only the first is kept, so
that none is in two splits. Pitches are as they sound; the published benchmark has them an octave higher.
"""

import math
import warnings
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from search.errors import UserError, expect
from search.tasks import _cache, _cores

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
    made_by = f"music21 {version()}, recipe {RECIPE}"
    content = _cache.kept(cache, made_by, lambda: _packed(_parse(scores(), show_progress)))
    return dict(zip(content["names"].tolist(), _cache.cut(content, "rolls"), strict=True))


def _packed(rolls: Rolls) -> _cache.Content:
    return {"names": np.array(list(rolls))} | _cache.joined("rolls", list(rolls.values()))


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

    warnings.simplefilter("ignore")  # about notation that does not change what sounds
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
    found: Rolls = {}
    seen: set[bytes] = set()
    rolls = _cores.on_all_cores(chorale, paths, "Bach's scores, by music21", show_progress)
    for path, roll in zip(paths, rolls, strict=True):
        if roll is not None and roll.tobytes() not in seen:
            seen.add(roll.tobytes())
            found[path.stem] = roll
    expect(len(found) > 0, "task.source", "music21", "the chorales of music21's corpus, this installation has none")
    return found
