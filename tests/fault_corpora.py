"""One bit of an archive of a corpus is flipped: the corpus is refused, or read as it was; never as other data."""

import contextlib
import io
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from search.errors import UserError
from search.tasks import iamondb, jsb
from tests import test_iamondb, test_jsb

ARCHIVES = ("lineStrokes-all.tar.gz", "ascii-all.tar.gz", "iamondb-t1.tar.gz", "chorales.mat")


def corpora(n: int = 400, seed: int = 0) -> str:
    """What became of `n` flips in each of `ARCHIVES`.

    Raises:
        AssertionError: one of them was read as other data.
    """
    found = {name: flips(name, n, seed) for name in ARCHIVES}
    assert not any(count["other data"] for count in found.values()), found
    refused = ", ".join(f"{name} {count['refused']}" for name, count in found.items())
    return f"{n} flipped bits in each of {len(ARCHIVES)} archives: none read as other data; refused: {refused}"


def flips(name: str, n: int, seed: int) -> Counter[str]:
    """How many of `n` flips, at random places of an archive, were refused, or read as the same or as other data."""
    draw = random.Random(f"{seed} {name}")
    count: Counter[str] = Counter()
    with _corpus(name) as (archive, load):
        whole, expected = archive.read_bytes(), load()
        for _ in range(n):
            damaged = bytearray(whole)
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
            archive.write_bytes(damaged)
            try:
                count["same data" if load() == expected else "other data"] += 1
            except UserError as error:
                assert str(archive.parent) in str(error) and "\n" not in str(error)
                count["refused"] += 1
    return count


@contextlib.contextmanager
def _corpus(name: str) -> Iterator[tuple[Path, Callable[[], str]]]:
    """An archive of a miniature of its corpus, and a function that reads the corpus and gives the data's hash."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        archive = Path(folder) / name
        if name == "chorales.mat":
            archive.write_bytes(test_jsb.mat(test_jsb.SMALL, compress=True))
            yield archive, lambda: jsb.load(source="boulanger", path=archive).hash
        else:
            test_iamondb.archives(archive.parent, test_iamondb.miniature())
            yield archive, lambda: iamondb.load(archive.parent, progress=False).hash
