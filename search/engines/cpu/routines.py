"""The kernels that depend on neither cell nor rule, as LLVM functions: matrix products, noise.

The losses are in `search.engines.cpu.loss_kernels`.

Matrices are row-major, with a stride in numbers from row to row; rows are padded with zeros to whole vectors, and a
count of columns is a count of vectors. Where a kernel computes rows in tiles, it computes a whole last tile: its
operands need not be zero there, but the memory must be its to read and write.
"""

from collections.abc import Callable, Sequence

from llvmlite import ir

from search.base.randomness import PHILOX_MULTIPLIERS, PHILOX_ROUNDS, PHILOX_WEYL
from search.engines.cpu import loss_kernels, vector_math
from search.engines.cpu.llvm import DOUBLE, INT, POINTER, ROW_TILE, VOID, Builder, Target

Values = list[ir.Value]


def signatures(target: Target) -> dict[str, ir.FunctionType]:
    """The kernels' types by name."""
    p, n, real = POINTER, INT, target.real
    return {
        "gemm": ir.FunctionType(VOID, [p, n, p, n, p, n, p, n, n, n, n]),
        "gemm_accumulate": ir.FunctionType(VOID, [p, n, p, n, p, n, n, n, n]),
        "gemm_update": ir.FunctionType(VOID, [p, n, p, n, p, n, n, n, n, n, p]),
        "gemv": ir.FunctionType(VOID, [p, p, p, n, n, n, n]),
        "gemv_transposed": ir.FunctionType(VOID, [p, p, p, p, n, n, n, n]),
        "update": ir.FunctionType(VOID, [p, p, n, n, p]),
        "sum_of_squares": ir.FunctionType(DOUBLE, [p, n]),
        "transpose": ir.FunctionType(VOID, [p, n, p, n, n, n]),
        "add_rows": ir.FunctionType(VOID, [p, n, p, n, p, n, n, n]),
        "input_noise": ir.FunctionType(VOID, [p, p, real, n, n, n, n]),
    } | loss_kernels.signatures(target)


def declare(module: ir.Module, target: Target) -> dict[str, ir.Function]:
    """Declares the kernels in a module; returns them by name."""
    return {name: ir.Function(module, kind, f"odyssey_{name}") for name, kind in signatures(target).items()}


def library(target: Target) -> ir.Module:
    """A module that defines all kernels but those of `search.engines.cpu.rule`."""
    module = ir.Module("library")
    functions = declare(module, target)
    for name, emit in (_EMITTERS | loss_kernels.EMITTERS).items():
        emit(Builder(target, functions[name]), *functions[name].args)
    return module


# Matrix products


def _gemm(b: Builder, *args: ir.Value) -> None:
    """``c = init + a @ w`` with a [rows, depth], w [depth, vectors]; `init_stride` 0 repeats one row."""
    c, c_stride, init, init_stride, a, a_stride, w, w_stride, rows, depth, vectors = args
    b.function.attributes.add("noinline")

    def tile(row: ir.Value, column: ir.Value, n_rows: int, width: int) -> None:
        starts = [b.at(a, b.mul(b.add(row, b.const(r)), a_stride)) for r in range(n_rows)]
        first = [b.add(b.mul(b.add(row, b.const(r)), init_stride), column) for r in range(n_rows)]
        sums = [b.read(init, b.add(at, b.const(v * b.target.lanes))) for at in first for v in range(width)]
        sums = _outer_products(b, lambda r, k: b.read_one(starts[r], k), w, w_stride, column, depth, sums, width)
        for r in range(n_rows):
            start = b.add(b.mul(b.add(row, b.const(r)), c_stride), column)
            for v in range(width):
                b.write(sums[r * width + v], c, b.add(start, b.const(v * b.target.lanes)))

    _tiles(b, rows, vectors, tile)
    b.ret_void()


def _gemm_accumulate(b: Builder, *args: ir.Value) -> None:
    """``g += a^T @ d`` with a [depth, rows], d [depth, vectors]."""
    g, stride, a, a_stride, d, d_stride, rows, depth, vectors = args

    def finish(value: ir.Value, at: ir.Value) -> None:
        b.write(b.fadd(b.read(g, at), value), g, at)

    transposed_gemm(b, lambda at: b.prefetch(g, at), finish, stride, a, a_stride, d, d_stride, rows, depth, vectors)


