// One block judges one series, point after point: thread 0 does what model.rs does, in the same order; all threads
// search for nearest neighbours. Only exp, log and pow may round differently.

#define FEATURES 25
#define GRAM 22
#define RUN 23
#define GAP 24
#define POOLS_MAX 3
#define WINDOW_POINTS 4
#define MEMORY_POINTS 1024
#define KNOWN_SHARE 0.5
#define FAST_RATE 0.3
#define SLOW_RATE 0.1
#define DAY_PLACES 48
#define WEEK_PLACES 168
#define RATIO_MAX 50.0
#define GATE 1.03
#define HOLD_SHARE 0.4
#define LEAST_SHARE 1e-9
#define KIND_SHARE 0.7
#define STILL_MIN 0.5
#define VALUE_MAX 1e140
#define SMALLEST 2.2250738585072014e-308
#define INFINITE __longlong_as_double(0x7ff0000000000000LL)
#define LEVELS 8.0
#define TABLE 8192
#define ORDERS 4
#define GRAM_FADE 0.9995f
#define RATE_BINS 64
#define RATE_FIRST_BITS ((1023LL - 2) << 3)
#define PRIOR_WARM_UPS 10.0
#define P_MIN 1e-12
#define CALM_POINTS 12
#define THREADS_MAX 64

// Numbers of scratch space of one block for a warm-up: see Batch::scratch.

struct Rolling {
    double* ring;
    int points, next, count;
    double anchor, sum, squares;
};

__device__ void start(Rolling& r, double*& room, int points) {
    r.ring = room;
    room += points;
    r.points = points;
    r.next = r.count = 0;
    r.anchor = r.sum = r.squares = 0.0;
}

__device__ void push(Rolling& r, double value, double& mean, double& deviation) {
    if (r.count == 0) r.anchor = value;
    double distance = value - r.anchor;
    if (r.count < r.points) {
        r.ring[r.count++] = value;
    } else {
        double gone = r.ring[r.next] - r.anchor;
        r.ring[r.next] = value;
        r.sum -= gone;
        r.squares -= gone * gone;
    }
    r.sum += distance;
    r.squares += distance * distance;
    r.next = (r.next + 1) % r.points;
    if (r.next == 0) {
        r.anchor += r.sum / (double)r.count;
        r.sum = r.squares = 0.0;
        for (int i = 0; i < r.count; i++) {
            double d = r.ring[i] - r.anchor;
            r.sum += d;
            r.squares += d * d;
        }
    }
    double m = r.sum / (double)r.count;
    mean = r.anchor + m;
    deviation = sqrt(fmax(r.squares / (double)r.count - m * m, 0.0));
}

// The pooled past: mean and extreme of each pooled point in rings of MEMORY_POINTS.
struct Past {
    double *means, *extremes;
    int pool, filled;
    long long total;
    double sum, low, high, running;
};

__device__ bool push(Past& p, double value) {
    p.filled++;
    p.sum += value;
    p.low = fmin(p.low, value);
    p.high = fmax(p.high, value);
    if (p.filled < p.pool) return false;
    double mean = p.sum / (double)p.pool;
    p.running = p.total == 0 ? mean : 0.5 * (p.running + mean);
    bool is_low = fabs(p.high - p.running) < fabs(p.low - p.running);
    int place = (int)(p.total % MEMORY_POINTS);
    p.means[place] = mean;
    p.extremes[place] = is_low ? p.low : p.high;
    p.total++;
    p.filled = 0;
    p.sum = 0.0;
    p.low = INFINITE;
    p.high = -INFINITE;
    return true;
}

