"""What a report has a chapter for."""

from dataclasses import dataclass

import pandas as pd

from analysis.importance import Importance
from search.study.plan import Plan


@dataclass(frozen=True)
class Part:
    """One task of one study.

    Attributes:
        name: in file names; ``title``: in headings, with the study where there are several.
        trials: as of `load`; ``table``: its rows of `compare`.
        label: what the score is, with its unit.
        importance: functional ANOVAs of its trials.
    """

    study: str
    task: str
    name: str
    title: str
    plan: Plan
    trials: pd.DataFrame
    table: pd.DataFrame
    label: str
    importance: Importance
