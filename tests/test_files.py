"""Files that can be trusted: whole, unchanged since they were written, and nobody else's."""

import contextlib
import hashlib
import math
import multiprocessing
import os
import random
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from llvmlite import ir

from analysis import load, load_curves
from search.base import files
from search.engines import code_cache
from search.engines.cpu import native
from search.errors import UserError
from search.run import cli
from search.study import checkpoint
from search.study.reader import StudyReader
from search.study.study import Study
from search.tasks import Task, _cache
from tests import fault_files
from tests.test_study import SPACE, plan, sweep

OTHER = 54321  # a user who is not this one
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


# Checkpoints


@pytest.mark.parametrize("save", [checkpoint.save, fault_files.unsealed], ids=["sealed", "older"])
def test_no_flipped_bit_makes_another_state_of_a_checkpoint(
    tmp_path: Path, save: Callable[[Path, fault_files.Trial], None]
) -> None:
    fault_files.checkpoints(tmp_path, save=save)


@pytest.mark.parametrize("save", [checkpoint.save, fault_files.unsealed], ids=["sealed", "older"])
def test_a_shape_that_leaves_data_out_is_noticed(
    tmp_path: Path, save: Callable[[Path, fault_files.Trial], None]
) -> None:
    """NumPy checks the CRC-32 of an array only if it reads the array to its end."""
    trial = replace(fault_files.begun(tmp_path), curve=((1.0, 1.0),) * 700)
    path = tmp_path / "0000.npz"
    save(path, trial)
    path.write_bytes(path.read_bytes().replace(b"(700, 2)", b"(500, 2)"))  # one bit
    assert checkpoint.load(path, trial) is None


def test_a_checkpoint_set_aside_is_named_with_the_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trial = fault_files.begun(tmp_path)
    path = tmp_path / "0000.npz"
    checkpoint.save(path, trial)
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(content)
    assert checkpoint.load(path, trial) is None
    assert f"{path}: not a sound checkpoint (its SHA-256 is wrong); set aside" in caplog.text
    assert path.with_suffix(".broken").read_bytes() == content


def test_want_of_memory_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = fault_files.begun(tmp_path)
    path = tmp_path / "0000.npz"
    checkpoint.save(path, trial)

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(np, "load", full)
        checkpoint.load(path, trial)
    assert checkpoint.load(path, trial) is not None


def test_numpy_reads_a_checkpoint(tmp_path: Path) -> None:
    trial = fault_files.begun(tmp_path)
    checkpoint.save(tmp_path / "0000.npz", trial)
    with np.load(tmp_path / "0000.npz") as file:
        np.testing.assert_array_equal(file["weights"], trial.member.weights)


# Learning curves


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, echo: Task) -> Path:
    """A complete study, for tests that copy it."""
    return sweep(tmp_path_factory.mktemp("swept") / "s", echo).folder


@pytest.fixture
def study(swept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(swept, tmp_path / "s"))


def forget_checksums(study: Path) -> None:
    """Makes of a study one of before there were checksums of curves."""
    with contextlib.closing(sqlite3.connect(study / "study.db")) as db, db:
        assert db.execute("DELETE FROM trial_user_attributes WHERE key = 'curve_sha256'").rowcount == 6


@pytest.mark.slow
def test_no_flipped_bit_makes_another_learning_curve(tmp_path: Path) -> None:
    assert "400 refused" in fault_files.curves(tmp_path / "s")


def swap(path: Path) -> None:
    """Another trial's curve in the place of this one."""
    path.write_bytes(path.with_name("0001.parquet").read_bytes())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def shorten(path: Path) -> None:
    """One epoch less, in a file that is sound."""
    pq.write_table(pq.read_table(path, partitioning=None)[:-1], path)


@pytest.mark.parametrize("damage", [swap, cut, shorten])
def test_a_damaged_curve_is_named(study: Path, damage: Callable[[Path], None]) -> None:
    damage(study / "curves/echo/rnn/0000.parquet")
    for read in (lambda: load_curves(study), StudyReader.open(study).check_curves):
        with pytest.raises(UserError, match=r"rnn/0000\.parquet: expected .*; restore it from a copy, or delete it"):
            read()
    assert len(load(study)) == 6, "the results stand"


