"""Compiled code, kept on disk.

A cache file is the SHA-256 of its content followed by the content, an object file. What does not match its checksum,
or can be of another user's making, is compiled anew and never executed.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from search.base import files
from search.errors import one_line

_CHECKSUM_BYTES = 32
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
        if checksum == hashlib.sha256(code).digest():
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


@cache
def _say(text: str) -> None:
    log.warning("%s", text)  # once, not for every kernel
