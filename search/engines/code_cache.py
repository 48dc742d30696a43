"""Compiled code, kept on disk.

A cache file is the SHA-256 of its content followed by the content, an object file. What does not match its checksum,
or can be of another user's making, is compiled anew and never executed. The cache has a bound, beyond which those files
go that were not used for longest: a process that has one open reads it to its end, and who misses one compiles it anew.
"""

import hashlib
import logging
import math
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from search.base import files
from search.errors import one_line

MOST_BYTES = 2**30  # of all files; a cell has some 10,000 for each loss
USED = 86_400.0  # seconds after which a file that is used is marked so: not each time, for that is a write
_CHECKSUM_BYTES = 32
_LOOK = 16  # a process looks at the size before its first new file, and again after each such part of the bound
log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where compiled code is kept: ``$ODYSSEY_CACHE/kernels``, by default under ``~/.cache/odyssey``."""
    root = os.environ.get("ODYSSEY_CACHE") or Path.home() / ".cache" / "odyssey"
    return Path(root) / "kernels"


def kept(key: str, make: Callable[[], bytes]) -> tuple[bytes, bool]:
    """Code from the cache, or made now and kept there.

    What another user can have written is not used, and where others can write nothing is kept; the log says so. Without
    a cache all works, only slower to start.

    Args:
        key: what the code depends on.
        make: makes it.

    Returns:
        the code, and whether it was in the cache
    """
    folder = cache_folder()
    try:
        path = files.trusted_folder(folder.parent, folder.name) / hashlib.sha256(key.encode()).hexdigest()
    except (files.Untrusted, OSError) as error:
        _say(f"compiled code is not kept: {one_line(error)}; expected ODYSSEY_CACHE=FOLDER that only you can write to")
        return make(), False
    try:
        with files.trusted_file(path) as file:
            checksum, code = file.read(_CHECKSUM_BYTES), file.read()
            unused = time.time() - os.fstat(file.fileno()).st_mtime > USED
        if checksum == hashlib.sha256(code).digest():
            if unused:
                with suppress(OSError):  # it has gone, or may only be read
                    os.utime(path)
            return code, True
        _say(f"compiled code is made anew: {path} is damaged")
    except FileNotFoundError:
        pass
    except (files.Untrusted, OSError) as error:
        _say(f"compiled code is made anew: {one_line(error)}")
    code = make()
    try:
        files.write(path, hashlib.sha256(code).digest() + code, mode=0o644)
    except OSError as error:
        _say(f"compiled code is not kept: {one_line(error)}")
        return code, False
    try:
        _bound(path.parent, _CHECKSUM_BYTES + len(code))
    except OSError as error:
        _say(f"compiled code that is not used any more stays: {one_line(error)}")
    return code, False


_since = math.inf  # bytes that this process has written since it last looked


def _bound(folder: Path, written: int) -> None:
    """Keeps a folder within `MOST_BYTES`, and the sixteenth of it that each process may write before it looks."""
    global _since
    _since += written
    if _since < MOST_BYTES / _LOOK:
        return
    _since = 0.0
    files.forget_unfinished(folder, older=3600.0)
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process was faster
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and not entry.name.startswith("."):
                    found.append((status.st_mtime, status.st_size, entry.path))
    over = sum(size for _, size, _ in found) - MOST_BYTES
    for _, size, path in sorted(found):
        if over <= 0:
            break
        Path(path).unlink(missing_ok=True)
        over -= size


@cache
def _say(text: str) -> None:
    log.warning("%s", text)  # once, not for every kernel
