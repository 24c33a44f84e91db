// Ridge normal equations of one member, as normal.rs of the CPU twin has them: what a task is, a system's columns, its solution,
// and the roll-out. Warp w owns lane w.

#define WARP 32
#define LANES 12
#define THREADS (LANES * WARP)
#define LAGS_MAX 49
#define UNKNOWNS_MAX 64
#define REACH 8.0
#define PIVOT_MIN 1e-9
#define ALL 0xffffffffu

// One member of one series: see `task_of`.
struct Task {
    const double* bounds;                  // the range that each lane's forecasts are held in
    const double* z;                       // the history, standardised
    const long long *lags, *ends, *order;  // lanes in order of their ends
    double* steps;
    double ridge, ridge_others, decay, main_fade, outer_fade, outer_share, centre, spread, offset;
    int kind, transform, series, n, k, others, p, main, outer, seasons, horizon;
};

// What a block works in: systems, factors and solutions of all lanes, how much a row fades, a number for every row of every
// lane, room that each kind of member divides for itself, and digits' counts of all lanes.
struct Work {
    double *system, *factor, *solutions, *fade, *rows, *own;
    unsigned* counts;
    const double* sets;
    long long entries, longest;
    int sets_two, sets_one;
};

// A column of a regression: its value in row t is at[shift + t * stride].
struct Column {
    const double* at;
    long long shift, stride;
};

__device__ int triangle(int row, int column) { return row * (row + 1) / 2 + column; }

__device__ double clamp(double v, double low, double high) { return v < low ? low : v > high ? high : v; }

// A number within the range of a lane.
__device__ double bounded(const double* bounds, double v, int lane) {
    return clamp(v, bounds[2 * lane], bounds[2 * lane + 1]);
}

// A number to a positive power, by squaring.
__device__ double power(double base, int exponent) {
    double result = 1.0;
    for (;; base *= base) {
        if (exponent % 2) result *= base;
        exponent /= 2;
        if (exponent == 0) return result;
    }
}

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

// A column of the regression of `z`: the lags, the other columns, which lie row by row in `others`, the target.
__device__ Column column_of(const Task& s, const double* z, const double* others, int column) {
    if (column < s.k) return {z, -s.lags[column], 1};
    if (column < s.k + s.others) return {others + (column - s.k), 0, s.others == 1 ? 0 : s.others};
    return {z, 0, 1};
}

__device__ double value_of(const Column& column, int t) { return column.at[column.shift + t * column.stride]; }

// Fills the rows' weights, and with them a column of ones for an intercept.
__device__ void fade_rows(const Task& s, const Work& work) {
    for (int t = threadIdx.x; t < s.n; t += THREADS) work.fade[t] = s.decay == 0.0 ? 1.0 : exp(-s.decay * (s.n - t));
    if (threadIdx.x == 0) work.fade[work.longest] = 1.0;
    __syncthreads();
}

// The systems of all lanes, whose rows weigh alike: every entry is summed once and read at each lane's end.
__device__ void plain_systems(const Task& s, const Work& work, const double* z, const double* others) {
    const int unknowns = s.k + s.others;
    for (int entry = threadIdx.x; entry < triangle(unknowns, unknowns); entry += THREADS) {
        int row, column, from = s.p;
        place_of(entry, &row, &column);
        const Column a = column_of(s, z, others, row), b = column_of(s, z, others, column);
        double sum = 0.0;
        for (int i = 0; i < LANES; i++) {
            const int lane = (int)s.order[i], end = (int)s.ends[lane];
            for (int t = from; t < end; t++) sum += work.fade[t] * value_of(a, t) * value_of(b, t);
            from = end > from ? end : from;
            work.system[lane * work.entries + entry] = sum;
        }
    }
    __syncthreads();
}

// The system of one lane with a history or weights of its own, by its warp.
__device__ void lane_system(const Task& s, const Work& work, const double* z, int lane, const double* weights) {
    const double* ones = work.fade + work.longest;
    for (int entry = threadIdx.x % WARP; entry < triangle(s.k + 1, s.k + 1); entry += WARP) {
        int row, column;
        place_of(entry, &row, &column);
        const Column a = column_of(s, z, ones, row), b = column_of(s, z, ones, column);
        double sum = 0.0;
        for (int t = s.p; t < s.ends[lane]; t++) sum += weights[t] * value_of(a, t) * value_of(b, t);
        work.system[lane * work.entries + entry] = sum;
    }
    __syncwarp();
}

// The weight of a lane's rows, and what a ridge of 1 adds to a lag's diagonal entry for each of them.
__device__ void penalty_of(const Task& s, const Work& work, const double* z, int lane, double* rows, double* each) {
    double count = 0.0, sum = 0.0, squares = 0.0, fitted = 0.0;
    for (int t = threadIdx.x % WARP; t < s.ends[lane]; t += WARP) {
        const double fade = work.fade[t];
        count += fade;
        sum += fade * z[t];
        squares += fade * z[t] * z[t];
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
    const int thread = threadIdx.x % WARP, unknowns = s.k + s.others;
    for (int entry = thread; entry < triangle(unknowns, unknowns); entry += WARP) factor[entry] = system[entry];
    __syncwarp();
    for (int row = thread; row < unknowns; row += WARP)
        factor[triangle(row, row)] += row < s.k ? s.ridge * penalty : s.ridge_others * rows;
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

// Rolls one lane forward by its warp, each forecast feeding the next; `others` as in `column_of`, from time 0 on.
__device__ void roll(const Task& s, const double* z, const double* others, int lane, const double* solution) {
    __shared__ double terms[LANES][UNKNOWNS_MAX];
    const int thread = threadIdx.x % WARP, end = (int)s.ends[lane], unknowns = s.k + s.others;
    for (int step = 0; step < s.horizon; step++) {
        for (int i = thread; i < s.k; i += WARP) {
            const int lag = (int)s.lags[i];
            terms[lane][i] = solution[i] * (step < lag ? z[end + step - lag] : s.steps[(step - lag) * LANES + lane]);
        }
        for (int i = s.k + thread; i < unknowns; i += WARP)
            terms[lane][i] = solution[i] * value_of(column_of(s, z, others, i), end + step);
        __syncwarp();
        if (thread == 0) {
            double next = 0.0, other = 0.0;
            for (int i = 0; i < s.k; i++) next += terms[lane][i];
            for (int i = s.k; i < unknowns; i++) other += terms[lane][i];
            s.steps[step * LANES + lane] = clamp(next + other, -REACH, REACH);
        }
        __syncwarp();
    }
}

// Solves the system of one lane, its rows weighing as they fade, and rolls it out, by its warp.
__device__ void solve_and_roll(const Task& s, const Work& work, const double* z, const double* others, int lane) {
    double* solution = work.solutions + lane * UNKNOWNS_MAX;
    double rows, each;
    penalty_of(s, work, z, lane, &rows, &each);
    solve(s, work, lane, rows * each, rows, solution);
    roll(s, z, others, lane, solution);
}
