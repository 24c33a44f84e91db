// The CUDA twin of the ensemble's fitted members: one block fits one member of one series and rolls it out. Warp w owns lane w:
// the forecast (0) or a rolling origin. The algebra follows the CPU twin's; Gram entries, the sums behind penalties and the
// running sums of a profile are summed in another order, and exp, sin and cos may round differently.
//
// z: all histories, standardised. tasks: TASK_WORDS integers each, see `task_of`. reals: TASK_REALS of each task. sets: the
// parameter sets of smoothing, of two seasons and then of one. sizes: tasks, horizon, values of the longest history, entries
// of the largest system, sets of two seasons and of one, numbers of scratch space for each block: 2 · LANES · entries, then
// the longest history and one more, then LANES times the longest, then what the kinds divide. steps: tasks × horizon × LANES.

#define TASK_WORDS (8 + LAGS_MAX + 2 * LANES)
#define TASK_REALS 6

// A task from its words: its kind, where its history starts and how long it is, how many lags and other columns it has, its
// seasons; the lags, ascending; the lanes' ends; the lanes in order of their ends.
__device__ Task task_of(const double* z, const long long* words, const double* reals, int horizon, double* steps) {
    Task s;
    s.kind = (int)words[0];
    s.z = z + words[1];
    s.n = (int)words[2];
    s.k = (int)words[3];
    s.others = (int)words[4];
    s.main = (int)words[5];
    s.outer = (int)words[6];
    s.seasons = (int)words[7];
    s.lags = words + 8;
    s.ends = s.lags + LAGS_MAX;
    s.order = s.ends + LANES;
    s.p = s.k > 0 ? (int)s.lags[s.k - 1] : 0;
    s.ridge = reals[0];
    s.ridge_others = reals[1];
    s.decay = reals[2];
    s.main_fade = reals[3];
    s.outer_fade = reals[4];
    s.outer_share = reals[5];
    s.horizon = horizon;
    s.steps = steps;
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
}

extern "C" __global__ void __launch_bounds__(THREADS)
    seasonal_ensemble(const double* z, const long long* tasks, const double* reals, const double* sets,
                      const long long* sizes, double* scratch, double* steps) {
    __shared__ double solutions[LANES * UNKNOWNS_MAX];
    const long long horizon = sizes[1];
    Work work;
    work.solutions = solutions;
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
        double* own = steps + i * horizon * LANES;
        forecast(task_of(z, tasks + i * TASK_WORDS, reals + i * TASK_REALS, (int)horizon, own), work);
    }
}
