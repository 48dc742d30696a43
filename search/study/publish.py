"""Studies to archives, which are kept with a paper, and archives to studies that go on."""

import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select

from search.base import files
from search.errors import UserError, expect
from search.study import archive, curves
from search.study.archive import CURVES_FILE, RECORD_FILE, TRIALS_FILE, Archive
from search.study.claims import ENDED, Record
from search.study.plan import PLAN_FILE, read_plan, refuse_unless_grown
from search.study.reader import StudyReader
from search.study.replicate import FOLDER
from search.study.storage import study_name
from search.study.study import Study
from search.study.tables import LAYOUT, STUDIES, TRIALS, writing


def publish(source: Path, to: Path, storage: str | None = None) -> dict[str, Any]:
    """Writes the archive of a study, complete or not, and of its replicates; an earlier one of it is replaced.

    What failed trials said is kept in one line; their tracebacks, and where the storage is, are not published.

    Args:
        source: folder of the study.
        to: folder of the archive.
        storage: see `search.study.plan.storage_url`.

    Returns:
        the record, as of `search.study.archive.summary`

    Raises:
        UserError: the study cannot be read, no trial of it has ended, a curve is missing, the folder holds another
            study or one that has come further, or it cannot be written.
    """
    study = StudyReader.open(source, storage=storage)
    try:
        plan, trials = replace(study.plan, storage=None), study.trials()
        ended = {key: [trial for trial in each if trial.state in ENDED] for key, each in trials.items()}
        n_ended = sum(map(len, ended.values()))
        expect(n_ended > 0, "study", plan.study, "a study of which a trial has ended")
        _refuse_unless_further(to, study, n_ended)
        packed = list(study.curves(ended))
        n_curves = sum(curves.has_one(trial) for each in ended.values() for trial in each)
        expect(len(packed) == n_curves, "study", f"{plan.study}, {len(packed)} curves", f"all {n_curves}")
        content = {TRIALS_FILE: archive.encoded_trials(ended), CURVES_FILE: archive.encoded_curves(packed)}
        record = archive.summary(ended, study.leases.stints(), plan.total)
        record = {"published": datetime.now(UTC).replace(microsecond=0)} | record
        record["sha256"] = {name: sha256(data).hexdigest() for name, data in content.items()}
        content[PLAN_FILE] = yaml.safe_dump({"layout": LAYOUT} | asdict(plan), sort_keys=False).encode()
        content[RECORD_FILE] = yaml.safe_dump(record, sort_keys=False).encode()
    finally:
        study.close()
    try:
        for name, data in content.items():  # the record last, by which the others are known to be whole
            files.write(to / name, data)
    except OSError as error:
        raise UserError(f"{to}: cannot be written: {error.strerror}") from None
    for again in sorted((source / FOLDER).glob(f"*/{PLAN_FILE}")):
        publish(again.parent, to / FOLDER / again.parent.name)
    return record


def restore(source: Path, folder: Path) -> None:
    """Makes a study of an archive, which goes on where that one was; curves are in files of their own again.

    Args:
        source: folder of the archive.
        folder: of the study, which must not exist. It is there once it is whole.

    Raises:
        UserError: there is no archive, it is damaged, or the folder exists or cannot be written.
    """
    found = Archive.of(source)
    if found is None:
        raise UserError(f"study={source}: expected the folder of a published study, with {RECORD_FILE}")
    expect(not folder.exists(), "study", source, f"a study that is not in {folder} already")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        _unpack(found, source, unfinished)
        for again in sorted((source / FOLDER).glob(f"*/{RECORD_FILE}")):
            _unpack(Archive(again.parent), again.parent, unfinished / FOLDER / again.parent.name)
        unfinished.rename(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _unpack(found: Archive, source: Path, folder: Path) -> None:
    """Makes the study of an archive in a folder."""
    study = Study.create(folder, read_plan(source))
    try:
        each_of = found.trials.items()
        trials = {key: [_with_curve(found, *key, trial, folder) for trial in each] for key, each in each_of}
        with writing(study.engine) as db:
            for (task, variant), each in trials.items():
                rows = select(TRIALS.c.number, TRIALS.c.trial_id).join(STUDIES, STUDIES.c.study_id == TRIALS.c.study_id)
                own = STUDIES.c.study_name == study_name(study.plan.study, task, variant)
                ids = {row.number: row.trial_id for row in db.execute(rows.where(own))}
                archive.settle(db, [ids[trial.number] for trial in each], each)
            archive.put_stints(db, f"{study.plan.study}/{study.plan.task['name']}", found.stints)
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


def _refuse_unless_further(to: Path, study: StudyReader, n_ended: int) -> None:
    """Raises UserError if an archive holds another study, or more trials of this one."""
    known = Archive.of(to)
    expect(known is not None or not to.exists() or not any(to.iterdir()), "to", to, "an empty folder or an archive")
    if known:
        refuse_unless_grown(read_plan(to), replace(study.plan, storage=None))
        there = sum(map(len, known.trials.values()))
        expect(n_ended >= there, "study", f"{study.plan.study}, {n_ended} trials", f"at least {there}, as {to} has")
