"""Studies to archives, which are kept with a paper, and archives to studies that go on."""

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select

from search.base import files
from search.errors import UserError, expect, one_line
from search.study import archive, curves
from search.study.archive import CURVES_FILE, RECORD_FILE, TRIALS_FILE, Archive
from search.study.claims import ENDED, Record
from search.study.plan import PLAN_FILE, Plan, read_plan, refuse_unless_grown
from search.study.reader import StudyReader
from search.study.replicate import FOLDER
from search.study.storage import study_name, sweep_name
from search.study.study import Study
from search.study.tables import LAYOUT, STUDIES, TRIALS, writing
from search.study.working import TROUBLE

_FILES = (PLAN_FILE, TRIALS_FILE, CURVES_FILE, RECORD_FILE)
Files = Mapping[Path, bytes]
NONE: Files = {}
_WRITERS = 16  # of files, each of which waits for its disk


def publish(
    sources: Mapping[Path, Path], beside: Files = NONE, storage: str | None = None
) -> dict[Path, dict[str, Any]]:
    """Writes the archives of studies, complete or not, and of their replicates; earlier ones of them are replaced.

    A study of which no trial has ended has no archive. What failed trials said is kept in one line; their tracebacks,
    and where the storage is, are not published.

    Args:
        sources: by the folder of the archive, that of the study.
        beside: other files to be written, after the archives, by path.
        storage: see `search.study.plan.storage_url`.

    Returns:
        the record of each, as of `search.study.archive.summary`

    Raises:
        UserError: a study cannot be read, no trial has ended, a curve is missing, a folder holds another study or one
            that has come further, or it cannot be written. Nothing is written before all is read.
    """
    found = {to: _packed(source, to, storage) for to, source in sources.items()}
    records = {to: record for to, (record, content) in found.items() if content}
    expect(bool(records), "study", read_plan(next(iter(sources.values()))).study, "a study of which a trial has ended")
    for to in records:
        for again in sorted((sources[to] / FOLDER).glob(f"*/{PLAN_FILE}")):
            own = to / FOLDER / again.parent.name
            found[own] = _packed(again.parent, own)
    # The record of each last, by which the others are known to be whole.
    content = {to / name: data for to, (_, files_of) in found.items() for name, data in files_of.items()}
    _write(content | dict(beside))
    return records


