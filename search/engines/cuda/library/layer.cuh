// What surrounds the recurrence of a layer: the products over all steps of a sequence, forward and backward.
//
// Barriers. `multiply` leaves the work area free, and has a barrier between what came before it and its results;
// `forward` and `backward` have one after they have set the work area to zero, and one at their end. The others stand
// where these do not suffice; the comment says for what. None is in a branch that threads of a block take differently:
// what such branches depend on (sizes, the member and the sequence under way) is the same for all.

// A sequence, as the kernel is at it.
struct Sequence {
    int index, n_steps;
    int64 first, rule;  // its first step among all, and where what its update shares begins
};

// Rows of a matrix, in a layer's order of time.
struct Rows {
    int start, step;
};

DEVICE Rows walk(int start, int step, int back, int n_steps) {
    if (back) return {start + (n_steps - 1) * step, -step};
    return {start, step};
}

// Through a layer: columns, tape, and what it gives to the logits and to the layer above.
DEVICE void layer_forward(const Job &job, const Layer &layer, int n_steps, Pointer<real> sm, Pointer<real> g) {
    const int n = job.n_units, m = layer.n_inputs, out = job.n_outputs;
    const Rows heard = walk(layer.hears, m, layer.back, n_steps);
    const Pointer<real> work = sm + job.work;
#pragma unroll 1
    for (int p = 0; p < N_INPUT; ++p) {
        const Block b = input_block(p);
        const int column = layer.columns + b.column * n;
        multiply<true, false>(work, g, {heard.start, heard.step, 1},
                              {layer.weights + b.start * m * n, 1, b.width * n}, {n_steps, m, b.width * n},
                              [&](int r, int c, real total) { g[column + r * (N_COLUMNS * n) + c] = total; });
    }
    forward(layer, n, job.chip, job.work, n_steps, sm, g, g);
    const int y = layer.tape + (N_TAPE + Y_SLOT) * n;
    if (layer.above >= 0) {
        const Rows above = walk(layer.above, layer.above_stride, layer.back, n_steps);
        for (int t = 0; t < n_steps; ++t)
            for (int u = thread(); u < n; u += THREADS) g[above.start + t * above.step + u] = g[y + t * N_TAPE * n + u];
    }
    if (layer.heard) {
        const Rows logits = walk(job.logits, out, layer.back, n_steps);
        multiply<true, false>(work, g, {y, N_TAPE * n, 1}, {layer.out, 1, out}, {n_steps, n, out},
                              [&](int r, int c, real total) {
                                  const int at = logits.start + r * logits.step + c;
                                  // The first of the layers that are heard begins with the bias.
                                  g[at] = g[layer.heard == 1 ? job.bias + c : at] + total;
                              });
    }
    barrier();  // logits, and what the layer above hears, are there for all
}

// d loss / d y of a layer, in its order of time.
DEVICE void output_adjoint(const Job &job, const Layer &layer, int n_steps, Pointer<real> sm, Pointer<real> g) {
    const int n = job.n_units, out = job.n_outputs;
    const Rows above = walk(layer.d_above, layer.above_stride, layer.back, n_steps);
    if (layer.heard) {
        const Rows logits = walk(job.logits, out, layer.back, n_steps);
        multiply<true, true>(sm + job.work, g, {logits.start, logits.step, 1}, {layer.out, out, 1}, {n_steps, out, n},
                             [&](int r, int c, real total) {
                                 if (layer.above >= 0 && N_INPUT) total += g[above.start + r * above.step + c];
                                 g[layer.dy + r * n + c] = total;
                             });
    } else {
        for (int t = 0; t < n_steps; ++t)
            for (int u = thread(); u < n; u += THREADS)
                g[layer.dy + t * n + u] = N_INPUT ? real(g[above.start + t * above.step + u]) : real(0);
    }
}

// d loss / d what a layer hears, to which both directions add, the backward one first.
DEVICE void input_adjoint(const Job &job, const Layer &layer, int n_steps, Pointer<real> sm, Pointer<real> g) {
    const int n = job.n_units, m = layer.n_inputs;
    const Rows d = walk(layer.d_hears, m, layer.back, n_steps);
#pragma unroll 1
    for (int p = 0; p < N_INPUT; ++p) {
        const Block b = input_block(p);
        const int width = b.width * n;
        multiply<true, true>(sm + job.work, g, {layer.columns + b.column * n, N_COLUMNS * n, 1},
                             {layer.weights + b.start * m * n, width, 1}, {n_steps, width, m},
                             [&](int r, int c, real total) {
                                 const int at = d.start + r * d.step + c;
                                 // A number is always the same thread's, so that products need no barrier between.
                                 g[at] = p > 0 || layer.adds ? g[at] + total : total;
                             });
    }
}

