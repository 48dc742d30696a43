// The kernels of a layer by itself over a batch, one block a sequence. What comes before and after the recurrence is the
// caller's.

DEVICE void start_unroll(const Batch &batch, const Layer &layer, Pointer<real> sm, Pointer<real> g) {
    const int n = batch.n_units;
    for (int u = thread(); u < N_CONSTANTS * n; u += THREADS) sm[u] = batch.constants[u];
    load_layer(layer, n, batch.chip, sm, batch.weights, g);
}

KERNEL unroll_forward(UNROLL_ARGUMENTS) {
    SHARED(sm);
    const Batch batch = {UNROLL_NAMES};
    const Layer layer = batch.layers[0];
    const Pointer<real> g = batch.places + int64(block()) * batch.slot_size;
    start_unroll(batch, layer, sm, g);
    forward(layer, batch.n_units, batch.chip, batch.work, batch.n_steps, sm, batch.weights, g);
}

KERNEL unroll_backward(UNROLL_ARGUMENTS) {
    SHARED(sm);
    const Batch batch = {UNROLL_NAMES};
    const Layer layer = batch.layers[0];
    const Pointer<real> g = batch.places + int64(block()) * batch.slot_size;
    start_unroll(batch, layer, sm, g);
    backward(layer, batch.n_units, batch.chip, batch.work, batch.n_steps, sm, batch.weights, g);
    for (int u = thread(); u < N_VECTORS * batch.n_units; u += THREADS)
        g[batch.gradients + u] = sm[batch.work + VECTOR_GRADIENTS * batch.n_units + u];
}
