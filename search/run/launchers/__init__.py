"""Launchers: how the workers of a study are started, here or elsewhere. Each is a thin module over what schedules.

A launcher is a module of this package with a function ``ready(settings) -> Start``; its settings are those of the file
of the same name in the config group ``launcher``.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol

from search.base import keys
from search.errors import expect
from search.run.launchers.job import Job

__all__ = ["LAUNCHERS", "RESTARTS", "Job", "Start", "Workers", "ready"]

LAUNCHERS = tuple(keys.LAUNCHERS)
# How often a worker that died is started again, by launchers that do so: every three deaths end one trial at least.
RESTARTS = 30


class Workers(Protocol):
    """The workers that a launcher has started.

    Attributes:
        described: what they are and where their output goes, in one line.
        stopped: what becomes of them when the command is interrupted, in one line.
        stopping: whether `stop` ends them.
    """

    described: str
    stopped: str
    stopping: bool

    def alive(self) -> int:
        """How many have not ended."""
        ...

    def last_words(self) -> list[str]:
        """Of each worker that has ended in error since the last call, one line."""
        ...

    def revive(self) -> dict[int, str]:
        """Starts again those that had died when `alive` was last called, where that is the launcher's to do; what they
        had died of by the process ids that they had."""
        ...

    def stop(self) -> None:
        """Asks them to save and leave, where that is the launcher's to do."""
        ...


Start = Callable[[Job], Workers]  # starts workers, each of which is to do the job


def ready(settings: Mapping[str, Any]) -> Start:
    """What starts workers; all that it needs is there, so that nothing of a study is made in vain.

    Args:
        settings: of the config group ``launcher``.

    Raises:
        UserError: a setting is wrong, or what the launcher needs is missing.
    """
    expect(settings.get("name") in LAUNCHERS, "launcher", settings.get("name"), f"one of {', '.join(LAUNCHERS)}")
    module = import_module(f"{__name__}.{settings['name']}")
    return module.ready({key: value for key, value in settings.items() if key != "name"})