// The smallest squared distance of the newest window from those that one thread looks at.
__device__ double nearest(const Past& p, int thread, int threads) {
    int count = p.total < MEMORY_POINTS ? (int)p.total : MEMORY_POINTS;
    int head = p.total < MEMORY_POINTS ? 0 : (int)(p.total % MEMORY_POINTS);
    double best = INFINITE;
    for (int window = thread; window <= count - 2 * WINDOW_POINTS; window += threads) {
        double sum = 0.0;
        for (int k = 0; k < WINDOW_POINTS; k++) {
            double d = p.means[(head + window + k) % MEMORY_POINTS]
                       - p.means[(head + count - WINDOW_POINTS + k) % MEMORY_POINTS];
            sum += d * d;
        }
        if (p.pool == 1) {
            sum *= 2.0;
        } else {
            for (int k = 0; k < WINDOW_POINTS; k++) {
                double d = p.extremes[(head + window + k) % MEMORY_POINTS]
                           - p.extremes[(head + count - WINDOW_POINTS + k) % MEMORY_POINTS];
                sum += d * d;
            }
        }
        best = fmin(best, sum);
    }
    return best;
}

struct Grams {
    bool known;
    double low, step;
    unsigned long long levels[ORDERS + 1];
    long long seen;
    double* table;
    Rolling mean;
};

__device__ double push(Grams& g, double value) {
    double level = fmin(fmax(trunc((value - g.low) / g.step), -3.0), LEVELS + 12.0) + 4.0;
    for (int k = ORDERS; k > 0; k--) g.levels[k] = g.levels[k - 1];
    g.levels[0] = (unsigned long long)level;
    double novelty = 0.0;
    unsigned long long hash = 1469598103ULL ^ g.levels[0];
    int orders = g.seen < ORDERS ? (int)g.seen : ORDERS;
    for (int order = 1; order <= orders; order++) {
        hash = hash * 0x9e3779b97f4a7c15ULL ^ g.levels[order];
        unsigned long long mixed = (hash ^ (unsigned long long)order) * 0xff51afd7ed558ccdULL >> 40;
        double& count = g.table[mixed % TABLE];
        novelty += 1.0 / (1.0 + count);
        count = (double)((float)count * GRAM_FADE + 1.0f);
    }
    g.seen++;
    double mean, deviation;
    push(g.mean, novelty / (double)ORDERS, mean, deviation);
    return mean;
}

// The largest of the last points.
struct Largest {
    double *at, *values;
    long long points, now;
    int room, first, count;
};

__device__ double then_push(Largest& l, double value) {
    while (l.count > 0 && l.at[l.first] + (double)l.points < (double)l.now) {
        l.first = (l.first + 1) % l.room;
        l.count--;
    }
    double largest = l.count > 0 ? l.values[l.first] : 0.0;
    while (l.count > 0 && l.values[(l.first + l.count - 1) % l.room] <= value) l.count--;
    int place = (l.first + l.count) % l.room;
    l.at[place] = (double)l.now;
    l.values[place] = value;
    l.count++;
    l.now++;
    return largest;
}

struct Rate {
    double exposure;
    int since;
    double* told;
};

__device__ double power(double base, int exponent) {
    double result = 1.0;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1) result *= base;
        base *= base;
    }
    return result;
}

__device__ double calm(const double* table, double strength) {
    int pair = 0;
    while (pair < CALM_POINTS - 2 && strength > table[2 * (pair + 1)]) pair++;
    const double *low = table + 2 * pair, *high = low + 2;
    double share = fmin(fmax(log(strength / low[0]) / log(high[0] / low[0]), 0.0), 1.0);
    return low[1] * exp(share * log(high[1] / low[1]));
}

__device__ double push(Rate& r, const double* table, double warm_up, double fade, double strength) {
    double exposure = r.exposure;
    r.exposure = r.exposure * fade + 1.0;
    r.since++;
    if (strength <= 0.0) return 1.0;
    double faded = power(fade, r.since);
    for (int i = 0; i < RATE_BINS; i++) r.told[i] *= faded;
    r.since = 0;
    long long bits = (__double_as_longlong(strength) >> 49) - RATE_FIRST_BITS;
    int bin = bits < 0 ? 0 : bits > RATE_BINS - 1 ? RATE_BINS - 1 : (int)bits;
    double above = 0.0;
    for (int i = bin + 1; i < RATE_BINS; i++) above += r.told[i];
    double told = above + 0.5 * r.told[bin];
    r.told[bin] += 1.0;
    double expected = PRIOR_WARM_UPS * calm(table, strength) + told;
    return fmin(fmax(expected / (PRIOR_WARM_UPS * warm_up + exposure), P_MIN), 1.0);
}

