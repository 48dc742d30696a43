"""Time, and this run of the machine, as workers tell each other of them."""

import socket
import time
from pathlib import Path


def now() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS has only the latter
    return time.clock_gettime(clock)


def boot() -> str:
    """What tells one run of an operating system's kernel from any other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
