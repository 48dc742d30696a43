// Where the recurrence reads a recurrent matrix: its first `chip` rows from shared memory, the others transposed from
// global memory on the way back.
struct Kept {
    int near, stride, far;
};

DEVICE Kept kept_of(int p, const Layer &layer, int n, int chip) {
    const Block b = recurrent_block(p);
    return {layer.mats + chip * strides_before(p, n), b.width * n | 1, layer.transposed + b.start * n * n};
}

DEVICE void keep(const Kept &kept, int n, int chip, Pointer<real> sm, Pointer<real> g, int r, int c, real value) {
    if (r < chip)
        sm[kept.near + r * kept.stride + c] = value;
    else
        g[kept.far + c * n + r] = value;
}

// Copies the recurrent matrices to where the recurrence reads them, and the vectors. The caller ends the phase.
DEVICE void load_layer(const Layer &layer, int n, int chip, Pointer<real> sm, Pointer<const real> w, Pointer<real> g) {
    for (int u = thread(); u < N_VECTORS * n; u += THREADS) sm[layer.vec + u] = w[layer.vectors + u];
    for (int p = 0; p < N_RECURRENT; ++p) {
        const Block b = recurrent_block(p);
        const Kept kept = kept_of(p, layer, n, chip);
        const int width = b.width * n;
        for (int r = 0; r < n; ++r)
            for (int c = thread(); c < width; c += THREADS)
                keep(kept, n, chip, sm, g, r, c, w[layer.recurrent + b.start * n * n + r * width + c]);
    }
}