struct Model {
    long long warm_up, seen, run_start, run_least, told_at;
    double top, last, fast, slow, slowest, run, ended, told;
    long long second;
    bool has_second;
    Rolling brief, mid, wide, steps;
    double *day, *week;
    int pools;
    double records[FEATURES];
    Grams grams;
    Largest gate;
    Rate rate;
};

__device__ void parts(double* features, int at, double difference) {
    features[at] = fmax(difference, 0.0);
    features[at + 1] = fmax(-difference, 0.0);
}

__device__ double residual(double* places, long long cycle, long long length, double rate, long long second,
                           double value) {
    long long within = second % cycle;
    if (within < 0) within += cycle;
    double* place = places + 2 * (within / length);
    double difference = place[1] == 0.0 ? 0.0 : value - place[0];
    place[1] += 1.0;
    place[0] += fmax(rate, 1.0 / place[1]) * (value - place[0]);
    return difference;
}

// All features but those of neighbours and of levels; pools say whether a pooled point was completed.
__device__ void features_of(Model& m, Past* pasts, double value, const long long* second, double* features,
                            bool* completed) {
    for (int i = 0; i < FEATURES; i++) features[i] = 0.0;
    if (m.seen == 0) m.last = m.fast = m.slow = m.slowest = value;
    double step = value - m.last;
    m.last = value;
    parts(features, 0, value - m.fast);
    parts(features, 2, value - m.slow);
    parts(features, 4, step);
    parts(features, 6, value - m.slowest);
    m.fast += FAST_RATE * (value - m.fast);
    m.slow += SLOW_RATE * (value - m.slow);
    m.slowest += 1.0 / (double)m.warm_up * (value - m.slowest);
    double brief, mid, wide, unused;
    push(m.brief, value, brief, features[13]);
    push(m.mid, value, mid, features[12]);
    push(m.wide, value, wide, unused);
    parts(features, 8, mid - wide);
    parts(features, 10, brief - wide);
    push(m.steps, fabs(step), features[14], unused);
    if (second) {
        parts(features, 15, residual(m.day, 86400, 1800, 0.2, *second, value));
        parts(features, 17, residual(m.week, 604800, 3600, 0.3, *second, value));
        // As double: the difference of any two seconds fits, and a saturated one is as large.
        double gap = (double)*second - (double)m.second;
        if (fabs(gap) < 9e15) gap = (double)(*second - m.second);
        features[GAP] = m.has_second ? fmin(fmax(gap, 0.0), 9223372036854775807.0) : 0.0;
        m.second = *second;
        m.has_second = true;
    }
    for (int pool = 0; pool < m.pools; pool++) completed[pool] = push(pasts[pool], value);
    if (step == 0.0) {
        m.run += 1.0;
    } else {
        m.run = 0.0;
        m.run_start = m.seen + 1;
    }
    features[RUN] = m.run;
}

// Levels are known when the warm-up ends: its values are read once more.
__device__ void learn_grams(Model& m, const double* own, double fade) {
    double low = INFINITE, high = -INFINITE;
    long long left = m.warm_up;
    for (long long at = 0; left > 0; at++) {
        if (!(fabs(own[at]) <= VALUE_MAX)) continue;
        low = fmin(low, own[at]);
        high = fmax(high, own[at]);
        left--;
    }
    m.grams.low = low;
    m.grams.step = (high - low) / LEVELS + 1e-9 * fmax(fabs(high), fabs(low)) + SMALLEST;
    left = m.warm_up - 1;
    for (long long at = 0; left > 0; at++) {
        if (!(fabs(own[at]) <= VALUE_MAX)) continue;
        double novelty = push(m.grams, own[at]);
        m.records[GRAM] = fmax(m.records[GRAM] * fade, novelty);
        left--;
    }
    m.grams.known = true;
}