def _packed(source: Path, to: Path, storage: str | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The record of a study and the files of its archive, none if no trial of it has ended."""
    study = StudyReader.open(source, storage=storage)
    try:
        plan = replace(study.plan, storage=None)
        trials = {key: [trial for trial in each if trial.state in ENDED] for key, each in study.trials().items()}
        record = archive.summary(trials, study.leases.stints(), plan.total)
        packed = list(study.curves(trials))
    except TROUBLE as error:
        raise UserError(f"study={source}: its storage cannot be read ({one_line(error)})") from error
    finally:
        study.close()
    _refuse_unless_further(to, plan, sum(record["ended"].values()))
    n_curves = sum(curves.has_one(trial) for each in trials.values() for trial in each)
    expect(len(packed) == n_curves, "study", f"{plan.study}, {len(packed)} curves", f"all {n_curves}")
    if not record["ended"]:
        return record, {}
    content = {TRIALS_FILE: archive.encoded_trials(trials), CURVES_FILE: archive.encoded_curves(packed)}
    record = {"published": datetime.now(UTC).replace(microsecond=0)} | record
    record["sha256"] = {name: curves.checksum(data) for name, data in content.items()}
    content[PLAN_FILE] = yaml.safe_dump({"layout": LAYOUT} | asdict(plan), sort_keys=False).encode()
    content[RECORD_FILE] = yaml.safe_dump(record, sort_keys=False).encode()
    return record, content


def restore(sources: Mapping[Path, Path], beside: Files = NONE) -> None:
    """Makes studies of archives, which go on where those were; curves are in files of their own again.

    Args:
        sources: by the folder of the study, which must not exist, that of the archive.
        beside: other files to be written, by path, in folders that must not exist.

    Raises:
        UserError: there is no archive, it is damaged, or a folder exists or cannot be written.
    """
    for folder, source in sources.items():
        if Archive.of(source) is None:
            raise UserError(f"study={source}: expected the folder of a published study, with {RECORD_FILE}")
        expect(not folder.exists(), "study", source, f"a study that is not in {folder} already")
    made = {folder: folder.with_name(f".{folder.name}.unfinished") for folder in sources}
    try:
        for folder, unfinished in made.items():
            shutil.rmtree(unfinished, ignore_errors=True)
            _unpack(Archive(sources[folder]), sources[folder], unfinished)
            for again in sorted((sources[folder] / FOLDER).glob(f"*/{RECORD_FILE}")):
                _unpack(Archive(again.parent), again.parent, unfinished / FOLDER / again.parent.name)
        for folder, unfinished in made.items():
            unfinished.rename(folder)
    except TROUBLE as error:
        raise UserError(f"{next(iter(sources))}: cannot be written ({one_line(error)})") from error
    finally:
        for unfinished in made.values():
            shutil.rmtree(unfinished, ignore_errors=True)
    _write(beside)


def _write(content: Files) -> None:
    for path, data in content.items():
        try:
            files.write(path, data)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def _unpack(found: Archive, source: Path, folder: Path) -> None:
    """Makes the study of an archive in a folder."""
    study = Study.create(folder, read_plan(source))
    name = study.plan.study
    try:
        rows = select(STUDIES.c.study_name, TRIALS.c.number, TRIALS.c.trial_id)
        rows = rows.join(STUDIES, STUDIES.c.study_id == TRIALS.c.study_id)
        with study.engine.begin() as db:
            ids = {(own, number): trial_id for own, number, trial_id in db.execute(rows)}
        trials = {(*key, trial.number): trial for key, each in found.trials.items() for trial in each}
        for task, variant, number in trials:
            known = (study_name(name, task, variant), number) in ids
            expect(known, f"{source / TRIALS_FILE}", f"{variant} {number}", f"trials of {source / PLAN_FILE}")
        _ = found.curves  # before several threads ask for it
        with ThreadPoolExecutor(_WRITERS) as writers:
            whole = list(
                writers.map(lambda one: _with_curve(found, one[0][0], one[0][1], one[1], folder), trials.items())
            )
        with writing(study.engine) as db:
            archive.settle(db, [ids[study_name(name, *key[:2]), key[2]] for key in trials], whole)
            archive.put_stints(db, sweep_name(name, study.plan.task["name"]), found.stints)
    finally:
        study.close()


def _with_curve(found: Archive, task: str, variant: str, trial: Record, folder: Path) -> Record:
    """A trial with its curve in a file of a study's folder, if it has one."""
    curve = found.curve(task, variant, trial) if curves.has_one(trial) else None
    if curve is None:
        return trial
    content = curves.encoded([(row["train_loss"], row["valid_score"]) for row in curve.to_pylist()])
    files.write(curves.path_of(folder, task, variant, trial.number), content)
    return replace(trial, attributes={**trial.attributes, curves.CHECKSUM: curves.checksum(content)})


def _refuse_unless_further(to: Path, plan: Plan, n_ended: int) -> None:
    """Raises UserError if a folder holds anything else than an archive of this study of no more trials."""
    known = Archive.of(to)
    if known is None:
        there = {path.name for path in to.iterdir() if not path.name.startswith(".")} if to.is_dir() else set()
        whole = not to.exists() or (to.is_dir() and there <= {*_FILES, FOLDER})  # one that was broken off has no record
        expect(whole, "to", to, "an empty folder or an archive")
        return
    refuse_unless_grown(read_plan(to), plan)
    before = sum(known.record["ended"].values())
    expect(n_ended >= before, "study", f"{plan.study}, {n_ended} trials", f"at least {before}, as {to} has")
