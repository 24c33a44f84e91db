// A faded profile of the seasons and an autoregression on what is left, as profile.rs of the CPU twin has it. The running sums
// are those of 32 stretches put together.

// running[t] = z[0] + … + z[t - 1], by the first warp.
__device__ void running_sums(const double* z, int n, double* running) {
    const int thread = threadIdx.x;
    if (thread < WARP) {
        const int stretch = (n + WARP - 1) / WARP;
        const int from = thread * stretch < n ? thread * stretch : n, to = from + stretch < n ? from + stretch : n;
        double own = 0.0, before = 0.0;
        for (int t = from; t < to; t++) own += z[t];
        for (int source = 0; source < WARP; source++) {
            const double sum = __shfl_sync(ALL, own, source);
            if (source < thread) before += sum;
        }
        if (thread == 0) running[0] = 0.0;
        for (int t = from; t < to; t++) running[t + 1] = before += z[t];
    }
    __syncthreads();
}

// The level of a lane of `n` values at t: the mean of the whole main seasons in a window around it.
__device__ double level_of(const double* running, int n, int m, int window, int t) {
    int from = t < window / 2 ? 0 : t - window / 2, to = t + (window + 1) / 2;
    to = to < n ? to : n;
    int length = (to - from) / m * m;
    length = length < m ? m : length;
    if (from == 0)
        to = length;
    else
        from = to - length;
    return (running[to] - running[from]) / (to - from);
}

// The mean of each place in the season, by a warp: whole seasons from the end, each weighing `fade` of the one after it.
__device__ void faded(const double* values, int n, int season, double fade, double* profile) {
    for (int place = threadIdx.x % WARP; place < season; place += WARP) {
        double weight = 1.0, total = 0.0, sum = 0.0;
        for (int from = n - season; from >= 0; from -= season) {
            sum += weight * values[from + place];
            total += weight;
            weight *= fade;
        }
        profile[place] = sum / total;
    }
    __syncwarp();
}

// What the profile leaves of a lane, by its warp; where the profile stands.
__device__ const double* profile_of(const Task& s, const double* running, int end, double* rest, double* profiles) {
    const int thread = threadIdx.x % WARP, m = s.main, period = s.outer > 0 ? s.outer : m;
    for (int t = thread; t < end; t += WARP) rest[t] = s.z[t] - level_of(running, end, m, period, t);
    __syncwarp();
    faded(rest, end, m, s.main_fade, profiles);
    double* profile = profiles;
    if (s.outer > 0) {
        profile += m;
        faded(rest, end, s.outer, s.outer_fade, profile);
        // Both end at the series' end: the main season's places are counted from there.
        for (int i = thread; i < s.outer; i += WARP)
            profile[i] = s.outer_share * profile[i] + (1.0 - s.outer_share) * profiles[m - 1 - (s.outer - 1 - i) % m];
        __syncwarp();
    }
    for (int t = thread; t < end; t += WARP) rest[t] = s.z[t] - profile[period - 1 - (end - 1 - t) % period];
    __syncwarp();
    return profile;
}

__device__ void profiled(const Task& s, const Work& work) {
    const int lane = threadIdx.x / WARP, thread = threadIdx.x % WARP, period = s.outer > 0 ? s.outer : s.main;
    double* running = work.own + LANES * (s.main + s.outer);
    fade_rows(s, work);
    running_sums(s.z, s.n, running);
    double* rest = work.rows + lane * work.longest;
    const double* profile = profile_of(s, running, (int)s.ends[lane], rest, work.own + lane * (s.main + s.outer));
    lane_system(s, work, rest, lane, work.fade);
    solve_and_roll(s, work, rest, work.fade + work.longest, lane);
    for (int step = thread; step < s.horizon; step += WARP) s.steps[step * LANES + lane] += profile[step % period];
}
