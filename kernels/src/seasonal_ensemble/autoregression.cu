// Autoregressions, plain, faded or by least absolute deviations, and of differences, as ridge.rs, weighted.rs and cpu.rs of the
// CPU twin have them. Gram entries are summed row by row here, and as differences of running sums or in tiles there.

#define RESIDUAL_MIN 0.25

// Weighs a lane's rows by their residuals: the larger, the less. Returns the sum of the weights.
__device__ double weigh(const Task& s, const Work& work, int lane, const double* solution, double* weights) {
    const int thread = threadIdx.x % WARP, end = (int)s.ends[lane];
    for (int t = s.p + thread; t < end; t += WARP) {
        double residual = s.z[t] - solution[s.k];
        for (int i = 0; i < s.k; i++) residual -= solution[i] * s.z[t - (int)s.lags[i]];
        weights[t] = fabs(residual);
    }
    __syncwarp();
    const auto magnitude = [&](int row) { return weights[s.p + row]; };
    unsigned* counts = work.counts + DIGITS * lane;
    const double floor = ranked(magnitude, end - s.p, (end - s.p) / 2, counts, thread, WARP) + 1e-9;
    double sum = 0.0;
    for (int t = s.p + thread; t < end; t += WARP)
        sum += weights[t] = work.fade[t] * floor / fmax(weights[t], RESIDUAL_MIN * floor);
    sum = warp_sum(sum);
    __syncwarp();
    return sum;
}

// Fits and rolls out the history of `s`.
__device__ void autoregression(const Task& s, const Work& work, bool absolute) {
    fade_rows(s, work);
    const double* ones = work.fade + work.longest;
    plain_systems(s, work, s.z, ones);
    const int lane = threadIdx.x / WARP;
    if (!absolute) return solve_and_roll(s, work, s.z, ones, lane);
    double *solution = work.solutions + lane * UNKNOWNS_MAX, *weights = work.rows + lane * work.longest;
    double rows, each;
    penalty_of(s, work, s.z, lane, &rows, &each);
    solve(s, work, lane, rows * each, rows, solution);
    rows = weigh(s, work, lane, solution, weights);
    lane_system(s, work, s.z, lane, weights);
    solve(s, work, lane, rows * each, rows, solution);
    roll(s, s.z, ones, lane, solution);
}

// The same of the differences to the season `s.main` before, added up again. The ends of `s` are those of the differences.
__device__ void difference(const Task& s, const Work& work) {
    Task changes = s;
    changes.z = work.own;
    changes.n = s.n - s.main;
    for (int t = threadIdx.x; t < changes.n; t += THREADS) work.own[t] = s.z[t + s.main] - s.z[t];
    __syncthreads();
    autoregression(changes, work, false);
    const int lane = threadIdx.x / WARP, end = (int)s.ends[lane];
    // Each thread goes on with places of the season that are its own.
    for (int place = threadIdx.x % WARP; place < s.main; place += WARP) {
        double before = s.z[end + place];
        for (int step = place; step < s.horizon; step += s.main)
            before = s.steps[step * LANES + lane] += before;
    }
}
