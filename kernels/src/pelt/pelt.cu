// The CUDA twin of the search: one block searches one series, its threads weigh the starts of the last segment side by
// side. Of equal costs the earliest start wins, so that both twins agree bit by bit.
//
// sums: for every bound, the sum of distances and of their squares up to it. shapes: for each series where its sums start,
// blocks of values, the fewest of them in a segment, values of a block, all values. costs: what a change costs. sizes:
// series, the most bounds of one. scratch: for each block, four times that. lasts: where the last segment of the best
// segmentation up to each bound starts.

#define THREADS 128
#define SHAPE_WORDS 5

struct Shape {
    const double* sums;
    long long blocks, least, block, count;
};

__device__ long long bound(const Shape& s, long long place) {
    return place * s.block < s.count ? place * s.block : s.count;
}

// The squared distances of the values between two bounds from their mean.
__device__ double cost_of(const Shape& s, long long start, long long end) {
    const double sum = s.sums[2 * end] - s.sums[2 * start];
    const double squares = s.sums[2 * end + 1] - s.sums[2 * start + 1];
    return squares - sum * sum / (double)(bound(s, end) - bound(s, start));
}

// The least of all threads' costs, and of equal ones the earliest start; the same for every thread.
__device__ void least_of(double* costs, double* starts, double* cost, double* start) {
    costs[threadIdx.x] = *cost;
    starts[threadIdx.x] = *start;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            const double c = costs[threadIdx.x + half], s = starts[threadIdx.x + half];
            if (c < costs[threadIdx.x] || (c == costs[threadIdx.x] && s < starts[threadIdx.x])) {
                costs[threadIdx.x] = c;
                starts[threadIdx.x] = s;
            }
        }
        __syncthreads();
    }
    *cost = costs[0];
    *start = starts[0];
    __syncthreads();
}

// How many the threads before this one have, and all together.
__device__ long long before_me(long long* counts, long long own, long long* all) {
    counts[threadIdx.x] = own;
    __syncthreads();
    for (int step = 1; step < THREADS; step *= 2) {
        const long long other = threadIdx.x >= step ? counts[threadIdx.x - step] : 0;
        __syncthreads();
        counts[threadIdx.x] += other;
        __syncthreads();
    }
    *all = counts[THREADS - 1];
    const long long before = counts[threadIdx.x] - own;
    __syncthreads();
    return before;
}

__device__ void search(const Shape& s, double change, double* best, double* totals, double* starts, double* kept,
                       double* last) {
    __shared__ double costs[THREADS], places[THREADS];
    __shared__ long long counts[THREADS];
    const double infinity = __longlong_as_double(0x7ff0000000000000LL);
    for (long long place = threadIdx.x; place <= s.blocks; place += THREADS) {
        best[place] = place == 0 ? -change : infinity;
        last[place] = 0.0;
    }
    __syncthreads();
    long long waiting = 0;
    for (long long end = s.least; end <= s.blocks; end++) {
        if (threadIdx.x == 0) starts[waiting] = (double)(end - s.least);
        __syncthreads();
        waiting++;
        // Each thread weighs neighbours, so that what is kept stays in order.
        const long long each = (waiting + THREADS - 1) / THREADS, from = each * threadIdx.x;
        const long long to = from + each < waiting ? from + each : waiting;
        double cost = infinity, start = 0.0;
        for (long long i = from; i < to; i++) {
            totals[i] = best[(long long)starts[i]] + cost_of(s, (long long)starts[i], end);
            if (totals[i] + change < cost) {
                cost = totals[i] + change;
                start = starts[i];
            }
        }
        least_of(costs, places, &cost, &start);
        long long keeps = 0, all;
        for (long long i = from; i < to; i++) keeps += totals[i] <= cost;
        long long at = before_me(counts, keeps, &all);
        for (long long i = from; i < to; i++)
            if (totals[i] <= cost) kept[at++] = starts[i];
        if (threadIdx.x == 0 && cost < infinity) {
            best[end] = cost;
            last[end] = start;
        }
        __syncthreads();
        double* empty = starts;
        starts = kept;
        kept = empty;
        waiting = all;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    pelt(const double* sums, const long long* shapes, const double* changes, const long long* sizes, double* scratch,
         double* lasts) {
    const long long room = sizes[1];
    double* own = scratch + blockIdx.x * 4 * room;
    for (long long i = blockIdx.x; i < sizes[0]; i += gridDim.x) {
        const long long* words = shapes + i * SHAPE_WORDS;
        const Shape s = {sums + 2 * words[0], words[1], words[2], words[3], words[4]};
        search(s, changes[i], own, own + room, own + 2 * room, own + 3 * room, lasts + words[0]);
        __syncthreads();
    }
}
