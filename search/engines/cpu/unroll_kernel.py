"""The kernels of an unroll: a layer forward and backward over a batch of sequences."""

from llvmlite import ir

from search.engines.cpu import layout
from search.engines.cpu.cell import CellKernels, Operand
from search.engines.cpu.fields import Fields
from search.engines.cpu.llvm import INT32, Builder


def unroll_forward(b: Builder, job_address: ir.Value, cell: CellKernels) -> None:
    """Runs a layer over each sequence of a batch x [n_steps, n_batch, n_inputs], each with its own tape."""
    job = Fields(b, job_address, layout.UNROLL)
    layer = cell.layer(b, job.pointer("layer"))
    n_inputs = layer.size("n_inputs")
    stride = b.mul(job.size("n_batch"), n_inputs)

    def sequence(i: ir.Value) -> None:
        tape = b.at(job.pointer("tape"), b.mul(i, job.size("tape_size")))
        x = b.at(job.pointer("x"), b.mul(i, n_inputs))
        b.call(cell.forward, [layer.start, tape, x, stride, job.size("n_steps")])

    b.loop(0, job.size("n_batch"), 1, sequence)
    b.ret(ir.Constant(INT32, 0))


def unroll_backward(b: Builder, job_address: ir.Value, cell: CellKernels) -> None:
    """Adds up the gradients of the parameters over a batch; writes dx, for each sequence [n_steps, dx_stride].

    `transposed` holds the transposed blocks of the products with x, row by row dx_stride, one below the other.
    """
    job = Fields(b, job_address, layout.UNROLL)
    layer = cell.layer(b, job.pointer("layer"))
    n_inputs, n_steps, dx_stride = layer.size("n_inputs"), job.size("n_steps"), job.size("dx_stride")
    stride = b.mul(job.size("n_batch"), n_inputs)

    def sequence(i: ir.Value) -> None:
        tape = b.at(job.pointer("tape"), b.mul(i, job.size("tape_size")))
        dy = b.at(job.pointer("dy"), b.mul(i, job.size("dy_size")))
        x = Operand(b.at(job.pointer("x"), b.mul(i, n_inputs)), stride, n_inputs)
        b.call(cell.backward, [layer.start, tape, dy, n_steps])
        cell.each_gradient(b, layer, tape, x, n_steps, "gemm_accumulate")
        dx = b.at(job.pointer("dx"), b.mul(b.mul(i, n_steps), dx_stride))
        w = job.pointer("transposed")
        init = (layer.pointer("zeros"), b.const(0))
        for product in cell.plan.inputs:
            _, _, width, column = cell.product(b, layer, product)
            d = (b.at(layer.pointer("columns"), column), layer.size("column_stride"))
            depth = b.mul(width, b.const(cell.target.lanes))
            size = (n_steps, depth, b.sdiv(dx_stride, b.const(cell.target.lanes)))
            b.call(cell.library["gemm"], [dx, dx_stride, *init, *d, w, dx_stride, *size])
            init = (dx, dx_stride)
            w = b.at(w, b.mul(depth, dx_stride))

    b.loop(0, job.size("n_batch"), 1, sequence)
    b.ret(ir.Constant(INT32, 0))