def transposed_gemm(
    b: Builder,
    prepare: Callable[[ir.Value], None],
    finish: Callable[[ir.Value, ir.Value], None],
    *args: ir.Value,
) -> None:
    """Hands ``a^T @ d`` vector by vector to `finish`, with the offset of each in the matrix.

    Before the sums of a tile are computed `prepare` sees its offsets, to fetch what `finish` will need.
    """
    stride, a, a_stride, d, d_stride, rows, depth, vectors = args
    b.function.attributes.add("noinline")

    def tile(row: ir.Value, column: ir.Value, n_rows: int, width: int) -> None:
        start = b.at(a, row)

        def element(r: int, k: ir.Value) -> ir.Value:
            return b.read_one(start, b.add(b.mul(k, a_stride), b.const(r)))

        rows = [b.add(b.mul(b.add(row, b.const(r)), stride), column) for r in range(n_rows)]
        places = [b.add(at, b.const(v * b.target.lanes)) for at in rows for v in range(width)]
        for at in places:
            prepare(at)
        sums = _outer_products(b, element, d, d_stride, column, depth, [b.splat(0.0)] * len(places), width)
        for value, at in zip(sums, places, strict=True):
            finish(value, at)

    _tiles(b, rows, vectors, tile)
    b.ret_void()


