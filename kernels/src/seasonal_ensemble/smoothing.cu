// Double-seasonal exponential smoothing on a grid of parameters, as smoothing.rs of the CPU twin has it, in its order of sums, so
// that the same sets are chosen. A thread runs one set over the whole series, some threads two; then each warp runs its lane's.

// A parameter set's state. The seasons' values lie `stride` apart, as those of all sets are kept side by side; the two at
// the present place are held here. Both seasons are two steps or longer, so that the next place is another one.
struct Run {
    double level, error, total, main, outer;
    double *mains, *outers;
    double gain, main_gain, outer_gain, carry;
    int stride;
};

// The state before the first value of set `set`, whose seasons start from the means in `starts`.
__device__ Run start_of(const Task& s, const double* set, const double* starts, double level, double* column, int stride) {
    Run run;
    run.level = level;
    run.error = run.total = 0.0;
    run.mains = column;
    run.outers = column + (long long)s.main * stride;
    run.stride = stride;
    run.main = starts[0];
    run.outer = starts[s.main];
    run.gain = set[0];
    run.main_gain = set[1];
    run.outer_gain = set[2];
    run.carry = set[3];
    return run;
}

// Takes in a value at the places i and j of the seasons; the next places are `next_i` and `next_j`.
__device__ void take(Run& run, double v, double counts, int i, int j, int next_i, int next_j) {
    const double main = run.main, outer = run.outer;
    run.main = run.mains[(long long)next_i * run.stride];
    run.outer = run.outers[(long long)next_j * run.stride];
    const double base = run.level + main + outer, error = v - base - run.carry * run.error;
    run.total += counts * fabs(error);
    run.level += run.gain * error;
    run.mains[(long long)i * run.stride] = main + run.main_gain * error;
    run.outers[(long long)j * run.stride] = outer + run.outer_gain * error;
    run.error = v - base;
}

// Takes in the values of from … to - 1, in a second run too where there are two.
__device__ void go(const Task& s, int from, int to, Run& run, Run& second, bool two) {
    int i = from % s.main, j = from % s.outer;
    for (int t = from; t < to; t++) {
        const int next_i = i + 1 == s.main ? 0 : i + 1, next_j = j + 1 == s.outer ? 0 : j + 1;
        const double counts = t >= s.outer ? 1.0 : 0.0;
        take(run, s.z[t], counts, i, j, next_i, next_j);
        if (two) take(second, s.z[t], counts, i, j, next_i, next_j);
        i = next_i;
        j = next_j;
    }
}

// The means of the main and then of the outer season's places in the first two outer seasons; returns their level.
__device__ double starts_of(const Task& s, double* starts) {
    const int start = 2 * s.outer;
    double level = 0.0;
    for (int t = 0; t < start; t++) level += s.z[t];
    level /= start;
    for (int place = threadIdx.x; place < s.main; place += THREADS) {
        double mean = 0.0;
        for (int t = place; t < start; t += s.main) mean += (s.z[t] - level) / (start / s.main);
        starts[place] = mean;
    }
    __syncthreads();
    for (int place = threadIdx.x; place < s.outer; place += THREADS) {
        double mean = 0.0;
        for (int t = place; t < start; t += s.outer) mean += (s.z[t] - level - starts[t % s.main]) / 2;
        starts[s.main + place] = mean;
    }
    __syncthreads();
    return level;
}

// Runs all sets over the series, and leaves each one's error up to every lane's end in `totals`.
__device__ void judge(const Task& s, const double* sets, int count, const double* starts, double level, double* states,
                      double* totals) {
    const int first = threadIdx.x, second = first + THREADS;
    for (int i = threadIdx.x; i < (s.main + s.outer) * count; i += THREADS) states[i] = starts[i / count];
    __syncthreads();
    if (first < count) {
        Run run = start_of(s, sets + 4 * first, starts, level, states + first, count), other = run;
        if (second < count) other = start_of(s, sets + 4 * second, starts, level, states + second, count);
        int from = 0;
        for (int i = 0; i < LANES; i++) {
            const int lane = (int)s.order[i], end = (int)s.ends[lane];
            go(s, from, end, run, other, second < count);
            from = end;
            totals[lane * count + first] = run.total;
            if (second < count) totals[lane * count + second] = other.total;
        }
    }
    __syncthreads();
}

// The place of the smallest of `count` numbers, the first of equal ones, by a warp.
__device__ int smallest(const double* numbers, int count) {
    int best = 0;
    for (int i = threadIdx.x % WARP; i < count; i += WARP)
        if (numbers[i] < numbers[best]) best = i;
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        const int other = __shfl_xor_sync(ALL, best, lanes);
        if (numbers[other] < numbers[best] || (numbers[other] == numbers[best] && other < best)) best = other;
    }
    return best;
}

__device__ void smoothing(const Task& s, const Work& work) {
    const int lane = threadIdx.x / WARP, thread = threadIdx.x % WARP, end = (int)s.ends[lane];
    const bool two = s.seasons == 2;
    const int count = two ? work.sets_two : work.sets_one, places = s.main + s.outer;
    const double* sets = work.sets + (two ? 0 : 4 * work.sets_two);
    double *starts = work.own, *totals = starts + places, *states = totals + LANES * count;
    const double level = starts_of(s, starts);
    judge(s, sets, count, starts, level, states, totals);
    const double* set = sets + 4 * smallest(totals + lane * count, count);
    // The states of the grid are done with: the lanes' lie there now.
    for (int place = thread; place < places; place += WARP) states[place * LANES + lane] = starts[place];
    __syncwarp();
    Run run = start_of(s, set, starts, level, states + lane, LANES);
    if (thread == 0) go(s, 0, end, run, run, false);
    __syncwarp();
    const double reached = __shfl_sync(ALL, run.level, 0), error = __shfl_sync(ALL, run.error, 0);
    for (int step = thread; step < s.horizon; step += WARP) {
        const double main = run.mains[(end + step) % s.main * LANES], outer = run.outers[(end + step) % s.outer * LANES];
        s.steps[step * LANES + lane] = reached + main + outer + power(run.carry, step + 1) * error;
    }
}
