// The CUDA twin: one block takes one series apart, a thread for each place, pass after pass as parts.rs has them. Running
// sums are taken in stretches here, and in order there: that alone rounds differently.
//
// shapes: for each series where its values start, how many there are, the main and the outer season (0: none). known: 1
// where a value was not filled in. sizes: series, values of the longest, values of all. scratch: for each block, five times
// the longest and one. out: the trends of all series, then main seasons, outer seasons and remainders.

#define THREADS 256
#define SHAPE_WORDS 4
#define ROUNDS 3
#define PASSES 2
#define CYCLES 3
#define TREND_POINTS_MIN 5
#define OUTLIER 6.0
#define ROUNDING 1e-9

struct Shape {
    const double* values;
    const unsigned char* known;
    double *trend, *remainder;
    double* season[2];
    long long length[2];
    long long n;
    int seasons;
};

// What a block works in.
struct Work {
    double *weights, *sums, *masses, *left, *smoothed;
};

__device__ long long least(long long a, long long b) { return a < b ? a : b; }
__device__ long long most(long long a, long long b) { return a > b ? a : b; }

// The running sums of values, times weights where there are any, before each place and after the last.
__device__ void run(const double* values, const double* weights, long long n, double* sums) {
    __shared__ double partial[THREADS];
    const long long each = (n + THREADS - 1) / THREADS, from = least(each * threadIdx.x, n), to = least(from + each, n);
    double own = 0.0;
    for (long long t = from; t < to; t++) own += weights ? values[t] * weights[t] : values[t];
    partial[threadIdx.x] = own;
    __syncthreads();
    for (int step = 1; step < THREADS; step *= 2) {
        const double other = threadIdx.x >= step ? partial[threadIdx.x - step] : 0.0;
        __syncthreads();
        partial[threadIdx.x] += other;
        __syncthreads();
    }
    double sum = threadIdx.x > 0 ? partial[threadIdx.x - 1] : 0.0;
    if (threadIdx.x == 0) sums[0] = 0.0;
    for (long long t = from; t < to; t++) sums[t + 1] = sum += weights ? values[t] * weights[t] : values[t];
    __syncthreads();
}

// The weighted mean of the `window` points around each, or of as many whole `unit`s as there are at the ends; no weights
// are equal ones. `minus` writes the values less that.
__device__ void moving(const double* values, const double* weights, long long n, const Work& work, long long window,
                       long long unit, bool minus, double* out) {
    run(values, weights, n, work.sums);
    if (weights) run(weights, nullptr, n, work.masses);
    for (long long t = threadIdx.x; t < n; t += THREADS) {
        long long from = t - least(t, window / 2), to = least(t + (window + 1) / 2, n);
        const long long length = least(most((to - from) / unit, 1) * unit, n);
        to = from == 0 ? length : most(to, length);
        from = to - length;
        const double mass = weights ? work.masses[to] - work.masses[from] : (double)(to - from);
        const double level = mass > 1e-9 ? (work.sums[to] - work.sums[from]) / mass : values[t];
        out[t] = minus ? values[t] - level : level;
    }
    __syncthreads();
}

// The median of the values at the same place in up to seven cycles.
__device__ double middle(const double* values, long long n, long long length, long long t) {
    double near[2 * CYCLES + 1];
    int count = 0;
    for (long long at = t - least(t / length, CYCLES) * length; at < n && count < 2 * CYCLES + 1; at += length) {
        int place = count++;
        for (; place > 0 && near[place - 1] > values[at]; place--) near[place] = near[place - 1];
        near[place] = values[at];
    }
    return near[count / 2];
}

// The weighted mean of the values at the same place in the cycles around.
__device__ double smooth(const double* values, const double* weights, long long n, long long length, long long t) {
    double sum = 0.0, mass = 0.0;
    for (int distance = 0; distance <= CYCLES; distance++) {
        const double share = (double)distance / (CYCLES + 1), near = 1.0 - share * share * share;
        for (int side = 0; side < (distance > 0 ? 2 : 1); side++) {
            const long long at = side == 0 ? t - distance * length : t + distance * length;
            if (at < 0 || at >= n) continue;
            const double weight = near * near * near * (weights[at] + 1e-9);
            sum += weight * values[at];
            mass += weight;
        }
    }
    return sum / mass;
}

__device__ double seasons_at(const Shape& s, long long t, int without) {
    double sum = 0.0;
    for (int i = 0; i < s.seasons; i++)
        if (i != without) sum += s.season[i][t];
    return sum;
}

