// The CUDA twin of the ensemble's autoregressions: one block fits one member of one series, plain, faded or by least
// absolute deviations. Warp w owns lane w: the forecast (0) or a rolling origin. The algebra follows ridge.rs, normal.rs and
// weighted.rs of the CPU twin; Gram entries are summed row by row here, and as differences of running sums or in tiles there.
// That and exp are all that may round differently.
//
// z: all histories, standardised. tasks: TASK_WORDS integers each, see `task_of`. reals: ridge and decay of each task.
// sizes: tasks, horizon, values of the longest history, entries of the largest system. scratch: for each block 2 · LANES ·
// entries, then the longest history once and LANES times. steps: tasks × horizon × LANES.

#define WARP 32
#define LANES 12
#define THREADS (LANES * WARP)
#define LAGS_MAX 49
#define UNKNOWNS_MAX 64
#define TASK_WORDS (4 + LAGS_MAX + 2 * LANES)
#define RIDGE_INTERCEPT 1e-6
#define REACH 8.0
#define PIVOT_MIN 1e-9
#define RESIDUAL_MIN 0.25
#define ALL 0xffffffffu

struct Task {
    const double* z;
    const long long *lags, *ends, *order;  // lanes in order of their ends
    double* steps;
    double ridge, decay;
    int n, k, p, horizon;
    bool absolute;
};

// What a block works in: systems and factors of all lanes, how much a row fades, and every lane's row weights.
struct Work {
    double *system, *factor, *fade, *weights;
    long long entries, longest;
};

__device__ int triangle(int row, int column) { return row * (row + 1) / 2 + column; }

__device__ double clamp(double v, double low, double high) { return v < low ? low : v > high ? high : v; }

__device__ double warp_sum(double v) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) v += __shfl_xor_sync(ALL, v, lanes);
    return v;
}

// Row and column of an entry of the lower triangle.
__device__ void place_of(int entry, int* row, int* column) {
    int r = (int)((sqrt(8.0 * entry + 1.0) - 1.0) / 2.0);
    while (triangle(r, 0) > entry) r--;
    while (triangle(r + 1, 0) <= entry) r++;
    *row = r;
    *column = entry - triangle(r, 0);
}

// The value in a row of a column: the lags, the intercept, the target.
__device__ double value_of(const Task& s, int column, int t) {
    if (column == s.k) return 1.0;
    return s.z[column < s.k ? t - (int)s.lags[column] : t];
}

// The systems of all lanes, whose rows weigh alike: every entry is summed once and read at each lane's end.
__device__ void plain_systems(const Task& s, const Work& work) {
    for (int entry = threadIdx.x; entry < triangle(s.k + 1, s.k + 1); entry += THREADS) {
        int row, column, from = s.p;
        place_of(entry, &row, &column);
        double sum = 0.0;
        for (int i = 0; i < LANES; i++) {
            const int lane = (int)s.order[i], end = (int)s.ends[lane];
            for (int t = from; t < end; t++) sum += work.fade[t] * value_of(s, row, t) * value_of(s, column, t);
            from = end > from ? end : from;
            work.system[lane * work.entries + entry] = sum;
        }
    }
    __syncthreads();
}

// The system of one lane with weights of its own, by its warp.
__device__ void weighted_system(const Task& s, const Work& work, int lane, const double* weights) {
    for (int entry = threadIdx.x % WARP; entry < triangle(s.k + 1, s.k + 1); entry += WARP) {
        int row, column;
        place_of(entry, &row, &column);
        double sum = 0.0;
        for (int t = s.p; t < s.ends[lane]; t++) sum += weights[t] * value_of(s, row, t) * value_of(s, column, t);
        work.system[lane * work.entries + entry] = sum;
    }
    __syncwarp();
}

