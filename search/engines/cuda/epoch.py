"""A population's pass over the sequences of a split: its memory on the device, and the launches."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from search.engines.cuda.device import Device
from search.engines.cuda.gpu import stream
from search.engines.cuda.kernels import CudaKernels, prepare
from search.engines.cuda.layout import COPY, JOB, LAYER, Layout
from search.engines.cuda.loss_kernels import ctc_scratch
from search.engines.cuda.source import STOP
from search.engines.engine import Interrupted, Member
from search.tasks.task import Split

# How often the host looks whether it is to stop, in seconds.
_PATIENCE = 0.001


@dataclass(frozen=True)
class DeviceSequences:
    """The sequences of a split on the device, end to end, each step one row.

    Attributes:
        inputs: [steps of all, M].
        starts, lengths: first row and number of rows of each sequence.
        targets: [steps of all, O], or empty.
        classes: end to end, int32, or empty.
        target_starts, target_lengths: first number and count of rows, or of classes, of each sequence.
        n_sequences, n_steps, n_total: number of sequences, and of steps of the longest and of all.
        n_scratch: numbers that a loss needs to work in.
    """

    inputs: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor
    classes: torch.Tensor
    target_starts: torch.Tensor
    target_lengths: torch.Tensor
    n_sequences: int
    n_steps: int
    n_total: int
    n_scratch: int

    @staticmethod
    def of(split: Split, dtype: str, on: torch.device) -> "DeviceSequences":
        lengths, counts = (np.array(list(map(len, each)), np.int64) for each in (split.inputs, split.targets))
        targets = np.concatenate(split.targets)
        classes = targets.ndim == 1

        def sent(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(on)

        return DeviceSequences(
            inputs=sent(np.concatenate(split.inputs).astype(dtype)),
            starts=sent(np.cumsum(lengths) - lengths),
            lengths=sent(lengths),
            targets=sent(np.zeros(1, dtype) if classes else targets.astype(dtype)),
            classes=sent(targets.astype(np.int32) if classes else np.zeros(1, np.int32)),
            target_starts=sent((np.cumsum(counts) - counts) * (1 if classes else targets.shape[1])),
            target_lengths=sent(counts),
            n_sequences=len(lengths),
            n_steps=int(lengths.max()),
            n_total=int(lengths.sum()),
            n_scratch=ctc_scratch(int(lengths.max()), int(counts.max())) if classes else 1,
        )


@dataclass(frozen=True)
class Place:
    """Where a member's things are, and the constants of its cell, end to end."""

    layout: Layout
    constants: np.ndarray

    @staticmethod
    def of(member: Member, code: CudaKernels, device: Device, n_steps: int) -> "Place":
        network, n_slots = member.network, len(member.slots)
        layout = Layout(
            code.plan, network, n_steps, member.weights.itemsize, device.shared_bytes, device.tiles, n_slots
        )
        constants = network.cell.constant_values(network.n_units).values()
        return Place(layout, np.concatenate([np.zeros(0), *constants]).astype(member.weights.dtype))

    @property
    def n_parameters(self) -> int:
        return self.layout.n_parameters