__device__ void ratios_of(Model& m, const double* features, double fade, double* ratios) {
    double ended = m.ended;
    m.ended = features[RUN];
    double learned = m.run_start <= m.warm_up ? features[RUN] : features[RUN] > 0.0 ? 0.0 : ended;
    double least = LEAST_SHARE * m.top + SMALLEST;
    for (int i = 0; i < FEATURES; i++) {
        double floor = i == GRAM ? LEAST_SHARE : i == RUN ? (double)m.run_least : i == GAP ? 1.0 : least;
        ratios[i] = fmin(features[i] / (m.records[i] + floor), RATIO_MAX);
        m.records[i] = fmax(m.records[i] * fade, i == RUN ? learned : features[i]);
    }
}

__device__ double fifth(double x) {
    double square = x * x;
    return x * (square * square);
}

__device__ double group(const double* ratios, int from, int to, int count) {
    double sum = 0.0;
    for (int i = from; i < to; i++) sum += fifth(ratios[i]);
    return sum / (double)count;
}

// Where the groups of features start, in the order of their weights.
__device__ const int GROUPS[9] = {0, 6, 12, 15, 19, 22, 23, 24, 25};

__device__ double strength_of(const double* ratios, const double* weights, int windows) {
    double sum = 0.0;
    for (int g = 0; g < 8; g++) {
        int count = g == 4 ? windows : GROUPS[g + 1] - GROUPS[g];
        sum += fifth(weights[g]) * group(ratios, GROUPS[g], GROUPS[g + 1], count);
    }
    return fmin(pow(sum, 1.0 / 5.0), RATIO_MAX);
}

__device__ double largest(const double* ratios, int from, int to) {
    double best = 0.0;
    for (int i = from; i < to; i++) best = fmax(best, ratios[i]);
    return best;
}

// 1 point, 2 level shift, 3 pattern, 4 silence, 5 flat line.
__device__ double kind_of(const double* ratios, const double* weights) {
    double silence = weights[7] * ratios[GAP], flat = weights[6] * ratios[RUN];
    double point = largest(ratios, 0, 6), level = largest(ratios, 8, 12), pattern = largest(ratios, 12, 23);
    if (silence >= STILL_MIN && silence >= flat) return 4.0;
    if (flat >= STILL_MIN) return 5.0;
    if (point >= KIND_SHARE * fmax(level, pattern)) return 1.0;
    return level >= KIND_SHARE * pattern ? 2.0 : 3.0;
}

__device__ void begin(Model& m, Past* pasts, double* room, const long long* sizes, long long scratch) {
    for (long long i = 0; i < scratch; i++) room[i] = 0.0;
    m.warm_up = sizes[1];
    m.pools = (int)sizes[2];
    m.run_least = sizes[9];
    m.seen = m.run_start = m.told_at = m.second = 0;
    m.top = m.last = m.fast = m.slow = m.slowest = m.run = m.ended = m.told = 0.0;
    m.has_second = false;
    start(m.brief, room, (int)sizes[6]);
    start(m.mid, room, (int)sizes[7]);
    start(m.wide, room, (int)(4 * sizes[7]));
    start(m.steps, room, (int)sizes[7]);
    start(m.grams.mean, room, (int)sizes[9]);
    m.day = room;
    m.week = m.day + 2 * DAY_PLACES;
    m.grams.table = m.week + 2 * WEEK_PLACES;
    m.grams.known = false;
    m.grams.seen = 0;
    for (int i = 0; i <= ORDERS; i++) m.grams.levels[i] = 0;
    m.rate.told = m.grams.table + TABLE;
    m.rate.exposure = 0.0;
    m.rate.since = 0;
    m.gate.points = sizes[8];
    m.gate.room = (int)sizes[8] + 2;
    m.gate.at = m.rate.told + RATE_BINS;
    m.gate.values = m.gate.at + m.gate.room;
    m.gate.now = m.gate.first = m.gate.count = 0;
    room = m.gate.values + m.gate.room;
    for (int i = 0; i < FEATURES; i++) m.records[i] = 0.0;
    for (int pool = 0; pool < m.pools; pool++) {
        Past& p = pasts[pool];
        p.means = room;
        p.extremes = room + MEMORY_POINTS;
        room += 2 * MEMORY_POINTS;
        p.pool = (int)sizes[3 + pool];
        p.filled = 0;
        p.total = 0;
        p.sum = p.running = 0.0;
        p.low = INFINITE;
        p.high = -INFINITE;
    }
}

