"""Published studies: read as any other, and restored to studies that go on."""

import dataclasses
import hashlib
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from analysis import compare, load, load_curves, report
from analysis.dashboard.source import Source
from search.errors import UserError
from search.run.cli import main
from search.run.status import status_of
from search.study.archive import CURVES_FILE, RECORD_FILE, TRIALS_FILE, Archive
from search.study.publish import publish, restore
from search.study.reader import StudyReader
from search.study.study import Study
from search.tasks import Task
from tests.test_storage import refused
from tests.test_study import SPACE, plan, same, sweep

MIXED = {"forget_bias": {"distribution": "choice", "values": [0, 1.5]}}
MIXED["peephole_o"] = {"distribution": "choice", "values": [True, False]}
MIXED["lr"] = {"distribution": "choice", "values": [1e-2, 1e308]}  # which diverges


@pytest.fixture(scope="module")
def echo_task() -> Task:
    from tests.echo import load as load_echo

    return load_echo()


@pytest.fixture(scope="module")
def published(echo_task: Task, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study with diverged and failed trials, and settings of several kinds; and its archive."""
    folder = tmp_path_factory.mktemp("runs") / "s"
    study = Study.create(folder, plan(echo_task, trials=2, variants={"vanilla": {"cell": "lstm"}}, space=SPACE | MIXED))
    (claim,), _ = join(study, 1)
    study.leases.exchange("w", [study.failure(study.key(claim), UserError("too large: a 'b' <c>"))])
    study.leases.leave("w")
    sweep(folder, echo_task, trials=6, variants={"vanilla": {"cell": "lstm"}}, space=SPACE | MIXED)
    to = folder.parent / "reference" / "s"
    publish({to: folder})
    return folder, to


def join(study: Study, want: int) -> tuple[list[Any], int]:
    study.leases.join("w", "host", "boot", 1, "device")
    return study.leases.exchange("w", want=want)


def test_an_archive_reads_as_its_study(published: tuple[Path, Path]) -> None:
    folder, to = published
    ours, theirs = load(to), load(folder)
    assert set(theirs["status"]) == {"finished", "diverged", "failed"}
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    pd.testing.assert_frame_equal(load_curves(to), load_curves(folder), check_exact=True)
    one, other = StudyReader.open(to), StudyReader.open(folder)
    assert one.plan == other.plan and status_of(one) == status_of(other)
    assert one.leases.stints() == other.leases.stints() and one.failures()[0][:3] == other.failures()[0][:3]
    pages = [Source(where) for where in (to, folder)]
    for page in pages:
        page.look()
    pd.testing.assert_frame_equal(pages[0].frame, pages[1].frame)
    pd.testing.assert_frame_equal(pages[0].curves(ours), pages[1].curves(theirs))
    rows = [[row | {"started": None} for row in page.rows(0)] for page in pages]
    assert rows[0] == rows[1]


def test_its_files_are_few_and_their_columns_are_those_of_load(published: tuple[Path, Path]) -> None:
    folder, to = published
    assert {path.name for path in to.iterdir()} == {"study.yaml", RECORD_FILE, TRIALS_FILE, CURVES_FILE}
    table = pd.read_parquet(to / TRIALS_FILE)
    assert set(table.columns) <= set(load(folder).columns)
    assert "Traceback" not in (to / TRIALS_FILE).read_bytes().decode("latin-1")
    record = yaml.safe_load((to / RECORD_FILE).read_text())
    assert record["planned"] == 6 and sum(record["ended"].values()) == 6 and record["interruptions"] == 0
    assert [s["ended"] for s in record["stints"]] == [1, 5]
    assert record["train_seconds"] > 0 and 0 < record["wall_seconds"] < 600


def test_values_of_several_kinds_come_back_as_they_were(echo: Task, tmp_path: Path) -> None:
    space = SPACE | {"input_gate": {"distribution": "choice", "values": ["sigmoid", "one"]}} | MIXED
    variants = {"vanilla": {"cell": "lstm"}}
    study = sweep(tmp_path / "runs" / "s", echo, trials=4, variants=variants, space=space)
    trials = study.trials()
    for kind, value in (("text", "a"), ("number", 2.5)):  # of a user's cell, whose toggle may be either
        trials["echo", "vanilla"][kind == "text"].attributes["result"]["odd"] = value
    from search.study import archive

    files = {TRIALS_FILE: archive.encoded_trials(trials), CURVES_FILE: archive.encoded_curves([])}
    (tmp_path / "a").mkdir()
    for name, content in files.items():
        (tmp_path / "a" / name).write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    (tmp_path / "a" / RECORD_FILE).write_text(yaml.safe_dump({"sha256": sums, "stints": [], "ended": {}}))
    found = Archive(tmp_path / "a").trials
    for was, now in zip(trials["echo", "vanilla"], found["echo", "vanilla"], strict=True):
        assert now.attributes["result"] == was.attributes["result"] and now.started == was.started
        assert {k: type(v) for k, v in now.attributes["result"].items() if k != "forget_bias"} == {
            k: type(v) for k, v in was.attributes["result"].items() if k != "forget_bias"
        }


def test_a_report_is_made_of_an_archive_alone(published: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "s"
    shutil.copytree(published[1], copy)
    page = report(copy)
    assert (page / "index.html").stat().st_size > 100_000
    table, theirs = pd.read_csv(page / "comparison_echo.csv"), compare(load(published[0]))
    assert list(table["variant"]) == list(theirs["variant"].astype(str))
    assert math.isclose(table["best_mean"][0], theirs["best_mean"][0], rel_tol=1e-12)


def test_a_restored_study_goes_on_as_if_it_had_never_been_away(echo: Task, tmp_path: Path) -> None:
    whole = sweep(tmp_path / "a" / "s", echo, trials=5)
    study = sweep(tmp_path / "b" / "s", echo, trials=2)
    publish({tmp_path / "archive" / "s": study.folder})
    restore({tmp_path / "c" / "s": tmp_path / "archive" / "s"})
    pd.testing.assert_frame_equal(load(tmp_path / "c" / "s"), load(study.folder), check_exact=True)
    pd.testing.assert_frame_equal(load_curves(tmp_path / "c" / "s"), load_curves(study.folder), check_exact=True)
    again = sweep(tmp_path / "c" / "s", echo, trials=5)
    same(load(again.folder), load(whole.folder), exact=True)
    assert len(again.leases.stints()) == len(study.leases.stints()) + 1
    publish({tmp_path / "archive" / "s": again.folder})  # has grown
    same(load(tmp_path / "archive" / "s"), load(whole.folder), exact=True)
    refused(lambda: publish({tmp_path / "archive" / "s": study.folder}), "trials: 5 -> 2")


def test_a_sampler_that_learns_is_restored_exactly(echo: Task, tmp_path: Path) -> None:
    variants = {"rnn": {"cell": "rnn"}}
    whole = sweep(tmp_path / "a" / "s", echo, trials=34, variants=variants, sampler="tpe", epochs=1)
    study = sweep(tmp_path / "b" / "s", echo, trials=20, variants=variants, sampler="tpe", epochs=1)
    publish({tmp_path / "archive": study.folder})
    restore({tmp_path / "c" / "s": tmp_path / "archive"})
    again = sweep(tmp_path / "c" / "s", echo, trials=34, variants=variants, sampler="tpe", epochs=1)
    same(load(again.folder), load(whole.folder), exact=True)


def test_replicates_are_published_with_their_study(echo: Task, tmp_path: Path) -> None:
    study = sweep(tmp_path / "runs" / "s", echo)
    inner = dataclasses.replace(study.plan, study="rnn-1", variants={"rnn": {"cell": "rnn"}}, seed=5)
    sweep(study.folder / "replicates" / "rnn-1", echo, study="rnn-1", variants=inner.variants, seed=5)
    publish({tmp_path / "archive": study.folder})
    restore({tmp_path / "again" / "s": tmp_path / "archive"})
    for where in (tmp_path / "archive", tmp_path / "again" / "s"):
        frame = load(where / "replicates" / "rnn-1")
        pd.testing.assert_frame_equal(frame, load(study.folder / "replicates" / "rnn-1"), check_exact=True)


def test_what_is_unfinished_is_published_as_waiting(echo: Task, tmp_path: Path) -> None:
    study = Study.create(tmp_path / "runs" / "s", plan(echo))
    refused(lambda: publish({tmp_path / "archive": study.folder}), "study=s", "a trial has ended")
    assert not (tmp_path / "archive").exists()
    (claim, _), _ = join(study, 2)
    study.leases.exchange("w", [study.failure(study.key(claim), UserError("no such cell"))])
    publish({tmp_path / "archive": study.folder})
    assert list(load(tmp_path / "archive")["status"]) == ["failed"] + 5 * ["waiting"]
    assert "odyssey restore" in status_of(StudyReader.open(tmp_path / "archive"))
    restore({tmp_path / "again" / "s": tmp_path / "archive"})
    assert StudyReader.open(tmp_path / "again" / "s").counts()["vanilla"] == {
        "waiting": 2,
        "running": 0,
        "finished": 0,
        "diverged": 0,
        "failed": 1,
    }


def test_an_archive_is_only_read(
    published: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "runs" / "s"
    shutil.copytree(published[1], copy)
    before = {path: path.read_bytes() for path in copy.iterdir()}
    said_of = dict.fromkeys(("sweep", "worker", "replicate"), "published study") | {"restore": "a study that is not in"}
    for words in ("sweep study=s", "worker study=s", "replicate study=s", "status study=s", "restore study=s"):
        command = [*words.split(), f"runs={tmp_path / 'runs'}"]
        code = main(command)
        said = capsys.readouterr()
        assert code == (0 if "status" in words else 2), said.err
        assert "status" in words or (said.err.count("\n") == 1 and said_of[words.split()[0]] in said.err), words
    assert {path: path.read_bytes() for path in copy.iterdir()} == before


@pytest.mark.parametrize("name", [TRIALS_FILE, CURVES_FILE, RECORD_FILE])
@pytest.mark.parametrize("damage", ["flip", "empty", "text", "missing"])
def test_a_damaged_archive_is_told(published: tuple[Path, Path], tmp_path: Path, name: str, damage: str) -> None:
    copy = tmp_path / "s"
    shutil.copytree(published[1], copy)
    path = copy / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flip" and name != RECORD_FILE:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes({"empty": b"", "text": b"stints: [", "flip": b"sha256: {}\nended: null\nstints: []"}[damage])
    act = (lambda: load_curves(copy)) if name == CURVES_FILE else (lambda: load(copy))
    refused(act, str(copy))
    refused(lambda: restore({tmp_path / "again" / "s": copy}), str(copy))
    assert not (tmp_path / "again" / "s").exists() and not list((tmp_path / "again").glob(".*"))


def test_what_cannot_be_published_or_restored_is_told(
    published: tuple[Path, Path], echo: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, to = published
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    (tmp_path / "broken").mkdir()
    for name in (TRIALS_FILE, ".curves.parquet.a1b2c3d4"):  # as of one that was killed
        (tmp_path / "broken" / name).write_bytes(b"PAR")
    publish({tmp_path / "broken": folder})
    same(load(tmp_path / "broken"), load(folder), exact=True)
    refused(lambda: publish({tmp_path / "full": folder}), "to=", "an archive")
    refused(lambda: restore({tmp_path / "s": folder}), "published study")
    other = sweep(tmp_path / "runs" / "s", echo, trials=9)
    refused(lambda: publish({to: other.folder}), "another plan")
    refused(lambda: restore({other.folder: to}), "not in")
    next((other.folder / "curves").rglob("*.parquet")).unlink()
    refused(lambda: publish({tmp_path / "new": other.folder}), "curves")
    assert not (tmp_path / "new").exists()
    capsys.readouterr()
    for words in ("publish study=nope", "publish study=s to=", "restore", "restore study=nope", "publish to=null"):
        assert main([*words.split(), f"runs={tmp_path / 'runs'}"]) == 2, words
        assert capsys.readouterr().err.count("\n") == 1


def test_the_commands_lead_there_and_back(
    published: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = published
    assert main(["publish", f"study={folder}", f"to={tmp_path / 'reference'}"]) == 0
    assert "6 of 6 trials" in capsys.readouterr().err
    assert main(["restore", f"study={tmp_path / 'reference' / 's'}", f"runs={tmp_path / 'runs'}"]) == 0
    assert "odyssey sweep study=s" in capsys.readouterr().err
    pd.testing.assert_frame_equal(load("s", tmp_path / "runs"), load(folder), check_exact=True)
    assert pq.read_metadata(tmp_path / "reference" / "s" / TRIALS_FILE).num_rows == 6
