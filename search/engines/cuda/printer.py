"""Printing CUDA C++."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from search.expression import Node

# What the nodes of `search.expression` mean, to variables.
OPERATIONS = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "neg": "-{}",
    "sigmoid": "real(1) / (real(1) + exp(-{}))",
    "tanh": "tanh({})",
    "relu": "{0} < real(0) ? real(0) : {0}",  # NaN stays NaN
    "exp": "exp({})",
    "log": "log({})",
    "sqrt": "sqrt({})",
    "sin": "sin({})",
    "cos": "cos({})",
    "abs": "fabs({})",
    "floor": "floor({})",
    "max": "{0} > {1} || {0} != {0} ? {0} : {1}",
    "min": "{0} < {1} || {0} != {0} ? {0} : {1}",
    "where": "{0} > real(0) ? {1} : {2}",
    "positive": "{} > real(0) ? real(1) : real(0)",
}


class Printer:
    """Lines of source."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    @property
    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def put(self, *lines: str) -> None:
        """Statements, without their semicolons."""
        for line in lines:
            self.text_line(f"{line};")

    def text_line(self, line: str) -> None:
        """A line as it is."""
        self._lines.append("    " * self._depth + line)

    @contextmanager
    def inside(self, header: str = "", end: str = "}") -> Iterator[None]:
        self.text_line(f"{header} {{".lstrip())
        self._depth += 1
        yield
        self._depth -= 1
        self.text_line(end)

    def barrier(self, why: str) -> None:
        self.text_line(f"barrier();  // {why}")

    @contextmanager
    def strided(self, name: str, start: str, stop: str, step: str = "THREADS") -> Iterator[None]:
        with self.inside(f"for (int {name} = {start}; {name} < {stop}; {name} += {step})"):
            yield

    def switch(self, header: str, values: Sequence[str]) -> None:
        """A function of ``p``; one value for each."""
        with self.inside(header):
            for place, value in enumerate(values[:-1]):
                self.put(f"if (p == {place}) return {value}")
            self.put(f"return {values[-1]}")

    def assign(
        self,
        nodes: Sequence[Node],
        order: Iterable[int],
        name: Callable[[int], str],
        read: Callable[[int], str | None],
    ) -> None:
        """Assigns to variables the values of nodes of a graph.

        Args:
            nodes: of the graph.
            order: those to assign, each after its arguments.
            name: of the variable of a node.
            read: what a node is that is read from outside; None for a constant or an operation.
        """
        for index in order:
            node = nodes[index]
            value = read(index)
            if value is None:
                own = f"real({node.value!r})" if node.op == "const" else OPERATIONS[node.op]
                value = own.format(*map(name, node.args))
            self.put(f"const real {name(index)} = {value}")
