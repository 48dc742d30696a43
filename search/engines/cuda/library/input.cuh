// The input of a sequence, with the noise of `search.base.randomness.input_noise`.

struct Random {
    uint32 p[4];
};

// Philox (Salmon et al. 2011) of a counter and a key.
DEVICE Random philox(uint32 p0, uint32 p1, uint32 p2, uint32 p3, uint64 seed) {
    uint32 key0 = uint32(seed), key1 = uint32(seed >> 32);
#pragma unroll
    for (int turn = 0; turn < PHILOX_ROUNDS; ++turn) {
        const uint64 q0 = uint64(PHILOX_MULTIPLIER_0) * p0, q1 = uint64(PHILOX_MULTIPLIER_1) * p2;
        p0 = uint32(q1 >> 32) ^ p1 ^ key0;
        p2 = uint32(q0 >> 32) ^ p3 ^ key1;
        p1 = uint32(q1);
        p3 = uint32(q0);
        key0 += PHILOX_WEYL_0;
        key1 += PHILOX_WEYL_1;
    }
    return {{p0, p1, p2, p3}};
}

DEVICE void load_input(const Pass &pass, const Job &job, Pointer<real> g, int index, int n_steps) {
    const real noise = real(job.noise);
    const int size = n_steps * job.n_inputs;
    const int64 clean = pass.starts[index] * job.n_inputs;
    if (noise == 0 || !pass.train) {
        for (int e = thread(); e < size; e += THREADS) g[job.x + e] = pass.inputs[clean + e];
        return;
    }
    const int blocks = (size + 3) / 4;
    for (int e = thread(); e < blocks; e += THREADS) {
        const Random random = philox(e, index, job.epoch, 0, job.seed);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const real radius = real(int(random.p[i & 2] >> 8) + 1) * real(1.0 / (1 << 24));
            // Of twice the turns, so that no argument is reduced modulo 2 pi.
            const real angle = real(int(random.p[(i & 2) + 1] >> 8)) * real(1.0 / (1 << 23));
            const real length = sqrt(real(-2) * log(radius));
            const int at = e + i * blocks;
            if (at < size) {
                const real wave = length * (i & 1 ? sinpi(angle) : cospi(angle));
                g[job.x + at] = pass.inputs[clean + at] + noise * wave;
            }
        }
    }
}
