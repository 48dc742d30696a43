"""The schedule of a cell's time step: what a compiled engine does, in which order, and what it keeps.

`make_plan` turns the expression graph of a cell into

- *segments*: the pre-activations in groups that hear the same operands. A group's pre-activations lie side by side
  in a row of columns, so that one matrix product feeds all of them;
- *products*: the matrix products with those columns. All matrices with the same operand are one matrix;
- *stages*: the elementwise work between the products. A cell whose step passes an operand to a pre-activation
  (the GRU's ``r * y``) needs a product in the middle of its step; each such product begins another stage, and so does
  each mean over the units;
- the *tape*: the values that outlive their stage, one row of slots for each time step. It holds the state,
  the operands of products, and what the backward step reads. Cheap arithmetic is repeated rather than kept.

Nothing here knows of a target; every printer works from this.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from search.cells.cell import Cell
from search.cells.trace import differentiate, trace
from search.expression import LEAVES, Node, closure

# Functions that are dear to compute. Their results, products, and means are kept for other stages that need them.
DEAR = ("sigmoid", "tanh", "exp", "log", "sqrt", "sin", "cos", "div")
_KEPT = ("pre", "mean", *DEAR)


@dataclass(frozen=True)
class Product:
    """``columns of `preactivations` += operand @ [matrix^T, matrix^T, ...]``

    Attributes:
        operand: ``x``, a name of the state (its value at t - 1), or ``NAME.OPERAND`` for what the step passes.
        node: of a passed operand, its node; of a state, the node of its value at t; -1 for ``x``.
        preactivations: those fed by it, neighbours in `Plan.preactivations`.
        matrices: the matrix of each.
    """

    operand: str
    node: int
    preactivations: tuple[str, ...]
    matrices: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """Elementwise work of one time step that no matrix product interrupts.

    Attributes:
        products: to be done before it: forward the products of operands that the last stage made, backward
            ``fed = d pre @ matrix`` for the pre-activations whose adjoint the last stage made.
        means: to be taken before it: those of `Plan.means` whose argument an earlier stage has summed.
        loads: nodes of earlier stages, to read from the tape.
        nodes: nodes to evaluate, leaves among them, each after its arguments.
        summed: those of `Plan.means` whose argument it evaluates.
        writes: forward, the nodes to write to the tape.
        adjoints: backward, the nodes of d loss / d pre-activation by name.
    """

    products: tuple[Product, ...]
    means: tuple[int, ...]
    loads: tuple[int, ...]
    nodes: tuple[int, ...]
    summed: tuple[int, ...]
    writes: tuple[int, ...] = ()
    adjoints: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The step of a cell and its derivative, scheduled.

    Attributes:
        nodes: the expression graph, forward and backward.
        segments: the pre-activations, grouped by what they hear; in order they are `preactivations`.
        biases: the bias of each pre-activation that has one.
        units: the per-unit parameters.
        constants: the per-unit constants.
        means: the nodes that are means over the units.
        state: for each name the node of its value at t.
        inputs, recurrent: products with ``x`` and with the state; those with passed operands are in the stages.
        tape: slot of each kept node. ``past`` NAME is the slot of ``state[NAME]`` one step before, zero at first.
        forward, backward: the stages in order; at least one each.
        past, unit_gradients: results of the last backward stage by name: the elementwise part of d loss / d state
            at t - 1, and this step's part of the gradients of the per-unit parameters.
        below: results of the last backward stage too: d loss / d what the step reads of the layer below, by name.
        tied: whether layers share parameters, so that a gradient is known once all of them have been backward.
    """

    nodes: tuple[Node, ...]
    segments: tuple[tuple[str, ...], ...]
    biases: dict[str, str]
    units: tuple[str, ...]
    constants: tuple[str, ...]
    means: tuple[int, ...]
    state: dict[str, int]
    inputs: tuple[Product, ...]
    recurrent: tuple[Product, ...]
    tape: dict[int, int]
    forward: tuple[Stage, ...]
    backward: tuple[Stage, ...]
    past: dict[str, int]
    unit_gradients: dict[str, int]
    below: dict[str, int]
    tied: bool

    @property
    def preactivations(self) -> tuple[str, ...]:
        """Names of the pre-activations in the order of their columns."""
        return tuple(name for segment in self.segments for name in segment)

    @property
    def products(self) -> tuple[Product, ...]:
        """All products: `inputs`, `recurrent`, and those between the forward stages."""
        return self.inputs + self.recurrent + tuple(p for stage in self.forward for p in stage.products)

    @property
    def partial(self) -> bool:
        """Whether of a product some may not count for some units; see `search.engines.use`."""
        return any(node.op == "constant" for node in self.nodes)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the parameters that have one number for each unit: biases, then per-unit parameters."""
        return (*self.biases.values(), *self.units)


def make_plan(cell: Cell) -> Plan:
    """The plan of a cell.

    Raises:
        EquationError: the equations are not legal.
    """
    return _Planner(cell).plan()


class _Planner:
    """A cell's graph on its way to a plan."""

    def __init__(self, cell: Cell):
        self.cell, self.step = cell, trace(cell)
        self.backward = differentiate(self.step)
        self.hears = {
            name: tuple(f"{name}.{t.operand}" if t.operand in self.step.fed[name] else t.operand for t in pre.terms)
            for name, pre in cell.preactivations.items()
        }
        self.segments = _segments(self.hears)
        self.order = [name for segment in self.segments for name in segment]
        self.fed = {
            f"{name}.{operand}": self._products(f"{name}.{operand}", node)
            for name, operands in self.step.fed.items()
            for operand, node in operands.items()
        }
        zero = self.step.graph.const(0.0).index
        self.d_pre = {name: self.backward.pre.get(name, zero) for name in self.order}
        self.past = {name: self.backward.past.get(name, zero) for name in self.step.state}
        self.unit_gradients = {name: self.backward.units.get(name, zero) for name in cell.units}
        self.below = {name: self.backward.below.get(name, zero) for name in self.step.below}
        self.nodes = tuple(self.step.graph.nodes)
        used = closure(self.nodes, [*self.step.out.values(), *self.d_pre.values(), *self._results])
        self.means = tuple(index for index in used if self.nodes[index].op == "mean")
        self.level, self.level_back = self._levels()

    def plan(self) -> Plan:
        tape = self._tape()
        return Plan(
            nodes=self.nodes,
            segments=self.segments,
            biases={name: pre.bias for name in self.order if (pre := self.cell.preactivations[name]).bias},
            units=self.cell.units,
            constants=self.cell.constant_names,
            means=self.means,
            state={name: self.step.out[name] for name in self.step.state},
            inputs=self._products("x", -1),
            recurrent=tuple(p for name in self.step.state for p in self._products(name, self.step.out[name])),
            tape={index: slot for slot, index in enumerate(tape)},
            forward=tuple(self._forward_stages(tape)),
            backward=tuple(self._backward_stages(tape)),
            past=self.past,
            unit_gradients=self.unit_gradients,
            below=self.below,
            tied=self.cell.layers_tied,
        )

    def _products(self, operand: str, node: int) -> tuple[Product, ...]:
        matrix = {
            name: term.matrix
            for name, pre in self.cell.preactivations.items()
            for heard, term in zip(self.hears[name], pre.terms, strict=True)
            if heard == operand
        }
        runs = _runs(self.order, matrix.keys())
        return tuple(Product(operand, node, run, tuple(matrix[name] for name in run)) for run in runs)

    def _levels(self) -> tuple[list[int], list[int]]:
        """The stage of each node, forward and backward: one after that of the product or mean it waits for."""
        nodes = self.nodes
        level, level_back = [0] * len(nodes), [0] * len(nodes)
        for index, node in enumerate(nodes):
            if index < self.backward.n_forward:
                waits = node.op == "mean" or (node.op == "pre" and bool(node.args))
                level[index] = max((level[a] for a in node.args), default=0) + waits
            elif node.op == "fed":
                level_back[index] = level_back[self.d_pre[node.name.partition(".")[0]]] + 1
            else:
                level_back[index] = max((level_back[a] for a in node.args), default=0) + (node.op == "mean")
        return level, level_back

    def _closure(self, roots: Iterable[int], known: Iterable[int]) -> tuple[list[int], list[int]]:
        """The nodes to load, being `known`, and those to evaluate, in order, for the values of `roots`."""
        nodes, known, todo = self.nodes, set(known), list(roots)
        loads: set[int] = set()
        needed: set[int] = set()
        while todo:
            index = todo.pop()
            if index in known and nodes[index].op not in LEAVES[:2]:
                loads.add(index)
            elif index not in needed:
                needed.add(index)
                todo += () if nodes[index].op in (*LEAVES, "mean") else nodes[index].args
        return sorted(loads), sorted(needed)

    def _means(self, stage: int, backward: bool = False) -> tuple[tuple[int, ...], tuple[int, ...], list[int]]:
        """The means to be taken before a stage, those to be summed in it, and what these are of."""
        level = self.level_back if backward else self.level
        own = [index for index in self.means if (index >= self.backward.n_forward) == backward]
        before, summed = (tuple(i for i in own if level[i] == stage + later) for later in (0, 1))
        return before, summed, [self.nodes[i].args[0] for i in summed]

    @property
    def _backward_roots(self) -> list[int]:
        means = [i for i in self.means if i >= self.backward.n_forward]
        return [*self.d_pre.values(), *self._results, *(self.nodes[i].args[0] for i in means)]

    @property
    def _results(self) -> list[int]:
        """Those of the last backward stage."""
        return [*self.past.values(), *self.unit_gradients.values(), *self.below.values()]

    def _tape(self) -> dict[int, None]:
        """What the tape holds: the state and the operands; then, from the backward step to the first stage, each dear
        value that is read in another stage than its own."""
        level = self.level
        tape: dict[int, None] = dict.fromkeys(self.step.out[name] for name in self.step.state)
        tape |= dict.fromkeys(p.node for group in self.fed.values() for p in group)
        dear = [i for i in range(self.backward.n_forward) if self.nodes[i].op in _KEPT]
        tape |= dict.fromkeys(self._closure(self._backward_roots, [*tape, *dear])[0])
        for stage in reversed(range(1, max(level) + 1)):
            roots = [*(i for i in tape if level[i] == stage), *self._means(stage)[2]]
            earlier = [i for i in (*tape, *dear) if level[i] < stage]
            tape |= dict.fromkeys(self._closure(roots, earlier)[0])
        return tape

    def _forward_stages(self, tape: Mapping[int, None]) -> Iterator[Stage]:
        for stage in range(max((self.level[i] for i in tape), default=0) + 1):
            between = tuple(
                p
                for name in self.order
                for operand in self.step.fed[name]
                for p in self.fed[f"{name}.{operand}"]
                if stage and _level_of_pre(self.nodes, self.level, name) == stage
            )
            writes = [i for i in tape if self.level[i] == stage]
            means, summed, of = self._means(stage)
            loads, evaluated = self._closure([*writes, *of], [i for i in tape if self.level[i] < stage])
            yield Stage(between, means, tuple(loads), tuple(evaluated), summed, writes=tuple(writes))

    def _backward_stages(self, tape: Mapping[int, None]) -> Iterator[Stage]:
        last = max(self.level_back[i] for i in self._backward_roots)
        for stage in range(last + 1):
            adjoints = {name: index for name, index in self.d_pre.items() if self.level_back[index] == stage}
            means, summed, of = self._means(stage, backward=True)
            roots = [*adjoints.values(), *of]
            if stage == last:
                roots += self._results
            loads, evaluated = self._closure(roots, tape)
            between = tuple(
                p
                for index, node in enumerate(self.nodes)
                if node.op == "fed" and self.level_back[index] == stage
                for p in self.fed[node.name]
            )
            yield Stage(between, means, tuple(loads), tuple(evaluated), summed, adjoints=adjoints)


def _segments(hears: dict[str, tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Pre-activations that hear the same operands, together."""
    groups: dict[frozenset[str], list[str]] = {}
    for name, operands in hears.items():
        groups.setdefault(frozenset(operands), []).append(name)
    return tuple(tuple(group) for group in groups.values())


def _runs(order: list[str], members: Iterable[str]) -> list[tuple[str, ...]]:
    """`members` in `order`, cut where they are not neighbours."""
    places = sorted(order.index(name) for name in members)
    cuts = [0, *(i for i, (a, b) in enumerate(pairwise(places), 1) if b != a + 1), len(places)]
    return [tuple(order[p] for p in places[a:b]) for a, b in pairwise(cuts) if a < b]


def _level_of_pre(nodes: tuple[Node, ...], level: list[int], name: str) -> int:
    return next(level[i] for i, node in enumerate(nodes) if node.op == "pre" and node.name == name)
