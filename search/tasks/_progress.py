"""Progress of a long preparation, on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(label: str, total: int, show: bool = True) -> Iterator[Callable[[], None]]:
    """Gives the function to call after each of `total` items: a bar on a terminal, now and then a line elsewhere."""
    if not show:
        yield lambda: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total)
            yield lambda: bar.advance(task)
    else:
        yield _lines(label, total)


def _lines(label: str, total: int) -> Callable[[], None]:
    done, last = 0, time.monotonic()
    print(f"{label}: {total} to do", file=sys.stderr, flush=True)

    def advance() -> None:
        nonlocal done, last
        done += 1
        if done == total or time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)

    return advance
