// How the members of a series are weighed and added up, as stack.rs and cpu.rs of the CPU twin have it, by the block that
// finished the series' last member.

#define MEMBERS_MAX 40
#define SHARPNESS 10
#define SOFTNESS 4
#define SOFT 0.4
#define SHRINK 6.0
#define ROUNDS 100
#define CAP 0.98
#define BIAS 0.3

// One series: see `series_of`. A member is steps × LANES; what is added up comes back origin by origin.
struct Series {
    const double *fixed, *fitted, *actual, *bounds;
    double *rolled, *mean;
    long long each;
    int unfitted, members, origins, steps, horizon;
    bool middle;
};

// What the shares are found with, for all members.
struct Shares {
    double absolute[MEMBERS_MAX], relative[MEMBERS_MAX], prior[MEMBERS_MAX], soft[MEMBERS_MAX];
    double shares[MEMBERS_MAX], moved[MEMBERS_MAX], sorted[MEMBERS_MAX];
};

__device__ const double* member_of(const Series& s, int i) {
    return i < s.unfitted ? s.fixed + i * s.each : s.fitted + (i - s.unfitted) * s.each;
}

// Where forecast number i of the origins stands in a member.
__device__ int place_in(const Series& s, int i) { return i % s.steps * LANES + i / s.steps + 1; }

// The sums of every member's errors, absolute and relative, each by a warp.
__device__ void sum_errors(const Series& s, Shares& a) {
    for (int i = threadIdx.x / WARP; i < s.members; i += LANES) {
        const double* member = member_of(s, i);
        double absolute = 0.0, relative = 0.0;
        for (int at = threadIdx.x % WARP; at < s.origins * s.steps; at += WARP) {
            const double y = s.actual[at], f = member[place_in(s, at)], error = fabs(y - f);
            absolute += error;
            relative += error / fmax(fabs(y) + fabs(f), 1e-9);
        }
        absolute = warp_sum(absolute);
        relative = warp_sum(relative);
        if (threadIdx.x % WARP == 0) a.absolute[i] = absolute, a.relative[i] = relative;
    }
    __syncthreads();
}

// Shares by score alone, by a warp; the scores are left in `moved`.
__device__ void score(const Series& s, const Work& work, Shares& a) {
    const int thread = threadIdx.x % WARP, half = s.members / 2;
    const auto absolute = [&](int i) { return a.absolute[i]; };
    const auto relative = [&](int i) { return a.relative[i]; };
    const double middle_absolute = ranked(absolute, s.members, half, work.counts, thread, WARP) + 1e-12;
    const double middle_relative = ranked(relative, s.members, half, work.counts, thread, WARP) + 1e-12;
    for (int i = thread; i < s.members; i += WARP)
        a.moved[i] = 0.5 * a.absolute[i] / middle_absolute + 0.5 * a.relative[i] / middle_relative + 1e-3;
    __syncwarp();
    double sharp = 0.0, soft = 0.0;
    for (int i = 0; i < s.members; i++) {
        sharp += 1.0 / power(a.moved[i], SHARPNESS);
        soft += 1.0 / power(a.moved[i], SOFTNESS);
    }
    for (int i = thread; i < s.members; i += WARP) {
        a.shares[i] = a.prior[i] = 1.0 / power(a.moved[i], SHARPNESS) / sharp;
        a.soft[i] = 1.0 / power(a.moved[i], SOFTNESS) / soft;
    }
}

// The products of the members' errors, cut off at `cap`, relative to a member's mean squared error; returns the bound of a
// gradient step.
__device__ double products(const Series& s, double cap, double* gram) {
    for (int entry = threadIdx.x; entry < triangle(s.members, 0); entry += THREADS) {
        int row, column;
        place_of(entry, &row, &column);
        const double *a = member_of(s, row), *b = member_of(s, column);
        double sum = 0.0;
        for (int step = 0; step < s.steps; step++) {
            for (int w = 0; w < s.origins; w++) {
                const double y = s.actual[w * s.steps + step];
                const int at = step * LANES + w + 1;
                sum += clamp(a[at] - y, -cap, cap) * clamp(b[at] - y, -cap, cap);
            }
        }
        gram[row * s.members + column] = gram[column * s.members + row] = sum;
    }
    __syncthreads();
    double mean = 0.0, squares = 0.0;
    for (int i = 0; i < s.members; i++) mean += gram[i * s.members + i];
    mean = mean / s.members + 1e-300;
    __syncthreads();
    for (int i = threadIdx.x; i < s.members * s.members; i += THREADS) gram[i] /= mean;
    __syncthreads();
    for (int i = threadIdx.x % WARP; i < s.members * s.members; i += WARP) squares += gram[i] * gram[i];
    return sqrt(warp_sum(squares)) + SHRINK;
}

