"""The losses as source of a part of the CUDA kernel ``epoch``, and the reading of the best path.

In scope are the kernel's arguments, the sequence's `index`, and `logits`, where its logits [n_steps, n_outputs] begin
in `g`. Each adds to `losses_here` what this thread finds of the loss, and replaces the logits by the
derivatives. Named as in `search.losses`.
"""

from collections.abc import Callable

from search import losses
from search.engines.cuda.printer import Printer

# What stands for the logarithm of zero: far below all others, and a sum of a few is finite.
_NEVER = "D(-1e300)"


def print_loss(p: Printer, name: str) -> None:
    """Prints a loss by its name, or the path of a user's own."""
    loss = losses.find(name)
    if isinstance(loss, losses.Elementwise):
        _elementwise(p, loss.program, loss.targets.gaps)
    else:
        LOSSES[name](p)


def _elementwise(p: Printer, program: losses.LossProgram, gaps: bool) -> None:
    """The sum over steps and outputs; where the target is NaN there is none."""
    leaves = {"output": "value", "target": "target"}
    p.put("targets_at = target_starts[index]")
    with p.strided("e", "tid", "n_steps * n_outputs"):
        p.put("value = g[logits + e]", "target = targets[targets_at + e]")
        p.put("known = target == target" if gaps else "known = True")
        p.put("target = target if known else zero")
        p.assign(program.nodes, program.order, "loss_{}".format, lambda node: leaves.get(node.op))
        more = f" + log(loss_{program.factor})" if program.factor >= 0 else ""
        with p.inside("if known:"):
            p.put(f"losses_here += D(loss_{program.cost}{more})")
        p.put(f"g[logits + e] = loss_{program.change} if known else zero")


def _categorical(p: Printer) -> None:
    """``log sum exp(a) - a[t]``, a thread a step"""
    p.put("targets_at = target_starts[index]")
    with p.strided("t", "tid", "n_steps"):
        p.put("wanted = I(classes[targets_at + t])")
        _log_softmax(p)
        with p.inside("if wanted >= 0:"):
            p.put("losses_here -= D(g[at + wanted])")
        with p.inside("for c in range(n_outputs):"):
            p.put("value = exp(g[at + c]) - (one if c == wanted else zero)")
            p.put("g[at + c] = value if wanted >= 0 else zero")


def _log_softmax(p: Printer) -> None:
    """Replaces row `t` of the logits by the logarithms of its softmax."""
    p.put("at = logits + t * n_outputs", "top = g[at]")
    with p.inside("for c in range(n_outputs):"):
        p.put("value = g[at + c]", "top = value if value > top else top")
    p.put("total = zero")
    with p.inside("for c in range(n_outputs):"):
        p.put("total += exp(g[at + c] - top)")
    p.put("top += log(total)")
    with p.inside("for c in range(n_outputs):"):
        p.put("g[at + c] -= top")


