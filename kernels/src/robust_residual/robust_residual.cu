// One thread scores one series, point after point: the same operations in the same order as cpu.rs and ranks.rs.
// Only exp and log1p may round differently.

#define BINS 208
#define FIRST_BITS ((1023LL - 6) << 3)
#define TAIL_SHARE 0.1
#define SHAPE_MIN -0.15
#define SHAPE_MAX 0.4
#define TAIL_MIN 1e-12
#define PRIOR_POINTS 10.0
#define PRIOR_BINS 88
#define GROWTH (1.0 + 1.0 / 4000.0)
#define WEIGHT_MAX 1e9

#define LEVEL_RATE 0.1
#define BASE_RATE (1.0 / 200.0)
#define DRIFT_RATE 0.1
#define SCALE_RATE 0.01
#define SCALE_MIN 1e-6
#define TRUST_POINTS 16.0
#define SEASON_RATE 0.2
#define REACH 4.0
#define VALUE_MAX 1e150
#define SMALLEST 2.2250738585072014e-308
#define INFINITE __longlong_as_double(0x7ff0000000000000LL)

// The integers that describe one look: at, from, then start and length of the main and of the outer profile.
#define LOOK_WORDS 6

// Element i of an array that all threads keep side by side.
#define OWN(array, i) array[(i) * stride]

struct Ranks {
    double* bins;
    double total, weight;
    int end;
};

struct Model {
    double seen, top, level, base, drift;
    double scales[3];
    double *main, *outer;
    long long main_length, outer_length;
    Ranks ranks[2];
};

__device__ int bin(double u) {
    long long place = (__double_as_longlong(u) >> 49) - FIRST_BITS;
    return place < 0 ? 0 : place > BINS - 1 ? BINS - 1 : (int)place;
}

__device__ double edge(int place) { return __longlong_as_double((FIRST_BITS + place) << 49); }

__device__ double clamp(double v, double low, double high) { return v < low ? low : v > high ? high : v; }

__device__ double pareto(const Ranks& ranks, long long stride, int start, double above, double excess) {
    if (above <= 0.0) return 0.0;
    double first = 0.0, second = 0.0;
    for (int place = start; place < ranks.end; place++) {
        double distance = 0.5 * (edge(place) + edge(place + 1)) - edge(start);
        first += OWN(ranks.bins, place) * distance;
        second += OWN(ranks.bins, place) * distance * distance;
    }
    double mean = first / above, square = second / above;
    double variance = fmax(square - mean * mean, 1e-12);
    double shape = clamp(0.5 * (1.0 - mean * mean / variance), SHAPE_MIN, SHAPE_MAX);
    double scaled = excess / (mean * (1.0 - shape));
    if (fabs(shape) < 1e-9) return exp(-scaled);
    return exp(-log1p(fmax(shape * scaled, -1.0)) / shape);
}

__device__ double tail(const Ranks& ranks, long long stride, double u) {
    int start = ranks.end;
    double above = 0.0;
    while (start > 1 && above + OWN(ranks.bins, start - 1) <= TAIL_SHARE * ranks.total) {
        start--;
        above += OWN(ranks.bins, start);
    }
    int place = bin(u);
    if (place < start) {
        double beyond = above;
        for (int between = start - 1; between > place; between--) beyond += OWN(ranks.bins, between);
        double low = place == 0 ? 0.0 : edge(place), high = edge(place + 1);
        double share = clamp((high - u) / (high - low), 0.0, 1.0);
        return fmax((beyond + OWN(ranks.bins, place) * share) / ranks.total, TAIL_MIN);
    }
    double beyond = 0.0;
    for (int farther = ranks.end - 1; farther > place; farther--) beyond += OWN(ranks.bins, farther);
    double seen = 0.5 * (beyond + 0.5 * OWN(ranks.bins, place));
    double fitted = above * pareto(ranks, stride, start, above, u - edge(start));
    return fmax(fmax(fitted, seen), TAIL_MIN * ranks.total) / ranks.total;
}

__device__ void learn_rank(Ranks& ranks, long long stride, double u) {
    int place = bin(u);
    OWN(ranks.bins, place) += ranks.weight;
    ranks.total += ranks.weight;
    ranks.end = place + 1 > ranks.end ? place + 1 : ranks.end;
    ranks.weight *= GROWTH;
    if (ranks.weight > WEIGHT_MAX) {
        for (int i = 0; i < BINS; i++) OWN(ranks.bins, i) /= ranks.weight;
        ranks.total /= ranks.weight;
        ranks.weight = 1.0;
    }
}

__device__ double held(double v, double reach, double scale, double least) {
    double most = reach * fmax(scale, least);
    return clamp(v, -most, most);
}

