"""``odyssey publish`` and ``odyssey restore``: studies to files that are kept with a paper, and back. An evolution is
all of its studies, with its own record."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from search.base import files
from search.errors import UserError, expect
from search.evolve import lineage
from search.evolve import settings as evolution
from search.run.commands import next_line
from search.study import publish as publishing
from search.study.plan import find, read_plan
from search.study.storage import kept

if TYPE_CHECKING:
    from search.run.composition import Composed, Composer


def publish(composed: "Composed", composer: "Composer") -> None:
    """``odyssey publish``: writes the archive of a study, or of each of an evolution, and says what it has."""
    settings = composed.settings
    own = _evolution(settings["study"], settings["runs"])
    storage = None if settings["storage"] is None else kept(settings["storage"])
    sources = evolution.studies(own) if own else [find(settings["study"], settings["runs"])]
    expect(bool(sources), "study", settings["study"], "an evolution whose first study has begun")
    for source in sources:
        to = Path(settings["to"]) / read_plan(source).study
        record = publishing.publish(source, to, storage)
        n_ended = sum(record["ended"].values())
        size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file()) / 1e6
        print(f"{to}: {n_ended} of {record['planned']} trials, {size:.1f} MB", file=sys.stderr)
    if own:
        _copy(own, Path(settings["to"]) / own.name)


def restore(composed: "Composed", composer: "Composer") -> None:
    """``odyssey restore``: makes a study of an archive, or an evolution of its archives."""
    settings = composed.settings
    runs, own = Path(settings["runs"]), _evolution(settings["study"], settings["runs"])
    sources = evolution.studies(own) if own else [find(settings["study"], settings["runs"])]
    folders = [runs / read_plan(source).study for source in sources]
    for folder in [*folders, *([runs / own.name] if own else [])]:  # before any of them is made
        expect(not folder.exists(), "study", settings["study"], f"a study that is not in {folder} already")
    for source, folder in zip(sources, folders, strict=True):
        publishing.restore(source, folder)
        print(f"{folder}: restored", file=sys.stderr)
    if own:
        _copy(own, runs / own.name)
    name = own.name if own else folders[0].name
    print(next_line("evolve" if own else "sweep", name, settings), file=sys.stderr)


def _evolution(study: str, runs: str) -> Path | None:
    """The folder of an evolution, given as a study is; None if it is none."""
    return next((place for place in (Path(runs) / study, Path(study)) if (place / lineage.FILE).is_file()), None)


def _copy(source: Path, to: Path) -> None:
    """Copies what an evolution has beside its studies: settings, record, and the best as variants."""
    names = [evolution.FILE, lineage.FILE, *sorted(f"variant/{path.name}" for path in source.glob("variant/*.yaml"))]
    try:
        for name in names:
            files.write(to / name, (source / name).read_bytes())
    except OSError as error:
        raise UserError(f"{to}: cannot be written: {error.strerror}") from None
