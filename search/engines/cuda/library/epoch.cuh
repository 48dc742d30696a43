// The kernel of an epoch: one block trains a member, or evaluates it, sequence by sequence, then takes the next.

// A member's parameters, from its vector to the slot or back.
DEVICE void copy_parameters(const Pass &pass, const Job &job, Pointer<real> g, bool store) {
    for (int e = job.first_copy; e < job.first_copy + job.n_copies; ++e) {
        const Copy copy = pass.copies[e];
        for (int r = 0; r < copy.n_rows; ++r)
            for (int c = thread(); c < copy.n_columns; c += THREADS) {
                const int near = copy.target + c * copy.target_stride + r;
                const int64 there = job.vector + copy.source + r * copy.source_stride + c;
                if (store)
                    pass.weights[there] = g[near];
                else
                    g[near] = pass.weights[there];
                for (int k = 0; pass.train && k < N_SLOTS; ++k)
                    if (store)
                        pass.slots[there + k * pass.n_weights] = g[near + (k + 1) * job.n_parameters];
                    else
                        g[near + (k + 1) * job.n_parameters] = pass.slots[there + k * pass.n_weights];
            }
    }
    barrier();  // the parameters are there for all
}

DEVICE void start_layer(const Job &job, const Layer &layer, Pointer<real> sm, Pointer<real> g) {
    const int n = job.n_units;
    load_layer(layer, n, job.chip, sm, g, g);
    // The state before the first step; nothing writes this row again.
    for (int u = thread(); u < N_TAPE * n; u += THREADS) g[layer.tape + u] = 0;
}

// Trains on a sequence, or evaluates it; returns what this thread finds of its loss.
DEVICE double run_sequence(const Pass &pass, const Job &job, const Layer *layers, int taken, const Sequence &sequence,
                           Pointer<real> sm, Pointer<real> g) {
    const int n_steps = sequence.n_steps;
    load_input(pass, job, g, sequence.index, n_steps);
    barrier();  // the input is there for all
#pragma unroll 1
    for (int l = 0; l < job.n_layers; ++l) layer_forward(job, layers[l], n_steps, sm, g);
    const int64 best = int64(taken) * pass.n_total + sequence.first;
    const double loss = loss_of(pass, g, job.logits, job.n_outputs, sequence.index, n_steps, best);
    barrier();  // the derivatives by the logits are there for all
    if (pass.train) train(pass, job, layers, sequence, sm, g);
    return loss;
}

// A member's epoch, from its parameter vector into the slot and back; false if it was told to stop.
DEVICE bool run_member(const Pass &pass, const Job &job, Layer *layers, int taken, Pointer<int> words,
                       Pointer<real> sm, Pointer<real> g) {
    for (int l = thread(); l < job.n_layers; l += THREADS) layers[l] = pass.layers[job.first_layer + l];
    for (int u = thread(); u < N_CONSTANTS * job.n_units; u += THREADS) sm[u] = pass.constants[job.constants + u];
    copy_parameters(pass, job, g, false);
    for (int l = 0; l < job.n_layers; ++l) start_layer(job, layers[l], sm, g);
    double losses = 0;
#pragma unroll 1
    for (int i = 0; i < pass.n_sequences; ++i) {
        // By an atomic, because it sees what the host writes while the kernel runs.
        if (thread() == 0) words[1] = fetch_and_add(pass.control, STOP, 0);
        // And the parameters are where the recurrence reads them, after the start or the last update.
        barrier();  // the stop flag is there for all
        if (words[1]) return false;
        const int at = taken * pass.n_sequences + i, index = pass.orders[at];
        const Sequence sequence = {index, int(pass.lengths[index]), pass.starts[index], int64(at) * N_SHARED};
        losses += run_sequence(pass, job, layers, taken, sequence, sm, g);
    }
    barrier();  // the last update is there for all
    pass.losses[taken * THREADS + thread()] = losses;
    if (pass.train) copy_parameters(pass, job, g, true);
    if (thread() == 0) pass.times[2 * taken + 1] = nanoseconds();
    return true;
}

KERNEL epoch(EPOCH_ARGUMENTS) {
    SHARED(sm);
    SHARED_INTS(words, 2);
    // Not in registers, which products need.
    SHARED_RECORD(Job, job);
    SHARED_RECORDS(Layer, own, MOST_LAYERS);
    const Pass pass = {EPOCH_NAMES};
    const Pointer<real> g = pass.places + int64(block()) * pass.slot_size;
    while (true) {
        if (thread() == 0) {
            const int next = fetch_and_add(pass.control, pass.queue, 1);
            if (next < pass.n_members) {
                job = pass.jobs[next];
                pass.times[2 * next] = nanoseconds();
            }
            words[0] = next;
        }
        barrier();  // the next member is there for all
        const int taken = words[0];
        if (taken >= pass.n_members || !run_member(pass, job, own, taken, words, sm, g)) return;
    }
}