__device__ void judge(Model& m, const double* ratios, const double* fades, const double* weights, const double* table,
                      double* out) {
    out[0] = 0.0;
    out[1] = 1.0;
    out[2] = 0.0;
    m.seen++;
    if (m.seen <= m.warm_up / 3) return;
    double strength = strength_of(ratios, weights, m.pools);
    bool stands_out = strength > GATE * then_push(m.gate, strength);
    bool held = (double)(m.seen - m.told_at) < HOLD_SHARE * (double)m.warm_up && strength < m.told;
    stands_out = stands_out && !held;
    if (stands_out) {
        m.told_at = m.seen;
        m.told = strength;
    }
    if (m.seen <= m.warm_up) return;
    double told = stands_out ? strength : 0.0;
    out[0] = told / (1.0 + told);
    out[1] = push(m.rate, table, (double)m.warm_up, fades[1], told);
    out[2] = stands_out ? kind_of(ratios, weights) : 0.0;
}

// sizes: series, warm-up, number of pools, three pools, points of the brief and the mid window, of the gate, of the mean
// novelty, 1 where there are times, scratch space of a block. fades: of records, of rates. out: three numbers per value.
extern "C" __global__ void record_ratio(const double* values, const long long* offsets, const long long* seconds,
                                        const double* fades, const double* weights, const double* table,
                                        const long long* sizes, double* scratch, double* out) {
    __shared__ Past pasts[POOLS_MAX];
    __shared__ bool completed[POOLS_MAX];
    __shared__ double best[POOLS_MAX * THREADS_MAX];
    int thread = (int)threadIdx.x, threads = (int)blockDim.x;
    Model m;
    for (long long s = blockIdx.x; s < sizes[0]; s += gridDim.x) {
        if (thread == 0) begin(m, pasts, scratch + sizes[11] * (long long)blockIdx.x, sizes, sizes[11]);
        const double* own = values + offsets[s];
        for (long long at = 0; at < offsets[s + 1] - offsets[s]; at++) {
            double value = own[at];
            double* judged = out + 3 * (offsets[s] + at);
            if (!(fabs(value) <= VALUE_MAX)) {
                if (thread == 0) {
                    bool strongest = value == value && m.seen >= m.warm_up;
                    judged[0] = value != value ? value : strongest ? RATIO_MAX / (1.0 + RATIO_MAX) : 0.0;
                    judged[1] = value != value ? value : strongest ? P_MIN : 1.0;
                    judged[2] = strongest ? 1.0 : 0.0;
                }
                continue;
            }
            double features[FEATURES], ratios[FEATURES];
            if (thread == 0) {
                m.top = fmax(m.top, fabs(value));
                features_of(m, pasts, value, sizes[10] ? seconds + offsets[s] + at : 0, features, completed);
            }
            __syncthreads();
            for (int pool = 0; pool < (int)sizes[2]; pool++) {
                if (completed[pool]) best[pool * THREADS_MAX + thread] = nearest(pasts[pool], thread, threads);
            }
            __syncthreads();
            if (thread != 0) continue;
            for (int pool = 0; pool < m.pools; pool++) {
                if (!completed[pool] || pasts[pool].total < 2 * WINDOW_POINTS) continue;
                double least = INFINITE;
                for (int i = 0; i < threads; i++) least = fmin(least, best[pool * THREADS_MAX + i]);
                double near = KNOWN_SHARE * m.records[19 + pool];
                features[19 + pool] = least <= near * near ? 0.0 : sqrt(least);
            }
            if (m.seen + 1 == m.warm_up) learn_grams(m, own, fades[0]);
            if (m.grams.known) features[GRAM] = push(m.grams, value);
            ratios_of(m, features, fades[0], ratios);
            judge(m, ratios, fades, weights, table, judged);
        }
        __syncthreads();
    }
}
