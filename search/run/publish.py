"""``odyssey publish`` and ``odyssey restore``: studies to files that are kept with a paper, and back."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from search.run.commands import next_line
from search.study import publish as publishing
from search.study.plan import find, read_plan
from search.study.storage import kept

if TYPE_CHECKING:
    from search.run.composition import Composed, Composer


def publish(composed: "Composed", composer: "Composer") -> None:
    """``odyssey publish``: writes the archive of a study and says what it has."""
    settings = composed.settings
    source = find(settings["study"], settings["runs"])
    to = Path(settings["to"]) / read_plan(source).study
    storage = None if settings["storage"] is None else kept(settings["storage"])
    record = publishing.publish(source, to, storage)
    n_ended = sum(record["ended"].values())
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file()) / 1e6
    print(f"{to}: {n_ended} of {record['planned']} trials, {size:.1f} MB", file=sys.stderr)


def restore(composed: "Composed", composer: "Composer") -> None:
    """``odyssey restore``: makes a study of an archive."""
    settings = composed.settings
    source = find(settings["study"], settings["runs"])
    folder = Path(settings["runs"]) / read_plan(source).study
    publishing.restore(source, folder)
    print(f"{folder}: restored. {next_line('sweep', folder.name, settings)}", file=sys.stderr)
