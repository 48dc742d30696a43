"""CUDA C++ source of the kernels of a cell.

One thread block trains one member through a whole epoch, sequence by sequence. Within a sequence it does the phases of
a training step one after the other, each with all its threads:

- products over all time steps at once (with the input, the output layer, gradients): tiles of the result in
  registers, pieces of the operands in shared memory. A gradient goes from its tile right into the update of the
  weights; there is no gradient in memory (one that is clipped by norm is computed twice);
- the recurrence, step by step, of which `search.engines.cuda.recurrence` tells.

What no cell changes is written in the files of ``library``. What follows from equations is printed: the recurrence, the
update of a weight, an elementwise loss. Both become one text, in which what is constant for the cell is constant.

The source is for a GPU after the prelude ``library/prelude.cuh``, which says what the words mean in which it is written
(`Pointer`, `barrier`, `thread`, ...); after another prelude it can run elsewhere. ``sm`` is the block's shared memory,
``g`` the block's part of global memory, ``w`` where a layer's parameters are; indices count numbers, from these.
"""

from collections.abc import Mapping
from functools import cache
from importlib import resources

import numpy as np

from search import losses
from search.base.randomness import PHILOX_MULTIPLIERS, PHILOX_ROUNDS, PHILOX_WEYL
from search.engines.cuda.layout import COPY, JOB, LAYER, MOST_LAYERS, TURNS, Tiles, passed, recurrent
from search.engines.cuda.loss_kernels import print_loss
from search.engines.cuda.printer import Printer
from search.engines.cuda.recurrence import print_recurrence
from search.engines.plan import Plan
from search.expression import Node
from search.rules.trace import Program

# The kernels, with their arguments.
EPOCH = {
    "places": "Write<real>",
    "jobs": "Read<Job>",
    "layers": "Read<Layer>",
    "constants": "Read<real>",
    "shared": "Read<double>",
    "copies": "Read<Copy>",
    "weights": "Write<real>",
    "slots": "Write<real>",
    "inputs": "Read<real>",
    "starts": "Read<int64>",
    "lengths": "Read<int64>",
    "targets": "Read<real>",
    "classes": "Read<int>",
    "target_starts": "Read<int64>",
    "target_lengths": "Read<int64>",
    "best": "Write<int>",
    "scratch": "Write<double>",
    "orders": "Read<int>",
    "losses": "Write<double>",
    "times": "Write<int64>",
    "control": "Write<int>",
    "queue": "int",
    "n_members": "int",
    "n_sequences": "int",
    "slot_size": "int64",
    "scratch_size": "int",
    "n_total": "int",
    "n_weights": "int64",
    "train": "int",
}
UNROLL = {
    "places": "Write<real>",
    "weights": "Read<real>",
    "constants": "Read<real>",
    "layers": "Read<Layer>",
    "n_units": "int",
    "chip": "int",
    "work": "int",
    "n_steps": "int",
    "slot_size": "int64",
    "gradients": "int",
}
KERNELS = {"epoch": EPOCH, "unroll_forward": UNROLL, "unroll_backward": UNROLL}
# The first word of `control`.
STOP = 0


def epoch_source(plan: Plan, loss: str, tiles: Tiles, program: Program) -> str:
    """Source of the kernel ``epoch``, which trains on, or evaluates, all sequences of an order for each member."""
    constants: dict[str, int | str] = {
        "STOP": STOP,
        "MOST_LAYERS": MOST_LAYERS,
        **TURNS,
        "TIED": int(plan.tied),
        "N_SLOTS": len(program.slots),
        "N_SHARED": len(program.shared),
        "PHILOX_ROUNDS": PHILOX_ROUNDS,
        **{f"PHILOX_MULTIPLIER_{k}": f"{value}u" for k, value in enumerate(PHILOX_MULTIPLIERS)},
        **{f"PHILOX_WEYL_{k}": f"{value}u" for k, value in enumerate(PHILOX_WEYL)},
    }
    backward = "clipped" if program.scale >= 0 else "backward"
    return "\n".join(
        [
            _constants({"ROWS": tiles.rows, "MICRO": tiles.micro} | constants | _sizes(plan)),
            *(_record(name, kind) for name, kind in (("Job", JOB), ("Layer", LAYER), ("Copy", COPY))),
            _arguments("Pass", "EPOCH", EPOCH),
            _blocks(plan),
            *(library(name) for name in ("shares", "product", "input")),
            _loss(loss),
            _rule(program),
            _recurrence(plan),
            *(library(name) for name in ("matrices", "layer", backward, "epoch")),
        ]
    )


def unroll_source(plan: Plan) -> str:
    """Source of the kernels ``unroll_forward`` and ``unroll_backward``, one block a sequence of the batch."""
    parts = [_constants(_sizes(plan)), _record("Layer", LAYER), _arguments("Batch", "UNROLL", UNROLL), _blocks(plan)]
    return "\n".join([*parts, library("shares"), _recurrence(plan), library("matrices"), library("unroll")])


@cache
def library(name: str) -> str:
    """A file of the library."""
    return (resources.files(__package__) / "library" / f"{name}.cuh").read_text()


