"""A stand-in for a GPU: kernels compiled by g++, the threads of a block as fibers, every access to memory checked."""

from tests.cuda_emulator.emulator import Emulator, Finding, installed

__all__ = ["Emulator", "Finding", "installed"]
