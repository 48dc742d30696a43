// Which unit, and which share of its sums, is this thread's in recurrent products: `unit` is n where it has none. Sums are
// over all units, over the rows of matrices that are in shared memory, and over those that are not.
struct Shares {
    int shares, share, unit;
    int all_from, all_to, chip_from, chip_to, far_from, far_to;
};

DEVICE Shares shares_of(int n, int chip) {
    Shares s = {1, 0, thread()};
    if (n < THREADS) {
        s.shares = THREADS / n;
        s.share = thread() / n;
        s.unit = s.share < s.shares ? thread() % n : n;
    }
    const int all = (n + s.shares - 1) / s.shares, near = (chip + s.shares - 1) / s.shares;
    const int far = (n - chip + s.shares - 1) / s.shares;
    s.all_from = smaller(n, s.share * all);
    s.all_to = smaller(n, (s.share + 1) * all);
    s.chip_from = smaller(chip, s.share * near);
    s.chip_to = smaller(chip, (s.share + 1) * near);
    s.far_from = smaller(n, chip + s.share * far);
    s.far_to = smaller(n, chip + (s.share + 1) * far);
    return s;
}
