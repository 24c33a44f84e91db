// Nearest windows, as windows.rs of the CPU twin has it, in its order of sums, so that the same windows are the nearest. A warp
// looks at its lane, each thread at windows of its own.

#define NEIGHBOURS 6
#define EARLIER 0.3

// The mean of the season before `end`.
__device__ double season_mean(const double* z, int end, int m) {
    double sum = 0.0;
    for (int t = end - m; t < end; t++) sum += z[t];
    return sum / m;
}

// The squared distance of count values after `shift`.
__device__ double gap(const double* a, const double* b, int count, double shift) {
    double sum = 0.0;
    for (int i = 0; i < count; i++) sum += (a[i] - b[i] - shift) * (a[i] - b[i] - shift);
    return sum;
}

// The window of the smallest distance after that of window `last` (-1: the smallest of all); of equal ones the first.
__device__ int next_nearest(const double* distances, int count, int last) {
    int best = -1;
    const auto nearer = [&](int a, int b) {
        return b < 0 || distances[a] < distances[b] || (distances[a] == distances[b] && a < b);
    };
    for (int i = threadIdx.x % WARP; i < count; i += WARP)
        if (i != last && (last < 0 || nearer(last, i)) && nearer(i, best)) best = i;
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        const int other = __shfl_xor_sync(ALL, best, lanes);
        if (other >= 0 && nearer(other, best)) best = other;
    }
    return best;
}

__device__ void windows(const Task& s, const Work& work) {
    const int lane = threadIdx.x / WARP, thread = threadIdx.x % WARP, n = (int)s.ends[lane], m = s.main;
    const int length = s.seasons * m, back = (s.horizon + m - 1) / m * m, count = (n - back - length) / m + 1;
    const double mean = season_mean(s.z, n, m);
    double* distances = work.rows + lane * work.longest;
    for (int i = thread; i < count; i += WARP) {
        const int end = n - back - i * m;
        const double shift = mean - season_mean(s.z, end, m);
        const double earlier = gap(s.z + n - length, s.z + end - length, length - m, shift);
        distances[i] = EARLIER * earlier + gap(s.z + n - m, s.z + end - m, m, shift);
    }
    __syncwarp();
    int near[NEIGHBOURS];
    double shares[NEIGHBOURS], shifts[NEIGHBOURS], total = 0.0;
    for (int i = 0; i < NEIGHBOURS; i++) near[i] = next_nearest(distances, count, i > 0 ? near[i - 1] : -1);
    const double farthest = distances[near[NEIGHBOURS - 1]] + 1e-12;
    for (int i = 0; i < NEIGHBOURS; i++) {
        shares[i] = exp(-1.5 * distances[near[i]] / farthest);
        shifts[i] = mean - season_mean(s.z, n - back - near[i] * m, m);
        total += shares[i];
    }
    for (int step = thread; step < s.horizon; step += WARP) {
        double sum = 0.0;
        for (int i = 0; i < NEIGHBOURS; i++)
            sum += shares[i] / total * (s.z[n - back - near[i] * m + step] + shifts[i]);
        s.steps[step * LANES + lane] = sum;
    }
}
