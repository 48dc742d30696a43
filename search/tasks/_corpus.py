"""Reading the files of a corpus: plain files of bounded size, and archives that are whole."""

import gzip
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from search.errors import UserError, one_line

MOST_BYTES = 1 << 22  # of a file; the largest published ones are far below it
MOST_UNPACKED = 1 << 31  # of an archive; as far above
_MOST_HEADERS = 1 << 25  # of all that describes an archive's members
_BLOCK = 1 << 20


@dataclass(frozen=True)
class File:
    """A file's name, without folders; where it is, for messages; and its content."""

    name: str
    label: str
    content: bytes


def read(path: Path, label: str | None = None, most: int = MOST_BYTES) -> bytes:
    """The content of a plain file of at most `most` bytes.

    Raises:
        UserError: it cannot be read, is longer, or is a pipe or a device, which could be read without end; the text
            begins with `label`, by default the path.
    """
    with _opened(path, label or str(path)) as file:
        content = file.read(most + 1)
    expect_size(label or str(path), len(content), most)
    return content


def expect_size(label: str, size: int, most: int = MOST_BYTES) -> None:
    """Raises UserError unless a file's size is one from 0 to `most` bytes."""
    if size > most:
        raise UserError(f"{label}: expected a file of at most {most / (1 << 20):g} MiB, found a longer one")
    if size < 0:
        raise UserError(f"{label}: expected a file's size, found {size}")


def members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[File]:
    """Members of a .tar.gz whose names, without folders, are wanted.

    They are read in memory: nothing is ever written where their names say. Before the first is given, the archive is
    read to its end, which is where gzip has its checksum.

    Raises:
        UserError: the archive is damaged, or longer than `MOST_UNPACKED` when unpacked; a member's name leads out of
            it; or a wanted member is no plain file, or longer than `MOST_BYTES`.
    """
    with _opened(archive, str(archive)) as file:
        try:
            _expect_checksum(archive, file)
            file.seek(0)
            yield from _members(archive, file, wanted)
        except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, RecursionError) as error:
            raise UserError(f"{archive}: expected a whole .tar.gz ({one_line(error)})") from error


@contextmanager
def _opened(path: Path, label: str) -> Iterator[BinaryIO]:
    """A plain file. To open a pipe or a device in the usual way could take for ever."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                found = "a directory" if stat.S_ISDIR(mode) else "a pipe or a device"
                raise UserError(f"{label}: expected a plain file, found {found}")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                yield file
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{label}: expected a file that can be read ({reason})") from error


def _expect_checksum(archive: Path, file: BinaryIO) -> None:
    size = 0
    with gzip.GzipFile(fileobj=file) as unpacked:
        while block := unpacked.read(_BLOCK):
            size += len(block)
            if size > MOST_UNPACKED:
                raise UserError(f"{archive}: expected at most {MOST_UNPACKED >> 20} MiB when unpacked, found more")


class _Unpacked(gzip.GzipFile):
    """What tarfile reads, headers, and keeps, only up to a limit: it trusts the sizes that headers give for others."""

    left = _MOST_HEADERS

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self.left:
            raise tarfile.ReadError(f"headers of more than {_MOST_HEADERS >> 20} MiB, or of a negative size")
        self.left -= size
        return super().read(size)

    def piece(self, start: int, size: int) -> bytes:
        self.seek(start)
        return super().read(size)


def _members(archive: Path, file: BinaryIO, wanted: Callable[[str], bool]) -> Iterator[File]:
    with _Unpacked(fileobj=file) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as tar:
        while (member := tar.next()) is not None:
            name, label = PurePosixPath(member.name), f"{archive}: {member.name!r}"
            if name.is_absolute() or ".." in name.parts:
                raise UserError(f"{label}: expected a member's name that stays inside the archive")
            expect_size(label, member.size, MOST_UNPACKED)
            if member.isdir() or not wanted(name.name):
                continue
            if not member.isreg() or member.issparse():
                raise UserError(f"{label}: expected a plain file, found a link, a device or a file with holes")
            expect_size(label, member.size)
            yield File(name.name, label, unpacked.piece(member.offset_data, member.size))
        _expect_end(unpacked, tar.offset)


def _expect_end(unpacked: _Unpacked, start: int) -> None:
    """An archive ends with blocks of zeros; tarfile takes a header that it cannot read for its end."""
    if len(block := unpacked.piece(start, tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end")
    while block:
        if any(block):
            raise tarfile.ReadError(f"a header that cannot be read, at byte {start}")
        start += len(block)
        block = unpacked.piece(start, _BLOCK)
