"""One task of one study, as the page takes it, and where what takes long to compute of it comes from."""

from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from analysis.dashboard.digest import Digest
from analysis.frames import reference_of, variants_of
from analysis.load import KEYS, OUTCOMES, sampled
from search.study.plan import Plan


@dataclass(frozen=True)
class Chosen:
    """One task of one study, as it stands.

    Attributes:
        trials: of the variants that are compared.
        label: what the score is, with its unit.
        note: which variants these are, where they are not all; empty where they are.
    """

    study: str
    task: str
    title: str
    plan: Plan
    trials: pd.DataFrame
    label: str
    note: str = ""

    @property
    def key(self) -> str:
        """Its name in addresses."""
        return f"{self.study}/{self.task}"

    @property
    def variants(self) -> list[str]:
        """In planned order."""
        return [str(variant) for variant in variants_of(self.trials)]

    @property
    def reference(self) -> str:
        """Vanilla, or the first variant."""
        return reference_of(self.trials)


class Digests(Protocol):
    """Where digests come from, which take long."""

    def get(self, part: Chosen, renew: bool) -> Digest | str:
        """Of the trials of a part, or of fewer from a while ago; or why there is none yet."""
        ...


def lean(trials: pd.DataFrame) -> pd.DataFrame:
    """What a comparison needs of trials, in types that pandas is quick with."""
    own = trials[[*KEYS, *sampled(trials), *OUTCOMES]].astype({"study": "category", "status": "category"})
    whole = {name: "int64" for name in own if str(own[name].dtype) == "Int64" and own[name].notna().all()}
    return own.astype(whole)
