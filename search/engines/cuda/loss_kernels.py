"""The losses as source: ``loss_of`` returns what a thread finds of the loss of a sequence, and replaces the logits by
the derivatives; where the score is one of errors, an evaluation reads the best path instead. Losses that are no sums
over elements are in ``library/losses.cuh``."""

from search import losses
from search.engines.cuda.printer import Printer

ARGUMENTS = "const Pass &pass, Pointer<real> g, int logits, int n_outputs, int index, int n_steps, int64 best"


def print_loss(p: Printer, name: str) -> None:
    """Prints a loss by its name, or the path of a user's own."""
    loss = losses.find(name)
    with p.inside(f"DEVICE double loss_of({ARGUMENTS})"):
        if isinstance(loss, losses.Elementwise):
            _elementwise(p, loss.program, loss.targets.gaps)
        else:
            if loss.counts_errors:
                with p.inside("if (!pass.train)"):
                    p.put("best_path(pass, g, logits, n_outputs, best, n_steps)", "return 0")
            p.put(f"return {name}(pass, g, logits, n_outputs, index, n_steps)")


def _elementwise(p: Printer, program: losses.LossProgram, gaps: bool) -> None:
    """The sum over steps and outputs; where the target is NaN there is none."""
    leaves = {"output": "output", "target": "target"}
    p.put("const int64 targets = pass.target_starts[index]", "double loss = 0")
    with p.strided("e", "thread()", "n_steps * n_outputs"):
        p.put("const real output = g[logits + e], given = pass.targets[targets + e]")
        p.put(f"const bool known = {'given == given' if gaps else 'true'}")
        p.put("const real target = known ? given : real(0)")
        p.assign(program.nodes, program.order, "n{}".format, lambda index: leaves.get(program.nodes[index].op))
        more = f" + log(n{program.factor})" if program.factor >= 0 else ""
        p.put(f"if (known) loss += double(n{program.cost}{more})")
        p.put(f"g[logits + e] = known ? n{program.change} : real(0)")
    p.put("return loss")


def ctc_scratch(n_steps: int, n_targets: int) -> int:
    """Numbers of scratch memory that CTC needs for a sequence."""
    return (n_steps + 3) * (2 * n_targets + 1)