// The tail probability of a value, which is then learned from.
__device__ double learn(Model& model, long long stride, long long at, double value) {
    long long i = at % model.main_length, j = at % model.outer_length;
    double rest = value - OWN(model.main, i) - OWN(model.outer, j);
    if (model.seen == 0.0) model.level = model.base = rest;
    model.top = fmax(model.top, fabs(value));
    double least = SCALE_MIN * model.top + SMALLEST;
    double reach = model.seen < TRUST_POINTS ? INFINITE : REACH;
    double near = rest - model.level, far = rest - model.base;
    double near_held = held(near, reach, model.scales[0], least), far_held = held(far, reach, model.scales[1], least);
    model.drift += DRIFT_RATE * (far_held - model.drift);
    double ratios[2] = {fabs(near) / fmax(model.scales[0], least), fabs(model.drift) / fmax(model.scales[2], least)};
    double tails[2];
    for (int c = 0; c < 2; c++) {
        tails[c] = tail(model.ranks[c], stride, ratios[c]);
        if (model.seen >= TRUST_POINTS) learn_rank(model.ranks[c], stride, ratios[c]);
    }
    double young = 1.0 / (model.seen + 1.0);
    double moved[3] = {fabs(near_held), fabs(far_held), fabs(held(model.drift, reach, model.scales[2], least))};
    for (int c = 0; c < 3; c++) model.scales[c] += fmax(SCALE_RATE, young) * (moved[c] - model.scales[c]);
    model.level += fmax(LEVEL_RATE, young) * near_held;
    model.base += fmax(BASE_RATE, young) * far_held;
    if (model.main_length > 1) OWN(model.main, i) += SEASON_RATE * near_held;
    if (model.outer_length > 1) OWN(model.outer, j) += SEASON_RATE * near_held;
    model.seen += 1.0;
    return fmin(2.0 * fmin(tails[0], tails[1]), 1.0);
}

// Starts afresh, with the profiles of a look or, without one, with a single zero each.
__device__ void reset(Model& model, long long stride, const long long* look, const double* profiles,
                      const double* prior) {
    model.seen = model.top = model.level = model.base = model.drift = 0.0;
    for (int c = 0; c < 3; c++) model.scales[c] = 0.0;
    model.main_length = look ? look[3] : 1;
    model.outer_length = look ? look[5] : 1;
    for (long long i = 0; i < model.main_length; i++) OWN(model.main, i) = look ? profiles[look[2] + i] : 0.0;
    for (long long i = 0; i < model.outer_length; i++) OWN(model.outer, i) = look ? profiles[look[4] + i] : 0.0;
    for (int c = 0; c < 2; c++) {
        for (int i = 0; i < BINS; i++) OWN(model.ranks[c].bins, i) = prior[i];
        model.ranks[c].total = PRIOR_POINTS;
        model.ranks[c].weight = 1.0;
        model.ranks[c].end = PRIOR_BINS;
    }
}

// sizes: series, warm-up, longest profile. scratch: (2 · BINS + 2 · longest profile) numbers for each thread of the
// grid.
extern "C" __global__ void robust_residual(const double* values, const long long* offsets,
                                           const long long* look_offsets, const long long* looks,
                                           const double* profiles, const double* prior, const long long* sizes,
                                           double* scratch, double* scores) {
    long long stride = (long long)gridDim.x * blockDim.x, thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long series = sizes[0], warm_up = sizes[1], longest = sizes[2];
    Model model;
    model.ranks[0].bins = scratch + thread;
    model.ranks[1].bins = model.ranks[0].bins + BINS * stride;
    model.main = model.ranks[1].bins + BINS * stride;
    model.outer = model.main + longest * stride;
    for (long long s = thread; s < series; s += stride) {
        const double* own = values + offsets[s];
        double* out = scores + offsets[s];
        long long n = offsets[s + 1] - offsets[s], look = look_offsets[s];
        reset(model, stride, 0, profiles, prior);
        for (long long at = 0; at < n; at++) {
            const long long* next = looks + look * LOOK_WORDS;
            if (look < look_offsets[s + 1] && next[0] == at) {
                reset(model, stride, next, profiles, prior);
                for (long long past = next[1]; past < at; past++) {
                    if (fabs(own[past]) <= VALUE_MAX) learn(model, stride, past, own[past]);
                }
                look++;
            }
            double value = own[at];
            if (value != value) {
                out[at] = value;
                continue;
            }
            double chance = fabs(value) <= VALUE_MAX ? learn(model, stride, at, value) : TAIL_MIN;
            out[at] = at < warm_up ? 0.0 : 1.0 - chance;
        }
    }
}
