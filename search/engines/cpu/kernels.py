"""The compiled kernels of a cell."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from search import losses
from search.cells.cell import Cell
from search.engines.cpu.cell import CellKernels
from search.engines.cpu.epoch_kernel import epoch
from search.engines.cpu.llvm import Target
from search.engines.cpu.native import Code, object_code
from search.engines.cpu.routines import library
from search.engines.cpu.rule import rule_module
from search.engines.cpu.unroll_kernel import unroll_backward, unroll_forward
from search.engines.plan import Plan, make_plan
from search.rules import Update

_lock = threading.Lock()
_loaded: dict[tuple[object, ...], "Kernels"] = {}


@dataclass(frozen=True)
class Kernels:
    """A cell's code, ready to run.

    Attributes:
        plan: what it was made from.
        clips_norm: whether its updates wait for the norm of all gradients.
        target: the numbers and vectors it works on.
        code: the functions that `cell_module` describes.
        cached: whether the code was found in the cache on disk.
        seconds: time it took to get it.
    """

    plan: Plan
    clips_norm: bool
    target: Target
    code: Code
    cached: bool
    seconds: float

    def function(self, name: str) -> Callable[[int], int]:
        """A function of the code, called with the address of its record."""
        return self.code.function(name)


def kernels(cell: Cell, dtype: str, loss: str | None = None, update: Update | None = None) -> Kernels:
    """The kernels of a cell: those of an epoch with a loss and an update, or those of an unroll if there is none.

    Raises:
        UserError: the equations of the cell are not legal.
    """
    target = Target.host(dtype)
    clips_norm = update is not None and update.scale_place >= 0
    form = (cell.signature, cell.layers_tied, target)
    key = (*form, loss and losses.find(loss).signature, clips_norm, update and update.signature)
    with _lock:
        if key not in _loaded:
            start = time.perf_counter()
            plan = make_plan(cell)
            shared, _ = object_code(f"library {target}", lambda: library(target))
            own, cached = object_code(f"cell {key[:-1]}", lambda: cell_module(plan, target, loss, clips_norm))
            objects = [shared, own]
            if update is not None:
                rule, _ = object_code(f"rule {update.signature} {target}", lambda: rule_module(update.program, target))
                objects.append(rule)
            seconds = time.perf_counter() - start
            _loaded[key] = Kernels(plan, clips_norm, target, Code(objects), cached, seconds)
        return _loaded[key]


def cell_module(plan: Plan, target: Target, loss: str | None, clips_norm: bool) -> ir.Module:
    """A module for one cell, to be linked with the library and, for an epoch, with a rule.

    It defines ``int epoch(void *job)``, for records with the fields `layout.JOB`, if there is a loss to train with,
    `clips_norm` saying whether updates wait for the norm of all gradients; otherwise ``int unroll_forward(void *)`` and
    ``int unroll_backward(void *)`` for records of `layout.UNROLL`.
    """
    module = ir.Module("cell")
    cell = CellKernels(plan, target, module)
    if loss:
        cell.define("epoch", lambda b, job: epoch(b, job, cell, loss, clips_norm))
    else:
        cell.define("unroll_forward", lambda b, job: unroll_forward(b, job, cell))
        cell.define("unroll_backward", lambda b, job: unroll_backward(b, job, cell))
    return module
