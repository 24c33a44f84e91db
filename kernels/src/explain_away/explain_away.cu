// The CUDA twin: one thread looks at one metric, its values in time order.
//
// The offsets say where each metric's values start, before and during the incident, and where the last ends. sizes:
// metrics, the symptom's place among them or -1, the length of its values. moves: five numbers a metric: whether there are
// enough values, mean before, mean during, deviation, correlation.

#define BEFORE_MIN 4
#define COMMON_MIN 3
#define DEVIATION_SHARE 0.01
#define LEAST 2.2250738585072014e-308

__device__ bool is_known(double value) { return fabs(value) <= 1.7976931348623157e308; }

// The mean of the known values, and how many there are.
__device__ double mean_of(const double* values, long long length, long long* known) {
    double sum = 0.0;
    long long count = 0;
    for (long long i = 0; i < length; i++)
        if (is_known(values[i])) {
            sum += values[i];
            count++;
        }
    *known = count;
    return sum / (double)count;
}

// Pearson's correlation over the values that both have.
__device__ double correlation(const double* a, const double* b, long long length) {
    long long common = 0;
    for (long long i = 0; i < length; i++) common += is_known(a[i]) && is_known(b[i]);
    if (common < COMMON_MIN) return 0.0;
    const double count = (double)common;
    double mean_a = 0.0, mean_b = 0.0, of_a = 0.0, of_b = 0.0, of_both = 0.0;
    for (long long i = 0; i < length; i++)
        if (is_known(a[i]) && is_known(b[i])) {
            mean_a += a[i] / count;
            mean_b += b[i] / count;
        }
    for (long long i = 0; i < length; i++)
        if (is_known(a[i]) && is_known(b[i])) {
            of_a += (a[i] - mean_a) * (a[i] - mean_a);
            of_b += (b[i] - mean_b) * (b[i] - mean_b);
            of_both += (a[i] - mean_a) * (b[i] - mean_b);
        }
    const double product = sqrt(of_a) * sqrt(of_b);
    if (!(product > 0.0 && is_known(product))) return 0.0;
    const double share = of_both / product;
    return share < -1.0 ? -1.0 : share > 1.0 ? 1.0 : share;
}

extern "C" __global__ void explain_away(const double* before, const long long* before_offsets, const double* during,
                                        const long long* during_offsets, const double* symptom, const long long* sizes,
                                        double* moves) {
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < sizes[0]; i += stride) {
        const double* past = before + before_offsets[i];
        const double* now = during + during_offsets[i];
        const long long past_length = before_offsets[i + 1] - before_offsets[i];
        const long long now_length = during_offsets[i + 1] - during_offsets[i];
        long long past_known, now_known;
        const double center = mean_of(past, past_length, &past_known), mean = mean_of(now, now_length, &now_known);
        if (past_known < BEFORE_MIN || now_known == 0) continue;
        double squares = 0.0, farthest = 0.0;
        for (long long k = 0; k < past_length; k++)
            if (is_known(past[k])) squares += (past[k] - center) * (past[k] - center);
        for (long long k = 0; k < now_length; k++)
            if (is_known(now[k])) farthest = fmax(farthest, fabs(now[k] - center));
        double* move = moves + 5 * i;
        move[0] = 1.0;
        move[1] = center;
        move[2] = mean;
        move[3] = farthest / (sqrt(squares / (double)past_known) + DEVIATION_SHARE * fabs(center) + LEAST);
        if (sizes[2] >= 0) move[4] = i == sizes[1] ? 1.0 : correlation(now, symptom, sizes[2]);
    }
}
