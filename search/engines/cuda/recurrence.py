"""The source of a layer's recurrence, printed from the plan of its cell: the functions ``forward`` and ``backward``.

Step by step: products of the state with matrices that stay in shared memory (what does not fit there is read from
global memory), a thread a unit, or several threads that share the sums of one; then the elementwise work, one thread a
unit. Two barriers a step, for most cells. See `search.engines.cuda.source` for the names that the source uses.
"""

from collections.abc import Callable, Sequence

from search.engines.cuda.layout import operands, passed, recurrent
from search.engines.cuda.printer import Printer
from search.engines.plan import Plan, Product, Stage

_READS = 32  # of a stage that are made before all else, for all find a register; more are made where they are needed
_LOADS = 8  # from matrices, in one turn of an unrolled loop
ARGUMENTS = (
    "Layer layer, int n, int chip, int work, int n_steps, Pointer<real> sm, Pointer<const real> w, Pointer<real> g"
)


def print_recurrence(printer: Printer, plan: Plan) -> None:
    """Prints both functions."""
    each = _Recurrence(printer, plan)
    with printer.inside(f"DEVICE void forward({ARGUMENTS})"):
        each.forward()
    with printer.inside(f"DEVICE void backward({ARGUMENTS})"):
        each.backward()


class _Recurrence:
    def __init__(self, printer: Printer, plan: Plan):
        self._p, self._plan = printer, plan
        self._order, self._states = plan.preactivations, list(plan.state)
        self._operands, self._passed, self._recurrent = operands(plan), passed(plan), recurrent(plan)
        # Columns of the recurrent products before each, in numbers of pre-activations.
        widths = [len(product.preactivations) for product in self._recurrent]
        self._before = dict(zip(self._recurrent, (sum(widths[:p]) for p in range(len(widths))), strict=True))
        self._hear_x = {name for product in plan.inputs for name in product.preactivations}

    def _regions(self, *regions: tuple[str, int | str]) -> None:
        """Names parts of the work area, one after the other."""
        first = "work"
        for name, size in regions:
            self._p.put(f"const int {name} = {first}")
            first = f"{name} + {size} * n"

    def _matrix(self, product: Product) -> str:
        """Where in shared memory a product's matrix begins."""
        return f"layer.mats + chip * strides_before({self._recurrent.index(product)}, n)"

    def _stride(self, product: Product) -> str:
        return f"({len(product.preactivations)} * n | 1)"

    def _unrolled(self, products: Sequence[Product]) -> None:
        """Before a loop over sums: so many turns at once that some loads are under way, and all find a register."""
        terms = sum(len(product.preactivations) for product in products)
        self._p.text_line(f"#pragma unroll {max(1, _LOADS // terms)}")

    # Forward

    def forward(self) -> None:
        """Columns to tape, from row 1 on."""
        p, plan = self._p, self._plan
        sizes = {"state": len(self._states), "means": len(plan.means), "fed": len(self._passed), "parts": 0}
        self._regions(*sizes.items())
        p.put("const Shares shares = shares_of(n, chip)")
        with p.strided("u", "thread()", f"{len(self._states)} * n"):
            p.put("sm[state + u] = 0")
        p.barrier("the state is there for the products of the first step")
        with p.inside("for (int t = 0; t < n_steps; ++t)"):
            p.put("const int now = layer.tape + (t + 1) * (N_TAPE * n), row = layer.columns + t * (N_COLUMNS * n)")
            summed: set[str] = set()
            for s, stage in enumerate(plan.forward):
                products = [*(plan.recurrent if s == 0 else ()), *stage.products]
                if products:
                    self._multiply(products, summed)
                    p.barrier("sums by share are whole before they are added up")
                    summed |= {name for product in products for name in product.preactivations}
                self._take_means(stage)
                with p.strided("j", "thread()", "n"):
                    self._forward_stage(stage, summed, last=stage is plan.forward[-1])
                p.barrier("operands are whole before they are multiplied, and the sums were read")

    def _multiply(self, products: Sequence[Product], summed: set[str]) -> None:
        """Adds to the sums, by share, what each product gives to its pre-activations; the input's part to share 0."""
        p = self._p
        names = [name for name in self._order if any(name in product.preactivations for product in products)]
        place = {name: self._order.index(name) for name in names}
        with p.strided("j", "shares.unit", "n"):
            p.put("const int sums = parts + shares.share * (N_COLUMNS * n) + j")
            for name in names:
                old = f"sm[sums + {place[name]} * n]" if name in summed else "0"
                p.put(f"real s_{place[name]} = {old}")
            fresh = [name for name in names if name in self._hear_x and name not in summed]
            for name in fresh:
                p.put(
                    f"const real x_{place[name]} = shares.share == 0 ? real(g[row + {place[name]} * n + j]) : real(0)"
                )
            for where in ("chip", "far"):
                with p.inside():
                    self._sums(products, where, place)
            for name in names:
                x = f" + x_{place[name]}" if name in fresh else ""
                p.put(f"sm[sums + {place[name]} * n] = s_{place[name]}{x}")

    def _sums(self, products: Sequence[Product], where: str, place: dict[str, int]) -> None:
        """Rows of the matrices in shared memory (``chip``), or those in global memory."""
        p = self._p
        for k, product in enumerate(products):
            source = (
                f"fed + {self._passed.index(product.operand)} * n"
                if "." in product.operand
                else f"state + {self._states.index(product.operand)} * n"
            )
            p.put(f"int h_{k} = {source} + shares.{where}_from")
            if where == "chip":
                p.put(f"const int stride_{k} = {self._stride(product)}")
                start = self._matrix(product)
            else:
                p.put(f"const int stride_{k} = {len(product.preactivations)} * n")
                start = f"layer.recurrent + {self._before[product]} * n * n"
            p.put(f"int w_{k} = {start} + shares.{where}_from * stride_{k} + j")
        self._unrolled(products)
        with p.strided("q", f"shares.{where}_from", f"shares.{where}_to", "1"):
            for k, product in enumerate(products):
                p.put(f"const real a_{k} = sm[h_{k}]")
                for c, name in enumerate(product.preactivations):
                    p.put(f"s_{place[name]} += a_{k} * {'sm' if where == 'chip' else 'w'}[w_{k} + {c} * n]")
                p.put(f"h_{k} += 1", f"w_{k} += stride_{k}")

    def _forward_stage(self, stage: Stage, summed: set[str], last: bool) -> None:
        p, plan = self._p, self._plan
        asked = [plan.nodes[index].name for index in stage.nodes if plan.nodes[index].op == "pre"]
        place = {name: self._order.index(name) for name in asked}
        for name in asked:
            in_columns = f"g[row + {place[name]} * n + j]" if name in self._hear_x else "0"
            p.put(f"real pre_{place[name]} = {'0' if name in summed else in_columns}")
        self._add_shares([(f"pre_{place[name]}", place[name]) for name in asked if name in summed], "N_COLUMNS")
        for name in asked:
            if name in plan.biases:
                p.put(f"pre_{place[name]} += sm[layer.vec + {plan.vectors.index(plan.biases[name])} * n + j]")
        leaves = {
            "past": lambda name: f"sm[state + {self._states.index(name)} * n + j]",
            "pre": lambda name: f"pre_{place[name]}",
        }
        self._evaluate(stage, leaves)
        self._sum(stage)
        for node in stage.writes:
            p.put(f"g[now + {plan.tape[node]} * n + j] = n{node}")
        for k, operand in enumerate(self._passed):
            node = next(product.node for product in self._recurrent if product.operand == operand)
            if node in stage.writes:
                p.put(f"sm[fed + {k} * n + j] = n{node}")
        if last:
            for k, name in enumerate(self._states):
                node = plan.state[name]
                known = node in stage.writes
                p.put(f"const real state_{k} = " + (f"n{node}" if known else f"g[now + {plan.tape[node]} * n + j]"))
            p.put(*(f"sm[state + {k} * n + j] = state_{k}" for k in range(len(self._states))))

    def _add_shares(self, sums: Sequence[tuple[str, int]], row: str) -> None:
        """Adds to variables what the shares have, each at its place in rows of `row` numbers a unit."""
        if sums:
            with self._p.inside("for (int s = 0, at = parts + j; s < shares.shares; ++s)"):
                self._p.put(*(f"{name} += sm[at + {place} * n]" for name, place in sums), f"at += {row} * n")

    def _evaluate(self, stage: Stage, leaves: dict[str, Callable[[str], str]]) -> None:
        """The nodes of a stage for unit j, as variables."""
        plan = self._plan
        leaves = leaves | {
            "unit": lambda name: f"sm[layer.vec + {plan.vectors.index(name)} * n + j]",
            "constant": lambda name: f"sm[{plan.constants.index(name)} * n + j]",
            "time": lambda name: "real(t)",
            "below": lambda name: self._if_there("below", f"(t + 1) * N_TAPE + {plan.tape[plan.state[name]]}"),
        }
        reads = {index: f"g[now + {plan.tape[index]} * n + j]" for index in stage.loads}
        for index in stage.nodes:
            node = plan.nodes[index]
            if node.op == "mean":
                reads[index] = f"mean_{plan.means.index(index)}"
            elif node.op in leaves:
                reads[index] = leaves[node.op](node.name)
        others = [index for index in stage.nodes if index not in reads]
        order = dict.fromkeys(reads if len(reads) <= _READS else ())  # they do not wait for one another
        for index in others:
            order |= dict.fromkeys([arg for arg in plan.nodes[index].args if arg in reads])
            order[index] = None
        order |= dict.fromkeys(reads)
        self._p.assign(plan.nodes, order, "n{}".format, reads.get)

    # Backward

    def backward(self) -> None:
        """Replaces the columns by d loss / d pre-activation; sums up the gradients of the vectors in `vgrad`."""
        p, plan = self._p, self._plan
        own = ("carry", len(self._states)), ("vgrad", "N_VECTORS"), ("means", len(plan.means))
        self._regions(*own, ("adjoints", "N_COLUMNS"), ("parts", 0))
        p.put("const Shares shares = shares_of(n, chip)")
        # Carries, gradients and sums start at zero; they lie side by side.
        with p.strided("u", "work + thread()", f"parts + shares.shares * ({len(self._operands)} * n)"):
            p.put("sm[u] = 0")
        p.barrier("they are zero before they are added to")
        with p.inside("for (int t = n_steps - 1; t >= 0; --t)"):
            p.put("const int past = layer.tape + t * (N_TAPE * n), now = past + N_TAPE * n")
            p.put("const int row = layer.columns + t * (N_COLUMNS * n)")
            for stage in plan.backward:
                if stage.products:
                    self._multiply_back(stage.products)
                    p.barrier("sums by share are whole before they are added up")
                self._take_means(stage)
                with p.strided("j", "thread()", "n"):
                    self._backward_stage(stage, last=stage is plan.backward[-1])
                p.barrier("adjoints are whole before they are multiplied, and the sums were read")
            if plan.recurrent:
                with p.inside("if (t > 0)"):
                    self._multiply_back(plan.recurrent)
                    p.barrier("sums by share are whole before they are added up")

    def _multiply_back(self, products: Sequence[Product]) -> None:
        """Sets, by share, ``adjoint of each operand = sum over its products of matrix @ adjoints``."""
        p = self._p
        heard = list(dict.fromkeys(product.operand for product in products))
        terms = [(k, c) for k, product in enumerate(products) for c in range(len(product.preactivations))]
        with p.strided("j", "shares.unit", "n"):
            p.put(*(f"real s_{k}_{c} = 0" for k, c in terms))
            with p.inside("if (j < chip)"):
                for k, product in enumerate(products):
                    p.put(f"int w_{k} = {self._matrix(product)} + j * {self._stride(product)} + shares.all_from")
                self._sums_back(products, "sm", "n", "1")
            with p.inside("else"):
                for k, product in enumerate(products):
                    p.put(f"int w_{k} = layer.transposed + {self._before[product]} * n * n + shares.all_from * n + j")
                self._sums_back(products, "g", "n * n", "n")
            p.put(f"const int sums = parts + shares.share * ({len(self._operands)} * n) + j")
            for operand in heard:
                total = " + ".join(f"s_{k}_{c}" for k, c in terms if products[k].operand == operand)
                p.put(f"sm[sums + {self._operands.index(operand)} * n] = {total}")

    def _sums_back(self, products: Sequence[Product], memory: str, step: str, ahead: str) -> None:
        p = self._p
        names = [name for name in self._order if any(name in product.preactivations for product in products)]
        self._unrolled(products)
        with p.strided("q", "shares.all_from", "shares.all_to", "1"):
            for name in names:
                place = self._order.index(name)
                p.put(f"const real e_{place} = sm[adjoints + {place} * n + q]")
            for k, product in enumerate(products):
                for c, name in enumerate(product.preactivations):
                    p.put(f"s_{k}_{c} += e_{self._order.index(name)} * {memory}[w_{k} + {c} * ({step})]")
            p.put(*(f"w_{k} += {ahead}" for k in range(len(products))))

    def _backward_stage(self, stage: Stage, last: bool) -> None:
        p, plan, states = self._p, self._plan, self._states
        asked = [plan.nodes[index] for index in stage.nodes if plan.nodes[index].op in ("adjoint", "fed")]
        heard = [node.name for node in asked if node.name in self._operands]
        place = {name: self._operands.index(name) for name in heard}
        p.put(*(f"real heard_{place[name]} = 0" for name in heard))
        self._add_shares([(f"heard_{place[name]}", place[name]) for name in heard], f"{len(self._operands)}")

        def adjoint(name: str) -> str:
            parts = [f"sm[carry + {states.index(name)} * n + j]"]
            parts += [f"heard_{place[name]}"] if name in place else []
            parts += ["g[layer.dy + t * n + j]"] if name == "y" else []
            parts += [self._if_there("from_above", self._below(name))] if name in plan.below else []
            return " + ".join(parts)

        leaves = {
            "past": lambda name: f"g[past + {plan.tape[plan.state[name]]} * n + j]",
            "adjoint": adjoint,
            "fed": lambda name: f"heard_{place[name]}",
        }
        self._evaluate(stage, leaves)
        self._sum(stage)
        for name, node in stage.adjoints.items():
            p.put(f"sm[adjoints + {self._order.index(name)} * n + j] = n{node}")
            p.put(f"g[row + {self._order.index(name)} * n + j] = n{node}")
            if name in plan.biases:
                p.put(f"sm[vgrad + {plan.vectors.index(plan.biases[name])} * n + j] += n{node}")
        if last:
            for name, node in plan.unit_gradients.items():
                p.put(f"sm[vgrad + {plan.vectors.index(name)} * n + j] += n{node}")
            for k, name in enumerate(states):
                p.put(f"sm[carry + {k} * n + j] = n{plan.past[name]}")
            for name, node in plan.below.items():
                p.put(f"g[layer.d_below + ({self._below(name)}) * n + j] = n{node}")

    def _take_means(self, stage: Stage) -> None:
        """The means that a stage needs as variables of every thread, each of which adds up all units."""
        p = self._p
        places = [self._plan.means.index(node) for node in stage.means]
        if places:
            p.put(*(f"real mean_{place} = 0" for place in places))
            with p.inside("for (int q = 0; q < n; ++q)"):
                p.put(*(f"mean_{place} += sm[means + {place} * n + q]" for place in places))
            p.put(*(f"mean_{place} /= n" for place in places))

    def _sum(self, stage: Stage) -> None:
        """Keeps what a stage has of the arguments of means."""
        for node in stage.summed:
            argument = self._plan.nodes[node].args[0]
            self._p.put(f"sm[means + {self._plan.means.index(node)} * n + j] = n{argument}")

    def _below(self, name: str) -> str:
        """The row of the derivative by a name that is read of the layer below."""
        return f"t * {len(self._plan.below)} + {list(self._plan.below).index(name)}"

    @staticmethod
    def _if_there(part: str, row: str) -> str:
        """What stands for unit j in a row of a part of another layer; zero where there is no such layer."""
        return f"(layer.{part} < 0 ? real(0) : real(g[layer.{part} + ({row}) * n + j]))"
