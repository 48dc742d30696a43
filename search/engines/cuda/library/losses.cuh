// The losses that are no sums over elements, named as in `search.losses`. Each returns what this thread finds of the
// loss, and replaces the logits g[logits + t * n_outputs + c] by the derivatives.

constexpr double NEVER = -1e300;  // for the logarithm of zero: far below all others, and a sum of a few is finite

// Replaces a row of the logits by the logarithms of its softmax.
DEVICE void log_softmax(Pointer<real> g, int at, int n_outputs) {
    real top = g[at];
    for (int c = 0; c < n_outputs; ++c) {
        const real value = g[at + c];
        top = value > top ? value : top;
    }
    real total = 0;
    for (int c = 0; c < n_outputs; ++c) total += exp(g[at + c] - top);
    top += log(total);
    for (int c = 0; c < n_outputs; ++c) g[at + c] -= top;
}

// log sum exp(a) - a[target], a thread a step.
DEVICE double categorical(const Pass &pass, Pointer<real> g, int logits, int n_outputs, int index, int n_steps) {
    const int64 targets = pass.target_starts[index];
    double loss = 0;
    for (int t = thread(); t < n_steps; t += THREADS) {
        const int at = logits + t * n_outputs, wanted = pass.classes[targets + t];
        log_softmax(g, at, n_outputs);
        if (wanted >= 0) loss -= g[at + wanted];
        for (int c = 0; c < n_outputs; ++c) {
            const real value = exp(real(g[at + c])) - (c == wanted ? real(1) : real(0));
            g[at + c] = wanted >= 0 ? value : real(0);
        }
    }
    return loss;
}

DEVICE double add_logarithms(double a, double b, double c) {
    double top = a > b ? a : b;
    top = c > top ? c : top;
    return top + log(exp(a - top) + exp(b - top) + exp(c - top));
}

// A state of CTC: its label, and whether paths skip the blank before it or after it.
struct State {
    int label;
    bool enters, leaves;
};

DEVICE State state_of(Pointer<const int> classes, int64 at, int s, int n_states, int blank) {
    if (s % 2 == 0) return {blank, false, false};
    const int64 here = at + s / 2;
    const int label = classes[here];
    return {label, s > 1 && classes[here - 1] != label, s + 2 < n_states && classes[here + 1] != label};
}

// -log of the probability of all alignments (Graves et al. 2006, equations 5 to 16), a thread a state.
//
// Logarithms in double precision: of alpha(t, s), the step included, for all steps; of beta(t, s), the step excluded,
// only what the step before needs, which is beta(t, s) with the step included.
DEVICE double ctc(const Pass &pass, Pointer<real> g, int logits, int n_outputs, int index, int n_steps) {
    const int64 classes = pass.target_starts[index];
    const int n_states = 2 * int(pass.target_lengths[index]) + 1, blank = n_outputs - 1;
    for (int t = thread(); t < n_steps; t += THREADS) log_softmax(g, logits + t * n_outputs, n_outputs);
    barrier();  // the logarithms are there for all
    const Pointer<double> alpha = pass.scratch + int64(block()) * pass.scratch_size;
    const Pointer<double> gamma = alpha + n_steps * n_states;
    for (int t = 0; t < n_steps; ++t) {
        for (int s = thread(); s < n_states; s += THREADS) {
            const State state = state_of(pass.classes, classes, s, n_states, blank);
            double paths = s < 2 ? 0.0 : NEVER;
            if (t > 0) {
                const int near = (t - 1) * n_states + s;
                paths = add_logarithms(alpha[near], s > 0 ? double(alpha[near - 1]) : NEVER,
                                       state.enters ? double(alpha[near - 2]) : NEVER);
            }
            alpha[t * n_states + s] = paths + double(g[logits + t * n_outputs + state.label]);
        }
        barrier();  // the step's alphas are there for all
    }
    const int last = n_steps * n_states - 1;
    const double all_paths = add_logarithms(alpha[last], alpha[last - 1], NEVER);
    for (int t = n_steps - 1; t >= 0; --t) {
        // Two rows of beta, in turn, behind the row of gamma.
        const Pointer<double> mine = gamma + n_states * (1 + (t & 1)), after = gamma + n_states * (2 - (t & 1));
        for (int s = thread(); s < n_states; s += THREADS) {
            const State state = state_of(pass.classes, classes, s, n_states, blank);
            double paths = s >= n_states - 2 ? 0.0 : NEVER;
            if (t < n_steps - 1)
                paths = add_logarithms(after[s], s + 1 < n_states ? double(after[s + 1]) : NEVER,
                                       state.leaves ? double(after[s + 2]) : NEVER);
            gamma[s] = exp(alpha[t * n_states + s] + paths - all_paths);
            mine[s] = paths + double(g[logits + t * n_outputs + state.label]);
        }
        barrier();  // the step's gammas are there for all
        for (int c = thread(); c < n_outputs; c += THREADS) {
            const int at = logits + t * n_outputs + c;
            double sum = 0;
            for (int s = c == blank ? 0 : 1; s < n_states; s += 2)
                if (c == blank || pass.classes[classes + s / 2] == c) sum += gamma[s];
            g[at] = exp(real(g[at])) - real(sum);
        }
        barrier();  // gamma has been read by all
    }
    if (thread() > 0) return 0;
    return all_paths > -1e290 ? -all_paths : 1.0 / 0.0;
}

// Writes the largest output of each step, the first of equals.
DEVICE void best_path(const Pass &pass, Pointer<real> g, int logits, int n_outputs, int64 best, int n_steps) {
    for (int t = thread(); t < n_steps; t += THREADS) {
        const int at = logits + t * n_outputs;
        real top = g[at];
        int label = 0;
        for (int c = 0; c < n_outputs; ++c)
            if (g[at + c] > top) {
                top = g[at + c];
                label = c;
            }
        pass.best[best + t] = label;
    }
}
