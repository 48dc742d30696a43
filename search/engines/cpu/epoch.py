"""One member's pass over the sequences of a split: its memory, and the call into compiled code."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search.engines.cpu.ctc import ctc_scratch
from search.engines.cpu.kernels import Kernels
from search.engines.cpu.layout import GUARD, JOB, Arena, Layout, Record, Shapes, guarded, layer_fields, lines
from search.engines.cpu.llvm import LINE_BYTES
from search.engines.cpu.windows import windows
from search.engines.engine import Interrupted, Member
from search.network import Network
from search.tasks.task import Split

_PAGE_LINES = 4096 // LINE_BYTES


@dataclass(frozen=True)
class Sequences:
    """The sequences of a split end to end, each step one row.

    Attributes:
        inputs: [steps of all, M], with guard rows around them.
        starts, lengths: first row and number of rows of each sequence.
        targets: [steps of all, O] with guard rows, or classes int32, end to end.
        target_starts, target_lengths: first number and count of rows, or of classes, of each sequence.
    """

    inputs: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray
    target_starts: np.ndarray
    target_lengths: np.ndarray

    @staticmethod
    def of(split: Split, dtype: np.dtype) -> "Sequences":
        lengths, counts = (np.array(list(map(len, each)), np.int64) for each in (split.inputs, split.targets))
        targets = np.concatenate(split.targets)
        width = 1 if targets.ndim == 1 else targets.shape[1]
        return Sequences(
            inputs=guarded(np.concatenate(split.inputs), dtype),
            starts=np.cumsum(lengths) - lengths,
            lengths=lengths,
            targets=targets.astype(np.int32) if targets.ndim == 1 else guarded(targets, dtype),
            target_starts=(np.cumsum(counts) - counts) * width,
            target_lengths=counts,
        )


class Pass:
    """A member's parameters and all else that its kernel needs, laid out in a thread's arena.

    Args:
        member: whose parameters; they are copied, and stay as they are.
        code: the kernels of its cell and update.
        data: the sequences.
        arena: where to lay things out; the pass is over when it is used again.
        train: whether to update the parameters after each sequence, or else only to sum up the loss, or to read the
            best path where the score is one of errors.

    Attributes:
        best: the most probable output of every step of the split, once `run` has gone over it, int32.
    """

    def __init__(self, member: Member, code: Kernels, data: Sequences, arena: Arena, train: bool):
        self.best = np.zeros(0 if train else len(data.inputs), np.int32)
        self._network, self._code, self._data, self._dtype = member.network, code, data, data.inputs.dtype
        self._member, self._train = member, train
        self._layouts = [
            Layout(code.plan, code.target, layer.n_inputs, member.network.n_units) for layer in member.network.layers
        ]
        self._shared, self._layers, self._kinds = self._allocate(arena)
        for layout, arrays in zip(self._layouts, self._layers, strict=True):
            layout.fill_constants(arrays, member.network.cell)
        longest = int(data.lengths.max())
        self._windows = [windows(layout, member.network.cell, longest) for layout in self._layouts]
        for kind, vector in zip(self._kinds, member.vectors, strict=False):
            for view, part in self._places(kind, vector):
                view[...] = part
        self._records = np.stack([self._layer_record(k).words for k in range(len(self._layers))])
        self._job = self._job_record(member, train)

    def run(self, order: np.ndarray, stop: np.ndarray) -> float:
        """Goes over the sequences of `order`.

        Args:
            order: indices of sequences, int32.
            stop: one int32; the pass is abandoned when it is not 0.

        Returns:
            the loss, summed over all steps

        Raises:
            Interrupted: `stop` was set.
        """
        self._job.set(n_sequences=len(order), order=order, stop=stop)
        if self._train:
            shared = self._member.update.shared_values(self._member.epoch, len(order)).astype(self._dtype)
            self._job.set(shared=shared, n_shared=shared.shape[1])
        if self._code.function("epoch")(self._job.address):
            raise Interrupted
        return self._job.double("loss")

    def results(self) -> list[np.ndarray]:
        """The parameter vectors after the pass, in the order of `Member.vectors`."""
        vectors = []
        for kind in self._kinds:
            vectors.append(np.empty(self._network.n_parameters, self._dtype))
            for view, part in self._places(kind, vectors[-1]):
                part[...] = view
        return vectors

    def _allocate(
        self, arena: Arena
    ) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]], list[list[dict[str, np.ndarray]]]]:
        """Memory: the arrays of the network, and those of each of its layers, by word of their records; and of the
        weights and each slot the arrays of the network, then of each layer."""
        network, n_steps = self._network, int(self._data.lengths.max())
        line, logit_stride = self._layouts[0].line, self._layouts[0].stride(network.n_outputs)
        shared = {
            "bias_gradients": (1, logit_stride),
            "logits": (n_steps, logit_stride),
            "noisy": (n_steps + GUARD, network.n_inputs),
            "zeros": (1, max(logit_stride, self._layouts[0].unit_stride)),
            "scratch": (1, self._scratch()),
        }
        scratch = [shared, *(self._scratch_of(k, n_steps) for k in range(len(self._layouts)))]
        kind: list[Shapes] = [{"bias_weights": (1, logit_stride)}]
        kind += [self._parameters_of(k, "weights") for k in range(len(self._layouts))]
        n_kinds = len(self._member.vectors) if self._train else 1
        # A weight and its slots are read and written together. Spread evenly over a page they neither meet in a set of
        # the cache, nor is one of them read while a store to an address of the same low bits is under way.
        taken = sum(lines(shape, self._dtype) for group in kind for shape in group.values()) + 2 * GUARD
        kind.append({"": ((_PAGE_LINES // n_kinds - taken) % _PAGE_LINES, line)})
        arrays = arena.take([*scratch, *kind * n_kinds], self._dtype)
        kinds = [arrays[i : i + len(kind)] for i in range(len(scratch), len(arrays), len(kind))]
        weights = kinds[0]
        layers = [a | b for a, b in zip(arrays[1 : len(scratch)], weights[1:], strict=False)]
        for layer, layout, own in zip(network.layers, self._layouts, layers, strict=True):
            for name in (*layout.parameters("weights"), *layout.parameters("gradients")):
                if name in layers[layer.owner]:
                    own[name] = layers[layer.owner][name]
        return arrays[0] | weights[0], layers, kinds

    def _parameters_of(self, k: int, kind: str) -> dict[str, tuple[int, int]]:
        """Shapes of the arrays of layer k that hold what there is of each parameter."""
        layout, heard = self._layouts[k], self._network.layers[k].heard
        own = layout.parameters(kind) if self._owns(k) else {}
        return own if heard is None else own | layout.output_parameters(kind, self._network.n_outputs)

    def _owns(self, k: int) -> bool:
        """Whether the parameters of layer k are its own."""
        return self._network.layers[k].owner == k

    def _scratch_of(self, k: int, n_steps: int) -> dict[str, tuple[int, int]]:
        """Shapes of the other arrays of layer k."""
        layout, layer = self._layouts[k], self._network.layers[k]
        shapes = layout.buffers(n_steps) | layout.output_buffers(n_steps, self._network.n_outputs)
        if layer.level:
            shapes |= layout.input_buffers()
            if layer.direction == 0:  # for both
                shapes |= layout.between(n_steps)
        gradients = self._parameters_of(k, "gradients")
        if not (self._train and (self._code.clips_norm or self._code.plan.tied)):  # of matrices none is in memory
            gradients = {name: shape for name, shape in gradients.items() if name == "vector_gradients"}
        return shapes | gradients

    def _scratch(self) -> int:
        """Numbers that a loss needs to work in, in whole cache lines."""
        layout, data = self._layouts[0], self._data
        if data.targets.ndim > 1:
            return layout.line
        steps, classes = int(data.lengths.max()), int(data.target_lengths.max())
        return layout.padded(ctc_scratch(steps, classes, self._network.n_outputs, self._code.target.lanes))

    def _layer_record(self, k: int) -> Record:
        network, layer, layout = self._network, self._network.layers[k], self._layouts[k]
        record = Record(layer_fields(self._code.plan))
        heard = 0 if layer.heard is None else 1 if layer.heard == 0 else 2
        own, lower, higher = self._layers[k], None, None
        if layer.level:
            lower = self._layers[k - network.n_directions]
        if layer.level + 1 < network.n_layers:
            higher = self._layers[k + network.n_directions]
        record.set(**layout.sizes(), **own, **layout.neighbours(own, lower, higher), heard=heard)
        if self._code.plan.tied:
            record.set(owns=int(self._owns(k)))
        if found := self._windows[k]:
            record.set(**found.words())
        if layer.level:
            first_of_level = self._layers[layer.level * network.n_directions]
            record.set(inputs=first_of_level["inputs"], d_inputs=first_of_level["d_inputs"])
        if layer.level + 1 < network.n_layers:
            above = (layer.level + 1) * network.n_directions
            inputs, d_inputs = (self._layers[above][name] for name in ("inputs", "d_inputs"))
            first = layer.direction * network.n_units
            record.set(outputs=inputs[:, first:], d_outputs=d_inputs[:, first:])
            record.set(output_stride=self._layouts[above].input_stride)
        return record

    def _job_record(self, member: Member, train: bool) -> Record:
        layout, network = self._layouts[0], self._network
        record = Record(JOB)
        record.set(
            **self._shared,
            layers=self._records,
            **vars(self._data),  # whose names they have
            best=self.best,
            n_inputs=network.n_inputs,
            n_outputs=network.n_outputs,
            n_levels=network.n_layers,
            n_directions=network.n_directions,
            logit_stride=layout.stride(network.n_outputs),
            logit_width=layout.padded(network.n_outputs) // self._code.target.lanes,
            train=int(train),
            slot_distance=self._distance(),
            scale_place=member.update.scale_place,
            noise=float(member.input_noise) if train else 0.0,
            seed=member.seed,
            epoch=member.epoch,
        )
        return record

    def _distance(self) -> int:
        """Numbers from a weight to its first slot, and from each slot to the next."""
        if len(self._kinds) < 2:
            return 0
        first, second = (kind[0]["bias_weights"].ctypes.data for kind in self._kinds[:2])
        return int(second - first) // self._dtype.itemsize

    def _places(self, kind: list[dict[str, np.ndarray]], vector: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each parameter where it lies in the arena, and where in a parameter vector."""
        network: Network = self._network
        named = network.unpack(vector)
        shared, *arrays_of = kind
        for k, (layer, layout, arrays) in enumerate(zip(network.layers, self._layouts, arrays_of, strict=False)):
            for name, view in layout.views(arrays, "weights").items() if self._owns(k) else ():
                yield view, named[layer.prefix + name]
            if layer.heard is not None:
                units = slice(layer.heard, layer.heard + network.n_units)
                yield arrays["out_weights"][:, : network.n_outputs].T, named["W_out"][:, units]
        yield shared["bias_weights"][0, : network.n_outputs], named["b_out"]
