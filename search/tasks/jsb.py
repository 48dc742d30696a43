"""JSB Chorales: predict the next chord of Bach's four-part chorales (Greff et al. 2015, section IV)."""

import hashlib
import sys
from pathlib import Path
from typing import Literal

import numpy as np

from search.errors import UserError, expect
from search.tasks import _boulanger, _music21
from search.tasks.task import SPLITS, Split, Task

BENCHMARK = {"train": 229, "valid": 76, "test": 77}


def load(
    source: Literal["music21", "boulanger"] = "music21",
    path: str | Path | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Task:
    """The chorales as piano rolls float32 [T, 88], column = MIDI pitch - 21; from each step, predict the next.

    Args:
        source: ``music21``: the chorales that the music21 package carries, in C major or C minor, one step a quarter,
            split 60/20/20 by the hash of their names; ``boulanger``: the published benchmark.
        path: the benchmark's file, .json, .mat or .pickle; only with ``boulanger``.
        cache: folder that keeps the chorales of music21 once they are parsed; None parses them every time.
        progress: whether to show the progress of the parsing on stderr.

    Raises:
        UserError: the source cannot be read, or the cache cannot be written.
    """
    if source == "boulanger":
        if path is None:
            raise UserError("task.path=null: expected the benchmark's file (.json, .mat or .pickle)")
        file = Path(str(path)).expanduser()
        rolls, digest = _boulanger.read(file)
        record: dict[str, object] = {"source": source, "file": file.name, "sha256": digest}
        _warn_unless_benchmark(file, {name: len(rolls[name]) for name in SPLITS})
    else:
        expect(path is None, "task.path", path, "null with task.source=music21")
        cached = None if cache is None else Path(str(cache)).expanduser() / "jsb-music21.npz"
        rolls = _split(_music21.rolls(cached, progress))
        record = {"source": source, "music21": _music21.version(), "cache": None if cached is None else str(cached)}
    return Task(
        name="jsb",
        splits={name: _next_step(rolls[name]) for name in SPLITS},
        loss="bernoulli",
        score="negative log-likelihood [nats per step]",
        source=record | {"sequences": {name: len(rolls[name]) for name in SPLITS}},
    )


def _next_step(rolls: list[np.ndarray]) -> Split:
    floats = [roll.astype(np.float32) for roll in rolls]
    return Split([roll[:-1] for roll in floats], [roll[1:] for roll in floats])


def _split(rolls: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """60 % train, 20 % valid, 20 % test, in an order that depends on nothing but the names."""
    shuffled = sorted(rolls, key=lambda name: hashlib.sha256(name.encode()).digest())
    ends = [round(0.6 * len(rolls)), round(0.8 * len(rolls))]
    names = shuffled[: ends[0]], shuffled[ends[0] : ends[1]], shuffled[ends[1] :]
    return {split: [rolls[name] for name in part] for split, part in zip(SPLITS, names, strict=True)}


def _warn_unless_benchmark(file: Path, found: dict[str, int]) -> None:
    if found != BENCHMARK:
        counts = ["/".join(str(count[name]) for name in SPLITS) for count in (BENCHMARK, found)]
        text = f"warning: task.path={file}: expected {counts[0]} sequences in {'/'.join(SPLITS)}, found {counts[1]}"
        print(text, file=sys.stderr, flush=True)
