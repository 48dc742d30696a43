// All layers backward; each is updated as soon as its gradients are known.

DEVICE void layer_backward(const Pass &pass, const Job &job, const Layer &layer, const Sequence &sequence,
                           Pointer<real> sm, Pointer<real> g) {
    const int n = job.n_units, n_steps = sequence.n_steps;
    output_adjoint(job, layer, n_steps, sm, g);
    backward(layer, n, job.chip, job.work, n_steps, sm, g, g);
    const Rule rule = rule_of(pass.shared, sequence.rule);
    for (int u = thread(); u < N_VECTORS * n; u += THREADS) {
        real gradient = sm[job.work + VECTOR_GRADIENTS * n + u];
        if (whole(layer, layer.vectors + u, false, g, gradient))
            sm[layer.vec + u] = update(g, layer.vectors + u, job.n_parameters, gradient, rule);
    }
    barrier();  // the gradients of vectors have been read; the work area is free
    if (layer.d_hears >= 0) input_adjoint(job, layer, n_steps, sm, g);
    update_matrices(job, layer, rule, n_steps, false, sm, g);
}

DEVICE void train(const Pass &pass, const Job &job, const Layer *layers, const Sequence &sequence, Pointer<real> sm,
                  Pointer<real> g) {
#pragma unroll 1
    for (int l = job.n_layers - 1; l >= 0; --l) layer_backward(pass, job, layers[l], sequence, sm, g);
    const Rule rule = rule_of(pass.shared, sequence.rule);
    for (int c = thread(); c < job.n_outputs; c += THREADS)
        update(g, job.bias + c, job.n_parameters, bias_gradient(job, sequence.n_steps, c, g), rule);
}
