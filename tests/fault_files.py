"""Bits flipped in the files of a study: each is noticed, or what is read is what was written.

Every function flips `n` bits, one at a time and at random, and returns a line that says what came of them.
"""

import logging
import random
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from search.errors import UserError
from search.study import checkpoint
from search.study import curves as learning_curves
from search.study.study import Study
from search.training.trial import Trial
from tests import echo
from tests.test_study import plan, sweep

N_FLIPS = 400


def flips(content: bytes, n: int, seed: int = 0) -> Iterator[bytes]:
    """The content with one bit changed, `n` times."""
    chosen = random.Random(seed)
    for _ in range(n):
        bit = chosen.randrange(8 * len(content))
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


@contextmanager
def quiet(log: logging.Logger) -> Iterator[None]:
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


def begun(folder: Path) -> Trial:
    """A trial of a new study in `folder`, some epochs after its beginning."""
    task = echo.load()
    study = Study.create(folder, plan(task))
    study.leases.join("w", "host", "boot", 1, "device")
    trial = study.prepare(study.key(study.leases.exchange("w", want=1)[0][0]), task)
    random = np.random.default_rng(0)
    best, weights, velocity = random.normal(size=(3, len(trial.member.weights)))
    member = replace(trial.member, weights=weights, slots={"velocity": velocity}, epoch=3)
    curve = ((3.0, 2.0), (2.0, 1.0), (1.0, 1.5))
    return replace(trial, member=member, best_weights=best, curve=curve, best_epoch=2, train_seconds=4.5)


def same(one: Trial, other: Trial) -> bool:
    """Whether two trials stand at the same point, to the bit."""
    left, right = ({name: repr(value) for name, value in asdict(trial).items()} for trial in (one, other))
    arrays = ((trial.member.weights, trial.member.slots["velocity"], trial.best_weights) for trial in (one, other))
    return left == right and all(
        np.array_equal(mine, its) and mine.dtype == its.dtype for mine, its in zip(*arrays, strict=True)
    )


def unsealed(path: Path, trial: Trial) -> None:
    """Saves a checkpoint as it was before there were seals."""
    checkpoint.save(path, trial)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b""


def checkpoints(folder: Path, n: int = N_FLIPS, save: Callable[[Path, Trial], None] = checkpoint.save) -> str:
    """In checkpoints, as `save` writes them."""
    trial = begun(folder)
    path = folder / "flipped.npz"
    save(path, trial)
    content = path.read_bytes()
    whole = checkpoint.load(path, trial)
    assert whole is not None and same(whole, trial) and path.exists()
    set_aside = 0
    with quiet(checkpoint.log):
        for changed in flips(content, n):
            path.write_bytes(changed)
            loaded = checkpoint.load(path, trial)
            assert loaded is None or same(loaded, trial), "accepted as another state"
            assert path.exists() == (loaded is not None)
            set_aside += loaded is None
    kind = "older checkpoints" if save is unsealed else "checkpoints"
    return f"{n} bit flips in {kind}: {set_aside} set aside, 0 accepted as another state"


def curves(folder: Path, n: int = N_FLIPS) -> str:
    """In the learning curves of a new study in `folder`, as it has recorded them."""
    study = sweep(folder, echo.load(), epochs=5, patience=5)
    trials = study.trials()["echo", "rnn"]
    refused = 0
    for trial, share in zip(trials, np.array_split(np.arange(n), len(trials)), strict=True):
        path = learning_curves.path_of(folder, "echo", "rnn", trial.number)
        content, whole = path.read_bytes(), learning_curves.read(path, trial)
        assert whole is not None and whole.num_rows == 5
        for changed in flips(content, len(share), seed=trial.number):
            path.write_bytes(changed)
            try:
                assert whole.equals(learning_curves.read(path, trial)), "read as another curve"
            except UserError:
                refused += 1
        path.write_bytes(content)
    return f"{n} bit flips in learning curves: {refused} refused, 0 read as another curve"
