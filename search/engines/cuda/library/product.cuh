// Matrix products over all steps of a sequence, in tiles: the result in registers, pieces of the operands in shared memory.

constexpr int ACROSS = THREADS / ROWS;  // threads as a grid of ROWS x ACROSS
constexpr int HEIGHT = ROWS * MICRO, WIDTH = ACROSS * MICRO;
constexpr int LEFT_LOADS = HEIGHT * ROWS / THREADS;
// Rows of a piece lie one more than their length apart, so that neither direction meets in one bank.
constexpr int LEFT_ROW = HEIGHT + 1, RIGHT_ROW = WIDTH + 1;
static_assert(THREADS % HEIGHT == 0 && HEIGHT * ROWS % THREADS == 0, "a block divides the left piece evenly");

// Where a product finds a number of an operand: at start + i * along + k * deep, for row (or column) i of the result.
struct Operand {
    int start, along, deep;
};

struct Size {
    int rows, depth, columns;
};

// Adds to a thread's part of a tile the product of two pieces.
DEVICE void add_pieces(Pointer<real> left, Pointer<real> right, real (&s)[MICRO][MICRO]) {
#pragma unroll
    for (int q = 0; q < ROWS; ++q) {
        real a[MICRO], b[MICRO];
#pragma unroll
        for (int i = 0; i < MICRO; ++i) a[i] = left[q * LEFT_ROW + i];
#pragma unroll
        for (int j = 0; j < MICRO; ++j) b[j] = right[q * RIGHT_ROW + j * ACROSS];
#pragma unroll
        for (int i = 0; i < MICRO; ++i)
#pragma unroll
            for (int j = 0; j < MICRO; ++j) s[i][j] += a[i] * b[j];
    }
}

// result(r, c, sum over k of left(r, k) * right(k, c)) for each r and c, always by the same thread.
//
// Neighbouring threads read an operand along k where that is next in memory (..._deep, and its `deep` is 1), else along
// the result. The first thing that is done to `work` is to write it; no thread reads it after its last barrier.
template <bool left_deep, bool right_deep, class Result>
DEVICE void multiply(Pointer<real> work, Pointer<real> g, Operand left, Operand right, Size size, Result result) {
    const int tid = thread(), row = tid / ACROSS, column = tid % ACROSS;
    const int left_r = left_deep ? tid / ROWS : tid % HEIGHT, left_k = left_deep ? tid % ROWS : tid / HEIGHT;
    constexpr int next_r = left_deep ? ACROSS : 0, next_k = left_deep ? 0 : THREADS / HEIGHT;
    const int right_c = right_deep ? tid / ROWS : column, right_k = right_deep ? tid % ROWS : row;
    const int from_left = row * MICRO, from_right = ROWS * LEFT_ROW + column;
    const int to_left = left_k * LEFT_ROW + left_r, to_right = ROWS * LEFT_ROW + right_k * RIGHT_ROW + right_c;
    real u[LEFT_LOADS], v[MICRO], s[MICRO][MICRO];
    const int left_step = next_r * left.along + next_k * left.deep, right_step = ACROSS * right.along;
#pragma unroll 1
    for (int r0 = 0; r0 < size.rows; r0 += HEIGHT) {
#pragma unroll 1
        for (int c0 = 0; c0 < size.columns; c0 += WIDTH) {
#pragma unroll
            for (int i = 0; i < MICRO; ++i)
#pragma unroll
                for (int j = 0; j < MICRO; ++j) s[i][j] = 0;
            int left_at = left.start + (r0 + left_r) * left.along + left_k * left.deep;
            int right_at = right.start + (c0 + right_c) * right.along + right_k * right.deep;
            // While one piece is multiplied, the next is on its way from memory.
#pragma unroll 1
            for (int k0 = -ROWS; k0 < size.depth; k0 += ROWS) {
                if (k0 >= 0) {
#pragma unroll
                    for (int i = 0; i < LEFT_LOADS; ++i) work[to_left + i * (next_k * LEFT_ROW + next_r)] = u[i];
#pragma unroll
                    for (int j = 0; j < MICRO; ++j) work[to_right + j * ACROSS] = v[j];
                    barrier();  // the pieces are whole before they are read
                }
                const int k = k0 + ROWS;
#pragma unroll
                for (int i = 0; i < LEFT_LOADS; ++i) {
                    const bool there = r0 + left_r + i * next_r < size.rows && k + left_k + i * next_k < size.depth;
                    u[i] = there ? real(g[left_at + i * left_step]) : real(0);
                }
#pragma unroll
                for (int j = 0; j < MICRO; ++j) {
                    const bool there = k + right_k < size.depth && c0 + right_c + j * ACROSS < size.columns;
                    v[j] = there ? real(g[right_at + j * right_step]) : real(0);
                }
                left_at += ROWS * left.deep;
                right_at += ROWS * right.deep;
                if (k0 >= 0) {
                    add_pieces(work + from_left, work + from_right, s);
                    barrier();  // they have been read before the next are written
                }
            }
#pragma unroll
            for (int i = 0; i < MICRO; ++i)
#pragma unroll
                for (int j = 0; j < MICRO; ++j) {
                    const int r = r0 + row * MICRO + i, c = c0 + column + j * ACROSS;
                    if (r < size.rows && c < size.columns) result(r, c, s[i][j]);
                }
        }
    }
}
