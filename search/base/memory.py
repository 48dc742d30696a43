"""How much memory there is."""

import os
from contextlib import suppress
from pathlib import Path


def memory(root: Path = Path("/")) -> int:
    """Bytes that this process may use: the machine's memory, or the lowest limit of a control group that it is in.

    Args:
        root: of the file system; groups of version 1 and 2 are looked for where Linux shows them.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    groups = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (groups / "memory", "memory.limit_in_bytes") if controllers else (groups, "memory.max")
        own = top / path.lstrip("/")
        inside = (folder for folder in (own, *own.parents) if folder.is_relative_to(top))
        limits += [int(text) for folder in inside if (text := _text(folder / name).strip()).isdigit()]  # or "max"
    return min(limits)


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""
