// One block models one series; warp w owns lane w: the forecast (0) or a rolling origin. The algebra follows ridge.rs
// and cpu.rs step by step. Gram entries are summed row by row here, and as differences of running sums there; sums over
// a whole series are taken as trees here, and in order there. That, exp and log are all that may round differently.

#define WARP 32
#define LANES 12
#define THREADS (LANES * WARP)
#define LAGS_MAX 31
#define ENTRIES ((LAGS_MAX + 1) * (LAGS_MAX + 2) / 2)
#define RIDGES 2
#define LEVELS 3
#define MEMBERS_MAX (3 * RIDGES + 1 + LEVELS)
#define RIDGE_INTERCEPT 1e-6
#define REACH 8.0
#define PIVOT_MIN 1e-9
#define LEAST 0.05
#define ALL 0xffffffffu

// The integers that describe one series.
#define SHAPE_WORDS (8 + LAGS_MAX + LANES)

struct Shape {
    const double* values;  // n of them
    const double* levels;  // LEVELS for each lane
    const long long *lags, *cuts;
    double* rolled;
    int n, season, k, p, lanes, steps, transforms, horizon;
};

// What a block works in.
struct Work {
    double *z, *system, *factor, *forecasts;
};

__device__ int triangle(int row, int column) { return row * (row + 1) / 2 + column; }

__device__ double clamp(double v, double low, double high) { return v < low ? low : v > high ? high : v; }

__device__ int end_of(const Shape& s, int lane) { return s.n - (int)s.cuts[lane]; }

__device__ double forward(double v, int transform) { return transform == 0 ? v : transform == 1 ? sqrt(v) : log(v); }

__device__ double backward(double v, int transform) {
    if (transform == 0) return v;
    if (transform == 1) return fmax(v, 0.0) * fmax(v, 0.0);
    return exp(v);
}

__device__ double warp_sum(double v) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) v += __shfl_xor_sync(ALL, v, lanes);
    return v;
}

// The sum over all threads of the block, in every thread.
__device__ double block_sum(double v) {
    __shared__ double partial[LANES];
    v = warp_sum(v);
    __syncthreads();
    if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP] = v;
    __syncthreads();
    double sum = 0.0;
    for (int warp = 0; warp < LANES; warp++) sum += partial[warp];
    return sum;
}

// Writes the transformed, centred and scaled values to z.
__device__ void standardise(const Shape& s, const Work& work, int transform, double* centre, double* spread) {
    double sum = 0.0, squares = 0.0;
    for (int t = threadIdx.x; t < s.n; t += THREADS) sum += work.z[t] = forward(s.values[t], transform);
    *centre = block_sum(sum) / s.n;
    for (int t = threadIdx.x; t < s.n; t += THREADS) squares += (work.z[t] - *centre) * (work.z[t] - *centre);
    *spread = fmax(sqrt(block_sum(squares) / s.n), 1e-9);
    for (int t = threadIdx.x; t < s.n; t += THREADS) work.z[t] = (work.z[t] - *centre) / *spread;
    __syncthreads();
}

// One entry of the normal equations, of every lane: lags, then the intercept, then the right-hand side as the last row.
__device__ void gram_entry(const Shape& s, const Work& work, int entry) {
    int row = 0;
    while (triangle(row + 1, 0) <= entry) row++;
    int column = entry - triangle(row, 0);
    int row_lag = row < s.k ? (int)s.lags[row] : 0, column_lag = column < s.k ? (int)s.lags[column] : 0;
    double sum = 0.0;
    int t = s.p;
    for (int lane = s.lanes - 1; lane >= 0; lane--) {
        for (int end = end_of(s, lane); t < end; t++) {
            double a = row == s.k ? 1.0 : work.z[t - row_lag], b = column == s.k ? 1.0 : work.z[t - column_lag];
            sum += a * b;
        }
        work.system[lane * ENTRIES + entry] = sum;
    }
}

// The penalty of this warp's lane for a ridge of 1: its variance times its rows.
__device__ double penalty_of(const Shape& s, const Work& work, int lane) {
    double sum = 0.0, squares = 0.0;
    int end = end_of(s, lane);
    for (int t = threadIdx.x % WARP; t < end; t += WARP) {
        sum += work.z[t];
        squares += work.z[t] * work.z[t];
    }
    double mean = warp_sum(sum) / end, square = warp_sum(squares) / end;
    return (end - s.p) * fmax(square - mean * mean, 1e-6);
}

