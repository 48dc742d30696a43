"""What workers and a study's queue tell each other of trials."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from search.study.tables import TrialState

# Workers that may die with a trial on their hands before it is trained alone, and before it has failed.
DEATHS_UNTIL_ALONE, DEATHS_UNTIL_FAILED = 2, 3
VERSION = "_version"  # how the names of columns end that are versions of libraries
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Planned:
    """A trial as it is planned: its Optuna study, its number, its place in the queue, and what gives the settings that
    are drawn beforehand: by name, Optuna's internal value and the JSON of the distribution."""

    study_id: int
    number: int
    place: int
    params: Callable[[], Mapping[str, tuple[float, str]]]


@dataclass(frozen=True)
class Claim:
    """A trial that a worker holds. `deaths` counts the workers that died with it on their hands; of `cause`, as far as
    that is known."""

    trial_id: int
    study_id: int
    number: int
    deaths: int = 0
    cause: str | None = None

    @property
    def alone(self) -> bool:
        """Whether it is to be trained alone."""
        return self.deaths == DEATHS_UNTIL_ALONE

    @property
    def failed(self) -> bool:
        """Whether it is not to be trained again."""
        return self.deaths >= DEATHS_UNTIL_FAILED


@dataclass(frozen=True)
class Outcome:
    """What has come of a trial.

    Attributes:
        trial_id: in the storage.
        state: in which it ends; None if it is to be tried again, and fails where it has been so already.
        score: for Optuna, None if there is none.
        attributes: user attributes to be stored.
    """

    trial_id: int
    state: TrialState | None
    score: float | None
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """A trial as it stands in the storage: when it was first begun, UTC, and its user attributes."""

    number: int
    state: TrialState
    started: datetime | None
    attributes: Mapping[str, Any]

    @property
    def flat(self) -> dict[str, Any]:
        """Its result as columns of a table: a version of a library is one of its own, NAME_version."""
        result = dict(self.attributes.get("result") or {})
        versions = result.pop("versions", None) or {}
        return result | {f"{name}{VERSION}": value for name, value in versions.items()}


@dataclass(frozen=True)
class Peer:
    """A worker as the storage knows it. `age` is the time since its last sign of life [s]; `held` its trials."""

    worker: str
    host: str
    boot: str
    pid: int
    device: str
    beat: int
    ended: int
    joined: float
    age: float
    held: int


@dataclass(frozen=True)
class Stint:
    """A worker's time in a study, as it stands in the storage: its device, from when to when (UTC) it showed signs of
    life, how many trials ended with it, how many it left unfinished, and whether it died. One that has not left yet
    `held` nothing so far."""

    device: str
    joined: datetime
    left: datetime
    ended: int
    held: int
    died: bool


@dataclass(frozen=True)
class Key:
    """Which trial of a study: its variant, its number, and its row in the storage."""

    variant: str
    number: int
    trial_id: int