// Where a layer's matrix is in the slot, and, if it is a recurrent one, where the recurrence reads it.
struct Matrix {
    int start, width;
    bool recurrent;
    Kept kept;
};

// Whether the gradient of the parameter `at` is whole with that of this layer, to which are then added those of the layers
// above that share it. If not, they are added up in memory, unless they `are` already. A number is always the same
// thread's, so that layers need no barrier between.
DEVICE bool whole(const Layer &layer, int at, bool are, Pointer<real> g, real &gradient) {
    if (!TIED || layer.turn == ALONE) return true;
    const int sum = layer.sums + at - layer.weights;
    if (layer.turn == LAST)
        gradient += g[sum];
    else if (!are)
        g[sum] = layer.turn == FIRST ? gradient : g[sum] + gradient;
    return layer.turn == LAST;
}

// The gradients of a layer's matrices, sums over time of operand^T * d loss / d column: result(matrix, row, column,
// gradient) for each number that is whole, always by the same thread. They are never in memory, but those of tied layers:
// `again` says that these are there.
template <class Result>
DEVICE void each_gradient(const Job &job, const Layer &layer, int n_steps, bool again, Pointer<real> sm,
                          Pointer<real> g, Result result) {
    const int n = job.n_units, m = layer.n_inputs, out = job.n_outputs;
#pragma unroll 1
    for (int p = 0; p < N_INPUT + N_RECURRENT + (layer.heard ? 1 : 0); ++p) {
        Operand left, right;
        Size size = {n, n_steps, out};
        Block b = {0, 0, 0};
        int target = layer.out;
        if (p < N_INPUT + N_RECURRENT) {
            b = p < N_INPUT ? input_block(p) : recurrent_block(p - N_INPUT);
            size.columns = b.width * n;
            right = {layer.columns + b.column * n, 1, N_COLUMNS * n};
        } else {
            const Rows logits = walk(job.logits, out, layer.back, n_steps);
            right = {logits.start, 1, logits.step};
        }
        if (p < N_INPUT) {
            const Rows heard = walk(layer.hears, m, layer.back, n_steps);
            left = {heard.start, 1, heard.step};
            size.rows = m;
            target = layer.weights + b.start * m * n;
        } else if (p < N_INPUT + N_RECURRENT) {
            left = {layer.tape + operand_row(p - N_INPUT) * n, 1, N_TAPE * n};
            target = layer.recurrent + b.start * n * n;
        } else {
            left = {layer.tape + (N_TAPE + Y_SLOT) * n, 1, N_TAPE * n};
        }
        const bool recurrent = p >= N_INPUT && p < N_INPUT + N_RECURRENT;
        const Matrix matrix = {target, size.columns, recurrent,
                               recurrent ? kept_of(p - N_INPUT, layer, n, job.chip) : Kept{0, 0, 0}};
        multiply<false, false>(sm + job.work, g, left, right, size,
                               [&](int r, int c, real total) {
                                   const int at = matrix.start + r * matrix.width + c;
                                   if (p == N_INPUT + N_RECURRENT || whole(layer, at, again, g, total))
                                       result(matrix, r, c, total);
                               });
    }
}

// Updates each matrix with its gradient.
DEVICE void update_matrices(const Job &job, const Layer &layer, const Rule &rule, int n_steps, bool again,
                            Pointer<real> sm, Pointer<real> g) {
    each_gradient(job, layer, n_steps, again, sm, g, [&](const Matrix &matrix, int r, int c, real gradient) {
        const real value = update(g, matrix.start + r * matrix.width + c, job.n_parameters, gradient, rule);
        if (matrix.recurrent) keep(matrix.kept, job.n_units, job.chip, sm, g, r, c, value);
    });
}

// d loss / d bias of an output.
DEVICE real bias_gradient(const Job &job, int n_steps, int c, Pointer<real> g) {
    real gradient = 0;
    for (int t = 0; t < n_steps; ++t) gradient += g[job.logits + t * job.n_outputs + c];
    return gradient;
}
