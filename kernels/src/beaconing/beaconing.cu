// The CUDA twin: one block scores one pair of hosts. Numbers are sorted as integers that keep their order, by a bitonic
// network in global memory; sums run over 24 parts in ascending order, so that both twins agree bit by bit.
//
// offsets: where each pair starts, and the end of the last. times are finite, sizes are not NaN. span: first and last
// second. sizes_of: pairs, and a power of two that is not below any pair's connections. scratch: for each block, twice
// that power of two. out: five numbers a pair.

#define THREADS 128
#define PARTS 24
#define CONNECTIONS_MIN 4

// An integer that orders numbers as a total order does: negative before positive, NaN with its sign at the ends.
__device__ long long key_of(double number) {
    long long bits = __double_as_longlong(number);
    return bits ^ (long long)((unsigned long long)(bits >> 63) >> 1);
}

__device__ double number_of(long long key) {
    return __longlong_as_double(key ^ (long long)((unsigned long long)(key >> 63) >> 1));
}

// Sorts `count` keys in ascending order; `room`, a power of two not below, is filled up with the largest key.
__device__ void sort(long long* keys, long long count, long long room) {
    for (long long i = count + threadIdx.x; i < room; i += THREADS) keys[i] = 0x7fffffffffffffffLL;
    __syncthreads();
    for (long long size = 2; size <= room; size *= 2)
        for (long long distance = size / 2; distance > 0; distance /= 2) {
            for (long long i = threadIdx.x; i < room; i += THREADS) {
                const long long other = i ^ distance;
                if (other <= i) continue;
                const bool ascending = (i & size) == 0;
                const long long a = keys[i], b = keys[other];
                if ((a > b) == ascending) {
                    keys[i] = b;
                    keys[other] = a;
                }
            }
            __syncthreads();
        }
}

// The quantile of ascending numbers, by straight lines between them.
__device__ double quantile(const long long* keys, long long count, double share) {
    const double at = share * (double)(count - 1);
    const double below = number_of(keys[(long long)floor(at)]), above = number_of(keys[(long long)ceil(at)]);
    return below == above ? below : below + (above - below) * (at - trunc(at));
}

// The smallest power of two that is not below.
__device__ long long room_of(long long count) {
    long long room = 1;
    while (room < count) room *= 2;
    return room;
}

// The mean of the skew score and the dispersion score of `count` keys, which are sorted here; `other` is of their size.
__device__ double evenness(long long* keys, long long* other, long long count) {
    const long long room = room_of(count);
    sort(keys, count, room);
    const double low = quantile(keys, count, 0.25), middle = quantile(keys, count, 0.5);
    const double high = quantile(keys, count, 0.75);
    for (long long i = threadIdx.x; i < count; i += THREADS) other[i] = key_of(fabs(number_of(keys[i]) - middle));
    __syncthreads();
    sort(other, count, room);
    const double distance = quantile(other, count, 0.5);
    const double skew = high > low ? 1.0 - fabs((low + high - 2.0 * middle) / (high - low)) : 1.0;
    double dispersion = 0.0;
    if (distance == 0.0) dispersion = 1.0;
    else if (middle > 0.0) dispersion = fmax(1.0 - distance / middle, 0.0);
    __syncthreads();
    const double even = (skew + dispersion) / 2.0;
    return even != even ? 0.0 : even;
}

// How much of the span it goes on, and how evenly it is spread, from sorted times.
__device__ void spread(const long long* keys, long long count, double start, double length, double* duration,
                       double* histogram) {
    double parts[PARTS], longest = 0.0, run = 0.0, sum = 0.0, squares = 0.0;
    for (int part = 0; part < PARTS; part++) parts[part] = 0.0;
    for (long long i = 0; i < count; i++) {
        const double part = (number_of(keys[i]) - start) / length * PARTS;
        parts[(int)fmin(fmax(part, 0.0), PARTS - 1.0)] += 1.0;
    }
    for (int part = 0; part < PARTS; part++) {
        run = parts[part] > 0.0 ? run + 1.0 : 0.0;
        longest = fmax(longest, run);
        sum += parts[part];
    }
    const double mean = sum / PARTS;
    for (int part = 0; part < PARTS; part++) squares += (parts[part] - mean) * (parts[part] - mean);
    const double covered = fmin(fmax((number_of(keys[count - 1]) - number_of(keys[0])) / length, 0.0), 1.0);
    *duration = fmax(covered, fmin(longest / 12.0, 1.0));
    *histogram = fmax(1.0 - sqrt(squares / PARTS) / mean, 0.0);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    beaconing(const double* times, const long long* time_offsets, const double* sizes, const long long* size_offsets,
              const double* span, const long long* sizes_of, double* scratch, double* out) {
    const long long room = sizes_of[1];
    long long* keys = (long long*)scratch + blockIdx.x * 2 * room;
    long long* other = keys + room;
    const double length = span[1] - span[0];
    for (long long pair = blockIdx.x; pair < sizes_of[0]; pair += gridDim.x) {
        const long long first = time_offsets[pair], count = time_offsets[pair + 1] - first;
        if (count < CONNECTIONS_MIN) continue;
        for (long long i = threadIdx.x; i < count; i += THREADS) keys[i] = key_of(times[first + i]);
        __syncthreads();
        sort(keys, count, room_of(count));
        double duration = 0.0, histogram = 0.0;
        if (threadIdx.x == 0) spread(keys, count, span[0], length, &duration, &histogram);
        for (long long i = threadIdx.x; i + 1 < count; i += THREADS)
            other[i] = key_of(number_of(keys[i + 1]) - number_of(keys[i]));
        __syncthreads();
        const double interval = evenness(other, keys, count - 1);
        const long long from = size_offsets[pair], bytes = size_offsets[pair + 1] - from;
        for (long long i = threadIdx.x; i < bytes; i += THREADS) keys[i] = key_of(sizes[from + i]);
        __syncthreads();
        const double size = evenness(keys, other, bytes);
        if (threadIdx.x == 0) {
            double* scores = out + 5 * pair;
            scores[0] = (interval + size + duration + histogram) / 4.0;
            scores[1] = interval;
            scores[2] = size;
            scores[3] = duration;
            scores[4] = histogram;
        }
        __syncthreads();
    }
}