def _ctc(p: Printer) -> None:
    """``-log`` of the probability of all alignments (Graves et al. 2006, equations 5 to 16), a thread a state.

    Logarithms in double precision: of alpha(t, s), the step included, for all steps; of beta(t, s), the step excluded,
    only what the step before needs, which is beta(t, s) with the step included.
    """
    p.put("classes_at = target_starts[index]", "n_states = 2 * target_lengths[index] + 1", "blank = n_outputs - 1")
    with p.strided("t", "tid", "n_steps"):
        _log_softmax(p)
    p.barrier("the logarithms are there for all")
    p.put("alpha = I(cuda.blockIdx.x) * scratch_size", "gamma = alpha + n_steps * n_states", "t = I(0)")
    with p.inside("while t < n_steps:"):
        with p.strided("s", "tid", "n_states"):
            _state(p)
            with p.inside("if t == 0:"):
                p.put(f"deep = D(0) if s < 2 else {_NEVER}")
            with p.inside("else:"):
                p.put("near = alpha + (t - 1) * n_states + s", "deep0 = scratch[near]")
                p.put(f"deep1 = scratch[near - 1] if s > 0 else {_NEVER}")
                p.put(f"deep2 = scratch[near - 2] if enters else {_NEVER}")
                _add_logarithms(p)
            p.put("scratch[alpha + t * n_states + s] = deep + D(g[logits + t * n_outputs + label])")
        p.barrier("the step's states are there for all")
        p.put("t += 1")
    p.put("near = alpha + n_steps * n_states", "deep0 = scratch[near - 1]", "deep1 = scratch[near - 2]")
    p.put(f"deep2 = {_NEVER}")
    _add_logarithms(p)
    p.put("all_paths = deep")
    with p.inside("if tid == 0:"):
        p.put("losses_here -= all_paths if all_paths > D(-1e290) else D(-inf)")
    p.put("t = n_steps - 1")
    with p.inside("while t >= 0:"):
        # Two rows of beta, in turn, behind the row of gamma.
        p.put("mine = gamma + n_states * (1 + (t & 1))", "after = gamma + n_states * (2 - (t & 1))")
        with p.strided("s", "tid", "n_states"):
            _state(p)
            with p.inside("if t == n_steps - 1:"):
                p.put(f"deep = D(0) if s >= n_states - 2 else {_NEVER}")
            with p.inside("else:"):
                p.put("deep0 = scratch[after + s]")
                p.put(f"deep1 = scratch[after + s + 1] if s + 1 < n_states else {_NEVER}")
                p.put(f"deep2 = scratch[after + s + 2] if leaves else {_NEVER}")
                _add_logarithms(p)
            p.put("scratch[gamma + s] = exp(scratch[alpha + t * n_states + s] + deep - all_paths)")
            p.put("scratch[mine + s] = deep + D(g[logits + t * n_outputs + label])")
        p.barrier("the step's states are there for all")
        with p.strided("c", "tid", "n_outputs"):
            p.put("at = logits + t * n_outputs + c", "deep = D(0)")
            with p.inside("if c == blank:"), p.strided("s", "0", "n_states", "2"):
                p.put("deep += scratch[gamma + s]")
            with (
                p.inside("else:"),
                p.strided("s", "1", "n_states", "2"),
                p.inside("if I(classes[classes_at + (s >> 1)]) == c:"),
            ):
                p.put("deep += scratch[gamma + s]")
            p.put("g[at] = exp(g[at]) - R(deep)")
        p.barrier("gamma has been read by all")
        p.put("t -= 1")


def _state(p: Printer) -> None:
    """Of state `s` its `label`, and whether paths skip the blank before it (`enters`) or after it (`leaves`)."""
    p.put("label = blank", "enters = False", "leaves = False")
    with p.inside("if s & 1 == 1:"):
        p.put("label = I(classes[classes_at + (s >> 1)])")
        with p.inside("if s > 1:"):
            p.put("enters = I(classes[classes_at + (s >> 1) - 1]) != label")
        with p.inside("if s + 2 < n_states:"):
            p.put("leaves = I(classes[classes_at + (s >> 1) + 1]) != label")


def _add_logarithms(p: Printer) -> None:
    """``deep = log(exp(deep0) + exp(deep1) + exp(deep2))``"""
    p.put("deep = deep0 if deep0 > deep1 else deep1", "deep = deep2 if deep2 > deep else deep")
    p.put("deep += log(exp(deep0 - deep) + exp(deep1 - deep) + exp(deep2 - deep))")


def ctc_scratch(n_steps: int, n_targets: int) -> int:
    """Numbers of scratch memory that `_ctc` needs for a sequence."""
    return (n_steps + 3) * (2 * n_targets + 1)


def best_path(p: Printer) -> None:
    """Writes the largest output of each step, the first of equals."""
    with p.strided("t", "tid", "n_steps"):
        p.put("at = logits + t * n_outputs", "top = g[at]", "label = I(0)")
        with p.inside("for c in range(n_outputs):"), p.inside("if g[at + c] > top:"):
            p.put("top = g[at + c]", "label = I(c)")
        p.put("best[taken * n_total + first + t] = label")


LOSSES: dict[str, Callable[[Printer], None]] = {"categorical": _categorical, "ctc": _ctc}  # that are not elementwise
