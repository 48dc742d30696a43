"""The lock files of workers: whether one is alive, and what one that died was doing."""

import faulthandler
import fcntl
import os
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


class Lock:
    """A file that is locked as long as its process lives, with the trials that are on its hands.

    The kernel drops the lock with the process. What is in the file outlives it: the numbers of the trials, and the name
    of a fatal signal, written by `faulthandler` at the last moment, unless someone else has that on.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = open(path, "w")  # noqa: SIM115 (held for life)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._line = b""
        self._reports = not faulthandler.is_enabled()
        if self._reports:
            faulthandler.enable(self._file, all_threads=False)

    def hold(self, trials: Collection[int]) -> None:
        """Notes which trials are on this worker's hands from now on: in training, or being made ready for it."""
        line = (" ".join(map(str, sorted(trials))) + "\n").encode()
        if line == self._line:
            return
        descriptor, self._line = self._file.fileno(), line
        with suppress(OSError):  # no room on the disk: then it is not known
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, line, 0)
            os.lseek(descriptor, len(line), os.SEEK_SET)  # where a report would go on

    def release(self) -> None:
        """Removes the file, if the folder can still be written to; nothing is to be learned from it."""
        if self._reports:
            faulthandler.disable()
        with suppress(OSError):
            self.path.unlink()
        self._file.close()


@dataclass(frozen=True)
class LastWords:
    """What a dead worker has left: the trials on its hands, None if that is not known, and what ended it."""

    trials: frozenset[int] | None = None
    cause: str | None = None


def is_free(path: Path) -> bool:
    """Whether the process that held a lock on this machine is known to have ended."""
    try:
        with open(path, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:  # locked, or not to be seen from here
        return False


def last_words(path: Path) -> LastWords:
    """What stands in the lock file of a dead worker; also if it cannot be read."""
    try:
        line, end, report = path.read_text(errors="replace").partition("\n")
        trials = frozenset(map(int, line.split())) if end else None
    except (OSError, ValueError):
        return LastWords()
    fatal = re.search(r"Fatal Python error: (.*)", report)
    return LastWords(trials, fatal[1].lower() if fatal else None)
