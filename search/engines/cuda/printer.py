"""Printing the source of CUDA kernels, in the part of Python that numba-cuda compiles."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from search.expression import Node

# What the nodes of `search.expression` mean.
OPERATIONS = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "neg": "-{}",
    "sigmoid": "one / (one + exp(-{}))",
    "tanh": "tanh({})",
    "relu": "zero if {0} < zero else {0}",  # NaN stays NaN
    "exp": "exp({})",
    "log": "log({})",
    "sqrt": "sqrt({})",
    "sin": "sin({})",
    "cos": "cos({})",
    "abs": "abs({})",
    "floor": "R(floor({}))",
    "max": "{0} if {0} > {1} or {0} != {0} else {1}",
    "min": "{0} if {0} < {1} or {0} != {0} else {1}",
    "where": "{1} if {0} > zero else {2}",
    "positive": "one if {} > zero else zero",
}


class Printer:
    """Lines of source, with what kernels share: strided loops, barriers, the fields of a job."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    @property
    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def put(self, *lines: str) -> None:
        self._lines += ["    " * self._depth + line for line in lines]

    @contextmanager
    def inside(self, header: str) -> Iterator[None]:
        self.put(header)
        self._depth += 1
        yield
        self._depth -= 1

    @contextmanager
    def strided(self, name: str, start: str, stop: str, step: str = "threads") -> Iterator[None]:
        """A loop; with `range`, numba would divide to count its turns, which takes longer than a time step's work."""
        self.put(f"{name} = I({start})")
        with self.inside(f"while {name} < {stop}:"):
            yield
            self.put(f"{name} += {step}")

    def assign(
        self,
        nodes: Sequence[Node],
        order: Iterable[int],
        name: Callable[[int], str],
        leaf: Callable[[Node], str | None],
    ) -> None:
        """Assigns to variables the values of nodes of a graph.

        Args:
            nodes: of the graph.
            order: those to assign, each after its arguments.
            name: of the variable of a node.
            leaf: what a node is that is read from outside; None for a constant or an operation.
        """
        for index in order:
            node = nodes[index]
            value = leaf(node)
            if value is None:
                own = f"R({node.value!r})" if node.op == "const" else OPERATIONS[node.op]
                value = own.format(*map(name, node.args))
            self.put(f"{name(index)} = {value}")

    def barrier(self, why: str) -> None:
        self.put(f"cuda.syncthreads()  # {why}")

    def phase_ends(self) -> None:
        self.barrier("the phase ends")

    def fields(self, fields: Sequence[str], *names: str) -> None:
        """Reads fields of the job."""
        self.put(*(f"{name} = jobs[job + {fields.index(name)}]" for name in names))