// The weight of a lane's rows, and what a ridge of 1 adds to a lag's diagonal entry for each of them.
__device__ void penalty_of(const Task& s, const Work& work, int lane, double* rows, double* each) {
    double count = 0.0, sum = 0.0, squares = 0.0, fitted = 0.0;
    for (int t = threadIdx.x % WARP; t < s.ends[lane]; t += WARP) {
        const double fade = work.fade[t];
        count += fade;
        sum += fade * s.z[t];
        squares += fade * s.z[t] * s.z[t];
        if (t >= s.p) fitted += fade;
    }
    count = warp_sum(count);
    const double mean = warp_sum(sum) / count;
    *rows = warp_sum(fitted);
    *each = fmax(warp_sum(squares) / count - mean * mean, 1e-6);
}

// Solves the system of one lane by its warp; leaves the unknowns in `solution`.
__device__ void solve(const Task& s, const Work& work, int lane, double penalty, double rows, double* solution) {
    const double* system = work.system + lane * work.entries;
    double* factor = work.factor + lane * work.entries;
    const int thread = threadIdx.x % WARP, unknowns = s.k + 1;
    for (int entry = thread; entry < triangle(unknowns, unknowns); entry += WARP) factor[entry] = system[entry];
    __syncwarp();
    for (int row = thread; row < unknowns; row += WARP)
        factor[triangle(row, row)] += row < s.k ? s.ridge * penalty : RIDGE_INTERCEPT * rows;
    __syncwarp();
    for (int column = 0; column < unknowns; column++) {
        double inverse = 0.0;
        for (int first = column; first <= unknowns; first += WARP) {
            const int row = first + thread;
            double sum = 0.0;
            if (row <= unknowns) {
                sum = factor[triangle(row, column)];
                for (int i = 0; i < column; i++) sum -= factor[triangle(row, i)] * factor[triangle(column, i)];
            }
            if (first == column) inverse = __shfl_sync(ALL, 1.0 / sqrt(fmax(sum, PIVOT_MIN)), 0);
            if (row <= unknowns) factor[triangle(row, column)] = row == column ? inverse : sum * inverse;
        }
        __syncwarp();
    }
    for (int i = thread; i < unknowns; i += WARP) solution[i] = factor[triangle(unknowns, i)];
    __syncwarp();
    for (int row = unknowns - 1; row >= 0; row--) {
        const double solved = solution[row] * factor[triangle(row, row)];
        __syncwarp();
        for (int i = thread; i < row; i += WARP) solution[i] -= factor[triangle(row, i)] * solved;
        if (thread == 0) solution[row] = solved;
        __syncwarp();
    }
}

// The number of rank `rank` among `count` numbers that are not negative, by their bits, eight at a time.
__device__ double ranked(const double* numbers, int count, int rank) {
    __shared__ unsigned counts[LANES][256];
    unsigned* own = counts[threadIdx.x / WARP];
    const int thread = threadIdx.x % WARP;
    unsigned long long prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        for (int i = thread; i < 256; i += WARP) own[i] = 0;
        __syncwarp();
        for (int i = thread; i < count; i += WARP) {
            const unsigned long long bits = (unsigned long long)__double_as_longlong(numbers[i]);
            if (shift == 56 || bits >> (shift + 8) == prefix >> (shift + 8)) atomicAdd(&own[bits >> shift & 255], 1u);
        }
        __syncwarp();
        // Every thread counts alike, so that all know the digit.
        int digit = 0;
        while (digit < 255 && rank >= (int)own[digit]) rank -= (int)own[digit++];
        prefix |= (unsigned long long)digit << shift;
        __syncwarp();
    }
    return __longlong_as_double((long long)prefix);
}

