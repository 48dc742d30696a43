"""A population's pass over the sequences of a split: its memory on the device, and the launches."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from search.compiler.cuda_kernels import CudaKernels
from search.compiler.cuda_layout import JOB, Layout
from search.compiler.cuda_native import Argument, Device, stream
from search.compiler.cuda_source import STOP
from search.compiler.plan import Plan
from search.engines.engine import Interrupted, Member
from search.tasks.task import Split

# How often the host looks whether it is to stop, in seconds.
_PATIENCE = 0.001


@dataclass(frozen=True)
class DeviceSequences:
    """The sequences of a split on the device, end to end, each step one row.

    Attributes:
        inputs, targets: [steps of all, M] and [steps of all, O].
        starts, lengths: first row and number of rows of each sequence.
        n_sequences, n_steps: number of sequences, and of steps of the longest.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor
    n_sequences: int
    n_steps: int

    @staticmethod
    def of(split: Split, dtype: str, on: torch.device) -> "DeviceSequences":
        lengths = np.array([len(x) for x in split.inputs], np.int64)

        def sent(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(on)

        return DeviceSequences(
            inputs=sent(np.concatenate(split.inputs).astype(dtype)),
            targets=sent(np.concatenate(split.targets).astype(dtype)),
            starts=sent(np.cumsum(lengths) - lengths),
            lengths=sent(lengths),
            n_sequences=len(lengths),
            n_steps=int(lengths.max()),
        )


class Launch:
    """Members of one cell and one size of block, largest first, to run in one launch.

    Blocks take the members one by one from a queue: there is one block for each place that the device has, with its
    own part of global memory, which stays in the level-2 cache, and no member waits for a smaller one.
    """

    def __init__(
        self, device: Device, code: CudaKernels, members: Sequence[Member], layouts: Sequence[Layout], train: bool
    ):
        self._code, self._members, self._train = code, members, train
        self.threads = layouts[0].threads
        self._shared_bytes = max(layout.shared_used for layout in layouts)
        self._slot_size = max(layout.slot_size for layout in layouts)
        resident = code.code.resident("epoch", self.threads, self._shared_bytes)
        self._grid = min(len(members), resident)
        sizes = [member.network.n_parameters for member in members]
        self._starts = np.cumsum([0, *sizes])
        on, dtype = device.torch, getattr(torch, str(members[0].weights.dtype))
        pinned = on.type == "cuda"

        def uploaded(vectors: Sequence[np.ndarray]) -> torch.Tensor:
            host = torch.empty(int(self._starts[-1]), dtype=dtype, pin_memory=pinned)
            np.concatenate(vectors, out=host.numpy())
            return host.to(on, non_blocking=True, copy=True)

        self._weights = uploaded([member.weights for member in members])
        self._velocity = uploaded([member.velocity for member in members]) if train else self._weights
        self._slots = torch.empty(self._grid * self._slot_size, dtype=dtype, device=on)
        self._losses = torch.empty(len(members), self.threads, dtype=torch.float64, device=on)
        settings = [(m.lr * (1.0 - m.momentum), m.momentum, m.input_noise) for m in members]
        self._settings = torch.tensor(settings, dtype=torch.float64).to(on)
        self._jobs, self._copies = (torch.from_numpy(table).to(on) for table in self._tables(layouts))
        self._device = on

    def _tables(self, layouts: Sequence[Layout]) -> tuple[np.ndarray, np.ndarray]:
        """The members' jobs [K, fields of `JOB`], less the number of sequences, and their copies."""
        jobs = np.zeros((len(layouts), len(JOB)), np.int64)
        copies: list[tuple[int, ...]] = []
        for k, (member, layout) in enumerate(zip(self._members, layouts, strict=True)):
            own = list(layout.copies(member.network.shapes, member.network.directions))
            fields = layout.job | {
                "vector": int(self._starts[k]),
                "seed": member.seed,
                "epoch": member.epoch,
                "first_copy": len(copies),
                "n_copies": len(own),
            }
            for name, value in fields.items():
                jobs[k, JOB.index(name)] = value
            copies += own
        return jobs, np.array(copies, np.int64)

    def start(self, data: DeviceSequences, orders: Sequence[np.ndarray], control: torch.Tensor, queue: int) -> None:
        """Starts the launch.

        Args:
            data: the sequences.
            orders: of the sequences, for each member.
            control: int32; word `STOP` stops the launch soon when it is not 0, word `queue` is the launch's own.
        """
        order = torch.from_numpy(np.stack(orders).astype(np.int32)).to(self._device)
        self._jobs[:, JOB.index("n_sequences")] = order.shape[1]
        arguments = [self._slots, self._jobs, self._settings, self._copies, self._weights, self._velocity]
        arguments += [data.inputs, data.targets, data.starts, data.lengths, order, self._losses, control]
        sizes = [queue, len(self._members), self._slot_size, int(self._train)]
        self._arguments: list[Argument] = [*arguments, *sizes]  # kept until the launch is over
        self._code.code.launch("epoch", self._grid, self.threads, self._shared_bytes, self._arguments)
        if self._device.type == "cuda":
            self._end = torch.cuda.Event()
            self._end.record()

    def is_over(self) -> bool:
        return self._device.type != "cuda" or self._end.query()

    def losses(self) -> np.ndarray:
        """The loss of each member, summed over all steps. [K]"""
        return self._losses.cpu().numpy().sum(axis=1)

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights and velocities after the launch, the members' end to end."""
        return self._weights.cpu().numpy(), self._velocity.cpu().numpy()

    def commit(self, weights: np.ndarray, velocity: np.ndarray) -> None:
        """Gives the members what `vectors` returned."""
        for k, member in enumerate(self._members):
            own = slice(self._starts[k], self._starts[k + 1])
            member.weights[:], member.velocity[:] = weights[own], velocity[own]
            member.epoch += 1


def run(
    device: Device,
    kernels: Callable[[Member], CudaKernels],
    members: Sequence[Member],
    orders: Sequence[np.ndarray],
    data: DeviceSequences,
    stopped: Callable[[], bool],
    train: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Goes over the sequences of a split with every member at once, training them or not.

    Members are as they were until all launches are over.

    Returns:
        losses: of each member, summed over all steps. [K]
        seconds: for each member its arithmetic's share of the time that the pass took. [K]

    Raises:
        Interrupted: `stopped` came true.
    """
    layouts = {k: _layout(device, kernels(member).plan, member, data.n_steps) for k, member in enumerate(members)}
    start = time.perf_counter()
    groups = list(_groups(members, layouts))
    control = torch.zeros(1 + len(groups), dtype=torch.int32, device=device.torch)
    control[STOP] = int(stopped())
    if device.torch.type == "cuda":
        torch.cuda.current_stream(device.torch).synchronize()  # the other streams see it
    launches = []
    # The launches of the largest members come first: they take longest.
    for queue, group in enumerate(groups, 1):
        with stream(device.torch):
            launch = Launch(
                device, kernels(members[group[0]]), [members[k] for k in group], [layouts[k] for k in group], train
            )
            launch.start(data, [orders[k] for k in group], control, queue)
            launches.append(launch)
    _wait(device, launches, control, stopped)
    losses = np.empty(len(members))
    for launch, group in zip(launches, groups, strict=True):
        losses[group] = launch.losses()
    if train:
        for launch, vectors in [(launch, launch.vectors()) for launch in launches]:
            launch.commit(*vectors)
    share = np.array([member.network.n_parameters for member in members], float)
    return losses, (time.perf_counter() - start) * share / share.sum()


def _layout(device: Device, plan: Plan, member: Member, n_steps: int) -> Layout:
    network = member.network
    return Layout(
        plan,
        network.n_inputs,
        network.n_units,
        network.n_outputs,
        len(network.directions),
        n_steps,
        member.weights.itemsize,
        device.shared_bytes,
        device.tiles,
    )


def _groups(members: Sequence[Member], layouts: dict[int, Layout]) -> Iterator[list[int]]:
    """Members that one launch can run: same equations, same size of block; the largest first, and first in each."""
    groups: dict[tuple[int, str], list[int]] = {}
    for k in sorted(layouts, key=lambda k: -members[k].network.n_parameters):
        groups.setdefault((layouts[k].threads, members[k].network.cell.signature), []).append(k)
    yield from groups.values()


def _wait(device: Device, launches: Sequence[Launch], control: torch.Tensor, stopped: Callable[[], bool]) -> None:
    """Waits for all launches. When it is told to stop it tells the kernels, which look before every sequence."""

    def over() -> bool:
        return all(launch.is_over() for launch in launches)

    try:
        while not (over() or stopped()):
            time.sleep(_PATIENCE)
        if stopped():
            raise Interrupted
    except BaseException:  # Ctrl-C too: the kernels must not run on for an epoch
        if not over():
            # By the copy engine, for a kernel might find no place on the device.
            with stream(device.torch):
                control[STOP:1].copy_(torch.ones(1, dtype=torch.int32, pin_memory=True), non_blocking=True)
            torch.cuda.synchronize(device.torch)
        raise
