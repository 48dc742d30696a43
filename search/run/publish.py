"""``odyssey publish`` and ``odyssey restore``: studies to files that are kept with a paper, and back.

An evolution is all of its studies, with its settings, its record, and the best as variants beside them.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from search.errors import UserError, expect
from search.evolve import lineage
from search.evolve import settings as kept_settings
from search.run.commands import next_line
from search.study import publish as publishing
from search.study.archive import RECORD_FILE
from search.study.plan import find, read_plan
from search.study.storage import kept

if TYPE_CHECKING:
    from search.run.composition import Composed, Composer


def publish(composed: "Composed", composer: "Composer") -> None:
    """``odyssey publish``: writes the archive of a study, or of each of an evolution, and says what it has."""
    settings = composed.settings
    to, own = Path(settings["to"]), kept_settings.folder_of(settings["study"], settings["runs"])
    beside = _beside(own, to) if own else publishing.NONE  # before the studies, which may go on meanwhile
    sources = _studies(own) if own else [find(settings["study"], settings["runs"])]
    storage = None if settings["storage"] is None else kept(settings["storage"])
    records = publishing.publish({to / read_plan(source).study: source for source in sources}, beside, storage)
    for place in (to / own.name / kept_settings.VARIANTS).glob("*.yaml") if own else ():
        if place not in beside:  # one that is no longer among the best
            place.unlink()
    for folder, record in records.items():
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        n_ended = sum(record["ended"].values())
        print(f"{folder}: {n_ended} of {record['planned']} trials, {size:.1f} MB", file=sys.stderr)


def restore(composed: "Composed", composer: "Composer") -> None:
    """``odyssey restore``: makes a study of an archive, or an evolution of its archives."""
    settings = composed.settings
    runs, own = Path(settings["runs"]), kept_settings.folder_of(settings["study"], settings["runs"])
    sources = _studies(own) if own else [find(settings["study"], settings["runs"])]
    folders = {runs / read_plan(source).study: source for source in sources}
    if own:
        expect(not (runs / own.name).exists(), "study", own, f"a study that is not in {runs / own.name} already")
    publishing.restore(folders, _beside(own, runs) if own else publishing.NONE)
    for folder in folders:
        print(f"{folder}: restored", file=sys.stderr)
    name = own.name if own else next(iter(folders)).name
    print(next_line("evolve" if own else "sweep", name, settings), file=sys.stderr)


def _studies(own: Path) -> list[Path]:
    found = kept_settings.studies(own)
    expect(bool(found), "study", own, kept_settings.BEGUN)
    return found


def _beside(own: Path, to: Path) -> dict[Path, bytes]:
    """What an evolution has beside its studies, by where it is to be; the record last."""
    place = to / own.name
    expect(not (place / RECORD_FILE).exists(), "study", own, f"another name than that of the study in {place}")
    settings = kept_settings.read(own)
    assert settings is not None
    found = {place / kept_settings.FILE: yaml.safe_dump(settings | {"storage": None}, sort_keys=False).encode()}
    try:
        for path in sorted((own / kept_settings.VARIANTS).glob("*.yaml")):
            found[place / kept_settings.VARIANTS / path.name] = path.read_bytes()
        return found | {place / lineage.FILE: (own / lineage.FILE).read_bytes()}
    except OSError as error:
        raise UserError(f"{own}: cannot be read: {error.strerror}") from None
