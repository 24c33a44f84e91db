// The CUDA twin of the ensemble: one block fits one member of one series and rolls it out. Warp w owns lane w: the forecast (0)
// or a rolling origin. The block that finishes a series' last member weighs its members and adds them up. The algebra
// follows the CPU twin's; mod.rs says what is summed in another order.
//
// z: all histories, standardised. tasks: TASK_WORDS integers each, see `task_of`. reals: TASK_REALS of each task. sets: the
// parameter sets of smoothing, of two seasons and then of one. series: SERIES_WORDS integers each, see `series_of`. bounds:
// low and high of every lane of each series. fixed: the members that are not fitted, each horizon × LANES. actual: what came
// at the origins' steps. sizes: tasks, horizon, values of the longest history, entries of the largest system, sets of two
// seasons and of one, numbers of scratch space for each block: 2 · LANES · entries, then the longest history and one more,
// then LANES times the longest, then what the kinds divide. done: finished members of each series, 0 at first. fitted: tasks ×
// horizon × LANES. mean: series × horizon. rolled: as long as `actual`.

#define TASK_WORDS (10 + LAGS_MAX + 2 * LANES)
#define TASK_REALS 9
#define SERIES_WORDS 8

// A task from its words: its kind, where its history starts and how long it is, how many lags and other columns it has, its
// seasons, its transform, its series; the lags, ascending; the lanes' ends; the lanes in order of their ends.
__device__ Task task_of(const double* z, const long long* words, const double* reals, const double* bounds) {
    Task s;
    s.kind = (int)words[0];
    s.z = z + words[1];
    s.n = (int)words[2];
    s.k = (int)words[3];
    s.others = (int)words[4];
    s.main = (int)words[5];
    s.outer = (int)words[6];
    s.seasons = (int)words[7];
    s.transform = (int)words[8];
    s.series = (int)words[9];
    s.lags = words + 10;
    s.ends = s.lags + LAGS_MAX;
    s.order = s.ends + LANES;
    s.p = s.k > 0 ? (int)s.lags[s.k - 1] : 0;
    s.ridge = reals[0];
    s.ridge_others = reals[1];
    s.decay = reals[2];
    s.main_fade = reals[3];
    s.outer_fade = reals[4];
    s.outer_share = reals[5];
    s.centre = reals[6];
    s.spread = reals[7];
    s.offset = reals[8];
    s.bounds = bounds + 2 * LANES * s.series;
    return s;
}

// A series from its words: its first task and how many there are, its first fixed member and how many there are, origins and
// their steps, where its values at the origins start, whether medians count.
__device__ Series series_of(const long long* words, const double* fixed, const double* fitted, const double* actual,
                            double* rolled, int horizon) {
    Series s;
    s.each = (long long)horizon * LANES;
    s.fitted = fitted + words[0] * s.each;
    s.fixed = fixed + words[2] * s.each;
    s.unfitted = (int)words[3];
    s.members = s.unfitted + (int)words[1];
    s.origins = (int)words[4];
    s.steps = (int)words[5];
    s.actual = actual + words[6];
    s.rolled = rolled + words[6];
    s.middle = words[7] != 0;
    s.horizon = horizon;
    return s;
}

// The kinds are numbered as in tasks.rs.
__device__ void forecast(const Task& s, const Work& work) {
    switch (s.kind) {
        case 0: autoregression(s, work, false); break;
        case 1: autoregression(s, work, true); break;
        case 2: difference(s, work); break;
        case 3: profiled(s, work); break;
        case 4: fourier(s, work); break;
        case 5: windows(s, work); break;
        default: smoothing(s, work);
    }
    __syncthreads();
    // Back to the units of the series: raw, square root or logarithm.
    for (int i = threadIdx.x; i < s.horizon * LANES; i += THREADS) {
        const double value = s.steps[i] * s.spread + s.centre, root = fmax(value, 0.0);
        const double back =
            s.transform == 0 ? value : s.transform == 1 ? root * root : exp(clamp(value, -50.0, 50.0)) - s.offset;
        s.steps[i] = bounded(s.bounds, back, i % LANES);
    }
    __syncthreads();
}

// Counts a member of the series as finished; whether it was the last, of `members`.
__device__ bool is_last(unsigned* done, long long members) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        // What this block wrote is seen before its count, and what others wrote after theirs.
        __threadfence();
        last = atomicAdd(done, 1u) + 1 == members;
        __threadfence();
    }
    __syncthreads();
    return last;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    seasonal_ensemble(const double* z, const long long* tasks, const double* reals, const double* sets,
                      const long long* series, const double* bounds, const double* fixed, const double* actual,
                      const long long* sizes, double* scratch, unsigned* done, double* fitted, double* mean,
                      double* rolled) {
    __shared__ double solutions[LANES * UNKNOWNS_MAX];
    __shared__ unsigned counts[LANES * DIGITS];
    const int horizon = (int)sizes[1];
    Work work;
    work.solutions = solutions;
    work.counts = counts;
    work.longest = sizes[2];
    work.entries = sizes[3];
    work.sets = sets;
    work.sets_two = (int)sizes[4];
    work.sets_one = (int)sizes[5];
    work.system = scratch + blockIdx.x * sizes[6];
    work.factor = work.system + LANES * work.entries;
    work.fade = work.factor + LANES * work.entries;
    work.rows = work.fade + work.longest + 1;
    work.own = work.rows + LANES * work.longest;
    for (long long i = blockIdx.x; i < sizes[0]; i += gridDim.x) {
        Task task = task_of(z, tasks + i * TASK_WORDS, reals + i * TASK_REALS, bounds);
        task.horizon = horizon;
        task.steps = fitted + i * horizon * LANES;
        forecast(task, work);
        const long long* words = series + task.series * SERIES_WORDS;
        if (!is_last(done + task.series, words[1])) continue;
        Series s = series_of(words, fixed, fitted, actual, rolled, horizon);
        s.bounds = task.bounds;
        s.mean = mean + (long long)task.series * horizon;
        stack(s, work);
    }
}