class Launch:
    """Members of one cell and one size of block to run in one launch, the largest first.

    Blocks take the members one by one from a queue: there is one block for each place that the device has, with its
    own part of global memory, which stays in the level-2 cache, and no member waits for a smaller one.
    """

    def __init__(
        self, device: Device, code: CudaKernels, members: Sequence[Member], places: Sequence[Place], train: bool
    ):
        self._members, self._train, self._device = members, train, device.torch
        layouts = [place.layout for place in places]
        self._code, self._threads = code.variant(layouts[0].threads), layouts[0].threads
        self._shared_bytes = max(layout.shared_used for layout in layouts)
        self._slot_size = max(layout.slot_size for layout in layouts)
        self._grid = min(len(members), self._code.resident("epoch", self._shared_bytes))
        self._starts = np.cumsum([0, *(place.n_parameters for place in places)])
        dtype = getattr(torch, str(members[0].weights.dtype))
        self._kept: list[torch.Tensor] = []  # until the launch is over
        # The weights of all members, and, for training, one after the other each slot of all members.
        n_slots = len(members[0].slots) if train else 0
        self._n_weights = int(self._starts[-1])
        self._host = [self._pinned(self._n_weights, dtype), self._pinned(max(1, n_slots * self._n_weights), dtype)]
        for vector, parts in zip(self._rows(), zip(*(member.vectors for member in members), strict=True), strict=False):
            np.concatenate(parts, out=vector)
        self._vectors = [host.to(self._device, non_blocking=True, copy=True) for host in self._host]
        self._empty = device.empty
        self._places = device.empty(self._grid * self._slot_size, dtype)
        self._losses = device.empty(len(members) * self._threads, torch.float64)
        self._host_losses = self._pinned(self._losses.shape, torch.float64)
        self._times = device.empty(2 * len(members), torch.int64)
        self._host_times = self._pinned(self._times.shape, torch.int64)
        self._tables = self._records(places)

    def _pinned(self, size: int | torch.Size, dtype: torch.dtype) -> torch.Tensor:
        """Memory of the host from and to which copies go beside other work."""
        return torch.empty(size, dtype=dtype, pin_memory=self._device.type == "cuda")

    def _rows(self) -> list[np.ndarray]:
        """The weights of all members on the host, then each slot."""
        weights, slots = (host.numpy() for host in self._host)
        return [weights, *slots[: len(slots) // self._n_weights * self._n_weights].reshape(-1, self._n_weights)]

    def _records(self, places: Sequence[Place]) -> list[torch.Tensor]:
        """The members' jobs [K] of `JOB`; once for each size its layers, its constants, and its parameters' places."""
        jobs = np.zeros(len(places), JOB)
        layers, constants, copies = [np.zeros(0, LAYER)], [np.zeros(0, places[0].constants.dtype)], [np.zeros(0, COPY)]
        firsts: dict[int, dict[str, int]] = {}
        for k, (member, place) in enumerate(zip(self._members, places, strict=True)):
            layout = place.layout
            if id(place) not in firsts:
                tables = {"first_layer": layers, "constants": constants, "first_copy": copies}
                firsts[id(place)] = {name: sum(map(len, table)) for name, table in tables.items()}
                layers.append(layout.layers)
                constants.append(place.constants)
                copies.append(layout.copies)
            own = {"vector": self._starts[k], "n_copies": len(layout.copies), "noise": member.input_noise}
            own |= {"seed": member.seed, "epoch": member.epoch}
            for name, value in (layout.job | firsts[id(place)] | own).items():
                jobs[name][k] = value
        return [self._sent(table) for table in (jobs, *map(np.concatenate, (layers, constants, copies)))]

    def _sent(self, array: np.ndarray) -> torch.Tensor:
        """An array on the device; of records, their bytes."""
        return torch.from_numpy(array.view(np.uint8) if array.dtype.fields else array).to(self._device)

    def start(self, data: DeviceSequences, orders: Sequence[np.ndarray], control: torch.Tensor, queue: int) -> None:
        """Starts the launch, and after it the copies of its results to the host.

        Args:
            data: the sequences.
            orders: of the sequences, for each member.
            control: int32; word `STOP` stops the launch soon when it is not 0, word `queue` is the launch's own.
        """
        order = np.stack(orders).astype(np.int32)
        updates = [member.update.shared_values(member.epoch, order.shape[1]) for member in self._members]
        n_best = 1 if self._train else len(self._members) * data.n_total
        self._best = self._empty(n_best, torch.int32)
        self._host_best = self._pinned(self._best.shape, torch.int32)
        scratch = self._empty(self._grid * data.n_scratch, torch.float64)
        jobs, layers, constants, copies = self._tables
        tensors = [self._places, jobs, layers, constants, self._sent(np.stack(updates)), copies, *self._vectors]
        tensors += [data.inputs, data.starts, data.lengths, data.targets, data.classes]
        tensors += [
            data.target_starts,
            data.target_lengths,
            self._best,
            scratch,
            self._sent(order),
            self._losses,
            self._times,
        ]
        sizes = [queue, len(self._members), order.shape[1], self._slot_size, data.n_scratch, data.n_total]
        sizes += [self._n_weights, int(self._train)]
        self._kept = [*tensors, control]
        self._code.launch("epoch", self._grid, self._shared_bytes, [*self._kept, *sizes])
        self._host_losses.copy_(self._losses, non_blocking=True)
        self._host_times.copy_(self._times, non_blocking=True)
        self._host_best.copy_(self._best, non_blocking=True)
        if self._train:
            for host, vector in zip(self._host, self._vectors, strict=True):
                host.copy_(vector, non_blocking=True)
        if self._device.type == "cuda":
            self._end = torch.cuda.Event()
            self._end.record()

    def is_over(self) -> bool:
        return self._device.type != "cuda" or self._end.query()

    def losses(self) -> np.ndarray:
        """The loss of each member, summed over all steps, when the launch is over. [K]"""
        return self._host_losses.numpy().reshape(-1, self._threads).sum(axis=1)

    def seconds(self) -> np.ndarray:
        """For how long a block was at work on each member, by the device's clock, when the launch is over. [K]"""
        began, ended = self._host_times.numpy().reshape(-1, 2).T
        return (ended - began) / 1e9

    def best(self) -> np.ndarray:
        """Of an evaluation whose score is one of errors, the most probable outputs, int32 [K, steps of all]."""
        return self._host_best.numpy().reshape(len(self._members), -1)

    def commit(self) -> None:
        """Gives the members their weights and slots, when the launch is over."""
        for k, member in enumerate(self._members):
            for vector, row in zip(member.vectors, self._rows(), strict=True):
                vector[:] = row[self._starts[k] : self._starts[k + 1]]
            member.epoch += 1


class Passes:
    """Passes of populations over the sequences of one split.

    Args:
        device: where they run.
        kernels: the code for a member.
        split: the sequences.
        dtype: of numbers.
    """

    def __init__(self, device: Device, kernels: Callable[[Member], CudaKernels], split: Split, dtype: str):
        self._device, self._kernels = device, kernels
        self._data = DeviceSequences.of(split, dtype, device.torch)
        self._places: dict[tuple[object, ...], Place] = {}
        self.n_sequences = self._data.n_sequences

    def run(
        self, members: Sequence[Member], orders: Sequence[np.ndarray], stopped: Callable[[], bool], train: bool
    ) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Goes over the sequences with every member at once, training them or not.

        Members are as they were until all launches are over.

        Returns:
            losses: of each member, summed over all steps. [K]
            best: of each member, if it is an evaluation whose score is one of errors, the most probable outputs.
            seconds: for each member how long it took, by the device's clock. [K]

        Raises:
            Interrupted: `stopped` came true.
        """
        places = [self._place(member) for member in members]
        groups = list(_groups(members, places))
        prepare((self._kernels(members[group[0]]), places[group[0]].layout.threads) for group in groups)
        control = torch.zeros(1 + len(groups), dtype=torch.int32, device=self._device.torch)
        control[STOP] = int(stopped())
        if self._device.torch.type == "cuda":
            torch.cuda.current_stream(self._device.torch).synchronize()  # the other streams see it
        launches = []
        # The launches of the largest members come first: they take longest.
        for queue, group in enumerate(groups, 1):
            with stream(self._device.torch):
                own = [members[k] for k in group]
                launch = Launch(self._device, self._kernels(own[0]), own, [places[k] for k in group], train)
                launch.start(self._data, [orders[k] for k in group], control, queue)
                launches.append(launch)
        _wait(self._device, launches, control, stopped)
        losses, seconds, best = np.empty(len(members)), np.empty(len(members)), [np.empty(0, np.int32)] * len(members)
        for launch, group in zip(launches, groups, strict=True):
            losses[group], seconds[group] = launch.losses(), launch.seconds()
            if train:
                launch.commit()
            else:
                for k, row in zip(group, launch.best(), strict=True):
                    best[k] = row
        return losses, best, seconds

    def _place(self, member: Member) -> Place:
        network = member.network
        key = (member.signature, network.n_units, network.layers, len(member.slots))
        if key not in self._places:
            self._places[key] = Place.of(member, self._kernels(member), self._device, self._data.n_steps)
        return self._places[key]


def _groups(members: Sequence[Member], places: Sequence[Place]) -> Iterator[list[int]]:
    """Members that one launch can run: same equations, same size of block; the largest first, and first in each."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for k in sorted(range(len(members)), key=lambda k: -places[k].n_parameters):
        groups.setdefault((places[k].layout.threads, *members[k].signature), []).append(k)
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