def test_missing_curves_are_named_and_the_others_read(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = load_curves(study)
    assert not caplog.messages
    for number in (0, 2):
        (study / f"curves/echo/rnn/000{number}.parquet").unlink()
    left = whole[(whole.variant != "rnn") | (whole.trial == 1)].reset_index(drop=True)
    pd.testing.assert_frame_equal(load_curves(study), left)
    StudyReader.open(study).check_curves()
    assert caplog.messages[0] == caplog.messages[1]
    assert caplog.messages[0].startswith(f"{study}: no learning curve is left of 2 trials")
    assert "rnn/0000" in caplog.text and "rnn/0002" in caplog.text and "rnn/0001" not in caplog.text


def test_a_sweep_of_a_complete_study_says_which_curves_are_missing_or_damaged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ["sweep", "--config-dir", str(Path(__file__).parent / "conf"), "task=echo", "study=s", f"runs={tmp_path}"]
    words += ["variants=[rnn]", "trials=2", "epochs=1", "patience=1", "engine=reference", "space.hidden_size.high=21"]
    assert cli.main(words) == 0 and not caplog.messages
    path = tmp_path / "s/curves/echo/rnn/0000.parquet"
    content = path.read_bytes()
    path.unlink()
    assert cli.main(words) == 0
    assert "no learning curve is left of 1 trial that" in caplog.text
    path.write_bytes(content[::-1])
    assert cli.main(words) == 2
    assert f"{path}: expected the curve" in capfd.readouterr().err.splitlines()[-1]


def test_curves_recorded_before_there_were_checksums_are_read(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = load_curves(study)
    forget_checksums(study)
    pd.testing.assert_frame_equal(load_curves(study), whole)
    assert not caplog.messages
    for damage in (shorten, cut):
        damage(study / "curves/echo/rnn/0000.parquet")
        with pytest.raises(UserError, match="rnn/0000"):
            load_curves(study)


def test_the_curve_of_a_trial_that_diverged_has_its_finite_epochs(echo: Task, tmp_path: Path) -> None:
    wild = SPACE | {"lr": {"distribution": "uniform", "low": 1e308, "high": 1e308}}
    study = sweep(tmp_path / "s", echo, space=wild, variants={"v": {"cell": "lstm", "output_activation": "identity"}})
    assert study.counts()["v"]["diverged"] == 3 and load_curves(tmp_path / "s").empty
    study.check_curves()


# The bound of the cache of compiled code


def code_of(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest() * 30  # 960 bytes, and 32 of a checksum


def kept(key: str) -> bool:
    """Whether code was found in the cache."""
    code, found = code_cache.kept(key, lambda: code_of(key))
    assert code == code_of(key)
    return found


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_code_that_was_not_used_for_longest_goes_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_cache, "_since", math.inf)
    for days, key in enumerate("abcd", 2):
        before = {*code_cache.cache_folder().glob("*")}
        assert not kept(key)
        (new,) = {*code_cache.cache_folder().iterdir()} - before
        os.utime(new, (time.time() - 86_400 * (10 - days),) * 2)  # a is the oldest
    left_over = code_cache.cache_folder() / ".left.abcdefgh"
    left_over.write_bytes(b"of a writer that was killed")
    os.utime(left_over, (0, 0))
    assert kept("a"), "which marks it as used"
    monkeypatch.setattr(code_cache, "MOST_BYTES", 3 * 992)
    assert not kept("e")
    assert size(code_cache.cache_folder()) == 3 * 992 and not left_over.exists()
    names = {hashlib.sha256(key.encode()).hexdigest(): key for key in "abcde"}
    assert {names[path.name] for path in code_cache.cache_folder().iterdir()} == {"a", "d", "e"}


def _uses_many(seed: int) -> None:
    for n in random.Random(seed).choices(range(40), k=150):
        kept(f"{n}")


def test_the_cache_of_code_keeps_its_bound_under_several_processes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_cache, "_since", math.inf)
    monkeypatch.setattr(code_cache, "MOST_BYTES", 20 * 992)
    processes = [multiprocessing.get_context("fork").Process(target=_uses_many, args=(seed,)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert 10 * 992 < size(code_cache.cache_folder()) <= (20 + 3 * 2) * 992
    assert not list(code_cache.cache_folder().glob(".*"))


# Files of others


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of this user's own, two folders deep."""
    root = tmp_path / "home" / "cache"
    monkeypatch.setenv("ODYSSEY_CACHE", str(root))
    code_cache._say.cache_clear()
    yield root
    code_cache._say.cache_clear()


def compiled() -> bool:
    """Whether the code of a module was found in the cache."""
    return native.object_code("tiny", lambda: ir.Module("tiny"))[1]


def prepared(root: Path) -> bool:
    """Whether data were found in the cache."""
    made = []
    _cache.kept(root / "data.npz", "recipe", lambda: made.append(1) or {"x": np.zeros(3)})
    return not made


def linked(path: Path) -> None:
    """Puts a link in the place of a file or folder."""
    path.symlink_to(path.rename(path.parent.parent / f"elsewhere-{path.name}"))


def given_away(path: Path) -> None:
    os.chown(path, OTHER, OTHER)


FORGERIES = {
    "a file that others can write to": lambda file: file.chmod(0o666),
    "a file that the group can write to": lambda file: file.chmod(0o664),
    "a link": linked,
    "a folder that others can write to": lambda file: file.parent.chmod(0o777),
    "a folder that the group can write to": lambda file: file.parent.chmod(0o770),
    "a folder like /tmp": lambda file: file.parent.chmod(0o1777),
    "a parent that others can write to": lambda file: file.parents[1].chmod(0o777),
}
OF_OTHERS = {
    "a file of another user": given_away,
    "a folder of another user": lambda file: given_away(file.parent),
    "a parent of another user": lambda file: given_away(file.parents[1]),
}
FORGED = [
    *(pytest.param(forge, id=name) for name, forge in FORGERIES.items()),
    *(pytest.param(forge, id=name, marks=as_root) for name, forge in OF_OTHERS.items()),
]


@pytest.mark.parametrize("forge", [*FORGED, pytest.param(lambda file: linked(file.parent), id="a linked folder")])
def test_code_that_another_user_can_have_written_is_not_run(
    root: Path, forge: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    assert not compiled() and compiled() and not caplog.records
    (file,) = code_cache.cache_folder().iterdir()
    forge(file)
    assert not compiled()
    (said,) = caplog.messages
    assert said.startswith("compiled code is") and str(root) in said and "\n" not in said


@pytest.mark.parametrize("forge", FORGED)
def test_data_that_another_user_can_have_written_is_made_anew(
    root: Path, forge: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert not prepared(root) and prepared(root) and not capsys.readouterr().err
    forge(root / "data.npz")
    assert not prepared(root)
    said = capsys.readouterr().err
    assert said.startswith("task.cache: ") and str(root) in said and "made anew" in said and said.count("\n") == 1


def test_nothing_is_kept_where_others_can_write(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = code_cache.cache_folder()
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    root.chmod(0o777)
    assert not prepared(root) and not compiled()
    assert list(folder.iterdir()) == [] and list(root.iterdir()) == [folder]


@as_root
def test_a_link_of_another_user_is_not_followed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not compiled() and not prepared(root)
    linked(root)
    assert compiled() and prepared(root)
    os.chown(root, OTHER, OTHER, follow_symlinks=False)
    assert not compiled() and not prepared(root)


def test_ones_own_cache_is_used_through_ones_own_links_below_tmp_and_with_any_umask(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o1777)  # as /tmp is
    (tmp_path / "disk").mkdir()
    root.parent.symlink_to("disk")
    before = os.umask(0o002)
    try:
        assert not compiled() and not prepared(root)
    finally:
        os.umask(before)
    assert compiled() and prepared(root)
    assert not caplog.records and not capsys.readouterr().err
    assert stat.S_IMODE(code_cache.cache_folder().stat().st_mode) == 0o700
    assert prepared(root / ".." / "cache")


def test_a_pipe_in_the_place_of_code_holds_nothing_up(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not compiled()
    (file,) = code_cache.cache_folder().iterdir()
    file.unlink()
    os.mkfifo(file, 0o600)
    assert not compiled() and "no plain file" in caplog.text
    assert compiled(), "it is replaced"


@pytest.mark.usefixtures("modes_hold")
def test_a_cache_that_cannot_be_written_is_told_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    root.mkdir(parents=True)
    root.chmod(0o500)
    assert not compiled() and not compiled()
    assert len(caplog.messages) == 1 and "not kept" in caplog.text


def test_a_circle_of_links_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(files.Untrusted, match="is a link"):
        files.trusted_folder(tmp_path / "a")


# What killed writers leave


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    def interrupted(file: object) -> None:
        os._exit(9)

    target = tmp_path / "below" / "0000.npz"
    files.write(target, b"whole")
    (tmp_path / ".hidden").touch()
    child = os.fork()
    if child == 0:
        files.write(target, interrupted)
    os.waitpid(child, 0)
    (left,) = target.parent.glob(".*")
    files.forget_unfinished(tmp_path, older=3600)
    assert left.exists(), "it may be being written"
    os.utime(left, (0, 0))
    files.forget_unfinished(tmp_path, older=3600)
    assert not left.exists() and target.read_bytes() == b"whole" and (tmp_path / ".hidden").exists()


def test_a_sweep_removes_stale_files_at_its_start_and_all_once_it_is_complete(tmp_path: Path, echo: Task) -> None:
    folder = tmp_path / "s"
    Study.create(folder, plan(echo))
    left = [folder / "checkpoints/echo/rnn/.0000.npz.abcdefg1", folder / "curves/echo/rnn/.0001.parquet.abcdefg_"]
    for path in left:
        path.parent.mkdir(parents=True)
        path.touch()
    os.utime(left[1], (0, 0))
    Study.create(folder, plan(echo))
    assert left[0].exists() and not left[1].exists()
    sweep(folder, echo)
    assert not left[0].exists() and len(load_curves(folder)) == 12
