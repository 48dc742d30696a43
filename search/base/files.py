"""Files of which a reader finds the old one or the new one whole, and files that nobody else can have written."""

import errno
import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_OTHERS = stat.S_IWGRP | stat.S_IWOTH  # the right to write of anyone but the owner, access lists included
_masking = threading.Lock()
_LINKS = 40  # as many as the kernel follows on one way


def write(path: Path, content: bytes | str | Callable[[BinaryIO], object], mode: int = 0o666) -> None:
    """Replaces a file in one step: a temporary file beside it, flushed to disk, then renamed.

    Args:
        path: the file; its folder is made if need be.
        content: what to write, or a function that writes it to an open binary file.
        mode: the file's, less what the user's umask takes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode & ~_umask())  # mkstemp makes it private
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # or a loss of power could undo the renaming
        finally:
            os.close(folder)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def forget_unfinished(folder: Path, older: float = 0.0) -> None:
    """Removes what writers that were killed have left in a folder and below it.

    Args:
        folder: need not exist.
        older: seconds since it was last written to; a live writer that loses its temporary file gets an OSError.
    """
    for path in folder.rglob(".*"):
        with suppress(FileNotFoundError):  # its writer may be alive, and done with it
            if re.fullmatch(r"\..+\.[a-z0-9_]{8}", path.name) and time.time() - path.stat().st_mtime >= older:
                path.unlink()


class Untrusted(Exception):
    """Another user can have written something. The text names what, and says why."""


def trusted_folder(root: Path, *names: str) -> Path:
    """A folder in which, and on the way to which, nobody but this user and root can put or replace anything.

    What is missing of it is made, for this user alone.

    Args:
        root: links on the way to it are followed where they are this user's or root's.
        names: of folders below it, which may not be links.

    Returns:
        the folder, as a path without links

    Raises:
        Untrusted: others can write there.
        OSError: it cannot be made or looked at, or is no folder.
    """
    place = Path("/")
    to_go = [*reversed(names), *reversed(root.absolute().parts)]
    links = 0
    while to_go:
        name = to_go.pop()
        if name == "..":
            place = place.parent
            continue
        status = _status(place / name)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if len(to_go) < len(names) or links > _LINKS:
                raise Untrusted(f"{place / name} is a link")
            to_go += reversed(Path(os.readlink(place / name)).parts)
            continue
        place /= name
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
        # On the way, what is this user's in a folder with the sticky bit, such as /tmp, can be replaced by nobody else.
        if status.st_mode & _OTHERS and not status.st_mode & stat.S_ISVTX:
            raise Untrusted(f"others can write to {place}")
    if place.lstat().st_mode & _OTHERS:
        raise Untrusted(f"others can write to {place}")
    return place


@contextmanager
def trusted_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file of a `trusted_folder` for reading.

    Raises:
        Untrusted: another user can have written it.
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # of a pipe, no wait for its writer
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Untrusted(f"{path} is a link") from None
        raise
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _expect_own(path, status)
        if not stat.S_ISREG(status.st_mode):
            raise Untrusted(f"{path} is no plain file")
        if status.st_mode & _OTHERS:
            raise Untrusted(f"others can write to {path}")
        yield file


def _status(path: Path) -> os.stat_result:
    """That of a folder or link, which is made if there is none, and is this user's or root's."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    _expect_own(path, status)
    return status


def _expect_own(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.getuid()):
        raise Untrusted(f"{path} belongs to another user")


def _umask() -> int:
    with _masking:  # for a moment the process has another, which is none of its own to a thread beside this one
        mask = os.umask(0o077)
        os.umask(mask)
    return mask
