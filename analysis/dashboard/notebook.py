"""The page in a notebook."""

import html
from dataclasses import dataclass
from pathlib import Path

from analysis import findings as judging
from analysis.compare import compare
from analysis.dashboard.digest import Ready, digest
from analysis.dashboard.page import at_rest
from analysis.dashboard.source import Source
from analysis.dashboard.views import Views
from analysis.importance import Importance
from analysis.load import Studies
from analysis.part import Part


@dataclass(frozen=True)
class Page:
    """The page of a study as it stood, which a notebook shows if it is the last line of a cell.

    Attributes:
        html: the whole page, one file that needs no other.
    """

    html: str

    def _repr_html_(self) -> str:
        # A document of its own: the notebook's styles do not reach it, and its policy holds there too.
        kept = html.escape(self.html, quote=True)
        return (
            f'<iframe srcdoc="{kept}" style="width:100%;height:46rem;border:1px solid #888" title="Odyssey"></iframe>'
        )


def dashboard(study: Studies, runs: str | Path = "runs", storage: str | None = None, importance: bool = False) -> Page:
    """The page of a study, finished or not, as it stands now; ``odyssey dashboard`` serves it live.

    Args:
        study, runs, storage: as of `analysis.load`; or an evolution, by its name or the path of its folder.
        importance: whether to compute importance and to judge the findings, which takes minutes.

    Raises:
        UserError: no such study, or it cannot be read.
    """
    source = Source(study, runs, storage)
    try:
        made = {}
        for part in Views(source, Ready({}), live=False).parts() if importance else []:
            fitted = Importance(part.trials, part.plan)
            table = compare(part.trials)
            own = Part(part.study, part.task, part.task, part.title, part.plan, part.trials, table, part.label, fitted)
            made[part.key] = digest(own, judging.read())
        return Page(at_rest(Views(source, Ready(made), live=False), findings=importance))
    finally:
        source.close()
