"""The engines, by name."""

import os

from search.base.keys import DEVICES, ENGINES
from search.engines.engine import Engine, Epoch, Interrupted, Member, Trainer
from search.errors import UserError, expect

__all__ = ["ENGINES", "Engine", "Epoch", "Interrupted", "Member", "Trainer", "choose", "n_cores"]


def choose(engine: str = "auto", device: str = "auto") -> Engine:
    """The engine for ``engine=... device=...``.

    ``engine=auto`` is the compiled CPU engine, or with ``device=cuda`` the compiled CUDA engine. A GPU is not chosen
    unasked as long as the CUDA engine has not been measured on one.

    Raises:
        UserError: no such engine or device, or the engine cannot run on the device.
    """
    expect(engine in ENGINES, "engine", engine, f"one of {', '.join(ENGINES)}")
    expect(device in DEVICES, "device", device, f"one of {', '.join(DEVICES)}")
    if engine == "auto":
        engine = "cuda" if device == "cuda" else "cpu"
    match engine:
        case "cpu":
            expect(device != "cuda", "device", device, "one of auto, cpu, for engine=cpu")
            from search.engines.cpu.engine import CpuEngine  # starts the compiler

            return CpuEngine()
        case "cuda":
            expect(device != "cpu", "device", device, "one of auto, cuda, for engine=cuda")
            from search.engines.cuda.engine import CudaEngine  # needs an optional package

            return CudaEngine()
    import torch  # takes seconds to load

    from search.engines.reference import ReferenceEngine

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: expected one of auto, cpu, for torch sees no CUDA device here")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return ReferenceEngine(device)


def n_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))