def _constants(values: Mapping[str, int | str]) -> str:
    kinds = {name: "unsigned" if isinstance(value, str) else "int" for name, value in values.items()}
    return "".join(f"constexpr {kinds[name]} {name} = {value};\n" for name, value in values.items())


def _sizes(plan: Plan) -> dict[str, int]:
    return {
        "N_INPUT": len(plan.inputs),
        "N_RECURRENT": len(recurrent(plan)),
        "N_COLUMNS": len(plan.preactivations),
        "N_TAPE": len(plan.tape),
        "N_VECTORS": len(plan.vectors),
        "N_CONSTANTS": len(plan.constants),
        "Y_SLOT": plan.tape[plan.state["y"]],
        "VECTOR_GRADIENTS": len(plan.state),
    }


def _record(name: str, kind: np.dtype) -> str:
    words = {"int64": "int64", "int32": "int", "float64": "double"}
    return (
        f"struct {name} {{\n"
        + "".join(f"    {words[str(kind[field])]} {field};\n" for field in kind.names or ())
        + "};\n"
    )


def _arguments(name: str, prefix: str, arguments: dict[str, str]) -> str:
    """A struct of a kernel's arguments, and the macros by which it takes them one by one: the compiler then knows of
    each that nothing else leads to its numbers."""
    kinds = (kind.replace("Write<", "Pointer<").replace("Read<", "Pointer<const ") for kind in arguments.values())
    fields = "".join(f"    {kind} {field};\n" for kind, field in zip(kinds, arguments, strict=True))
    listed = ", ".join(f"{kind} {field}" for field, kind in arguments.items())
    macros = f"#define {prefix}_ARGUMENTS {listed}\n#define {prefix}_NAMES {', '.join(arguments)}\n"
    return f"struct {name} {{\n{fields}}};\n{macros}"


def _blocks(plan: Plan) -> str:
    """Where the matrices are of the products with the input, and of the others."""
    printer = Printer()
    others = recurrent(plan)
    printer.text_line(
        "// The matrices of one operand side by side: how many are before it, how many it has, and the first"
    )
    printer.text_line("// of the pre-activations that it feeds.")
    with printer.inside("struct Block", "};"):
        printer.put("int start, width, column")
    for name, products in (("input", plan.inputs), ("recurrent", others)):
        blocks, start = [], 0
        for product in products:
            column = plan.preactivations.index(product.preactivations[0])
            blocks.append(f"{{{start}, {len(product.preactivations)}, {column}}}")
            start += len(product.preactivations)
        printer.switch(f"DEVICE Block {name}_block(int p)", blocks or ["{0, 0, 0}"])
    strides = [f"({len(product.preactivations)} * n | 1)" for product in others]
    before = [" + ".join(strides[:k]) or "0" for k in range(len(others))]
    printer.switch("DEVICE int strides_before(int p, int n)", before or ["0"])
    # The state is heard one step late, what the step passes at once.
    late = passed(plan)
    rows = [f"{plan.tape[product.node] + (len(plan.tape) if product.operand in late else 0)}" for product in others]
    printer.switch("DEVICE int operand_row(int p)", rows or ["0"])
    return printer.text


def _loss(loss: str) -> str:
    printer = Printer()
    print_loss(printer, loss)
    return printer.text if isinstance(losses.find(loss), losses.Elementwise) else library("losses") + printer.text


def _rule(program: Program) -> str:
    """What all weights share in an update, and the update of a weight, which returns what it becomes."""
    printer = Printer()
    with printer.inside("struct Rule", "};"):
        printer.put(*(f"real n{node}" for node in program.shared))
    with printer.inside("DEVICE Rule rule_of(Pointer<const double> shared, int64 at)"):
        printer.put("Rule rule", *(f"rule.n{node} = real(shared[at + {k}])" for k, node in enumerate(program.shared)))
        printer.put("return rule")
    if program.scale >= 0:
        with printer.inside("DEVICE void scale_down(Rule &rule, double norm)"):
            printer.text_line("// What is shared has the bound of the norm in the place of the factor.")
            printer.put(f"const double factor = double(rule.n{program.scale}) / norm")
            printer.put(f"rule.n{program.scale} = factor < 1 ? real(factor) : real(1)")

    def leaf(node: Node) -> str | None:
        slot = program.slots.index(node.name) + 1 if node.op == "slot" else 0
        return {"gradient": "gradient", "weight": "g[at]", "slot": f"g[at + {slot} * distance]"}.get(node.op)

    def name(index: int) -> str:
        return f"rule.n{index}" if index in program.shared else f"n{index}"

    arguments = "Pointer<real> g, int at, int distance, real gradient, const Rule &rule"
    with printer.inside(f"DEVICE real update({arguments})"):
        printer.assign(program.nodes, program.own, name, lambda index: leaf(program.nodes[index]))
        printer.put(*(f"g[at + {j} * distance] = {name(node)}" for j, node in enumerate(program.new, 1)))
        printer.put(f"g[at] = {name(program.weight)}", f"return {name(program.weight)}")
    return printer.text


def _recurrence(plan: Plan) -> str:
    printer = Printer()
    print_recurrence(printer, plan)
    return printer.text