__device__ void pass(const Shape& s, const Work& work, bool first) {
    const long long unit = s.seasons > 0 ? s.length[0] : 1;
    const long long window = s.seasons > 0 ? s.length[s.seasons - 1] : most(s.n / 10, TREND_POINTS_MIN) | 1;
    for (long long t = threadIdx.x; t < s.n; t += THREADS) work.left[t] = s.values[t] - seasons_at(s, t, -1);
    __syncthreads();
    moving(work.left, work.weights, s.n, work, window, unit, false, s.trend);
    for (int i = 0; i < s.seasons; i++) {
        for (long long t = threadIdx.x; t < s.n; t += THREADS)
            work.left[t] = s.values[t] - s.trend[t] - seasons_at(s, t, i);
        __syncthreads();
        for (long long t = threadIdx.x; t < s.n; t += THREADS)
            work.smoothed[t] = first ? middle(work.left, s.n, s.length[i], t)
                                     : smooth(work.left, work.weights, s.n, s.length[i], t);
        __syncthreads();
        moving(work.smoothed, nullptr, s.n, work, s.length[i], s.length[i], true, s.season[i]);
    }
    for (long long t = threadIdx.x; t < s.n; t += THREADS)
        s.remainder[t] = s.values[t] - s.trend[t] - seasons_at(s, t, -1);
    __syncthreads();
}

// The magnitude of rank `rank` among the remainders of known values: eight bits of it at a time.
__device__ double ranked(const Shape& s, long long rank) {
    __shared__ unsigned counts[256];
    __shared__ unsigned long long prefix;
    __shared__ long long left;
    if (threadIdx.x == 0) {
        prefix = 0;
        left = rank;
    }
    for (int shift = 56; shift >= 0; shift -= 8) {
        counts[threadIdx.x] = 0;
        __syncthreads();
        for (long long t = threadIdx.x; t < s.n; t += THREADS) {
            const unsigned long long bits = (unsigned long long)__double_as_longlong(fabs(s.remainder[t]));
            const bool matches = shift == 56 || bits >> (shift + 8) == prefix >> (shift + 8);
            if (s.known[t] && matches) atomicAdd(&counts[bits >> shift & 255], 1u);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int digit = 0;
            while (digit < 255 && left >= (long long)counts[digit]) left -= counts[digit++];
            prefix |= (unsigned long long)digit << shift;
        }
        __syncthreads();
    }
    return __longlong_as_double((long long)prefix);
}

// Robustness weights from the remainders of known values.
__device__ void weigh(const Shape& s, const Work& work, long long known) {
    const double median = ranked(s, known / 2);
    for (long long t = threadIdx.x; t < s.n; t += THREADS) {
        const double share = median > ROUNDING ? fmin(fabs(s.remainder[t]) / (OUTLIER * median), 1.0) : 0.0;
        work.weights[t] = (1.0 - share * share) * (1.0 - share * share);
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS)
    seasonal_trend(const double* values, const unsigned char* known, const long long* shapes, const long long* sizes,
                   double* scratch, double* out) {
    const long long each = sizes[1] + 1, all = sizes[2];
    double* own = scratch + blockIdx.x * 5 * each;
    const Work work = {own, own + each, own + 2 * each, own + 3 * each, own + 4 * each};
    for (long long i = blockIdx.x; i < sizes[0]; i += gridDim.x) {
        const long long* words = shapes + i * SHAPE_WORDS;
        Shape s;
        s.values = values + words[0];
        s.known = known + words[0];
        s.trend = out + words[0];
        s.season[0] = out + all + words[0];
        s.season[1] = out + 2 * all + words[0];
        s.remainder = out + 3 * all + words[0];
        s.n = words[1];
        s.length[0] = words[2];
        s.length[1] = words[3];
        s.seasons = words[3] > 0 ? 2 : words[2] > 0 ? 1 : 0;
        long long count = 0;
        for (long long t = 0; t < s.n; t++) count += s.known[t];
        for (long long t = threadIdx.x; t < s.n; t += THREADS) {
            work.weights[t] = 1.0;
            s.season[0][t] = s.season[1][t] = 0.0;
        }
        __syncthreads();
        for (int round = 0; round < ROUNDS; round++) {
            if (round > 0) {
                weigh(s, work, count);
                // What an outlier left in one season would keep it in the other.
                for (long long t = threadIdx.x; t < s.n; t += THREADS) s.season[0][t] = s.season[1][t] = 0.0;
                __syncthreads();
            }
            for (int again = 0; again < PASSES; again++) pass(s, work, round == 0);
        }
    }
}