// Solves the equations of one lane by its warp; returns to each thread the weight of the unknown of its number.
__device__ double solve(const Shape& s, const double* system, double* factor, double ridge, double penalty, int rows) {
    int thread = threadIdx.x % WARP, unknowns = s.k + 1;
    for (int entry = thread; entry < triangle(unknowns, unknowns); entry += WARP) factor[entry] = system[entry];
    __syncwarp();
    if (thread < s.k) factor[triangle(thread, thread)] += ridge * penalty;
    if (thread == s.k) factor[triangle(thread, thread)] += RIDGE_INTERCEPT * rows;
    __syncwarp();
    for (int column = 0; column < unknowns; column++) {
        double inverse = 0.0;
        for (int first = column; first <= unknowns; first += WARP) {
            int row = first + thread;
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
    double weight = thread < unknowns ? factor[triangle(unknowns, thread)] : 0.0;
    for (int row = unknowns - 1; row >= 0; row--) {
        double solved = __shfl_sync(ALL, weight, row) * factor[triangle(row, row)];
        if (thread < row) weight -= factor[triangle(row, thread)] * solved;
        if (thread == row) weight = solved;
    }
    return weight;
}

// Rolls one lane forward by its warp, each forecast feeding the next; leaves standardised forecasts in `path`.
__device__ void roll(const Shape& s, const Work& work, int lane, double weight, double* path) {
    __shared__ double terms[LANES][WARP];
    int thread = threadIdx.x % WARP, end = end_of(s, lane);
    int lag = thread < s.k ? (int)s.lags[thread] : 0;
    double intercept = __shfl_sync(ALL, weight, s.k);
    for (int step = 0; step < s.horizon; step++) {
        if (thread < s.k) terms[lane][thread] = weight * (step < lag ? work.z[end + step - lag] : path[step - lag]);
        __syncwarp();
        if (thread == 0) {
            double next = 0.0;
            for (int i = 0; i < s.k; i++) next += terms[lane][i];
            path[step] = clamp(next + intercept, -REACH, REACH);
        }
        __syncwarp();
    }
}

// The range that a lane's forecasts are held in.
__device__ void bounds_of(const Shape& s, int lane, double* floor, double* ceiling) {
    double low = s.values[0], high = s.values[0];
    int end = end_of(s, lane);
    for (int t = threadIdx.x % WARP; t < end; t += WARP) {
        low = fmin(low, s.values[t]);
        high = fmax(high, s.values[t]);
    }
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        low = fmin(low, __shfl_xor_sync(ALL, low, lanes));
        high = fmax(high, __shfl_xor_sync(ALL, high, lanes));
    }
    double range = high - low;
    *floor = low >= 0.0 ? fmax(low - range / 4.0, low / 2.0) : low - range / 4.0;
    *ceiling = high + range / 2.0;
}

// One member for every transform and penalty.
__device__ void autoregressions(const Shape& s, const Work& work, const double* ridges) {
    int lane = threadIdx.x / WARP, unknowns = s.k + 1;
    double floor = 0.0, ceiling = 0.0;
    if (lane < s.lanes) bounds_of(s, lane, &floor, &ceiling);
    for (int transform = 0; transform < s.transforms; transform++) {
        double centre, spread;
        standardise(s, work, transform, &centre, &spread);
        for (int e = threadIdx.x; e < triangle(unknowns, unknowns); e += THREADS) gram_entry(s, work, e);
        __syncthreads();
        if (lane < s.lanes) {
            double penalty = penalty_of(s, work, lane);
            for (int ridge = 0; ridge < RIDGES; ridge++) {
                double weight = solve(s, work.system + lane * ENTRIES, work.factor + lane * ENTRIES, ridges[ridge],
                                      penalty, end_of(s, lane) - s.p);
                double* path = work.forecasts + ((long long)(transform * RIDGES + ridge) * LANES + lane) * s.horizon;
                roll(s, work, lane, weight, path);
                for (int step = threadIdx.x % WARP; step < s.horizon; step += WARP)
                    path[step] = clamp(backward(path[step] * spread + centre, transform), floor, ceiling);
                __syncwarp();
            }
        }
        __syncthreads();
    }
}

// The forecast of a member: the autoregressions, then the seasonal naive, then the constant levels.
__device__ double member(const Shape& s, const Work& work, int m, int lane, int step) {
    int fitted = s.transforms * RIDGES;
    if (m < fitted) return work.forecasts[((long long)m * LANES + lane) * s.horizon + step];
    if (m == fitted) return s.values[end_of(s, lane) - s.season + step % s.season];
    return s.levels[lane * LEVELS + m - fitted - 1];
}

// The members' shares, from their absolute and their relative errors at the origins, into `shares`.
__device__ void weigh(const Shape& s, const Work& work, double* shares) {
    __shared__ double errors[LANES][MEMBERS_MAX][2];
    int lane = threadIdx.x / WARP, thread = threadIdx.x % WARP, members = s.transforms * RIDGES + 1 + LEVELS;
    for (int m = 0; lane < s.lanes && m < members; m++) {
        double absolute = 0.0, relative = 0.0;
        for (int step = thread; lane > 0 && step < s.steps; step += WARP) {
            double actual = s.values[end_of(s, lane) + step], forecast = member(s, work, m, lane, step);
            double error = fabs(actual - forecast);
            absolute += error;
            relative += error / fmax(fabs(actual) + fabs(forecast), 1e-9);
        }
        absolute = warp_sum(absolute);
        relative = warp_sum(relative);
        if (thread == 0) {
            errors[lane][m][0] = absolute;
            errors[lane][m][1] = relative;
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double totals[2] = {1e-12, 1e-12}, best = 0.0, all = 0.0;
        for (int m = 0; m < members; m++)
            for (int kind = 0; kind < 2; kind++) {
                for (int w = 2; w < s.lanes; w++) errors[1][m][kind] += errors[w][m][kind];
                totals[kind] += errors[1][m][kind];
            }
        for (int m = 0; m < members; m++) {
            double score = fmax(errors[1][m][0] / totals[0] + errors[1][m][1] / totals[1], 1e-6);
            shares[m] = 1.0 / (score * score * score * score * score * score);
            best = fmax(best, shares[m]);
        }
        for (int m = 0; m < members; m++) all += shares[m] = fmax(shares[m] / best - LEAST, 0.0);
        for (int m = 0; m < members; m++) shares[m] /= all;
    }
    __syncthreads();
}

// Adds up the members: the forecast to `mean`, the origins' forecasts to their rows of `rolled`.
__device__ void combine(const Shape& s, const Work& work, double* mean) {
    __shared__ double shares[MEMBERS_MAX];
    weigh(s, work, shares);
    int members = s.transforms * RIDGES + 1 + LEVELS;
    for (int at = threadIdx.x; at < s.horizon + (s.lanes - 1) * s.steps; at += THREADS) {
        int past = at - s.horizon, lane = past < 0 ? 0 : 1 + past / s.steps, step = past < 0 ? at : past % s.steps;
        double sum = 0.0;
        for (int m = 0; m < members; m++) sum += member(s, work, m, lane, step) * shares[m];
        if (past < 0) mean[step] = sum; else s.rolled[past] = sum;
    }
    __syncthreads();
}

// sizes: series, horizon, longest history. ridges: the RIDGES penalties. scratch: for each block, the longest history
// plus 2 · LANES · ENTRIES plus 3 · RIDGES · LANES · horizon numbers. mean: series × horizon.
extern "C" __global__ void __launch_bounds__(THREADS)
    seasonal_ar(const double* values, const long long* shapes, const double* levels, const double* ridges,
                const long long* sizes, double* scratch, double* mean, double* rolled) {
    long long horizon = sizes[1], longest = sizes[2];
    long long each = longest + 2 * LANES * ENTRIES + 3 * RIDGES * LANES * horizon;
    Work work;
    work.z = scratch + blockIdx.x * each;
    work.system = work.z + longest;
    work.factor = work.system + LANES * ENTRIES;
    work.forecasts = work.factor + LANES * ENTRIES;
    for (long long i = blockIdx.x; i < sizes[0]; i += gridDim.x) {
        const long long* words = shapes + i * SHAPE_WORDS;
        Shape s;
        s.values = values + words[0];
        s.levels = levels + i * LANES * LEVELS;
        s.lags = words + 8;
        s.cuts = words + 8 + LAGS_MAX;
        s.rolled = rolled + words[7];
        s.n = (int)words[1];
        s.season = (int)words[2];
        s.k = (int)words[3];
        s.p = s.k > 0 ? (int)s.lags[s.k - 1] : 0;
        s.lanes = (int)words[4];
        s.steps = (int)words[5];
        s.transforms = (int)words[6];
        s.horizon = (int)horizon;
        autoregressions(s, work, ridges);
        combine(s, work, mean + i * horizon);
    }
}