// The nearest point to `moved` whose coordinates are non-negative and add up to 1, by a warp, into `shares`.
__device__ void onto_simplex(int members, Shares& a) {
    const int thread = threadIdx.x % WARP;
    for (int i = thread; i < members; i += WARP) {
        int rank = 0;
        for (int j = 0; j < members; j++)
            if (a.moved[j] > a.moved[i] || (a.moved[j] == a.moved[i] && j < i)) rank++;
        a.sorted[rank] = a.moved[i];
    }
    __syncwarp();
    double sum = 0.0, shift = 0.0;
    for (int i = 0; i < members; i++) {
        sum += a.sorted[i];
        const double candidate = (sum - 1.0) / (i + 1);
        if (a.sorted[i] - candidate > 0.0) shift = candidate;
    }
    for (int i = thread; i < members; i += WARP) a.shares[i] = fmax(a.moved[i] - shift, 0.0);
    __syncwarp();
}

// Gradient steps from the prior shares, by a warp; then the softer shares are mixed in.
__device__ void descend(int members, const double* gram, double norm, Shares& a) {
    const int thread = threadIdx.x % WARP;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = thread; i < members; i += WARP) {
            double gradient = 0.0;
            for (int j = 0; j < members; j++) gradient += gram[j * members + i] * a.shares[j];
            gradient += SHRINK * (a.shares[i] - a.prior[i]);
            a.moved[i] = a.shares[i] - gradient / norm;
        }
        __syncwarp();
        onto_simplex(members, a);
    }
    for (int i = thread; i < members; i += WARP) a.shares[i] = (1.0 - SOFT) * a.shares[i] + SOFT * a.soft[i];
}

// The weighted median of the members at a place.
__device__ double median(const Series& s, const double* shares, int place) {
    double sum = 0.0, value = 0.0;
    for (int taken = 0, last = -1; taken < s.members; taken++) {
        // The next in order of values, then of members.
        int next = -1;
        double least = 0.0;
        for (int i = 0; i < s.members; i++) {
            const double v = member_of(s, i)[place];
            const bool after = last < 0 || v > value || (v == value && i > last);
            if (after && (next < 0 || v < least)) next = i, least = v;
        }
        if (next < 0) break;
        last = next;
        value = least;
        sum += shares[next];
        if (sum >= 0.5) break;
    }
    return value;
}

// The members added up by their shares.
__device__ double combined(const Series& s, const double* shares, int place) {
    double mean = 0.0;
    for (int i = 0; i < s.members; i++) mean += member_of(s, i)[place] * shares[i];
    return s.middle ? 0.5 * mean + 0.5 * median(s, shares, place) : mean;
}

__device__ void stack(const Series& s, const Work& work) {
    __shared__ Shares a;
    const int count = s.origins * s.steps, all = s.members * count;
    sum_errors(s, a);
    const auto magnitude = [&](int i) {
        return fabs(member_of(s, i / count)[place_in(s, i % count)] - s.actual[i % count]);
    };
    const double cap = ranked(magnitude, all, (int)((all - 1) * CAP), work.counts, threadIdx.x, THREADS);
    const double norm = products(s, cap, work.own);
    if (threadIdx.x < WARP) {
        score(s, work, a);
        __syncwarp();
        descend(s.members, work.own, norm, a);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += THREADS) s.rolled[i] = combined(s, a.shares, place_in(s, i));
    __syncthreads();
    const auto error = [&](int i) { return s.actual[i] - s.rolled[i]; };
    const double shift = BIAS * ranked(error, count, count / 2, work.counts, threadIdx.x, THREADS);
    for (int i = threadIdx.x; i < count; i += THREADS)
        s.rolled[i] = bounded(s.bounds, s.rolled[i] + shift, i / s.steps + 1);
    for (int step = threadIdx.x; step < s.horizon; step += THREADS)
        s.mean[step] = bounded(s.bounds, combined(s, a.shares, step * LANES) + shift, 0);
    __syncthreads();
}
