// All layers backward, then the norm of all gradients together, then the update of all layers by gradients scaled down to
// its bound. Gradients of matrices are computed twice, for there is no memory for them.

DEVICE double square(real value) { return double(value) * double(value); }

// A layer backward; returns this thread's part of the sum of the squares of its gradients.
DEVICE double layer_backward(const Job &job, const Layer &layer, int n_steps, Pointer<real> sm, Pointer<real> g) {
    const int n = job.n_units;
    double squares = 0;
    output_adjoint(job, layer, n_steps, sm, g);
    backward(layer, n, job.chip, job.work, n_steps, sm, g, g);
    for (int u = thread(); u < N_VECTORS * n; u += THREADS) {
        real gradient = sm[job.work + VECTOR_GRADIENTS * n + u];
        if (whole(layer, layer.vectors + u, false, g, gradient)) {
            g[layer.vgrad + u] = gradient;
            squares += square(gradient);
        }
    }
    barrier();  // the gradients of vectors have been kept; the work area is free
    if (layer.d_hears >= 0) input_adjoint(job, layer, n_steps, sm, g);
    each_gradient(job, layer, n_steps, false, sm, g,
                  [&](const Matrix &, int, int, real gradient) { squares += square(gradient); });
    return squares;
}

DEVICE void train(const Pass &pass, const Job &job, const Layer *layers, const Sequence &sequence, Pointer<real> sm,
                  Pointer<real> g) {
    const int n = job.n_units, n_steps = sequence.n_steps;
    double squares = 0;
#pragma unroll 1
    for (int l = job.n_layers - 1; l >= 0; --l) squares += layer_backward(job, layers[l], n_steps, sm, g);
    for (int c = thread(); c < job.n_outputs; c += THREADS) squares += square(bias_gradient(job, n_steps, c, g));
    sm[job.work + thread()] = real(squares);
    barrier();  // every thread's part is there
    squares = 0;
    for (int u = 0; u < THREADS; ++u) squares += double(sm[job.work + u]);
    barrier();  // they have been added up; the work area is free
    Rule rule = rule_of(pass.shared, sequence.rule);
    scale_down(rule, sqrt(squares));
#pragma unroll 1
    for (int l = 0; l < job.n_layers; ++l) {
        const Layer &layer = layers[l];
        for (int u = thread(); u < N_VECTORS * n && (layer.turn == ALONE || layer.turn == LAST); u += THREADS)
            sm[layer.vec + u] = update(g, layer.vectors + u, job.n_parameters, g[layer.vgrad + u], rule);
        update_matrices(job, layer, rule, n_steps, true, sm, g);
    }
    for (int c = thread(); c < job.n_outputs; c += THREADS)
        update(g, job.bias + c, job.n_parameters, bias_gradient(job, n_steps, c, g), rule);
}