// Weighs a lane's rows by their residuals: the larger, the less. Returns the sum of the weights.
__device__ double weigh(const Task& s, const Work& work, int lane, const double* solution, double* weights) {
    const int thread = threadIdx.x % WARP, end = (int)s.ends[lane];
    for (int t = s.p + thread; t < end; t += WARP) {
        double residual = s.z[t] - solution[s.k];
        for (int i = 0; i < s.k; i++) residual -= solution[i] * s.z[t - (int)s.lags[i]];
        weights[t] = fabs(residual);
    }
    __syncwarp();
    const double floor = ranked(weights + s.p, end - s.p, (end - s.p) / 2) + 1e-9;
    double sum = 0.0;
    for (int t = s.p + thread; t < end; t += WARP)
        sum += weights[t] = work.fade[t] * floor / fmax(weights[t], RESIDUAL_MIN * floor);
    sum = warp_sum(sum);
    __syncwarp();
    return sum;
}

// Rolls one lane forward by its warp, each forecast feeding the next.
__device__ void roll(const Task& s, int lane, const double* solution) {
    __shared__ double terms[LANES][UNKNOWNS_MAX];
    const int thread = threadIdx.x % WARP, end = (int)s.ends[lane];
    for (int step = 0; step < s.horizon; step++) {
        for (int i = thread; i < s.k; i += WARP) {
            const int lag = (int)s.lags[i];
            terms[lane][i] = solution[i] * (step < lag ? s.z[end + step - lag] : s.steps[(step - lag) * LANES + lane]);
        }
        __syncwarp();
        if (thread == 0) {
            double next = 0.0;
            for (int i = 0; i < s.k; i++) next += terms[lane][i];
            s.steps[step * LANES + lane] = clamp(next + solution[s.k], -REACH, REACH);
        }
        __syncwarp();
    }
}

__device__ void fit(const Task& s, const Work& work) {
    __shared__ double solutions[LANES][UNKNOWNS_MAX];
    for (int t = threadIdx.x; t < s.n; t += THREADS) work.fade[t] = s.decay == 0.0 ? 1.0 : exp(-s.decay * (s.n - t));
    __syncthreads();
    plain_systems(s, work);
    const int lane = threadIdx.x / WARP;
    double rows, each;
    penalty_of(s, work, lane, &rows, &each);
    solve(s, work, lane, rows * each, rows, solutions[lane]);
    if (s.absolute) {
        double* weights = work.weights + lane * work.longest;
        rows = weigh(s, work, lane, solutions[lane], weights);
        weighted_system(s, work, lane, weights);
        solve(s, work, lane, rows * each, rows, solutions[lane]);
    }
    roll(s, lane, solutions[lane]);
    __syncthreads();
}

// A task from its words: where its history starts and how long it is, lags, whether by least absolute deviations; the
// lags, ascending; the lanes' ends; the lanes in order of their ends.
__device__ Task task_of(const double* z, const long long* words, const double* reals, int horizon, double* steps) {
    Task s;
    s.z = z + words[0];
    s.n = (int)words[1];
    s.k = (int)words[2];
    s.absolute = words[3] != 0;
    s.lags = words + 4;
    s.ends = s.lags + LAGS_MAX;
    s.order = s.ends + LANES;
    s.p = (int)s.lags[s.k - 1];
    s.ridge = reals[0];
    s.decay = reals[1];
    s.horizon = horizon;
    s.steps = steps;
    return s;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    seasonal_ensemble(const double* z, const long long* tasks, const double* reals, const long long* sizes,
                      double* scratch, double* steps) {
    const long long horizon = sizes[1], longest = sizes[2], entries = sizes[3];
    double* own = scratch + blockIdx.x * (2 * LANES * entries + (1 + LANES) * longest);
    Work work;
    work.system = own;
    work.factor = own + LANES * entries;
    work.fade = work.factor + LANES * entries;
    work.weights = work.fade + longest;
    work.entries = entries;
    work.longest = longest;
    for (long long i = blockIdx.x; i < sizes[0]; i += gridDim.x)
        fit(task_of(z, tasks + i * TASK_WORDS, reals + 2 * i, (int)horizon, steps + i * horizon * LANES), work);
}