def _outer_products(
    b: Builder,
    element: Callable[[int, ir.Value], ir.Value],
    w: ir.Value,
    w_stride: ir.Value,
    column: ir.Value,
    depth: ir.Value,
    sums: Values,
    width: int,
) -> Values:
    """Adds sum over k of element(r, k) * w[k, column:] to a tile of sums that is held in registers."""
    start = b.at(w, column)

    def body(k: ir.Value, *sums: ir.Value) -> Values:
        row = b.mul(k, w_stride)
        right = [b.read(start, b.add(row, b.const(v * b.target.lanes))) for v in range(width)]
        updated = []
        for r in range(len(sums) // width):
            left = b.splat(element(r, k))
            updated += [b.madd(left, right[v], sums[r * width + v]) for v in range(width)]
        return updated

    return b.loop(0, depth, 1, body, sums)


def _tiles(b: Builder, rows: ir.Value, vectors: ir.Value, tile: Callable[[ir.Value, ir.Value, int, int], None]) -> None:
    """Covers a matrix with register tiles; those of one strip of columns follow one another, for the cache."""
    n_rows, width = (ROW_TILE, 3) if b.target.n_registers >= 32 else (ROW_TILE // 2, 2)

    def strip(column: ir.Value, width: int) -> None:
        b.loop(0, rows, n_rows, lambda row: tile(row, column, n_rows, width))

    _strips(b, vectors, width, strip)


def _strips(
    b: Builder,
    vectors: ir.Value,
    widest: int,
    body: Callable[[ir.Value, int], None],
    back: ir.Value | None = None,
) -> None:
    """Runs ``body(column, width)`` over strips of `widest` vectors, if `back` is not 0 from the last of them to the
    first, and then one of the rest."""
    n_strips = b.sdiv(vectors, b.const(widest))

    def strip(i: ir.Value) -> None:
        place = i if back is None else _place(b, i, n_strips, back)
        body(b.mul(place, b.const(widest * b.target.lanes)), widest)

    b.loop(0, n_strips, 1, strip)
    done = b.mul(n_strips, b.const(widest))
    rest = b.sub(vectors, done)
    for width in range(1, widest):
        with b.if_then(b.icmp_signed("==", rest, b.const(width))):
            body(b.mul(done, b.const(b.target.lanes)), width)


def _place(b: Builder, i: ir.Value, n: ir.Value, back: ir.Value) -> ir.Value:
    """Turn `i` of `n` when going on, or `back`."""
    return b.select(b.icmp_signed("==", back, b.const(0)), i, b.sub(b.sub(n, b.const(1)), i))


def _gemv(b: Builder, *args: ir.Value) -> None:
    """``out += h @ w`` with h [depth], w [depth, vectors].

    If `back` is not 0 the strips of columns are done in reverse order. A caller that alternates from call to call
    finds in the cache what the last call has left there.
    """
    out, h, w, stride, depth, vectors, back = args
    lanes = b.target.lanes

    def strip(column: ir.Value, width: int) -> None:
        # A narrow strip has too few sums to hide the latency of an addition: split the depth into several.
        split = {1: 8, 2: 4, 3: 2, 4: 2, 5: 2}.get(width, 1)
        start = b.at(w, column)

        def add(k: ir.Value, sums: Sequence[ir.Value]) -> Values:
            row, left = b.mul(k, stride), b.splat(b.read_one(h, k))
            return [b.madd(left, b.read(start, b.add(row, b.const(v * lanes))), sums[v]) for v in range(width)]

        def several(k: ir.Value, *sums: ir.Value) -> Values:
            parts = [add(b.add(k, b.const(s)), sums[s * width : (s + 1) * width]) for s in range(split)]
            return [value for part in parts for value in part]

        old = [b.read(out, b.add(column, b.const(v * lanes))) for v in range(width)]
        whole = b.and_(depth, b.const(-split))
        sums = b.loop(0, whole, split, several, [*old, *[b.splat(0.0)] * (width * (split - 1))])
        total, others = sums[:width], sums[width:]
        total = b.loop(whole, depth, 1, lambda k, *sums: add(k, sums), total)
        for position, value in enumerate(others):
            total[position % width] = b.fadd(total[position % width], value)
        for v, value in enumerate(total):
            b.write(value, out, b.add(column, b.const(v * lanes)))

    _strips(b, vectors, 8, strip, back)
    b.ret_void()


def _gemv_transposed(b: Builder, *args: ir.Value) -> None:
    """``out = init + w @ d`` with w [rows, vectors], d [vectors]; `back` as in `_gemv`, for rows."""
    out, init, d, w, stride, rows, vectors, back = args
    lanes = b.target.lanes
    columns = b.mul(vectors, b.const(lanes))
    n_tiles = b.sdiv(b.add(rows, b.const(ROW_TILE - 1)), b.const(ROW_TILE))

    def tile(i: ir.Value) -> None:
        row = b.mul(_place(b, i, n_tiles, back), b.const(ROW_TILE))
        starts = [b.at(w, b.mul(b.add(row, b.const(r)), stride)) for r in range(ROW_TILE)]

        def body(column: ir.Value, *sums: ir.Value) -> Values:
            right = b.read(d, column)
            return [b.madd(right, b.read(start, column), s) for start, s in zip(starts, sums, strict=True)]

        sums = b.loop(0, columns, lanes, body, [b.splat(0.0)] * ROW_TILE)
        group = min(ROW_TILE, lanes)
        for first in range(0, ROW_TILE, group):
            part = sums[first : first + group]
            while len(part) > 1:
                part = [b.fold([part[i], part[i + 1]]) for i in range(0, len(part), 2)]
            (total,) = part
            while total.type.count > group:
                total = b.fold([total])
            at = b.add(row, b.const(first))
            old = b.load(b.at(init, at), typ=total.type, align=b.target.itemsize)
            b.store(b.fadd(old, total), b.at(out, at), align=b.target.itemsize)

    b.loop(0, n_tiles, 1, tile)
    b.ret_void()


def _add_rows(b: Builder, *args: ir.Value) -> None:
    """``out[i, j] = init[i, j] + a[i, j]`` for i < rows, j < columns; `init_stride` 0 repeats one row."""
    out, out_stride, init, init_stride, a, a_stride, rows, columns = args

    def row(i: ir.Value) -> None:
        starts = [
            b.at(start, b.mul(i, stride)) for start, stride in ((out, out_stride), (init, init_stride), (a, a_stride))
        ]

        def vector(j: ir.Value) -> None:
            total = b.fadd(b.read(starts[1], j), b.read(starts[2], j))
            b.write_where(b.first_lanes(b.sub(columns, j)), total, starts[0], j)

        b.loop(0, columns, b.target.lanes, vector)

    b.loop(0, rows, 1, row)
    b.ret_void()


def _transpose(b: Builder, *args: ir.Value) -> None:
    """``out[j, i] = w[i, j]`` for i < rows, j < columns."""
    out, out_stride, w, w_stride, rows, columns = args

    def row(i: ir.Value) -> None:
        def element(j: ir.Value) -> None:
            value = b.read_one(w, b.add(b.mul(i, w_stride), j))
            b.store(value, b.at(out, b.add(b.mul(j, out_stride), i)), align=b.target.itemsize)

        b.loop(0, columns, 1, element)

    b.loop(0, rows, 1, row)
    b.ret_void()


def _sum_of_squares(b: Builder, *args: ir.Value) -> None:
    """The sum of the squares of g [size], a whole number of vectors, in float64."""
    g, size = args
    doubles = ir.VectorType(DOUBLE, b.target.lanes)

    def body(at: ir.Value, total: ir.Value) -> Values:
        value = b.read(g, at)
        value = value if value.type == doubles else b.fpext(value, doubles)
        return [b.fadd(total, b.fmul(value, value))]

    (total,) = b.loop(0, size, b.target.lanes, body, [ir.Constant(doubles, [0.0] * doubles.count)])
    b.ret(b.sum_lanes(total))


# Noise


def _input_noise(b: Builder, *args: ir.Value) -> None:
    """``out = x + std * noise`` over a flattened sequence, the noise being `search.base.randomness.input_noise`."""
    out, x, std, size, seed, sequence, epoch = args
    lanes = b.target.lanes
    blocks = b.lshr(b.add(size, b.const(3)), b.const(2))
    words = b.target.integers(64)
    low = b.const(0xFFFFFFFF)
    keys = [(b.and_(seed, low), b.lshr(seed, b.const(32)))]
    for _ in range(PHILOX_ROUNDS - 1):
        keys.append(tuple(b.and_(b.add(k, b.const(w)), low) for k, w in zip(keys[-1], PHILOX_WEYL, strict=True)))
    std = b.splat(std)

    def philox(counter: Values) -> Values:
        c0, c1, c2, c3 = counter
        mask, shift = b.same(c0, 0xFFFFFFFF), b.same(c0, 32)
        for k0, k1 in keys:
            # Masked, so that the compiler sees a product of two 32-bit numbers.
            p0, p1 = (b.mul(b.and_(c, mask), b.same(c, m)) for c, m in zip((c0, c2), PHILOX_MULTIPLIERS, strict=True))
            c0 = b.xor(b.xor(b.lshr(p1, shift), c1), b.broadcast(k0, words))
            c2 = b.xor(b.xor(b.lshr(p0, shift), c3), b.broadcast(k1, words))
            c1, c3 = b.and_(p1, mask), b.and_(p0, mask)
        return [c0, c1, c2, c3]

    def body(block: ir.Value) -> None:
        index = b.add(b.broadcast(block, words), ir.Constant(words, list(range(lanes))))
        counter = [index, b.broadcast(sequence, words), b.broadcast(epoch, words), b.same(index, 0)]
        u = [b.trunc(b.lshr(word, b.same(word, 8)), b.target.integers(32)) for word in philox(counter)]
        mask = b.first_lanes(b.sub(blocks, block))
        at = block
        for radius, turns in ((u[0], u[1]), (u[2], u[3])):
            uniform = b.uitofp(b.add(radius, b.same(radius, 1)), b.target.vector)
            log = vector_math.log_of_normal(b, b.fmul(uniform, b.splat(2.0**-24)))
            scale = b.fmul(std, b.unary("sqrt", b.fmul(log, b.splat(-2.0))))
            for wave in vector_math.cos_sin_of_turns(b, turns):
                b.write_where(mask, b.madd(scale, wave, b.read(x, at)), out, at)
                at = b.add(at, blocks)

    b.loop(0, blocks, lanes, body)
    b.ret_void()


_EMITTERS: dict[str, Callable[..., None]] = {
    "gemm": _gemm,
    "gemm_accumulate": _gemm_accumulate,
    "gemv": _gemv,
    "gemv_transposed": _gemv_transposed,
    "sum_of_squares": _sum_of_squares,
    "transpose": _transpose,
    "add_rows": _add_rows,
    "input_noise": _input_noise,
}
